//! Fetches a provider's model list and, where its entries do not tell enough, the details of each. Tasks of the
//! provider's arbiter run this; what becomes of the result is the actor's to decide.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use tokio::time::{Instant, timeout_at};

use super::about::About;
use super::headers;
use super::models::ModelList;
use super::{Adapter, Model};
use crate::error::ProxyError;
use crate::upstream::{Client, Outgoing};

/// Largest list that is read.
const MAX_LIST: usize = 32 * 1024 * 1024;
/// At most so many follow-up requests complete a list.
const MAX_DETAILS: usize = 500;
/// One of them takes no longer than this, and all of them no longer than that.
const DETAIL_TIMEOUT: Duration = Duration::from_secs(5);
const DETAILS_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends one request outside of any client's call and reads its answer.
///
/// # Errors
/// Whatever keeps a success from being read whole.
pub(super) async fn ask(
    client: &Client,
    about: &About,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, ProxyError> {
    let headers = headers::going_up(&about.headers, &[], false);
    let outgoing = Outgoing { method, path: path.to_owned(), headers, body: Bytes::from(body).into() };
    let answer = client.send(outgoing).await?;
    let (status, head) = (answer.status, answer.headers);
    let body = answer.body.collect(MAX_LIST).await?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    Err(about.scrub.error(about.refusal(status, &head, &body, SystemTime::now())))
}

/// Entries that do not tell enough get what the last list knew of the same model: same id, same date.
pub(super) fn recall(mut models: Vec<Model>, last: &ModelList, adapter: &dyn Adapter) -> Vec<Model> {
    for model in models.iter_mut().filter(|model| adapter.detail(model).is_some()) {
        let same = |known: &&Model| known.id == model.id && known.created == model.created;
        let Some(known) = last.find(&model.id).filter(same) else { continue };
        model.capabilities = known.capabilities;
        model.input_modalities.clone_from(&known.input_modalities);
        model.output_modalities.clone_from(&known.output_modalities);
        model.context_length = known.context_length;
    }
    models
}

/// Whether an entry that will be shown needs its details.
pub(super) fn incomplete(models: &[Model], filters: &ModelList, adapter: &dyn Adapter) -> bool {
    models.iter().any(|model| filters.allows(&model.id) && adapter.detail(model).is_some())
}

/// Completes the entries that need it and will be shown. An entry without its details is better than none.
pub(super) async fn complete(
    client: &Client,
    about: &About,
    mut models: Vec<Model>,
    filters: &ModelList,
) -> Vec<Model> {
    let adapter = about.adapter;
    let end = Instant::now() + DETAILS_TIMEOUT;
    let incomplete = models
        .iter_mut()
        .filter(|model| filters.allows(&model.id))
        .filter_map(|model| adapter.detail(model).map(|detail| (model, detail)));
    for (model, detail) in incomplete.take(MAX_DETAILS) {
        let deadline = end.min(Instant::now() + DETAIL_TIMEOUT);
        let asked = timeout_at(deadline, ask(client, about, Method::POST, detail.path, detail.body)).await;
        if let Ok(Ok(body)) = asked {
            adapter.apply_detail(model, &body);
        }
    }
    models
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Capabilities;
    use crate::provider::registry::Registry;

    #[test]
    fn what_was_known_of_a_model_is_recalled_unless_it_changed() {
        let kind = Registry::builtin().kind("ollama").unwrap();
        let entry =
            |id: &str, created: i64| Model { id: id.to_owned(), created: Some(created), ..Model::default() };
        let known = Model {
            capabilities: Capabilities { fim: Some(true), ..Capabilities::default() },
            context_length: Some(9),
            ..entry("a", 1)
        };
        let last = ModelList::new(vec![known, entry("b", 1)], None, false, None, None);
        let models = recall(vec![entry("a", 1), entry("a:latest", 1), entry("b", 1)], &last, kind.adapter);
        assert_eq!((models[0].capabilities.fim, models[0].context_length), (Some(true), Some(9)));
        assert_eq!(models[1].capabilities, Capabilities::default(), "another id is another model");
        assert!(incomplete(&models, &last, kind.adapter));
        assert!(!incomplete(&models[..1], &last, kind.adapter));
        let changed = recall(vec![entry("a", 2)], &last, kind.adapter);
        assert_eq!(changed[0].capabilities, Capabilities::default(), "pulled anew");
    }
}
