//! Model ids as clients write them: `provider/upstream-model`, a group's bare id, or a bare model name. Pure.

/// What a model id means, given which backends there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelId<'a> {
    /// `backend/model`: the part before the first slash is a backend's id; the rest belongs to the model.
    Of {
        /// The backend's id.
        backend: &'a str,
        /// The model's id there: case, slashes, colons and `@` kept.
        model: &'a str,
    },
    /// A backend's id alone.
    Backend(&'a str),
    /// A name without a known prefix.
    Bare(&'a str),
}

/// Reads a model id. It is split at the first slash only, and only before a known backend's id; an id wins over a
/// model name.
pub fn parse(text: &str, is_backend: impl Fn(&str) -> bool) -> ModelId<'_> {
    if is_backend(text) {
        return ModelId::Backend(text);
    }
    match text.split_once('/') {
        Some((backend, model)) if !model.is_empty() && is_backend(backend) => ModelId::Of { backend, model },
        _ => ModelId::Bare(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str) -> bool {
        matches!(id, "fireworks" | "ollama" | "coder")
    }

    #[test]
    fn only_the_first_slash_splits() {
        let id = parse("fireworks/accounts/fireworks/models/x", known);
        assert_eq!(id, ModelId::Of { backend: "fireworks", model: "accounts/fireworks/models/x" });
    }

    #[test]
    fn case_colons_and_at_signs_belong_to_the_model() {
        assert_eq!(
            parse("ollama/@cf/GPT-oss:120b", known),
            ModelId::Of { backend: "ollama", model: "@cf/GPT-oss:120b" }
        );
    }

    #[test]
    fn an_unknown_first_segment_makes_the_whole_a_bare_name() {
        assert_eq!(parse("openai/gpt-oss-120b", known), ModelId::Bare("openai/gpt-oss-120b"));
        assert_eq!(parse("Ollama/x", known), ModelId::Bare("Ollama/x"));
    }

    #[test]
    fn a_backend_id_wins_over_a_model_name() {
        assert_eq!(parse("coder", known), ModelId::Backend("coder"));
    }

    #[test]
    fn a_prefix_without_a_model_is_a_bare_name() {
        assert_eq!(parse("ollama/", known), ModelId::Bare("ollama/"));
    }
}
