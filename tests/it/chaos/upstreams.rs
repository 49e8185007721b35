//! Fake upstreams that do anything at random, and a record of what each of them said. Every answer has a name of its
//! own, `provider.ask.nth`, and every word of it that name and its place, so that what a client got tells where it
//! came from. What is done with a request follows from the seed, the request and the provider alone.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use demuxai::demo::{
    Answer, EventStream, Fake, Limits, Options, Received, Script, Setup, Upstream, faults, limits,
};
use serde_json::{Value, json};

/// A provider and the fake upstream behind it.
pub struct Cast {
    pub id: &'static str,
    pub kind: &'static str,
    pub model: &'static str,
    /// Who plays what is no chat; one list of one model otherwise.
    extra: Option<Upstream>,
    /// What it repeats of an answer that it goes on with.
    echoes: bool,
    pub part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Anything at random.
    Wild,
    /// Good answers, always.
    Steady,
}

const fn wild(id: &'static str, model: &'static str, plays: Upstream) -> Cast {
    Cast { id, kind: id, model, extra: Some(plays), echoes: false, part: Part::Wild }
}

pub const MISTRAL: Cast = Cast { echoes: true, ..wild("mistral", "mistral-small-latest", Upstream::Mistral) };
pub const GITHUB: Cast = wild("github", "openai/gpt-4.1-mini", Upstream::Github);
pub const OLLAMA: Cast = wild("ollama", "qwen3:8b", Upstream::Ollama);
pub const FIREWORKS: Cast = wild("fireworks", "accounts/fireworks/models/gpt-oss-120b", Upstream::Fireworks);
pub const CLOUD: Cast = wild("ollama-cloud", "gpt-oss:120b", Upstream::OllamaCloud);
pub const OPENAI: Cast = wild("openai", "gpt-4.1-mini", Upstream::Openai);
/// It can go on with what others began, as can Mistral and the steady one.
pub const LLAMA: Cast = Cast { extra: None, kind: "llamacpp", ..wild("llama", "m", Upstream::Openai) };
pub const STEADY: Cast =
    Cast { extra: None, kind: "vllm", part: Part::Steady, ..wild("steady", "m", Upstream::Openai) };

pub const ALL: [&Cast; 8] = [&MISTRAL, &GITHUB, &OLLAMA, &FIREWORKS, &CLOUD, &OPENAI, &LLAMA, &STEADY];

/// What one upstream did with one request.
#[derive(Debug, Clone)]
pub struct Play {
    /// What it is called in a failure's text.
    pub name: &'static str,
    pub ask: String,
    pub ends: Ends,
    /// The place after its last word, if it is whole.
    pub words: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The answer is whole, with or without a finish reason.
    Whole { finish: bool },
    /// It is nothing but `[DONE]`.
    Bare,
    /// It must not be passed off as whole.
    Badly,
}

/// The seed, and what was played so far.
pub struct Chaos {
    pub seed: u64,
    calm: AtomicBool,
    plays: Mutex<HashMap<String, Play>>,
    counts: Mutex<HashMap<String, usize>>,
}

impl Cast {
    /// What its base URL has after the host.
    pub fn base_path(&self) -> &'static str {
        self.extra.map_or("", Upstream::base_path)
    }

    fn other(&self, received: &Received) -> Script {
        match self.extra {
            Some(kind) => kind.answer(&Setup::default(), received),
            None => Answer::json(200)
                .value(&json!({"object": "list", "data": [{"id": self.model, "object": "model"}]})),
        }
    }
}

impl Chaos {
    pub fn new(seed: u64) -> Arc<Chaos> {
        Arc::new(Chaos {
            seed,
            calm: AtomicBool::new(false),
            plays: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// From now on all answers are good.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::SeqCst);
    }

    pub fn start(self: &Arc<Self>, cast: &'static Cast) -> Fake {
        let chaos = Arc::clone(self);
        let handler = move |received: &Received| {
            if received.path().ends_with("/chat/completions") {
                chaos.answer(cast, received)
            } else {
                cast.other(received)
            }
        };
        let limits = Limits { kept_requests: 0, kept_bytes: 0, ..Limits::default() };
        Fake::start_with(Options::new(handler).limits(limits)).expect("fake upstream starts")
    }

    /// What was played under this name.
    pub fn play(&self, name: &str) -> Option<Play> {
        self.plays.lock().unwrap().get(name).cloned()
    }

    /// What was played for this request, for a failure's text.
    pub fn plays_for(&self, ask: &str) -> Vec<(String, Play)> {
        let plays = self.plays.lock().unwrap();
        let mut found: Vec<_> = plays
            .iter()
            .filter(|(_, play)| play.ask == ask)
            .map(|(name, play)| (name.clone(), play.clone()))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// How often each thing was played.
    pub fn played(&self) -> Vec<(&'static str, usize)> {
        let mut counts = HashMap::new();
        for play in self.plays.lock().unwrap().values() {
            *counts.entry(play.name).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable();
        counts
    }

    /// A generator for this purpose.
    pub fn rng(&self, purpose: impl Hash) -> fastrand::Rng {
        let mut hasher = DefaultHasher::new();
        (self.seed, purpose).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish())
    }

    fn answer(&self, cast: &Cast, received: &Received) -> Script {
        let request = received.json();
        let messages = request["messages"].as_array().expect("messages");
        let ask = messages[0]["content"].as_str().expect("a question").to_owned();
        let last = messages.last().expect("a message");
        let so_far = if last["role"] == "assistant" { last["content"].as_str().unwrap_or("") } else { "" };
        let name = {
            let mut counts = self.counts.lock().unwrap();
            let nth = counts.entry(format!("{}.{ask}", cast.id)).or_insert(0);
            *nth += 1;
            format!("{}.{ask}.{nth}", cast.id)
        };
        let mut rng = self.rng(&name);
        let part = if self.calm.load(Ordering::SeqCst) { Part::Steady } else { cast.part };
        let words = self.rng(&ask).usize(4..14);
        let voice =
            Voice { name: &name, model: cast.model, said: so_far.split_terminator(' ').count(), words };
        let (label, ends, script) = if request["stream"] == true {
            let pace = Duration::from_millis(rng.u64(1..100));
            let echo = if cast.echoes { so_far } else { "" };
            streamed(&mut rng, part, voice.stream(echo, pace), words.saturating_sub(voice.said), &voice)
        } else {
            plain(&mut rng, part, voice.document())
        };
        self.plays.lock().unwrap().insert(name, Play { name: label, ask, ends, words });
        script
    }
}

/// Who speaks.
struct Voice<'a> {
    name: &'a str,
    model: &'a str,
    /// So many words were said by others.
    said: usize,
    /// The place after the last word.
    words: usize,
}

impl Voice<'_> {
    fn chunk(&self, delta: &Value, finish: Option<&str>) -> String {
        json!({"id": format!("chatcmpl-{}", self.name), "object": "chat.completion.chunk",
            "created": 1_795_348_800, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
    }

    fn word(&self, place: usize) -> String {
        format!("{}#{place} ", self.name)
    }

    /// Role, what is repeated, words, finish, `[DONE]`.
    fn stream(&self, echo: &str, pace: Duration) -> EventStream {
        let mut stream = EventStream::new(Answer::events(), pace);
        stream.push(&self.chunk(&json!({"role": "assistant", "content": ""}), None));
        if !echo.is_empty() {
            stream.push(&self.chunk(&json!({"content": echo}), None));
        }
        for place in self.said..self.words {
            stream.push(&self.chunk(&json!({"content": self.word(place)}), None));
        }
        stream.push(&self.chunk(&json!({}), Some("stop")));
        stream.push("[DONE]");
        stream
    }

    fn document(&self) -> String {
        let content: String = (0..self.words).map(|place| self.word(place)).collect();
        json!({"id": format!("chatcmpl-{}", self.name), "object": "chat.completion", "created": 1_795_348_800,
            "model": self.model, "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}})
        .to_string()
    }
}

type Bend = fn(EventStream, usize) -> Script;

/// Streams that are whole; whether with a finish reason.
const WHOLE: &[(&str, bool, Bend)] = &[
    ("good", true, |stream, _| stream.script()),
    ("slow first token", true, |stream, _| faults::slow_first_token(stream, Duration::from_millis(150))),
    ("comments", true, |stream, _| faults::comments(stream)),
    ("CRLF", true, |stream, _| faults::crlf(stream)),
    ("many data lines", true, |stream, _| faults::many_data_lines(stream)),
    ("one chunk", true, |stream, _| faults::one_chunk(stream)),
    ("cut anywhere", true, |stream, _| faults::cut_every(stream, 37)),
    ("until close", true, |stream, _| faults::close_delimited_stream(stream)),
    ("without [DONE]", true, |stream, _| faults::without_done(stream)),
    ("without a finish reason", false, |stream, _| faults::without_finish(stream)),
    ("RST after [DONE]", true, |stream, _| stream.open().reset()),
    ("silence after [DONE]", true, |stream, _| stream.open().hang()),
    ("a huge line", true, |mut stream, after| {
        stream.frames.insert(after, Bytes::from(format!(": {}\n\n", "x".repeat(200_000))));
        stream.script()
    }),
];

/// Streams that fail; the number is after how many frames, none of which is the last.
const BAD: &[(&str, Bend)] = &[
    ("hang before the head", |_, _| faults::hang_before_head()),
    ("hang after the head", |_, _| faults::hang_after_head()),
    ("hang", faults::hang_mid_stream),
    ("FIN before the head", |_, _| faults::close_before_head()),
    ("RST before the head", |_, _| faults::reset_before_head()),
    ("FIN within the head", |_, _| faults::close_within_head()),
    ("RST", faults::reset_mid_stream),
    ("FIN", faults::close_mid_stream),
    ("FIN within a chunk", faults::close_within_chunk),
    ("truncated", faults::end_without_finish),
    ("error first", |_, _| faults::error_first()),
    ("error after the role", |stream, _| faults::role_then_error(stream)),
    ("error", faults::error_mid_stream),
    ("named error", faults::named_error_mid_stream),
    ("error as a document", |_, _| faults::error_in_json_200()),
    ("500", |_, _| faults::json_error(500)),
    ("502", |_, _| faults::json_error(502)),
    ("503", |_, _| faults::json_error(503)),
    ("504", |_, _| faults::json_error(504)),
    ("a gateway's page", |_, _| faults::html_502()),
    ("a page", |_, _| faults::html_200()),
    ("nothing", |_, _| faults::empty_200()),
    ("no events", |_, _| faults::empty_stream()),
    ("not HTTP", |_, _| faults::not_http()),
    ("an endless head", |_, _| faults::endless_head()),
    ("an endless line", |_, _| faults::endless_line()),
    ("garbage", faults::garbage_event),
    ("no UTF-8", faults::invalid_utf8),
    ("no chunk", faults::garbage_chunk),
    ("a redirect", |_, _| faults::redirect("http://127.0.0.1:1/".to_owned())),
];

type Document = fn(String) -> Script;

const WHOLE_DOCUMENTS: &[(&str, Document)] = &[
    ("good document", |body| Answer::json(200).body(body)),
    ("slow document", |body| {
        Script::new().pause(Duration::from_millis(150)).then(Answer::json(200).body(body))
    }),
    ("blank lines first", |body| Answer::json(200).chunked().chunk("\n\n").chunk(body).last_chunk()),
    ("at low priority", |body| {
        limits::fireworks::over_limit_200(&serde_json::from_str(&body).expect("JSON"))
    }),
    ("document until close", |body| Answer::json(200).until_close().write(body).close()),
    ("document in pieces", |body| {
        let (head, tail) = body.split_at(body.len() / 2);
        Answer::json(200).chunked().chunk(head.to_owned()).chunk(tail.to_owned()).last_chunk()
    }),
];

const BAD_DOCUMENTS: &[(&str, Document)] = &[
    ("hang before a document", |_| faults::hang_before_head()),
    ("hang in a document", |body| {
        Script::new().write(Answer::json(200).declared(body.len()).head()).write(body[..20].to_owned()).hang()
    }),
    ("RST before a document", |_| faults::reset_before_head()),
    ("RST in a document", |body| {
        Script::new()
            .write(Answer::json(200).declared(body.len()).head())
            .write(body[..20].to_owned())
            .reset()
    }),
    ("FIN in a document", |body| {
        Script::new()
            .write(Answer::json(200).declared(body.len()).head())
            .write(body[..20].to_owned())
            .close()
    }),
    ("half a document", |body| Answer::json(200).body(body[..body.len() / 2].to_owned())),
    ("error in a 200", |_| faults::error_in_json_200()),
    ("another error in a 200", |_| limits::openrouter::error_in_200()),
    ("500 for a document", |_| faults::json_error(500)),
    ("502 for a document", |_| faults::json_error(502)),
    ("503 for a document", |_| faults::json_error(503)),
    ("a gateway's page for a document", |_| faults::html_502()),
    ("a page for a document", |_| faults::html_200()),
    ("no document", |_| faults::empty_200()),
    ("not HTTP for a document", |_| faults::not_http()),
];

type Saying = fn() -> Script;

/// What providers say of limits and overload, in every class.
const LIMITED: &[(&str, Saying)] = &[
    ("mistral::rate_limited", limits::mistral::rate_limited),
    ("mistral::no_allowance", limits::mistral::no_allowance),
    ("mistral::capacity_exceeded", limits::mistral::capacity_exceeded),
    ("mistral::rate_limited_2025", limits::mistral::rate_limited_2025),
    ("mistral::payment_required", limits::mistral::payment_required),
    ("codestral::rate_limited", limits::codestral::rate_limited),
    ("ollama::busy_503", limits::ollama::busy_503),
    ("ollama_cloud::session_limit", limits::ollama_cloud::session_limit),
    ("ollama_cloud::hourly_limit", limits::ollama_cloud::hourly_limit),
    ("ollama_cloud::weekly_limit", limits::ollama_cloud::weekly_limit),
    ("ollama_cloud::too_many_at_once", limits::ollama_cloud::too_many_at_once),
    ("ollama_cloud::subscription_required", limits::ollama_cloud::subscription_required),
    ("github::user_by_model_by_day", limits::github::user_by_model_by_day),
    ("github::user_by_minute", limits::github::user_by_minute),
    ("github::concurrent", limits::github::concurrent),
    ("fireworks::rate_limited", limits::fireworks::rate_limited),
    ("fireworks::overloaded_503", limits::fireworks::overloaded_503),
    ("fireworks::suspended_412", limits::fireworks::suspended_412),
    ("openai::rate_limited", limits::openai::rate_limited),
    ("openai::insufficient_quota", limits::openai::insufficient_quota),
    ("groq::requests_per_minute", limits::groq::requests_per_minute),
    ("groq::tokens_per_day", limits::groq::tokens_per_day),
    ("groq::too_large_413", limits::groq::too_large_413),
    ("cerebras::token_quota", limits::cerebras::token_quota),
    ("cerebras::request_quota", limits::cerebras::request_quota),
    ("cerebras::queue_exceeded", limits::cerebras::queue_exceeded),
    ("openrouter::free_models_per_day", limits::openrouter::free_models_per_day),
    ("openrouter::upstream_limited", limits::openrouter::upstream_limited),
    ("gemini::per_day", limits::gemini::per_day),
    ("gemini::per_minute", limits::gemini::per_minute),
    ("others::nvidia", limits::others::nvidia),
    ("others::zai", limits::others::zai),
    ("others::cohere", limits::others::cohere),
    ("others::cloudflare", limits::others::cloudflare),
    ("others::huggingface", limits::others::huggingface),
];

/// How many of a hundred answers are whole, and how many speak of limits; the rest fails otherwise.
const WHOLE_SHARE: u32 = 45;
const LIMITED_SHARE: u32 = 15;

type Played = (&'static str, Ends, Script);

fn streamed(
    rng: &mut fastrand::Rng,
    part: Part,
    stream: EventStream,
    words: usize,
    voice: &Voice<'_>,
) -> Played {
    if part == Part::Steady {
        return ("good", Ends::Whole { finish: true }, stream.script());
    }
    let share = rng.u32(..100);
    if share < WHOLE_SHARE {
        let (name, finish, bend) = WHOLE[rng.usize(..WHOLE.len())];
        return (name, Ends::Whole { finish }, bend(stream, rng.usize(..=words)));
    }
    if share < WHOLE_SHARE + LIMITED_SHARE {
        return limited(rng);
    }
    // The role, perhaps what is repeated, and at least one word may be out, but never the finish reason.
    let after = rng.usize(..=words);
    match rng.usize(..BAD.len() + 2) {
        0 => ("[DONE] alone", Ends::Bare, faults::only_done()),
        1 => ("finish reason error", Ends::Badly, finish_reason_error(stream, after, voice)),
        at => {
            let (name, bend) = BAD[at - 2];
            (name, Ends::Badly, bend(stream, after))
        }
    }
}

fn plain(rng: &mut fastrand::Rng, part: Part, body: String) -> Played {
    if part == Part::Steady {
        return ("good document", Ends::Whole { finish: true }, Answer::json(200).body(body));
    }
    let share = rng.u32(..100);
    if share < WHOLE_SHARE {
        let (name, document) = WHOLE_DOCUMENTS[rng.usize(..WHOLE_DOCUMENTS.len())];
        return (name, Ends::Whole { finish: true }, document(body));
    }
    if share < WHOLE_SHARE + LIMITED_SHARE {
        return limited(rng);
    }
    let (name, document) = BAD_DOCUMENTS[rng.usize(..BAD_DOCUMENTS.len())];
    (name, Ends::Badly, document(body))
}

fn limited(rng: &mut fastrand::Rng) -> Played {
    let (name, script) = LIMITED[rng.usize(..LIMITED.len())];
    (name, Ends::Badly, script())
}

/// After so many events one that says `finish_reason: "error"`, then a good end.
fn finish_reason_error(mut stream: EventStream, after: usize, voice: &Voice<'_>) -> Script {
    stream.frames.truncate(after);
    stream.push(&voice.chunk(&json!({"content": ""}), Some("error")));
    stream.push("[DONE]");
    stream.script()
}
