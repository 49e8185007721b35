//! From a client's request to what is sent upstream: the path, and the body with the upstream's model id and without
//! what that upstream is known to reject. Pure: bytes in, bytes out. Answers are not translated here; it only says
//! in which shape the upstream will answer.

use crate::wire::rope::Rope;

use super::catalogue::{KindFacts, UpstreamRoute, UsageInStream};
use super::params::{Changes, Rules};
use super::{Adapter, Model};
use crate::dialect::{Request, Shape, Task};
use crate::error::{ErrorKind, ProxyError};
use crate::wire::json;

/// A request as it goes upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Path below the provider's base URL.
    pub path: String,
    /// The body.
    pub body: Rope,
    /// What was changed besides the model id, for `x-demuxai-edits`: a verb and a field's name, never a value.
    /// `drop:seed`, `rename:max_completion_tokens`, `add:stream_options.include_usage` …
    pub edits: Vec<String>,
    /// The shape in which the upstream answers, which may not be the client's.
    pub upstream_shape: Shape,
    /// The client did not ask for token counts and we did: a chunk with empty `choices` and a `usage` is taken out.
    pub strip_usage: bool,
}

impl Prepared {
    /// The top-level fields as they were sent, in the upstream's words and with what was added, so that a refusal that
    /// names one of them can be understood. Scans the body anew: refusals are rare.
    pub fn fields(&self) -> Vec<String> {
        let members = json::scan_object(&self.body.to_bytes()).unwrap_or_default();
        members.into_iter().map(|member| member.key).collect()
    }
}

/// Prepares a request for one upstream. `remembered` are the fields this upstream rejected for this model before.
///
/// # Errors
/// [`ErrorKind::Unsupported`], and elsewhere it may work, when the upstream has no route for the task, or takes one
/// text as `prompt` and got something else.
pub fn prepare(
    request: &Request,
    upstream_model: &str,
    adapter: &dyn Adapter,
    facts: &KindFacts,
    remembered: &[String],
) -> Result<Prepared, ProxyError> {
    let Some(route) = route(request, adapter, facts) else {
        return Err(unsupported(&request.model, request.task, no_route(request.task)));
    };
    let rules = Rules::new(request, upstream_model, route.shape, &facts.params, remembered);
    let mut changes = Changes::new(request);
    rules.apply(&mut changes)?;
    let asks = request.stream
        && !request.include_usage
        && facts.usage_in_stream == UsageInStream::Ask
        && rules.accepts("stream_options");
    let strip_usage = asks && changes.ask_for_usage();
    changes.set_model(upstream_model);
    let (body, edits) = changes.finish();
    Ok(Prepared { path: route.path.to_owned(), body, edits, upstream_shape: route.shape, strip_usage })
}

/// Refuses what the upstream says the model cannot do, before it is sent; unknown is never refused.
///
/// # Errors
/// [`ErrorKind::Unsupported`], and elsewhere it may work. It names the model as it was asked for, or the target's where a
/// group or router chose it.
pub fn check_capability(request: &Request, model: &Model, target: Target<'_>) -> Result<(), ProxyError> {
    let refused = |what| Err(unsupported(&target.named(request), request.task, what));
    shortcoming(request, model).map_or(Ok(()), refused)
}

/// Where a request is to go.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The provider's id.
    pub provider: &'a str,
    /// The model there.
    pub model: &'a str,
}

/// Why the model cannot do what the request wants done, as far as the upstream says, in words that follow its name.
pub fn shortcoming(request: &Request, model: &Model) -> Option<&'static str> {
    let able = |task| model.capabilities.task(task) != Some(false);
    if able(request.task) || (is_plain_in_truth(request) && able(Task::Completion)) {
        return None;
    }
    Some(match request.task {
        Task::Chat => "cannot chat",
        Task::Completion => "cannot complete text",
        Task::Fim => "cannot fill in the middle",
        Task::Embedding => "cannot make embeddings",
    })
}

/// Refuses a task for which the upstream has no route, as [`prepare`] does, before anything is spent on the request.
///
/// # Errors
/// [`ErrorKind::Unsupported`], and elsewhere it may work.
pub fn check_route(
    request: &Request,
    adapter: &dyn Adapter,
    facts: &KindFacts,
    target: Target<'_>,
) -> Result<(), ProxyError> {
    let refused = |what| Err(unsupported(&target.named(request), request.task, what));
    missing_route(request, adapter, facts).map_or(Ok(()), refused)
}

/// That the upstream has no route for the request, in words that follow its name.
pub fn missing_route(request: &Request, adapter: &dyn Adapter, facts: &KindFacts) -> Option<&'static str> {
    route(request, adapter, facts).is_none().then(|| no_route(request.task))
}

/// Fill in the middle without a suffix is a plain completion, for an upstream that has only those.
fn route<'a>(request: &Request, adapter: &dyn Adapter, facts: &'a KindFacts) -> Option<UpstreamRoute<'a>> {
    let fallback = || {
        if is_plain_in_truth(request) { facts.route(adapter, Task::Completion) } else { None }
    };
    facts.route(adapter, request.task).or_else(fallback)
}

fn is_plain_in_truth(request: &Request) -> bool {
    request.task == Task::Fim && request.value("suffix").is_none_or(json::is_empty)
}

fn no_route(task: Task) -> &'static str {
    match task {
        Task::Chat => "has no chat endpoint",
        Task::Completion => "has no text completion endpoint",
        Task::Fim => "has no fill-in-the-middle endpoint",
        Task::Embedding => "has no embeddings endpoint",
    }
}

impl Target<'_> {
    fn named(self, request: &Request) -> String {
        if request.model.ends_with(self.model) {
            return request.model.to_string();
        }
        format!("{}/{}", self.provider, self.model)
    }
}

fn unsupported(model: &str, task: Task, what: &str) -> ProxyError {
    let remedy = match task {
        Task::Chat => "use a model with the chat capability",
        Task::Completion => "use /v1/chat/completions, or a model with the completion capability",
        Task::Fim => "use a model with the fim capability, such as codestral",
        Task::Embedding => "use a model with the embedding capability",
    };
    // The id is the client's and may be anything; the message is for people.
    let model: String = model.chars().filter(|character| !character.is_control()).take(128).collect();
    ProxyError::new(ErrorKind::Unsupported, format!("`{model}` {what}; {remedy}")).with_param("model")
}

#[cfg(test)]
mod tests;
