//! What is measured: names and labels as they are promised, values that are true, and no more series than there are
//! models and providers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use demuxai::demo::faults::{self, good_stream};
use demuxai::demo::script::Answer as Plain;
use demuxai::demo::server::Fake;
use demuxai::demo::upstream::{Setup, Upstream};

use crate::support::edge::{self, CHAT, STREAM, Stage, refusal, stage};
use crate::support::proxy::{Proxy, provider};
use crate::support::{eventually, nowhere};

const PATH: &str = "/v1/chat/completions";
const WORDS: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (label, value) = pair.split_once("=\"").expect("a label");
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    };
    Sample {
        name: name.to_owned(),
        labels: pairs.map(pair).collect(),
        value: value.parse().expect("a number"),
    }
}

/// The value of the only series of this name with (at least) these labels.
#[track_caller]
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &Sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
    };
    let found: Vec<Sample> = samples(text).into_iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} is there once: {found:?} in\n{text}");
    found[0].value
}

/// An upstream that does what the prompt says.
fn obedient() -> Fake {
    let stream = || good_stream("m", &["one", "two", "three", "four"]);
    Fake::start(move |received| {
        if received.path().ends_with("/models") {
            return Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"},{"id":"n"}]}"#);
        }
        let body = received.json();
        match body["messages"][0]["content"].as_str().unwrap_or_default() {
            "plain" => Plain::json(200).body(
                r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":60},"completion_tokens_details":{"reasoning_tokens":7}}}"#,
            ),
            "done" => {
                let mut stream = stream();
                let done = stream.frames.pop().unwrap();
                stream.push(r#"{"id":"chatcmpl-fault","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#);
                stream.frames.push(done);
                stream.script()
            }
            "truncated" => faults::close_mid_stream(stream(), 3),
            "error" => faults::error_mid_stream(stream(), 3),
            "hang" => faults::hang_mid_stream(stream(), 3),
            "gated" => faults::gated_mid_stream(stream(), 3, "rest"),
            "flood" => {
                let frame = format!("data: {}\n\n", edge::delta(&"x".repeat(60_000)));
                let chunk = format!("{:x}\r\n{frame}\r\n", frame.len());
                Plain::events().chunked().repeat(chunk, 10_000).hang()
            }
            "refused" => Plain::json(429).body(r#"{"error":{"message":"slow down","type":"rate_limit"}}"#),
            other => panic!("nobody told me about {other}"),
        }
    })
    .expect("fake upstream starts")
}

fn ask(content: &str, stream: bool) -> String {
    format!(r#"{{"model":"up/m","stream":{stream},"messages":[{{"role":"user","content":"{content}"}}]}}"#)
}

/// A daemon in front of it that gives up soon.
fn impatient(fake: &Fake) -> Proxy {
    impatient_with(fake, "")
}

/// The same with more in its configuration.
fn impatient_with(fake: &Fake, more: &str) -> Proxy {
    let listener =
        "[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\nstalled_reader = \"500ms\"\n";
    let text = format!(
        "{}timeouts = {{ idle = \"300ms\" }}\n{listener}{more}",
        provider("up", "openai", &fake.url())
    );
    let proxy = Proxy::start(&text);
    proxy.until_up("up");
    proxy
}

/// An upstream that answers so many requests and then asks to be left alone for five minutes.
fn refusing_after(count: usize) -> Fake {
    let left = AtomicUsize::new(count);
    Fake::start(move |received| {
        if received.path().ends_with("/models") {
            return Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#);
        }
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Plain::json(200).body(WORDS),
            Err(_) => Plain::json(429)
                .header("retry-after", "300")
                .body(r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#),
        }
    })
    .expect("fake upstream starts")
}

/// Every way a stream can end, each once.
fn end_in_every_way(proxy: &Proxy) {
    assert!(proxy.post(PATH, &ask("done", true)).complete);
    for content in ["truncated", "error", "hang"] {
        assert!(!proxy.post(PATH, &ask(content, true)).complete, "{content}");
    }
    let mut left = proxy.open(PATH, &ask("gated", true));
    left.until("two");
    left.leave();
    let stalled = proxy.open(PATH, &ask("flood", true));
    let ends = "demuxai_stream_ends_total{provider=\"up\",reason=\"stalled_reader\"}";
    eventually("the reader that takes nothing is dropped", || proxy.find_metric(ends), Option::is_some);
    stalled.leave();
}

#[test]
fn every_reason_for_a_stream_s_end_is_counted_as_what_it_is() {
    let fake = obedient();
    let proxy = impatient(&fake);
    end_in_every_way(&proxy);
    for reason in ["done", "cancelled", "truncated", "upstream_error", "idle", "stalled_reader"] {
        let series = format!("demuxai_stream_ends_total{{provider=\"up\",reason=\"{reason}\"}}");
        eventually(reason, || proxy.find_metric(&series), |count| *count == Some(1.0));
    }
    let active = "demuxai_streams_active{provider=\"up\"}";
    assert_eq!(proxy.metric(active), 0.0, "none is left over");
}

#[cfg(target_os = "linux")]
#[test]
fn names_types_and_labels_are_those_that_are_promised() {
    let fake = obedient();
    let directory = tempfile::TempDir::new().expect("a directory");
    let state = format!("[state]\npath = \"{}\"\n", directory.path().join("state.db").display());
    let full = refusing_after(1);
    let other = provider("other", "openai", &full.url());
    let limit = "limits = [{ requests = 10, per = \"hour\" }]\n";
    let group = "[groups.g]\ntype = \"failover\"\nmembers = [\"other/m\", \"up/m\"]\n\
                 [groups.v]\ntype = \"consensus\"\ncombine = \"first\"\nmembers = [\"up/m\"]\n\
                 [routers.r]\nroutes = [{ to = \"up/m\" }]\n";
    let proxy = impatient_with(&fake, &format!("{other}{limit}{group}{state}"));
    proxy.until_up("other");
    for model in ["other/m", "g", "r"] {
        assert_eq!(proxy.post(PATH, &ask("plain", false).replace("up/m", model)).status, 200, "{model}");
    }
    assert_eq!(proxy.post(PATH, &ask("plain", false)).status, 200);
    assert_eq!(proxy.post(PATH, &ask("done", true).replace("up/m", "v")).status, 200);
    assert_eq!(proxy.post(PATH, &ask("refused", false)).status, 429);
    assert_eq!(proxy.post(PATH, "{}").status, 400);
    end_in_every_way(&proxy);
    let text = proxy.get("/metrics").text();
    let mut families: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
    }
    for sample in samples(&text) {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| sample.name.strip_suffix(suffix).filter(|name| families.contains_key(*name)))
            .unwrap_or(&sample.name)
            .to_owned();
        let labels = sample.labels.into_keys().filter(|label| label != "le");
        families.get_mut(&family).expect("a type").1.extend(labels);
    }
    let listed: String = families
        .iter()
        .map(|(name, (kind, labels))| {
            format!("{name} {kind} {}\n", Vec::from_iter(labels.iter().map(String::as_str)).join(","))
        })
        .collect();
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!("metrics_names_types_and_labels", listed) });
}

/// What is shown of one limit.
#[derive(Debug, PartialEq)]
struct Shown {
    limit: f64,
    used: f64,
    remaining: f64,
    /// Seconds from now, if anything is used.
    reset: Option<f64>,
}

/// What is shown of the only limit of this provider that counts this in this window and is known so.
#[track_caller]
fn shown(text: &str, provider: &str, scope: &str, unit: &str, window: &str, source: &str) -> Shown {
    let labels =
        [("provider", provider), ("scope", scope), ("unit", unit), ("window", window), ("source", source)];
    let value = |name: &str| value(text, &format!("demuxai_quota_{name}"), &labels);
    let resets = samples(text).into_iter().find(|sample| {
        sample.name == "demuxai_quota_reset_timestamp_seconds"
            && sample.labels["provider"] == provider
            && sample.labels["unit"] == unit
            && sample.labels["window"] == window
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Shown {
        limit: value("limit"),
        used: value("used"),
        remaining: value("remaining"),
        reset: resets.map(|sample| sample.value - now.as_secs_f64()),
    }
}

#[test]
fn no_limit_is_shown_as_known_otherwise_than_it_is_nor_with_wrong_amounts() {
    let good = || refusing_after(usize::MAX);
    let (own, guessed, learned) = (good(), good(), refusing_after(6));
    let stating = Fake::start(|received| {
        if received.path().ends_with("/models") {
            return Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#);
        }
        Plain::json(200)
            .header("x-ratelimit-limit-requests", "20")
            .header("x-ratelimit-remaining-requests", "13")
            .header("x-ratelimit-reset-requests", "21s")
            .body(WORDS)
    })
    .expect("fake upstream starts");
    let proxy = Proxy::start(&format!(
        "{}limits = [{{ requests = 9, per = \"hour\" }}]\n{}{}{}[state]\npath = \"none\"\n",
        provider("own", "openai", &own.url()),
        provider("guessed", "nvidia", &guessed.url()),
        provider("stated", "openai", &stating.url()),
        provider("learned", "openai", &learned.url()),
    ));
    for (id, requests) in [("own", 2), ("guessed", 3), ("stated", 1), ("learned", 6)] {
        proxy.until_up(id);
        for _ in 0..requests {
            let answer = proxy.post(PATH, &CHAT.replace("up/", &format!("{id}/")));
            assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        }
    }
    assert_eq!(proxy.post(PATH, &CHAT.replace("up/", "learned/")).status, 429);
    let text = proxy.get("/metrics").text();
    // What was refused was sent, too, and is counted.
    for (id, scope, window, source, amounts, reset) in [
        ("own", "account", "hour", "configured", (9.0, 2.0, 7.0), 3540.0..3601.0),
        ("guessed", "account", "minute", "catalogue", (40.0, 3.0, 37.0), 20.0..61.0),
        ("stated", "m", "minute", "header", (20.0, 7.0, 13.0), 1.0..62.0),
        ("learned", "m", "minute", "learned", (6.0, 7.0, 0.0), 1.0..301.0),
    ] {
        let shown = shown(&text, id, scope, "requests", window, source);
        assert_eq!((shown.limit, shown.used, shown.remaining), amounts, "{id}: {text}");
        assert!(shown.reset.is_some_and(|wait| reset.contains(&wait)), "{id}: {shown:?}");
    }
    let until =
        "demuxai_cooldown_until_timestamp_seconds{provider=\"learned\",reason=\"window\",scope=\"m\"}";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let wait = proxy.metric(until) - now;
    assert!((200.0..301.0).contains(&wait), "{wait}");
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let fake = obedient();
    let proxy = impatient(&fake);
    assert_eq!(proxy.post(PATH, &ask("plain", false)).status, 200);
    end_in_every_way(&proxy);
    let answer = proxy.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        // Past the capture of the tests' output, or it would be a silent one.
        let text = "NOT CHECKED: promtool is not there; install Debian's `prometheus` package";
        let _ = writeln!(std::io::stderr(), "{text}");
        return;
    };
    child.stdin.take().unwrap().write_all(&answer.body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_plain_answer_counts_once_with_its_tokens_and_no_time_to_first_token() {
    let fake = obedient();
    let proxy = impatient(&fake);
    assert_eq!(proxy.post(PATH, &ask("plain", false)).status, 200);
    let whole = "demuxai_requests_total{backend=\"up\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"ok\",provider=\"up\"}";
    eventually("it is counted", || proxy.find_metric(whole), |count| *count == Some(1.0));
    let text = proxy.get("/metrics").text();
    for (kind, count) in [("input", 100.0), ("output", 20.0), ("reasoning", 7.0), ("cached", 60.0)] {
        let labels = [("provider", "up"), ("model", "m"), ("type", kind), ("source", "upstream")];
        assert_eq!(value(&text, "demuxai_tokens_total", &labels), count, "{kind}");
    }
    let attempt = [("provider", "up"), ("model", "m"), ("outcome", "ok"), ("reason", "none")];
    assert_eq!(value(&text, "demuxai_upstream_attempts_total", &attempt), 1.0);
    let of_model = [("provider", "up"), ("model", "m")];
    assert_eq!(value(&text, "demuxai_time_to_first_token_seconds_count", &of_model), 0.0);
    assert_eq!(value(&text, "demuxai_time_per_output_token_seconds_count", &of_model), 0.0);
    let of_task = [("provider", "up"), ("model", "m"), ("endpoint", "chat")];
    assert_eq!(value(&text, "demuxai_request_duration_seconds_count", &of_task), 1.0);
    assert_eq!(value(&text, "demuxai_overhead_seconds_count", &[("provider", "up")]), 1.0);
    let overhead = value(&text, "demuxai_overhead_seconds_sum", &[("provider", "up")]);
    let duration = value(&text, "demuxai_request_duration_seconds_sum", &of_task);
    assert!(overhead > 0.0 && overhead <= duration, "{overhead} of {duration} s");
}

#[test]
fn a_stream_counts_its_first_token_its_pace_and_itself_while_it_runs() {
    let fake = obedient();
    let proxy = impatient(&fake);
    let mut running = proxy.open(PATH, &ask("gated", true));
    running.until("one");
    assert_eq!(proxy.metric("demuxai_streams_active{provider=\"up\"}"), 1.0);
    fake.open_gate("rest");
    assert!(running.finish().complete);
    assert!(proxy.post(PATH, &ask("done", true)).complete);
    let ends = "demuxai_stream_ends_total{provider=\"up\",reason=\"done\"}";
    eventually("both are over", || proxy.find_metric(ends), |count| *count == Some(2.0));
    let text = proxy.get("/metrics").text();
    let of_model = [("provider", "up"), ("model", "m")];
    assert_eq!(value(&text, "demuxai_streams_active", &[("provider", "up")]), 0.0);
    assert_eq!(value(&text, "demuxai_time_to_first_token_seconds_count", &of_model), 2.0);
    // Only the second one said how many tokens it had.
    assert_eq!(value(&text, "demuxai_time_per_output_token_seconds_count", &of_model), 1.0);
    let tokens = [("provider", "up"), ("model", "m"), ("type", "output"), ("source", "upstream")];
    assert_eq!(value(&text, "demuxai_tokens_total", &tokens), 5.0);
}

#[test]
fn a_request_that_fails_is_counted_where_it_failed() {
    let stage = stage("");
    stage.proxy.post(PATH, "{}");
    stage.proxy.post(PATH, &CHAT.replace("up/m", "up/none"));
    stage.proxy.get("/nothing");
    stage.proxy.get("/v1/embeddings");
    let dead = Proxy::start(&format!("{}models = [\"m\"]\n", provider("dead", "openai", &nowhere())));
    dead.post(PATH, &CHAT.replace("up/", "dead/"));
    let text = stage.proxy.get("/metrics").text();
    for (endpoint, outcome) in [
        ("chat", "invalid_request"),
        ("chat", "model_not_found"),
        ("none", "not_found"),
        ("none", "method_not_allowed"),
    ] {
        let labels =
            [("backend", "none"), ("provider", "none"), ("endpoint", endpoint), ("outcome", outcome)];
        assert_eq!(value(&text, "demuxai_requests_total", &labels), 1.0, "{outcome}");
    }
    let labels = [("backend", "dead"), ("provider", "dead"), ("endpoint", "chat"), ("outcome", "connect")];
    assert_eq!(value(&dead.get("/metrics").text(), "demuxai_requests_total", &labels), 1.0);
    let attempt = [("provider", "dead"), ("outcome", "error"), ("reason", "connect")];
    assert_eq!(value(&dead.get("/metrics").text(), "demuxai_upstream_attempts_total", &attempt), 1.0);
}

#[test]
fn a_client_that_leaves_before_the_first_token_is_a_cancelled_request() {
    let fake = Fake::start(|received| match received.method.as_str() {
        "GET" => Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"}]}"#),
        _ => faults::hang_before_head(),
    })
    .unwrap();
    let proxy = Proxy::start(&provider("up", "openai", &fake.url()));
    proxy.until_up("up");
    for body in [CHAT, STREAM] {
        let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let open = fake.counts().cancelled;
        eventually("it is upstream", || fake.counts().open_requests, |open| *open == 1);
        drop(stream);
        eventually("the upstream is let go", || fake.counts().cancelled, |cancelled| *cancelled == open + 1);
    }
    let series = "demuxai_requests_total{backend=\"up\",endpoint=\"chat\",listener=\"test\",model=\"m\",outcome=\"cancelled\",provider=\"up\"}";
    eventually("both are counted", || proxy.find_metric(series), |count| *count == Some(2.0));
}

/// How many series there are, apart from those of the request that looks.
fn series(proxy: &Proxy) -> usize {
    samples(&proxy.get("/metrics").text()).len()
}

#[test]
fn a_thousand_unknown_models_paths_and_methods_make_no_series_of_their_own() {
    let codestral = Upstream::Codestral.start(Setup::default()).unwrap();
    let fake = edge::upstream();
    let text = format!(
        "{}{}",
        provider("up", "openai", &fake.url()),
        provider("codestral", "codestral", &codestral.url())
    );
    let proxy = Proxy::start(&text);
    proxy.until_up("up");
    proxy.until_up("codestral");
    let disturb = |number: usize| {
        refusal(&proxy.post(PATH, &CHAT.replace("up/m", &format!("up/m-{number}"))), 404, "unknown model");
        refusal(&proxy.post(PATH, &CHAT.replace("up/m", &format!("p{number}/m"))), 404, "unknown provider");
        // Codestral's list is known to be incomplete, so the upstream is asked.
        let open = proxy.post(PATH, &CHAT.replace("up/m", &format!("codestral/c-{number}")));
        assert!(open.status >= 400, "{}", open.text());
        proxy.get(&format!("/nothing-{number}"));
        crate::support::client::open(proxy.address, &format!("BREW{number}"), "/v1/models", &[], b"")
            .finish();
    };
    disturb(0);
    let before = series(&proxy);
    for number in 1..=200 {
        disturb(number);
    }
    assert_eq!(series(&proxy), before);
    let text = proxy.get("/metrics").text();
    let models: BTreeSet<String> =
        samples(&text).into_iter().filter_map(|mut sample| sample.labels.remove("model")).collect();
    assert!(
        models.contains("other") && models.iter().all(|model| ["other", "none"].contains(&model.as_str())),
        "{models:?}"
    );
    assert!(!text.contains("c-1") && !text.contains("BREW") && !text.contains("nothing-"), "{text}");
}

#[test]
fn the_first_scrape_has_every_provider_the_build_and_the_process() {
    let down = Proxy::start(&provider("down", "openai", &nowhere()));
    let text = down.get("/metrics").text();
    assert_eq!(value(&text, "demuxai_provider_up", &[("provider", "down")]), 0.0);
    assert_eq!(value(&text, "demuxai_actor_restarts_total", &[("provider", "down")]), 0.0);
    assert_eq!(value(&text, "demuxai_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    #[cfg(target_os = "linux")]
    assert!(value(&text, "process_resident_memory_bytes", &[]) > 1e6);
    let stage = stage("");
    let text = stage.proxy.get("/metrics").text();
    assert_eq!(value(&text, "demuxai_provider_up", &[("provider", "up")]), 1.0);
}

#[test]
fn it_is_alive_at_once_and_ready_when_a_provider_is_up() {
    let fake = Fake::start(|_| {
        Plain::json(200).chunked().gate("list").chunk(r#"{"object":"list","data":[]}"#).last_chunk()
    })
    .unwrap();
    let text = format!("{}{}", provider("up", "openai", &fake.url()), provider("down", "openai", &nowhere()));
    let proxy = Proxy::start(&text);
    eventually("its list is asked for", || fake.counts().requests, |requests| *requests == 1);
    assert_eq!((proxy.get("/healthz").status, proxy.get("/readyz").status), (200, 503));
    assert_eq!(proxy.get("/readyz").text(), "no provider is usable\n");
    fake.open_gate("list");
    eventually("it is ready", || proxy.get("/readyz").status, |status| *status == 200);
    assert_eq!(proxy.status_of("down")["health"], "unreachable", "one that is down does not count");
}

#[test]
fn probes_and_scrapes_are_no_requests() {
    let stage = stage("");
    for path in ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/up/m", "/demuxai/status"] {
        assert_eq!(stage.proxy.get(path).status, 200, "{path}");
    }
    let text = stage.proxy.get("/metrics").text();
    assert!(!text.contains("demuxai_requests_total{"), "{text}");
}

/// A histogram is fifteen series: one for each endpoint of each model would be most of the page, and all zeros.
#[test]
fn an_endpoint_that_was_never_asked_has_no_durations() {
    let stage = stage("");
    assert_eq!(stage.proxy.post(PATH, CHAT).status, 200);
    let text = stage.proxy.get("/metrics").text();
    let endpoints: BTreeSet<String> = samples(&text)
        .into_iter()
        .filter(|sample| sample.name == "demuxai_request_duration_seconds_count")
        .filter_map(|mut sample| sample.labels.remove("endpoint"))
        .collect();
    assert_eq!(endpoints, BTreeSet::from(["chat".to_owned()]), "{text}");
}

/// On an address that others reach, what is measured needs a key, and the status stays at home.
#[test]
fn what_is_measured_is_not_for_everyone_in_the_network() {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some(own) = own.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) else {
        eprintln!("NOT CHECKED: this machine has no address but loopback");
        return;
    };
    let fake = edge::upstream();
    let listener =
        format!("[listeners.test]\naddress = \"{own}:0\"\n[keys.prometheus]\nkey = \"scrape-key\"\n");
    let proxy = Proxy::start(&format!("{}{listener}", provider("up", "openai", &fake.url())));
    let stage = Stage { proxy, fake };
    refusal(&stage.get_with("/metrics", ""), 401, "without a key");
    assert_eq!(stage.get_with("/metrics", "authorization: Bearer scrape-key\r\n").status, 200);
    refusal(&stage.get_with("/demuxai/status", "authorization: Bearer scrape-key\r\n"), 403, "status");
    assert_eq!(stage.get_with("/healthz", "").status, 200);
}
