//! Every file in `config/` loads, and the reference names every option.

use super::*;

const REFERENCE: &str = include_str!("../../../config/demuxai.toml");

/// A home with the secrets and the program that the files name.
fn at_home() -> Case {
    let case = [
        "OLLAMA_API_KEY",
        "MISTRAL_API_KEY",
        "CODESTRAL_API_KEY",
        "FIREWORKS_API_KEY",
        "GATEWAY_API_KEY",
        "LAB_API_KEY",
        "DEMUXAI_IDE_KEY",
        "DEMUXAI_PHONE_KEY",
        "DEMUXAI_AGENT_KEY",
    ]
    .iter()
    .fold(Case::empty(), |case, name| case.env(name, &format!("value-of-{name}")));
    case.write(".config/demuxai/fireworks.key", "from-file\n");
    case.write(".config/demuxai/admin.key", "admin\n");
    case.write(".config/demuxai/lab-ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let pass = case.write("bin/pass", "#!/bin/sh\necho \"$1 $2\"\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&pass, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let home = case.directory.path().display().to_string();
    case.env("HOME", &home).env("PATH", pass.parent().unwrap().to_str().unwrap())
}

fn examples() -> Vec<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[cfg(unix)]
#[test]
fn every_example_loads_without_a_problem() {
    let files = examples();
    assert!(files.len() >= 9, "only {} examples found", files.len());
    for file in files {
        let mut case = at_home();
        case.sources.files.push(file.clone());
        let config = case.load().unwrap_or_else(|report| panic!("{}: {report}", file.display()));
        assert!(!config.providers.is_empty(), "{}", file.display());
        assert!(!config.listeners.is_empty(), "{}", file.display());
    }
}

#[cfg(unix)]
#[test]
fn the_examples_of_secrets_give_what_they_say() {
    let mut case = at_home();
    case.sources.files.extend(examples().into_iter().filter(|path| path.ends_with("secrets.toml")));
    let config = case.config();
    let keys: Vec<_> = config.providers.iter().map(|provider| key(provider).unwrap()).collect();
    assert_eq!(
        keys,
        ["value-of-MISTRAL_API_KEY", "value-of-CODESTRAL_API_KEY", "from-file", "show ollama/api-key"]
    );
}

#[test]
fn the_reference_loads_as_it_is_and_says_only_defaults() {
    let config = at_home().file("demuxai.toml", REFERENCE).config();
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.listeners[0].address, Case::of("").config().listeners[0].address);
    assert!(config.notes.is_empty(), "{:?}", config.notes);
}

#[test]
fn every_condition_is_in_an_example_and_in_the_schema() {
    let texts = examples().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let tables: Vec<toml::Table> = texts.map(|text| text.parse().unwrap()).collect();
    let routers = tables.iter().filter_map(|table| table.get("routers")?.as_table());
    let routes: Vec<&toml::Value> = routers
        .flat_map(|routers| routers.values())
        .flat_map(|router| router["routes"].as_array().unwrap())
        .collect();
    let schema = schema();
    let names = crate::backend::condition::KINDS.iter().map(|kind| kind.name);
    for name in names.chain([crate::backend::condition::NOT]) {
        assert!(routes.iter().any(|route| route.get(name).is_some()), "no example shows {name}");
        assert!(
            schema["$defs"]["RouteSpec"]["properties"].get(name).is_some(),
            "{name} is not in the schema"
        );
    }
}

#[test]
fn every_type_of_group_is_in_an_example() {
    let texts = examples().into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    let tables: Vec<toml::Table> = texts.map(|text| text.parse().unwrap()).collect();
    let groups = tables.iter().filter_map(|table| table.get("groups")?.as_table());
    let shown: Vec<&str> =
        groups.flat_map(|groups| groups.values()).filter_map(|group| group.get("type")?.as_str()).collect();
    for word in crate::backend::kind::words() {
        assert!(shown.contains(&word), "no example shows a group of type {word}");
        // Where a person looks for it.
        let file = examples().into_iter().find(|file| file.ends_with(format!("{word}.toml")));
        let text = file.map(|file| std::fs::read_to_string(file).unwrap());
        let shows = |text: String| text.contains(&format!("type = \"{word}\""));
        assert!(text.is_some_and(shows), "config/examples/{word}.toml does not show it");
    }
}

/// The reference with every option taken in.
fn all_options() -> String {
    let taken_in = |line: &'static str| match line.strip_prefix('#') {
        // The directive for editors.
        Some(rest) if rest.starts_with(':') => line,
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("  {") => rest,
        _ => line,
    };
    REFERENCE.lines().map(|line| format!("{}\n", taken_in(line))).collect()
}

#[test]
fn the_reference_loads_with_every_option_taken_in() {
    let config = at_home().file("demuxai.toml", all_options()).config();
    assert_eq!((config.providers.len(), config.listeners.len(), config.keys.len()), (2, 2, 1));
    assert_eq!(config.routers[0].routes.len(), 9);
    let lab = provider(&config, "lab");
    assert!(lab.ca_file.is_some() && lab.timeouts.total_stream.is_some() && lab.headers.len() == 1);
    assert_eq!(lab.limits.as_ref().map(Vec::len), Some(3));
    assert!(config.admin_key.is_some());
    assert!(config.state.file.is_some_and(|file| file.ends_with(".local/state/demuxai/state.db")));
}

#[test]
fn the_reference_names_every_option_of_the_schema_with_its_default() {
    let parsed: toml::Table = all_options().parse().unwrap();
    let schema = schema();
    let mut options = 0;
    for (table, place) in [
        ("ListenerSpec", "listeners.local"),
        ("KeySpec", "keys.ide"),
        ("ProviderSpec", "providers.lab"),
        ("TimeoutsSpec", "providers.lab.timeouts"),
        ("GroupSpec", "groups.coder"),
        ("StickySpec", "groups.coder.sticky"),
        ("RouterSpec", "routers.auto"),
        ("StateSpec", "state"),
        ("AdminSpec", "admin"),
        ("LogSpec", "log"),
    ] {
        let mut found = &toml::Value::Table(parsed.clone());
        for step in place.split('.') {
            found = &found[step];
        }
        let properties = schema["$defs"][table]["properties"].as_object().unwrap();
        // No type of group has all options: what one has not, another group shows.
        let groups: Vec<&toml::Value> = parsed["groups"].as_table().unwrap().values().collect();
        for option in properties.keys() {
            if (table, option.as_str()) == ("StateSpec", "url") {
                // Reserved: it cannot be taken in yet.
                continue;
            }
            let shown = match table {
                "GroupSpec" => groups.iter().any(|group| group.get(option).is_some()),
                _ => found.get(option).is_some(),
            };
            assert!(shown, "{place}.{option} is not in config/demuxai.toml");
            options += 1;
        }
    }
    assert!(options >= 36, "{options}");
    let routes = parsed["routers"]["auto"]["routes"].as_array().unwrap();
    for option in schema["$defs"]["RouteSpec"]["properties"].as_object().unwrap().keys() {
        assert!(routes.iter().any(|route| route.get(option).is_some()), "no route says {option}");
    }
    for word in ["requests", "input_tokens", "output_tokens", "concurrent", "per", "window", "time_zone"] {
        assert!(schema["$defs"]["LimitSpec"]["properties"].get(word).is_some());
        assert!(REFERENCE.contains(word), "{word}");
    }
}
