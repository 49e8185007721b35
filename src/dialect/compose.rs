//! Chat answers that demuxai puts together itself: chunks and whole answers of its own, and another's made part of one,
//! so that a client sees one answer with one id, one model and one role.

use std::ops::Range;

use bytes::Bytes;

use super::Usage;
use super::continuation::deltas;
use super::stream::framed;
use crate::wire::json::{elements_of, is_null, members_of, push_quoted, quoted, scan_object, string_value};
use crate::wire::splice::{Edits, ObjectEdit};
use crate::wire::sse;

/// What an answer of our own is called. Its chunks have all the same names, as clients expect.
#[derive(Debug, Clone)]
pub struct Composer {
    id: String,
    created: i64,
    model: String,
    role_given: bool,
}

/// What an answer cost, as JSON: the sum as `usage`, and what it is made of as `x_demuxai`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// The value of `usage`.
    pub usage: Vec<u8>,
    /// The value of `x_demuxai`.
    pub items: Vec<u8>,
}

/// What became of another's events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adopted {
    /// The events for the client.
    pub events: Vec<u8>,
    /// Token counts were among them.
    pub counted: bool,
    /// The end was among them; it is not in `events`.
    pub done: bool,
}

// === impl Composer ===

impl Composer {
    /// Answers of this id and model, made at this time (Unix seconds).
    pub fn new(id: String, created: i64, model: String) -> Self {
        Composer { id, created, model, role_given: false }
    }

    /// A chunk with this text as `content`, `reasoning_content` or the like.
    pub fn delta(&mut self, field: &str, text: &str) -> Vec<u8> {
        let mut delta = b"{".to_vec();
        if !std::mem::replace(&mut self.role_given, true) {
            delta.extend_from_slice(b"\"role\":\"assistant\",");
        }
        push_quoted(&mut delta, field);
        delta.push(b':');
        push_quoted(&mut delta, text);
        delta.push(b'}');
        self.chunk(
            &[b"[{\"index\":0,\"delta\":", delta.as_slice(), b",\"finish_reason\":null}]"].concat(),
            b"",
        )
    }

    /// The chunk that ends the choice.
    pub fn finish(&self, reason: &str) -> Vec<u8> {
        let reason = quoted(reason);
        self.chunk(
            &[b"[{\"index\":0,\"delta\":{},\"finish_reason\":", reason.as_slice(), b"}]"].concat(),
            b"",
        )
    }

    /// The chunk that tells what it cost.
    pub fn bill(&self, bill: &Bill) -> Vec<u8> {
        self.chunk(b"[]", &rest(bill))
    }

    fn chunk(&self, choices: &[u8], rest: &[u8]) -> Vec<u8> {
        [b"data: ", self.head("chat.completion.chunk").as_slice(), choices, rest, b"}\n\n"].concat()
    }

    /// A whole answer.
    pub fn whole(&self, text: &str, reasoning: Option<&str>, finish: &str, bill: &Bill) -> Vec<u8> {
        let mut body = self.head("chat.completion");
        body.extend_from_slice(b"[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        push_quoted(&mut body, text);
        if let Some(reasoning) = reasoning {
            body.extend_from_slice(b",\"reasoning_content\":");
            push_quoted(&mut body, reasoning);
        }
        body.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":");
        push_quoted(&mut body, finish);
        body.extend_from_slice(b"}]");
        body.extend_from_slice(&rest(bill));
        body.push(b'}');
        body
    }

    fn head(&self, object: &str) -> Vec<u8> {
        let mut head = b"{\"id\":".to_vec();
        push_quoted(&mut head, &self.id);
        head.extend_from_slice(
            format!(",\"object\":\"{object}\",\"created\":{},\"model\":", self.created).as_bytes(),
        );
        push_quoted(&mut head, &self.model);
        head.extend_from_slice(b",\"choices\":");
        head
    }

    /// Another's events as part of this answer: by its names, without a second role, and with the bill that `total` makes
    /// of the token counts in them.
    pub fn adopt(&mut self, events: &Bytes, mut total: impl FnMut(Usage) -> Bill) -> Adopted {
        let mut decoder = sse::Decoder::default();
        decoder.push(events.clone());
        let mut adopted = Adopted::default();
        while let Ok(Some(event)) = decoder.next_event() {
            if event.data.trim_ascii() == b"[DONE]" {
                adopted.done = true;
                continue;
            }
            let Ok(members) = scan_object(&event.data) else { continue };
            let payload = &event.data;
            let mut top = ObjectEdit::top(payload, &members);
            top.set("id", quoted(&self.id));
            top.set("created", self.created.to_string().into_bytes());
            top.set("model", quoted(&self.model));
            let usage =
                members.iter().rfind(|member| member.key == "usage").map(|member| member.value.clone());
            let counts = usage.filter(|range| payload.get(range.clone()).is_some_and(|raw| !is_null(raw)));
            if let Some(range) = counts {
                let bill = total(Usage::read(payload, range));
                top.set("usage", bill.usage);
                top.set("x_demuxai", bill.items);
                adopted.counted = true;
            }
            let mut edits = Edits::new();
            edits.object(top);
            for delta in deltas(payload, &members) {
                let Some(mut delta) = ObjectEdit::nested(payload, delta) else { continue };
                if delta.has("role") && std::mem::replace(&mut self.role_given, true) {
                    delta.remove("role");
                }
                edits.object(delta);
            }
            adopted.events.extend_from_slice(&framed(edits, payload));
        }
        adopted
    }

    /// Another's whole answer as this one: by the model's name, with its bill, and with `reasoning` before its own and
    /// `before` at the head of its text. Its id stays: it is known by that where it comes from.
    pub fn adopt_whole(
        &self,
        body: &Bytes,
        reasoning: Option<&str>,
        before: Option<&str>,
        bill: Bill,
    ) -> Vec<u8> {
        let Ok(members) = scan_object(body) else { return body.to_vec() };
        let mut top = ObjectEdit::top(body, &members);
        top.set("model", quoted(&self.model));
        top.set("usage", bill.usage);
        top.set("x_demuxai", bill.items);
        let mut edits = Edits::new();
        edits.object(top);
        if let Some(message) = first_message(body)
            && let Some(mut object) = ObjectEdit::nested(body, message.clone())
        {
            let text = |key: &str| text_at(body, message.clone(), key);
            if let Some(reasoning) = reasoning {
                let own = text("reasoning_content");
                object.set("reasoning_content", quoted(&[reasoning, own.as_str()].concat()));
            }
            if let Some(before) = before {
                let own = super::said_whole(body).text;
                object.set("content", quoted(&[before, own.as_str()].concat()));
            }
            edits.object(object);
        }
        edits.apply(body)
    }
}

fn rest(bill: &Bill) -> Vec<u8> {
    [b",\"usage\":", bill.usage.as_slice(), b",\"x_demuxai\":", &bill.items].concat()
}

fn first_message(body: &[u8]) -> Option<Range<usize>> {
    let choices = members_of(body, 0..body.len()).find(|field| field.is("choices"))?;
    let first = elements_of(body, choices.range).next()?;
    members_of(body, first.range).find(|field| field.is("message")).map(|field| field.range)
}

fn text_at(body: &[u8], object: Range<usize>, key: &str) -> String {
    let found = members_of(body, object).find(|field| field.is(key));
    found.and_then(|field| string_value(field.raw).map(Into::into)).unwrap_or_default()
}

/// Token counts as the value of `usage`. What is not known of the details is left out.
pub fn usage_object(usage: Usage) -> Vec<u8> {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let mut object = format!(
        "{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}",
        input.saturating_add(output)
    );
    if let Some(cached) = usage.cached {
        object.push_str(&format!(",\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}"));
    }
    if let Some(reasoning) = usage.reasoning {
        object.push_str(&format!(",\"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}"));
    }
    object.push('}');
    object.into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn composer() -> Composer {
        Composer::new("chatcmpl-1@panel".to_owned(), 7, "panel".to_owned())
    }

    fn bill() -> Bill {
        let usage = Usage { input: Some(9), output: Some(4), reasoning: Some(1), cached: None };
        Bill { usage: usage_object(usage), items: b"{\"consensus\":[]}".to_vec() }
    }

    fn parsed(events: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(events).unwrap();
        text.split_terminator("\n\n")
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn chunks_of_our_own_have_the_same_names_and_one_role() {
        let mut ours = composer();
        let events = [
            ours.delta("reasoning_content", "a \"b\"\n"),
            ours.delta("content", "c"),
            ours.finish("stop"),
            ours.bill(&bill()),
        ];
        let events = parsed(&events.concat());
        for event in &events {
            let names = (&event["id"], &event["created"], &event["model"], &event["object"]);
            assert_eq!(
                names,
                (&json!("chatcmpl-1@panel"), &json!(7), &json!("panel"), &json!("chat.completion.chunk"))
            );
        }
        assert_eq!(
            events[0]["choices"],
            json!([{"index": 0, "delta": {"role": "assistant", "reasoning_content": "a \"b\"\n"}, "finish_reason": null}])
        );
        assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "c"}));
        assert_eq!(events[2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(events[3]["choices"], json!([]));
        assert_eq!(
            events[3]["usage"],
            json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "completion_tokens_details": {"reasoning_tokens": 1}})
        );
    }

    #[test]
    fn another_s_chunks_become_part_of_ours_and_keep_what_else_they_say() {
        let mut ours = composer();
        ours.delta("reasoning_content", "x");
        let theirs = concat!(
            "data: {\"id\":\"c@b\",\"created\":1,\"model\":\"b/m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null}],\"usage\":null,\"x\":1.0}\n\n",
            "data: {\"model\":\"b/m\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n",
        );
        let mut counts = Vec::new();
        let adopted = ours.adopt(&Bytes::from_static(theirs.as_bytes()), |usage| {
            counts.push(usage.output);
            bill()
        });
        assert!(adopted.done && adopted.counted && counts == [Some(2)]);
        let text = String::from_utf8(adopted.events.clone()).unwrap();
        assert!(text.contains("\"x\":1.0") && !text.contains("[DONE]"), "{text}");
        let events = parsed(&adopted.events);
        assert_eq!(events[0]["choices"][0]["delta"], json!({"content": "hi"}));
        assert_eq!((&events[0]["usage"], &events[1]["usage"]["total_tokens"]), (&Value::Null, &json!(13)));
        for event in events {
            assert_eq!((&event["id"], &event["model"]), (&json!("chatcmpl-1@panel"), &json!("panel")));
        }
        let first = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n");
        let alone = composer().adopt(&first, |_| bill());
        assert_eq!(parsed(&alone.events)[0]["choices"][0]["delta"], json!({"role": "assistant"}));
    }

    #[test]
    fn another_s_whole_answer_gets_our_bill_and_what_came_before() {
        let body = Bytes::from_static(
            br#"{"id":"c@b","model":"b/m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","reasoning_content":"own"}}],"usage":{"prompt_tokens":1}}"#,
        );
        let with = composer().adopt_whole(&body, Some("panel. "), Some("<a>"), bill());
        let with: Value = serde_json::from_slice(&with).unwrap();
        assert_eq!((&with["id"], &with["model"]), (&json!("c@b"), &json!("panel")));
        let message = &with["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], "panel. own");
        assert_eq!(message["content"], "<a>hi");
        assert_eq!(with["usage"]["prompt_tokens"], 9);
        let plain: Value =
            serde_json::from_slice(&composer().adopt_whole(&body, None, None, bill())).unwrap();
        assert_eq!(plain["choices"][0]["message"]["reasoning_content"], "own");
    }

    #[test]
    fn a_whole_answer_of_our_own_is_one_to_a_client() {
        let whole: Value =
            serde_json::from_slice(&composer().whole("yes", Some("why"), "stop", &bill())).unwrap();
        assert_eq!(
            whole["choices"],
            json!([{"index": 0, "message": {"role": "assistant", "content": "yes", "reasoning_content": "why"}, "logprobs": null, "finish_reason": "stop"}])
        );
        assert_eq!(
            (&whole["object"], &whole["x_demuxai"]),
            (&json!("chat.completion"), &json!({"consensus": []}))
        );
    }
}
