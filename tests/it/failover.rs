//! Groups at work: who is asked after a limit, a failure or a move, in which turn, how long a request waits for it, and
//! who comes first where several wait. The whole daemon in front of upstreams that refuse, fail and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use demuxai::demo::{Answer, Fake, Options, Received, Script};

use crate::support::client::{self, Answer as Got};
use crate::support::proxy::Proxy;
use crate::support::several::{BROKEN, PATH, SLOW_DOWN, ask, body, daemon_with, limited, says};
use crate::support::{asked, content, eventually};

/// A limit whose end a test waits for.
const SHORT: &str = "limits = [{ requests = 1, per = \"2s\" }]\n";

/// What lists `m`, closes that connection, and does the rest by this.
fn handler(
    answer: impl Fn(&Received) -> Script + Send + Sync + 'static,
) -> impl Fn(&Received) -> Script + Send + Sync + 'static {
    move |received| {
        if received.method == "GET" {
            let list = Answer::json(200).header("connection", "close");
            return list.body(r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#).close();
        }
        answer(received)
    }
}

fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    Fake::start(handler(answer)).expect("fake upstream starts")
}

fn good(name: &'static str) -> Fake {
    upstream(move |received| says(name, received))
}

/// One that answers this to its first request and its name from then on.
fn first(name: &'static str, answer: impl Fn() -> Script + Send + Sync + 'static) -> Fake {
    let count = AtomicUsize::new(0);
    upstream(move |received| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(),
        _ => says(name, received),
    })
}

/// One that fails while the switch is on.
fn switched(name: &'static str) -> (Fake, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&switch);
    let fake = upstream(move |received| match fails.load(Ordering::SeqCst) {
        true => Answer::json(500).body(BROKEN),
        false => says(name, received),
    });
    (fake, switch)
}

fn group(kind: &str, more: &str) -> String {
    format!("[groups.g]\ntype = \"{kind}\"\nmembers = [\"a/m\", \"b/m\"]\n{more}")
}

/// Who answers `g`, so many times in a row.
fn turns(proxy: &Proxy, count: usize) -> String {
    (0..count).map(|_| content(&ask(proxy, "g"))).collect()
}

/// Waits until nothing of the provider's only limit is used, and has not been for so long that the upstream, which
/// counts a little later, must think so, too.
fn until_free(proxy: &Proxy, id: &str) {
    let mut since = None;
    let free_for = || match proxy.status_of(id)["limits"][0]["used"] == 0 {
        true => since.get_or_insert_with(Instant::now).elapsed(),
        false => Duration::ZERO,
    };
    eventually("its limit is free", free_for, |so_long| *so_long > Duration::from_millis(400));
}

fn retry_after(got: &Got) -> u64 {
    got.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after")
}

#[test]
fn what_frees_within_the_bound_is_not_refused_and_the_limit_is_not_exceeded() {
    const WINDOW: Duration = Duration::from_secs(3);
    let (one, other) = (good("a"), good("b"));
    let limit = "limits = [{ requests = 1, per = \"3s\" }]\n";
    let groups = "[groups.wait]\ntype = \"failover\"\nmembers = [\"a/m\"]\non_exhausted = \"wait\"\n\
        [groups.bound]\ntype = \"failover\"\nmembers = [\"b/m\"]\non_exhausted = \"20s\"\n";
    let proxy = daemon_with(&[(&one, limit), (&other, limit)], groups);
    std::thread::scope(|scope| {
        for (group, word) in [("wait", "a"), ("bound", "b")] {
            let proxy = &proxy;
            scope.spawn(move || {
                let begun = Instant::now();
                for _ in 0..2 {
                    assert_eq!(content(&ask(proxy, group)), word);
                }
                let took = begun.elapsed();
                assert!(took + Duration::from_millis(50) >= WINDOW, "{group}: sent too soon, after {took:?}");
            });
        }
    });
    assert_eq!((asked(&one), asked(&other)), (2, 2));
}

#[test]
fn a_group_inside_another_is_waited_for_as_long_as_it_says() {
    let one = good("a");
    let groups = "[groups.inner]\ntype = \"failover\"\nmembers = [\"a/m\"]\non_exhausted = \"20s\"\n\
        [groups.outer]\ntype = \"failover\"\nmembers = [\"inner\"]\n";
    let proxy = daemon_with(&[(&one, "limits = [{ requests = 1, per = \"4s\" }]\n")], groups);
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(content(&ask(&proxy, "outer")), "a");
    }
    assert!(begun.elapsed() >= Duration::from_secs(4), "the limit is not exceeded");
}

#[test]
fn what_does_not_free_within_the_bound_is_refused_without_waiting_in_vain() {
    let (soon, late) = (good("a"), good("b"));
    let groups = "[groups.bound]\ntype = \"failover\"\nmembers = [\"a/m\"]\non_exhausted = \"3s\"\n\
        [groups.reject]\ntype = \"failover\"\nmembers = [\"a/m\"]\n\
        [groups.wait]\ntype = \"failover\"\nmembers = [\"b/m\"]\non_exhausted = \"wait\"\n";
    let proxy = daemon_with(
        &[
            (&soon, "limits = [{ requests = 1, per = \"30s\" }]\n"),
            (&late, "limits = [{ requests = 1, per = \"hour\" }]\n"),
        ],
        groups,
    );
    for group in ["bound", "wait"] {
        assert_eq!(ask(&proxy, group).status, 200);
    }
    for (group, wait, retry) in
        [("bound", 10..=31, None), ("reject", 10..=31, None), ("wait", 3500..=3601, Some("false"))]
    {
        let begun = Instant::now();
        let got = ask(&proxy, group);
        let took = begun.elapsed();
        assert_eq!(got.status, 429, "{group}: {}", got.text());
        assert!(wait.contains(&retry_after(&got)), "{group}: {}", retry_after(&got));
        assert_eq!(got.header("x-should-retry"), retry, "{group}");
        assert!(took < Duration::from_secs(3), "{group}: it was held for {took:?}");
    }
    assert_eq!((asked(&soon), asked(&late)), (1, 1));
}

#[test]
fn failover_does_not_stay_with_the_second_one_when_the_firsts_limit_has_freed() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon_with(&[(&one, SHORT), (&other, "")], &group("failover", ""));
    assert_eq!(turns(&proxy, 2), "ab");
    until_free(&proxy, "a");
    assert_eq!(turns(&proxy, 2), "ab");
}

#[test]
fn failover_does_not_stay_with_the_second_one_when_the_wait_that_the_first_asked_for_is_over() {
    let one = first("a", || Answer::json(429).header("retry-after", "2").body(SLOW_DOWN));
    let other = good("b");
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group("failover", ""));
    assert_eq!(turns(&proxy, 2), "bb");
    assert_eq!(asked(&one), 1, "it is not asked before");
    eventually("the first one has its work back", || turns(&proxy, 1), |answered| answered == "a");
}

#[test]
fn failover_does_not_stay_with_the_second_one_after_a_failure_of_the_first() {
    let (one, other) = (first("a", || Answer::json(502).body(BROKEN)), good("b"));
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group("failover", ""));
    assert_eq!(turns(&proxy, 3), "baa");
}

#[test]
fn failover_does_not_stay_with_the_second_one_when_the_first_is_back_from_the_dead() {
    let (one, other) = (good("a"), good("b"));
    let address: SocketAddr = one.url().trim_start_matches("http://").parse().expect("an address");
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group("failover", ""));
    assert_eq!(turns(&proxy, 1), "a");
    drop(one);
    // More often than its breaker stands.
    assert_eq!(turns(&proxy, 7), "bbbbbbb");
    let again = Options::new(handler(|received| says("a", received))).address(address);
    let _one = Fake::start_with(again).expect("the port is free again");
    eventually("the first one has its work back", || turns(&proxy, 1), |answered| answered == "a");
    assert_eq!(turns(&proxy, 3), "aaa");
}

#[test]
fn rotate_does_not_come_back_by_itself() {
    let (one, other) = (good("a"), good("b"));
    let proxy = daemon_with(&[(&one, SHORT), (&other, "")], &group("rotate", ""));
    assert_eq!(turns(&proxy, 2), "ab");
    until_free(&proxy, "a");
    assert_eq!(turns(&proxy, 3), "bbb");
}

#[test]
fn rotate_does_not_stay_where_it_fails() {
    let ((one, one_fails), (other, other_fails)) = (switched("a"), switched("b"));
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group("rotate", ""));
    assert_eq!(turns(&proxy, 2), "aa");
    one_fails.store(true, Ordering::SeqCst);
    assert_eq!(turns(&proxy, 1), "b");
    one_fails.store(false, Ordering::SeqCst);
    assert_eq!(turns(&proxy, 2), "bb");
    other_fails.store(true, Ordering::SeqCst);
    assert_eq!(turns(&proxy, 1), "a");
    other_fails.store(false, Ordering::SeqCst);
    assert_eq!(turns(&proxy, 2), "aa");
}

#[test]
fn random_does_not_forget_weights_nor_the_light_one() {
    const REQUESTS: usize = 220;
    let (one, other) = (good("a"), good("b"));
    let members = "members = [{ to = \"a/m\", weight = 9 }, \"b/m\"]";
    let group = group("random", "").replace("members = [\"a/m\", \"b/m\"]", members);
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group);
    let heavy = turns(&proxy, REQUESTS).matches('a').count();
    // By weight fewer have a probability below 1e-11, and so have as many by halves; all of them 1e-10.
    assert!((160..REQUESTS).contains(&heavy), "{heavy} of {REQUESTS}");
    assert_eq!((asked(&one), asked(&other)), (heavy, REQUESTS - heavy));
}

#[test]
fn least_latency_does_not_keep_to_the_slow_one() {
    const REQUESTS: usize = 60;
    let slow = upstream(|received| Script::new().pause(Duration::from_millis(300)).then(says("a", received)));
    let fast = good("b");
    let proxy = daemon_with(&[(&slow, ""), (&fast, "")], &group("least-latency", ""));
    let answered = turns(&proxy, REQUESTS);
    // One request in twenty is to look whether it still is slow; a third of them has a probability below 1e-11.
    let slow = answered.matches('a').count();
    assert!((1..=REQUESTS / 3).contains(&slow), "{answered}");
}

#[test]
fn most_quota_does_not_empty_one_before_the_other() {
    let (small, large) = (good("a"), good("b"));
    let limits = |most: usize| format!("limits = [{{ requests = {most}, per = \"hour\" }}]\n");
    let proxy = daemon_with(&[(&small, &limits(4)), (&large, &limits(8))], &group("most-quota", ""));
    assert_eq!(turns(&proxy, 12), "abbabbabbabb");
    assert_eq!(ask(&proxy, "g").status, 429);
    assert_eq!((asked(&small), asked(&large)), (4, 8));
}

#[test]
fn a_failure_that_the_group_does_not_name_is_not_hidden_by_another_member() {
    let (limited, broken, well) = (limited("40"), upstream(|_| Answer::json(503).body(BROKEN)), good("c"));
    let groups = "[groups.limited]\ntype = \"failover\"\nmembers = [\"a/m\", \"c/m\"]\nfail_on = [\"5xx\"]\n\
        [groups.broken]\ntype = \"failover\"\nmembers = [\"b/m\", \"c/m\"]\nfail_on = [\"5xx\"]\n";
    let proxy = daemon_with(&[(&limited, ""), (&broken, ""), (&well, "")], groups);
    let got = ask(&proxy, "limited");
    assert_eq!((got.status, asked(&well)), (429, 0), "{}", got.text());
    assert!(got.error().contains("slow down"), "{}", got.error());
    assert_eq!(content(&ask(&proxy, "broken")), "c");
    assert_eq!((asked(&limited), asked(&broken)), (1, 1));
}

/// Who answers `g` to this session (a header) of this user (a field) that begins with this text.
fn answers_to(proxy: &Proxy, session: Option<&str>, user: Option<&str>, text: &str) -> String {
    let user = user.map_or(String::new(), |user| format!("\"user\":\"{user}\","));
    let body = format!(r#"{{{user}"model":"g","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(session.map(|session| ("x-demuxai-session", session)));
    content(&client::open(proxy.address, "POST", PATH, &headers, body.as_bytes()).finish())
}

#[test]
fn a_session_or_a_user_is_not_moved_by_the_turns_of_others() {
    for by in ["session", "user"] {
        let (one, other) = (good("a"), good("b"));
        let proxy = daemon_with(
            &[(&one, ""), (&other, "")],
            &group("round-robin", &format!("sticky = {{ by = \"{by}\" }}\n")),
        );
        let ask = |who: &str| match by {
            "session" => answers_to(&proxy, Some(who), None, "hi"),
            _ => answers_to(&proxy, None, Some(who), "hi"),
        };
        let answered: String = ["one", "two", "three", "one", "one", "two", "two", "three"].map(ask).concat();
        assert_eq!(answered, "abaaabba", "{by}");
        // Who does not say who it is has no home: turns go on.
        let nobody: String = (0..4).map(|_| answers_to(&proxy, None, None, "hi")).collect();
        assert!(nobody == "baba" || nobody == "abab", "{by}: {nobody}");
    }
}

#[test]
fn a_conversation_that_had_to_move_does_not_move_back() {
    for by in ["conversation", "session", "user"] {
        let (one, other) = (good("a"), good("b"));
        let proxy = daemon_with(
            &[(&one, SHORT), (&other, "")],
            &group("failover", &format!("sticky = {{ by = \"{by}\" }}\n")),
        );
        let ask = |who: &str| match by {
            "conversation" => answers_to(&proxy, None, None, who),
            "session" => answers_to(&proxy, Some(who), None, "hi"),
            _ => answers_to(&proxy, None, Some(who), "hi"),
        };
        assert_eq!(["one", "one"].map(ask).concat(), "ab", "{by}: it moves when it must");
        until_free(&proxy, "a");
        assert_eq!(["one", "one", "one"].map(ask).concat(), "bbb", "{by}");
        assert_eq!(ask("two"), "a", "{by}: another one is not held by it");
    }
}

#[test]
fn a_noisy_clients_queue_does_not_starve_another_client() {
    const NOISE: usize = 12;
    let fake = upstream(|received| Script::new().gate("go").then(says("a", received)));
    let keys = "[keys.noisy]\nkey = \"key-noisy\"\n[keys.quiet]\nkey = \"key-quiet\"\n";
    let proxy = daemon_with(&[(&fake, "max_in_flight = 1\nmax_queue = 50\n")], keys);
    let address = proxy.address;
    let ask = move |who: &'static str| {
        let body = format!(r#"{{"model":"a/m","messages":[{{"role":"user","content":"{who}"}}]}}"#);
        let key = format!("Bearer key-{who}");
        let headers = [("content-type", "application/json"), ("authorization", &*key)];
        client::open(address, "POST", PATH, &headers, body.as_bytes()).finish()
    };
    std::thread::scope(|scope| {
        let mut asking: Vec<_> = (0..=NOISE).map(|_| scope.spawn(move || ask("noisy"))).collect();
        let waiting = || proxy.status_of("a")["waiting"].clone();
        eventually("the noisy ones wait", waiting, |count| *count == NOISE);
        asking.push(scope.spawn(move || ask("quiet")));
        eventually("the quiet one waits behind them", waiting, |count| *count == NOISE + 1);
        fake.open_gate("go");
        for one in asking {
            let got = one.join().expect("client ends");
            assert_eq!(got.status, 200, "{}", got.text());
        }
    });
    let order: Vec<bool> = fake
        .received()
        .iter()
        .filter(|received| received.method == "POST")
        .map(|received| received.json()["messages"][0]["content"] == "quiet")
        .collect();
    let place = order.iter().position(|is_quiet| *is_quiet).expect("it was asked");
    assert!(order.len() == NOISE + 2 && place <= 2, "it came as number {place}");
}

#[test]
fn failover_after_keep_alive_comments_shows_nothing_but_them_and_the_second_members_words() {
    const COMMENT: &str = ": keep-alive\n";
    type Failure = fn() -> Script;
    let failures: [(&str, Failure); 3] = [
        ("status", || Answer::json(503).body(BROKEN)),
        ("event", || {
            Answer::events().chunked().event(r#"{"error":{"message":"overloaded","code":503}}"#).last_chunk()
        }),
        ("cut", || Script::new().reset()),
    ];
    let listener =
        "[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\nkeep_alive = \"40ms\"\n";
    for (what, failure) in failures {
        let one = upstream(move |_| Script::new().gate("fail").then(failure()));
        let other = good("b");
        let proxy = daemon_with(
            &[(&one, ""), (&other, "")],
            &format!("{}{listener}", group("failover", "attempts = 2\n")),
        );
        let streamed = |model: &str| body(model, r#","stream":true"#);
        let mut reading = proxy.open(PATH, &streamed("g"));
        reading.until(&COMMENT.repeat(2));
        assert_eq!(asked(&other), 0, "{what}");
        one.open_gate("fail");
        let got = reading.finish();
        assert!(got.complete && got.status == 200, "{what}: {}", got.text());
        let alone = proxy.post(PATH, &streamed("b/m")).text();
        assert!(alone.contains("\"b\"") && alone.ends_with("data: [DONE]\n\n"), "{alone}");
        assert_eq!(got.text().replace(COMMENT, ""), alone, "{what}");
        assert_eq!((asked(&one), asked(&other)), (1, 2), "{what}");
    }
}

#[test]
fn a_wait_of_47_seconds_does_not_hold_up_a_request_that_another_can_answer() {
    let (one, other) = (limited("47"), good("b"));
    let proxy = daemon_with(&[(&one, ""), (&other, "")], &group("failover", "on_exhausted = \"wait\"\n"));
    let begun = Instant::now();
    let got = ask(&proxy, "g");
    assert_eq!(content(&got), "b");
    assert_eq!(got.header("x-demuxai-attempts"), Some("a/m upstream_status, b ok"));
    assert_eq!(turns(&proxy, 3), "bbb");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(asked(&one), 1, "nobody asks again within them");
    assert!((40..=47).contains(&retry_after(&ask(&proxy, "a/m"))));
}

#[test]
fn who_refuses_a_second_or_third_attempt_is_not_asked_again_either() {
    let (one, other, well) = (limited("300"), limited("300"), good("c"));
    let group = "[groups.g]\ntype = \"failover\"\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\n";
    let proxy = daemon_with(&[(&one, ""), (&other, ""), (&well, "")], group);
    assert_eq!(turns(&proxy, 2), "cc");
    assert_eq!((asked(&one), asked(&other), asked(&well)), (1, 1, 2));
    for id in ["a", "b"] {
        assert_eq!(proxy.status_of(id)["put_off"].as_array().map(Vec::len), Some(1), "{id}");
    }
}

#[test]
fn a_local_server_is_not_left_alone_whatever_it_says() {
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |received| match (received.path(), &*received.method) {
        ("/api/tags", _) => Answer::json(200).body(r#"{"models":[{"name":"m:latest","model":"m:latest"}]}"#),
        ("/api/show", _) => Answer::json(200).body(r#"{"capabilities":["completion"]}"#),
        (_, "GET") => Answer::json(200).body(r#"{"object":"list","data":[{"id":"m:latest"}]}"#),
        _ if count.fetch_add(1, Ordering::SeqCst) < 7 => {
            Answer::json(429).header("retry-after", "600").body(SLOW_DOWN)
        }
        _ => says("local", received),
    })
    .expect("fake upstream starts");
    let table = format!("[providers.own]\ntype = \"ollama\"\nurl = \"{}\"\n", fake.url());
    let proxy = Proxy::start(&format!("{table}[state]\npath = \"none\"\n"));
    proxy.until_up("own");
    // More often than a breaker stands.
    for _ in 0..7 {
        assert_eq!(ask(&proxy, "own/m:latest").status, 429);
    }
    assert_eq!(content(&ask(&proxy, "own/m:latest")), "local");
    let status = proxy.status_of("own");
    assert_eq!((status["put_off"].as_array().map(Vec::len), &status["breaker"]), (Some(0), &"closed".into()));
}
