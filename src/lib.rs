//! Lucid: an in-memory key-value node spoken to over HTTP.

pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod etag;
pub mod http;
pub mod limits;
pub mod op;
pub mod raw;
pub mod shard;
