//! The published schema: kept current, accepts every file of ours, and refuses what the program refuses, by a validator
//! that we did not write.

use serde_json::{Value, json};

use super::*;
use crate::backend::kind::KINDS;

fn published() -> Value {
    published_schema()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&published()).unwrap()
}

fn as_json(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

/// What is wrong, each with its place.
fn faults(text: &str) -> Vec<String> {
    let value = as_json(text);
    validator().iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder.join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push(folder.join("demuxai.toml"));
    files
}

#[test]
fn the_committed_schema_is_the_one_that_the_program_prints() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/schema.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(committed == published(), "run: cargo run -- schema --output config/schema.json");
}

#[test]
fn it_is_a_schema() {
    let schema = published();
    assert!(jsonschema::meta::is_valid(&schema), "{:?}", jsonschema::meta::validate(&schema).err());
}

#[test]
fn every_file_names_the_schema_and_fits_it() {
    let files = files();
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap();
        let schema = first.strip_prefix("#:schema ").unwrap_or_else(|| panic!("{}: {first}", file.display()));
        assert!(file.parent().unwrap().join(schema).exists(), "{}: {schema} is not there", file.display());
        assert_eq!(faults(&text), Vec::<String>::new(), "{}", file.display());
    }
}

#[test]
fn what_no_file_may_say_does_not_fit() {
    for (text, place) in [
        ("colour = 1", ""),
        ("[providers.a]\ntype = \"ollama\"\nurll = \"x\"", "/providers/a"),
        ("[providers.a]\nname = \"a\"", "/providers/a"),
        ("[providers.a]\ntype = \"ollama\"\nmax_in_flight = 0", "/providers/a/max_in_flight"),
        ("[groups.g]\nmembers = [\"a\"]", "/groups/g"),
        ("[groups.g]\ntype = \"failovr\"\nmembers = [\"a\"]", "/groups/g/type"),
        ("[groups.g]\ntype = \"failover\"\nmembers = [\"a\"]\ndelay = \"1s\"", "/groups/g"),
        ("[groups.g]\ntype = \"failover\"\nmembers = [{ weight = 2 }]", "/groups/g/members/0"),
        ("[routers.r]\nroutes = [{ to = \"a\", endpoint = \"image\" }]", "/routers/r/routes/0/endpoint"),
        ("[routers.r]\nroutes = [{ too = \"a\" }]", "/routers/r/routes/0"),
        ("[listeners.l]\nserves = [\"metric\"]", "/listeners/l/serves/0"),
    ] {
        let faults = faults(text);
        let at = |fault: &String| fault.starts_with(&format!("{place}: "));
        assert!(faults.iter().any(at), "{text}: {faults:?}");
    }
}

#[test]
fn an_option_fits_with_the_types_that_have_it_and_with_no_other() {
    let whole = published();
    let group = &whole["$defs"]["GroupSpec"];
    let branches = group["allOf"].as_array().unwrap();
    assert_eq!(branches.len(), KINDS.len());
    let of = |word: &str| {
        let branch = branches.iter().find(|branch| branch["if"]["properties"]["type"]["const"] == word);
        branch.unwrap()["then"]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert!(of("race").contains(&"delay".to_owned()) && !of("failover").contains(&"delay".to_owned()));
    for key in ["type", "name", "description", "members", "fail_on"] {
        assert!(of("failover").contains(&key.to_owned()), "{key}");
    }
    assert_eq!(
        faults("[groups.g]\ntype = \"race\"\nmembers = [\"a\", \"b\"]\ndelay = \"1s\""),
        Vec::<String>::new()
    );
    let described = |key: &String| group["properties"][key.as_str()]["description"].is_string();
    assert!(KINDS.iter().all(|kind| of(kind.word).iter().all(described)), "editors show what each is");
    assert_eq!(group["properties"]["type"]["enum"][0], json!("failover"));
}
