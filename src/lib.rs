//! Lucid: an in-memory key-value node spoken to over HTTP.

pub mod api;
pub mod auth;
pub mod clock;
pub mod etag;
pub mod http;
pub mod limits;
pub mod op;
pub mod raw;
pub mod shard;
pub mod store;
