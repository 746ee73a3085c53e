//! TLS towards a node: whose certificates are believed, and what is said about one that is not.
//!
//! Believed is what the system trusts, or with `--ca` one file alone, as the one that `lucid init` has
//! written; with `--insecure`, anybody. The node presents itself and the client a token, so no
//! certificate of the client's own is ever sent.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueHint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::cli::failure::{Exit, Failure};
use crate::config::problem::escaped;

/// Whom to believe.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The node")]
pub struct TrustArgs {
    /// Of https: trust the certificates in this file alone [else those that the system trusts]
    // Not a path to clap, which would refuse an empty variable.
    #[arg(long, env = "LUCID_CA", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<OsString>,
    /// Of https: trust any certificate, so that whoever stands between can read and change everything
    #[arg(long)]
    insecure: bool,
}

impl TrustArgs {
    /// The settings of connections that believe those, and only those.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot speak TLS: {error}")))?;
        let mut config = match (self.insecure, self.ca()) {
            (true, _) => {
                let anybody = Arc::new(Anybody { provider });
                builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
            }
            (false, Some(path)) => builder.with_root_certificates(roots_of_file(path)?).with_no_client_auth(),
            (false, None) => builder.with_root_certificates(roots_of_system()).with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What is wrong, in place of a certificate that could be believed or of TLS at all.
    pub fn explain(&self, error: &Error, url: &str, host: &str) -> Failure {
        let untrusted = |why: String| Failure::new(Exit::Failed, format!("certificate not trusted: {why}"));
        let certificate = match error {
            Error::InvalidCertificate(certificate) => certificate,
            Error::InvalidMessage(_) => {
                return Failure::new(Exit::Failed, format!("what answers at {url} does not speak TLS")).and(
                    "a node has a port of its own for https, 7021 if nothing else is configured; \
                          http:// goes to the other",
                );
            }
            error => {
                return Failure::new(
                    Exit::Failed,
                    format!("cannot speak TLS with the node at {url}: {}", escaped(&error.to_string())),
                );
            }
        };
        match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = match certificate {
                    CertificateError::NotValidForNameContext { presented, .. } => names(presented),
                    _ => String::new(),
                };
                let host = escaped(host);
                untrusted(format!("the one of {url} is not for {host}{names}"))
                    .and("name the node in --url or LUCID_URL as its certificate does")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                untrusted(format!("the one of {url} has expired"))
                    .and("renew the files of general.ssl_certificate, then send the node SIGHUP")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                untrusted(format!("the one of {url} is not good yet"))
                    .and("look at the clocks of this machine and of the one that made it")
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => match self.ca() {
                Some(path) => {
                    let path = escaped(&path.display().to_string());
                    untrusted(format!("nothing in {path} vouches for the one of {url}"))
                        .and("--ca and LUCID_CA name the certificate of the node, or of whoever signed it")
                }
                None => untrusted(format!("nobody whom this machine trusts has signed the one of {url}"))
                    .and("if the node signed it itself, give its file, which `lucid init` wrote: --ca lucid-cert.pem"),
            },
            other => untrusted(format!("{}, at {url}", escaped(&other.to_string())))
                .and("give the file of the node's own certificate: --ca lucid-cert.pem"),
        }
    }

    /// An empty variable is none.
    fn ca(&self) -> Option<&Path> {
        self.ca.as_deref().filter(|path| !path.is_empty()).map(Path::new)
    }
}

/// The names of a certificate, as rustls tells them: `DnsName("localhost")`.
fn names(presented: &[String]) -> String {
    let names: Vec<String> = presented
        .iter()
        .map(|name| name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')')))
        .map(|name| name.trim_matches('"'))
        // Loopback comes as `0::1`.
        .map(|name| name.parse().map_or_else(|_| name.to_owned(), |address: IpAddr| address.to_string()))
        .collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(", but for {}", escaped(&names.join(", "))),
    }
}

/// The certificates in a file. One that says nothing of any is refused, so that a wrong file is told.
fn roots_of_file(path: &Path) -> Result<RootCertStore, Failure> {
    let shown = escaped(&path.display().to_string());
    let unreadable = |why: &str| {
        Failure::new(Exit::Failed, format!("cannot trust the certificates of {shown}: {why}"))
            .and("--ca and LUCID_CA name a file in PEM, such as the lucid-cert.pem that `lucid init` wrote")
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| match error {
        pem::Error::Io(error) => Failure::of_io(&error, format!("cannot read the certificates of {shown}")),
        error => unreadable(&error.to_string()),
    })?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(&error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(&error.to_string()))?;
    }
    if roots.is_empty() { Err(unreadable("it holds none")) } else { Ok(roots) }
}

/// What the system trusts. Where that cannot be read nothing is trusted, and `--ca` is asked for.
fn roots_of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Believes that a node is whoever it says. It still has to have the key of what it shows.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Puts TLS around connections to `https`.
///
/// Our own and not the one that comes with ureq: that one makes rustls write to the log, and then every
/// client of the node that speaks TLS badly could fill it.
#[derive(Debug)]
pub struct Wrap {
    config: Arc<ClientConfig>,
}

impl Wrap {
    /// With these settings.
    pub fn new(config: Arc<ClientConfig>) -> Wrap {
        Wrap { config }
    }
}

impl<In: Transport> Connector<In> for Wrap {
    type Out = Either<In, Wrapped>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::BadUri(format!("{host} cannot stand in a certificate")))?;
        let mut conn = ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| ureq::Error::Io(std::io::Error::other(error)))?;
        let mut sock = TransportAdapter::new(Transport::boxed(transport), Arc::clone(&details.current_time));
        sock.set_timeout(details.timeout);
        while conn.is_handshaking() {
            conn.complete_io(&mut sock)?;
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Wrapped { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// A connection with TLS around it.
pub struct Wrapped {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Wrapped").finish_non_exhaustive()
    }
}

impl Transport for Wrapped {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn the_names_of_a_certificate_are_told_as_they_are_typed() {
        let presented =
            ["DnsName(\"localhost\")", "IpAddress(127.0.0.1)", "IpAddress(0::1)", "odd"].map(String::from);
        assert_eq!(names(&presented), ", but for localhost, 127.0.0.1, ::1, odd");
        assert_eq!(names(&[]), "");
    }
}
