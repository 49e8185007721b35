//! Which member of a group is asked, and for how long one that failed is not. The whole daemon in front of scripted
//! upstreams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use demuxai::demo::{Answer, Fake, Options, Received, Script, faults};

use super::support::client::Answer as Got;
use super::support::proxy::{Proxy, provider};
use super::support::{asked, eventually};

const PATH: &str = "/v1/chat/completions";
const LIST: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;

fn words(name: &str) -> Script {
    Answer::json(200).body(format!(
        r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{name}"}},"finish_reason":"stop"}}]}}"#
    ))
}

/// An upstream that lists `m` and answers by this.
fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    Fake::start(move |received| match received.path().ends_with("/models") {
        true => Answer::json(200).body(LIST),
        false => answer(received),
    })
    .expect("fake upstream starts")
}

/// The daemon with these upstreams as `a` and `b`, once both are up.
fn daemon(first: &Fake, of_first: &str, second: &Fake, group: &str) -> Proxy {
    let (a, b) = (provider("a", "openai", &first.url()), provider("b", "openai", &second.url()));
    let group = format!("[groups.g]\nmembers = [\"a/m\", \"b/m\"]\n{group}");
    let proxy = Proxy::start(&format!("{a}{of_first}\n{b}{group}\n[state]\npath = \"none\"\n"));
    for id in ["a", "b"] {
        proxy.until_up(id);
    }
    proxy
}

fn ask(proxy: &Proxy, model: &str) -> Got {
    proxy.post(PATH, &format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#))
}

fn answered_by(got: &Got) -> String {
    assert_eq!(got.status, 200, "{}", got.text());
    got.header("x-demuxai-provider").unwrap_or_default().to_owned()
}

/// How often the first member is asked while the second one answers so many requests.
fn asked_of(script: Script, requests: usize) -> (Proxy, Fake, usize) {
    let (bad, good) = (upstream(move |_| script.clone()), upstream(|_| words("b")));
    let proxy = daemon(&bad, "", &good, "type = \"failover\"");
    for _ in 0..requests {
        assert_eq!(answered_by(&ask(&proxy, "g")), "b");
    }
    let count = asked(&bad);
    (proxy, bad, count)
}

#[test]
fn a_member_whose_list_cannot_be_had_is_not_passed_over() {
    for status in [404, 429, 500] {
        let bare = Fake::start(move |received| match received.path().ends_with("/models") {
            true => Answer::json(status).body(r#"{"error":{"message":"no"}}"#),
            false => words("a"),
        })
        .expect("fake upstream starts");
        let good = upstream(|_| words("b"));
        let proxy = daemon(&bare, "", &good, "type = \"failover\"");
        assert_eq!(answered_by(&ask(&proxy, "g")), "a", "{status}");
    }
}

#[test]
fn a_member_that_lacks_the_model_is_not_asked_for_it_with_every_request() {
    let missing = r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error"}}"#;
    let (proxy, bad, count) = asked_of(Answer::json(404).body(missing), 3);
    assert_eq!(count, 1);
    let direct = ask(&proxy, "a/m");
    assert_eq!((direct.status, asked(&bad)), (404, 2), "whoever asks for it directly gets its own word");
}

#[test]
fn an_overloaded_member_is_not_asked_before_it_said() {
    let busy = Answer::json(503).header("retry-after", "30").body(r#"{"error":{"message":"busy"}}"#);
    let (proxy, bad, count) = asked_of(busy, 3);
    assert_eq!(count, 1);
    let direct = ask(&proxy, "a/m");
    assert_eq!((direct.status, asked(&bad)), (503, 2));
}

#[test]
fn a_group_of_overloaded_members_does_not_hide_when_they_are_free() {
    let busy = |wait: &'static str| {
        upstream(move |_| {
            Answer::json(503).header("retry-after", wait).body(r#"{"error":{"message":"busy"}}"#)
        })
    };
    let (later, sooner) = (busy("40"), busy("30"));
    let proxy = daemon(&later, "", &sooner, "type = \"failover\"");
    for _ in 0..2 {
        let got = ask(&proxy, "g");
        assert_eq!((got.status, got.header("retry-after")), (503, Some("30")), "{}", got.text());
    }
}

#[test]
fn a_member_that_fails_what_another_one_serves_is_not_asked_for_ever() {
    let (_proxy, _bad, count) = asked_of(Answer::json(500).body(r#"{"error":{"message":"no"}}"#), 8);
    assert_eq!(count, 5);
}

#[test]
fn a_strategy_does_not_stay_with_a_member_that_hangs_past_the_groups_timeout() {
    let (hangs, good) = (upstream(|_| faults::hang_before_head()), upstream(|_| words("b")));
    let proxy = daemon(&hangs, "", &good, "type = \"rotate\"\ntimeout = \"300ms\"");
    assert_eq!(ask(&proxy, "g").status, 504);
    assert_eq!(answered_by(&ask(&proxy, "g")), "b");
}

#[test]
fn a_local_server_that_loads_its_model_does_not_fail_a_request() {
    for model in ["a/m", "g"] {
        let turn = AtomicUsize::new(0);
        let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
        let local = upstream(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::json(503).body(loading),
            _ => words("a"),
        });
        let broken = upstream(|_| Answer::json(400).body(r#"{"error":{"message":"does not support this"}}"#));
        let proxy = daemon(&local, "local = true\n", &broken, "type = \"failover\"");
        assert_eq!(answered_by(&ask(&proxy, model)), "a", "{model}");
        assert_eq!(asked(&local), 2);
    }
}

/// The daemon with one local provider `a` at this address, before anybody listens there.
fn before_its_server(more: &str) -> (Proxy, std::net::SocketAddr) {
    let place = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = place.expect("a free port");
    let text = provider("a", "openai", &format!("http://{address}"));
    let state = "[state]\npath = \"none\"\n";
    (Proxy::start(&format!("{text}local = true\n{more}{state}")), address)
}

/// What becomes of a request for `model` when the server begins to listen after the first attempt.
fn asked_while_it_starts(model: &str, groups: &str) -> Got {
    let (proxy, address) = before_its_server(groups);
    let failed = "demuxai_upstream_attempts_total{model=\"other\",outcome=\"error\",provider=\"a\",reason=\"connect\"}";
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&proxy, model));
        // Four times: who does not wait for it has given up by then.
        eventually("it is tried", || proxy.find_metric(failed), |count| *count >= Some(4.0));
        let handler = |received: &Received| match received.path().ends_with("/models") {
            true => Answer::json(200).body(LIST),
            false => words("a"),
        };
        let _fake = Fake::start_with(Options::new(handler).address(address)).expect("it starts");
        asking.join().expect("an answer")
    })
}

#[test]
fn a_local_server_that_is_only_starting_does_not_fail_a_request_of_a_group_that_waits() {
    let waits = "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\non_exhausted = \"30s\"\n";
    let nested = format!("{waits}[groups.over]\ntype = \"rotate\"\nmembers = [\"g\"]\n");
    assert_eq!(answered_by(&asked_while_it_starts("g", waits)), "a");
    assert_eq!(answered_by(&asked_while_it_starts("over", &nested)), "a");
}

#[test]
fn a_local_server_that_is_not_there_fails_a_request_soon_where_the_group_does_not_wait() {
    let (proxy, address) = before_its_server("[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\"]\n");
    let got = ask(&proxy, "g");
    assert_eq!(got.status, 503, "{}", got.text());
    let said = got.json()["error"]["message"].as_str().expect("a message").to_owned();
    let why = format!("cannot connect to {address}: connection refused; is it running?");
    assert!(said.ends_with(&format!("{why} (2 times)")), "{said}");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m connect, a/m connect"));
    let remark = proxy.status_of("a")["remark"].as_str().expect("a remark").to_owned();
    assert!(remark.contains(&why), "{remark}");
}

#[test]
fn a_local_server_that_loads_its_model_does_not_fail_a_request_of_a_group_of_groups() {
    let turn = AtomicUsize::new(0);
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let local = upstream(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Answer::json(503).body(loading),
        _ => words("a"),
    });
    let broken = upstream(|_| Answer::json(400).body(r#"{"error":{"message":"does not support this"}}"#));
    let groups = "type = \"failover\"\n[groups.over]\ntype = \"failover\"\nmembers = [\"g\"]\n";
    let proxy = daemon(&local, "local = true\n", &broken, groups);
    assert_eq!(answered_by(&ask(&proxy, "over")), "a");
    assert_eq!(asked(&local), 3);
}

#[test]
fn a_member_that_lacked_the_model_is_asked_again_after_its_next_model_list() {
    let turn = AtomicUsize::new(0);
    let missing = r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error"}}"#;
    let pulled = upstream(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::json(404).body(missing),
        _ => words("a"),
    });
    let good = upstream(|_| words("b"));
    let proxy = daemon(&pulled, "cache_seconds = 5\n", &good, "type = \"failover\"");
    assert_eq!(answered_by(&ask(&proxy, "g")), "b");
    let answered = || answered_by(&ask(&proxy, "g"));
    eventually("it is asked for what it may have by now", answered, |by| by == "a");
}

#[test]
fn an_account_without_credits_is_asked_for_free_models_alone_until_it_has_some() {
    let credits = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&credits);
    let account = Fake::start(move |received| match received.path() {
        path if path.ends_with("/key") => {
            let left = left.load(Ordering::Relaxed);
            Answer::json(200).body(format!(r#"{{"data":{{"limit":5,"limit_remaining":{left}}}}}"#))
        }
        path if path.ends_with("/models") => {
            Answer::json(200).body(r#"{"object":"list","data":[{"id":"m"},{"id":"m:free"}]}"#)
        }
        _ => words("a"),
    })
    .expect("fake upstream starts");
    let other = upstream(|_| words("b"));
    let (a, b) = (provider("a", "openrouter", &account.url()), provider("b", "openai", &other.url()));
    let groups = "[groups.dear]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\"]\n\
        [groups.free]\ntype = \"failover\"\nmembers = [\"a/m:free\", \"b/m\"]\n";
    let proxy = Proxy::start(&format!("{a}cache_seconds = 5\n{b}{groups}[state]\npath = \"none\"\n"));
    for id in ["a", "b"] {
        proxy.until_up(id);
    }
    let answered = |model: &'static str| {
        let proxy = &proxy;
        move || answered_by(&ask(proxy, model))
    };
    eventually("others are asked first", answered("dear"), |by| by == "b");
    assert_eq!(answered("free")(), "a");
    assert_eq!(answered("a/m")(), "a", "who asks for it directly gets its own word");
    credits.store(3, Ordering::Relaxed);
    eventually("there are credits again", answered("dear"), |by| by == "a");
}
