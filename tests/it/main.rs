//! Integration tests: the whole daemon in front of wire-faithful fake upstreams, and the real program.

mod supervision;
mod support;
mod tidy;
