//! Lucid: an in-memory key-value node spoken to over HTTP.

pub mod cli;
pub mod clock;
pub mod config;
pub mod etag;
pub mod limits;
pub mod op;
pub mod raw;
