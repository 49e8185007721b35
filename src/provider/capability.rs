//! The words for what a model can do, as the configuration, the catalogue and our model list write them.

use super::{Capabilities, Model};

/// Every word there is, in the order in which we list them.
pub const CAPABILITY_WORDS: [&str; 8] =
    ["chat", "completion", "fim", "embedding", "tools", "vision", "reasoning", "streaming"];

/// The capabilities that these words state. No words state nothing; otherwise a word that is missing means no, except
/// for `streaming`, which nearly everything can do and nobody thinks of writing down.
pub fn from_words(words: &[String]) -> Capabilities {
    if words.is_empty() {
        return Capabilities::default();
    }
    let has = |word: &str| Some(words.iter().any(|one| one == word));
    Capabilities {
        chat: has("chat"),
        completion: has("completion"),
        fim: has("fim"),
        embedding: has("embedding"),
        tools: has("tools"),
        vision: has("vision"),
        reasoning: has("reasoning"),
        streaming: has("streaming").filter(|stated| *stated),
    }
}

/// The words for what is known to be possible.
pub fn to_words(known: &Capabilities) -> Vec<&'static str> {
    let states = [
        known.chat,
        known.completion,
        known.fim,
        known.embedding,
        known.tools,
        known.vision,
        known.reasoning,
        known.streaming,
    ];
    let stated = CAPABILITY_WORDS.into_iter().zip(states);
    stated.filter(|(_, state)| *state == Some(true)).map(|(word, _)| word).collect()
}

/// A model of which only this is known.
pub fn model_from_words(id: &str, words: &[String]) -> Model {
    let capabilities = from_words(words);
    let modality = |can: Option<bool>, name: &str| (can == Some(true)).then(|| name.to_owned());
    let (input_modalities, output_modalities) = if words.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        let input = std::iter::once("text".to_owned()).chain(modality(capabilities.vision, "image"));
        let text = [capabilities.chat, capabilities.completion, capabilities.fim].contains(&Some(true));
        let output =
            modality(Some(text), "text").into_iter().chain(modality(capabilities.embedding, "embeddings"));
        (input.collect(), output.collect())
    };
    Model { id: id.to_owned(), capabilities, input_modalities, output_modalities, ..Model::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_survive_the_way_there_and_back() {
        assert_eq!(to_words(&from_words(&owned(&CAPABILITY_WORDS))), CAPABILITY_WORDS);
        assert_eq!(to_words(&from_words(&owned(&["fim", "chat"]))), ["chat", "fim"]);
        assert_eq!(from_words(&[]), Capabilities::default());
    }

    #[test]
    fn a_missing_word_means_no_but_for_streaming() {
        let known = from_words(&owned(&["embedding"]));
        assert_eq!((known.embedding, known.chat, known.fim), (Some(true), Some(false), Some(false)));
        assert_eq!(known.streaming, None);
        assert_eq!(model_from_words("m", &owned(&["embedding"])).output_modalities, ["embeddings"]);
    }
}
