//! The words of what is seldom wrong: programs that may not be run, values of variables, globs without end, notes.

use super::*;

const MISTRAL: &str = "[providers.mistral]\ntype = \"mistral\"\napi_key = \"k\"\n";

#[test]
fn rarer_problems_of_conditions_and_lists() {
    let many: Vec<String> = (0..1001).map(|number| format!("\"m{number}\"")).collect();
    let mut text = format!(
        "{MISTRAL}include_models = [{}]\n{}",
        many.join(", "),
        r#"
exclude_models = ["LONG"]
[providers.own]
type = "openai"
[providers.other]
type = "openai"
url = "http://:80"
[keys.ide]
key = "k"
models = ["${GLOB}"]
[routers.a]
routes = [
  { header = { "x y" = "a" }, to = "mistral/x" },
  { header = { x-team = "[" }, to = "mistral/x" },
  { natural_language = "klingon", to = "mistral/x" },
  { model = [MANY], to = "mistral/x" },
  { regex = { user = "*" }, to = "mistral/x" },
  { to = "mistral/x", set = { stream = true } },
]
[routers.r0]
routes = [{ to = "mistral/x" }]
"#
        .replace("LONG", &"x".repeat(1001))
        .replace("MANY", &many.join(", "))
    );
    for depth in 1..10 {
        text.push_str(&format!("[routers.r{depth}]\nroutes = [{{ to = \"r{}\" }}]\n", depth - 1));
    }
    let report = Case::of(&text).env("GLOB", "[sk-secret").report();
    assert!(!report.contains("sk-secret"), "{report}");
    assert_reads!(
        report,
        "lists that are too long, a variable's value that is none, and routers that are too deep"
    );
}

#[test]
fn a_kind_that_wants_a_key_is_not_asked_by_accident() {
    let kinds: Vec<Kind<'_>> = KINDS
        .iter()
        .map(|kind| match kind.name {
            "openai" => Kind { url: Some("https://api.openai.com"), ..*kind },
            _ => *kind,
        })
        .collect();
    let case = Case::of("[providers.mine]\ntype = \"openai\"\n");
    let Err(report) = load(&case.sources, &kinds, &|_| false) else { panic!("it loads") };
    let [problem] = report.problems.as_slice() else { panic!("{report}") };
    assert_eq!(
        (problem.key.as_str(), problem.message.as_str()),
        (
            "providers.mine.url",
            "is missing: without it this is https://api.openai.com, which wants a key; write url = \
             \"http://localhost:8080\" for a server of your own, or set api_key"
        )
    );
}

#[test]
fn a_program_is_run_only_for_those_who_started_it() {
    let mut case =
        Case::of("[providers.o]\ntype = \"ollama\"\napi_key = { command = [\"touch\", \"ran\"] }\n");
    case.sources.programs = Programs::Refused;
    let report = case.report();
    let told =
        "providers.o.api_key: wants a program to be run, which is only done for the files that are served";
    assert!(report.contains(told), "{report}");
}

#[test]
fn variables_that_contradict_each_other() {
    let report = Case::of("[providers.o]\ntype = 'ollama'")
        .env("DEMUXAI__PROVIDERS__O__TIMEOUTS__IDLE", "5")
        .env("DEMUXAI__PROVIDERS__O__TIMEOUTS", "30")
        .env("DEMUXAI__PROVIDERS__P__URL", "http://h")
        .env("DEMUXAI__PROVIDERS__P_", "5")
        .env("DEMUXAI__PROVIDERS__O__REPLICAS", "2")
        .env("demuxai__LOG__LEVEL", "debug")
        .env("DEMUXAI__providers__o__REPLICAS", "3")
        .env("DEMUXAI__STATE__PATH", "here.db")
        .report();
    assert_reads!(report, "variables that set the same thing, or a part of it");
}

#[cfg(unix)]
#[test]
fn notes_at_start_read_well() {
    use std::os::unix::fs::PermissionsExt;
    let text = r#"
[providers.far]
type = "openai"
url = "http://api.example.com"
api_key = { file = "open.key" }
[providers.gone]
type = "github"
[groups.noted]
type = "tee"
to = "far/m"
path = "there/notes.jsonl"
"#;
    let case = Case::of(text);
    let open = case.write("open.key", "sk-0123456789");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let notes = case.config().notes.join("\n").replace(&case.directory.path().display().to_string(), "DIR");
    assert_reads!(notes, text);
    assert_reads!(Case::empty().config().notes.join("\n"), "without a file, with nothing to find");
}

#[test]
fn files_that_are_somebody_elses_are_refused_in_words() {
    let text = r#"
[providers.up]
type = "openai"
url = "http://h"
api_key = { file = "key.txt" }
[state]
path = "state.db"
[groups.a]
type = "tee"
to = "up/m"
path = "demuxai.toml"
[groups.b]
type = "cache"
to = "up/m"
path = "state.db"
[groups.c]
type = "tee"
to = "up/m"
path = "key.txt"
[groups.d]
type = "tee"
to = "up/m"
path = "admin-token"
[groups.e]
type = "cache"
to = "up/m"
path = "e.db"
[groups.f]
type = "tee"
to = "up/m"
path = "e.db-wal"
"#;
    let case = Case::of(text);
    case.write("key.txt", "k");
    assert_reads!(case.report(), text);
}

#[test]
fn a_directory_of_parts_that_is_none() {
    let mut case = Case::empty();
    case.write("conf.d", "a file");
    case.sources.config_dir = Some(case.directory.path().to_owned());
    let report = case.report();
    assert!(report.contains("DIR/conf.d\n  cannot be listed: "), "{report}");
}
