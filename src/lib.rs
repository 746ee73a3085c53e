//! Lucid: an in-memory key-value node spoken to over HTTP.

pub mod clock;
pub mod etag;
pub mod limits;
pub mod op;
pub mod raw;
pub mod store;
