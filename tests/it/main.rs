//! Integration tests: the whole daemon in front of wire-faithful fake upstreams, and the real program.

mod disconnect;
mod relay;
mod streams;
mod supervision;
mod support;
mod tidy;
mod timeouts;
