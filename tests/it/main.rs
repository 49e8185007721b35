//! Integration tests: the whole daemon in front of wire-faithful fake upstreams, and the real program.

mod base_url;
mod embeddings;
mod fim;
mod models;
mod original;
mod params;
mod provider_contract;
mod supervision;
mod support;
mod tidy;
mod transcripts;
