//! A certificate that a node signs for itself, so that TLS works from the first minute.
//!
//! For `localhost`, the loopback addresses and the name of this machine; an elliptic-curve key, whose
//! handshakes are cheap. Valid for ten years: nothing renews it, and its clients trust this one file, not
//! whoever could have signed it.

use std::ops::Add;
use std::time::Duration;

use rcgen::{
    CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// How long it is good.
pub const YEARS: u64 = 10;

/// It is good from a day ago, for clients whose clock is behind.
const LEAD_SECONDS: u64 = 86_400;

const YEAR_SECONDS: u64 = 31_557_600;

/// A certificate and its key, in PEM.
pub struct SelfSigned {
    /// For everybody.
    pub certificate: String,
    /// For the node alone.
    pub key: String,
}

/// Makes one for this machine at this time, in seconds since the Unix epoch.
pub fn self_signed(host: Option<&str>, wall_seconds: u64) -> Result<SelfSigned, Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    names.extend(host.filter(|host| is_name(host) && *host != "localhost").map(String::from));
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, format!("Lucid on {}", host.unwrap_or("localhost")));
    let epoch = date_time_ymd(1970, 1, 1);
    let from = wall_seconds.saturating_sub(LEAD_SECONDS);
    params.not_before = epoch.add(Duration::from_secs(from));
    params.not_after = epoch.add(Duration::from_secs(from + YEARS * YEAR_SECONDS));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(SelfSigned { certificate, key: key.serialize_pem() })
}

/// The name of this machine, if it has one that a client could ask for.
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_ascii_lowercase();
    is_name(&name).then_some(name)
}

/// Whether it can stand in a certificate as a DNS name.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::{is_name, self_signed};
    use crate::net::Pair;

    #[test]
    fn what_is_made_is_a_pair_that_is_good_for_ten_years() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
        const NOW: u64 = 1_795_219_200; // 2026-11-21
        for host in [None, Some("cache-7.example"), Some("not a name")] {
            let made = self_signed(host, NOW).unwrap();
            std::fs::write(&certificate, made.certificate).unwrap();
            std::fs::write(&key, made.key).unwrap();
            let pair = Pair::load(&certificate, &key, NOW).unwrap();
            assert_eq!(pair.warning(NOW), None);
            assert!(pair.good_until().contains("Nov 2036"), "{}", pair.good_until());
        }
    }

    #[test]
    fn only_names_that_clients_can_ask_for_get_in() {
        for name in ["a", "cache-7", "cache-7.example.com", &"x".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", "(none)", "a..b", ".a", "a.", "-a", "a-", "a_b", "é", &"x".repeat(64), &"ab.".repeat(90)]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
