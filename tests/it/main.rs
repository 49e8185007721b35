//! Integration tests: the whole daemon in front of wire-faithful fake upstreams, and the real program.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

mod aliases;
mod backpressure;
mod base_url;
mod budgets;
mod caching;
mod canonical_line;
mod chaos;
mod checked;
mod cli;
mod config_examples;
mod consensus;
mod disconnect;
mod embeddings;
mod errors;
mod example_routes;
mod explain;
mod failover;
mod fim;
mod foretold;
mod groups;
mod health;
mod keep_alive;
mod limits;
mod metrics;
mod models;
mod modifiers;
mod original;
mod params;
mod provider_contract;
mod quota;
mod refusals;
mod relay;
mod reload;
mod reload_program;
mod resumed;
mod routers;
mod sdk;
mod security;
mod shutdown;
mod slow_clients;
mod state;
mod streams;
mod supervision;
mod support;
mod tidy;
mod timeouts;
mod tls;
mod transcripts;
mod uninterrupted;
mod usage;
