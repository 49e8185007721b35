//! Token counts as upstreams report them, read by byte range. Nothing is added up or estimated here.

use std::ops::Range;

use super::json::{as_u64, members_of};

/// A count above this is no count of tokens of one request; it is ignored, so that a broken upstream cannot spoil
/// the sums.
const MAX_COUNT: u64 = 1_000_000_000;

/// Token counts as the upstream reported them. Absent counts stay absent; nothing is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`.
    pub input: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    pub output: Option<u64>,
    /// `completion_tokens_details.reasoning_tokens`.
    pub reasoning: Option<u64>,
    /// `prompt_tokens_details.cached_tokens`.
    pub cached: Option<u64>,
}

impl Usage {
    /// Reads the `usage` object written at `range` of `bytes`, which were validated before. Anything but an object,
    /// and anything in it that is no count, says nothing.
    pub fn read(bytes: &[u8], range: Range<usize>) -> Usage {
        let mut usage = Usage::default();
        for field in members_of(bytes, range) {
            match field.key_bytes().as_ref() {
                b"prompt_tokens" | b"input_tokens" => usage.input = count(field.raw),
                b"completion_tokens" | b"output_tokens" => usage.output = count(field.raw),
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    usage.cached = member_count(bytes, field.range, "cached_tokens");
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    usage.reasoning = member_count(bytes, field.range, "reasoning_tokens");
                }
                _ => {}
            }
        }
        usage
    }

    /// Reads the `usage` inside of Groq's `x_groq`, which it sends with the last chunk of every stream
    /// (reference: Portkey's adapter for Groq, 2026-05-25).
    pub fn read_groq(bytes: &[u8], x_groq: Range<usize>) -> Usage {
        members_of(bytes, x_groq)
            .find(|field| field.is("usage"))
            .map_or_else(Usage::default, |field| Usage::read(bytes, field.range))
    }

    /// Takes over what `later` says. Zero does not replace a count: some upstreams send zeros with every chunk
    /// (Ollama's `/v1/completions`, `middleware/openai.go`, 2026-08-21), and some the running count.
    pub fn merge(&mut self, later: Usage) {
        let newer = |old: Option<u64>, new: Option<u64>| match new {
            Some(0) => old.or(new),
            Some(_) => new,
            None => old,
        };
        self.input = newer(self.input, later.input);
        self.output = newer(self.output, later.output);
        self.reasoning = newer(self.reasoning, later.reasoning);
        self.cached = newer(self.cached, later.cached);
    }

    /// Whether the upstream reported nothing.
    pub fn is_empty(&self) -> bool {
        *self == Usage::default()
    }
}

fn count(raw: &[u8]) -> Option<u64> {
    as_u64(raw).filter(|count| *count <= MAX_COUNT)
}

fn member_count(bytes: &[u8], object: Range<usize>, key: &str) -> Option<u64> {
    members_of(bytes, object).find(|field| field.is(key)).and_then(|field| count(field.raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Usage {
        Usage::read(source.as_bytes(), 0..source.len())
    }

    #[test]
    fn counts_of_chat_completions_are_read() {
        let usage = read(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
                "prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}"#,
        );
        assert_eq!(usage, Usage { input: Some(10), output: Some(5), reasoning: Some(3), cached: Some(4) });
    }

    #[test]
    fn counts_by_their_other_names_are_read() {
        let usage = read(
            r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3}}"#,
        );
        assert_eq!(usage, Usage { input: Some(10), output: Some(5), reasoning: Some(3), cached: Some(4) });
    }

    #[test]
    fn what_is_no_count_says_nothing() {
        for source in [
            "null",
            "[]",
            "7",
            "{}",
            r#"{"prompt_tokens":null,"completion_tokens":-1,"prompt_tokens_details":null}"#,
        ] {
            assert!(read(source).is_empty(), "{source}");
        }
        assert_eq!(read(r#"{"prompt_tokens":1000000001,"completion_tokens":1.5}"#), Usage::default());
        assert_eq!(read(r#"{"prompt_tokens":1000000000}"#).input, Some(MAX_COUNT));
    }

    #[test]
    fn groq_hides_its_usage_one_level_deeper() {
        let source = br#"{"id":"req_1","usage":{"queue_time":0.1,"prompt_tokens":7,"completion_tokens":2}}"#;
        let usage = Usage::read_groq(source, 0..source.len());
        assert_eq!((usage.input, usage.output), (Some(7), Some(2)));
        assert!(Usage::read_groq(b"{\"id\":1}", 0..8).is_empty());
    }

    #[test]
    fn the_last_count_that_is_not_zero_wins() {
        let mut usage = Usage::default();
        usage.merge(Usage { input: Some(0), output: Some(0), ..Usage::default() });
        assert_eq!((usage.input, usage.output, usage.cached), (Some(0), Some(0), None));
        usage.merge(Usage { input: Some(9), output: Some(1), ..Usage::default() });
        usage.merge(Usage { input: Some(9), output: Some(2), cached: Some(3), ..Usage::default() });
        usage.merge(Usage { input: Some(0), output: None, cached: Some(0), ..Usage::default() });
        assert_eq!(usage, Usage { input: Some(9), output: Some(2), reasoning: None, cached: Some(3) });
    }
}
