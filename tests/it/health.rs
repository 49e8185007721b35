//! Which member of a group is asked, and for how long one that failed is not. The whole daemon in front of scripted
//! upstreams.

use std::sync::atomic::{AtomicUsize, Ordering};

use demuxai::demo::{Answer, Fake, Received, Script, faults};

use super::support::client::Answer as Got;
use super::support::eventually;
use super::support::proxy::{Proxy, provider};

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
        eventually("the provider is up", || proxy.status_of(id), |status| status["health"] == "up");
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

fn asked(fake: &Fake) -> usize {
    fake.received().iter().filter(|received| received.method == "POST").count()
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
