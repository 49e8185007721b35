//! Bytes on the wire, by ranges: JSON scanning and splicing, server-sent events, token counts.
//! Pure, and at the bottom: nothing here may use another module of this crate.

pub mod json;
pub mod rope;
pub mod splice;
pub mod sse;
pub mod usage;
