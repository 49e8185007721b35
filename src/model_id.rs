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

/// Whether two upstreams mean the same model by these ids, as far as names tell: the last part of the path counts,
/// without case, with `:` and `-` alike, and without `:latest` and `:free`, so that `openai/gpt-oss-120b`,
/// `gpt-oss:120b` and `accounts/fireworks/models/gpt-oss-120b` are one.
pub fn same_model(one: &str, other: &str) -> bool {
    let bytes = |id: &str| {
        let last = id.rsplit('/').next().unwrap_or(id).to_ascii_lowercase();
        let bare = last.strip_suffix(":latest").or_else(|| last.strip_suffix(":free")).unwrap_or(&last);
        bare.replace(':', "-")
    };
    one == other || (!one.is_empty() && bytes(one) == bytes(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: &str) -> bool {
        matches!(id, "fireworks" | "ollama" | "coder")
    }

    #[test]
    fn one_model_has_other_names_elsewhere() {
        let names = ["gpt-oss:120b", "openai/gpt-oss-120b", "accounts/fireworks/models/gpt-oss-120b"];
        for (one, other) in names.iter().flat_map(|one| names.iter().map(move |other| (one, other))) {
            assert!(same_model(one, other), "{one} {other}");
        }
        assert!(same_model("qwen3", "qwen3:latest") && same_model("a/b:free", "b"));
        assert!(
            !same_model("gpt-oss:20b", "gpt-oss:120b") && !same_model("", "x") && !same_model("a/x", "a/y")
        );
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
