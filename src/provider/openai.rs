//! Any OpenAI-compatible upstream: the defaults of the adapter and the generic model list.
//! What differs between such upstreams (base URL, paths, parameters, limits) is data in `config/providers.toml`.

use super::model_list::{collect, entries, model};
use super::{Adapter, Model};

/// OpenAI's paths, and a list in any of the forms that compatible servers write.
pub struct OpenAi;

impl Adapter for OpenAi {
    fn models(&self, body: &[u8]) -> Result<Vec<Model>, String> {
        Ok(collect(&entries(body, &["data", "models"])?, model))
    }
}

#[cfg(test)]
mod tests;
