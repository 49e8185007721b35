//! The words of every kind of problem. What a person reads is in the snapshots; read them when they change.

use super::*;

/// Loads a file with a few variables set and compares the report.
macro_rules! reported {
    ($text:expr) => {
        assert_reads!(Case::of($text).env("EMPTY", "").env("SECRET", "sk-secret").report(), $text)
    };
}

#[test]
fn unknown_keys_and_wrong_types_are_all_reported() {
    reported!(
        r#"
listner = 1
[listeners.local]
port = 8080
max_body = true
serves = ["api", "metric"]
[providers.mistral]
type = "mistral"
api_base = "https://x"
exlude_models = ["a"]
include_models = "a"
limits = [{ requests = "60", per = "minute", perr = 1 }]
timeouts = { connect = [], frist_token = 5 }
cache_seconds = "1h"
max_in_flight = -1
replicas = 1.5
api_key = 5
models = [5, { name = "x" }]
[providers.mistral.headers]
x = { envv = "A" }
[keys]
ide = "key"
[log]
format = "yaml"
level = ["info"]
[admin]
token = "x"
colour = "red"
"#
    );
}

#[test]
fn ids_are_checked_and_share_one_namespace() {
    reported!(
        r#"
[listeners.coder]
[providers."Bad Id"]
type = "ollama"
[providers."-x"]
type = "ollama"
[providers."ü"]
type = "ollama"
[providers.my-box]
type = "ollama"
[providers.my_box]
type = "ollama"
[groups.coder]
type = "failover"
[routers."a.b"]
[keys.my-box]
key = "1"
[keys.my_box]
key = "2"
"#
    );
}

#[test]
fn problems_of_providers() {
    reported!(
        r#"
[providers.none]
[providers.mistral]
[providers.typo]
type = "mistrall"
[providers.far]
type = "openai"
[providers.self]
type = "openai"
url = "http://localhost:6041/v1"
[providers.user]
type = "openai"
url = "http://me:sk-secret@h"
[providers.nokey]
type = "mistral"
[providers.unsetkey]
type = "mistral"
api_key = "${NOT_SET_1}"
[providers.emptykey]
type = "codestral"
api_key = "${EMPTY}"
[providers.unsetenv]
type = "fireworks"
api_key = { env = "NOT_SET_2" }
[providers.many]
type = "ollama"
api_key = "a"
include_models = []
exclude_models = ["a[", ""]
cache_seconds = "soon"
timeouts = { connect = 0, idle = "-1s", total = "2d", total_stream = 0 }
max_in_flight = 0
replicas = 65
ca_file = "none.pem"
models = ["a", "a", "", { capabilities = ["chatt"] }, { id = "c", context_length = 0 }]
[providers.many.headers]
"bad name" = "x"
Host = "x"
authorization = "x"
X-A = "line\nbreak"
x-a = "y"
x-b = "${NOT_SET_3}"
x-c = { env = "NOT_SET_4" }
"#
    );
}

#[test]
fn problems_of_listeners() {
    reported!(
        r#"
[listeners.a]
address = "127.0.0.1:6041"
[listeners.b]
address = "127.0.0.1:6041"
[listeners.c]
address = "0.0.0.0:80"
serves = []
[listeners.d]
address = "127.0.0.1"
hosts = ["https://x", "*.y"]
origins = ["x", "https://x/path"]
[listeners.e]
address = "example.com:80"
max_body = "1"
workers = 0
keep_alive = 0
stalled_reader = "never"
drain = "2d"
[listeners.f]
address = "http://127.0.0.1:1"
max_body = "lots"
[listeners.g]
address = "[::]:0"
[listeners.h]
address = "[::]:0"
[providers.web]
type = "openai"
url = "http://127.0.0.1"
"#
    );
}

#[test]
fn problems_of_keys_and_log() {
    reported!(
        r#"
[keys.a]
key = "sk-secret"
models = []
[keys.b]
key = "${SECRET}"
models = ["[sk"]
[keys.c]
key = ""
[keys.d]
[keys.e]
key = "${NOT_SET}"
[keys.f]
key = { env = "EMPTY" }
[keys.g]
key = " sk-secret"
[keys.h]
key = { file = "none" }
[keys.i]
key = { command = ["demuxai-no-such-program"] }
[keys.j]
key = { env = "A", file = "b" }
[keys.k]
key = { env = "sk-secret" }
[keys.l]
key = "${"
[admin]
key = "sk-secret"
[log]
level = "loud"
"#
    );
}

#[test]
fn limits_of_keys_are_read_as_they_are_written() {
    let config = Case::of("[keys.a]\nkey = 'k'\nlimits = [{ requests = 5, per = 'day' }]").config();
    let limit = config.keys[0].limits[0].clone();
    assert_eq!((limit.unit.as_str(), limit.amount, limit.per.as_deref()), ("requests", 5, Some("day")));
    assert!(!config.notes.iter().any(|note| note.contains("keys")), "{:?}", config.notes);
}

#[test]
fn problems_of_limits() {
    reported!(
        r#"
[providers.o]
type = "ollama"
limits = [
  { requests = 60, per = "minute" },
  { requests = 50, per = "minute" },
  { requests = 60 },
  { per = "day" },
  { requests = 1, tokens = 1, per = "day" },
  { requests = 0, per = "day" },
  { concurrent = 2, per = "day", window = "fixed" },
  { tokens = 1, per = "fortnight" },
  { tokens = 2, per = "5h", window = "calendar" },
  { tokens = 3, per = "month", window = "bucket" },
  { tokens = 4, per = "day", time_zone = "UTC" },
  { tokens = 5, per = "day", window = "calendar", time_zone = "Mars/../x" },
  { tokens = 6, per = "hour", models = "[" },
  { requests = 3, per = "request" },
  { input_tokens = 3, per = "request", window = "fixed" },
  { tokens = 7, per = "week", window = "calendar", time_zone = "Mars/Olympus_Mons" },
  { output_tokens = 8, per = "request" },
  { requests = 0, per = "fortnight", models = "[" },
  { tokens = 9, requests = 9, per = "decade", time_zone = "UTC" },
  { output_tokens = 9, per = "request" },
]
[keys.a]
key = "k"
limits = [{ requests = 5, per = "daily" }]
"#
    );
}

#[test]
fn problems_of_aliases_and_of_what_is_listed() {
    reported!(
        r#"
[providers.mistral]
type = "mistral"
api_key = "k"
hidden = 3
list_aliases = "no"
[providers.ollama]
type = "ollama"
hidden = ["[", "*"]
[groups.coder]
type = "failover"
members = ["mistral/x"]
hidden = "yes"
[listeners.local]
listed_models = []
[keys.ide]
key = "k2"
listed_models = ["{"]
[aliases]
"gpt-4o" = "mistal/x"
"a b" = "coder"
"coder" = "mistral/x"
"mistral/large" = "coder"
"one" = "mistral"
"two" = "one"
"three" = { hidden = true }
"four" = { to = "mistral/", colour = "red" }
"five" = 5
"" = "coder"
"#
    );
}

#[test]
fn a_route_whose_requests_several_before_take_together_can_never_match() {
    let keys = "[keys.a]\nkey = 'a'\n[keys.b]\nkey = 'b'\n[keys.c]\nkey = 'c'\n";
    let case = |routes: &str| {
        let text = format!("[providers.o]\ntype = 'ollama'\n{keys}[routers.r]\nroutes = [{routes}]\n");
        Case::of(&text.replace("o/ ", "to = 'o/m' "))
    };
    for (written, by) in [
        (
            "{ has = 'tools', o/ }, { not = { has = 'tools' }, o/ }, { endpoint = 'chat', o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ client = ['a', 'b'], o/ }, { client = 'c', o/ }, { client = ['a', 'c'], has = 'tools', o/ }, { o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ language = 'python', o/ }, { language = ['rs', 'go'], o/ }, { language = ['py', 'rust'], o/ }, { o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ has = 'tools', client = 'a', o/ }, { model = 'x', o/ }, { has = 'tools', not = { client = 'a' }, o/ }, { has = 'tools', o/ }, { o/ }",
            "routes[0] and routes[2] take",
        ),
        (
            "{ endpoint = 'chat', model = 'gpt-*', o/ }, { not = { endpoint = 'chat' }, model = 'gpt-*', o/ }, { model = 'gpt-4o', o/ }, { o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ not = { has = ['tools', 'images'] }, o/ }, { has = 'tools', o/ }, { endpoint = ['fim', 'chat'], has = 'images', o/ }, { o/ }",
            "routes[0], routes[1] and routes[2] take",
        ),
        (
            "{ not = { has = 'images' }, o/ }, { endpoint = 'chat', o/ }, { o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ model = 'gpt-*', o/ }, { not = { model = 'gpt-4*' }, o/ }, { o/ }",
            "routes[0] and routes[1] take",
        ),
        (
            "{ not = [{ has = 'tools' }, { client = 'a' }], o/ }, { has = 'tools', o/ }, { client = 'a', o/ }, { client = ['a', 'b'], o/ }",
            "routes[0], routes[1] and routes[2] take",
        ),
    ] {
        let report = case(written).report();
        assert!(report.starts_with("the configuration has 1 problem\n"), "{written}: {report}");
        assert!(
            report.contains(&format!("can never match: {by} all of its requests before")),
            "{written}: {report}"
        );
    }
    for fine in [
        "{ client = ['a', 'b'], o/ }, { client = 'c', o/ }, { o/ }",
        "{ language = 'python', o/ }, { not = { language = ['python', 'go'] }, o/ }, { o/ }",
        "{ has = 'tools', o/ }, { has = 'images', o/ }, { has = ['tools', 'audio'], o/ }, { o/ }",
        "{ has = 'tools', client = 'a', o/ }, { not = { has = 'tools' }, client = 'b', o/ }, { has = 'tools', o/ }, { o/ }",
        "{ model = 'gpt-*', o/ }, { not = { model = 'o*' }, o/ }, { o/ }",
    ] {
        assert!(case(fine).load().is_ok(), "{fine}");
    }
}

#[test]
fn problems_of_variables_and_the_command_line() {
    let report = Case::of("[providers.o]\ntype = 'ollama'")
        .env("DEMUXAI__PROVIDERS__O__REPLICAS", "many")
        .env("DEMUXAI__PROVIDERS__O__COLOUR", "red")
        .env("DEMUXAI__PROVIDERS__O__TIMEOUTS", "5")
        .env("DEMUXAI__PROVIDERS__O__TIMEOUTS__IDLE", "5")
        .env("DEMUXAI__PROVIDERS__O__URL", "nonsense")
        .env("DEMUXAI__LISTNERS__A__ADDRESS", "x")
        .env("DEMUXAI__", "x")
        .env("DEMUXAI__LOG____LEVEL", "x")
        .env("DEMUXAI__LOG__FORMAT", "jsn")
        .env("DEMUXAI__KEYS__A__KEY__FILE", "relative")
        .option("listeners.<first>.address", "6041")
        .report();
    assert_reads!(report, "");
}

#[test]
fn files_that_cannot_be_read_are_all_reported() {
    let mut case = Case::empty()
        .file("1.toml", "[a]\nkey = sk-secret\n")
        .file("2.toml", b"[a]\nb = '\xff'")
        .file("3.toml", "a = 1\na = 2")
        .file("4.toml", "a = 2024-01-01\nb = 99999999999999999999")
        .file("5.toml", "unknown = 1")
        .file("6.yml", "just: yaml")
        .file("7.yml", "demuxai: [")
        .file("8.yml", "demuxai:\n  port: [1]\n  providers:\n    a: 5\n    b: {timeout_seconds: soon}");
    case.sources.files.push(case.directory.path().join("9.toml"));
    case.sources.files.push(case.directory.path().to_owned());
    let report = case.report();
    assert!(!report.contains("sk-secret"), "{report}");
    assert_reads!(report, "");
}

#[test]
fn nothing_is_missed_where_something_was_taken_out() {
    let report = Case::of(
        "[listeners.a]\naddress = '0.0.0.0:1'\n[keys]\na = 'k'\n[providers.m]\ntype = 5\napi_key = 6",
    )
    .report();
    assert!(!report.contains("missing"), "{report}");
    assert!(report.starts_with("the configuration has 3 problems"), "{report}");
}

#[test]
fn no_report_quotes_what_came_from_a_variable() {
    let text = "[providers.a]\ntype = '${SECRET}'\nurl = '${SECRET}'\nexclude_models = ['[${SECRET}']\n\
                models = [{ id = 'x', capabilities = ['${SECRET}'] }]\nca_file = 'x'\n\
                cache_seconds = '${SECRET}'\nlimits = [{ tokens = 1, per = '${SECRET}' }]\n\
                [listeners.l]\naddress = '${SECRET}'\nhosts = ['${SECRET}/']\n[log]\nlevel = '${SECRET}'\nformat = '${SECRET}'";
    let report = Case::of(text).env("SECRET", "sk-secret").report();
    assert!(!report.contains("sk-secret"), "{report}");
    assert!(report.starts_with("the configuration has 11 problems"), "{report}");
}

#[test]
fn a_flood_of_problems_is_bounded() {
    let many: String = (0..50_000).map(|number| format!("unknown-{number} = 1\n")).collect();
    let Err(report) = Case::of(&many).load() else { panic!() };
    assert_eq!((report.problems.len(), report.more), (200, 49_800));
}
