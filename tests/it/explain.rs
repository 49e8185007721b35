//! `demuxai explain`: what it foretells is what a request then does; asking spends, sends and changes nothing; and the
//! program says by what it knows.

use demuxai::demo::{Answer, Fake, Received, Script};
use serde_json::{Value, json};

use super::support::client::{self, Answer as Got};
use super::support::program::Home;
use super::support::proxy::{Proxy, provider};
use super::support::{asked, eventually, nowhere};

const CHAT: &str = "/v1/chat/completions";
const EXPLAIN: &str = "/demuxai/explain";

fn says(name: &str, received: &Received) -> Script {
    match received.path() {
        path if path.ends_with("/models") => Answer::json(200).body(
            r#"{"object":"list","data":[{"id":"m","object":"model"},{"id":"other","object":"model","type":"chat"}]}"#,
        ),
        path if path.ends_with("/embeddings") => Answer::json(200).body(
            r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        ),
        path if path.ends_with("/chat/completions") => Answer::json(200).body(format!(
            r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{name}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}}}"#
        )),
        _ => Answer::json(200).body(format!(
            r#"{{"id":"c","object":"text_completion","model":"m","choices":[{{"index":0,"text":"{name}","finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}}}"#
        )),
    }
}

fn good(name: &'static str) -> Fake {
    Fake::start(move |received| says(name, received)).expect("fake upstream starts")
}

/// Three upstreams, all heard of, and what is configured over them.
fn daemon(fakes: &[&Fake], more: &str) -> Proxy {
    let ids = ["a", "b", "c"];
    let tables: Vec<String> =
        ids.iter().zip(fakes).map(|(id, fake)| provider(id, "openai", &fake.url())).collect();
    let proxy = Proxy::start(&format!("{}{more}\n[state]\npath = \"none\"\n", tables.concat()));
    for (id, _) in ids.iter().zip(fakes) {
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
    }
    proxy
}

fn explained(proxy: &Proxy, question: Value) -> Value {
    let answer = proxy.post(EXPLAIN, &question.to_string());
    assert_eq!(answer.status, 200, "{question}: {}", answer.text());
    answer.json()
}

/// That what was foretold is what was then told of a request, wherever it was sure.
fn agrees(foretold: &Value, told: &Got, what: &str) {
    let prediction = &foretold["prediction"];
    assert_eq!(prediction["sure"], true, "{what}: {foretold}");
    assert_eq!(prediction["provider"].is_null(), told.status != 200, "{what}: {foretold}: {}", told.text());
    if told.status != 200 {
        assert!(!prediction["why"].as_str().unwrap().is_empty(), "{what}");
        return;
    }
    for (key, header) in
        [("provider", "x-demuxai-provider"), ("attempts", "x-demuxai-attempts"), ("route", "x-demuxai-route")]
    {
        assert_eq!(prediction[key].as_str(), told.header(header), "{what}, {header}: {foretold}");
    }
}

const GRAPH: &str = r#"
[groups.pair]
type = "failover"
members = ["a/m", "b/m"]
[groups.turns]
type = "round-robin"
members = [{ to = "a/m", weight = 2 }, "b/m", "c/m"]
[groups.lot]
type = "random"
members = ["a/m", "b/m", "c/m"]
[groups.nested]
type = "rotate"
members = ["gone/x", "turns", "pair"]
[groups.any]
type = "failover"
members = ["a", "b"]
[groups.kept]
type = "round-robin"
members = ["a/m", "b/m", "c/m"]
sticky = { by = "session" }
[routers.auto]
routes = [
    { endpoint = "embedding", to = "a/m" },
    { has = "tools", to = "turns" },
    { language = "python", to = "c/m" },
    { input_tokens = ">100", not = { header = { x-team = "ml-*" } }, to = "nested" },
    { path = "/v1/fim/*", to = "b/m" },
    { quota = { of = "b", state = "available" }, endpoint = "completion", to = "b/m" },
    { endpoint = "chat", to = "pair" },
]
[routers.outer]
routes = [{ regex = "inner", to = "auto" }, { model = "outer/m", to = "any" }, { to = "lot" }]
[providers.gone]
type = "openai"
url = "URL"
models = ["x"]
include_models = ["y", "x"]
"#;

#[test]
fn what_is_explained_is_what_a_request_then_does() {
    let fakes = ["a", "b", "c"].map(good);
    let [a, b, c] = &fakes;
    let proxy = daemon(&[a, b, c], &GRAPH.replace("URL", &nowhere()));
    eventually(
        "gone is known to be gone",
        || proxy.status_of("gone"),
        |status| status["health"] == "unreachable",
    );
    let long = "x ".repeat(400);
    let user = |text: &str| json!([{"role": "user", "content": text}]);
    let bodies = [
        (CHAT, json!({"messages": user("hi")})),
        (CHAT, json!({"messages": user("inner, please")})),
        (CHAT, json!({"messages": user("```python\nprint(1)\n```")})),
        (CHAT, json!({"messages": user(&long)})),
        (CHAT, json!({"messages": user("hi"), "tools": [{"type": "function", "function": {"name": "f"}}]})),
        (
            CHAT,
            json!({"messages": user("inner"), "tools": [{"type": "function", "function": {"name": "f"}}]}),
        ),
        ("/v1/completions", json!({"prompt": "inner"})),
        ("/v1/completions", json!({"prompt": "inner", "suffix": "x"})),
        ("/v1/embeddings", json!({"input": "inner"})),
    ];
    let models = [
        "auto", "outer", "outer/m", "pair", "turns", "lot", "nested", "any/m", "any", "kept", "a/m", "m",
        "a/none", "no",
    ];
    let mut compared = 0;
    for round in 0..3 {
        for model in models {
            for (path, body) in &bodies {
                let mut body = body.clone();
                body["model"] = Value::from(model);
                let endpoint = match *path {
                    "/v1/embeddings" => "embedding",
                    "/v1/completions" => "completion",
                    _ => "chat",
                };
                let headers = [("x-demuxai-session", format!("s{round}"))];
                let question = json!({"body": body.to_string(), "endpoint": endpoint, "headers": headers});
                let foretold = explained(&proxy, question);
                let session = format!("s{round}");
                let told = client::open(
                    proxy.address,
                    "POST",
                    path,
                    &[("x-demuxai-session", &session)],
                    body.to_string().as_bytes(),
                )
                .finish();
                let what = format!("round {round}, {model} by {path}");
                if foretold["prediction"]["sure"] == true {
                    agrees(&foretold, &told, &what);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 300, "{compared} of {} were sure", 3 * models.len() * bodies.len());
}

#[test]
fn asking_spends_no_turn_reserves_nothing_and_sends_nothing() {
    let fakes = ["a", "b", "c"].map(good);
    let [a, b, c] = &fakes;
    let proxy = daemon(
        &[a, b, c],
        "[groups.turns]\ntype = \"round-robin\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\n\
         [groups.lot]\ntype = \"random\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\n",
    );
    let received = || fakes.iter().map(|fake| fake.received().len()).sum::<usize>();
    for model in ["turns", "lot"] {
        for _ in 0..5 {
            let (before, stands) = (received(), proxy.status_of("a")["limits"].clone());
            let first = explained(&proxy, json!({"model": model}));
            for _ in 0..20 {
                let again = explained(&proxy, json!({"model": model}));
                assert_eq!(again["prediction"], first["prediction"], "{model}");
            }
            assert_eq!((received(), &proxy.status_of("a")["limits"]), (before, &stands));
            let told = proxy.post(CHAT, &format!(r#"{{"model":"{model}","messages":[]}}"#));
            agrees(&first, &told, model);
        }
    }
    assert_eq!(fakes.iter().map(asked).sum::<usize>(), 10);
}

#[test]
fn the_limit_that_binds_is_named_with_the_moment_it_frees() {
    let fakes = ["a", "b"].map(good);
    let [a, b] = &fakes;
    let limit = "limits = [{ requests = 2, per = \"day\" }]\n";
    let proxy = Proxy::start(&format!(
        "{}{limit}{}[groups.pair]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n[state]\npath = \"none\"\n",
        provider("a", "openai", &a.url()),
        provider("b", "openai", &b.url()),
    ));
    for id in ["a", "b"] {
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
    }
    let ask = || proxy.post(CHAT, r#"{"model":"pair","messages":[]}"#);
    let before = explained(&proxy, json!({"model": "pair"}));
    assert_eq!(before["prediction"]["attempts"], "a ok");
    let why = before["step"]["ways"][0]["step"]["why"].to_string();
    assert!(why.contains("2 of 2 requests per day left (known by configured)"), "{why}");
    agrees(&before, &ask(), "the first");
    agrees(&explained(&proxy, json!({"model": "pair"})), &ask(), "the second");
    let full = explained(&proxy, json!({"model": "pair"}));
    assert_eq!(full["prediction"]["provider"], "b");
    let a_way = &full["step"]["ways"][0];
    assert_eq!(
        (&a_way["turn"], &a_way["order"], &a_way["step"]["state"]),
        (&json!("asked"), &json!(2), &json!("later"))
    );
    let why = a_way["step"]["why"].to_string();
    assert!(why.contains("has used up its 2 requests per day") && why.contains("until 20"), "{why}");
    agrees(&full, &ask(), "the third");
    // Asked directly, a limit of the user's own holds as well.
    let alone = explained(&proxy, json!({"model": "a/m"}));
    assert_eq!(
        (&alone["prediction"]["provider"], &alone["prediction"]["error"]),
        (&Value::Null, &json!("quota_exhausted"))
    );
    assert_eq!(proxy.post(CHAT, r#"{"model":"a/m","messages":[]}"#).status, 429);
    // In two days it is free again.
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    let then = explained(&proxy, json!({"model": "pair", "at": later.to_string()}));
    assert_eq!(then["prediction"]["provider"], "a", "{then}");
}

#[test]
fn every_condition_says_whether_it_holds_and_what_was_seen() {
    let a = good("a");
    let proxy = daemon(
        &[&a],
        r#"
[keys.me]
key = "k"
[routers.r]
routes = [
    { endpoint = "fim", to = "a/m" },
    { language = ["rust", "go"], to = "a/m" },
    { input_tokens = ">9000", to = "a/m" },
    { time = { days = "mon-fri", time_zone = "Europe/Berlin" }, to = "a/m" },
    { client = "me", not = [{ listener = "test" }, { model = "x" }], to = "a/m" },
    { quota = { of = "a", left = "<5%" }, to = "a/m" },
    { to = "a/other" },
]
"#,
    );
    let body = json!({"model": "r", "messages": [{"role": "user", "content": "```python\nprint(1)\n```"}]});
    // A Saturday.
    let question = json!({"body": body.to_string(), "client": "me", "at": "2026-11-28T12:00:00Z"});
    let told = explained(&proxy, question);
    let ways = told["step"]["ways"].as_array().unwrap();
    let of = |way: usize, condition: usize| {
        let condition = &ways[way]["conditions"][condition];
        (condition["condition"].as_str().unwrap(), condition["holds"].as_bool(), condition["seen"].as_str())
    };
    assert_eq!(of(0, 0), ("endpoint: fim", Some(false), Some("the endpoint is chat")));
    assert_eq!(of(1, 0), ("language: rust or go", Some(false), Some("its language is python (by a fence)")));
    let (condition, holds, seen) = of(2, 0);
    assert_eq!((condition, holds), ("input_tokens: >9000", Some(false)));
    assert!(seen.unwrap().starts_with("its prompt is estimated at "), "{seen:?}");
    assert_eq!(
        of(3, 0),
        (
            "time: days mon-fri, time_zone Europe/Berlin",
            Some(false),
            Some("it is sat 13:00 in Europe/Berlin")
        )
    );
    assert_eq!(of(4, 0), ("client: me", Some(true), Some("the client is `me`")));
    assert_eq!(of(4, 1), ("not (listener: test)", Some(false), Some("it came in at `test`")));
    assert_eq!(of(4, 2), ("not (model: x)", Some(true), Some("`r` is asked for")));
    assert_eq!(of(5, 0), ("quota: of a, left <5%", Some(false), Some("`a` is available, 100 % left")));
    assert_eq!((&ways[6]["turn"], &ways[6]["why"]), (&json!("asked"), &json!("takes all that comes to it")));
    assert_eq!(told["prediction"]["route"], "r 7");
    assert!(!told.to_string().contains("print"), "no word of the prompt: {told}");
}

#[test]
fn a_question_that_makes_no_sense_is_told_what_does() {
    let a = good("a");
    let proxy = daemon(&[&a], "[keys.me]\nkey = \"k\"\nmodels = [\"a/other\"]\n");
    for (question, said) in [
        ("{", "the question cannot be read (line 1, column 1)"),
        (r#"{"model":"a/m","modell":1}"#, "the question cannot be read"),
        (
            r#"{"model":"a/m","endpoint":"images"}"#,
            "`images` is no endpoint (one of: chat, completion, fim, embedding)",
        ),
        (r#"{"model":"a/m","client":"you"}"#, "there is no client `you` (known: me)"),
        (r#"{"model":"a/m","listener":"nope"}"#, "there is no listener `nope` (known: test)"),
        (r#"{"model":"a/m","at":"soon"}"#, "`soon` is no moment"),
        (r#"{"model":"a/m","headers":[["a b","c"]]}"#, "are no header"),
        (r#"{"model":"a/m","body":"[1]"}"#, "must be a JSON object"),
        ("{}", "`model`"),
    ] {
        let answer = proxy.post(EXPLAIN, question);
        assert_eq!(answer.status, 400, "{question}: {}", answer.text());
        assert!(answer.error().contains(said), "{question}: {}", answer.error());
    }
    let forbidden = explained(&proxy, json!({"model": "a/m", "client": "me"}));
    assert_eq!(forbidden["prediction"]["error"], "forbidden");
    let unknown = explained(&proxy, json!({"model": "nothing"}));
    assert_eq!(
        (&unknown["prediction"]["error"], &unknown["step"]),
        (&json!("model_not_found"), &Value::Null)
    );
    let page =
        client::open(proxy.address, "POST", EXPLAIN, &[("origin", "http://localhost:3000")], b"{}").finish();
    assert_eq!(page.status, 403);
    assert_eq!(proxy.get(EXPLAIN).status, 405);
}

#[cfg(unix)]
#[test]
fn the_program_asks_the_daemon_where_one_answers_and_says_by_what_it_knows() {
    let a = good("a");
    let home = Home::new();
    let config = |address: &str| {
        let text = format!(
            "[listeners.local]\naddress = \"{address}\"\n{}[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\n",
            provider("a", "openai", &a.url())
        );
        home.write("demuxai.toml", &text).display().to_string()
    };
    let file = config("127.0.0.1:0");
    let body = home.write("body.json", r#"{"messages":[{"role":"user","content":"secret words"}]}"#);
    let program = home.start(&["--config", &file]);
    let url = format!("http://{}", program.address());
    let up = || home.run(&["explain", "-c", &file, "--url", &url, "--model", "g"]).stdout;
    let said = eventually("the daemon has heard of `a`", up, |said| said.contains("`m` is in its list"));
    assert!(said.contains(&format!("by the running demuxai at {url}")), "{said}");
    assert!(said.contains("=> `a` answers with `m`\n   x-demuxai-attempts: a ok"), "{said}");
    let running = config(&program.address().to_string());
    let found = home.run(&["explain", "-c", &running, "-m", "g", "--body", body.to_str().unwrap(), "--json"]);
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert!(found["by"].as_str().unwrap().starts_with("the running demuxai"), "{found}");
    let offline = home.run(&["explain", "-c", &running, "-m", "g", "--offline"]);
    assert_eq!(offline.code, 0, "{}", offline.stderr);
    assert!(offline.stdout.contains("by the files"), "{}", offline.stdout);
    assert!(
        offline.stdout.contains("no list of its models is known: `m` is sent as it is"),
        "{}",
        offline.stdout
    );
    let refused = home.run(&["explain", "-c", &running, "-m", "g", "--header", "nonsense"]);
    assert_eq!((refused.code, refused.stderr.trim()), (2, "`nonsense` is no header: write NAME:VALUE"));
    drop(program);
    let gone = home.run(&["explain", "-c", &running, "-m", "g"]);
    assert!(
        gone.stdout.contains("; no demuxai answers at http://127.0.0.1:"),
        "{}{}",
        gone.stdout,
        gone.stderr
    );
    let insisted = home.run(&["explain", "-c", &running, "-m", "g", "--url", &url]);
    assert_eq!(insisted.code, 1);
    assert!(insisted.stderr.contains("no demuxai answers"), "{}", insisted.stderr);
    assert_eq!(home.run(&["explain", "-c", &running]).code, 2, "it needs a model or a body");
}

#[cfg(unix)]
#[test]
fn without_a_daemon_what_the_last_run_counted_is_read_and_not_touched() {
    let a = good("a");
    let home = Home::new();
    let text = format!(
        "[listeners.local]\naddress = \"127.0.0.1:0\"\n{}limits = [{{ requests = 1, per = \"day\" }}]\n\
         [state]\npath = \"state.db\"\n",
        provider("a", "openai", &a.url())
    );
    let file = home.write("demuxai.toml", &text).display().to_string();
    let program = home.start(&["--config", &file]);
    program.until_ready();
    let chat = r#"{"model":"a/m","messages":[]}"#;
    let answered = || client::post(program.address(), CHAT, chat).status;
    assert_eq!(answered(), 200);
    assert_eq!(answered(), 429);
    program.signal("TERM");
    assert_eq!(program.ended().code, 0);
    let state = home.path().join("state.db");
    let before = std::fs::read(&state).unwrap();
    let told = home.run(&["explain", "-c", &file, "-m", "a/m", "--offline"]);
    assert!(
        told.stdout.contains("by the files and the state of the last run"),
        "{}{}",
        told.stdout,
        told.stderr
    );
    assert!(told.stdout.contains("=> fails: quota_exhausted"), "{}", told.stdout);
    assert!(told.stdout.contains("has used up its 1 requests per day"), "{}", told.stdout);
    assert!(told.stdout.contains("\n   the client gets 429, Retry-After "), "{}", told.stdout);
    assert!(told.stdout.contains(" s; not before 20"), "{}", told.stdout);
    assert!(told.stdout.contains("x-demuxai-attempts: a quota_exhausted"), "{}", told.stdout);
    assert_eq!(std::fs::read(&state).unwrap(), before, "it is only read");
}
