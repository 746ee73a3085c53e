//! A running node, its clients and its tokens: what every black-box test starts from.
//!
//! Nothing here sleeps: each wait blocks on a socket, a pipe or a channel, with a deadline. A node is a
//! child process that its handle kills; a test that ends while its node has died or panicked fails.

#![allow(dead_code, unused_imports)] // each test binary uses its own part

pub mod cli;
pub mod client;
pub mod durable;
pub mod malformed;
pub mod node;
pub mod process;
pub mod random;
pub mod response;
pub mod tls;
pub mod token;
pub mod transcript;

pub use client::{Client, Trouble};
pub use node::{Node, Setup, Shared};
pub use random::Random;
pub use response::Response;

/// `text` with every byte but the unreserved ones of RFC 3986 as `%XX`.
pub fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The path of a key in the kv family.
pub fn kv(key: impl AsRef<[u8]>) -> String {
    format!("/api/kv/{}", percent_encoded(key.as_ref()))
}

/// `bytes` as a chunked body in chunks of `chunk_bytes`.
pub fn chunked(bytes: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes.len() + 16 * (bytes.len() / chunk_bytes + 2));
    for chunk in bytes.chunks(chunk_bytes) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
