//! What is changed in every answer of a provider, chunk or whole: the model's prefix, the origin behind the
//! completion id, and the shape where client and upstream speak different ones. All else keeps its bytes.

use std::ops::Range;

use bytes::Bytes;

use super::choices::{Form, chat_to_text, text_to_chat};
use super::error_body::{error_word, upstream_message};
use super::{Shape, Usage};
use crate::error::{ErrorKind, ProxyError, UpstreamAnswer};
use crate::wire::json::{self, Span, elements_of, is_empty, members_of, string_is, string_value};
use crate::wire::splice::Edits;

/// An upstream's JSON is kept with an error up to this size.
const MAX_KEPT: usize = 64 * 1024;

/// How one provider's answer is to reach one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The provider's id, put before the model's name and behind the completion's id.
    pub provider: String,
    /// The shape the upstream answers in.
    pub upstream: Shape,
    /// The shape the client expects.
    pub client: Shape,
    /// We asked for the usage chunk, the client did not: take it out again.
    pub strip_usage: bool,
    /// The client asked for embeddings in base64.
    pub base64: bool,
}

impl Rewrite {
    /// A plan that changes names only: client and upstream speak the same shape.
    pub fn new(provider: impl Into<String>, shape: Shape) -> Self {
        Rewrite {
            provider: provider.into(),
            upstream: shape,
            client: shape,
            strip_usage: false,
            base64: false,
        }
    }
}

/// The members of an answer that mean something here, by range; the last one where a key is written twice.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) choices: Option<Range<usize>>,
    pub(super) data: Option<Range<usize>>,
    pub(super) usage: Option<Range<usize>>,
    x_groq: Option<Range<usize>>,
    error: Option<Range<usize>>,
    object: Option<Range<usize>>,
}

impl Parts {
    /// Finds them, and adds the edits of the model and the id to `edits`.
    pub(super) fn read<'a>(payload: &[u8], spans: &[Span], marks: &'a Marks, edits: &mut Edits<'a>) -> Parts {
        let mut parts = Parts::default();
        for span in spans {
            let raw_key = payload.get(span.key.clone()).unwrap_or_default();
            let raw = payload.get(span.value.clone()).unwrap_or_default();
            let place = match json::key_bytes(raw_key).as_ref() {
                b"id" => {
                    if is_filled_string(raw) {
                        edits.insert(span.value.end - 1, marks.suffix.as_slice());
                    }
                    continue;
                }
                b"model" => {
                    if is_filled_string(raw) {
                        edits.insert(span.value.start + 1, marks.prefix.as_slice());
                    }
                    continue;
                }
                b"choices" => &mut parts.choices,
                b"data" => &mut parts.data,
                b"usage" => &mut parts.usage,
                b"x_groq" => &mut parts.x_groq,
                b"error" => &mut parts.error,
                b"object" => &mut parts.object,
                _ => continue,
            };
            *place = Some(span.value.clone());
        }
        parts
    }

    /// The token counts in it.
    pub(super) fn usage(&self, payload: &[u8]) -> Usage {
        let mut usage = self.usage.clone().map_or_else(Usage::default, |range| Usage::read(payload, range));
        if let Some(x_groq) = &self.x_groq {
            usage.merge(Usage::read_groq(payload, x_groq.clone()));
        }
        usage
    }

    /// Whether it says that something went wrong: a non-empty `error` (an object or, as Ollama writes it, a string),
    /// or `"object":"error"` (Mistral).
    pub(super) fn says_error(&self, payload: &[u8]) -> bool {
        let raw = |range: &Option<Range<usize>>| {
            range.clone().and_then(|range| payload.get(range)).unwrap_or_default()
        };
        let error = raw(&self.error);
        (matches!(error.first(), Some(b'{' | b'"')) && !is_empty(error))
            || (self.choices.is_none() && string_is(raw(&self.object), "error"))
    }

    /// Adds the edits that translate choices and the object's name, where the shapes differ.
    pub(super) fn translate<'a>(
        &self,
        payload: &'a [u8],
        plan: &Rewrite,
        form: Form,
        needs_role: impl FnMut(u64) -> bool,
        edits: &mut Edits<'a>,
    ) {
        let Some(choices) = self.choices.clone() else {
            return;
        };
        match (plan.upstream, plan.client) {
            (Shape::Chat, Shape::Text) => chat_to_text(payload, choices, edits),
            (Shape::Text, Shape::Chat) => text_to_chat(payload, choices, form, needs_role, edits),
            _ => return,
        }
        if let (Some(object), Some(name)) = (self.object.clone(), form.object_name(plan.client)) {
            edits.replace(object, name);
        }
    }
}

/// What is inserted, made once for all chunks of a stream.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
}

impl Marks {
    pub(super) fn new(provider: &str) -> Self {
        Marks { prefix: format!("{provider}/").into_bytes(), suffix: format!("@{provider}").into_bytes() }
    }
}

fn is_filled_string(raw: &[u8]) -> bool {
    raw.starts_with(b"\"") && raw.len() > 2
}

/// The error for an error that came inside a successful answer. `payload` is kept with it for the client, of a huge one
/// the message. What the upstream says may repeat the prompt: it is not in the error's own message, which is logged.
pub(super) fn in_band_error(plan: &Rewrite, payload: &Bytes) -> ProxyError {
    let reported = format!("`{}` reported an error inside its answer", plan.provider);
    let message = match error_word(payload) {
        Some(word) => format!("{reported} ({word})"),
        None => reported,
    };
    let body = match upstream_message(payload) {
        Some(said) if payload.len() > MAX_KEPT => {
            Bytes::from([b"{\"error\":{\"message\":", json::quoted(&said).as_slice(), b"}}"].concat())
        }
        None if payload.len() > MAX_KEPT => Bytes::new(),
        _ => payload.clone(),
    };
    let status = stated_status(payload).unwrap_or(502);
    let mut error = ProxyError::new(ErrorKind::UpstreamInBand, message).at(&plan.provider);
    error.upstream = Some(Box::new(UpstreamAnswer { status, body, headers: Vec::new(), retry_after: None }));
    error
}

/// The HTTP status that an error object names for itself: OpenRouter's `error.code` is one
/// (openrouter.ai/docs/api_reference/errors-and-debugging, 2026-10), others write `status` or `status_code`, Mistral
/// `raw_status_code` beside a `code` of its own.
fn stated_status(payload: &[u8]) -> Option<u16> {
    const KEYS: [&str; 4] = ["code", "status", "status_code", "raw_status_code"];
    json::check(payload).ok()?;
    let whole = 0..payload.len();
    let inner = members_of(payload, whole.clone()).find(|field| field.is("error")).map(|field| field.range);
    let first = elements_of(payload, whole.clone()).next().map(|element| element.range);
    [inner, first, Some(whole)].into_iter().flatten().find_map(|object| {
        members_of(payload, object)
            .filter(|field| KEYS.iter().any(|key| field.is(key)))
            .find_map(|field| error_status(field.raw))
    })
}

fn error_status(raw: &[u8]) -> Option<u16> {
    let number = json::as_u64(raw).or_else(|| string_value(raw)?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(payload: &str) -> String {
        let marks = Marks::new("mistral");
        let mut spans = Vec::new();
        json::scan_spans(payload.as_bytes(), &mut spans).unwrap();
        let mut edits = Edits::new();
        Parts::read(payload.as_bytes(), &spans, &marks, &mut edits);
        String::from_utf8(edits.apply(payload.as_bytes())).unwrap()
    }

    #[test]
    fn model_and_id_carry_their_origin() {
        assert_eq!(
            named(r#"{"id" : "cmpl-1@x","model":"a/b","x":{"model":"n","id":"n"}}"#),
            r#"{"id" : "cmpl-1@x@mistral","model":"mistral/a/b","x":{"model":"n","id":"n"}}"#
        );
    }

    #[test]
    fn what_is_empty_or_no_string_stays() {
        for payload in [r#"{"model":"","id":""}"#, r#"{"model":null,"id":7}"#, r#"{"models":"a"}"#] {
            assert_eq!(named(payload), payload);
        }
        assert_eq!(named(r#"{"model":"mistral-large"}"#), r#"{"model":"mistral/mistral-large"}"#);
        // A model may be called like a provider; the client's id of it has the prefix twice.
        assert_eq!(named(r#"{"model":"mistral/large"}"#), r#"{"model":"mistral/mistral/large"}"#);
    }

    #[test]
    fn the_status_that_an_error_names_is_kept() {
        for (payload, status) in [
            (r#"{"error":{"code":429,"message":"m"}}"#, 429),
            (r#"{"error":{"code":"503"}}"#, 503),
            (r#"{"error":{"code":"1300"}}"#, 502),
            (r#"{"error":"x","status":401}"#, 401),
            (r#"[{"code":404}]"#, 404),
            (r#"{"error":{"code":200}}"#, 502),
            (r#"{"object":"error","code":"1300","raw_status_code":429}"#, 429),
            ("no json", 502),
        ] {
            let error =
                in_band_error(&Rewrite::new("p", Shape::Chat), &Bytes::copy_from_slice(payload.as_bytes()));
            let upstream = error.upstream.unwrap();
            assert_eq!((error.kind, upstream.status), (ErrorKind::UpstreamInBand, status), "{payload}");
            assert_eq!(upstream.body, payload);
        }
    }

    #[test]
    fn a_huge_error_is_not_kept() {
        let payload = Bytes::from(format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(MAX_KEPT)));
        let error = in_band_error(&Rewrite::new("p", Shape::Chat), &payload);
        assert_eq!(upstream_message(&error.upstream.unwrap().body).unwrap(), "x".repeat(2000));
    }

    #[test]
    fn what_the_upstream_says_is_not_in_the_message_that_is_logged() {
        let message = |payload: &'static str| {
            in_band_error(&Rewrite::new("p", Shape::Chat), &Bytes::from_static(payload.as_bytes())).message
        };
        let said = "`p` reported an error inside its answer";
        assert_eq!(
            message(r#"{"error":{"message":"you said hello","code":"bad_word"}}"#),
            format!("{said} (bad_word)")
        );
        assert_eq!(message(r#"{"error":{"message":"you said hello","code":"hello you"}}"#), said);
        assert_eq!(message(r#"{"error":"you said hello"}"#), said);
    }
}
