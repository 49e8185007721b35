//! Limits through the whole daemon: kept before they are hit, remembered across `kill -9`, learned, shown, forgotten.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use demuxai::config::settings::StateConfig;
use demuxai::demo::{Answer, Fake, Received, Script};
use demuxai::metrics::Metrics;
use demuxai::quota::Moment;
use demuxai::state::{Asked, State};
use serde_json::Value;

use crate::support::program::{Home, Phoenix, Program};
use crate::support::proxy::{Proxy, provider};
use crate::support::{asked, client, eventually};

const PATH: &str = "/v1/chat/completions";
const LIST: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
const WORDS: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#;
const SLOW_DOWN: &str =
    r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null,"param":null}}"#;

fn upstream(answer: impl Fn(&Received) -> Script + Send + Sync + 'static) -> Fake {
    Fake::start(move |received| {
        if received.path().ends_with("/models") { Answer::json(200).body(LIST) } else { answer(received) }
    })
    .expect("fake upstream starts")
}

fn good() -> Fake {
    upstream(|_| Answer::json(200).body(WORDS))
}

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

fn status(address: SocketAddr, id: &str) -> Value {
    let status = client::get(address, "/demuxai/status").json();
    let all = status["providers"].as_array().expect("providers").clone();
    all.into_iter().find(|entry| entry["id"] == id).expect("provider is there")
}

fn used(address: SocketAddr) -> u64 {
    status(address, "up")["limits"][0]["used"].as_u64().expect("a limit")
}

/// The daemon in front of this upstream, up, with this about the provider and everything else.
fn daemon(fake: &Fake, of_provider: &str, more: &str) -> Proxy {
    let table = provider("up", "openai", &fake.url());
    let proxy = Proxy::start(&format!("{table}{of_provider}\n{more}\n[state]\npath = \"none\"\n"));
    proxy.until_up("up");
    proxy
}

#[test]
fn a_configured_limit_is_kept_and_says_when_it_frees() {
    let fake = good();
    let proxy = daemon(&fake, "limits = [{ requests = 2, per = \"hour\" }]", "");
    let answers: Vec<u16> = (0..4).map(|_| proxy.post(PATH, &chat("up/m")).status).collect();
    assert_eq!(answers, [200, 200, 429, 429]);
    assert_eq!(asked(&fake), 2, "what is over the limit is not sent");
    let refused = proxy.post(PATH, &chat("up/m"));
    assert!(refused.error().contains("2 requests per hour"), "{}", refused.error());
    let wait: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
    assert!((3590..=3601).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
}

#[test]
fn a_group_leaves_a_tier_before_its_limit_so_that_the_upstream_refuses_nobody() {
    let (first, second) = (good(), good());
    let other = provider("other", "openai", &second.url());
    let group = "[groups.free]\ntype = \"failover\"\nmembers = [\"up/m\", \"other/m\"]\n";
    let proxy = daemon(&first, "limits = [{ requests = 3, per = \"hour\" }]", &format!("{other}{group}"));
    proxy.until_up("other");
    for _ in 0..8 {
        assert_eq!(proxy.post(PATH, &chat("free")).status, 200);
    }
    assert_eq!((asked(&first), asked(&second)), (3, 5));
}

#[test]
fn what_the_upstream_states_is_kept_at_once() {
    let fake = upstream(|_| {
        Answer::json(200)
            .header("x-ratelimit-limit-requests", "20")
            .header("x-ratelimit-remaining-requests", "0")
            .header("x-ratelimit-reset-requests", "40s")
            .body(WORDS)
    });
    let proxy = daemon(&fake, "", "");
    assert_eq!(proxy.post(PATH, &chat("up/m")).status, 200);
    let refused = proxy.post(PATH, &chat("up/m"));
    assert_eq!((refused.status, asked(&fake)), (429, 1), "{}", refused.text());
    let limit = &proxy.status_of("up")["limits"][0];
    assert_eq!(
        (&limit["limit"], &limit["remaining"], &limit["source"]),
        (&20.into(), &0.into(), &"header".into())
    );
    let series = "demuxai_quota_remaining{provider=\"up\",scope=\"m\",source=\"header\",unit=\"requests\",window=\"minute\"}";
    assert_eq!(proxy.find_metric(series), Some(0.0));
}

#[test]
fn a_wait_that_was_asked_for_is_kept_shown_and_forgotten_on_demand() {
    let fake = upstream(|_| Answer::json(429).header("retry-after", "300").body(SLOW_DOWN));
    let proxy = daemon(&fake, "", "[admin]\nkey = \"changes\"");
    for _ in 0..3 {
        assert_eq!(proxy.post(PATH, &chat("up/m")).status, 429);
    }
    assert_eq!(asked(&fake), 1);
    assert_eq!(proxy.status_of("up")["put_off"][0]["reason"], "window");
    let cooldown = "demuxai_cooldown_until_timestamp_seconds{provider=\"up\",reason=\"window\",scope=\"m\"}";
    assert!(proxy.find_metric(cooldown).is_some_and(|until| until > 1.7e9));
    assert_eq!(proxy.find_metric("demuxai_limit_changes_total{provider=\"up\"}"), Some(1.0));
    assert_eq!(proxy.find_metric("demuxai_queue_waiting{provider=\"up\"}"), Some(0.0));
    let reset = |key: &str| {
        let headers = [("authorization", key)];
        client::open(proxy.address, "POST", "/demuxai/quota/reset?provider=up&model=m", &headers, b"")
            .finish()
    };
    assert_eq!(reset("Bearer wrong").status, 401);
    assert_eq!(proxy.status_of("up")["put_off"].as_array().map(Vec::len), Some(1));
    assert_eq!(reset("Bearer changes").status, 200);
    assert_eq!(proxy.status_of("up")["put_off"].as_array().map(Vec::len), Some(0));
    assert_eq!(proxy.post(PATH, &chat("up/m")).status, 429);
    assert_eq!(asked(&fake), 2);
}

#[test]
fn a_reset_of_one_model_is_not_taken_for_one_of_all() {
    let fake = upstream(|_| Answer::json(429).header("retry-after", "300").body(SLOW_DOWN));
    let proxy = daemon(&fake, "", "[admin]\nkey = \"changes\"");
    assert_eq!(proxy.post(PATH, &chat("up/m")).status, 429);
    let reset = |query: &str, body: &str| {
        let path = format!("/demuxai/quota/reset{query}");
        let headers = [("authorization", "Bearer changes"), ("content-type", "application/json")];
        client::open(proxy.address, "POST", &path, &headers, body.as_bytes()).finish()
    };
    let put_off = || proxy.status_of("up")["put_off"].as_array().map(Vec::len);
    for (query, body) in [
        ("", r#"{"provider":"up","model":"other"}"#),
        ("", "{}"),
        ("", "provider=up"),
        ("?provider=up", "{"),
        ("?provider=up&modle=other", ""),
        ("?providers=up", ""),
    ] {
        let answer = reset(query, body);
        assert_eq!((answer.status, put_off()), (400, Some(1)), "{query} {body}: {}", answer.text());
        assert!(answer.error().contains("?provider=ID&model=MODEL"), "{}", answer.error());
    }
    assert_eq!((reset("?provider=up&model=other", "").status, put_off()), (200, Some(1)));
    assert_eq!((reset("?provider=up&model=m", "").status, put_off()), (200, Some(0)));
}

#[test]
fn an_answer_that_may_exceed_the_users_limit_is_not_asked_for() {
    let fake = good();
    let group = "[groups.g]\ntype = \"failover\"\nmembers = [\"up/m\"]\n";
    let proxy = daemon(&fake, "limits = [{ tokens = 1000, per = \"minute\" }]", group);
    let bounded = |model: &str| chat(model).replacen('{', "{\"max_tokens\":5000,", 1);
    for (model, told) in [("up/m", "the request is too large for `up`: "), ("g", "`up/m`: is too large for ")]
    {
        let answer = proxy.post(PATH, &bounded(model));
        assert_eq!(answer.status, 400, "{}", answer.text());
        for part in
            [told, "1000 tokens per minute (with max_tokens = 5000 it may take 50", "lower max_tokens)"]
        {
            assert!(answer.error().contains(part), "{part}: {}", answer.error());
        }
    }
    assert_eq!(asked(&fake), 0);
    assert_eq!(proxy.post(PATH, &chat("up/m")).status, 200, "without a bound an estimate has to do");
}

#[test]
fn who_waited_in_vain_is_not_said_to_wait() {
    let fake = upstream(|_| Script::new().gate("go").then(Answer::json(200).body(WORDS)));
    let proxy = daemon(&fake, "max_in_flight = 1\nmax_wait = \"100ms\"", "");
    let address = proxy.address;
    let served = std::thread::spawn(move || client::post(address, PATH, &chat("up/m")).status);
    eventually("the place is taken", || proxy.status_of("up")["in_flight"].clone(), |seats| *seats == 1);
    assert_eq!(proxy.post(PATH, &chat("up/m")).status, 429);
    // Nobody frees a place or asks for one meanwhile.
    eventually("nobody waits", || proxy.status_of("up")["waiting"].clone(), |waiting| *waiting == 0);
    fake.open_gate("go");
    assert_eq!(served.join().expect("client"), 200);
}

#[test]
fn without_a_key_for_changes_nobody_makes_any() {
    let fake = good();
    let proxy = daemon(&fake, "", "");
    let answer = proxy.post("/demuxai/quota/reset", "");
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("[admin]"), "{}", answer.error());
}

#[test]
fn status_and_quota_speak_to_the_running_daemon() {
    let fake = good();
    let table = provider("up", "openai", &fake.url());
    let text = format!("{table}limits = [{{ requests = 9, per = \"hour\" }}]\n");
    let phoenix = Phoenix::start(&text);
    phoenix.program().until_ready();
    let url = format!("http://{}", phoenix.program().address());
    assert_eq!(client::post(phoenix.program().address(), PATH, &chat("up/m")).status, 200);
    let shown = phoenix.ask(&["status", "--url", &url]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for part in ["up", "9 requests per hour", "configured"] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let json: Value =
        serde_json::from_str(&phoenix.ask(&["status", "--json", "--url", &url]).stdout).expect("JSON");
    assert_eq!(json["providers"][0]["limits"][0]["used"], 1);
    // No key is configured: the token beside the state will do, and only that.
    let refused = client::post(phoenix.program().address(), "/demuxai/quota/reset", "");
    assert_eq!(refused.status, 401);
    let reset = phoenix.ask(&["quota", "--url", &url, "reset", "up"]);
    assert_eq!(
        (reset.code, reset.stdout.trim()),
        (0, "forgotten: 0 learned limits and pauses"),
        "{}",
        reset.stderr
    );
    let nobody = phoenix.ask(&["status", "--url", "http://127.0.0.1:9"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("--url"), "{}", nobody.stderr);
    assert_eq!(nobody.stderr.matches("is it running").count(), 1, "{}", nobody.stderr);
}

#[test]
fn who_watches_the_status_need_not_ask_again_nor_begin_anew_when_the_daemon_restarts() {
    let fake = good();
    let table = provider("up", "openai", &fake.url());
    let mut phoenix = Phoenix::start(&format!("{table}limits = [{{ requests = 9, per = \"hour\" }}]\n"));
    phoenix.program().until_ready();
    let address = phoenix.program().address();
    let home = Home::new();
    let watch = home.start(&["status", "--watch", "--url", &format!("http://{address}")]);
    // Each look clears the terminal.
    let last = || watch.stdout().rsplit("\u{1b}[2J").next().unwrap_or_default().to_owned();
    let left = |n: &str| {
        let cell = format!("┆ {n} ");
        eventually("the watch shows what is left", last, |look| look.contains(&cell));
    };
    left("9");
    assert_eq!(client::post(address, PATH, &chat("up/m")).status, 200);
    left("8");
    phoenix.kill();
    eventually("it is said to be gone", last, |look| look.contains("looking again"));
}

#[test]
fn a_reset_by_command_does_not_forget_more_than_it_names() {
    let refusing = || upstream(|_| Answer::json(429).header("retry-after", "300").body(SLOW_DOWN));
    let fakes = [refusing(), refusing()];
    let text = provider("one", "openai", &fakes[0].url()) + &provider("other", "openai", &fakes[1].url());
    let phoenix = Phoenix::start(&text);
    let address = phoenix.program().address();
    let url = format!("http://{address}");
    for id in ["one", "other"] {
        eventually("the provider is up", || status(address, id)["health"].clone(), |health| health == "up");
        assert_eq!(client::post(address, PATH, &chat(&format!("{id}/m"))).status, 429);
    }
    let put_off = || ["one", "other"].map(|id| status(address, id)["put_off"].as_array().map(Vec::len));
    let reset = |more: &[&str]| {
        let ended = phoenix.ask(&[&["quota", "reset", "--url", &url], more].concat());
        (ended.code, ended.stdout.trim().to_owned())
    };
    let forgotten = |n: usize| (0, format!("forgotten: {n} learned limits and pauses"));
    assert_eq!((reset(&["one", "another"]), put_off()), (forgotten(0), [Some(1), Some(1)]));
    assert_eq!((reset(&["nobody"]).0, put_off()), (1, [Some(1), Some(1)]));
    assert_eq!((reset(&["one", "m"]), put_off()), (forgotten(1), [Some(0), Some(1)]));
    assert_eq!(client::post(address, PATH, &chat("one/m")).status, 429);
    assert_eq!(put_off(), [Some(1), Some(1)]);
    assert_eq!((reset(&[]), put_off()), (forgotten(2), [Some(0), Some(0)]));
}

/// An upstream that answers so many requests, refuses the next one for so long, and answers again from then on.
fn refusing_once(after: usize) -> Fake {
    let count = AtomicUsize::new(0);
    upstream(move |_| match count.fetch_add(1, Ordering::SeqCst) == after {
        true => Answer::json(429).header("retry-after", "300").body(SLOW_DOWN),
        false => Answer::json(200).body(WORDS),
    })
}

#[test]
fn after_a_reset_nothing_of_what_was_learned_is_in_the_way_of_the_next_request() {
    // The first one is put off; of the second one besides a limit is learned.
    let (refuses, limits) = (refusing_once(0), refusing_once(6));
    let text = format!(
        "{}{}",
        provider("refuses", "openai", &refuses.url()),
        provider("limits", "openai", &limits.url())
    );
    let phoenix = Phoenix::start(&text);
    let address = phoenix.program().address();
    let ask = |id: &str| client::post(address, PATH, &chat(&format!("{id}/m"))).status;
    let url = format!("http://{address}");
    let by_command = |id: &str| {
        let reset = phoenix.ask(&["quota", "--url", &url, "reset", id]);
        assert_eq!(reset.code, 0, "{}", reset.stderr);
        reset.stdout.trim().to_owned()
    };
    for id in ["refuses", "limits"] {
        eventually("the provider is up", || status(address, id)["health"].clone(), |health| health == "up");
    }
    assert_eq!([ask("refuses"), ask("refuses")], [429, 429]);
    assert_eq!(asked(&refuses), 1, "it is put off");
    assert_eq!(by_command("refuses"), "forgotten: 1 learned limits and pauses");
    assert_eq!((ask("refuses"), asked(&refuses)), (200, 2));

    let answers: Vec<u16> = (0..8).map(|_| ask("limits")).collect();
    assert_eq!((&answers[..6], &answers[6..]), (&[200; 6][..], &[429; 2][..]));
    let learned = |id: &str| {
        let limits = status(address, id)["limits"].as_array().cloned().unwrap_or_default();
        limits.iter().filter(|limit| limit["source"] == "learned").count()
    };
    assert_eq!((learned("limits"), asked(&limits)), (1, 7));
    assert_eq!(by_command("limits"), "forgotten: 2 learned limits and pauses");
    assert_eq!(learned("limits"), 0);
    for asked_before in 7..12 {
        assert_eq!((ask("limits"), asked(&limits)), (200, asked_before + 1));
    }
}

#[test]
fn a_reset_over_http_does_not_leave_a_learned_limit_behind() {
    let fake = refusing_once(6);
    let proxy = daemon(&fake, "", "[admin]\nkey = \"changes\"");
    let answers: Vec<u16> = (0..8).map(|_| proxy.post(PATH, &chat("up/m")).status).collect();
    assert_eq!((&answers[..6], &answers[6..]), (&[200; 6][..], &[429; 2][..]));
    assert_eq!(proxy.status_of("up")["limits"][0]["source"], "learned");
    let headers = [("authorization", "Bearer changes")];
    let reset = client::open(proxy.address, "POST", "/demuxai/quota/reset", &headers, b"").finish();
    assert_eq!(reset.status, 200, "{}", reset.text());
    let left = proxy.status_of("up");
    let count = |key: &str| left[key].as_array().map(Vec::len);
    assert_eq!((count("limits"), count("put_off")), (Some(0), Some(0)), "{left}");
    assert_eq!((proxy.post(PATH, &chat("up/m")).status, asked(&fake)), (200, 8));
}

#[test]
fn what_was_spent_is_spent_after_kill_9() {
    let fake = good();
    let table = provider("up", "openai", &fake.url());
    let mut phoenix = Phoenix::start(&format!("{table}limits = [{{ requests = 3, per = \"day\" }}]\n"));
    phoenix.program().until_ready();
    for _ in 0..2 {
        assert_eq!(client::post(phoenix.program().address(), PATH, &chat("up/m")).status, 200);
    }
    let written = |program: &Program| {
        let text = client::get(program.address(), "/metrics").text();
        text.lines().any(|line| line == "demuxai_state_journal_rows 0")
    };
    eventually("it is on disk", || written(phoenix.program()), |written| *written);
    phoenix.kill();
    let history = actix_rt::System::new().block_on(async {
        let config = StateConfig { file: Some(phoenix.state_file()), homeless: false };
        let (state, _) = State::open(&config, &Metrics::new().expect("metrics"));
        let everything = Asked { from: Moment(0), until: Moment(i64::MAX), provider: None };
        let rows = state.history(everything).await.expect("a history");
        state.drain(Duration::from_secs(5)).await;
        rows
    });
    let told: Vec<_> = history
        .iter()
        .map(|row| (&*row.id.provider, &*row.id.model, row.spent.requests, row.spent.output_tokens))
        .collect();
    let sum: u64 = told.iter().map(|(.., requests, _)| requests).sum();
    assert!(
        told.iter()
            .all(|(provider, model, requests, output)| (*provider, *model, 5 * requests)
                == ("up", "m", *output))
    );
    assert_eq!(sum, 2, "{told:?}");
    phoenix.rise();
    phoenix.program().until_ready();
    let answers: Vec<u16> =
        (0..2).map(|_| client::post(phoenix.program().address(), PATH, &chat("up/m")).status).collect();
    assert_eq!(answers, [200, 429]);
    assert_eq!(asked(&fake), 3);
}

/// Asks until nobody answers any more.
fn load(address: SocketAddr) {
    let body = chat("up/m");
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    while let Ok(mut stream) = TcpStream::connect(address) {
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_err() || stream.read_to_end(&mut answer).is_err() {
            return;
        }
    }
}

#[test]
fn fifty_kills_under_load_lose_no_more_than_the_last_moment_of_counting() {
    const KILLS: usize = 50;
    const PROMISED: Duration = Duration::from_millis(100);
    // A busy machine may keep the writer from its core; more than this is no matter of machines.
    const MOST: Duration = Duration::from_secs(1);
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&times);
    let fake = upstream(move |_| {
        seen.lock().expect("no panic").push(Instant::now());
        Answer::json(200).body(WORDS)
    });
    let table = provider("up", "openai", &fake.url());
    let limits = "limits = [{ requests = 10000000, per = \"366d\", window = \"fixed\" }]\n";
    let mut phoenix = Phoenix::start(&format!("{table}{limits}"));
    let killed: Mutex<Option<Instant>> = Mutex::default();
    let loads: Mutex<Vec<std::thread::JoinHandle<()>>> = Mutex::default();
    let (mut missing, mut late) = (0, 0);
    phoenix.die_and_rise(
        KILLS,
        |round, program| {
            let address = program.address();
            let before = times.lock().expect("no panic").len();
            let begun = Instant::now();
            let threads = (0..4).map(|_| std::thread::spawn(move || load(address)));
            loads.lock().expect("no panic").extend(threads);
            // Longer than what may be lost, or losing all would pass; and another moment each time.
            let enough = 3 * PROMISED + Duration::from_millis(round as u64 % 50);
            let under_load =
                || (begun.elapsed() >= enough, times.lock().expect("no panic").len() >= before + 20);
            eventually("it is under load", under_load, |seen| *seen == (true, true));
            *killed.lock().expect("no panic") = Some(Instant::now());
        },
        |round, program| {
            for thread in loads.lock().expect("no panic").drain(..) {
                thread.join().expect("load ends");
            }
            let at = killed.lock().expect("no panic").expect("it was killed");
            let times = times.lock().expect("no panic");
            let counted = usize::try_from(used(program.address())).expect("a small number");
            let lost = times.len().saturating_sub(counted).saturating_sub(missing);
            missing += lost;
            let within = |span: Duration| times.iter().filter(|time| **time + span > at).count();
            assert!(lost <= within(MOST), "round {round}: {lost} lost, {} in the last second", within(MOST));
            late += usize::from(lost > within(PROMISED));
        },
    );
    assert!(late * 4 <= KILLS, "{late} of {KILLS} kills lost more than the last {PROMISED:?}");
    let sent = times.lock().expect("no panic").len();
    assert!(sent > KILLS * 20 && missing * 3 < sent, "{missing} of {sent} are missing");
}
