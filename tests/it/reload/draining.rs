//! Who was replaced or taken out ends what he has, and does nothing else.

use super::*;

/// Adds a provider that nobody asks, takes it out again and waits until its series are gone: by then the router has
/// looked after all that drain.
fn look_after(live: &Live, rest: &str, idle: &Fake) {
    live.reload(&format!("{rest}{}", provider("idle", "openai", &idle.url())));
    live.until_up("idle");
    live.reload(rest);
    eventually("it is looked after", || live.has_series("provider=\"idle\""), |has| !has);
}

#[test]
fn a_stream_of_a_provider_that_is_gone_outlasts_all_looks_after_it() {
    let (gone, idle) = (fake("gone"), fake("idle"));
    let live = Live::start(&provider("gone", "openai", &gone.url()));
    live.until_up("gone");
    let stream = live.stream("gone/m");
    live.reload("");
    look_after(&live, "", &idle);
    gone.open_gate("end");
    let answer = stream.finish();
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    eventually("its series end", || live.has_series("provider=\"gone\""), |has| !has);
}

#[test]
fn what_a_request_counts_that_came_before_its_provider_went_ends_with_the_rest() {
    let (gone, idle) = (fake("gone"), fake("idle"));
    let live = Live::start(&provider("gone", "openai", &gone.url()));
    live.until_up("gone");
    let begun = client::begin(live.proxy.address, PATH, &[], &chat("gone/m", ""));
    live.reload("");
    look_after(&live, "", &idle);
    assert_eq!(content(&begun.answer()), "gone");
    eventually("its series end", || live.has_series("\"gone\""), |has| !has);
}

#[test]
fn a_provider_that_is_back_before_its_series_ended_keeps_them() {
    let (up, idle) = (fake("up"), fake("idle"));
    let text = provider("up", "openai", &up.url());
    let live = Live::start(&text);
    live.until_up("up");
    live.reload("");
    live.reload(&text);
    live.until_up("up");
    assert_eq!(content(&live.ask("up/m")), "up");
    look_after(&live, &text, &idle);
    assert!(
        live.has_series("demuxai_requests_total{backend=\"up\""),
        "{}",
        live.proxy.get("/metrics").text()
    );
}

#[test]
fn who_was_replaced_asks_for_no_more_lists_and_publishes_none() {
    let up = upstream(|received| {
        if is_stream(received) {
            return Plain::events()
                .chunked()
                .event(chunk("one"))
                .gate("end")
                .event(finish())
                .event("[DONE]")
                .last_chunk();
        }
        words("up")
    });
    let text = |key: &str| {
        format!("{}cache_seconds = 1\n", provider("up", "openai", &up.url())).replace("test-key-up", key)
    };
    let live = Live::start(&text("before"));
    live.until_up("up");
    let stream = live.stream("up/m");
    live.reload(&text("after"));
    let lists_of = |key: &str| {
        let all = up.received();
        let lists = all.iter().filter(|received| received.method == "GET");
        lists.filter(|list| list.header("authorization").is_some_and(|sent| sent.ends_with(key))).count()
    };
    eventually("the new one has its list", || lists_of("after"), |count| *count >= 1);
    // One may have been on its way.
    let before = lists_of("before");
    eventually("the new one asks again and again", || lists_of("after"), |count| *count >= 4);
    assert!(lists_of("before") <= before + 1, "{} lists more", lists_of("before") - before);
    up.open_gate("end");
    assert!(stream.finish().complete);
}

#[test]
fn the_series_of_those_that_stay_are_left_alone_whatever_they_are_called() {
    let (gone, stays) = (fake("gone"), fake("stays"));
    let rest = provider("gone-not", "openai", &stays.url());
    let live = Live::start(&format!("{rest}{}", provider("gone", "openai", &gone.url())));
    ["gone", "gone-not"].iter().for_each(|id| live.until_up(id));
    for model in ["gone/m", "gone-not/m"] {
        assert_eq!(live.ask(model).status, 200);
    }
    live.reload(&rest);
    eventually("its series end", || live.has_series("\"gone\""), |has| !has);
    assert!(live.has_series("demuxai_requests_total{backend=\"gone-not\""));
    assert!(live.has_series("demuxai_provider_up{provider=\"gone-not\"} 1"));
}
