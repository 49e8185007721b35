//! Whether a listed model can serve a request at all, for those who have others to choose from. What is not known is
//! no reason. Pure.

use super::Model;
use super::prepare::shortcoming;
use crate::dialect::{Request, Task};

/// Bytes of text to a token at the most that real text has: English prose is near 4.5, code below 4, other languages
/// far below. So an estimate by it is at the low end, and what it says is too much clearly is.
const MOST_BYTES_PER_TOKEN: u64 = 6;

/// Why the model cannot serve the request: the task, tools, images, or a context window that is clearly too small.
/// In words that follow the model's name.
pub fn misfit(request: &Request, model: &Model) -> Option<String> {
    if let Some(what) = shortcoming(request, model) {
        return Some(what.to_owned());
    }
    let known = &model.capabilities;
    let needs = request.needs();
    if needs.tools && known.tools == Some(false) {
        return Some("has no tools".to_owned());
    }
    if needs.vision && known.vision == Some(false) {
        return Some("takes no images".to_owned());
    }
    if request.task == Task::Embedding {
        return None;
    }
    let window = model.context_length.filter(|window| *window > 0)?;
    let prompt = u64::try_from(needs.text_bytes).unwrap_or(u64::MAX) / MOST_BYTES_PER_TOKEN;
    let answer = request.max_tokens().unwrap_or(0);
    if prompt.saturating_add(answer) <= window {
        return None;
    }
    let wanted = match answer {
        0 => String::new(),
        most => format!(" and {most} for the answer"),
    };
    Some(format!(
        "has a context window of {window} tokens, too small for a prompt of at least {prompt}{wanted}"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Capabilities;
    use super::*;
    use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, read};

    fn request(endpoint: &Endpoint, body: &str) -> Request {
        read(endpoint, Bytes::from(body.to_owned())).unwrap()
    }

    fn chat(more: &str) -> Request {
        request(&CHAT_COMPLETIONS, &format!(r#"{{"model":"m","messages":[]{more}}}"#))
    }

    fn able(capabilities: Capabilities) -> Model {
        Model { capabilities, ..Model::default() }
    }

    const IMAGE: &str = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#;

    #[test]
    fn what_is_not_known_is_never_refused() {
        let nothing = Model::default();
        let fim = request(&COMPLETIONS, r#"{"model":"m","prompt":"a","suffix":"b"}"#);
        let tools = chat(r#","tools":[{}],"max_tokens":1000000"#);
        for request in [&tools, &fim, &request(&CHAT_COMPLETIONS, IMAGE)] {
            assert_eq!(misfit(request, &nothing), None);
        }
    }

    #[test]
    fn what_a_model_cannot_do_is_not_asked_of_it() {
        let no_tools = able(Capabilities { tools: Some(false), ..Capabilities::default() });
        assert_eq!(misfit(&chat(r#","tools":[{}]"#), &no_tools).as_deref(), Some("has no tools"));
        assert_eq!(misfit(&chat(""), &no_tools), None);
        let blind = able(Capabilities { vision: Some(false), ..Capabilities::default() });
        assert_eq!(misfit(&request(&CHAT_COMPLETIONS, IMAGE), &blind).as_deref(), Some("takes no images"));
        let no_fim = able(Capabilities { fim: Some(false), ..Capabilities::default() });
        let fim = request(&COMPLETIONS, r#"{"model":"m","prompt":"a","suffix":"b"}"#);
        assert_eq!(misfit(&fim, &no_fim).as_deref(), Some("cannot fill in the middle"));
        let no_embedding = able(Capabilities { embedding: Some(false), ..Capabilities::default() });
        let embed = request(&EMBEDDINGS, r#"{"model":"m","input":"a"}"#);
        assert_eq!(misfit(&embed, &no_embedding).as_deref(), Some("cannot make embeddings"));
    }

    #[test]
    fn a_window_that_may_be_large_enough_is_no_reason() {
        let model = Model { context_length: Some(1000), ..Model::default() };
        let prompt = |bytes: usize, more: &str| {
            let text = "x".repeat(bytes);
            request(
                &CHAT_COMPLETIONS,
                &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]{more}}}"#),
            )
        };
        assert_eq!(misfit(&prompt(5_900, ""), &model), None, "4 bytes to a token would be too much");
        assert_eq!(
            misfit(&prompt(6_100, ""), &model).as_deref(),
            Some("has a context window of 1000 tokens, too small for a prompt of at least 1017")
        );
        assert_eq!(misfit(&prompt(3_000, r#","max_tokens":400"#), &model), None);
        assert_eq!(
            misfit(&prompt(3_000, r#","max_tokens":600"#), &model).as_deref(),
            Some(
                "has a context window of 1000 tokens, too small for a prompt of at least 500 and 600 for the answer"
            )
        );
    }
}
