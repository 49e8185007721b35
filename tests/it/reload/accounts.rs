//! What is known of an account over a reload: its breaker, its queue, and how it is.

use super::*;

/// So many failures in a row open a breaker.
const OPENS: usize = 5;

fn fail_until_open(live: &Live) {
    for number in 0..=OPENS {
        assert_eq!(live.ask(&format!("up/m{number}")).status, 502);
    }
    assert_eq!(breaker(live), "open");
}

fn breaker(live: &Live) -> String {
    live.proxy.status_of("up")["breaker"].as_str().expect("a breaker").to_owned()
}

#[test]
fn a_breaker_stays_open_over_a_reload_unless_it_is_another_account_or_a_server_of_ones_own() {
    let sick = Fake::start(|received| {
        if received.method != "GET" {
            return Plain::json(502).body(r#"{"error":{"message":"sick"}}"#);
        }
        let models: Vec<Value> =
            (0..=OPENS).map(|number| serde_json::json!({"id": format!("m{number}")})).collect();
        Plain::json(200).body(serde_json::json!({"object": "list", "data": models}).to_string())
    })
    .unwrap();
    let text = |key: &str, more: &str| {
        format!("{}{more}\n", provider("up", "openai", &sick.url())).replace("test-key-up", key)
    };
    let live = Live::start(&text("one", ""));
    live.until_up("up");
    fail_until_open(&live);
    live.reload(&text("one", "name = \"other\""));
    assert_eq!(breaker(&live), "open", "the same account is as sick as it was");
    live.reload(&text("two", "name = \"other\""));
    assert_eq!(breaker(&live), "closed", "another key may be another account's");
    fail_until_open(&live);
    live.reload(&text("two", "local = true"));
    for number in 0..=OPENS {
        assert_eq!(live.ask(&format!("up/m{number}")).status, 502);
    }
    assert_eq!(breaker(&live), "closed", "a server of one's own is never left alone");
    live.reload(&text("two", "local = false"));
    fail_until_open(&live);
}

#[test]
fn who_waits_for_a_place_gets_one_that_a_reload_made() {
    let up = fake("up");
    let text = |places: u32, queue: u32| {
        format!("{}max_in_flight = {places}\nmax_queue = {queue}\n", provider("up", "openai", &up.url()))
    };
    let live = Live::start(&text(1, 0));
    live.until_up("up");
    let stream = live.stream("up/m");
    assert_eq!(live.ask("up/m").status, 429, "nobody may wait");
    live.reload(&text(1, 5));
    let waiting = client::ask(live.proxy.address, PATH, &chat("up/m", ""));
    eventually("it waits", || live.proxy.status_of("up")["waiting"].clone(), |count| *count == 1);
    live.reload(&text(2, 5));
    assert_eq!(content(&waiting.answer()), "up", "while the first place is still taken");
    assert_eq!(live.proxy.status_of("up")["in_flight"], 1);
    up.open_gate("end");
    assert!(stream.finish().complete);
}

/// A request that the configuration of before let in fails at its account; how the one of now is shown after it.
fn shown_after(before: &str, after: &str, ends: impl FnOnce()) {
    let live = Live::start(before);
    live.until_up("up");
    let begun = client::begin(live.proxy.address, PATH, &[], &chat("up/m", ""));
    live.reload(after);
    live.until_up("up");
    ends();
    assert_eq!(begun.answer().status, 502, "it goes by what let it in");
    assert_eq!(live.proxy.metric("demuxai_provider_up{provider=\"up\"}"), 1.0);
    assert_eq!(live.proxy.status_of("up")["health"], "up");
    assert_eq!(content(&live.ask("up/m")), "now");
}

#[test]
fn how_the_upstream_of_before_fares_is_not_told_as_that_of_now() {
    let (before, now) = (fake("before"), fake("now"));
    let text = |fake: &Fake| provider("up", "openai", &fake.url());
    shown_after(&text(&before), &text(&now), || drop(before));
}

#[test]
fn that_the_key_of_before_is_refused_is_not_told_of_the_one_of_now() {
    let up = upstream(|received| {
        if received.header("authorization").is_some_and(|key| key.ends_with("before")) {
            return Plain::json(401).body(r#"{"error":{"message":"no such key"}}"#);
        }
        words("now")
    });
    let text = |key: &str| provider("up", "openai", &up.url()).replace("test-key-up", key);
    shown_after(&text("before"), &text("now"), || {});
}

#[test]
fn another_type_at_the_same_url_is_another_account() {
    let up = fake("up");
    let text = |kind: &str| {
        format!("{}limits = [{{ requests = 1, per = \"day\" }}]\n", provider("up", kind, &up.url()))
    };
    let live = Live::start(&text("openai"));
    live.until_up("up");
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
    live.reload(&text("mistral"));
    live.until_up("up");
    assert_eq!(live.used("up"), 0);
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
    live.reload(&text("openai"));
    assert_eq!(live.used("up"), 1);
    assert_eq!(live.ask("up/m").status, 429);
}

#[test]
fn a_provider_that_changed_is_as_well_and_has_what_its_account_had_before_it_is_asked_again() {
    let lists = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asked_for = Arc::clone(&lists);
    let up = Fake::start(move |received| {
        if received.method != "GET" {
            return words("up");
        }
        // The first list is the last one.
        if asked_for.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return Plain::json(200).chunked().gate("never").chunk("{}").last_chunk();
        }
        Plain::json(200).body(r#"{"object":"list","data":[{"id":"m"},{"id":"n"}]}"#)
    })
    .unwrap();
    let text = |more: &str| format!("{}{more}\n", provider("up", "openai", &up.url()));
    let live = Live::start(&text(""));
    live.until_up("up");
    live.reload(&text("exclude_models = [\"n\"]"));
    eventually(
        "its new actor asks",
        || lists.load(std::sync::atomic::Ordering::Relaxed),
        |count| *count == 2,
    );
    let status = live.proxy.status_of("up");
    assert_eq!(
        (&status["health"], &status["models"], &status["usable"]),
        (&"up".into(), &1.into(), &true.into())
    );
    assert_eq!((content(&live.ask("up/m")), live.ask("up/n").status), ("up".to_owned(), 404));
    up.open_gate("never");
}

#[test]
fn other_headers_are_as_good_as_another_key() {
    let up = upstream(|received| {
        if received.header("x-account") == Some("old") {
            let slow = r#"{"error":{"message":"slow down"}}"#;
            return Plain::json(429).header("retry-after", "3000").body(slow);
        }
        words("up")
    });
    let text = |account: &str| {
        let limits = "limits = [{ requests = 9, per = \"day\" }]";
        format!(
            "{}headers = {{ x-account = \"{account}\" }}\n{limits}\n",
            provider("up", "openai", &up.url())
        )
    };
    let live = Live::start(&text("old"));
    live.until_up("up");
    assert_eq!(live.ask("up/m").status, 429);
    assert_eq!(live.proxy.status_of("up")["put_off"].as_array().unwrap().len(), 1);
    let used = live.used("up");
    live.reload(&text("new"));
    assert_eq!(live.proxy.status_of("up")["put_off"], serde_json::json!([]));
    assert_eq!((live.used("up"), content(&live.ask("up/m"))), (used, "up".to_owned()));
}

#[test]
fn an_account_that_comes_back_has_the_limits_that_are_written_now() {
    let up = fake("up");
    let text = |amount: u32| {
        format!(
            "{}limits = [{{ requests = {amount}, per = \"day\" }}]\n",
            provider("up", "openai", &up.url())
        )
    };
    let live = Live::start(&text(1));
    live.until_up("up");
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
    live.reload("");
    live.reload(&text(2));
    live.until_up("up");
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
}
