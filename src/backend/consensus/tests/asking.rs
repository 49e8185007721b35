//! Who is asked, how long they are waited for, and what it is where too few answer.

use tokio::time::Instant;

use super::super::gathering::LONGEST_ANSWER;
use super::*;
use crate::backend::{Guesses, Round};
use crate::dialect::{EMBEDDINGS, read};

fn fakes<const N: usize>(fakes: [Fake; N]) -> [Arc<Fake>; N] {
    fakes.map(Arc::new)
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_end_is_cancelled_at_its_deadline_and_told() {
    let [a, b, c, judge] = fakes([
        Fake::says("a", "A"),
        Fake::new("b", [say("B begins"), Step::Wait(600_000), say("never")]),
        Fake::new("c", [Step::Wait(600_000)]),
        Fake::says("judge", "J"),
    ]);
    let began = Instant::now();
    let panel = Panel { quorum: 2, grace: Duration::from_secs(600), ..panel(&[&a, &b, &c], &judge) };
    let metrics = Arc::clone(&panel.metrics);
    let heard = stream(panel).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    let error = heard.error.expect("two had to answer");
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Exhausted, Some("below_quorum")));
    assert_eq!(hops(&error.attempts), [("a", "answered"), ("b", "timeout"), ("c", "timeout")]);
    assert_eq!(
        error.message,
        "1 of 3 members of `panel` answered, and 2 must (its `quorum`): `a`: answered; `b`: did not answer within 60s \
         (`deadline` of `panel`); `c`: did not answer within 60s (`deadline` of `panel`)"
    );
    assert!(heard.reasoning.contains("B begins[timeout]") && !heard.done, "{}", heard.reasoning);
    assert_eq!((a.open(), b.open(), c.open(), judge.times_sent()), (0, 0, 0, 0));
    for series in [
        "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"below_quorum\"} 1",
        "demuxai_consensus_members_total{group=\"panel\",member=\"a\",state=\"answered\"} 1",
        "demuxai_consensus_members_total{group=\"panel\",member=\"b\",state=\"timeout\"} 1",
    ] {
        assert!(metric(&metrics, series), "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn stragglers_have_the_grace_and_are_cancelled_then() {
    let [a, b, late, hung, judge] = fakes([
        Fake::late("a", 1000, "A"),
        Fake::late("b", 2000, "B"),
        Fake::late("late", 11_000, "in time"),
        Fake::late("hung", 600_000, "never"),
        Fake::says("judge", "J"),
    ]);
    let began = Instant::now();
    let (reply, body) = whole(panel(&[&a, &b, &late, &hung], &judge), "").await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(12), "the quorum was there after two");
    let expected = [("a", "answered"), ("b", "answered"), ("late", "answered"), ("hung", "cancelled")];
    assert_eq!(hops(&reply.served.attempts), expected);
    let reasoning = body["choices"][0]["message"]["reasoning_content"].as_str().unwrap();
    assert!(
        reasoning.contains("in time") && reasoning.ends_with("**hung**\n\n[cancelled]\n\n"),
        "{reasoning}"
    );
    drop(reply);
    assert_eq!((hung.open(), hung.times_sent(), judge.open()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_word_does_not_count() {
    let [a, b, judge] = fakes([Fake::says("a", "A"), Fake::says("b", " \n"), Fake::says("judge", "J")]);
    let error = whole(panel(&[&a, &b], &judge), "").await.err().unwrap();
    assert_eq!(hops(&error.attempts), [("a", "answered"), ("b", "empty_answer")]);
    assert_eq!(judge.times_sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_the_quorum_is_out_of_reach_nobody_is_waited_for() {
    let [a, b, slow, judge] = fakes([
        Fake::new("a", [Step::Wait(10), Step::Fail(ErrorKind::Connect)]),
        Fake::new("b", [say("half"), Step::Wait(10), Step::Fail(ErrorKind::Truncated)]),
        Fake::late("slow", 50_000, "late"),
        Fake::says("judge", "J"),
    ]);
    let began = Instant::now();
    let error = whole(panel(&[&a, &b, &slow], &judge), "").await.err().unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(10));
    assert_eq!(hops(&error.attempts), [("a", "connect"), ("b", "truncated"), ("slow", "cancelled")]);
    assert_eq!((error.denial, slow.open()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_no_end_costs_bounded_memory_and_does_not_count() {
    let long = "x".repeat(LONGEST_ANSWER / 2 + 1);
    let [a, b, flood, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B"),
        Fake::new("flood", [say(&long), say(&long), Step::Wait(600_000)]),
        Fake::says("judge", "J"),
    ]);
    let (reply, _) = whole(panel(&[&a, &b, &flood], &judge), "").await.unwrap();
    assert!(hops(&reply.served.attempts).contains(&("flood", "upstream_protocol")));
    assert!(!judge.asked().contains("xxx"));
    assert_eq!(flood.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panel_shrinks_to_those_that_have_capacity() {
    let [a, b, empty, unfit, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B"),
        Fake::says("empty", "E").stands(Ok(Availability::At(Some(NOON + 30_000)))),
        Fake::says("unfit", "U").stands(Err("takes no images")),
        Fake::says("judge", "J"),
    ]);
    let (reply, body) = whole(panel(&[&empty, &a, &unfit, &b], &judge), "").await.unwrap();
    assert_eq!((empty.times_sent(), unfit.times_sent()), (0, 0));
    let expected = [("unfit", "skipped"), ("empty", "quota_exhausted"), ("a", "answered"), ("b", "answered")];
    assert_eq!(hops(&reply.served.attempts), expected);
    let items = body["x_demuxai"]["consensus"].as_array().unwrap();
    assert_eq!(items.len(), 3, "who was not asked costs nothing: {items:?}");
}

#[tokio::test(start_paused = true)]
async fn refuse_asks_nobody_and_says_who_is_in_the_way_and_until_when() {
    let [a, b, empty, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B"),
        Fake::says("empty", "E").stands(Ok(Availability::At(Some(NOON + 90_000)))),
        Fake::says("judge", "J"),
    ]);
    let panel = Panel { on_quota: OnQuota::Refuse, ..panel(&[&a, &empty, &b], &judge) };
    let error = whole(panel, "").await.err().unwrap();
    assert_eq!(error.retry_after, Some(Duration::from_secs(90)));
    assert!(error.denial.is_some(), "it is a 429");
    assert_eq!(
        error.message,
        "`panel` was not asked: its `on_quota` is \"refuse\", and not all members have capacity; it waits for `empty`: `a`: \
         could answer, and was not asked; `empty`: has no capacity now; `b`: could answer, and was not asked"
    );
    assert_eq!([&a, &b, &empty, &judge].map(|fake| fake.times_sent()), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_where_the_judge_has_no_capacity() {
    let [a, b, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B"),
        Fake::says("judge", "J").stands(Ok(Availability::At(Some(NOON + 90_000)))),
    ]);
    let error = whole(panel(&[&a, &b], &judge), "").await.err().unwrap();
    assert_eq!((error.retry_after, error.denial.is_some()), (Some(Duration::from_secs(90)), true));
    assert!(error.message.contains("its judge has no capacity; it waits for `judge`"), "{error}");
    assert_eq!((a.times_sent(), b.times_sent()), (0, 0));
    let covered = Panel { fallback: Some(Combine::Longest), ..panel(&[&a, &b], &judge) };
    assert!(whole(covered, "").await.is_ok(), "where something takes its place, it is only tried");
    let soon = Arc::new(Fake::says("judge", "J").stands(Ok(Availability::At(Some(NOON + 60_000)))));
    assert!(whole(panel(&[&a, &b], &soon), "").await.is_ok(), "members take their time");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_holds_only_some_of_the_panel_lets_none_be_sent() {
    for on_quota in [OnQuota::Shrink, OnQuota::Refuse] {
        let [a, second, judge] = fakes([
            Fake::says("a", "A"),
            // Its outlook is good, but admission finds the place taken.
            Fake::says("second", "B").denied_after(0),
            Fake::says("judge", "J"),
        ]);
        let panel = Panel { on_quota, ..panel(&[&a, &second], &judge) };
        let metrics = Arc::clone(&panel.metrics);
        let error = whole(panel, "").await.err().unwrap();
        assert_eq!((a.times_sent(), a.open()), (0, 0), "it was admitted, and not sent");
        assert_eq!((error.retry_after, error.denial.is_some()), (Some(Duration::from_secs(20)), true));
        assert_eq!(hops(&error.attempts), [("second", "quota_exhausted"), ("a", "skipped")]);
        let refused =
            "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"refused\"} 1";
        assert!(metric(&metrics, refused));
    }
}

#[tokio::test(start_paused = true)]
async fn refuse_holds_for_what_admission_finds_and_shrink_goes_on_with_a_quorum() {
    let three = || {
        fakes([
            Fake::says("a", "A"),
            Fake::says("b", "B"),
            Fake::says("second", "S").denied_after(0),
            Fake::says("judge", "J"),
        ])
    };
    let [a, b, second, judge] = three();
    assert!(whole(panel(&[&a, &b, &second], &judge), "").await.is_ok());
    assert_eq!((a.times_sent(), second.times_sent()), (1, 0));
    let [a, b, second, judge] = three();
    let refusing = Panel { on_quota: OnQuota::Refuse, ..panel(&[&a, &b, &second], &judge) };
    assert!(whole(refusing, "").await.is_err());
    assert_eq!((a.times_sent(), b.times_sent()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_does_not_keep_the_others_from_being_sent() {
    let [a, queued, judge] =
        fakes([Fake::says("a", "A"), Fake::says("queued", "Q").queued_for(5000), Fake::says("judge", "J")]);
    let mut asking = whole(panel(&[&a, &queued], &judge), "").boxed();
    let moment = tokio::time::timeout(Duration::from_millis(200), &mut asking).await;
    assert_eq!((moment.is_err(), a.times_sent()), (true, 1), "the place may be its own");
    let (reply, _) = asking.await.unwrap();
    assert_eq!(hops(&reply.served.attempts), [("a", "answered"), ("queued", "answered")]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_before_a_quorum_is_admitted_however_long_that_takes() {
    for late in [Fake::says("late", "L").admitted_after(5000), Fake::says("late", "L").denied_after(5000)] {
        let [a, late, judge] = fakes([Fake::says("a", "A"), late, Fake::says("judge", "J")]);
        let mut asking = whole(panel(&[&a, &late], &judge), "").boxed();
        let moment = tokio::time::timeout(Duration::from_millis(4900), &mut asking).await;
        assert_eq!((moment.is_err(), a.times_sent(), a.open()), (true, 0, 1), "it holds its place");
        let answered = asking.await;
        assert_eq!((a.times_sent(), a.open()), (usize::from(answered.is_ok()), 0));
        if let Err(error) = answered {
            assert_eq!(hops(&error.attempts), [("late", "quota_exhausted"), ("a", "skipped")]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_admitted_late_is_not_waited_for_where_the_others_are_a_quorum() {
    let three = || {
        fakes([
            Fake::says("a", "A"),
            Fake::says("b", "B"),
            Fake::says("late", "L").denied_after(5000),
            Fake::says("judge", "J"),
        ])
    };
    let [a, b, late, judge] = three();
    let quick = Panel { grace: Duration::ZERO, ..panel(&[&a, &b, &late], &judge) };
    let asking = tokio::time::timeout(Duration::from_millis(200), whole(quick, ""));
    assert!(asking.await.unwrap().is_ok());
    let [a, b, late, judge] = three();
    let refusing = Panel { on_quota: OnQuota::Refuse, ..panel(&[&a, &b, &late], &judge) };
    assert!(whole(refusing, "").await.is_err(), "all must have capacity");
    assert_eq!((a.times_sent(), b.times_sent()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_admitted_by_the_deadline_is_given_up_and_told() {
    let [a, late, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("late", "L").admitted_after(600_000),
        Fake::says("judge", "J"),
    ]);
    let error = whole(panel(&[&a, &late], &judge), "").await.err().unwrap();
    assert_eq!(hops(&error.attempts), [("a", "skipped"), ("late", "timeout")]);
    assert_eq!((a.times_sent(), a.open(), late.open()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panel_whose_members_wait_for_a_place_lets_the_panel_above_make_room() {
    let [a, b, inner_judge, third, judge] = fakes([
        Fake::says("a", "A").queued_for(5000),
        Fake::says("b", "B").queued_for(5000),
        Fake::says("inner-judge", "I"),
        Fake::says("third", "T"),
        Fake::says("judge", "J"),
    ]);
    let inner = Arc::new(PanelBackend::new(panel(&[&a, &b], &inner_judge))) as Arc<dyn Backend>;
    let mut outer = panel(&[&third], &judge);
    outer.members.push(member(inner));
    outer.quorum = 2;
    let mut asking = whole(outer, "").boxed();
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut asking).await.is_err());
    assert_eq!(third.times_sent(), 1);
    assert!(asking.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn where_nobody_else_can_take_over_admission_has_the_last_word() {
    let at = || Ok(Availability::At(Some(NOON + 1000)));
    let [a, b, judge] = fakes([
        Fake::says("a", "A").stands(at()),
        Fake::says("b", "B").stands(at()),
        Fake::says("judge", "J"),
    ]);
    assert!(whole(panel(&[&a, &b], &judge), "").await.is_ok(), "only a guess was in the way");
    let round = Some(Round { guesses: Guesses::Hold, waiter: None });
    let backend = PanelBackend::new(panel(&[&a, &b], &judge));
    let error = backend.forward(Call { round, ..call("") }).await.err().unwrap();
    assert!(error.denial.is_some() && a.times_sent() == 1, "a group above asks somebody else");
}

#[tokio::test(start_paused = true)]
async fn a_panel_in_a_panel_is_admitted_as_one() {
    let [a, b, inner_judge, denied, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B"),
        Fake::says("inner-judge", "I"),
        Fake::says("denied", "D").denied_after(0),
        Fake::says("judge", "J"),
    ]);
    let inner = Arc::new(PanelBackend::new(panel(&[&a, &b], &inner_judge))) as Arc<dyn Backend>;
    let mut outer = panel(&[&denied], &judge);
    outer.members.push(member(Arc::clone(&inner)));
    assert!(whole(outer, "").await.is_err());
    assert_eq!((a.times_sent(), b.times_sent()), (0, 0));
    let third = Arc::new(Fake::says("third", "T"));
    let mut outer = panel(&[&third], &judge);
    outer.members.push(member(inner));
    let (_, body) = whole(outer, "").await.unwrap();
    assert_eq!((a.times_sent(), &body["choices"][0]["message"]["content"]), (1, &serde_json::json!("J")));
    assert!(judge.asked().contains("\\nI\\n[end of answer"), "{}", judge.asked());
}

#[tokio::test(start_paused = true)]
async fn a_failure_alone_commits_a_stream_to_nothing() {
    let [dead, slow, judge] = fakes([
        Fake::fails("dead", ErrorKind::Connect),
        Fake::new("slow", [Step::Wait(50), Step::Fail(ErrorKind::Timeout)]),
        Fake::says("judge", "J"),
    ]);
    let failing = Panel { quorum: 1, ..panel(&[&dead, &slow], &judge) };
    let error = stream(failing).await.unwrap_err();
    assert_eq!(hops(&error.attempts), [("dead", "connect"), ("slow", "timeout")]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_all() {
    let [a, b, judge] = fakes([
        Fake::new("a", [say("A"), Step::Wait(60_000)]),
        Fake::new("b", [Step::Wait(60_000)]),
        Fake::says("judge", "J"),
    ]);
    let streaming = panel(&[&a, &b], &judge);
    let metrics = Arc::clone(&streaming.metrics);
    let reply = PanelBackend::new(streaming).forward(call(r#","stream":true"#)).await.ok().unwrap();
    assert_eq!((a.open(), b.open()), (1, 1));
    drop(reply);
    assert_eq!((a.open(), b.open()), (0, 0));
    let cancelled =
        "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"cancelled\"} 1";
    assert!(metric(&metrics, cancelled));
    let waiting = PanelBackend::new(panel(&[&a, &b], &judge)).forward(call(""));
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    assert_eq!((a.open(), b.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn in_a_group_a_panel_that_comes_to_nothing_makes_way_for_the_next_member() {
    let [a, b, judge, other] = fakes([
        Fake::says("a", "A"),
        Fake::new("b", [Step::Wait(10), Step::Fail(ErrorKind::Connect)]),
        Fake::says("judge", "J"),
        Fake::says("other", "O"),
    ]);
    let quiet = Panel { show: Show::Nothing, ..panel(&[&a, &b], &judge) };
    let metrics = Arc::clone(&quiet.metrics);
    let panel = Arc::new(PanelBackend::new(quiet)) as Arc<dyn Backend>;
    let group = failover("outer", vec![panel, Arc::clone(&other) as Arc<dyn Backend>], &metrics);
    let reply = group.forward(call(r#","stream":true"#)).await.ok().unwrap();
    assert_eq!(hops(&reply.served.attempts), [("a", "answered"), ("b", "connect")]);
    assert_eq!(hear(reply).await.content, "O");
}

#[tokio::test(start_paused = true)]
async fn what_a_panel_cannot_answer_is_said_before_anybody_is_asked() {
    let [a, b, judge] = fakes([Fake::says("a", "A"), Fake::says("b", "B"), Fake::says("judge", "J")]);
    let backend = PanelBackend::new(panel(&[&a, &b], &judge));
    let body = bytes::Bytes::from_static(br#"{"model":"panel","input":"x"}"#);
    let embedding = Call { request: Arc::new(read(&EMBEDDINGS, body).unwrap()), ..call("") };
    let error = backend.forward(embedding.clone()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(
        error.message,
        "`panel` is a panel of models and answers chats alone, no embedding requests; ask one of its members"
    );
    assert!(backend.outlook(&embedding).is_err());
    let resumed = Call { so_far: Some("Once".into()), ..call("") };
    assert_eq!(backend.forward(resumed).await.err().unwrap().kind, ErrorKind::Unsupported);
    let unjudged = Panel { judge: None, combine: Combine::Majority, ..panel(&[&a, &b], &judge) };
    let error = whole(unjudged, r#","n":2"#).await.err().unwrap();
    assert_eq!(
        error.message,
        "`panel` cannot combine answers to a request with `n`; a `judge` would answer it alone"
    );
    let unfit = Arc::new(Fake::says("unfit", "U").stands(Err("takes no images")));
    let error = whole(panel(&[&a, &unfit], &judge), "").await.err().unwrap();
    assert_eq!(
        (error.kind, &*error.message),
        (
            ErrorKind::Unsupported,
            "`panel` needs 2 members that can serve this request: `unfit`: takes no images"
        )
    );
    assert_eq!((a.times_sent(), b.times_sent(), judge.times_sent()), (0, 0, 0));
}

#[test]
fn a_panel_stands_as_the_scarcest_of_those_that_it_needs() {
    let at = |milliseconds| Ok(Availability::At(Some(milliseconds)));
    let [a, b, c, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("b", "B").stands(at(70)),
        Fake::says("c", "C").stands(at(50)),
        Fake::says("judge", "J"),
    ]);
    let stands = |panel: Panel| PanelBackend::new(panel).outlook(&call(""));
    let outlook = stands(panel(&[&a, &b, &c], &judge)).unwrap();
    assert_eq!((outlook.availability, outlook.in_flight), (Availability::At(Some(50)), 4));
    let refusing = Panel { on_quota: OnQuota::Refuse, ..panel(&[&a, &b, &c], &judge) };
    assert_eq!(stands(refusing).unwrap().availability, Availability::At(Some(70)));
    assert_eq!(
        stands(Panel { quorum: 1, ..panel(&[&a, &b], &judge) }).unwrap().availability,
        Availability::Now
    );
    let unfit = Arc::new(Fake::says("unfit", "U").stands(Err("takes no images")));
    assert_eq!(
        stands(panel(&[&a, &unfit], &judge)).unwrap_err(),
        "fewer than 2 members can: `unfit`: takes no images"
    );
    assert_eq!(stands(panel(&[&a, &b], &unfit)).unwrap_err(), "its judge: takes no images");
}

#[test]
fn an_explanation_says_who_would_be_asked_and_why_nobody() {
    use crate::backend::explain::{Own, Turn};
    let [a, empty, judge] = fakes([
        Fake::says("a", "A"),
        Fake::says("empty", "E").stands(Ok(Availability::At(None))),
        Fake::says("judge", "J"),
    ]);
    let unfit = Arc::new(Fake::says("unfit", "U").stands(Err("takes no images")));
    let turns = |panel: &PanelBackend, fields: &str| {
        let decision = panel.decide(&call(fields));
        let turns: Vec<(String, Turn)> =
            decision.ways.iter().map(|way| (way.label.to_owned(), way.turn)).collect();
        (turns, decision.own)
    };
    let way = |label: &str, turn| (label.to_owned(), turn);
    let some = PanelBackend::new(Panel { quorum: 1, ..panel(&[&empty, &a, &unfit], &judge) });
    let expected = vec![
        way("empty", Turn::Lacks("quota_exhausted")),
        way("a", Turn::Consulted(1)),
        way("unfit", Turn::Skipped),
        way("judge", Turn::Asked(2)),
    ];
    assert_eq!(turns(&some, ""), (expected, None));
    let alone = turns(&some, r#","n":2"#).0;
    assert_eq!((alone[1].1, alone[3].1), (Turn::Passed, Turn::Asked(1)));
    let none = PanelBackend::new(panel(&[&empty, &a], &judge));
    let (ways, fails) = turns(&none, "");
    let expected = vec![
        way("empty", Turn::Lacks("quota_exhausted")),
        way("a", Turn::Passed),
        way("judge", Turn::Passed),
    ];
    assert_eq!(ways, expected);
    let Some(Own::Fails { error, until: None }) = fails else { panic!("{fails:?}") };
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Exhausted, Some("refused")));
    assert_eq!(error.message, "no quorum of its members has capacity; it waits for `empty`");
}
