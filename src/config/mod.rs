//! Configuration.

pub mod secret;
pub mod settings;
