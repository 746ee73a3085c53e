//! Signs tokens, good and hostile ones, without the code under test.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The secret of every node under test: 64 hexadecimal digits, used as the text they are.
pub const SECRET: &str = "8f1d3c5a7b9e02468ace13579bdf0f1e2d3c4b5a69788796a5b4c3d2e1f00112";

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time behind 1970").as_secs()
}

/// Unpadded base64url.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// HMAC-SHA256 of `text`.
pub fn hmac(secret: &[u8], text: &str) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    ring::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// A token of header and payload as they are, signed with HS256 under `secret`.
pub fn signed_raw(secret: &[u8], header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(payload));
    let tag = base64url(hmac(secret, &signed));
    format!("{signed}.{tag}")
}

/// A token with these claims under the usual header and secret.
pub fn with_claims(claims: &Value) -> String {
    signed_raw(SECRET.as_bytes(), br#"{"typ":"JWT","alg":"HS256"}"#, claims.to_string().as_bytes())
}

/// A token for every grant, for an hour.
pub fn root() -> String {
    with_claims(&json!({ "sub": "tests", "iss": "tests", "iat": now(), "exp": now() + 3_600 }))
}

/// A token for these grants only, for an hour.
pub fn with_grants(grants: &[&str]) -> String {
    with_claims(&json!({ "sub": "tests", "exp": now() + 3_600, "grants": grants }))
}
