//! Any valid graph serves: random graphs of every type of group and of routers, over backends that answer, fail, break off,
//! are full or cannot serve. Each request, plain or streamed, alone or beside another that asks the same, is answered or
//! fails honestly, in bounded time, also when its client leaves in the middle; nothing that was admitted stays so; and what
//! was explained before is what then happened. Time is virtual.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::backend::arrival::Arrival;
use crate::backend::explain::{Course, End, explain};
use crate::backend::kind::{KINDS, Means, words};
use crate::backend::lease::{Hold, Lease};
use crate::backend::strategy::Availability;
use crate::backend::tally::Tallies;
use crate::backend::{Call, Frame, Frames, Marks, Outlook, Reply, ReplyBody, ReplyStream, Served, StreamEnd};
use crate::cli::load::read;
use crate::config::Sources;
use crate::config::settings::Config;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, Usage};
use crate::error::{Denial, ErrorKind, ProxyError};
use crate::metrics::{EndReason, Metrics, ModelMeters};
use crate::provider::registry::Registry;
use crate::provider::scrub::Scrub;

/// The ends of every graph.
const LEAVES: usize = 4;
/// No request may take longer: nobody in these graphs waits for as long.
const BOUND: Duration = Duration::from_secs(600);

/// How a backend at the end of a graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Answers,
    /// It is asked, and fails in a way that somebody else may do better.
    Fails,
    /// Its streams break off after the first word; it fails where a plain answer is wanted.
    Breaks,
    /// It has no capacity, and does not get any.
    Full,
    /// It cannot serve what is asked.
    Cannot,
}

/// What is admitted everywhere, and how often.
#[derive(Default)]
struct Books {
    held: AtomicUsize,
    admitted: AtomicUsize,
}

struct Leaf {
    id: String,
    mood: Mood,
    books: Arc<Books>,
    metrics: Arc<Metrics>,
}

/// An admission that is in the books until it is released.
struct Entry {
    books: Arc<Books>,
    open: std::sync::atomic::AtomicBool,
}

impl Hold for Entry {
    fn release(&self) {
        if self.open.swap(false, Ordering::Relaxed) {
            self.books.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Leaf {
    fn admit(&self) -> Lease {
        self.books.held.fetch_add(1, Ordering::Relaxed);
        self.books.admitted.fetch_add(1, Ordering::Relaxed);
        Lease::new(Arc::new(Entry { books: Arc::clone(&self.books), open: true.into() }))
    }
}

impl Backend for Leaf {
    fn id(&self) -> &str {
        &self.id
    }

    fn outlook(&self, call: &Call) -> Result<Outlook, String> {
        let availability = match self.mood {
            Mood::Answers | Mood::Fails | Mood::Breaks => Availability::Now,
            Mood::Full => Availability::At(None),
            Mood::Cannot => return Err("cannot".to_owned()),
        };
        let model = Arc::clone(&call.model);
        Ok(Outlook { model, availability, share_left: 1.0, next_reset: None, in_flight: 0 })
    }

    fn meters(&self, model: &str) -> Arc<ModelMeters> {
        self.metrics.meters(&self.id, model)
    }

    fn forward(&self, call: Call) -> BoxFuture<'static, Result<Reply, ProxyError>> {
        let failed = |kind| ProxyError::new(kind, "no").at(&self.id);
        let stream = call.request.stream;
        let error = match self.mood {
            Mood::Answers => None,
            Mood::Breaks if stream => None,
            Mood::Fails | Mood::Breaks => Some(failed(ErrorKind::UpstreamProtocol)),
            Mood::Full => {
                Some(ProxyError { denial: Some(Denial::default()), ..failed(ErrorKind::QuotaExhausted) })
            }
            Mood::Cannot => Some(failed(ErrorKind::Unsupported)),
        };
        let breaks = self.mood == Mood::Breaks;
        let lease = matches!(self.mood, Mood::Answers | Mood::Fails | Mood::Breaks).then(|| self.admit());
        let served = Served {
            provider: Arc::from(self.id.as_str()),
            model: call.model.clone(),
            edits: Vec::new(),
            attempts: Vec::new(),
            marks: Marks::default(),
            meters: self.meters(&call.model),
        };
        async move {
            tokio::time::sleep(PAUSE).await;
            if let Some(error) = error {
                return Err(error);
            }
            if stream {
                let words = if breaks { vec![WORD] } else { vec![WORD, WORD, LAST, DONE] };
                let pieces = Pieces { left: words.into(), pause: None, breaks };
                return Ok(Reply {
                    status: 200,
                    headers: Vec::new(),
                    body: ReplyBody::Stream(ReplyStream::made(pieces, Duration::ZERO)),
                    served,
                    waited: Duration::ZERO,
                    lease: lease.unwrap_or_else(Lease::nothing),
                });
            }
            let answer = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}"#;
            Ok(Reply {
                status: 200,
                headers: Vec::new(),
                body: ReplyBody::Whole { bytes: Bytes::from_static(answer.as_bytes()), usage: Usage::default() },
                served,
                waited: Duration::ZERO,
                lease: lease.unwrap_or_else(Lease::nothing),
            })
        }
        .boxed()
    }
}

/// How long a backend takes for its next word.
const PAUSE: Duration = Duration::from_millis(20);
const WORD: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"},\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// A stream that says its words one after another, and then ends well or breaks off.
struct Pieces {
    left: VecDeque<&'static str>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    breaks: bool,
}

impl Frames for Pieces {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
        ready!(pause.as_mut().poll(cx));
        self.pause = None;
        if let Some(word) = self.left.pop_front() {
            return Poll::Ready(Frame::Data(Bytes::from_static(word.as_bytes())));
        }
        let error = self.breaks.then(|| ProxyError::new(ErrorKind::Truncated, "broke off"));
        let reason = if self.breaks { EndReason::Truncated } else { EndReason::Done };
        Poll::Ready(Frame::End(Box::new(StreamEnd { reason, error, usage: Usage::default() })))
    }

    fn shut_down(&mut self) {}
}

/// A group or router of a random graph: what it is, and whom it names, as numbers that are cut to those there are.
#[derive(Debug, Clone)]
struct Knot {
    kind: usize,
    names: Vec<usize>,
    conditions: Vec<usize>,
    with_model: Vec<bool>,
}

const CONDITIONS: [&str; 9] = [
    "endpoint = \"chat\", ",
    "endpoint = [\"fim\", \"embedding\"], ",
    "has = \"tools\", ",
    "input_tokens = \">20\", ",
    "not = { endpoint = \"chat\" }, ",
    "header = { x-team = \"ml-*\" }, ",
    "time = { days = \"mon-fri\" }, ",
    "language = [\"python\", \"rust\"], ",
    "model = \"m*\", ",
];

fn knot() -> impl Strategy<Value = Knot> {
    let names = prop::collection::vec(0..1000_usize, 1..5);
    let conditions = prop::collection::vec(0..CONDITIONS.len(), 5);
    (0..1000_usize, names, conditions, prop::collection::vec(any::<bool>(), 5))
        .prop_map(|(kind, names, conditions, with_model)| Knot { kind, names, conditions, with_model })
}

/// What a type needs beside members.
fn needed(word: &str) -> String {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    match word {
        "limit" => "limits = [{ requests = 3, per = \"day\" }]\n".to_owned(),
        "budget" => "caps = [{ usd = 0.5, per = \"day\" }]\nprices = { \"*\" = { input = 1, output = 1 } }\n"
            .to_owned(),
        "tee" => format!("path = {:?}\n", folder.path().join("tee.jsonl").display().to_string()),
        "static" => "answer = \"fixed\"\n".to_owned(),
        "rewrite" => "set = { top_p = 0.5 }\n".to_owned(),
        "cache" => "all = true\n".to_owned(),
        _ => String::new(),
    }
}

/// The options without which a type is none, found by asking: its lists and single members are filled.
fn group(word: &str, members: &[String]) -> Option<String> {
    let kind = KINDS.iter().find(|kind| kind.word == word)?;
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut text = format!("type = \"{word}\"\n{}", needed(word));
    let mut seen = BTreeSet::new();
    for options in kind.options {
        let schema = options(&mut generator);
        for (key, option) in schema.get("properties")?.as_object()? {
            let names_members = option.to_string().contains("MemberSpec");
            if !names_members || !seen.insert(key.clone()) {
                continue;
            }
            let is_list = option.to_string().contains("\"array\"");
            let first = members.first()?;
            match is_list {
                true => text.push_str(&format!("{key} = {members:?}\n")),
                // Beside a list of members a single one is as a rule required; where it is not, it is good as well.
                false => text.push_str(&format!("{key} = {first:?}\n")),
            }
        }
    }
    Some(text)
}

/// The types that can be made so, which are all.
fn kinds_of_members() -> &'static [&'static str] {
    static KNOWN: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();
    let good = |word: &&str| {
        let members = ["leaf0/m".to_owned(), "leaf1/m".to_owned()];
        group(word, &members).is_some_and(|text| config(&format!("[groups.g]\n{text}")).is_some())
    };
    KNOWN.get_or_init(|| words().filter(good).collect())
}

fn config(text: &str) -> Option<Config> {
    let leaves: String = (0..LEAVES)
        .map(|number| {
            format!(
                "[providers.leaf{number}]\ntype = \"ollama\"\nurl = \"http://localhost:{}\"\n",
                number + 1
            )
        })
        .collect();
    let texts = vec![("test".to_owned(), format!("{leaves}{text}\n[state]\npath = \"none\"\n"))];
    read(&Sources { texts, ..Sources::default() }, &Registry::builtin()).ok()
}

/// A configuration of this shape: each knot names only leaves and those before it.
fn written(knots: &[Knot], kinds: &[&str]) -> String {
    let mut text = String::new();
    for (index, knot) in knots.iter().enumerate() {
        let target = |place: usize, number: usize| match number % (LEAVES + index) {
            leaf if leaf < LEAVES => format!("leaf{leaf}/m"),
            other => {
                let id = format!("k{}", other - LEAVES);
                if knot.with_model.get(place) == Some(&true) { format!("{id}/m") } else { id }
            }
        };
        let targets: Vec<String> =
            knot.names.iter().enumerate().map(|(place, number)| target(place, *number)).collect();
        match knot.kind % (kinds.len() + 2) {
            kind if kind < kinds.len() => {
                let body = group(kinds[kind], &targets).unwrap();
                text.push_str(&format!("[groups.k{index}]\n{body}"));
            }
            _ => {
                text.push_str(&format!("[routers.k{index}]\nroutes = [\n"));
                for (place, target) in targets.iter().enumerate() {
                    let last = place + 1 == targets.len() && knot.with_model.first() == Some(&true);
                    let condition =
                        knot.conditions.get(place).filter(|_| !last).map_or("", |at| CONDITIONS[*at]);
                    text.push_str(&format!("  {{ {condition}to = \"{target}\" }},\n"));
                }
                text.push_str("]\n");
            }
        }
    }
    text
}

fn call(model: &str, which: usize) -> Call {
    let long = "x ".repeat(60);
    let stream = if (which / 5).is_multiple_of(2) { r#""stream":true,"# } else { "" };
    let (endpoint, body): (&Endpoint, String) = match which % 5 {
        0 => (
            &CHAT_COMPLETIONS,
            format!(r#"{{"model":"k",{stream}"messages":[{{"role":"user","content":"hi"}}]}}"#),
        ),
        1 => (
            &CHAT_COMPLETIONS,
            format!(
                r#"{{"model":"k",{stream}"tools":[{{}}],"messages":[{{"role":"user","content":"{long}"}}]}}"#
            ),
        ),
        2 => (&COMPLETIONS, format!(r#"{{"model":"k",{stream}"prompt":"def f():","suffix":"x"}}"#)),
        3 => (&EMBEDDINGS, r#"{"model":"k","input":"x"}"#.to_owned()),
        _ => (&COMPLETIONS, format!(r#"{{"model":"m",{stream}"prompt":"{long}"}}"#)),
    };
    let request = crate::dialect::read(endpoint, Bytes::from(body)).unwrap();
    let team =
        (http::header::HeaderName::from_static("x-team"), http::header::HeaderValue::from_static("ml-1"));
    let headers = if which.is_multiple_of(2) { vec![team] } else { Vec::new() };
    let arrival = Arrival::new(Arc::from("l"), endpoint.path, headers);
    Call { stalled_reader: BOUND, arrival: Some(Arc::new(arrival)), ..Call::bare(request, model) }
}

/// Asks, and reads the answer to its end, or only its first piece where the client leaves early.
async fn asked(
    found: &dyn VirtualModel,
    call: &Call,
    leaves_early: bool,
) -> Result<Result<Reply, ProxyError>, tokio::time::error::Elapsed> {
    let mut outcome = tokio::time::timeout(BOUND, found.forward(call.clone())).await?;
    let Ok(reply) = &mut outcome else { return Ok(outcome) };
    if let ReplyBody::Stream(stream) = &mut reply.body {
        let read = async {
            loop {
                match poll_fn(|cx| stream.poll_frame(cx)).await {
                    Frame::Data(_) if leaves_early => return,
                    Frame::Data(_) => {}
                    Frame::End(_) => return,
                }
            }
        };
        tokio::time::timeout(BOUND, read).await?;
    }
    reply.body = ReplyBody::Whole { bytes: Bytes::new(), usage: Usage::default() };
    reply.lease = Lease::nothing();
    Ok(outcome)
}

/// What is shown of how a request ended, in the words of the response's headers.
fn headers(call: &Call, outcome: &Result<Reply, ProxyError>) -> (Option<String>, Option<String>) {
    let attempts = outcome.as_ref().ok().map(|reply| {
        let hops = reply.served.attempts.iter().map(|hop| format!("{} {}, ", hop.backend, hop.label));
        hops.chain([format!("{} ok", reply.served.provider)]).collect()
    });
    (attempts, call.arrival.as_ref().and_then(|arrival| arrival.routes()))
}

/// What was foretold, as far as it was foretold for sure and nobody who was asked failed on the way.
fn agrees(
    course: &Course,
    moods: &[Mood],
    call: &Call,
    outcome: &Result<Reply, ProxyError>,
) -> Result<bool, String> {
    let anybody_fails = moods.contains(&Mood::Fails) || moods.contains(&Mood::Breaks);
    if !course.sure || anybody_fails {
        return Ok(false);
    }
    let (attempts, routes) = headers(call, outcome);
    match &course.end {
        End::Answers { .. } if course.attempts() != attempts => {
            let error = outcome.as_ref().err().map(|error| error.message.clone());
            Err(format!("foretold {:?}, was {attempts:?} ({error:?})", course.attempts()))
        }
        End::Fails { .. } if outcome.is_ok() => {
            Err(format!("foretold to fail: {course:?}, was {attempts:?}"))
        }
        // Rounds of a request that fails may take a router's other routes as well.
        End::Answers { .. } if course.routes() != routes => {
            Err(format!("foretold routes {:?}, were {routes:?}", course.routes()))
        }
        _ => Ok(true),
    }
}

fn moods() -> impl Strategy<Value = Vec<Mood>> {
    let mood = prop_oneof![4 => Just(Mood::Answers), 1 => Just(Mood::Fails), 1 => Just(Mood::Breaks), 1 => Just(Mood::Full), 1 => Just(Mood::Cannot)];
    prop::collection::vec(mood, LEAVES)
}

#[test]
fn every_type_of_group_is_in_the_graphs() {
    let kinds = kinds_of_members();
    assert!(words().all(|word| kinds.contains(&word)), "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_valid_graph_answers_or_fails_in_bounded_time_settles_all_and_does_what_was_explained(
        knots in prop::collection::vec(knot(), 1..6),
        moods in moods(),
        which in prop::collection::vec(0..1000_usize, 4),
    ) {
        let kinds = kinds_of_members();
        let text = written(&knots, kinds);
        let config = config(&text);
        // Routes that never match and the like are refused, as they are to be.
        prop_assume!(config.is_some());
        let config = config.unwrap();
        let (metrics, books) = (Arc::new(Metrics::new().unwrap()), Arc::new(Books::default()));
        let means = Means::new(&metrics, Scrub::of_all(&config), Tallies::nowhere());
        let leaves = moods.iter().enumerate().map(|(number, mood)| {
            let (books, metrics) = (Arc::clone(&books), Arc::clone(&metrics));
            Arc::new(Leaf { id: format!("leaf{number}"), mood: *mood, books, metrics }) as Arc<dyn Backend>
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let local = tokio::task::LocalSet::new();
        let (runs, held) = local.block_on(&runtime.unwrap(), async {
            let graph = Graph::over(&config.groups, &config.routers, leaves.collect(), &means, &Before::default()).unwrap();
            let virtuals = graph.into_virtuals();
            let find = |id: &str| virtuals.iter().find(|known| known.id() == id).cloned();
            let mut runs = Vec::new();
            for (turn, which) in which.iter().enumerate() {
                let found = &virtuals[(which + turn) % virtuals.len()];
                let call = call(if which.is_multiple_of(3) { "m" } else { "" }, *which);
                let (_, course) = explain(&**found, &call, &find);
                // Another one asks the same a moment later, and sometimes leaves.
                let (leaves, other) = ((which / 10).is_multiple_of(2), self::call(&call.model, *which));
                let beside = async {
                    tokio::time::sleep(PAUSE / 2).await;
                    asked(&**found, &other, leaves).await
                };
                let alone = (which / 20).is_multiple_of(2);
                let leaves_too = (which / 40).is_multiple_of(4);
                let outcome = if alone {
                    asked(&**found, &call, leaves_too).await
                } else {
                    let (outcome, other) = futures_util::future::join(asked(&**found, &call, leaves_too), beside).await;
                    other.and(outcome)
                };
                runs.push((found.id().to_owned(), course, call, outcome));
            }
            // What was begun beside the requests has ended by then.
            tokio::time::sleep(BOUND).await;
            (runs, books.held.load(Ordering::Relaxed))
        });
        for (id, course, call, outcome) in runs {
            let Ok(outcome) = outcome else {
                return Err(TestCaseError::fail(format!("{id} took too long:\n{text}")));
            };
            if let Err(error) = &outcome {
                prop_assert!(!error.message.is_empty(), "{id} says why:\n{text}");
            }
            if let Err(why) = agrees(&course, &moods, &call, &outcome) {
                return Err(TestCaseError::fail(format!("{id}: {why}\n{moods:?}\n{text}")));
            }
        }
        prop_assert_eq!(held, 0, "all is settled:\n{}", text);
    }
}

/// Builds the graph of this configuration over these leaves, with what there was before.
fn built(config: &Config, leaves: &[Arc<dyn Backend>], before: &Before) -> Vec<Arc<dyn VirtualModel>> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let means = Means::new(&metrics, Scrub::of_all(config), Tallies::nowhere());
    let graph = Graph::over(&config.groups, &config.routers, leaves.to_vec(), &means, before);
    graph.unwrap().into_virtuals()
}

#[test]
fn what_is_unchanged_over_what_stays_is_the_same_backend_after_a_reload() {
    let config = config(
        "[groups.a]\ntype = \"failover\"\nmembers = [\"leaf0/m\"]\n[groups.b]\ntype = \"failover\"\nmembers = [\"r\"]\n[routers.r]\nroutes = [{ quota = { of = \"leaf1\", left = \"<20%\" }, to = \"leaf2/m\" }, { to = \"a\" }]\n",
    )
    .unwrap();
    let (books, metrics) = (Arc::<Books>::default(), Arc::new(Metrics::new().unwrap()));
    let leaves: Vec<Arc<dyn Backend>> = (0..LEAVES)
        .map(|number| {
            let (books, metrics) = (Arc::clone(&books), Arc::clone(&metrics));
            Arc::new(Leaf { id: format!("leaf{number}"), mood: Mood::Answers, books, metrics }) as _
        })
        .collect();
    let first = built(&config, &leaves, &Before::default());
    let stay = |ids: &[&str]| -> Vec<String> {
        let virtuals = first.iter().map(|known| (known.id().to_owned(), Arc::clone(known))).collect();
        let before = Before { virtuals, same: ids.iter().map(|id| (*id).to_owned()).collect() };
        let next = built(&config, &leaves, &before);
        assert_eq!(next.len(), first.len());
        let same = next.iter().filter(|one| first.iter().any(|known| Arc::ptr_eq(known, one)));
        same.map(|known| known.id().to_owned()).collect()
    };
    assert_eq!(stay(&["leaf0", "leaf1", "leaf2"]), ["a", "b", "r"]);
    assert_eq!(stay(&["leaf0", "leaf2"]), ["a"], "a condition looks at one that changed");
    assert_eq!(stay(&["leaf0", "leaf1"]), ["a"], "a target changed");
    assert_eq!(stay(&["leaf1", "leaf2"]), Vec::<String>::new(), "a member changed");
}
