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
