//! Streams as providers send them, what ends them, and that chunk boundaries do not matter.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::{Shape, openai_error};

fn plan() -> Rewrite {
    Rewrite::new("prov", Shape::Chat)
}

/// All steps of a stream cut into these chunks.
fn steps_of(plan: &Rewrite, chunks: &[&[u8]]) -> (Vec<Step>, StreamRewriter) {
    let mut rewriter = StreamRewriter::new(plan.clone());
    let mut steps = Vec::new();
    for chunk in chunks {
        rewriter.push(Bytes::copy_from_slice(chunk));
        steps.extend(std::iter::from_fn(|| rewriter.next_step()));
    }
    rewriter.finish();
    steps.extend(std::iter::from_fn(|| rewriter.next_step()));
    assert_eq!(rewriter.next_step(), None);
    (steps, rewriter)
}

/// What the client gets, and the error if there was one.
fn downstream(plan: &Rewrite, source: &str) -> (String, Option<ProxyError>) {
    let mut text = String::new();
    let mut failure = None;
    for step in steps_of(plan, &[source.as_bytes()]).0 {
        match step {
            Step::Event { bytes, .. } => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Step::Done => text.push_str("<done>"),
            Step::Failed(error) => failure = Some(error),
        }
    }
    (text, failure)
}

fn failure(source: &str) -> ProxyError {
    let error = downstream(&plan(), source).1.unwrap();
    assert_eq!(error.provider.as_deref(), Some("prov"));
    error
}

/// A chunk of chat with this delta and finish reason.
fn chunk(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

const MISTRAL: &str = concat!(
    ": hello\r\n\r\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"codestral-latest\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"p\":\"abc\"}\r\n\r\n",
    "data:{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"codestral-latest\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x = 1.10\"},\"finish_reason\":null}]}\r\n\r\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"codestral-latest\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\r\n\r\n",
    "data: [DONE]\r\n\r\n",
);

#[test]
fn a_stream_keeps_its_bytes_but_for_model_and_id() {
    let (text, failed) = downstream(&plan(), MISTRAL);
    let expected = MISTRAL
        .replace(": hello\r\n\r\n", "")
        .replace("data:{", "data: {")
        .replace("\r\n", "\n")
        .replace("\"c1\"", "\"c1@prov\"")
        .replace("codestral-latest", "prov/codestral-latest")
        .replace("data: [DONE]\n\n", "<done>");
    assert_eq!((text.as_str(), failed), (expected.as_str(), None));
}

#[test]
fn semantic_events_and_usage_are_told() {
    let (steps, rewriter) = steps_of(&plan(), &[MISTRAL.as_bytes()]);
    let semantic: Vec<bool> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Event { semantic, .. } => Some(*semantic),
            _ => None,
        })
        .collect();
    assert_eq!(semantic, [false, true, true]);
    assert_eq!(rewriter.semantic_events(), 2);
    assert!(rewriter.finish_seen() && rewriter.done_seen());
    assert_eq!(rewriter.usage(), Usage { input: Some(9), output: Some(3), ..Usage::default() });
}

#[test]
fn empty_choices_and_usage_alone_are_not_semantic() {
    for payload in [r#"{"choices":[]}"#, r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, r#"{"x":1}"#] {
        let (steps, _) = steps_of(&plan(), &[format!("data: {payload}\n\n").as_bytes()]);
        assert!(matches!(steps[0], Step::Event { semantic: false, .. }), "{payload}");
    }
}

#[test]
fn only_the_usage_chunk_that_we_asked_for_is_taken_out() {
    let source = concat!(
        "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":0}}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":2}}\n\n",
        "data: {\"choices\":[ ],\"usage\":{\"prompt_tokens\":7}}\n\n",
        "data: [DONE]\n\n",
    );
    let strip = Rewrite { strip_usage: true, ..plan() };
    let expected = source.replace("data: {\"choices\":[ ],\"usage\":{\"prompt_tokens\":7}}\n\n", "");
    assert_eq!(downstream(&strip, source).0, expected.replace("data: [DONE]\n\n", "<done>"));
    assert_eq!(downstream(&plan(), source).0, source.replace("data: [DONE]\n\n", "<done>"));
    assert_eq!(steps_of(&strip, &[source.as_bytes()]).1.usage().input, Some(7));
}

#[test]
fn groq_reports_its_usage_apart() {
    let source = format!(
        "{}data: {{\"choices\":[],\"x_groq\":{{\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":2}}}}}}\n\n",
        chunk(r#"{"content":"a"}"#, "\"stop\"")
    );
    let (_, rewriter) = steps_of(&plan(), &[source.as_bytes()]);
    assert_eq!((rewriter.usage().input, rewriter.usage().output), (Some(4), Some(2)));
}

#[test]
fn a_payload_of_several_lines_stays_one() {
    let source = "data: {\ndata:   \"model\": \"m\",\ndata:  \"id\": \"i\"}\n\ndata: [DONE]\n\n";
    let (text, _) = downstream(&plan(), source);
    assert_eq!(text, "data: {\ndata:   \"model\": \"prov/m\",\ndata:  \"id\": \"i@prov\"}\n\n<done>");
}

#[test]
fn a_stream_with_a_finish_reason_needs_no_done() {
    let (text, failed) = downstream(&plan(), &chunk("{}", "\"stop\""));
    assert!(text.ends_with("\n\n<done>") && failed.is_none());
}

#[test]
fn a_stream_in_which_one_of_two_choices_never_finished_is_truncated() {
    let other = chunk("{\"content\":\"b\"}", "null").replace("\"index\":0", "\"index\":1");
    let both = [chunk("{\"content\":\"a\"}", "null"), other.clone(), chunk("{}", "\"stop\"")].concat();
    assert_eq!(failure(&both).kind, ErrorKind::Truncated);
    let finished = both + &other.replace("null", "\"length\"");
    assert!(downstream(&plan(), &finished).0.ends_with("<done>"));
}

#[test]
fn done_without_a_finish_reason_is_done() {
    let (steps, rewriter) = steps_of(&plan(), &[b"data: [DONE]"]);
    assert_eq!(steps, [Step::Done]);
    assert!(rewriter.done_seen() && !rewriter.finish_seen());
}

#[test]
fn what_comes_after_done_is_ignored() {
    let (text, failed) = downstream(&plan(), "data: [DONE]\n\ndata: garbage\n\ndata: {\"error\":\"x\"}\n\n");
    assert_eq!((text.as_str(), failed), ("<done>", None));
}

#[test]
fn a_stream_with_neither_is_truncated() {
    for source in [String::new(), ": only a comment\n\n".to_owned(), chunk(r#"{"content":"a"}"#, "null")] {
        let error = failure(&source);
        assert_eq!(error.kind, ErrorKind::Truncated, "{source}");
        assert_eq!(error.message, "`prov` ended the stream before the answer was complete");
    }
}

#[test]
fn a_last_event_without_its_blank_line_counts_and_a_cut_one_does_not() {
    let whole = chunk("{}", "\"stop\"");
    assert_eq!(downstream(&plan(), whole.trim_end()).1, None);
    for end in 1..whole.trim_end().len() {
        let cut = whole.get(..end).unwrap();
        assert_eq!(failure(cut).kind, ErrorKind::Truncated, "{cut}");
        let (text, failed) = downstream(&plan(), &format!("{whole}{cut}"));
        assert!(text.ends_with("<done>") && failed.is_none(), "{cut}");
    }
    for cut in ["data: [", "data: [DON"] {
        assert_eq!(downstream(&plan(), &format!("{whole}{cut}")).1, None);
        assert_eq!(failure(cut).kind, ErrorKind::Truncated);
    }
}

#[test]
fn events_without_data_are_dropped() {
    assert_eq!(downstream(&plan(), "data:\n\ndata: \n\nevent: ping\n\ndata: [DONE]\n\n").0, "<done>");
}

#[test]
fn an_error_inside_the_stream_ends_it() {
    for (source, message, status) in [
        ("data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\n", "slow down", 429),
        ("data: {\"error\":\"broken\"}\n\n", "broken", 502),
        ("data: {\"object\":\"error\",\"message\":\"capacity\"}\n\n", "capacity", 502),
        (
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
            "busy",
            502,
        ),
        ("event: error\ndata: it broke\n\n", "it broke", 502),
        (
            "data: {\"id\":\"1\",\"error\":{\"code\":502,\"message\":\"lost\"},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
            "lost",
            502,
        ),
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n",
            "`prov` reported an error inside its answer",
            502,
        ),
    ] {
        let error = failure(&format!("{source}data: [DONE]\n\n"));
        assert_eq!(error.kind, ErrorKind::UpstreamInBand, "{source}");
        let shown = String::from_utf8(openai_error(&error)).unwrap();
        assert!(shown.contains(&format!("\"message\":\"{message}\"")), "{source}: {shown}");
        let upstream = error.upstream.unwrap();
        assert_eq!(upstream.status, status);
        assert!(source.contains(std::str::from_utf8(&upstream.body).unwrap()));
    }
}

#[test]
fn an_empty_error_or_one_with_content_does_not_end_it() {
    for source in [
        "data: {\"error\":null,\"choices\":[]}\n\n",
        "data: {\"error\":{},\"choices\":[]}\n\n",
        "data: {\"error\":\"\",\"choices\":[]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"half\"},\"finish_reason\":\"error\"}]}\n\n",
    ] {
        let (text, failed) = downstream(&plan(), &format!("{source}data: [DONE]\n\n"));
        assert_eq!((text, failed), (format!("{source}<done>"), None));
    }
}

#[test]
fn a_payload_that_is_no_json_object_is_a_protocol_error_that_does_not_quote_it() {
    for payload in ["secret words", "{\"secret\":}", "{\"secret\"", "[1]", "7", "\"secret\"", "null"] {
        let error = failure(&format!("data: {payload}\n\n"));
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{payload}");
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[test]
fn an_event_over_the_limit_is_a_protocol_error() {
    let huge = "x".repeat(sse::DEFAULT_LIMIT + 1);
    assert_eq!(failure(&huge).kind, ErrorKind::UpstreamProtocol);
}

#[test]
fn a_chat_shaped_fim_stream_becomes_text() {
    let to_text = Rewrite { client: Shape::Text, ..plan() };
    let (text, failed) = downstream(&to_text, MISTRAL);
    let expected = concat!(
        "data: {\"id\":\"c1@prov\",\"object\":\"text_completion\",\"created\":1,\"model\":\"prov/codestral-latest\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":null}],\"p\":\"abc\"}\n\n",
        "data: {\"id\":\"c1@prov\",\"object\":\"text_completion\",\"created\":1,\"model\":\"prov/codestral-latest\",\"choices\":[{\"index\":0,\"text\":\"x = 1.10\",\"finish_reason\":null}]}\n\n",
        "data: {\"id\":\"c1@prov\",\"object\":\"text_completion\",\"created\":1,\"model\":\"prov/codestral-latest\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\n",
        "<done>",
    );
    assert_eq!((text.as_str(), failed), (expected, None));
}

#[test]
fn a_text_stream_becomes_chat_with_one_role_for_each_choice() {
    let to_chat = Rewrite { upstream: Shape::Text, ..plan() };
    let source = concat!(
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"text\":\"a\",\"index\":0,\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":0}}\n\n",
        "data: {\"object\":\"text_completion\",\"choices\":[{\"text\":\"b\",\"index\":0,\"finish_reason\":null},{\"text\":\"c\",\"index\":1,\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"object\":\"text_completion\",\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"object\":\"text_completion\",\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n",
    );
    let expected = concat!(
        "data: {\"id\":\"c@prov\",\"object\":\"chat.completion.chunk\",\"model\":\"prov/m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},\"index\":0,\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":0}}\n\n",
        "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\"b\"},\"index\":0,\"finish_reason\":null},{\"delta\":{\"role\":\"assistant\",\"content\":\"c\"},\"index\":1,\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":\"\"},\"index\":0,\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n",
        "<done>",
    );
    assert_eq!(downstream(&to_chat, source), (expected.to_owned(), None));
}

#[test]
fn roles_are_given_once_and_not_to_absurd_indices() {
    let mut given = 0;
    let asked = [0, 0, 127, 127, 128, u64::MAX].map(|index| take_role(&mut given, index));
    assert_eq!(asked, [true, false, true, false, false, false]);
}

fn any_payload() -> impl Strategy<Value = String> {
    let delta = prop_oneof![
        Just(json!({})),
        Just(json!({"role": "assistant"})),
        "\\PC{0,5}".prop_map(|text| json!({"content": text})),
        "[a-z\n\"]{0,5}".prop_map(|text| json!({"content": [{"type": "text", "text": text}]})),
        Just(json!({"tool_calls": [{"index": 0}]})),
    ];
    let choice = (delta, 0..3u8, prop::option::of(prop::sample::select(vec!["stop", "error", "length"]))).prop_map(
        |(delta, index, finish)| json!({"index": index, "delta": delta, "text": "t", "finish_reason": finish}),
    );
    let usage = prop::option::of((0..9u8).prop_map(|count| json!({"prompt_tokens": count})));
    let body = (prop::collection::vec(choice, 0..3), usage, "[a-z/]{0,6}", prop::bool::weighted(0.05))
        .prop_map(|(choices, usage, name, failed)| {
            let mut body =
                json!({"id": name, "model": name, "object": "x", "choices": choices, "usage": usage});
            if failed {
                body["error"] = json!({"message": name});
            }
            body
        });
    prop_oneof![
        20 => body.clone().prop_map(|body| body.to_string()),
        3 => body.prop_map(|body| serde_json::to_string_pretty(&body).unwrap()),
        1 => Just("[DONE]".to_owned()),
        1 => "\\PC{0,5}",
    ]
}

fn any_stream() -> impl Strategy<Value = String> {
    let event = (any_payload(), prop::sample::select(vec!["\n", "\r\n", "\r"]), any::<bool>(), "(: x)?")
        .prop_map(|(payload, end, space, comment)| {
            let before = if comment.is_empty() { String::new() } else { format!("{comment}{end}") };
            let colon = if space { "data: " } else { "data:" };
            let lines: String = payload.lines().map(|line| format!("{colon}{line}{end}")).collect();
            format!("{before}{lines}{end}")
        });
    prop::collection::vec(event, 0..6).prop_map(|events| events.concat())
}

fn any_plan() -> impl Strategy<Value = Rewrite> {
    let shape = prop::sample::select(vec![Shape::Chat, Shape::Text]);
    (shape.clone(), shape, any::<bool>()).prop_map(|(upstream, client, strip_usage)| Rewrite {
        upstream,
        client,
        strip_usage,
        ..plan()
    })
}

/// Every event is well-formed and carries an object; nothing follows the end.
fn is_sound(steps: &[Step]) -> Result<(), TestCaseError> {
    for (index, step) in steps.iter().enumerate() {
        let Step::Event { bytes, .. } = step else {
            prop_assert_eq!(index, steps.len() - 1);
            continue;
        };
        let text = std::str::from_utf8(bytes).unwrap();
        let lines =
            text.strip_suffix("\n\n").unwrap().split('\n').map(|line| line.strip_prefix("data: ").unwrap());
        let payload: Value = serde_json::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        prop_assert!(payload.is_object());
    }
    prop_assert!(matches!(steps.last(), Some(Step::Done | Step::Failed(_))));
    Ok(())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_downstream(
        source in any_stream(),
        plan in any_plan(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        end in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let source = source.as_bytes();
        let source = end.map_or(source, |end| &source[..end.index(source.len() + 1)]);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(source.len() + 1)).collect();
        places.extend([0, source.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &source[pair[0]..pair[1]]).collect();
        let whole = steps_of(&plan, &[source]).0;
        is_sound(&whole)?;
        prop_assert_eq!(&steps_of(&plan, &chunks).0, &whole);
        prop_assert_eq!(&steps_of(&plan, &source.chunks(1).collect::<Vec<_>>()).0, &whole);
    }

    #[test]
    fn mutated_streams_never_panic(
        source in any_stream(),
        plan in any_plan(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = [MISTRAL, &source].concat().into_bytes();
        for (place, byte) in changes {
            let index = place.index(bytes.len());
            bytes[index] = byte;
        }
        let steps = steps_of(&plan, &[&bytes]).0;
        prop_assert!(matches!(steps.last(), Some(Step::Done | Step::Failed(_))));
    }

    #[test]
    fn random_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..8)) {
        let parts: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        prop_assert!(!steps_of(&plan(), &parts).0.is_empty());
    }
}
