//! Each condition of the routers in `config/examples/` has a request that holds it, and is sent that way.
#![cfg(unix)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use demuxai::backend::condition;
use serde_json::{Value, json};

use crate::config_examples::{Served, served, served_with};
use crate::support::client::{self, Answer};
use crate::support::eventually;
use crate::support::program::Program;

/// A request: its path, what is in its body, headers, and the route that it takes.
type Sent<'a> = (&'a str, Value, &'a [(&'a str, &'a str)], &'a str);

const CHAT: &str = "/v1/chat/completions";

fn says(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }] })
}

/// Sends all of them to the file of this name.
fn sends(name: &str, all: &[Sent<'_>]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let Served { program, .. } = &served(&file);
    let router = all.first().map_or("", |(.., route)| route.split(' ').next().unwrap_or_default());
    for (path, body, headers, route) in all {
        let mut body = body.clone();
        if body["model"].is_null() {
            body["model"] = Value::from(router);
        }
        let body = body.to_string();
        let headers = [headers, &[("content-type", "application/json")][..]].concat();
        let answer = client::open(program.address(), "POST", path, &headers, body.as_bytes()).finish();
        assert_eq!(answer.header("x-demuxai-route"), Some(*route), "{name}: {body}: {}", answer.text());
    }
}

#[test]
fn the_kind_of_a_request_and_what_it_has_send_it_on() {
    let named = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    let mut tools = says("hi");
    tools["tools"] = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let image = json!({ "messages": [{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } },
    ] }] });
    sends(
        "router.toml",
        &[
            ("/v1/fim/completions", json!({ "prompt": "a", "suffix": "b" }), &[], "auto 1"),
            ("/v1/completions", json!({ "prompt": "a" }), &[], "auto 1"),
            ("/v1/embeddings", json!({ "input": "a" }), &[], "auto 2"),
            (CHAT, named("auto/gpt-4o"), &[], "auto 3"),
            (CHAT, tools, &[], "auto 4"),
            (CHAT, image, &[], "auto 4"),
            (CHAT, says(&"word ".repeat(30_000)), &[], "auto 5"),
            (CHAT, says("hi"), &[], "auto 6"),
        ],
    );
}

#[test]
fn who_asks_and_how_sends_a_request_on() {
    let ide = ("authorization", "Bearer value-of-DEMUXAI_IDE_KEY");
    let phone = ("authorization", "Bearer value-of-DEMUXAI_PHONE_KEY");
    sends(
        "router-clients.toml",
        &[
            (CHAT, says("hi"), &[ide, ("x-team", "research-7")], "auto 2"),
            (CHAT, says("hi"), &[phone, ("x-team", "ml")], "auto 2"),
            ("/v1/fim/completions", json!({ "prompt": "a", "suffix": "b" }), &[ide], "auto 3"),
            (CHAT, says("hi"), &[ide, ("x-team", "sales")], "auto 5"),
            (CHAT, says("hi"), &[phone], "auto 5"),
        ],
    );
}

#[test]
fn the_languages_of_a_request_send_it_on() {
    sends(
        "router-language.toml",
        &[
            (CHAT, says("Why does it fail?\n```rust\nlet x = 1;\n```"), &[], "coder 1"),
            (
                CHAT,
                says("Bonjour, pouvez-vous m'expliquer pourquoi le ciel est bleu aujourd'hui ?"),
                &[],
                "coder 2",
            ),
            (CHAT, says("Why is the sky blue, and why is it red in the evening?"), &[], "coder 3"),
        ],
    );
}

#[test]
fn words_of_a_request_send_it_on() {
    let system = json!({ "messages": [
        { "role": "system", "content": "All of this is Confidential." },
        { "role": "user", "content": "hi" },
    ] });
    sends(
        "router-quota.toml",
        &[(CHAT, says("this is private, please"), &[], "thrifty 1"), (CHAT, system, &[], "thrifty 1")],
    );
}

/// The routes of an example's only router, and its id.
fn routes(file: &Path) -> (String, Vec<toml::Value>) {
    let tables: toml::Table = std::fs::read_to_string(file).expect("text").parse().expect("TOML");
    let (id, router) = tables["routers"].as_table().and_then(|all| all.iter().next()).expect("a router");
    (id.clone(), router["routes"].as_array().expect("routes").clone())
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name)
}

/// Where one of several listeners listens.
fn address_of(program: &Program, listener: &str) -> SocketAddr {
    let line = |log: &str| {
        let of =
            |line: &&str| line.contains("listening") && line.contains(&format!("listener={listener:?} "));
        let found = log.split_inclusive('\n').find(|line| line.ends_with('\n') && of(line))?;
        let at = found.find("127.0.0.1:")?;
        let address: String =
            found.get(at..)?.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
        address.parse().ok()
    };
    let log = eventually("it listens", || program.stderr(), |log| line(log).is_some());
    line(&log).expect("an address")
}

/// A request to a router: where to, what is in its body, headers.
struct Ask {
    listener: &'static str,
    path: &'static str,
    body: Value,
    headers: Vec<(&'static str, &'static str)>,
}

fn ask(body: Value) -> Ask {
    Ask { listener: "", path: CHAT, body, headers: Vec::new() }
}

impl Ask {
    fn on(self, path: &'static str) -> Ask {
        Ask { path, ..self }
    }

    fn at(self, listener: &'static str) -> Ask {
        Ask { listener, ..self }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Ask {
        self.headers.push((name, value));
        self
    }

    fn by(self, bearer: &'static str) -> Ask {
        self.with("authorization", bearer)
    }

    /// Sends it, and gives the number of the route that it took.
    fn route(&self, program: &Program, router: &str) -> usize {
        let mut body = self.body.clone();
        if body["model"].is_null() {
            body["model"] = Value::from(router);
        }
        let address =
            if self.listener.is_empty() { program.address() } else { address_of(program, self.listener) };
        let headers = [&self.headers[..], &[("content-type", "application/json")]].concat();
        let answer: Answer =
            client::open(address, "POST", self.path, &headers, body.to_string().as_bytes()).finish();
        assert_eq!(answer.status, 200, "{router}: {body}: {}", answer.text());
        let taken = answer.header("x-demuxai-route").and_then(|route| route.split(' ').nth(1)?.parse().ok());
        taken.unwrap_or_else(|| panic!("{router}: {body}: {:?}", answer.header("x-demuxai-route")))
    }
}

const IDE: &str = "Bearer value-of-DEMUXAI_IDE_KEY";
const PHONE: &str = "Bearer value-of-DEMUXAI_PHONE_KEY";
const AGENT: &str = "Bearer value-of-DEMUXAI_AGENT_KEY";

/// A condition, the number of a route that has it, a request that takes the route, and one that differs in what the
/// condition looks at and goes on to a later one.
type Case = (&'static str, usize, Ask, Ask);

fn by_kind() -> Vec<Case> {
    let named = |model: &str| json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    let mut tools = says("hi");
    tools["tools"] = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    vec![
        ("endpoint", 1, ask(json!({ "prompt": "a" })).on("/v1/completions"), ask(says("a"))),
        ("model", 3, ask(named("auto/gpt-4o")), ask(named("auto"))),
        ("has", 4, ask(tools), ask(says("hi"))),
        ("input_tokens", 5, ask(says(&"word ".repeat(30_000))), ask(says(&"word ".repeat(300)))),
    ]
}

fn by_client() -> Vec<Case> {
    let hi = || ask(says("hi"));
    let fim = json!({ "prompt": "a", "suffix": "b" });
    vec![
        ("listener", 1, hi().by(PHONE).at("lan"), hi().by(PHONE).at("desk")),
        ("client", 1, hi().by(PHONE).at("lan"), hi().by(IDE).at("lan")),
        ("header", 2, hi().by(IDE).with("x-team", "ml"), hi().by(IDE).with("x-team", "sales")),
        ("path", 3, ask(fim).on("/v1/fim/completions").by(IDE), hi().by(IDE)),
        ("not", 4, hi().by(AGENT), hi().by(IDE)),
    ]
}

fn by_language() -> Vec<Case> {
    let french = "Bonjour, pouvez-vous m'expliquer pourquoi le ciel est bleu aujourd'hui ?";
    let english = "Why is the sky blue, and why is it red in the evening?";
    vec![
        (
            "language",
            1,
            ask(says("Why?\n```rust\nlet x = 1;\n```")),
            ask(says("Why?\n```sql\nselect 1\n```")),
        ),
        ("natural_language", 2, ask(says(french)), ask(says(english))),
    ]
}

fn by_words() -> Vec<Case> {
    vec![("regex", 1, ask(says("this is private")), ask(says("this is public")))]
}

/// Sends both requests of each of them.
fn decide(program: &Program, file: &Path, cases: &[Case]) {
    let (router, routes) = routes(file);
    for (condition, number, holds, fails) in cases {
        let route = routes.get(number - 1).expect("such a route");
        assert!(
            route.get(*condition).is_some(),
            "{condition} is not in route {number} of {}",
            file.display()
        );
        assert_eq!(holds.route(program, &router), *number, "{condition} holds");
        let other = fails.route(program, &router);
        assert!(other > *number, "{condition} does not hold, and route {other} was taken");
    }
}

/// The example with hours for its own: from so many hours from now to so many, on all days.
fn at_hours(from: i64, to: i64, folder: &Path) -> PathBuf {
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").expect("a zone");
    let hour = |add: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(add);
        format!("{:02}:00", zone.to_datetime(then).hour())
    };
    let text = std::fs::read_to_string(example("router-quota.toml")).expect("text");
    let night = r#"days = "mon-fri", from = "22:00", to = "06:00""#;
    assert!(text.contains(night), "{text}");
    let moved =
        text.replace(night, &format!(r#"days = "mon-sun", from = "{}", to = "{}""#, hour(from), hour(to)));
    let file = folder.join("router-quota.toml");
    std::fs::write(&file, moved).expect("a file");
    file
}

#[test]
fn each_condition_lets_one_request_through_and_another_one_pass_by() {
    let mut decided: Vec<&str> = Vec::new();
    for (name, cases) in [
        ("router.toml", by_kind()),
        ("router-clients.toml", by_client()),
        ("router-language.toml", by_language()),
    ] {
        let file = example(name);
        let Served { program, .. } = &served(&file);
        decide(program, &file, &cases);
        decided.extend(cases.iter().map(|case| case.0));
    }
    // What hangs on the clock is moved to and from this hour, many hours wide, so that no test runs across an edge of it.
    let folder = tempfile::tempdir().expect("a folder");
    let file = at_hours(-3, 4, folder.path());
    let Served { program, .. } = &served(&file);
    assert_eq!(ask(says("hi")).route(program, "thrifty"), 2, "now is in its time");
    let file = at_hours(5, 20, folder.path());
    let limits = ("DEMUXAI__PROVIDERS__MISTRAL__LIMITS", r#"[{ requests = 10, per = "day" }]"#);
    let Served { program, .. } = &served_with(&file, &[limits]);
    decide(program, &file, &by_words());
    assert_eq!(
        ask(says("hi")).route(program, "thrifty"),
        5,
        "now is not in its time, and all of its quota is left"
    );
    decided.extend(["regex", "time"]);

    // Less than a fifth is left after so many more, and then nothing.
    let (_, routes) = routes(&file);
    assert!(routes[2].get("quota").is_some() && routes[3].get("quota").is_some());
    let mut taken: Vec<usize> = (0..10).map(|_| ask(says("hi")).route(program, "thrifty")).collect();
    taken.dedup();
    assert_eq!(taken, [5, 3], "an upstream of which little is left is spared");
    let mut think = says("hi");
    think["reasoning_effort"] = Value::from("low");
    let mut taken: Vec<usize> = (0..5).map(|_| ask(think.clone()).route(program, "thrifty")).collect();
    taken.dedup();
    assert_eq!(taken, [5, 4], "but not by those that think, until nothing is left");
    decided.push("quota");

    let mut all: Vec<&str> = condition::KINDS.iter().map(|kind| kind.name).chain([condition::NOT]).collect();
    all.sort_unstable();
    decided.sort_unstable();
    assert_eq!(decided, all, "each kind of condition has its two requests here");
}

/// The way that the running program foretells for a question about the file of this name.
fn foretold(name: &str, question: &Value) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let Served { program, .. } = &served(&file);
    let said = client::post(program.address(), "/demuxai/explain", &question.to_string());
    assert_eq!(said.status, 200, "{name}: {}", said.text());
    said.json()["prediction"]["route"].clone()
}

#[test]
fn the_hour_and_the_listener_send_a_request_on() {
    let body = r#"{"model":"thrifty","messages":[{"role":"user","content":"hi"}]}"#;
    // A Thursday and a Saturday; with all of its quota left.
    for (at, route) in [("2026-12-24T22:30:00Z", "thrifty 2"), ("2026-12-26T22:30:00Z", "thrifty 5")] {
        assert_eq!(foretold("router-quota.toml", &json!({ "body": body, "at": at })), route, "{at}");
    }
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"hi"}]}"#;
    for (listener, route) in [("lan", "auto 1"), ("desk", "auto 5")] {
        let question = json!({ "body": body, "client": "phone", "listener": listener });
        assert_eq!(foretold("router-clients.toml", &question), route, "{listener}");
    }
}
