//! What can be said of conditions without a request: what is certain of an endpoint, and which cover others.

use super::*;

#[test]
fn what_is_certain_of_an_endpoint_is_known_through_not_and_lists() {
    let certain = |written: Value| {
        let conditions = conditions(written);
        [Task::Chat, Task::Completion, Task::Fim, Task::Embedding].map(|task| conditions.certainly(task))
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(certain(json!({})), [yes; 4]);
    assert_eq!(certain(json!({ "endpoint": ["chat", "fim"] })), [yes, no, yes, no]);
    assert_eq!(certain(json!({ "not": { "endpoint": "chat" } })), [no, yes, yes, yes]);
    assert_eq!(
        certain(json!({ "not": [{ "endpoint": "chat" }, { "endpoint": "fim" }] })),
        [no, yes, no, yes]
    );
    assert_eq!(certain(json!({ "endpoint": "chat", "model": "a" })), [None, no, no, no]);
    assert_eq!(certain(json!({ "not": { "endpoint": "chat", "model": "a" } })), [None, yes, yes, yes]);
    assert_eq!(certain(json!({ "has": "tools" })), [None, None, None, no]);
    assert_eq!(certain(json!({ "has": ["tools", "images"] })), [None, None, None, no]);
    assert_eq!(certain(json!({ "has": "images", "endpoint": "fim" })), [no; 4]);
    assert_eq!(certain(json!({ "path": "/v1/completions" })), [no, None, None, no]);
}

#[test]
fn conditions_cover_those_that_say_more_and_no_others() {
    let covered = |wide: Value, narrow: Value| covers(&table(wide), &table(narrow));
    assert!(covered(json!({ "to": "a" }), json!({ "to": "b", "endpoint": "chat" })));
    assert!(covered(json!({ "endpoint": ["chat", "fim"] }), json!({ "endpoint": "fim", "model": "x" })));
    assert!(!covered(json!({ "endpoint": "fim" }), json!({ "endpoint": ["chat", "fim"] })));
    assert!(!covered(json!({ "endpoint": "fim", "model": "x" }), json!({ "endpoint": "fim" })));
    for (wide, narrow, expected) in [
        ("gpt-*", "gpt-4*", true),
        ("gpt-4*", "gpt-*", false),
        ("gpt-?o", "gpt-4o", true),
        ("gpt-?o", "gpt-4*", false),
        ("*", "[ab]*", true),
        ("a*c", "a*", false),
    ] {
        assert_eq!(
            covered(json!({ "model": wide }), json!({ "model": [narrow] })),
            expected,
            "{wide} {narrow}"
        );
    }
    let tokens = |wide, narrow| covered(json!({ "input_tokens": wide }), json!({ "input_tokens": narrow }));
    assert!(tokens(json!(">10"), json!([">100", "20-30"])) && !tokens(json!(">100"), json!(">10")));
    assert!(!covered(json!({ "not": { "has": "tools" } }), json!({})));
    assert!(covered(
        json!({ "not": { "has": "tools" } }),
        json!({ "not": [{ "has": "tools" }, { "has": "images" }] })
    ));
    assert!(!covered(
        json!({ "not": [{ "has": "tools" }, { "has": "images" }] }),
        json!({ "not": { "has": "tools" } })
    ));
}

#[test]
fn a_condition_covers_one_that_lets_no_more_through() {
    for (wide, narrow) in [
        (json!({ "input_tokens": ">1000" }), json!({ "input_tokens": ">8000" })),
        (json!({ "input_tokens": ["<10", ">=1_000"] }), json!({ "input_tokens": ["1000-2000", "<5"] })),
        (json!({ "model": "gpt-*" }), json!({ "model": ["gpt-4o", "gpt-4*"] })),
        (json!({ "path": "/v1/*" }), json!({ "path": "/v1/embeddings" })),
        (json!({ "header": { "x-team": "ml-*" } }), json!({ "header": { "x-team": "ml-1", "x-more": "a" } })),
        (
            json!({ "time": { "days": "mon-fri" } }),
            json!({ "time": { "days": ["mon", "fri"], "from": "09:00" } }),
        ),
        (
            json!({ "time": { "from": "22:00", "to": "06:00" } }),
            json!({ "time": { "from": "23:00", "to": "05:00" } }),
        ),
        (
            json!({ "quota": { "of": "a", "left": "<20%" } }),
            json!({ "quota": { "of": "a", "left": "<=0.1", "state": "available" } }),
        ),
        (
            json!({ "not": { "input_tokens": ">8000" } }),
            json!({ "endpoint": "chat", "not": [{ "has": "tools" }, { "input_tokens": ">1000" }] }),
        ),
    ] {
        assert!(covers(&table(wide.clone()), &table(narrow.clone())), "{wide} {narrow}");
        assert!(!covers(&table(narrow.clone()), &table(wide.clone())), "{narrow} {wide}");
    }
    for (one, other) in [
        (json!({ "language": "python" }), json!({ "language": "py" })),
        (json!({ "natural_language": "de" }), json!({ "natural_language": "DE" })),
    ] {
        assert!(covers(&table(one.clone()), &table(other.clone())) && covers(&table(other), &table(one)));
    }
    for (wide, narrow) in [
        (json!({ "time": { "days": "mon" } }), json!({ "time": { "from": "09:00" } })),
        (json!({ "time": { "from": "08:00" } }), json!({ "time": { "from": "22:00", "to": "06:00" } })),
        (
            json!({ "time": { "from": "08:00" } }),
            json!({ "time": { "from": "09:00", "time_zone": "Europe/Berlin" } }),
        ),
        (
            json!({ "quota": { "of": "a", "left": "<20%" } }),
            json!({ "quota": { "of": "a", "state": "exhausted" } }),
        ),
        (
            json!({ "quota": { "of": "a", "left": "<20%" } }),
            json!({ "quota": { "of": "b", "left": "<10%" } }),
        ),
        (json!({ "regex": "a" }), json!({ "regex": "aa" })),
    ] {
        assert!(!covers(&table(wide.clone()), &table(narrow.clone())), "{wide} {narrow}");
    }
}

mod naive {
    //! The semantics once more, as plainly as can be: on words that a request has or has not.

    use proptest::prelude::*;

    use super::*;

    /// A table of conditions: for each kind the words of which one is enough, and what must not hold.
    #[derive(Debug, Clone)]
    struct Written {
        endpoint: Vec<&'static str>,
        has: Vec<&'static str>,
        client: Vec<&'static str>,
        not: Vec<Written>,
    }

    const ENDPOINT_WORDS: [&str; 4] = ["chat", "completion", "fim", "embedding"];
    const HAS_WORDS: [&str; 3] = ["tools", "response_format", "reasoning"];
    const CLIENTS: [&str; 2] = ["ide", "phone"];

    fn some(words: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop_oneof![Just(Vec::new()), proptest::sample::subsequence(words, 0..=words.len())]
    }

    fn written() -> impl Strategy<Value = Written> {
        let flat = || {
            (some(&ENDPOINT_WORDS), some(&HAS_WORDS), some(&CLIENTS))
                .prop_map(|(endpoint, has, client)| Written { endpoint, has, client, not: Vec::new() })
        };
        (flat(), proptest::collection::vec(flat(), 0..3)).prop_map(|(mut all, not)| {
            all.not = not.into_iter().filter(|inner| !inner.is_empty()).collect();
            all
        })
    }

    impl Written {
        fn is_empty(&self) -> bool {
            self.endpoint.is_empty() && self.has.is_empty() && self.client.is_empty()
        }

        fn json(&self) -> Map<String, Value> {
            let mut table = Map::new();
            for (key, words) in [("endpoint", &self.endpoint), ("has", &self.has), ("client", &self.client)] {
                match words.as_slice() {
                    [] => {}
                    // One alone can be written without a list.
                    [one] => drop(table.insert(key.to_owned(), json!(one))),
                    all => drop(table.insert(key.to_owned(), json!(all))),
                }
            }
            let not: Vec<Value> = self.not.iter().map(|inner| Value::Object(inner.json())).collect();
            match not.as_slice() {
                [] => {}
                [one] => drop(table.insert("not".to_owned(), one.clone())),
                all => drop(table.insert("not".to_owned(), json!(all))),
            }
            table
        }

        fn holds(&self, endpoint: &str, has: &[&str], client: Option<&str>) -> bool {
            let mut all = true;
            if !self.endpoint.is_empty() {
                all = all && self.endpoint.contains(&endpoint);
            }
            if !self.has.is_empty() {
                all = all && self.has.iter().any(|word| has.contains(word));
            }
            if !self.client.is_empty() {
                all = all && client.is_some_and(|client| self.client.contains(&client));
            }
            for inner in &self.not {
                all = all && !inner.holds(endpoint, has, client);
            }
            all
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_first_route_that_matches_is_the_naive_model_s(
            routes in proptest::collection::vec(written(), 1..6),
            endpoint in 0_usize..4,
            has in proptest::sample::subsequence(&HAS_WORDS[..], 0..=3),
            client in proptest::option::of(proptest::sample::select(&CLIENTS[..])),
        ) {
            let word = ENDPOINT_WORDS[endpoint];
            // No embedding has any of them.
            let has = if word == "embedding" { Vec::new() } else { has };
            let mut more = String::new();
            for field in &has {
                more.push_str(match *field {
                    "tools" => r#","tools":[{}]"#,
                    "response_format" => r#","response_format":{"type":"json_object"}"#,
                    _ => r#","reasoning_effort":"low""#,
                });
            }
            let mut scene = match word {
                "chat" => chat(&more),
                "completion" => scene(&COMPLETIONS, &format!(r#""prompt":"a"{more}"#)),
                "fim" => scene(&FIM_COMPLETIONS, &format!(r#""prompt":"a"{more}"#)),
                _ => scene(&EMBEDDINGS, &format!(r#""input":"a"{more}"#)),
            };
            scene.client = client;
            let found = routes.iter().position(|route| scene.holds(Value::Object(route.json())));
            let expected = routes.iter().position(|route| route.holds(word, &has, client));
            prop_assert_eq!(found, expected);
            // What is said to be certain, and to be covered, is.
            let task = scene.request.task;
            for (index, route) in routes.iter().enumerate() {
                let holds = route.holds(word, &has, client);
                let certain = conditions(Value::Object(route.json())).certainly(task);
                prop_assert!(certain.is_none_or(|certain| certain == holds), "{:?}", route);
                for wider in routes.iter().take(index).filter(|wider| covers(&wider.json(), &route.json())) {
                    prop_assert!(!holds || wider.holds(word, &has, client), "{:?} covers {:?}", wider, route);
                }
            }
        }
    }
}
