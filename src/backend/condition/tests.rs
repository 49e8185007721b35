//! Each condition's table of cases, and what holds for all of them together.

mod covering;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::*;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, FIM_COMPLETIONS, read};

/// A request and all that conditions can know besides.
struct Scene {
    request: Request,
    model: &'static str,
    client: Option<&'static str>,
    arrival: Arrival,
    now: Timestamp,
    standing: Option<Standing>,
    /// What was learned of its length.
    tokens: Option<u64>,
}

fn chat(more: &str) -> Scene {
    scene(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"hi"}}]{more}"#))
}

fn scene(endpoint: &Endpoint, fields: &str) -> Scene {
    asked("auto", endpoint, fields)
}

fn asked(model: &str, endpoint: &Endpoint, fields: &str) -> Scene {
    let body = Bytes::from(format!(r#"{{"model":"{model}",{fields}}}"#));
    Scene {
        request: read(endpoint, body).unwrap(),
        model: "",
        client: None,
        arrival: Arrival::new("local".into(), &format!("/v1/{}", endpoint.path), Vec::new()),
        now: at("2026-11-28T12:00:00Z"),
        standing: None,
        tokens: None,
    }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn names() -> Names<'static> {
    Names {
        listeners: ["local", "lan"].into(),
        clients: ["ide", "phone"].into(),
        backends: ["mistral", "coder"].into(),
    }
}

fn table(value: Value) -> Map<String, Value> {
    let Value::Object(table) = value else { panic!("a table: {value}") };
    table
}

fn conditions(written: Value) -> Conditions {
    let shown = written.to_string();
    Conditions::read(&table(written), &names()).unwrap_or_else(|faults| panic!("{shown}: {faults:?}"))
}

fn faults(written: Value) -> Vec<(String, String)> {
    let shown = written.to_string();
    let Err(faults) = Conditions::read(&table(written), &names()) else { panic!("is read: {shown}") };
    faults.into_iter().map(|fault| (fault.path.join("."), fault.message)).collect()
}

impl Scene {
    fn holds(&self, written: Value) -> bool {
        let standing = |_: &str| self.standing;
        conditions(written).hold(&Facts {
            request: &self.request,
            model: self.model,
            client: self.client,
            arrival: Some(&self.arrival),
            now: self.now,
            standing: &standing,
            input_tokens: &|| self.tokens,
            content: Content::default(),
        })
    }
}

#[test]
fn an_endpoint_is_told_by_what_is_wanted_not_by_the_path() {
    let scenes = [
        ("chat", chat("")),
        ("completion", scene(&COMPLETIONS, r#""prompt":"a""#)),
        ("fim", scene(&COMPLETIONS, r#""prompt":"a","suffix":"b""#)),
        ("fim", scene(&FIM_COMPLETIONS, r#""prompt":"a""#)),
        ("embedding", scene(&EMBEDDINGS, r#""input":"a""#)),
    ];
    for (own, scene) in &scenes {
        for word in ["chat", "completion", "fim", "embedding"] {
            assert_eq!(scene.holds(json!({ "endpoint": word })), word == *own, "{word} for {own}");
        }
    }
}

#[test]
fn a_model_is_matched_as_it_was_written_and_behind_the_router_s_id() {
    let mut scene = asked("auto/openai/GPT-4o", &CHAT_COMPLETIONS, r#""messages":[]"#);
    scene.model = "openai/GPT-4o";
    for (glob, holds) in [
        ("auto/*", true),
        ("openai/*", true),
        ("*GPT-4o", true),
        ("GPT-4o", false),
        ("openai/gpt-4o", false),
        ("{x,openai}/GPT-4?", true),
    ] {
        assert_eq!(scene.holds(json!({ "model": glob })), holds, "{glob}");
    }
    let bare = chat("");
    assert!(bare.holds(json!({ "model": "auto" })));
    assert!(!bare.holds(json!({ "model": "?*to/*" })), "no model is none that a glob could match");
}

#[test]
fn what_a_request_has_is_told_from_its_fields_and_parts() {
    let part = |kind: &str| {
        scene(
            &CHAT_COMPLETIONS,
            &format!(r#""messages":[{{"role":"user","content":[{{"type":"{kind}"}}]}}]"#),
        )
    };
    let scenes = [
        ("tools", chat(r#","tools":[{"type":"function"}]"#)),
        ("tools", scene(&CHAT_COMPLETIONS, r#""messages":[{"role":"tool","content":"x"}]"#)),
        ("images", part("image_url")),
        ("audio", part("input_audio")),
        ("audio", chat(r#","modalities":["text","audio"]"#)),
        ("response_format", chat(r#","response_format":{"type":"json_object"}"#)),
        ("reasoning", chat(r#","reasoning_effort":"high""#)),
        ("nothing", chat(r#","tools":[],"response_format":{"type":"text"},"reasoning_effort":"none""#)),
        ("nothing", part("file")),
    ];
    for (own, scene) in &scenes {
        for word in ["tools", "images", "audio", "response_format", "reasoning"] {
            assert_eq!(scene.holds(json!({ "has": word })), word == *own, "{word} for {own}");
        }
    }
}

#[test]
fn the_length_of_a_prompt_is_estimated_without_its_images() {
    let text = "x".repeat(398);
    let long = scene(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#));
    for (comparison, holds) in
        [(">99", true), (">100", false), (">=100", true), ("<100", false), ("50-1_00", true), ("=100", true)]
    {
        assert_eq!(long.holds(json!({ "input_tokens": comparison })), holds, "{comparison}");
    }
    let mut known = scene(&COMPLETIONS, &format!(r#""prompt":"{text}""#));
    known.tokens = Some(250);
    assert!(known.holds(json!({ "input_tokens": "=250" })), "what was learned is known better");
    let data = "A".repeat(100_000);
    let image = scene(
        &CHAT_COMPLETIONS,
        &format!(
            r#""messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{data}"}}}}]}}]"#
        ),
    );
    assert!(image.holds(json!({ "input_tokens": "<10" })));
    let input = scene(&EMBEDDINGS, &format!(r#""input":"{text}""#));
    assert!(input.holds(json!({ "input_tokens": "=100" })), "an input is a prompt, too");
}

#[test]
fn where_and_whose_a_request_is_are_names() {
    let mut scene = chat("");
    assert!(scene.holds(json!({ "listener": "local" })) && !scene.holds(json!({ "listener": "lan" })));
    assert!(!scene.holds(json!({ "client": "ide" })), "nobody is no client");
    scene.client = Some("ide");
    assert!(scene.holds(json!({ "client": ["phone", "ide"] })) && !scene.holds(json!({ "client": "phone" })));
}

#[test]
fn headers_are_all_there_with_any_of_their_values() {
    let mut scene = chat("");
    scene.arrival.headers = vec![
        (HeaderName::from_static("x-team"), HeaderValue::from_static(" ml-vision ")),
        (HeaderName::from_static("x-tag"), HeaderValue::from_static("a")),
        (HeaderName::from_static("x-tag"), HeaderValue::from_static("b")),
        (HeaderName::from_static("x-odd"), HeaderValue::from_bytes(&[0xff]).unwrap()),
    ];
    for (header, holds) in [
        (json!({ "X-Team": "ml-*" }), true),
        (json!({ "x-team": "ML-*" }), false),
        (json!({ "x-team": ["web", "ml-vision"] }), true),
        (json!({ "x-tag": "b" }), true),
        (json!({ "x-tag": "c" }), false),
        (json!({ "x-team": "*", "x-tag": "a" }), true),
        (json!({ "x-team": "*", "x-none": "*" }), false),
        (json!([{ "x-none": "*" }, { "x-tag": "a" }]), true),
        (json!({ "x-odd": "*" }), true),
        (json!({ "x-odd": "a" }), false),
    ] {
        assert_eq!(scene.holds(json!({ "header": header })), holds, "{header}");
    }
}

#[test]
fn a_path_is_the_request_s_own() {
    let mut scene = scene(&COMPLETIONS, r#""prompt":"a""#);
    for (glob, holds) in
        [("/v1/*", true), ("*completions", true), ("/completions", false), ("/v1/chat/*", false)]
    {
        assert_eq!(scene.holds(json!({ "path": glob })), holds, "{glob}");
    }
    scene.arrival = Arrival::new("local".into(), "//completions/", Vec::new());
    assert!(scene.holds(json!({ "path": "/completions" })));
}

#[test]
fn times_begin_and_end_where_they_are_in_their_zone() {
    let mut scene = chat("");
    // 2026-11-28 is a Saturday; Berlin is an hour ahead in winter, two in summer.
    let cases = [
        (json!({ "days": "sat" }), "2026-11-28T00:00:00Z", true),
        (json!({ "days": "sat" }), "2026-11-27T23:59:59Z", false),
        (json!({ "days": "sat", "time_zone": "Europe/Berlin" }), "2026-11-27T23:00:00Z", true),
        (json!({ "days": ["mon-wed", "Fri-Sun"] }), "2026-11-26T12:00:00Z", false),
        (json!({ "days": "fri-mon" }), "2026-11-30T12:00:00Z", true),
        (json!({ "days": "fri-mon" }), "2026-12-01T12:00:00Z", false),
        (json!({ "from": "09:00", "to": "17:30" }), "2026-11-28T09:00:00Z", true),
        (json!({ "from": "09:00", "to": "17:30" }), "2026-11-28T17:29:59Z", true),
        (json!({ "from": "09:00", "to": "17:30" }), "2026-11-28T17:30:00Z", false),
        (json!({ "from": "9:00", "time_zone": "Europe/Berlin" }), "2026-07-01T07:00:00Z", true),
        (json!({ "from": "9:00", "time_zone": "Europe/Berlin" }), "2026-12-01T07:59:59Z", false),
        (json!({ "to": "24:00", "from": "23:59" }), "2026-11-28T23:59:59Z", true),
        (json!({ "from": "22:00", "to": "06:00" }), "2026-11-28T05:59:00Z", true),
        (json!({ "from": "22:00", "to": "06:00" }), "2026-11-28T06:00:00Z", false),
        // The night of Friday goes on into Saturday, that of Saturday begins in the evening.
        (json!({ "days": "fri", "from": "22:00", "to": "06:00" }), "2026-11-28T05:00:00Z", true),
        (json!({ "days": "sat", "from": "22:00", "to": "06:00" }), "2026-11-28T05:00:00Z", false),
        (json!({ "days": "sat", "from": "22:00", "to": "06:00" }), "2026-11-28T22:00:00Z", true),
        (json!({ "days": "sat", "from": "22:00", "to": "00:00" }), "2026-11-28T23:59:00Z", true),
        (json!({ "days": "sat", "from": "22:00", "to": "00:00" }), "2026-11-29T00:00:00Z", false),
    ];
    for (time, moment, holds) in cases {
        scene.now = at(moment);
        assert_eq!(scene.holds(json!({ "time": time })), holds, "{time} at {moment}");
    }
}

#[test]
fn a_backend_s_quota_is_compared_and_what_cannot_be_said_never_holds() {
    let mut scene = chat("");
    let low = json!({ "quota": { "of": "mistral/m", "left": "<20%" } });
    let exhausted = json!({ "quota": { "of": "coder", "state": "exhausted" } });
    let both = json!({ "quota": { "of": "coder", "left": ">=0.5", "state": "available" } });
    for (standing, expected) in [
        (None, [false, false, false]),
        (Some((true, 0.19)), [true, false, false]),
        (Some((true, 0.2)), [false, false, false]),
        (Some((false, 0.0)), [true, true, false]),
        (Some((false, 1.0)), [false, true, false]),
        (Some((true, 0.5)), [false, false, true]),
    ] {
        scene.standing = standing.map(|(available, share_left)| Standing { available, share_left });
        assert_eq!(
            [&low, &exhausted, &both].map(|written| scene.holds(written.clone())),
            expected,
            "{standing:?}"
        );
    }
    let negated = json!({ "not": { "quota": { "of": "coder", "left": "10% - 50%" } } });
    assert_eq!(conditions(negated).backends(), ["coder"].into(), "they are watched inside of `not`, too");
}

#[test]
fn a_pattern_looks_at_the_last_word_of_the_user_or_at_the_system_prompt() {
    let said = scene(
        &CHAT_COMPLETIONS,
        r#""messages":[{"role":"system","content":"You are a reviewer"},{"role":"user","content":"old"},{"role":"assistant","content":"no"},{"role":"user","content":"Übersetze\nthis"}]"#,
    );
    for (regex, holds) in [
        (json!("(?i)übersetze"), true),
        (json!("old"), false),
        (json!("reviewer"), false),
        (json!({ "system": "^You are" }), true),
        (json!({ "system": "^You are", "user": "old" }), false),
        (json!({ "system": "^You are", "user": r"this$" }), true),
        (json!(["old", "(?m)^this"]), true),
    ] {
        assert_eq!(said.holds(json!({ "regex": regex })), holds, "{regex}");
    }
    assert!(!chat("").holds(json!({ "regex": { "system": ".*x" } })), "no system prompt has no x");
    assert!(scene(&COMPLETIONS, r#""prompt":"def f""#).holds(json!({ "regex": "^def" })));
}

#[test]
fn a_pattern_takes_linear_time_and_bounded_room_whatever_it_is() {
    let text = "a".repeat(60_000);
    let long = scene(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#));
    let began = std::time::Instant::now();
    // A matcher that goes back would not end in a lifetime.
    assert!(!long.holds(json!({ "regex": "(a+)+$b|(a|aa)+c" })));
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    let [(place, message)] = &faults(json!({ "regex": { "user": r"(\w{1000}){1000}" } }))[..] else {
        panic!("one")
    };
    assert!(place == "regex.user" && message.contains("too large"), "{place}: {message}");
    let far = "b".repeat(70_000);
    let far =
        scene(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"{far}c{far}d"}}]"#));
    assert!(!far.holds(json!({ "regex": "c" })), "of a long text only the begin and the end are searched");
    assert!(far.holds(json!({ "regex": "^b+\n" })) && far.holds(json!({ "regex": "b+d$" })));
}

#[test]
fn what_cannot_be_meant_is_told_with_its_place_and_what_to_write() {
    let cases = [
        (json!({ "endpoint": [] }), "endpoint", "empty list"),
        (json!({ "endpoint": ["chat", "fmi"] }), "endpoint.[1]", "one of: chat, completion, fim, embedding"),
        (json!({ "model": "a[" }), "model", "is no glob"),
        (json!({ "model": "" }), "model", "`*` stands for anything"),
        (json!({ "input_tokens": "8000" }), "input_tokens", "write one such as \">8000\""),
        (json!({ "input_tokens": "<0" }), "input_tokens", "can never be"),
        (json!({ "input_tokens": "9-8" }), "input_tokens", "can never be"),
        (json!({ "listener": "loca" }), "listener", "did you mean `local`?"),
        (json!({ "client": "me" }), "client", "[keys.NAME]"),
        (json!({ "header": {} }), "header", "{ x-team = \"ml-*\" }"),
        (json!({ "header": { "a b": "x" } }), "header.a b", "is no name of a header"),
        (json!({ "header": { "Authorization": "x" } }), "header.Authorization", "use `client`"),
        (json!({ "header": { "x": ["["] } }), "header.x.[0]", "is no glob"),
        (json!({ "path": "/v2/*" }), "path", "/v1/chat/completions"),
        (json!({ "time": {} }), "time", "days = \"mon-fri\""),
        (json!({ "time": { "days": "mo" } }), "time.days", "is no day"),
        (json!({ "time": { "from": "25:00" } }), "time.from", "is no time of day"),
        (json!({ "time": { "from": "09:00", "to": "09:00" } }), "time", "can never be"),
        (json!({ "time": { "from": "24:00" } }), "time", "can never be"),
        (json!({ "time": { "days": "mon", "time_zone": "../x" } }), "time.time_zone", "Europe/Berlin"),
        (json!({ "quota": { "left": "<20%" } }), "quota.of", "is missing"),
        (json!({ "quota": { "of": "mistrl", "left": "<20%" } }), "quota.of", "did you mean `mistral`?"),
        (json!({ "quota": { "of": "mistral" } }), "quota", "says nothing"),
        (json!({ "quota": { "of": "mistral", "left": ">100%" } }), "quota.left", "can never be"),
        (json!({ "quota": { "of": "mistral", "left": "low" } }), "quota.left", "is no share"),
        (json!({ "quota": { "of": "mistral", "state": "full" } }), "quota.state", "available, exhausted"),
        (json!({ "regex": "(" }), "regex", "is no regular expression"),
        (json!({ "regex": "(?=x)" }), "regex", "look-around"),
        (json!({ "regex": {} }), "regex", "needs a pattern"),
        (json!({ "not": {} }), "not", "needs a condition"),
        (json!({ "not": [{ "has": "tools" }, { "has": "tool" }] }), "not.[1].has", "one of: tools"),
    ];
    for (written, place, message) in cases {
        let shown = written.to_string();
        let found = faults(written);
        assert!(
            found.len() == 1 && found[0].0 == place && found[0].1.contains(message),
            "{shown}: {found:?}, expected {place}: {message}"
        );
    }
    let all = faults(json!({ "endpoint": ["a", "b"], "model": "", "not": { "has": "c" } }));
    assert_eq!(all.len(), 4, "all at once: {all:?}");
}

#[test]
fn a_language_is_told_by_the_content_and_named_as_in_a_fence() {
    let python = scene(
        &CHAT_COMPLETIONS,
        r#""messages":[{"role":"user","content":"Explain:\n```python\nprint(1)\n```"}]"#,
    );
    for (language, holds) in [(json!("python"), true), (json!(["rust", "py"]), true), (json!("rust"), false)]
    {
        assert_eq!(python.holds(json!({ "language": language })), holds, "{language}");
    }
    assert!(!chat("").holds(json!({ "language": "python" })), "where nothing is told nothing holds");
    let [(path, message)] = &faults(json!({ "language": "klingon" }))[..] else { panic!("one fault") };
    assert!(path == "language" && message.contains("python, rust"), "{message}");
}

#[test]
fn a_natural_language_is_told_by_what_the_user_writes() {
    let text = "Warum gibt diese Funktion nichts zurück, wenn die Liste leer ist?";
    let german = scene(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#));
    assert!(german.holds(json!({ "natural_language": ["en", "de"] })));
    assert!(german.holds(json!({ "not": { "natural_language": "en" } })));
    assert!(german.holds(json!({ "natural_language": "DE" })));
    for (written, remedy) in
        [("German", "write \"de\""), ("deu", "write \"de\""), ("klingon", "such as \"en\"")]
    {
        let [(path, message)] = &faults(json!({ "natural_language": written }))[..] else {
            panic!("one fault")
        };
        assert!(path == "natural_language" && message.contains(remedy), "{message}");
    }
}

#[test]
fn all_that_is_wrong_in_one_table_is_told() {
    let told = |written: Value| faults(written).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let time = json!({ "time": { "days": ["mon", "someday", "never"], "from": "25:00", "to": "x", "time_zone": "Mars" } });
    assert_eq!(told(time), ["time.days.[1]", "time.days.[2]", "time.from", "time.to", "time.time_zone"]);
    let none = json!({ "time": [{ "from": "09:00", "to": "09:00", "time_zone": "Mars" }] });
    assert_eq!(told(none), ["time.[0].time_zone", "time.[0]"]);
    assert_eq!(
        told(json!({ "quota": { "of": "z", "left": "5", "state": "well" } })),
        ["quota.of", "quota.left", "quota.state"]
    );
    assert_eq!(told(json!({ "regex": { "user": "(", "system": "" } })), ["regex.user", "regex.system"]);
}

#[test]
fn a_pattern_is_found_at_the_begin_and_at_the_end_of_a_long_message() {
    let paste = "some line of a log\\n".repeat(20_000);
    let scene = scene(
        &CHAT_COMPLETIONS,
        &format!(r#""messages":[{{"role":"user","content":"Look here: {paste}Please summarise this."}}]"#),
    );
    assert!(scene.holds(json!({ "regex": "^Look here" })));
    assert!(scene.holds(json!({ "regex": "summarise this\\.$" })));
    assert!(!scene.holds(json!({ "regex": "confidential" })));
}
