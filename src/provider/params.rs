//! Applies a provider's parameter policy to a request, by byte splices, and notes the name of everything it changed.
//! The policy is data (`catalogue/policy.rs`); what the messages and tools need is `params/messages.rs`.

mod messages;

use std::borrow::Cow;

use crate::wire::rope::Rope;
use serde_json::Value;

use super::catalogue::{ModelParams, ParamPolicy, PromptForm};
use crate::dialect::{Request, Shape, Task};
use crate::error::{ErrorKind, ProxyError};
use crate::wire::json::{elements_of, is_null, members_of, quoted, string_is};
use crate::wire::splice::{Edits, ObjectEdit};

/// Without these a request is another one, so no policy and no memory takes them out.
const ESSENTIAL: [&str; 5] = ["model", "messages", "prompt", "input", "stream"];
/// More edits than this are not named one by one; the header has a limit too.
const MAX_NAMED: usize = 32;
const MAX_NAME_BYTES: usize = 64;
/// More changes than this inside messages and tools are not made: no conversation needs them, and each costs memory.
const MAX_NESTED: usize = 65_536;

/// What changes in one request's body.
pub struct Changes<'a> {
    request: &'a Request,
    top: ObjectEdit<'a>,
    nested: Edits<'a>,
    nested_left: usize,
    names: Vec<String>,
}

impl<'a> Changes<'a> {
    /// None yet.
    pub fn new(request: &'a Request) -> Self {
        Changes {
            request,
            top: ObjectEdit::top(&request.body, &request.members),
            nested: Edits::new(),
            nested_left: MAX_NESTED,
            names: Vec::new(),
        }
    }

    /// Gives the request the upstream's model id.
    pub fn set_model(&mut self, upstream_model: &str) {
        self.top.set("model", quoted(upstream_model));
    }

    /// Adds `stream_options.include_usage` and keeps the client's other options. False when that cannot be, because
    /// the client's `stream_options` are no object: its mistake is the upstream's to name.
    pub fn ask_for_usage(&mut self) -> bool {
        let options = self.request.member("stream_options").filter(|_| self.top.has("stream_options"));
        let body: &'a [u8] = &self.request.body;
        match options.map(|member| (member, body.get(member.value.clone()).unwrap_or_default())) {
            Some((member, raw)) if !is_null(raw) => {
                let Some(mut object) = ObjectEdit::nested(body, member.value.clone()) else { return false };
                object.set("include_usage", &b"true"[..]);
                self.nested.object(object);
            }
            _ => self.top.set("stream_options", &br#"{"include_usage":true}"#[..]),
        }
        self.name("add", "stream_options.include_usage");
        true
    }

    /// The body with everything changed, and the names of the changes.
    pub fn finish(mut self) -> (Rope, Vec<String>) {
        self.nested.object(self.top);
        (self.nested.apply_shared(&self.request.body), self.names)
    }

    fn drop(&mut self, key: &str) {
        if self.top.remove(key) {
            self.name("drop", key);
        }
    }

    fn rename(&mut self, key: &str, new: Cow<'a, str>) {
        // Where the client sent both, its own word for the upstream's field counts.
        let verb = if self.top.has(&new) { "drop" } else { "rename" };
        if self.top.rename(key, new) {
            self.name(verb, key);
        }
    }

    fn set(&mut self, verb: &str, key: &'a str, value: &Value) {
        self.top.set(key, value.to_string().into_bytes());
        self.name(verb, key);
    }

    /// Whether one more change inside messages and tools is to be made.
    fn take_nested(&mut self) -> bool {
        let left = self.nested_left;
        self.nested_left = left.saturating_sub(1);
        left > 0
    }

    /// Notes a change, once. A key is the client's text, so it is cut down to what may stand in a header.
    fn name(&mut self, verb: &str, key: &str) {
        if self.names.len() > MAX_NAMED {
            return;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.[]$".contains(c);
        let safe: String = key.chars().take(MAX_NAME_BYTES).map(|c| if plain(c) { c } else { '?' }).collect();
        let name = if self.names.len() == MAX_NAMED { "more".to_owned() } else { format!("{verb}:{safe}") };
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

/// What one request's policy comes to: the kind's, the model's, and what was learned.
pub struct Rules<'a> {
    policy: &'a ParamPolicy,
    of_model: Vec<&'a ModelParams>,
    allow: Option<&'a [String]>,
    remembered: &'a [String],
    /// A request to `/fim/completions` that goes to an OpenAI-style route.
    from_fim: bool,
}

impl<'a> Rules<'a> {
    /// The rules for this request at this model.
    pub fn new(
        request: &Request,
        upstream_model: &str,
        upstream_shape: Shape,
        policy: &'a ParamPolicy,
        remembered: &'a [String],
    ) -> Self {
        Rules {
            policy,
            of_model: policy.models.iter().filter(|rule| rule.applies_to(upstream_model)).collect(),
            allow: policy.allow.of(request.task),
            remembered,
            from_fim: request.task == Task::Fim
                && request.shape == Shape::Chat
                && upstream_shape == Shape::Text,
        }
    }

    /// Applies them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the upstream takes one text as `prompt` and got something else.
    pub fn apply(&self, changes: &mut Changes<'a>) -> Result<(), ProxyError> {
        let request = changes.request;
        for member in &request.members {
            let raw = request.body.get(member.value.clone()).unwrap_or_default();
            self.apply_to(changes, &member.key, raw);
        }
        match request.task {
            Task::Chat => {
                messages::apply(changes, self.policy);
                self.add_chat_fields(changes);
            }
            Task::Completion | Task::Fim => check_prompt(changes, self.policy)?,
            Task::Embedding => {}
        }
        Ok(())
    }

    /// Whether the upstream takes this field at all.
    pub fn accepts(&self, key: &str) -> bool {
        !self.is_dropped(key, key, b"{}")
    }

    /// Fields that this upstream needs and the client need not know about.
    fn add_chat_fields(&self, changes: &mut Changes<'a>) {
        for (key, value) in self.policy.default.iter().filter(|(key, _)| self.accepts(key)) {
            // Both words for the same bound are in use; one of them is enough.
            let said =
                changes.top.has(key) || (key == "max_tokens" && changes.top.has("max_completion_tokens"));
            if !said {
                changes.set("add", key, value);
            }
        }
        let request = changes.request;
        let tools = request.member("tools").filter(|_| changes.top.has("tools"));
        if tools.is_none_or(|tools| elements_of(&request.body, tools.value.clone()).next().is_none()) {
            return;
        }
        for (key, value) in self.policy.with_tools.iter().filter(|(key, _)| self.accepts(key)) {
            if request.value(key) != Some(value.to_string().as_bytes()) {
                changes.set("set", key, value);
            }
        }
    }

    fn apply_to(&self, changes: &mut Changes<'a>, key: &'a str, raw: &[u8]) {
        if ESSENTIAL.contains(&key) {
            return;
        }
        let new = self.renamed(key);
        if self.is_dropped(key, new, raw) {
            changes.drop(key);
        } else if new != key {
            changes.rename(key, Cow::Borrowed(new));
        }
    }

    /// The field's name upstream. A field of FIM is translated to OpenAI's first, which may have another name again.
    fn renamed(&self, key: &'a str) -> &'a str {
        let openai = if self.from_fim && key == "random_seed" { "seed" } else { key };
        let of_kind = self.policy.rename.get(openai).map_or(openai, String::as_str);
        self.of_model.iter().find_map(|rule| rule.rename.get(of_kind)).map_or(of_kind, String::as_str)
    }

    fn is_dropped(&self, key: &str, new: &str, raw: &[u8]) -> bool {
        let listed = |list: &[String]| list.iter().any(|field| field == key || field == new);
        (self.policy.drop_null && is_null(raw))
            || (self.policy.drop_text_format && key == "response_format" && is_text_format(raw))
            || (self.from_fim && key == "min_tokens")
            || listed(&self.policy.drop)
            || listed(self.remembered)
            || self.of_model.iter().any(|rule| listed(&rule.drop))
            || self.allow.is_some_and(|allowed| !allowed.iter().any(|field| field == new))
    }
}

/// `{"type":"text"}`, which is what every upstream does unasked.
fn is_text_format(raw: &[u8]) -> bool {
    members_of(raw, 0..raw.len()).any(|field| field.is("type") && string_is(field.raw, "text"))
}

/// One text, or a list of one text, which is taken out of its list.
fn check_prompt<'a>(changes: &mut Changes<'a>, policy: &ParamPolicy) -> Result<(), ProxyError> {
    let request: &'a Request = changes.request;
    let Some(prompt) = request.member("prompt").filter(|_| policy.prompt == PromptForm::Text) else {
        return Ok(());
    };
    if request.value("prompt").is_some_and(|raw| raw.starts_with(b"\"")) {
        return Ok(());
    }
    let mut texts = elements_of(&request.body, prompt.value.clone());
    match (texts.next(), texts.next()) {
        (Some(only), None) if only.raw.starts_with(b"\"") => {
            changes.top.set("prompt", only.raw);
            changes.name("unwrap", "prompt");
            Ok(())
        }
        _ => {
            let message = "`prompt` must be one string for this model; send one request per prompt, as text";
            Err(ProxyError::new(ErrorKind::Unsupported, message).with_param("prompt"))
        }
    }
}

#[cfg(test)]
mod tests;
