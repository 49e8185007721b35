//! Uninterrupted work at the limit: the real program in front of upstreams that keep their true limits, a group over
//! them and a local server, more work than they allow, and a `kill -9` in the middle. What they allow is used, they
//! refuse next to nothing, and no client sees a failure. For the test and for `tests/bench/uninterrupted.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use demuxai::demo::allowance::{Admission, Allowance, Form, Frankness, TrueLimit, Unit, Window};
use demuxai::demo::{Answer, Fake, Options, Received, Script, Turnstile};

use crate::support::client;
use crate::support::eventually;
use crate::support::program::{Phoenix, Program};
use crate::support::proxy::provider;

const CLIENTS: usize = 6;
const TIERS: usize = 7;
/// A whole answer takes so long at a provider and on the own machine.
const ANSWER: Duration = Duration::from_millis(20);
const LOCAL_ANSWER: Duration = Duration::from_millis(150);

const MINUTE: i64 = 60_000;
const MODEL: &str = "openai/gpt-oss-120b";
const PROMPT_TOKENS: u64 = 30;
const ANSWER_TOKENS: u64 = 50;

/// An upstream with true limits, as the program is told of it.
struct Tier {
    id: &'static str,
    kind: &'static str,
    /// What the configuration says beside its url.
    more: &'static str,
    form: Form,
    frankness: Frankness,
    limits: Vec<TrueLimit>,
}

fn tiers() -> [Tier; TIERS] {
    let requests = |amount, window| TrueLimit::new(Unit::Requests, amount, window);
    let tokens = |amount, window| TrueLimit::new(Unit::Tokens, amount, window);
    [
        // Told by the configuration alone.
        Tier {
            id: "configured",
            kind: "openai",
            more: "limits = [{ requests = 5, per = \"2s\" }]\n",
            form: Form::Nvidia,
            frankness: Frankness::Nothing,
            limits: vec![requests(5, Window::Rolling(2_000))],
        },
        // Told by its headers.
        Tier {
            id: "stated",
            kind: "openai",
            more: "",
            form: Form::Openai,
            frankness: Frankness::Real,
            limits: vec![requests(60, Window::Bucket(MINUTE))],
        },
        // Guessed by the catalogue, and stated in part.
        Tier {
            id: "guessed",
            kind: "groq",
            more: "",
            form: Form::Groq,
            frankness: Frankness::Real,
            limits: vec![
                requests(30, Window::Bucket(MINUTE)),
                requests(1_000, Window::Bucket(24 * 60 * MINUTE)),
                tokens(8_000, Window::Bucket(MINUTE)),
                tokens(200_000, Window::Bucket(24 * 60 * MINUTE)),
            ],
        },
        // Stated without a word of when it frees, and refused without a word; the window begins with each minute.
        Tier {
            id: "worded",
            kind: "mistral",
            more: "",
            form: Form::Mistral,
            frankness: Frankness::Real,
            limits: vec![requests(60, Window::Aligned(MINUTE)), tokens(500_000, Window::Aligned(MINUTE))],
        },
        // Guessed far too low by the catalogue, and stated for three windows, but not in a refusal.
        Tier {
            id: "windowed",
            kind: "cerebras",
            more: "",
            form: Form::Cerebras,
            frankness: Frankness::Real,
            limits: vec![
                requests(30, Window::Bucket(MINUTE)),
                requests(900, Window::Bucket(60 * MINUTE)),
                tokens(60_000, Window::Bucket(MINUTE)),
            ],
        },
        // Told by the body of a refusal alone.
        Tier {
            id: "refused",
            kind: "gemini",
            more: "",
            form: Form::Gemini,
            frankness: Frankness::Real,
            limits: vec![requests(15, Window::Rolling(MINUTE))],
        },
        // Not told at all.
        Tier {
            id: "untold",
            kind: "openai",
            more: "",
            form: Form::Nvidia,
            frankness: Frankness::Nothing,
            limits: vec![requests(20, Window::Rolling(MINUTE))],
        },
    ]
}

fn answers(pause: Duration) -> impl Fn(&Received) -> Script + Send + Sync + 'static {
    let list = format!(r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model"}}]}}"#);
    let words = format!(
        r#"{{"id":"c","object":"chat.completion","model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"ok"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{ANSWER_TOKENS},"total_tokens":{}}}}}"#,
        PROMPT_TOKENS + ANSWER_TOKENS
    );
    move |received| {
        if received.path().ends_with("/models") {
            return Answer::json(200).body(list.clone());
        }
        // The head says what is left when the answer begins.
        let answer = Answer::json(200).body(words.clone());
        Script::new().pause(pause).then(answer)
    }
}

impl Tier {
    fn start(&self) -> Fake {
        let turnstile = Turnstile::new(self.form, self.frankness, Allowance::new(self.limits.clone()));
        let options = Options::new(answers(ANSWER)).turnstile(Arc::new(turnstile));
        Fake::start_with(options).expect("fake upstream starts")
    }

    /// The most that its limits allow within these spans, in milliseconds since the epoch.
    fn allows(&self, spans: &[(i64, i64)]) -> u64 {
        let mut allowance = Allowance::new(self.limits.clone());
        let mut allowed = 0;
        for now in spans.iter().flat_map(|(from, until)| (*from..*until).step_by(5)) {
            while allowance.admit(now, MODEL, PROMPT_TOKENS) == Admission::Admitted {
                allowance.done(now, MODEL, ANSWER_TOKENS);
                allowed += 1;
            }
        }
        allowed
    }
}

/// What a run gave.
pub struct Figures {
    /// How long the clients worked.
    run: Duration,
    served: u64,
    /// What each tier served, what it allowed, how much more it was asked for.
    tiers: Vec<(&'static str, u64, u64, u64)>,
    /// Failures while there was capacity: from when, until when, with which status.
    lost: Vec<(Instant, Instant, Option<u16>)>,
    /// Failures while the program was down.
    down: usize,
}

impl Figures {
    /// What was used of what the tiers allowed.
    fn used(&self) -> (u64, u64) {
        let used = self.tiers.iter().map(|(_, served, most, _)| served.min(most)).sum();
        (used, self.tiers.iter().map(|(_, _, most, _)| most).sum())
    }

    fn share(&self) -> f64 {
        let (used, allowed) = self.used();
        used as f64 / allowed as f64
    }

    fn per_thousand(&self) -> f64 {
        let refused: u64 = self.tiers.iter().map(|(_, _, _, refused)| refused).sum();
        refused as f64 * 1000.0 / self.served as f64
    }

    /// The figures, a line for each tier and one for all.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .tiers
            .iter()
            .map(|(id, served, most, refused)| {
                format!("{id:>10}: {served} of {most} served, {refused} refused")
            })
            .collect();
        let (used, allowed) = self.used();
        lines.push(format!(
            "{} served, {used} of {allowed} that the tiers allowed ({:.1} %), {:.1} upstream refusals per 1000, {} failures while there was capacity, {} while it was down",
            self.served,
            self.share() * 100.0,
            self.per_thousand(),
            self.lost.len(),
            self.down
        ));
        lines.join("\n")
    }

    /// The bounds that do not hold.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if !self.lost.is_empty() {
            missed.push(format!("clients were refused while the local server was free: {:?}", self.lost));
        }
        if self.share() < 0.75 {
            missed.push(format!(
                "only {:.1} % of what the tiers allowed was used (bound 75 %)",
                self.share() * 100.0
            ));
        }
        if self.per_thousand() > 15.0 {
            missed.push(format!("{:.1} refusals per 1000 (bound 15)", self.per_thousand()));
        }
        if self.served < 8 * self.run.as_secs() {
            missed.push(format!("the clients were not kept busy: {} served", self.served));
        }
        missed
    }
}

/// What a client loop saw.
#[derive(Default)]
struct Seen {
    served: u64,
    /// When those that were not answered well began and ended, and what came.
    failures: Vec<(Instant, Instant, Option<u16>)>,
}

/// The status of an answer that came to its end; `None` where the connection was not.
fn ask(address: SocketAddr) -> Option<u16> {
    let body = r#"{"model":"free","messages":[{"role":"user","content":"go on"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(client::PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8(answer).ok()?;
    text.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

/// Asks one after the other until it is told to stop.
fn work(place: &Mutex<SocketAddr>, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let address = *place.lock().expect("no panic");
        let began = Instant::now();
        match ask(address) {
            Some(200) => seen.served += 1,
            other => {
                seen.failures.push((began, Instant::now(), other));
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    seen
}

fn epoch() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before 292 million years")
}

fn all_up(program: &Program) {
    let up = || {
        let status = client::get(program.address(), "/demuxai/status").json();
        let providers = status["providers"].as_array().expect("providers").clone();
        providers.iter().filter(|one| one["health"] == "up").count()
    };
    eventually("all providers are up", up, |count| *count == TIERS + 1);
}

/// Lets the clients work for so long; the program is killed before the half of it.
pub fn run(run: Duration) -> Figures {
    let tiers = tiers();
    let fakes: Vec<Fake> = tiers.iter().map(Tier::start).collect();
    let local = Fake::start(answers(LOCAL_ANSWER)).expect("fake upstream starts");
    let mut text = String::new();
    for (tier, fake) in tiers.iter().zip(&fakes) {
        text.push_str(&format!("{}{}", provider(tier.id, tier.kind, &fake.url()), tier.more));
    }
    text.push_str(&provider("local", "vllm", &local.url()));
    let ids = tiers.iter().map(|tier| tier.id).chain(["local"]);
    let members: Vec<String> = ids.map(|id| format!("\"{id}/{MODEL}\"")).collect();
    text.push_str(&format!("[groups.free]\ntype = \"failover\"\nmembers = [{}]\n", members.join(", ")));
    let mut phoenix = Phoenix::start(&text);
    all_up(phoenix.program());

    let begun = Instant::now();
    let mut spans = vec![(epoch(), 0)];
    let place = Arc::new(Mutex::new(phoenix.program().address()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (place, stop) = (Arc::clone(&place), Arc::clone(&stop));
            thread::spawn(move || work(&place, &stop))
        })
        .collect();
    thread::sleep(run * 7 / 15);
    let killed = Instant::now();
    phoenix.kill();
    spans[0].1 = epoch();
    phoenix.rise();
    *place.lock().expect("no panic") = phoenix.program().address();
    all_up(phoenix.program());
    let back = Instant::now();
    spans.push((epoch(), 0));
    thread::sleep(run.saturating_sub(begun.elapsed()));
    stop.store(true, Ordering::Relaxed);
    spans[1].1 = epoch();
    let seen: Vec<Seen> = clients.into_iter().map(|client| client.join().expect("client ends")).collect();

    let counted = tiers.iter().zip(&fakes).map(|(tier, fake)| {
        let counts = fake.counts();
        (tier.id, counts.served, tier.allows(&spans), counts.limited)
    });
    let failures: Vec<_> = seen.iter().flat_map(|seen| &seen.failures).copied().collect();
    let all = failures.len();
    let had_capacity = |(began, ended, _): &(Instant, Instant, Option<u16>)| *ended < killed || *began > back;
    let lost: Vec<_> = failures.into_iter().filter(had_capacity).collect();
    Figures {
        run,
        served: seen.iter().map(|seen| seen.served).sum(),
        tiers: counted.collect(),
        down: all - lost.len(),
        lost,
    }
}
