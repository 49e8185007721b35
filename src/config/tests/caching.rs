//! What is said of caches, dedupes and tees that are configured wrongly, and what is read of those that are right.

use super::*;

#[test]
fn problems_of_caches_dedupes_and_tees() {
    let text = r#"
[providers.up]
type = "openai"
url = "http://h"
[groups.nothing]
type = "cache"
[groups.both]
type = "cache"
members = ["up/m"]
to = "upp/m"
[groups.small]
type = "cache"
to = "up/m"
memory = "100KB"
[groups.bounds]
type = "cache"
to = "up/m"
ttl = "2000d"
memory = "1KB"
max_entry = "lots"
max_file = "2GB"
replay = "slow"
all = "yes"
[groups.larger]
type = "cache"
to = "up/m"
max_entry = "65MB"
path = "sub/"
[groups.itself]
type = "dedupe"
to = "itself"
max_buffer = 1
ttl = "1h"
[groups.unwritten]
type = "tee"
to = { weight = 2 }
keep_files = 0
media = "keeep"
[groups.elsewhere]
type = "tee"
to = "up/m"
path = ""
max_record = "1TB"
[groups.one]
type = "tee"
to = "up/m"
path = "records/chat.jsonl"
[groups.other]
type = "cache"
to = "up/m"
path = "./records/chat.jsonl"
"#;
    let case = Case::of(text);
    std::fs::create_dir(case.directory.path().join("sub")).unwrap();
    assert_reads!(case.report(), text);
}

#[test]
fn files_are_beside_the_file_that_names_them() {
    let case = Case::of(
        r#"
[providers.up]
type = "openai"
url = "http://h"
[groups.kept]
type = "cache"
to = "up/m"
path = "answers.db"
[groups.written]
type = "tee"
to = "kept"
path = "below/tee.jsonl"
"#,
    );
    let config = case.config();
    let built = |id: &str| format!("{:?}", config.groups.iter().find(|group| group.id == id).unwrap().build);
    let beside = |name: &str| format!("{:?}", case.directory.path().join(name));
    assert!(built("kept").contains(&beside("answers.db")), "{}", built("kept"));
    assert!(built("written").contains(&beside("below/tee.jsonl")), "{}", built("written"));
    let order: Vec<_> = config.groups.iter().map(|group| group.id.as_str()).collect();
    assert_eq!(order, ["kept", "written"]);
}

/// A tee and a cache with these paths.
fn writing(lines: &str, database: &str) -> String {
    format!(
        "[providers.up]\ntype = \"openai\"\nurl = \"http://h\"\napi_key = {{ file = \"key.txt\" }}\n[state]\npath = \"state.db\"\n\
         [groups.kept]\ntype = \"cache\"\nto = \"up/m\"\npath = {database:?}\n\
         [groups.written]\ntype = \"tee\"\nto = \"up/m\"\npath = {lines:?}\n"
    )
}

#[test]
fn no_group_writes_to_a_file_that_is_somebody_else_s() {
    for (lines, database, said) in [
        ("CONFIG", "c.db", "groups.written.path: is a file of the configuration, too"),
        ("sub/../CONFIG", "c.db", "groups.written.path: is a file of the configuration, too"),
        ("t.jsonl", "state.db", "groups.kept.path: is the file of [state], too"),
        ("c.db", "c.db", "groups.written.path: is the file of group `kept`, too; name another one"),
        ("t.jsonl", "admin-token", "groups.kept.path: is the file of the token for changes, too"),
        ("key.txt", "c.db", "groups.written.path: is a file that the configuration reads a secret"),
        (
            "c.db-wal",
            "c.db",
            "groups.written.path: and the file of group `kept` would share what is kept beside",
        ),
        ("state.db.lock", "c.db", "groups.written.path: and the file of [state] would share"),
        ("t.jsonl", "t.jsonl.3", "groups.written.path: and the file of group `kept` would share"),
    ] {
        let case = Case::of("");
        let name = case.sources.files[0].file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::create_dir(case.directory.path().join("sub")).unwrap();
        std::fs::write(case.directory.path().join("key.txt"), "k").unwrap();
        std::fs::write(&case.sources.files[0], writing(&lines.replace("CONFIG", &name), database)).unwrap();
        assert!(case.report().contains(said), "{lines} {database}: {}", case.report());
    }
}

#[cfg(unix)]
#[test]
fn another_way_to_a_file_leads_to_the_same_one() {
    let case = Case::of(&writing("link.jsonl", "there/c.db"));
    std::fs::write(case.directory.path().join("key.txt"), "k").unwrap();
    std::os::unix::fs::symlink(&case.sources.files[0], case.directory.path().join("link.jsonl")).unwrap();
    assert!(case.report().contains("groups.written.path: is a file of the configuration, too"));
    std::os::unix::fs::symlink(case.directory.path(), case.directory.path().join("there")).unwrap();
    std::fs::remove_file(case.directory.path().join("link.jsonl")).unwrap();
    std::fs::write(&case.sources.files[0], writing("c.db", "there/c.db")).unwrap();
    assert!(case.report().contains("groups.written.path: is the file of group `kept`, too"));
}

#[test]
fn what_is_there_already_and_is_something_else_is_warned_of_and_a_directory_that_is_not_there_is_noted() {
    let case = Case::of(&writing("notes.txt", "far/away/c.db"));
    std::fs::write(case.directory.path().join("key.txt"), "k").unwrap();
    std::fs::write(case.directory.path().join("notes.txt"), "buy milk").unwrap();
    let config = case.config();
    let told: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("groups.written.path: is there already"), "{told:?}");
    let note = "groups.kept.path: its directory is not there, and will be made";
    assert!(config.notes.iter().any(|told| told == note), "{:?}", config.notes);
    std::fs::write(case.directory.path().join("notes.txt"), "{}\n").unwrap();
    assert_eq!(case.config().warnings, []);
}

#[test]
fn the_state_s_file_is_the_same_however_the_configuration_is_named() {
    let text = "[state]\npath = \"state.db\"\n".to_owned();
    let sources = Sources { texts: vec![("near.toml".to_owned(), text)], ..Sources::default() };
    let config = load(&sources, KINDS, &|_| false).unwrap_or_else(|report| panic!("{report}"));
    assert!(config.state.file.unwrap().is_absolute());
}
