//! Integration tests: the whole daemon in front of wire-faithful fake upstreams, and the real program.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

mod relay;
mod streams;
mod supervision;
mod support;
mod tidy;
