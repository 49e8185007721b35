//! demuxai: one OpenAI-compatible endpoint in front of every AI service a person uses.

pub mod config;
pub mod demo;
pub mod dialect;
pub mod error;
pub mod provider;
