//! What a split does with a decision: who gets the call, under which model, and what it says where nobody does.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::arrival::Arrival;
use super::super::condition::Names;
use super::super::virtual_model::Section;
use super::super::{Guesses, Round};
use super::*;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, Endpoint, read};

/// A backend that takes note of what it is asked, stands as it is told, and answers nothing.
struct Stub {
    id: &'static str,
    asked: Mutex<Vec<String>>,
    left: f64,
    availability: Availability,
    /// Tokens of any prompt, by model.
    tokens: &'static [(&'static str, u64)],
}

impl Stub {
    fn new(id: &'static str) -> Arc<Stub> {
        Stub::standing(id, 1.0, Availability::Now)
    }

    fn standing(id: &'static str, left: f64, availability: Availability) -> Arc<Stub> {
        Arc::new(Stub { id, asked: Mutex::default(), left, availability, tokens: &[] })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Backend for Stub {
    fn id(&self) -> &str {
        self.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        Ok(Outlook {
            model: Arc::clone(&call.model),
            availability: self.availability,
            share_left: self.left,
            next_reset: None,
            in_flight: 0,
        })
    }

    fn input_tokens(&self, model: &str, _request: &Request) -> Option<u64> {
        self.tokens.iter().find(|(known, _)| *known == model).map(|(_, tokens)| *tokens)
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        Metrics::new().unwrap().meters(self.id, model)
    }

    fn known_as(&self, model: Arc<str>) -> BoxFuture<'static, Result<Arc<str>, ProxyError>> {
        ready(match &*model {
            "gone" => Err(ProxyError::new(ErrorKind::ModelNotFound, "no such model")),
            model => Ok(Arc::from(format!("known-{model}"))),
        })
        .boxed()
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let set: Vec<&str> = call.edits.iter().map(String::as_str).collect();
        let body = String::from_utf8_lossy(&call.request.body).into_owned();
        let seen = if set.is_empty() { String::new() } else { format!(" {} {body}", set.join(" ")) };
        self.asked.lock().unwrap().push(format!("{}{seen}", call.model));
        ready(Err(ProxyError::new(ErrorKind::Internal, "was asked"))).boxed()
    }
}

fn route(to: &Arc<Stub>, model: Option<&str>, conditions: Value) -> Route {
    let Value::Object(written) = conditions else { panic!("a table") };
    let names = Names { listeners: ["l"].into(), clients: ["me"].into(), backends: ["a", "b"].into() };
    Route {
        label: Arc::from(model.map_or(to.id.to_owned(), |model| format!("{}/{model}", to.id))),
        backend: Arc::clone(to) as Arc<dyn Backend>,
        model: model.map(Arc::from),
        renames: written.contains_key("model"),
        set: Vec::new(),
        needs_model: model.is_none(),
        conditions: Arc::new(
            Conditions::read(&written, &names).unwrap_or_else(|faults| panic!("{faults:?}")),
        ),
    }
}

/// A Saturday at noon.
fn noon() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

fn split(routes: Vec<Route>, watched: Vec<(&str, &Arc<Stub>)>) -> SplitBackend {
    let watched = watched
        .into_iter()
        .map(|(name, stub)| (name.to_owned(), Arc::clone(stub) as Arc<dyn Backend>, Arc::from("")));
    SplitBackend::new(Split {
        about: About {
            id: "auto".into(),
            section: Section::Router,
            kind: "router",
            name: None,
            description: None,
            hidden: false,
        },
        routes,
        watched: watched.collect(),
        clock: noon,
        metrics: Arc::new(Metrics::new().unwrap()),
    })
}

fn call_at(endpoint: &Endpoint, model: &str, fields: &str) -> Call {
    let body = Bytes::from(format!(r#"{{"model":"auto",{fields}}}"#));
    let arrival = Arrival::new("l".into(), endpoint.path, Vec::new());
    Call { arrival: Some(Arc::new(arrival)), ..Call::bare(read(endpoint, body).unwrap(), model) }
}

fn call(model: &str) -> Call {
    call_at(&CHAT_COMPLETIONS, model, r#""messages":[]"#)
}

async fn error_of(split: &SplitBackend, call: Call) -> ProxyError {
    match split.forward(call).await {
        Err(error) => error,
        Ok(_) => panic!("no stub answers"),
    }
}

#[actix_rt::test]
async fn the_first_match_gets_the_call_and_no_other_whatever_becomes_of_it() {
    let (a, b) = (Stub::new("a"), Stub::new("b"));
    let split = split(
        vec![
            route(&b, Some("x"), json!({ "endpoint": "fim" })),
            route(&a, Some("y"), json!({ "time": { "days": "sat" } })),
            route(&b, Some("z"), json!({})),
        ],
        vec![],
    );
    let chat = call("");
    let arrival = chat.arrival.clone().unwrap();
    assert_eq!(error_of(&split, chat).await.message, "was asked");
    assert_eq!((a.asked(), b.asked()), (vec!["known-y".to_owned()], vec![]));
    assert_eq!(arrival.routes().as_deref(), Some("auto 2"));
}

#[actix_rt::test]
async fn inside_of_a_group_the_model_is_left_to_the_group_s_own_rules() {
    let a = Stub::new("a");
    let split = split(vec![route(&a, Some("gone"), json!({}))], vec![]);
    let round = Some(Round { guesses: Guesses::Hold, waiter: None });
    error_of(&split, Call { round, ..call("") }).await;
    assert_eq!(a.asked(), ["gone"]);
    assert_eq!(
        error_of(&split, call("")).await.kind,
        ErrorKind::ModelNotFound,
        "alone it is looked for first"
    );
    assert_eq!(a.asked(), ["gone"], "and not asked where it is not");
}

#[actix_rt::test]
async fn without_a_match_a_group_may_go_elsewhere_and_a_client_is_told_the_remedy() {
    let a = Stub::new("a");
    let split = split(vec![route(&a, Some("x"), json!({ "endpoint": "fim" }))], vec![]);
    let error = error_of(&split, call("")).await;
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Unsupported, Some("no_route_matches")));
    assert!(error.message.contains("router `auto`") && error.message.contains("[routers.auto]"), "{error}");
    assert_eq!(split.outlook(&call("")).unwrap_err(), error.message);
    let fim = call_at(&COMPLETIONS, "", r#""prompt":"a","suffix":"b""#);
    assert_eq!(
        split.outlook(&fim).map(|outlook| outlook.model),
        Ok(Arc::from("x")),
        "it stands as its target does"
    );
}

#[actix_rt::test]
async fn a_route_with_a_model_of_its_own_stands_for_others_only_where_it_says_so() {
    let a = Stub::new("a");
    let split = split(
        vec![
            route(&a, Some("own"), json!({ "model": "gpt-*" })),
            route(&a, Some("own"), json!({ "client": "me" })),
            route(&a, None, json!({})),
        ],
        vec![],
    );
    error_of(&split, call("gpt-4o")).await;
    let mine = |model| Call { client: Some("me".into()), ..call(model) };
    assert!(
        error_of(&split, mine("other")).await.message.contains("route 2 of router `auto` goes to `a/own`")
    );
    error_of(&split, mine("own")).await;
    error_of(&split, call("other")).await;
    assert!(error_of(&split, call("")).await.message.contains("none was named; ask for `auto/MODEL`"));
    assert_eq!(a.asked(), ["known-own", "known-own", "known-other"]);
}

#[actix_rt::test]
async fn the_standing_of_backends_is_asked_when_a_condition_names_them() {
    let a = Stub::standing("a", 0.1, Availability::At(None));
    let b = Stub::new("b");
    let split = split(
        vec![
            route(&a, Some("x"), json!({ "quota": { "of": "a", "state": "available" } })),
            route(&b, Some("y"), json!({ "quota": { "of": "a", "left": "<20%", "state": "exhausted" } })),
        ],
        vec![("a", &a)],
    );
    error_of(&split, call("")).await;
    assert_eq!((a.asked().len(), b.asked()), (0, vec!["known-y".to_owned()]));
}

#[actix_rt::test]
async fn a_route_sets_fields_of_the_request_for_its_own_target_alone() {
    let (a, b) = (Stub::new("a"), Stub::new("b"));
    let mut cool = route(&a, Some("x"), json!({ "model": "cool" }));
    cool.set = vec![("temperature".to_owned(), Bytes::from_static(b"0.1"))];
    let split = split(vec![cool, route(&b, Some("y"), json!({}))], vec![]);
    let warm = |model| call_at(&CHAT_COMPLETIONS, model, r#""messages":[],"temperature":1"#);
    error_of(&split, warm("cool")).await;
    error_of(&split, warm("y")).await;
    let seen = r#"known-x set:temperature {"model":"auto","messages":[],"temperature":0.1}"#;
    assert_eq!((a.asked(), b.asked()), (vec![seen.to_owned()], vec!["known-y".to_owned()]));
}

#[actix_rt::test]
async fn a_prompt_is_as_long_as_the_target_that_counts_most_says() {
    let knows = |id, tokens| Arc::new(Stub { tokens, ..Arc::into_inner(Stub::new(id)).unwrap() });
    let (a, b, c) = (knows("a", &[("x", 90)]), knows("b", &[("y", 110), ("z", 500)]), Stub::new("c"));
    let ranges = |conditions: [&str; 2]| {
        let [low, high] = conditions;
        split(
            vec![
                route(&a, Some("x"), json!({ "input_tokens": low })),
                route(&b, Some("y"), json!({ "input_tokens": high })),
                route(&c, Some("w"), json!({})),
            ],
            vec![],
        )
    };
    let split = ranges(["<100", ">=100"]);
    error_of(&split, call("")).await;
    assert_eq!((a.asked().len(), b.asked().len(), c.asked().len()), (0, 1, 0), "one number for all routes");
    assert_eq!(split.input_tokens("", &call("").request), Some(110), "as a part of another router");
    assert_eq!(split.input_tokens("x", &call("").request), Some(90), "of those that answer for it");
    let split = ranges(["<=109", "=110"]);
    error_of(&split, call("")).await;
    assert_eq!((a.asked().len(), b.asked().len()), (0, 2));
}
