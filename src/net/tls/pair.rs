//! A certificate and its private key, from the files that an operator names.
//!
//! Everything that would make clients fail later is found here: files that cannot be read, hold
//! something else, do not belong together, or are out of date. An error names the file and the mend; none
//! shows a byte of a key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys};

use super::validity::{Validity, validity};
use crate::http::http_date;

/// Largest file that is looked at: a chain has some KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How long before its end an operator is reminded.
const REMIND_SECONDS: i64 = 30 * 86_400;

/// A certificate chain with its key, in order and in date.
#[derive(Clone)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    validity: Validity,
    certificate: PathBuf,
}

/// Why there is no pair.
#[derive(Debug)]
pub enum PairError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The certificate's file has none in it, or none that can be read.
    NoCertificate(PathBuf),
    /// The key's file has none in it, or none that can be read.
    NoKey(PathBuf),
    /// The key is of a kind that is not known here.
    KeyUnsupported(PathBuf),
    /// The key does not belong to the certificate.
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate was good until then, in seconds since the Unix epoch.
    Expired(PathBuf, i64),
}

impl Pair {
    /// Loads a pair that is good at this time, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn load(certificate: &Path, key: &Path, wall_seconds: u64) -> Result<Pair, PairError> {
        let no_certificate = || PairError::NoCertificate(certificate.to_owned());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|_| no_certificate())?;
        let first = chain.first().ok_or_else(no_certificate)?;
        let validity = validity(first).ok_or_else(no_certificate)?;
        // What a PEM reader has to say of a key might quote it.
        let private =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| PairError::NoKey(key.to_owned()))?;
        let certified = CertifiedKey::from_der(chain, private, &default_provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                PairError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            Error::InvalidCertificate(_) => no_certificate(),
            _ => PairError::KeyUnsupported(key.to_owned()),
        })?;
        if validity.until < wall_seconds as i64 {
            return Err(PairError::Expired(certificate.to_owned(), validity.until));
        }
        Ok(Pair { certified: Arc::new(certified), validity, certificate: certificate.to_owned() })
    }

    /// What an operator should know of it although it can be used.
    pub fn warning(&self, wall_seconds: u64) -> Option<String> {
        let (now, Validity { from, until }) = (wall_seconds as i64, self.validity);
        let certificate = self.certificate.display();
        if from > now {
            Some(format!(
                "{certificate} is good only from {}: clients refuse it until then; check the clock of this machine",
                date(from)
            ))
        } else if until - now < REMIND_SECONDS {
            Some(format!("{certificate} is good only until {}: renew it and send SIGHUP", date(until)))
        } else {
            None
        }
    }

    /// Until when it is good, for people.
    pub fn good_until(&self) -> String {
        date(self.validity.until)
    }

    /// Hands it to every client.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified)))
    }

    /// Whether a signature with its key costs milliseconds.
    pub(super) fn is_slow(&self) -> bool {
        self.certified.key.algorithm() == SignatureAlgorithm::RSA
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    let unreadable = |error| PairError::Unreadable(path.to_owned(), error);
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(io::Error::other("it is too large to be a certificate or a key")));
    }
    std::fs::read(path).map_err(unreadable)
}

fn date(seconds: i64) -> String {
    String::from_utf8_lossy(&http_date(seconds.max(0) as u64)).into_owned()
}

impl PairError {
    /// Whether the system does not let this process read a file.
    pub fn is_denied(&self) -> bool {
        matches!(self, PairError::Unreadable(_, error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for PairError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairError::Unreadable(path, error) if error.kind() == io::ErrorKind::NotFound => write!(
                out,
                "{}: the file is not there; correct general.ssl_certificate or general.ssl_certificate_key, or make \
                 a pair with `lucid init`",
                path.display()
            ),
            PairError::Unreadable(path, error) if error.kind() == io::ErrorKind::PermissionDenied => write!(
                out,
                "{}: this process may not read the file; give it to the user that runs Lucid",
                path.display()
            ),
            PairError::Unreadable(path, error) => write!(out, "{}: {error}", path.display()),
            PairError::NoCertificate(path) => write!(
                out,
                "{}: no certificate that can be read; it must be PEM, `-----BEGIN CERTIFICATE-----`, the node's own \
                 certificate first",
                path.display()
            ),
            PairError::NoKey(path) => write!(
                out,
                "{}: no private key that can be read; it must be PEM, `-----BEGIN PRIVATE KEY-----`, without a \
                 passphrase (`openssl pkey -in FILE` takes it away)",
                path.display()
            ),
            PairError::KeyUnsupported(path) => write!(
                out,
                "{}: a private key of a kind or size that is not supported; use ECDSA P-256 or P-384, Ed25519, or \
                 RSA of 2048 to 8192 bits",
                path.display()
            ),
            PairError::Mismatch { certificate, key } => write!(
                out,
                "{}: this private key does not belong to the certificate in {}; give the key that the certificate \
                 was made with",
                key.display(),
                certificate.display()
            ),
            PairError::Expired(path, until) => write!(
                out,
                "{}: the certificate was good until {}; renew it, or make another with `lucid init --force`",
                path.display(),
                date(*until)
            ),
        }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Pair, PairError};

    const NOW: u64 = 1_800_000_000; // 2027-01-15

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Files {
            Files { folder: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        /// A pair that is good from one year to another, both from their first day.
        fn pair(&self, name: &str, from: i32, until: i32) -> (PathBuf, PathBuf) {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            let certificate = params.self_signed(&key).unwrap().pem();
            (
                self.write(&format!("{name}.crt"), certificate),
                self.write(&format!("{name}.key"), key.serialize_pem()),
            )
        }
    }

    fn refused(certificate: &Path, key: &Path) -> PairError {
        Pair::load(certificate, key, NOW).expect_err("no pair")
    }

    #[test]
    fn a_pair_is_loaded_with_its_dates() {
        let files = Files::new();
        let (certificate, key) = files.pair("good", 2026, 2036);
        let pair = Pair::load(&certificate, &key, NOW).unwrap();
        assert_eq!(pair.good_until(), "Tue, 01 Jan 2036 00:00:00 GMT");
        assert_eq!(pair.warning(NOW), None);
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_last_second_is_good_and_the_next_is_not() {
        let files = Files::new();
        let (certificate, key) = files.pair("short", 2020, 2027);
        const END: u64 = 1_798_761_600; // 2027-01-01
        let pair = Pair::load(&certificate, &key, END).unwrap();
        assert!(pair.warning(END).is_some_and(|text| text.contains("until Fri, 01 Jan 2027")));
        assert_eq!(pair.warning(END - 30 * 86_400), None);
        assert!(pair.warning(END - 30 * 86_400 + 1).is_some());
        let error = Pair::load(&certificate, &key, END + 1).unwrap_err();
        assert!(matches!(error, PairError::Expired(..)));
        assert!(error.to_string().contains("good until Fri, 01 Jan 2027"), "{error}");
        let (certificate, key) = files.pair("early", 2028, 2030);
        let early = Pair::load(&certificate, &key, NOW).unwrap();
        assert!(early.warning(NOW).is_some_and(|text| text.contains("only from Sat, 01 Jan 2028")));
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_name_and_never_shows_a_key() {
        let files = Files::new();
        let (certificate, key) = files.pair("one", 2026, 2036);
        let (_, other) = files.pair("other", 2026, 2036);
        let absent = files.folder.path().join("absent");
        let empty = files.write("empty", "");
        let text = std::fs::read_to_string(&key).unwrap();
        let cut = files.write("cut", &text[..text.len() / 2]);
        let bent = files.write("bent", text.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
        let junk = files.write("junk", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let shell = files.write("shell", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let huge = files.write("huge", vec![b'-'; (super::FILE_BYTES_MAX + 1) as usize]);
        for (error, expected) in [
            (refused(&absent, &key), "the file is not there"),
            (refused(&certificate, &absent), "the file is not there"),
            (refused(files.folder.path(), &key), "directory"),
            (refused(&empty, &key), "no certificate"),
            (refused(&key, &key), "no certificate"),
            (refused(&shell, &key), "no certificate"),
            (refused(&huge, &key), "too large"),
            (refused(&certificate, &empty), "no private key"),
            (refused(&certificate, &certificate), "no private key"),
            (refused(&certificate, &cut), "no private key"),
            (refused(&certificate, &bent), "no private key"),
            (refused(&certificate, &junk), "not supported"),
            (refused(&certificate, &other), "does not belong"),
        ] {
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(expected), "{shown}");
            assert!(!text.lines().skip(1).take(2).any(|line| shown.contains(line)), "{shown}");
        }
    }
}
