//! The client's side of TLS: pairs to serve, and connections that trust them.

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::client::{Client, PATIENCE};

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// For clients, too.
    pub certificate: String,
    /// For the node.
    pub key: String,
}

impl Pair {
    /// A pair for `localhost`, good from one year to another, both from their first day.
    pub fn good(from: i32, until: i32) -> Pair {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A pair that is good now.
    pub fn new() -> Pair {
        Pair::good(2020, 2100)
    }

    /// The certificate itself.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")
    }

    /// A client's settings, with a memory of its sessions: it trusts this pair alone.
    pub fn trusted(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        self.trusted_with(&[version], &["http/1.1"])
    }

    /// The same with these versions and protocols inside.
    pub fn trusted_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(64);
        Arc::new(config)
    }
}

/// Both versions that a node speaks.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The TLS of a client before its handshake.
pub fn begin(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").expect("a name"))
        .expect("settings that are good")
}

/// What a client says first.
pub fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    begin(config).write_tls(&mut hello).expect("a vector");
    hello
}

/// A connection whose handshake is complete, if the node takes it.
pub fn try_connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(begin(config), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The same as a client that presents nothing.
pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let stream =
        try_connect(address, config).unwrap_or_else(|error| panic!("no TLS with {address}: {error}"));
    Client::over_tls(stream)
}
