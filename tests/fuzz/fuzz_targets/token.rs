//! Any bytes as a token: no panic, and nothing admitted that was not signed. The same bytes as a
//! signed header and payload, cut at the first newline: no panic, and nothing admitted that a
//! lenient JSON reader would refuse.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use lucid::auth::{Verifier, VerifierConfig, credential};
use ring::hmac;

const SECRET: &[u8] = b"a secret of the fuzzer";
const NOW: u64 = 1_700_000_000;

fuzz_target!(|input: &[u8]| {
    let config = VerifierConfig { enabled: true, secret: SECRET, leeway_seconds: 0, require_exp: true };
    let verifier = Verifier::new(config);
    if let Ok(Some(token)) = credential(Some(input), None) {
        assert!(verifier.verify(token, NOW).is_err(), "admitted without our signature");
    }

    let cut = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (header, payload) = input.split_at(cut);
    let payload = payload.get(1..).unwrap_or_default();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    if verifier.verify(token.as_bytes(), NOW).is_ok() {
        let (Some(header), Some(claims)) = (read(header), read(payload)) else { return };
        assert_eq!(header["alg"], "HS256");
        assert!(header.get("crit").is_none());
        assert!(claims["exp"].as_u64().expect("exp is an integer") > NOW);
    }
});

/// Reads JSON; none if a number in it is beyond a double, which the token reader need not mind.
fn read(text: &[u8]) -> Option<serde_json::Value> {
    match serde_json::from_slice(text) {
        Err(error) if error.to_string().contains("out of range") => None,
        read => Some(read.expect("what was admitted is JSON")),
    }
}
