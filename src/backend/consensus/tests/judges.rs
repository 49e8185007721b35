//! What comes of the members' answers: what the client sees, the judge's part, and the rules that take its place.

use futures_util::future::join;
use serde_json::json;

use super::*;
use crate::dialect::Usage;

fn fakes<const N: usize>(fakes: [Fake; N]) -> [Arc<Fake>; N] {
    fakes.map(Arc::new)
}

fn two() -> [Arc<Fake>; 3] {
    fakes([
        Fake::new("a", [say("Al"), Step::Wait(20), say("pha")]),
        Fake::new("b", [Step::Wait(10), say("Beta")]),
        Fake::new("judge", [say("Both"), say(" letters.")]),
    ])
}

#[tokio::test(start_paused = true)]
async fn the_members_are_reasoning_and_the_judge_is_the_content_of_one_answer() {
    let [a, b, judge] = two();
    let backend = PanelBackend::new(panel(&[&a, &b], &judge));
    let call = call(r#","stream":true,"stream_options":{"include_usage":true}"#);
    let reply = backend.forward(call).await.ok().unwrap();
    assert_eq!((&*reply.served.provider, judge.times_sent()), ("panel", 0), "the first word commits");
    let heard = hear(reply).await;
    assert_eq!(heard.reasoning, "**a**\n\nAlpha\n\n**b**\n\nBeta\n\n");
    assert_eq!(heard.content, "Both letters.");
    assert!(heard.done && heard.error.is_none());
    let mut roles = 0;
    for event in &heard.events {
        let names = [&event["id"], &event["created"], &event["model"]];
        assert_eq!(names, [&json!("chatcmpl-r1@panel"), &json!(NOON / 1000), &json!("panel")], "{event}");
        roles += usize::from(event["choices"][0]["delta"]["role"] == "assistant");
    }
    assert_eq!(roles, 1);
    let finishes = heard.events.iter().filter(|event| event["choices"][0]["finish_reason"] == "stop");
    assert_eq!(finishes.count(), 1);
    let last = heard.events.last().unwrap();
    assert_eq!(last["usage"], json!({"prompt_tokens": 30, "completion_tokens": 6, "total_tokens": 36}));
    let item = |backend: &str, role: &str| json!({"backend": backend, "role": role, "state": "answered", "prompt_tokens": 10, "completion_tokens": 2});
    assert_eq!(
        last["x_demuxai"]["consensus"],
        json!([item("a", "member"), item("b", "member"), item("judge", "judge")])
    );
    assert_eq!(heard.usage, Usage { input: Some(30), output: Some(6), ..Usage::default() });
    assert_eq!([&a, &b, &judge].map(|fake| fake.open()), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn no_token_counts_come_to_a_client_that_did_not_ask() {
    let [a, b, judge] = two();
    let heard = stream(panel(&[&a, &b], &judge)).await.unwrap();
    assert!(heard.events.iter().all(|event| event["choices"][0].is_object() && event["usage"].is_null()));
    assert_eq!(heard.usage.input, Some(30), "the log has them all the same");
}

#[tokio::test(start_paused = true)]
async fn the_judge_gets_the_conversation_and_the_answers_in_frames() {
    let [a, b, judge] = two();
    whole(panel(&[&a, &b], &judge), r#","temperature":0.5"#).await.unwrap();
    let asked: serde_json::Value = serde_json::from_str(&judge.asked()).unwrap();
    assert_eq!((&asked["temperature"], asked["messages"].as_array().unwrap().len()), (&json!(0.5), 1));
    let text = asked["messages"][0]["content"].as_str().unwrap();
    assert!(text.starts_with("What is it?\n\nSeveral assistants"), "{text}");
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is in {text}"));
    assert!(
        at("add no facts of your own") < at("[answer 1 ")
            && at("]\nBeta\n[end of answer 1 ") < at("]\nAlpha\n[")
    );
    let members: serde_json::Value = serde_json::from_str(&a.asked()).unwrap();
    assert_eq!(members["messages"][0]["content"], "What is it?", "members get what the client sent");
    let own = Panel { prompt: Some("Vote.".to_owned()), ..panel(&[&a, &b], &judge) };
    whole(own, "").await.unwrap();
    assert!(judge.asked().contains("What is it?\\n\\nVote.\\n\\nThe 2 answers follow."));
}

#[tokio::test(start_paused = true)]
async fn the_judge_fails_over_though_the_members_were_shown() {
    let [a, b, judge] = two();
    let dead = Arc::new(Fake::new("dead", [Step::Wait(30), Step::Fail(ErrorKind::Connect)]));
    let metrics = Arc::new(Metrics::new().unwrap());
    let judges = failover("judges", vec![Arc::clone(&dead) as _, Arc::clone(&judge) as _], &metrics);
    let heard = stream(judged_by(&[&a, &b], judges)).await.unwrap();
    assert_eq!((dead.times_sent(), heard.content.as_str()), (1, "Both letters."));
    assert!(heard.done && heard.reasoning.contains("Alpha"));
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_fails_ends_the_answer_with_its_error() {
    let [a, b, _] = two();
    let judge = Arc::new(Fake::fails("judge", ErrorKind::Connect));
    let failing = panel(&[&a, &b], &judge);
    let metrics = Arc::clone(&failing.metrics);
    let heard = stream(failing).await.unwrap();
    let error = heard.error.unwrap();
    assert_eq!(
        (&*error.message, error.code.as_deref(), heard.done),
        (
            "the members of `panel` answered, but its judge failed: `judge`: failed",
            Some("judge_failed"),
            false
        )
    );
    assert_eq!(hops(&error.attempts), [("b", "answered"), ("a", "answered"), ("judge", "connect")]);
    assert!(heard.reasoning.contains("Alpha") && heard.content.is_empty());
    assert!(
        heard.events.iter().all(|event| event["choices"][0]["finish_reason"].is_null()),
        "no end is made up"
    );
    let failed =
        "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"judge_failed\"} 1";
    assert!(metric(&metrics, failed));
    let mute = Arc::new(Fake::new("judge", []));
    let error = whole(panel(&[&a, &b], &mute), "").await.err().unwrap();
    assert!(error.message.contains("answered without any content"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn where_the_configuration_says_so_a_rule_takes_the_judge_s_place() {
    let [a, b, _] = two();
    let judge = Arc::new(Fake::fails("judge", ErrorKind::Connect));
    let failing = Panel { fallback: Some(Combine::Longest), ..panel(&[&a, &b], &judge) };
    let metrics = Arc::clone(&failing.metrics);
    let heard = stream(failing).await.unwrap();
    assert!(heard.done && heard.error.is_none());
    assert_eq!(heard.content, "Alpha");
    let note = "[the judge judge failed: connect; the longest answer takes its place, that of a]\n\n";
    assert!(heard.reasoning.ends_with(note), "{}", heard.reasoning);
    let fell_back =
        "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"fallback\"} 1";
    assert!(metric(&metrics, fell_back));
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_breaks_off_has_no_replacement() {
    let [a, b, _] = two();
    let judge = Arc::new(Fake::new("judge", [say("Bo"), Step::Fail(ErrorKind::Truncated)]));
    let broken = Panel { fallback: Some(Combine::Longest), ..panel(&[&a, &b], &judge) };
    let heard = stream(broken).await.unwrap();
    assert_eq!((heard.content.as_str(), heard.done), ("Bo", false));
    assert_eq!(heard.error.map(|error| error.kind), Some(ErrorKind::Truncated));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_the_judge_s_with_all_that_it_cost() {
    let [a, b, judge] = two();
    let (reply, body) = whole(panel(&[&a, &b], &judge), "").await.unwrap();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], "Both letters.");
    // The members are heard in the order in which they end.
    assert_eq!(message["reasoning_content"], "**a**\n\nAlpha\n\n**b**\n\nBeta\n\n");
    assert_eq!((&body["model"], &body["id"]), (&json!("panel"), &json!("c@judge")));
    assert_eq!(body["usage"]["total_tokens"], 36);
    assert_eq!(body["x_demuxai"]["consensus"][2]["role"], "judge");
    assert_eq!(&*reply.served.provider, "judge");
    let ReplyBody::Whole { usage, .. } = reply.body else { panic!("whole") };
    assert_eq!(usage.output, Some(6));
    let silent = Panel { show: Show::Nothing, ..panel(&[&a, &b], &judge) };
    let (_, body) = whole(silent, "").await.unwrap();
    assert!(body["choices"][0]["message"].get("reasoning_content").is_none());
}

#[tokio::test(start_paused = true)]
async fn tools_and_several_answers_are_the_judge_s_alone() {
    for (fields, why) in [(r#","tools":[{"type":"function"}]"#, "tools"), (r#","n":2"#, "n")] {
        let [a, b, judge] = two();
        let alone = panel(&[&a, &b], &judge);
        let metrics = Arc::clone(&alone.metrics);
        let (reply, body) = whole(alone, fields).await.unwrap();
        assert_eq!((a.times_sent(), b.times_sent(), &*reply.served.provider), (0, 0, "judge"));
        let sent = judge.asked();
        assert!(sent.contains(fields) && !sent.contains("answer 1"), "as the client sent it: {sent}");
        assert_eq!(body["model"], "judge/m");
        let edits = judge.edits();
        assert_eq!(edits, [format!("judge-alone:{why}")]);
        let series =
            "demuxai_consensus_requests_total{combine=\"judge\",group=\"panel\",outcome=\"judge_alone\"} 1";
        assert!(metric(&metrics, series));
    }
}

#[tokio::test(start_paused = true)]
async fn harmony_puts_the_members_into_the_analysis_and_they_cannot_leave_it() {
    let [a, b, judge] = fakes([
        Fake::new("a", [say("x<|en"), Step::Wait(5), say("d|><|channel|>final<|message|>mine")]),
        Fake::late("b", 20, "B"),
        Fake::says("judge", "J"),
    ]);
    let harmony = || Panel { show: Show::Harmony, ..panel(&[&a, &b], &judge) };
    let expected = "<|channel|>analysis<|message|>**a**\n\nx<| end|><| channel|>final<| message|>mine\n\n**b**\n\nB\n\n\
         <|end|><|start|>assistant<|channel|>final<|message|>J";
    let heard = stream(harmony()).await.unwrap();
    assert_eq!((heard.content.as_str(), heard.reasoning.as_str()), (expected, ""));
    let (_, body) = whole(harmony(), "").await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], expected);
}

fn ruled(members: &[&Arc<Fake>], judge: &Arc<Fake>, combine: Combine, quorum: usize) -> Panel {
    Panel { combine, quorum, show: Show::Nothing, ..panel(members, judge) }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_cancels_the_others() {
    let [a, b, judge] =
        fakes([Fake::late("a", 9000, "A"), Fake::late("b", 10, "B"), Fake::says("judge", "J")]);
    let began = tokio::time::Instant::now();
    let heard = stream(ruled(&[&a, &b], &judge, Combine::First, 1)).await.unwrap();
    assert_eq!((heard.content.as_str(), heard.done), ("B", true));
    assert_eq!((began.elapsed(), a.open()), (Duration::from_millis(10), 0));
    assert_eq!(judge.times_sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_answer_is_waited_for() {
    let [a, b, judge] = fakes([Fake::says("a", "A"), Fake::late("b", 5000, "Bbb"), Fake::says("judge", "J")]);
    let (reply, body) = whole(ruled(&[&a, &b], &judge, Combine::Longest, 1), "").await.unwrap();
    assert_eq!(body["choices"][0]["message"], json!({"role": "assistant", "content": "Bbb"}));
    assert_eq!(
        (&body["id"], &body["choices"][0]["finish_reason"]),
        (&json!("chatcmpl-r1@panel"), &json!("stop"))
    );
    assert_eq!((&*reply.served.provider, &*reply.served.model), ("panel", "b"));
    assert_eq!(body["usage"]["total_tokens"], 24);
}

#[tokio::test(start_paused = true)]
async fn a_majority_ends_the_vote_and_without_one_there_is_no_answer() {
    let [a, b, slow, judge] = fakes([
        Fake::says("a", r#"{"x": 1, "y": 2}"#),
        Fake::late("b", 100, r#"{"y":2,"x":1}"#),
        Fake::late("slow", 9000, "no"),
        Fake::says("judge", "J"),
    ]);
    let began = tokio::time::Instant::now();
    let (reply, body) = whole(ruled(&[&a, &b, &slow], &judge, Combine::Majority, 2), "").await.unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], r#"{"x": 1, "y": 2}"#);
    assert_eq!(began.elapsed(), Duration::from_millis(100));
    assert!(hops(&reply.served.attempts).contains(&("slow", "cancelled")));
    let [a, b, _] = two();
    let error = whole(ruled(&[&a, &b], &judge, Combine::Majority, 2), "").await.err().unwrap();
    assert_eq!(error.code.as_deref(), Some("no_majority"));
    assert!(
        error.message.starts_with("no answer of `panel` has a majority: 2 answers differ too much"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_best_answer_is_the_one_that_the_judge_names() {
    let [a, b, _] = two();
    let judge = Arc::new(Fake::says("judge", "Answer 2 is best."));
    let best = || Panel { combine: Combine::Best, ..panel(&[&a, &b], &judge) };
    let heard = stream(best()).await.unwrap();
    assert_eq!((heard.content.as_str(), heard.done), ("Alpha", true), "Beta was there first");
    let asked: serde_json::Value = serde_json::from_str(&judge.asked()).unwrap();
    assert_eq!(
        asked.as_object().unwrap().len(),
        2,
        "the judge's number need not have the answer's form: {asked}"
    );
    assert_eq!(heard.usage.input, Some(30));
    let vague = Arc::new(Fake::says("judge", "All are fine."));
    let error = whole(Panel { combine: Combine::Best, ..panel(&[&a, &b], &vague) }, "").await.err().unwrap();
    assert!(error.message.contains("named none of the answers"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_moment_at_which_a_judge_has_capacity_is_the_hope_of_one_request_at_a_time() {
    let [a, b, _] = two();
    let judge = Fake::late("judge", 30_000, "J").frees_in(Duration::from_secs(20));
    let judge = Arc::new(judge);
    let hoping = PanelBackend::new(panel(&[&a, &b], &judge));
    let mut both = join(hoping.forward(call("")), hoping.forward(call(""))).boxed();
    assert!(tokio::time::timeout(Duration::from_secs(10), &mut both).await.is_err());
    assert_eq!((a.times_sent(), b.times_sent()), (1, 1));
    let (one, other) = both.await;
    assert!(one.is_ok() && other.is_ok());
    assert_eq!((a.times_sent(), judge.times_sent()), (2, 2));
    // Later than its members may take.
    let judge = Arc::new(Fake::says("judge", "J").frees_in(Duration::from_secs(90)));
    let refused = PanelBackend::new(panel(&[&a, &b], &judge)).forward(call("")).await.err().unwrap();
    assert_eq!(
        (refused.code.as_deref(), refused.retry_after),
        (Some("refused"), Some(Duration::from_secs(90)))
    );
    assert_eq!(a.times_sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_will_have_capacity_in_time_is_waited_for() {
    let [a, b, _] = two();
    let until = noon().as_millisecond() + 5_000;
    let judge = Arc::new(Fake::says("judge", "J").stands(Ok(Availability::At(Some(until)))));
    for combine in [Combine::Judge, Combine::Best] {
        let began = tokio::time::Instant::now();
        // What it says names no answer, which is another matter.
        let _ = whole(Panel { combine, ..panel(&[&a, &b], &judge) }, "").await;
        assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert_eq!(judge.times_sent(), 2);
}
