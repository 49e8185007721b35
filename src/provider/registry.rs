//! The kinds of upstream there are: one row per adapter. Only this file names adapters.
//! Which data belongs to a kind, and the kinds that are data alone, is `catalogue.rs`.

use std::sync::Arc;

use super::catalogue::{Catalogue, KindFacts};
use super::{Adapter, codestral, fireworks, github, mistral, ollama, ollama_cloud, openai};

/// One adapter and the type names that mean it.
#[derive(Clone, Copy)]
pub struct ProviderKind {
    /// The `type` in the configuration.
    pub name: &'static str,
    /// Other names for it: those of the Python demuxai, and common ones.
    pub aliases: &'static [&'static str],
    /// The description of its peculiarities.
    pub adapter: &'static dyn Adapter,
}

/// Every kind that has an adapter of its own.
pub const PROVIDERS: &[ProviderKind] = &[
    ProviderKind { name: "ollama", aliases: &[], adapter: &ollama::Ollama },
    ProviderKind { name: "ollama-cloud", aliases: &[], adapter: &ollama_cloud::OllamaCloud },
    ProviderKind { name: "github", aliases: &["github-models"], adapter: &github::Github },
    ProviderKind { name: "mistral", aliases: &["mistralai"], adapter: &mistral::Mistral },
    ProviderKind { name: "codestral", aliases: &[], adapter: &codestral::Codestral },
    ProviderKind { name: "fireworks", aliases: &[], adapter: &fireworks::Fireworks },
    ProviderKind { name: "openai", aliases: &[], adapter: &openai::OpenAi },
];

/// One kind of upstream, complete: what is code and what is data about it.
#[derive(Clone)]
pub struct Kind {
    /// Its name, never an alias.
    pub name: String,
    /// What is code.
    pub adapter: &'static dyn Adapter,
    /// What is data.
    pub facts: Arc<KindFacts>,
}

/// All kinds by name. A value, so that a test can bring an adapter of its own.
#[derive(Clone)]
pub struct Registry {
    rows: Vec<ProviderKind>,
    catalogue: Catalogue,
}

impl Registry {
    /// The rows of [`PROVIDERS`] over the catalogue that is compiled in.
    pub fn builtin() -> Self {
        Registry::new(Catalogue::builtin().clone())
    }

    /// The rows of [`PROVIDERS`] over this catalogue.
    pub fn new(catalogue: Catalogue) -> Self {
        Registry { rows: PROVIDERS.to_vec(), catalogue }
    }

    /// The same registry with one more row, which wins over any other of that name.
    pub fn with(mut self, row: ProviderKind) -> Self {
        self.rows.insert(0, row);
        self
    }

    /// The kind of this name or alias: a row, or a catalogue table that names the row it builds upon.
    /// A row without a catalogue table has no facts, and is then as plain as can be.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        if let Some(row) = self.row(name) {
            let facts = self.catalogue.facts(row.name).unwrap_or_default();
            return Some(Kind { name: row.name.to_owned(), adapter: row.adapter, facts });
        }
        let facts = self.catalogue.facts(name)?;
        let row = self.row(facts.adapter.as_deref()?)?;
        Some(Kind { name: name.to_owned(), adapter: row.adapter, facts })
    }

    /// All names that [`Registry::kind`] knows, without the aliases, for messages and documents.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.name).collect();
        names.extend(self.catalogue.names().filter(|name| self.row(name).is_none()));
        names
    }

    /// Other names for the kind of this name.
    pub fn aliases(&self, name: &str) -> &'static [&'static str] {
        self.row(name).map_or(&[], |row| row.aliases)
    }

    fn row(&self, name: &str) -> Option<&ProviderKind> {
        self.rows.iter().find(|row| row.name == name || row.aliases.contains(&name))
    }
}

#[cfg(test)]
mod tests;
