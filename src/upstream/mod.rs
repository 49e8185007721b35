//! The wire to a provider: connections, HTTP/1.1, and what an upstream's refusal means.
//! It knows no provider, no dialect and no actor; everything here lives on the arbiter that made the [`Client`].

mod classify;
mod client;
mod connect;
mod exchange;
mod failure;
mod framing;
mod limits;
mod pool;
mod prose;
mod rate_headers;
mod refusal;
mod tls;

pub use classify::{Respondent, classify, inside, is_loading};
pub use client::{Answer, AnswerBody, Client, ClientOptions, Outgoing, UNINTERRUPTED};
pub use failure::NO_CONNECTION;
pub use rate_headers::{RateForm, statements};
pub use refusal::rejected_fields;
