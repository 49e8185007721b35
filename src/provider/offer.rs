//! What a group of models offers, in the shape of one model. Pure.

use super::{Capabilities, Model};

/// One model that stands for these: it can do what one of them can, since a request goes only to members that can
/// serve it; but its context window is the smallest, or a client would fill it and find it too large for most of them.
pub fn offer(id: &str, name: Option<&str>, description: Option<&str>, members: &[Model]) -> Model {
    let any = |of: fn(&Capabilities) -> Option<bool>| {
        let mut stated = members.iter().map(|model| of(&model.capabilities));
        if stated.clone().any(|state| state == Some(true)) {
            return Some(true);
        }
        (!members.is_empty() && stated.all(|state| state == Some(false))).then_some(false)
    };
    let union = |of: fn(&Model) -> &Vec<String>| {
        let mut all: Vec<String> = Vec::new();
        for word in members.iter().flat_map(of) {
            if !all.contains(word) {
                all.push(word.clone());
            }
        }
        all
    };
    Model {
        id: id.to_owned(),
        name: name.map(str::to_owned),
        description: description.map(str::to_owned),
        capabilities: Capabilities {
            chat: any(|known| known.chat),
            completion: any(|known| known.completion),
            fim: any(|known| known.fim),
            embedding: any(|known| known.embedding),
            tools: any(|known| known.tools),
            vision: any(|known| known.vision),
            reasoning: any(|known| known.reasoning),
            streaming: any(|known| known.streaming),
        },
        input_modalities: union(|model| &model.input_modalities),
        output_modalities: union(|model| &model.output_modalities),
        context_length: members.iter().filter_map(|model| model.context_length).min(),
        max_output_tokens: members.iter().filter_map(|model| model.max_output_tokens).min(),
        ..Model::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_can_do_what_one_can_within_the_smallest_window() {
        let model = |tools, vision, window| Model {
            capabilities: Capabilities { tools, vision, ..Capabilities::default() },
            context_length: window,
            ..Model::default()
        };
        let members = [
            model(Some(true), Some(false), Some(8000)),
            model(None, Some(false), None),
            model(Some(false), Some(false), Some(32_000)),
        ];
        let offered = offer("free", Some("Free"), Some("free tiers"), &members);
        assert_eq!((offered.id.as_str(), offered.description.as_deref()), ("free", Some("free tiers")));
        assert_eq!(offered.name.as_deref(), Some("Free"));
        assert_eq!(offered.capabilities.tools, Some(true));
        assert_eq!(offered.capabilities.vision, Some(false));
        assert_eq!(offered.capabilities.chat, None);
        assert_eq!(offered.context_length, Some(8000));
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        let offered = offer("empty", None, None, &[]);
        assert_eq!(offered.capabilities, Capabilities::default());
        assert_eq!(offered.context_length, None);
    }
}
