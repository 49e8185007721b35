//! Several upstreams that answer with their own names, so that an answer tells who gave it, and the daemon in front of
//! them.

use demuxai::demo::{Answer, Fake, Received, Script};

use super::client::{self, Answer as Got};
use super::proxy::{Proxy, provider};

/// Where chats go.
pub const PATH: &str = "/v1/chat/completions";
/// What an upstream says that fails.
pub const BROKEN: &str = r#"{"error":{"message":"no","type":"x","code":null,"param":null}}"#;
/// What an upstream says that refuses for now.
pub const SLOW_DOWN: &str =
    r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null,"param":null}}"#;

/// Bounds an answer at four times its length.
pub const SMALL: &str = r#","max_tokens":20"#;
/// What would cost something if anybody was asked.
pub const SMALL_TALK: &str = r#","user":"somebody","max_tokens":1000"#;

const LIST: &str =
    r#"{"object":"list","data":[{"id":"m","object":"model"},{"id":"other","object":"model"}]}"#;
/// What each answer takes and gives.
const USAGE: &str = r#""usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}"#;

/// Lists what the text says, and does the rest by this.
pub fn listing_text(
    list: impl Into<String>,
    answer: impl Fn(&Received) -> Script + Send + Sync + 'static,
) -> Fake {
    let list = list.into();
    Fake::start(move |received| {
        if received.path().ends_with("/models") {
            Answer::json(200).body(list.clone())
        } else {
            answer(received)
        }
    })
    .expect("fake upstream starts")
}

/// Lists this one model.
pub fn listing(model: &str, answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    listing_text(format!(r#"{{"object":"list","data":[{{"id":"{model}","object":"model"}}]}}"#), answer)
}

/// Lists `m` and `other`.
pub fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    listing_text(LIST, answer)
}

/// One that answers with its own name.
pub fn good(name: &'static str) -> Fake {
    upstream(move |received| says(name, received))
}

/// One that answers with its own name when the gate `go` is opened.
pub fn gated(name: &'static str) -> Fake {
    upstream(move |received| Script::new().gate("go").then(says(name, received)))
}

/// One that always fails so.
pub fn failing(status: u16) -> Fake {
    upstream(move |_| Answer::json(status).body(BROKEN))
}

/// One that always refuses, and asks for so many seconds of patience.
pub fn limited(seconds: &'static str) -> Fake {
    upstream(move |_| Answer::json(429).header("retry-after", seconds).body(SLOW_DOWN))
}

/// An answer that says this, in the shape of the endpoint, streamed where that was asked for.
pub fn says(text: &str, received: &Received) -> Script {
    if String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
        return Answer::events()
            .chunked()
            .event(chunk(text, "null"))
            .event(chunk("", "\"stop\""))
            .event(format!(
                r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],{USAGE}}}"#
            ))
            .event("[DONE]")
            .last_chunk();
    }
    let path = received.path();
    if path.ends_with("/embeddings") {
        return Answer::json(200).body(
            r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
        );
    }
    if path.ends_with("/chat/completions") {
        return Answer::json(200).body(words(text));
    }
    Answer::json(200).body(format!(
        r#"{{"id":"c","object":"text_completion","model":"m","choices":[{{"index":0,"text":"{text}","finish_reason":"stop"}}],{USAGE}}}"#
    ))
}

/// A plain chat answer that says this.
pub fn words(text: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],{USAGE}}}"#
    )
}

/// A chunk of a streamed chat answer; `finish` is JSON.
pub fn chunk(text: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{finish}}}]}}"#
    )
}

/// The text of a group's table.
pub fn group(id: &str, kind: &str, lines: &str) -> String {
    format!("[groups.{id}]\ntype = \"{kind}\"\n{lines}\n")
}

/// The text of a `limit` over another backend; `limits` is TOML.
pub fn limit(id: &str, to: &str, limits: &str) -> String {
    group(id, "limit", &format!("to = \"{to}\"\nlimits = [{limits}]"))
}

/// The text of a `budget` over another backend: dollars and how long each are for, and for globs of models what a million
/// tokens cost, of the question and of the answer.
pub fn budget(id: &str, to: &str, caps: &[(f64, &str)], prices: &[(&str, u32, u32)]) -> String {
    let caps: Vec<String> =
        caps.iter().map(|(usd, per)| format!("{{ usd = {usd:?}, per = \"{per}\" }}")).collect();
    let prices: Vec<String> = prices
        .iter()
        .map(|(glob, input, output)| format!("\"{glob}\" = {{ input = {input}, output = {output} }}"))
        .collect();
    let (caps, prices) = (caps.join(", "), prices.join(", "));
    group(id, "budget", &format!("to = \"{to}\"\ncaps = [{caps}]\nprices = {{ {prices} }}"))
}

/// The daemon with these upstreams as providers `a`, `b` … and this beside, once all are up.
pub fn daemon(fakes: &[&Fake], more: &str) -> Proxy {
    let members: Vec<(&Fake, &str)> = fakes.iter().map(|fake| (*fake, "")).collect();
    daemon_with(&members, more)
}

/// With options for each of the providers. Nothing outlives the daemon, unless `more` says where.
pub fn daemon_with(members: &[(&Fake, &str)], more: &str) -> Proxy {
    let ids = ["a", "b", "c", "d"];
    let tables: Vec<String> = ids
        .iter()
        .zip(members)
        .map(|(id, (fake, options))| format!("{}{options}\n", provider(id, "openai", &fake.url())))
        .collect();
    let state = if more.contains("[state]") { "" } else { "[state]\npath = \"none\"\n" };
    let proxy = Proxy::start(&format!("{}{more}\n{state}", tables.concat()));
    for (id, _) in ids.iter().zip(members) {
        proxy.until_up(id);
    }
    proxy
}

/// A chat with this model; `more` is fields, each with its comma in front.
pub fn body(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

/// Asks this model for a plain answer.
pub fn ask(proxy: &Proxy, model: &str) -> Got {
    chat(proxy, model, "")
}

/// Asks this model for a streamed answer, and reads all of it.
pub fn stream(proxy: &Proxy, model: &str) -> Got {
    chat(proxy, model, r#","stream":true"#)
}

/// Chats with this model, with more fields.
pub fn chat(proxy: &Proxy, model: &str, more: &str) -> Got {
    proxy.post(PATH, &body(model, more))
}

/// Asks this model for a plain answer, with these headers.
pub fn ask_with(proxy: &Proxy, headers: &[(&str, &str)], model: &str) -> Got {
    client::open(proxy.address, "POST", PATH, headers, body(model, "").as_bytes()).finish()
}
