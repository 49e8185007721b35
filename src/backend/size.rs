//! How large a request is, and what it takes by that, as far as one can tell before it is sent. Pure.

use crate::dialect::{Request, Task};
use crate::quota::{Estimator, Need};

/// What is known of a request's size before it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The length of its body without images and other media.
    pub bytes: usize,
    /// How many of those there are.
    pub media: usize,
    /// The bound of each answer in tokens, if the request names one; of embeddings, which have none, zero.
    pub max_tokens: Option<u64>,
    /// How many answers it asks for.
    pub answers: u64,
    /// The answer is streamed.
    pub stream: bool,
}

// === impl Size ===

impl Size {
    /// Of this request.
    pub fn of(request: &Request) -> Size {
        let needs = request.may_have_media().then(|| request.needs());
        let media_bytes = needs.map_or(0, |needs| needs.media_bytes);
        Size {
            bytes: request.body.len().saturating_sub(media_bytes),
            media: needs.map_or(0, |needs| needs.media),
            max_tokens: if request.task == Task::Embedding { Some(0) } else { request.max_tokens() },
            answers: request.answers(),
            stream: request.stream,
        }
    }

    /// What a request of this size takes, as far as one can tell.
    pub fn need<'m>(self, estimator: &Estimator, model: &'m str) -> Need<'m> {
        let Size { bytes, media, max_tokens, answers, stream } = self;
        let (text, answer, off, answer_off) = estimator.estimate(model, bytes, max_tokens);
        let media = u64::try_from(media).unwrap_or(u64::MAX).saturating_mul(MEDIUM);
        let most_output = max_tokens.map(|most| most.saturating_mul(answers));
        let (input_tokens, output_tokens) = (text.saturating_add(media), answer.saturating_mul(answers));
        let answer_off = answer_off.saturating_mul(answers);
        Need { model, input_tokens, output_tokens, off, answer_off, most_output, stream }
    }
}

/// What an image is taken for, in tokens: the most that Anthropic makes of one (it scales larger ones down; OpenAI's
/// 4o takes 85 to 1,105, Gemini 258 for each tile of 768 pixels; their documentation, 2026-11). Of sounds and files
/// nobody knows before the upstream reports.
pub(crate) const MEDIUM: u64 = 1_600;
