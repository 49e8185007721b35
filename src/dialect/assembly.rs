//! Puts the events of a streamed answer together into the plain answer that they are one of, for whoever reads it later.
//! Nobody relays what comes of it: it is made from values, and says what the stream said, not how it was written.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::wire::sse;

/// Texts that are said once, and not piece by piece.
const SAID_ONCE: [&str; 5] = ["id", "role", "type", "name", "finish_reason"];

/// The answer that these whole events make together. What cannot be read is left out.
pub fn assembled(events: Bytes) -> Value {
    let mut answer = Map::new();
    let mut choices: Vec<Value> = Vec::new();
    let mut decoder = sse::Decoder::default();
    decoder.push(events);
    while let Ok(Some(event)) = decoder.next_event() {
        let Ok(Value::Object(mut payload)) = serde_json::from_slice(&event.data) else { continue };
        if let Some(Value::Array(more)) = payload.remove("choices") {
            more.into_iter().map(as_message).for_each(|choice| add_element(&mut choices, choice));
        }
        for (key, value) in payload {
            match value {
                // Some send the token counts with every event, others nulls before them.
                Value::Null => {
                    answer.entry(key).or_insert(Value::Null);
                }
                Value::String(name) if key == "object" => {
                    answer.insert(key, Value::from(name.trim_end_matches(".chunk")));
                }
                value => {
                    answer.insert(key, value);
                }
            }
        }
    }
    answer.insert("choices".to_owned(), Value::Array(choices));
    Value::Object(answer)
}

/// A choice as plain answers have it: with a message where it has a delta.
fn as_message(choice: Value) -> Value {
    let Value::Object(choice) = choice else { return choice };
    let renamed = choice.into_iter().map(|(key, value)| match key.as_str() {
        "delta" => ("message".to_owned(), value),
        _ => (key, value),
    });
    Value::Object(renamed.collect())
}

/// Adds an element to the one with the same `index`, if there is one: choices and tool calls are told so.
fn add_element(elements: &mut Vec<Value>, element: Value) {
    let index = element.get("index");
    let known = elements.iter_mut().find(|known| index.is_some() && known.get("index") == index);
    match known {
        Some(known) => add(known, element),
        None => elements.push(element),
    }
}

/// Adds what is said to what was said before.
fn add(said: &mut Value, more: Value) {
    match (said, more) {
        (Value::Object(said), Value::Object(more)) => {
            for (key, value) in more {
                match said.get_mut(&key) {
                    Some(Value::String(known)) if SAID_ONCE.contains(&key.as_str()) => {
                        if let Value::String(text) = value
                            && !text.is_empty()
                        {
                            *known = text;
                        }
                    }
                    Some(known) if key != "index" => add(known, value),
                    Some(_) => {}
                    None => {
                        said.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(said), Value::Array(more)) => {
            more.into_iter().for_each(|element| add_element(said, element));
        }
        (Value::String(said), Value::String(more)) => said.push_str(&more),
        (_, Value::Null) => {}
        (said, more) => *said = more,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(payloads: &[Value]) -> Value {
        let events: String = payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect();
        assembled(Bytes::from(format!("{events}data: [DONE]\n\n")))
    }

    fn chunk(delta: Value, finish: Option<&str>) -> Value {
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "usage": null,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    #[test]
    fn a_stream_becomes_the_plain_answer() {
        let whole = of(&[
            chunk(json!({"role": "assistant", "content": "", "reasoning_content": "h"}), None),
            chunk(json!({"reasoning_content": "m"}), None),
            chunk(json!({"content": "Hel"}), None),
            chunk(json!({"role": "assistant", "content": "lo"}), None),
            chunk(json!({}), Some("stop")),
            json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        ]);
        assert_eq!(
            whole,
            json!({"id": "c1", "object": "chat.completion", "created": 7, "model": "m",
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello",
                    "reasoning_content": "hm"}, "finish_reason": "stop"}]})
        );
    }

    #[test]
    fn tool_calls_come_together_by_their_index() {
        let call = |value: Value| chunk(json!({"tool_calls": [value]}), None);
        let whole = of(&[
            call(
                json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}),
            ),
            call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
            call(
                json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
            ),
            call(json!({"index": 0, "id": "a", "function": {"name": "", "arguments": ":1}"}})),
        ]);
        assert_eq!(
            whole["choices"][0]["message"]["tool_calls"],
            json!([
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ])
        );
    }

    #[test]
    fn several_choices_and_completions_come_together() {
        let whole = of(&[
            json!({"object": "text_completion", "choices": [{"index": 1, "text": "b"}]}),
            json!({"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "c", "finish_reason": "stop"}]}),
        ]);
        assert_eq!(whole["object"], "text_completion");
        assert_eq!(
            whole["choices"],
            json!([{"index": 1, "text": "bc", "finish_reason": "stop"}, {"index": 0, "text": "a"}])
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let events = "data: {broken\n\ndata: 7\n\ndata: {\"choices\":[7,{\"index\":0,\"text\":\"x\"}]}\n\ndata: {\"choices\":[{\"index\":0,\"text\"";
        assert_eq!(assembled(Bytes::from(events)), json!({"choices": [7, {"index": 0, "text": "x"}]}));
    }
}
