//! What is told of a change, and what is not.

use super::*;
use crate::config::tests::Case;

const OLD: &str = r#"
[listeners.local]
address = "127.0.0.1:6041"
keep_alive = 15

[keys.ide]
key = "ide-key-1"

[providers.mistral]
type = "mistral"
api_key = "mistral-key-1"
limits = [{ requests = 60, per = "minute" }]

[providers.ollama]
type = "ollama"

[groups.coder]
type = "failover"
members = ["mistral/a", "ollama/b"]

[aliases]
gpt = "coder"
"#;

fn image(text: &str) -> Image {
    Case::of(text).config().image
}

fn between(old: &str, new: &str) -> Difference {
    Difference::between(&image(old), &image(new))
}

/// What a change of the usual text is told as.
fn told(from: &str, to: &str) -> String {
    assert!(OLD.contains(from), "{from}");
    between(OLD, &OLD.replace(from, to)).to_string()
}

#[test]
fn the_same_configuration_written_otherwise_changes_nothing() {
    let other = format!("# A remark.\n{}", OLD.replace("[providers.ollama]\ntype = \"ollama\"\n", ""));
    let other = format!("{other}\n[providers]\nollama = {{ type = 'ollama' }}\n");
    let difference = between(OLD, &other);
    assert!(difference.is_empty(), "{difference}");
    assert_eq!(difference.ids("providers", Fate::Unchanged), BTreeSet::from(["mistral", "ollama"]));
    assert!(difference.to_string().starts_with("nothing changes"), "{difference}");
}

#[test]
fn what_is_added_changed_and_removed_is_told_with_the_options_that_differ() {
    let text = OLD
        .replace("requests = 60", "requests = 30")
        .replace(
            "[providers.ollama]\ntype = \"ollama\"",
            "[providers.box]\ntype = \"ollama\"\nurl = \"http://box:11434\"",
        )
        .replace("ollama/b", "box/b");
    let difference = between(OLD, &text);
    let fates = [Fate::Added, Fate::Changed, Fate::Removed].map(|fate| difference.ids("providers", fate));
    assert_eq!(fates, [BTreeSet::from(["box"]), BTreeSet::from(["mistral"]), BTreeSet::from(["ollama"])]);
    assert_eq!(difference.ids("groups", Fate::Changed), BTreeSet::from(["coder"]));
    let told = difference.to_string();
    for line in [
        "+ providers.box",
        "~ providers.mistral",
        r#"    providers.mistral.limits: [{"requests":60,"per":"minute"}] → [{"requests":30,"per":"minute"}]"#,
        "- providers.ollama",
        r#"    groups.coder.members: ["mistral/a","ollama/b"] → ["mistral/a","box/b"]"#,
        "1 added, 2 changed, 1 removed,",
    ] {
        assert!(told.contains(line), "{line} is missing in\n{told}");
    }
}

#[test]
fn a_secret_that_changed_is_told_and_never_shown() {
    for (from, to, key) in [
        ("mistral-key-1", "mistral-key-2", "providers.mistral.api_key"),
        ("ide-key-1", "ide-key-2", "keys.ide.key"),
    ] {
        let told = told(from, to);
        assert!(told.contains(&format!("{key}: the secret changed (not shown)")), "{told}");
        assert!(!told.contains("key-1") && !told.contains("key-2"), "{told}");
    }
    let header = "type = \"ollama\"\nheaders = { x-token = \"hush\" }";
    let told = told("type = \"ollama\"", header);
    assert!(told.contains("providers.ollama.headers.x-token: set (secret, not shown)"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

#[test]
fn a_secret_that_changed_where_it_is_kept_is_a_change_although_the_text_is_the_same() {
    let case = Case::of("[providers.mistral]\ntype = \"mistral\"\napi_key = { file = \"key\" }\n");
    case.write("key", "one");
    let before = case.config().image;
    assert!(Difference::between(&before, &case.config().image).is_empty());
    case.write("key", "two");
    let told = Difference::between(&before, &case.config().image).to_string();
    assert!(told.contains("providers.mistral.api_key: the secret changed"), "{told}");
}

#[test]
fn what_came_out_of_a_variable_is_not_shown_either() {
    let text = "[providers.box]\ntype = \"ollama\"\nurl = \"http://${HOST}:1\"\n";
    let one = Case::of(text).env("HOST", "hidden-one").config().image;
    let other = Case::of(text).env("HOST", "hidden-two").config().image;
    let told = Difference::between(&one, &other).to_string();
    assert!(told.contains("providers.box.url: the secret changed") && !told.contains("hidden"), "{told}");
}

#[test]
fn what_only_a_restart_changes_is_named_and_stays_as_it_was() {
    let (old, new) = (
        image(OLD),
        image(&format!(
            "{}\n[listeners.more]\naddress = \"127.0.0.1:7000\"\nhosts = [\"box\"]\n[state]\npath = \"/elsewhere/state.db\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
            OLD.replace("127.0.0.1:6041", "127.0.0.1:6050")
                .replace("keep_alive = 15", "keep_alive = 20\ndrain = 5\nworkers = 3\nstalled_reader = 7")
        )),
    );
    let difference = Difference::between(&old, &new);
    assert_eq!(
        difference.for_restart(),
        [
            "listeners.local.address",
            "listeners.local.drain",
            "listeners.local.stalled_reader",
            "listeners.local.workers",
            "listeners.more",
            "log.format",
            "state.path"
        ]
    );
    let told = difference.to_string();
    assert!(told.contains("+ listeners.more  (needs a restart)"), "{told}");
    assert!(
        told.contains("listeners.local.address: \"127.0.0.1:6041\" → \"127.0.0.1:6050\"  (needs a restart)"),
        "{told}"
    );
    assert!(told.contains("listeners.local.keep_alive: 15 → 20\n"), "{told}");
    let in_force = old.with(&new);
    let left = Difference::between(&in_force, &new);
    assert_eq!(left.for_restart(), difference.for_restart(), "they still wait for it");
    let options: usize = left.things.iter().map(|thing| thing.options.len()).sum();
    assert_eq!(options, 6, "and nothing else does: {left}");
    assert_eq!(left.ids("listeners", Fate::Added), BTreeSet::from(["more"]), "it is not there yet");
    let back = Difference::between(&in_force, &old);
    assert_eq!(back.for_restart(), Vec::<String>::new(), "{back}");
}

#[test]
fn a_listener_that_is_taken_out_is_there_until_a_restart() {
    let bare = "[providers.ollama]\ntype = \"ollama\"\n";
    let both = format!(
        "{bare}[listeners.a]\naddress = \"127.0.0.1:1\"\nhosts = [\"box\"]\n[listeners.b]\naddress = \"127.0.0.1:2\"\n"
    );
    let one = format!("{bare}[listeners.b]\naddress = \"127.0.0.1:2\"\n");
    let (old, new) = (image(&both), image(&one));
    let difference = Difference::between(&old, &new);
    assert_eq!(difference.for_restart(), ["listeners.a"]);
    assert!(difference.to_string().contains("- listeners.a  (needs a restart)"), "{difference}");
    let left = Difference::between(&old.with(&new), &new);
    assert_eq!(left, difference, "it is there as it was");
}

#[test]
fn an_option_or_a_thing_that_is_no_longer_there_is_a_change() {
    let told_of = |from: &str| told(from, "");
    assert!(told_of("keep_alive = 15").contains("listeners.local.keep_alive: no longer set (was 15)"));
    let told = told_of("[aliases]\ngpt = \"coder\"\n");
    assert!(told.contains("- aliases.gpt") && told.contains("0 added, 0 changed, 1 removed,"), "{told}");
}

#[test]
fn what_becomes_a_variable_is_a_change_whatever_is_in_it() {
    let text = |url: &str| format!("[providers.box]\ntype = \"ollama\"\nurl = \"{url}\"\n");
    let plain = image(&text("http://one:1"));
    let filled = Case::of(&text("http://${HOST}:1")).env("HOST", "two").config().image;
    for (from, to) in [(&plain, &filled), (&filled, &plain)] {
        let difference = Difference::between(from, to);
        assert_eq!(difference.ids("providers", Fate::Changed), BTreeSet::from(["box"]), "{difference}");
    }
}

#[test]
fn a_certificate_that_is_written_over_and_a_level_of_the_log_are_changes() {
    let case = Case::of("[providers.box]\ntype = \"ollama\"\nca_file = \"ca.pem\"\n");
    case.write("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let before = case.config().image;
    assert!(Difference::between(&before, &case.config().image).is_empty());
    case.write("ca.pem", "-----BEGIN CERTIFICATE-----\n\n");
    let difference = Difference::between(&before, &case.config().image);
    assert_eq!(difference.ids("providers", Fate::Changed), BTreeSet::from(["box"]), "{difference}");
    let loud = format!("{OLD}[log]\nlevel = \"debug\"\n");
    let told = between(OLD, &loud).to_string();
    assert!(told.contains("log.level: \"info\" → \"debug\"\n"), "{told}");
}

#[test]
fn a_default_address_that_is_written_down_needs_no_restart() {
    let bare = "[providers.ollama]\ntype = \"ollama\"\n";
    let difference = between(bare, &format!("{bare}[listeners.default]\naddress = \"127.0.0.1:6041\"\n"));
    let changed: Vec<&Thing> =
        difference.things.iter().filter(|thing| thing.fate != Fate::Unchanged).collect();
    let ids: Vec<String> =
        Case::of(bare).config().listeners.into_iter().map(|listener| listener.id).collect();
    assert!(changed.iter().all(|thing| thing.section == "listeners"), "{difference}");
    let same = between(bare, &format!("{bare}[listeners.{}]\naddress = \"127.0.0.1:6041\"\n", ids[0]));
    assert!(same.is_empty(), "{same}");
}

#[test]
fn what_programs_read_says_the_same() {
    let difference = between(OLD, &OLD.replace("mistral-key-1", "mistral-key-2").replace("= 15", "= 16"));
    assert!(!difference.is_empty());
    let json = difference.to_json();
    assert_eq!(Difference::from_json(&json), difference);
    assert!(!json.to_string().contains("mistral-key"), "{json}");
    assert_eq!(Difference::from_json(&json!({"changes": [1, {"section": 2}]})), Difference::default());
}

#[test]
fn a_long_value_is_told_as_its_beginning() {
    let models: Vec<String> = (0..100).map(|number| format!("\"model-ä-{number}\"")).collect();
    let told = told("type = \"ollama\"", &format!("type = \"ollama\"\nmodels = [{}]", models.join(", ")));
    let line = told.lines().find(|line| line.contains("providers.ollama.models")).unwrap();
    assert!(line.ends_with('…') && line.chars().count() < 120, "{line}");
}

#[test]
fn a_file_that_the_same_words_find_elsewhere_is_another_one() {
    let text = "[providers.box]\ntype = \"ollama\"\n[groups.t]\ntype = \"tee\"\nto = \"box/x\"\npath = \"t.jsonl\"\n[groups.c]\ntype = \"cache\"\nto = \"box/x\"\npath = \"/kept/c.db\"\n";
    let (here, elsewhere) = (Case::of(text), Case::of(text));
    let before = here.config().image;
    assert!(Difference::between(&before, &here.config().image).is_empty());
    let difference = Difference::between(&before, &elsewhere.config().image);
    assert_eq!(difference.ids("groups", Fate::Changed), BTreeSet::from(["t"]), "{difference}");
    let folder = elsewhere.directory.path().display().to_string();
    assert!(difference.things.iter().any(|thing| {
        let to = thing.options.first().and_then(|option| option.to.clone());
        to.is_some_and(|to| matches!(to, Shown::Value(text) if text.contains(&folder)))
    }));
}
