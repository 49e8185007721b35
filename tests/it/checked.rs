//! What is told of a configuration before it runs: by `check`, `graph`, `schema` and the completions, as the program
//! prints it, with its exit codes.
#![cfg(unix)]

use serde_json::Value;

use crate::support::program::Home;

const GOOD: &str =
    "[providers.a]\ntype = \"ollama\"\n[groups.g]\ntype = \"failover\"\nmembers = [\"a/x\", \"a/y\"]\n";

fn with(text: &str) -> (Home, String) {
    let home = Home::new();
    let file = home.write("demuxai.toml", text).display().to_string();
    (home, file)
}

#[test]
fn a_warning_is_told_beside_what_is_good_and_fails_only_where_that_is_asked_for() {
    let (home, good) = with(GOOD);
    let strict = home.run(&["check", "--strict", "-c", &good]);
    assert_eq!((strict.code, strict.stderr.as_str()), (0, ""));
    let (home, twice) = with(&GOOD.replace("a/y", "a/x"));
    for (arguments, code) in
        [(&["check", "-c", &*twice][..], 0), (&["check", "--strict", "-c", &*twice][..], 2)]
    {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{}", ended.stderr);
        assert!(ended.stderr.starts_with("1 warning\n"), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("5:19: groups.g.members[1]: is the same as members[0]"),
            "{}",
            ended.stderr
        );
        assert!(ended.stdout.starts_with("configuration is good, with one warning\n"), "{}", ended.stdout);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_anything_is_kept_there_and_is_no_reason_not_to_serve() {
    let text = "[listeners.l]\naddress = \"127.0.0.1:0\"\n[providers.a]\ntype = \"ollama\"\nurl = \"http://127.0.0.1:1\"\n[groups.kept]\ntype = \"cache\"\nto = \"a/x\"\npath = \"file/c.db\"\n[groups.written]\ntype = \"tee\"\nto = \"a/x\"\npath = \"file/below/t.jsonl\"\n[state]\npath = \"file/state.db\"\n";
    let (home, file) = with(text);
    let blocking = home.write("file", "").display().to_string();
    let ended = home.run(&["check", "-c", &file]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("3 warnings\n"), "{}", ended.stderr);
    let why = format!("cannot be written: {blocking} is no directory; mend that");
    for line in [
        format!(
            "9:1: groups.kept.path: {why} or name another file, until then answers are kept in memory only"
        ),
        format!("13:1: groups.written.path: {why} or name another file, until then nothing is recorded"),
        format!(
            "15:1: state.path: {}/state.db {why}, or name another file, or \"none\" for no file",
            blocking
        ),
    ] {
        assert!(ended.stderr.contains(&line), "{line} is not in\n{}", ended.stderr);
    }
    assert!(!ended.stdout.contains("will be made"), "{}", ended.stdout);
    let serving = home.start(&["serve", "-c", &file]);
    serving.address();
    let log = serving.stderr();
    for key in
        ["groups.kept.path: cannot be written", "groups.written.path: cannot be written", "state.path: "]
    {
        assert!(log.contains(key), "{key}: {log}");
    }
    std::fs::remove_file(&blocking).unwrap();
    assert_eq!(
        home.run(&["check", "--strict", "-c", &file]).code,
        0,
        "what is made when it is needed is no doubt"
    );
}

#[test]
fn where_there_is_nothing_to_serve_check_says_so_and_is_strict_about_it() {
    let (home, empty) = with("");
    for (arguments, code) in
        [(&["check", "-c", &*empty][..], 0), (&["check", "--strict", "-c", &*empty][..], 2)]
    {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{}", ended.stderr);
        assert!(ended.stdout.starts_with("configuration is good, but there is nothing to serve\n"));
    }
    let (home, fixed) = with("[groups.sorry]\ntype = \"static\"\nanswer = \"later\"\n");
    assert_eq!(home.run(&["check", "--strict", "-c", &fixed]).code, 0, "that can be served");
}

#[test]
fn the_graph_is_printed_in_every_form_and_of_a_part_alone() {
    let (home, file) = with(GOOD);
    let printed = |more: &[&str]| {
        let ended = home.run(&[&["graph", "-c", &*file], more].concat());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    };
    assert_eq!(
        printed(&[]),
        "group g (failover)\n├── 1. a/x -> provider (ollama)\n└── 2. a/y -> provider (ollama)\n"
    );
    assert!(printed(&["--dot"]).starts_with("digraph demuxai {"));
    assert!(printed(&["--mermaid"]).starts_with("flowchart LR\n"));
    let picture: Value = serde_json::from_str(&printed(&["--json"])).unwrap();
    assert_eq!(picture["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(printed(&["a"]), "provider a (ollama): no limits: it is local\n");
    let unknown = home.run(&["graph", "-c", &file, "b"]);
    assert_eq!(unknown.code, 2);
    assert_eq!(unknown.stderr.trim(), "no provider, group or router has the id `b` (known: g, a)");
    assert_eq!(home.run(&["graph", "-c", &file, "--dot", "--json"]).code, 2);
}

#[test]
fn the_schema_is_the_committed_one_printed_or_written() {
    let committed = include_str!("../../config/schema.json");
    let home = Home::new();
    let printed = home.run(&["schema"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (0, committed));
    let path = home.path().join("schema.json");
    assert_eq!(home.run(&["schema", "--output", path.to_str().unwrap()]).code, 0);
    assert_eq!(std::fs::read_to_string(path).unwrap(), committed);
    assert_eq!(home.run(&["schema", "--output", "/nowhere/schema.json"]).code, 1);
}

#[test]
fn completions_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).stdout;
        for word in ["explain", "graph", "schema", "strict", "offline", "mermaid"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
