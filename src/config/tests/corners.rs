//! The words of problems that are rarer than those in `problems.rs`: of conditions, URLs, secrets, variables and files.

use super::*;

macro_rules! reported {
    ($text:expr) => {
        assert_reads!(Case::of($text).report(), $text)
    };
}

const MISTRAL: &str = "[providers.mistral]\ntype = \"mistral\"\napi_key = \"k\"\n";

#[test]
fn problems_of_conditions() {
    let text = format!(
        "{MISTRAL}{}",
        r#"
[routers.a]
routes = [
  { header = {}, to = "mistral/x" },
  { language = "pythn", to = "mistral/x" },
  { natural_language = "english", to = "mistral/x" },
  { quota = { left = "<20%" }, to = "mistral/x" },
  { quota = { of = "mistral" }, to = "mistral/x" },
  { quota = { of = "mistral", left = "few" }, to = "mistral/x" },
  { quota = { of = "mistral", left = ">120%" }, to = "mistral/x" },
  { not = {}, to = "mistral/x" },
  { has = [], to = "mistral/x" },
  { client = "phone", to = "mistral/x" },
  { regex = {}, to = "mistral/x" },
  { regex = "", to = "mistral/x" },
  { regex = "((a{1000}){1000}){1000}", to = "mistral/x" },
  { time = {}, to = "mistral/x" },
  { time = { from = "25:00", to = "9" }, to = "mistral/x" },
  { time = { days = "mon", time_zone = "Mars/Base" }, to = "mistral/x" },
]
"#
    );
    reported!(&text);
}

#[test]
fn problems_of_urls() {
    let urls = [
        "http://h/v1/chat/completions",
        "http://h/v1?x=1",
        "http://h h",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "h:8080",
    ];
    let table = |(number, url): (usize, &&str)| {
        format!("[providers.p{number}]\ntype = \"openai\"\nurl = \"{url}\"\napi_key = \"k\"\n")
    };
    let text: String = urls.iter().enumerate().map(table).collect();
    reported!(&text);
}

#[test]
fn rarer_problems_of_groups() {
    let mut text = format!(
        "{MISTRAL}{}",
        r#"
[groups.s]
type = "static"
answer = "later"
retry_after = 5
[groups.l]
type = "limit"
to = "mistral/x"
by = "header:"
limits = [{ requests = 1, per = "day" }]
[groups.r]
type = "rewrite"
to = "mistral/x"
rename = { "a" = "" }
cap = { max_tokens = inf }
[groups.d0]
type = "failover"
members = ["mistral/x"]
"#
    );
    for depth in 1..40 {
        text.push_str(&format!("[groups.d{depth}]\ntype = \"failover\"\nmembers = [\"d{}\"]\n", depth - 1));
    }
    text.push_str("[groups.w0]\ntype = \"failover\"\nmembers = [\"mistral/x\", \"mistral/y\"]\n");
    for width in 1..12 {
        let below = width - 1;
        text.push_str(&format!(
            "[groups.w{width}]\ntype = \"failover\"\nmembers = [\"w{below}\", {{ to = \"w{below}\", weight = 2 }}, {{ to = \"w{below}\", weight = 3 }}]\n"
        ));
    }
    assert_reads!(
        Case::of(&text).report(),
        "a static that is two things, and groups that are too deep or too wide"
    );
}

#[cfg(unix)]
#[test]
fn problems_of_secrets_and_of_the_files_that_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let text = r#"
[providers.a]
type = "openai"
url = "http://h"
api_key = { file = "open.key" }
ca_file = "no.pem"
[providers.a.headers]
x-one = "1"
X-ONE = "2"
[providers.b]
type = "openai"
url = "http://h"
api_key = { command = [] }
[providers.c]
type = "openai"
url = "http://h"
api_key = { command = ["false"] }
[providers.d]
type = "openai"
url = "http://h"
api_key = { command = ["true"] }
[providers.e]
type = "openai"
url = "http://h"
api_key = { command = ["printf", "\\377"] }
[providers.f]
type = "openai"
url = "http://h"
api_key = { command = ["head", "-c", "100000", "/dev/zero"] }
[providers.g]
type = "openai"
url = "http://h"
api_key = {}
[providers.h]
type = "openai"
url = "http://h"
api_key = { file = "~/key" }
[providers.i]
type = "openai"
[state]
path = "folder"
url = "redis://h"
"#;
    let case = Case::of(text).env("PATH", "/usr/bin:/bin");
    let open = case.write("open.key", "sk-open-0123456789");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    case.write("no.pem", "no certificate");
    std::fs::create_dir(case.directory.path().join("folder")).unwrap();
    let said = case.load().map_or_else(|_| case.report(), |config| format!("{:?}", config.notes));
    assert_reads!(said, text);
}

#[test]
fn problems_of_variables_and_numbers() {
    let text = r#"
[providers.a]
type = "openai"
url = "http://${HOST}:${PORT}"
name = "${LONG}${LONG}"
[providers.b]
type = "openai"
url = "http://h"
[groups.g]
type = "budget"
to = "b/m"
caps = [{ usd = nan, per = "month" }]
"#;
    let case = Case::of(text)
        .env("LONG", &"x".repeat(40_000))
        .env("DEMUXAI__PROVIDERS__B__TIMEOUTS", "{ idle = 5 }")
        .env("DEMUXAI__PROVIDERS__B__TIMEOUTS__IDLE", "6");
    assert_reads!(case.report(), text);
}

#[cfg(unix)]
#[test]
fn problems_of_the_files_themselves() {
    let case = Case::of("").file("second.toml", "[providers.a]\ntype = \"ollama\"\n");
    let pipe = case.directory.path().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut case = case;
    case.sources.files.extend([
        pipe,
        case.directory.path().join("none.toml"),
        case.directory.path().to_owned(),
    ]);
    assert_reads!(case.report(), "a pipe, a file that is not there, and a directory");
}
