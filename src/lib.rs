#![doc = include_str!("ARCHITECTURE.md")]

pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod demo;
pub mod dialect;
pub mod error;
pub mod metrics;
pub mod model_id;
pub mod notify;
pub mod provider;
pub mod router;
pub mod server;
pub mod telemetry;
pub mod upstream;
pub mod wire;
