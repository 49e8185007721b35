//! What the fake models say: they name themselves and repeat the question. Pure and deterministic: the same request
//! gives the same words, tokens and tool call. Knows what a request asks, not how any provider shapes its answer.

use serde_json::{Map, Value, json};

/// Longest part of a question that is repeated.
const MAX_ECHO: usize = 2000;

/// What is asked, in any of the request shapes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Question {
    /// `model`, as written.
    pub model: String,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The limit of output tokens, under the names that the provider knows.
    pub max_tokens: Option<usize>,
    /// The text of the last message, or the prompt.
    pub text: String,
    /// The `suffix` of a completion, if there is one.
    pub suffix: Option<String>,
    /// The last message is the result of a tool.
    pub tool_result: bool,
    /// The tool to call, with its arguments as JSON text.
    pub call: Option<(String, String)>,
    /// What the input costs.
    pub input_tokens: usize,
}

impl Question {
    /// Reads a request body; `max_tokens_keys` are the names under which the provider takes the output limit.
    pub fn read(body: &Value, max_tokens_keys: &[&str]) -> Question {
        let messages = body.get("messages").and_then(Value::as_array);
        let last = messages.and_then(|messages| messages.last());
        let text = match last {
            Some(message) => text_of(message.get("content")),
            None => text_of(body.get("prompt")),
        };
        let role = last.and_then(|message| message.get("role")).and_then(Value::as_str);
        let call = if role == Some("tool") { None } else { tool_to_call(body, &text) };
        let suffix = body.get("suffix").and_then(Value::as_str).filter(|suffix| !suffix.is_empty());
        Question {
            model: body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned(),
            stream: body.get("stream").and_then(Value::as_bool).unwrap_or_default(),
            include_usage: body
                .pointer("/stream_options/include_usage")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            max_tokens: max_tokens_keys
                .iter()
                .find_map(|key| body.get(key))
                .and_then(Value::as_u64)
                .map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX)),
            input_tokens: input_tokens(messages, body),
            suffix: suffix.map(str::to_owned),
            tool_result: role == Some("tool"),
            text,
            call,
        }
    }
}

/// What the model says, cut into tokens. Its numbers are what the provider reports as usage.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Reply {
    /// Reasoning before the answer.
    pub thoughts: Vec<String>,
    /// The answer.
    pub words: Vec<String>,
    /// A tool call instead of an answer: its name and its arguments as JSON text.
    pub call: Option<(String, String)>,
    /// `stop`, `length` or `tool_calls`.
    pub finish: &'static str,
    /// Tokens of the input.
    pub input: usize,
    /// Tokens of the output.
    pub output: usize,
}

impl Reply {
    /// The whole answer.
    pub fn text(&self) -> String {
        self.words.concat()
    }

    /// The whole reasoning.
    pub fn thinking(&self) -> String {
        self.thoughts.concat()
    }

    /// `prompt_tokens`, `completion_tokens`, `total_tokens`, in that order.
    pub fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
        })
    }
}

/// Whether a model reasons aloud before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mind {
    /// Answers at once.
    Quick,
    /// Reasons first.
    Thinking,
}

/// Answers a chat request as the upstream called `who`.
pub(super) fn chat(who: &str, question: &Question, mind: Mind) -> Reply {
    let quoted: String = question.text.chars().take(MAX_ECHO).collect();
    let mut thoughts = match mind {
        Mind::Quick => Vec::new(),
        Mind::Thinking => pieces("Someone speaks to me; a parrot repeats."),
    };
    if let Some((name, arguments)) = &question.call {
        let output = thoughts.len() + tokens(name) + tokens(arguments);
        return Reply {
            thoughts,
            call: Some((name.clone(), arguments.clone())),
            finish: "tool_calls",
            input: question.input_tokens,
            output,
            ..Reply::default()
        };
    }
    let model = &question.model;
    let mut words = pieces(&if question.tool_result {
        format!("This is the fake {who}, playing {model}. The tool said: “{quoted}”")
    } else {
        format!(
            "This is the fake {who}, playing {model}. You said: “{quoted}” Nothing of it left your machine."
        )
    });
    let finish = shorten(&mut thoughts, &mut words, question.max_tokens);
    let output = thoughts.len() + words.len();
    Reply { thoughts, words, call: None, finish, input: question.input_tokens, output }
}

/// Continues a prompt, or fills the middle when there is a suffix.
pub(super) fn complete(who: &str, question: &Question) -> Reply {
    let before = question.text.chars().count();
    let mut words = pieces(&match &question.suffix {
        Some(suffix) => {
            let after = suffix.chars().count();
            format!("42  # the fake {who} filled the gap after {before} and before {after} characters")
        }
        None => format!(" … and so on, says the fake {who} after {before} characters."),
    });
    let finish = shorten(&mut Vec::new(), &mut words, question.max_tokens);
    let output = words.len();
    Reply { words, finish, input: question.input_tokens, output, ..Reply::default() }
}

/// Cuts both to so many tokens in all; says why the answer ends.
fn shorten(thoughts: &mut Vec<String>, words: &mut Vec<String>, max: Option<usize>) -> &'static str {
    let max = max.unwrap_or(usize::MAX);
    if thoughts.len() + words.len() <= max {
        return "stop";
    }
    thoughts.truncate(max);
    words.truncate(max - thoughts.len());
    "length"
}

/// A text cut before its spaces, so that the pieces joined are the text.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for (position, word) in text.split(' ').enumerate() {
        let piece = if position == 0 { word.to_owned() } else { format!(" {word}") };
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    pieces
}

/// Tokens by the rule of thumb of four characters each.
pub(super) fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}

/// A number that stands for a text: FNV-1a. Ids are made of it, so that the same request has the same id.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// So many letters and digits that stand for a text.
pub(super) fn token_id(bytes: &[u8], length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut state = fingerprint(bytes);
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let position = usize::try_from(state >> 33).unwrap_or_default() % ALPHABET.len();
            ALPHABET.get(position).copied().map_or('a', char::from)
        })
        .collect()
}

/// 32 hexadecimal digits that stand for a text.
pub(super) fn hex_id(bytes: &[u8]) -> String {
    let high = fingerprint(bytes);
    format!("{high:016x}{:016x}", fingerprint(&high.to_be_bytes()))
}

/// The text of a `content` or `prompt`: a string, or the text parts of a list.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part.as_str().or_else(|| part.get("text").and_then(Value::as_str)))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

fn input_tokens(messages: Option<&Vec<Value>>, body: &Value) -> usize {
    let tools = body.get("tools").map_or(0, |tools| tokens(&tools.to_string()));
    let text = match messages {
        Some(messages) => messages.iter().map(|message| tokens(&text_of(message.get("content"))) + 4).sum(),
        None => tokens(&text_of(body.get("prompt"))) + tokens(&text_of(body.get("suffix"))),
    };
    text + tools
}

/// The tool that `tool_choice` names, else the first one; none when the choice is `none` or there are no tools.
fn tool_to_call(body: &Value, text: &str) -> Option<(String, String)> {
    let choice = body.get("tool_choice");
    if choice.and_then(Value::as_str) == Some("none") {
        return None;
    }
    let wanted = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
    let functions = body.get("tools")?.as_array()?.iter().filter_map(|tool| tool.get("function"));
    let name_of = |function: &Value| function.get("name").and_then(Value::as_str).map(str::to_owned);
    let (name, function) = functions
        .filter_map(|function| name_of(function).map(|name| (name, function)))
        .find(|(name, _)| wanted.is_none_or(|wanted| wanted == name))?;
    let arguments = match function.get("parameters") {
        Some(schema) => example(schema, text, 0),
        None => json!({}),
    };
    Some((name, arguments.to_string()))
}

/// A value that fits a JSON schema, as far as fakes go.
fn example(schema: &Value, text: &str, depth: usize) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    let kind = schema.get("type").and_then(|kind| match kind {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    });
    match kind {
        Some("string") => Value::String(text.chars().take(80).collect()),
        Some("integer") => json!(1),
        Some("number") => json!(1.5),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("null") => Value::Null,
        _ if depth > 8 => json!({}),
        _ => {
            let required = schema.get("required").and_then(Value::as_array);
            let properties = schema.get("properties").and_then(Value::as_object);
            let mut object = Map::new();
            for (key, property) in properties.into_iter().flatten() {
                if required.is_some_and(|required| required.iter().any(|name| name == key.as_str())) {
                    object.insert(key.clone(), example(property, text, depth + 1));
                }
            }
            Value::Object(object)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value) -> Question {
        Question::read(&body, &["max_tokens"])
    }

    #[test]
    fn it_names_itself_and_repeats_the_last_message() {
        let question = ask(json!({"model": "m", "stream": true, "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "Say"}, {"type": "text", "text": "hi"}]},
        ]}));
        let reply = chat("mistral", &question, Mind::Quick);
        let text = "This is the fake mistral, playing m. You said: “Say hi” Nothing of it left your machine.";
        assert_eq!((reply.text().as_str(), reply.finish), (text, "stop"));
        assert_eq!(reply.output, text.split(' ').count());
        assert_eq!(reply.input, 2 + 2 + 8);
        assert!(question.stream && reply.thoughts.is_empty());
    }

    #[test]
    fn the_output_limit_cuts_reasoning_and_words_alike() {
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        let reply = chat("m", &ask(body), Mind::Thinking);
        assert_eq!(
            (reply.thoughts.len(), reply.words.len(), reply.finish, reply.output),
            (7, 2, "length", 9)
        );
    }

    #[test]
    fn an_offered_tool_is_called_with_arguments_that_fit_its_schema() {
        let tool = |name: &str| {
            json!({"type": "function", "function": {"name": name, "parameters": {"type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C"]},
                    "note": {"type": "string"}},
                "required": ["city", "days", "unit"]}}})
        };
        let body = |choice: Value| {
            json!({"messages": [{"role": "user", "content": "Rome"}], "tools": [tool("a"), tool("b")],
                "tool_choice": choice})
        };
        let arguments = r#"{"city":"Rome","days":1,"unit":"C"}"#;
        assert_eq!(ask(body(json!("auto"))).call, Some(("a".to_owned(), arguments.to_owned())));
        let named = body(json!({"type": "function", "function": {"name": "b"}}));
        assert_eq!(ask(named).call.unwrap().0, "b");
        assert_eq!(ask(body(json!("none"))).call, None);
        let reply = chat("x", &ask(body(json!("auto"))), Mind::Quick);
        assert_eq!((reply.finish, reply.words.len()), ("tool_calls", 0));
    }

    #[test]
    fn a_tool_result_gets_words_not_another_call() {
        let body = json!({"tools": [{"type": "function", "function": {"name": "a"}}],
            "messages": [{"role": "tool", "content": "sunny"}]});
        let reply = chat("x", &ask(body), Mind::Quick);
        assert!(reply.text().ends_with("The tool said: “sunny”"));
    }

    #[test]
    fn a_suffix_is_filled_and_a_prompt_continued() {
        let question = ask(json!({"prompt": "x = ", "suffix": "\nprint(x)"}));
        assert_eq!(
            complete("codestral", &question).text(),
            "42  # the fake codestral filled the gap after 4 and before 9 characters"
        );
        assert!(complete("x", &ask(json!({"prompt": ["a"]}))).text().starts_with(" … and so on"));
    }

    #[test]
    fn ids_are_made_of_the_request() {
        assert_eq!(token_id(b"x", 9), token_id(b"x", 9));
        assert_ne!(token_id(b"x", 9), token_id(b"y", 9));
        assert!(token_id(b"x", 40).bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
