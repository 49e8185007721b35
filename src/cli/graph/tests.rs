//! What pictures look like, and that programs can read them.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::config::Sources;
use crate::provider::registry::Registry;

const TEXT: &str = r#"
[providers.ollama]
type = "ollama"
[providers.mistral]
type = "openai"
url = "http://localhost:1"
name = "Mistral \"the fast\""
limits = [{ requests = 60, per = "minute" }, { tokens = 500, per = "5h", models = "a*" }]
max_in_flight = 4
[providers.alone]
type = "ollama"
limits = []
[groups.coder]
type = "failover"
members = ["mistral/codestral-latest", { to = "ollama/qwen2.5-coder:7b", weight = 2, set = { temperature = 0.1 } }]
attempts = 3
on_exhausted = "wait"
[groups.end]
type = "race"
members = ["coder", "ollama"]
delay = "500ms"
[aliases]
"gpt-4o" = "coder"
[routers.auto]
routes = [
    { endpoint = "fim", to = "coder" },
    { language = ["python", "rust"], not = { has = "tools" }, input_tokens = ">60000", to = "end" },
    { regex = 'say "hi" & <go>\b', quota = { of = "mistral/m", left = "<20%" }, to = "mistral/m" },
    { to = "coder" },
]
"#;

fn picture() -> Picture {
    let sources = Sources { texts: vec![("test".to_owned(), TEXT.to_owned())], ..Sources::default() };
    let config = load::read(&sources, &Registry::builtin()).unwrap_or_else(|report| panic!("{report}"));
    Picture::of(&config)
}

macro_rules! looks {
    ($text:expr) => {
        insta::with_settings!({
            snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"),
            omit_expression => true,
        }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn a_tree_tells_each_once_with_its_conditions_in_words() {
    looks!(tree::drawn(&picture()));
}

#[test]
fn mermaid_gets_no_character_that_means_something_to_it() {
    let drawn = mermaid::drawn(&picture());
    looks!(drawn);
}

#[test]
fn json_has_nodes_and_edges() {
    looks!(serde_json::to_string_pretty(&picture().below("end")).unwrap());
}

#[test]
fn dot_draws_what_is_drawn_for_it() {
    let drawn = dot::drawn(&picture());
    looks!(&drawn);
    let started = Command::new("dot")
        .arg("-Tsvg")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut started) = started else {
        // Loud where somebody reads it, green where there is no Graphviz: the snapshot above holds all the same.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no `dot` here (apt-get install graphviz); the text is compared"
        );
        return;
    };
    started.stdin.take().unwrap().write_all(drawn.as_bytes()).unwrap();
    let ended = started.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success() && !said.contains("syntax"), "{said}");
    let svg = String::from_utf8_lossy(&ended.stdout).into_owned();
    for id in ["ollama (ollama)", "coder (failover)", "auto (router)"] {
        assert!(svg.contains(id), "{id}: {svg}");
    }
}

#[test]
fn what_is_below_one_is_all_that_it_leads_to() {
    let ids = |id: &str| picture().below(id).nodes.into_iter().map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(ids("coder"), ["coder", "ollama", "mistral"]);
    assert_eq!(ids("alone"), ["alone"]);
    assert_eq!(ids("auto").len(), 5);
    assert_eq!(ids("gpt-4o").len(), 4);
}
