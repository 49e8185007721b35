//! The unchanging description of one configured provider: what the configuration, the registry and the catalogue say.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::Adapter;
use super::capacity::{Local, Waiting};
use super::catalogue::KindFacts;
use super::headers;
use super::registry::Kind;
use super::scrub::Scrub;
use crate::config::settings::{self, ProviderConfig};
use crate::dialect::upstream_message;
use crate::error::{ErrorKind, ProxyError};
use crate::metrics::Metrics;
use crate::quota::{Limit, Period, Refusal, RefusalClass, Source, Statement};
use crate::upstream::{Client, ClientOptions, Respondent};
use crate::upstream::{classify, inside, statements};

/// What is known of a provider before it is asked anything.
pub struct About {
    /// Its id, ready to be shared.
    pub id: Arc<str>,
    /// Its configuration.
    pub config: ProviderConfig,
    /// What is peculiar about its kind.
    pub adapter: &'static dyn Adapter,
    /// The catalogue's facts about its kind.
    pub facts: Arc<KindFacts>,
    /// The headers of every request to it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Takes its secrets out of what it says.
    pub scrub: Scrub,
    /// Where it records.
    pub metrics: Arc<Metrics>,
    limits: Vec<Limit>,
}

impl About {
    /// The limits that are known before the upstream says anything.
    pub fn limits(&self) -> Vec<Limit> {
        self.limits.clone()
    }

    /// How it treats those who come when it is full.
    pub fn waiting(&self) -> Waiting {
        Waiting { most: self.config.max_wait, queue: self.config.max_queue }
    }

    /// Whether it is a server on this machine or network.
    pub fn local(&self) -> Local {
        if self.config.local { Local::Yes } else { Local::No }
    }

    /// Puts the description together, and makes sure that a client can be made of it.
    ///
    /// # Errors
    /// When the key or a configured header cannot be sent as a header, or there is no client: an unusable `ca_file`, a
    /// host name that cannot be in a certificate. Names the operand.
    pub fn new(config: ProviderConfig, kind: &Kind, metrics: Arc<Metrics>) -> Result<Self, String> {
        let headers = headers::standing(&config, kind.adapter.headers())?;
        let (adapter, facts) = (kind.adapter, Arc::clone(&kind.facts));
        let (id, scrub) = (Arc::from(config.id.as_str()), Scrub::new(&config));
        let limits = limits(&config, &facts).map_err(|problem| format!("provider `{id}`: {problem}"))?;
        let about = About { id, config, adapter, facts, headers, scrub, metrics, limits };
        about.client().map_err(|error| format!("provider `{}`: {}", about.id, error.message))?;
        Ok(about)
    }

    /// An HTTP client for this provider; it cannot leave the thread where it is made. Opens no connection.
    ///
    /// # Errors
    /// When the url or the `ca_file` cannot be used.
    pub fn client(&self) -> Result<Client, ProxyError> {
        Client::new(&ClientOptions {
            url: self.config.url.clone(),
            connect_timeout: self.config.timeouts.connect,
            ca_file: self.config.ca_file.clone(),
            user_agent: concat!("demuxai/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    /// What a refusal of this provider means, in words that name the provider and the setting to change.
    pub fn refusal(&self, status: u16, headers: &HeaderMap, body: &Bytes, now: SystemTime) -> ProxyError {
        let who = self.respondent();
        let error = self.till_day_ends(classify(status, headers, body, who, now).at(&self.id), now);
        let id = &*self.id;
        let retired = self.facts.retired.as_ref().filter(|retired| retired.announced_by(status, body));
        let (kind, message) = match (retired, error.kind) {
            (Some(retired), _) => (ErrorKind::ProviderRetired, format!("`{id}`: {}", retired.message)),
            (None, ErrorKind::ProviderRetired) => (error.kind, format!("`{id}`: {}", error.message)),
            // A local Ollama that passes a request on to ollama.com (ollama/ollama fb307609, server/routes.go).
            (None, ErrorKind::UpstreamAuthentication)
                if memchr::memmem::find(body, b"signin_url").is_some() =>
            {
                let text = format!("`{id}` is not signed in to the service behind this model ({status})");
                (error.kind, format!("{text}: run `ollama signin` where it runs"))
            }
            (None, ErrorKind::UpstreamAuthentication) if who.sent_key => {
                let text = format!("`{id}` refused the key ({status})");
                (error.kind, format!("{text}: set `providers.{id}.api_key` to a valid one"))
            }
            (None, ErrorKind::UpstreamAuthentication) => {
                let text = format!("`{id}` wants a key and none is configured ({status})");
                (error.kind, format!("{text}: set `providers.{id}.api_key`"))
            }
            (None, _) => return error,
        };
        let words = || own_words(&self.scrub.body(body));
        let message = match Some(kind)
            .filter(|kind| *kind == ErrorKind::UpstreamAuthentication)
            .and_then(|_| words())
        {
            Some(words) => format!("{message}; it says: {words}"),
            None => message,
        };
        let named = ProxyError::new(kind, message).at(id);
        ProxyError { upstream: error.upstream, retry_after: error.retry_after, ..named }
    }

    /// What an error inside a successful answer means; any other stays as it is.
    pub fn inside(&self, error: ProxyError, now: SystemTime) -> ProxyError {
        self.till_day_ends(inside(error, self.respondent(), now), now)
    }

    /// The same error with when a used-up day is over, where the upstream did not say and it is known of its kind.
    fn till_day_ends(&self, mut error: ProxyError, now: SystemTime) -> ProxyError {
        let of_day = |refusal: &&mut Box<Refusal>| {
            refusal.class == RefusalClass::Window(Some(Period::DAY)) && refusal.retry_after.is_none()
        };
        if let Some(refusal) = error.refusal.as_mut().filter(of_day) {
            refusal.retry_after = self.facts.until_day_ends(now);
            error.retry_after = error.retry_after.or(refusal.retry_after);
        }
        error
    }

    fn respondent(&self) -> Respondent {
        Respondent {
            sent_key: self.config.api_key.is_some(),
            rate_headers: self.facts.rate_headers,
            shared: self.facts.shared_limits,
        }
    }

    /// What the head of an answer states about limits.
    pub fn statements(&self, headers: &HeaderMap, now: SystemTime) -> Vec<Statement> {
        // Most answers have none, and looking for each by name costs more than a glance at all names.
        let states_limits = headers.keys().any(|name| {
            let name = name.as_str();
            name.starts_with("x-ratelimit") || name.starts_with("anthropic-ratelimit")
        });
        if states_limits { statements(headers, self.facts.rate_headers, now) } else { Vec::new() }
    }
}

/// What an upstream says where its answer cannot pass as it is: on one line, bounded, and without what looks like a part of
/// a key (`sk-ab***yz`).
fn own_words(body: &[u8]) -> Option<String> {
    const MOST: usize = 300;
    let said = upstream_message(body)?;
    let is_masked = |word: &str| word.contains("**") || word.trim_end_matches('.').contains("...");
    let words = said.split_whitespace().map(|word| if is_masked(word) { "(secret)" } else { word });
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MOST) {
        line.truncate(end);
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

/// The user's limits, else the catalogue's guesses; a local server has none of those. `max_in_flight` is a limit like
/// any other.
fn limits(config: &ProviderConfig, facts: &KindFacts) -> Result<Vec<Limit>, String> {
    let mut limits = Vec::new();
    match &config.limits {
        Some(own) => {
            for limit in own {
                limits.push(read(limit, true, Source::Configured)?);
            }
        }
        None if config.local => {}
        None => {
            for guess in &facts.limits {
                limits.push(read(&guess.limit, guess.each_model, Source::Catalogue)?);
            }
        }
    }
    if let Some(most) = config.max_in_flight {
        let amount = u64::try_from(most).unwrap_or(u64::MAX);
        limits.push(Limit::parse("concurrent", amount, None, None, false, None, None, Source::Configured)?);
    }
    Ok(limits)
}

fn read(written: &settings::Limit, each_model: bool, source: Source) -> Result<Limit, String> {
    Limit::parse(
        &written.unit,
        written.amount,
        written.per.as_deref(),
        written.models.as_deref(),
        each_model && written.models.is_some(),
        written.window.as_deref(),
        written.time_zone.as_deref(),
        source,
    )
}

#[cfg(test)]
mod tests;
