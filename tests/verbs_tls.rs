//! The verbs over https: they believe the certificate that `lucid init` makes where its file is given,
//! and where it is not they say so, ask for it, and send the node nothing.

mod common;

use common::cli::{Call, call, call_to};
use common::tls::Pair;
use common::{Node, Shared, token};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// What `lucid init` leaves in a folder.
static INITIALIZED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    call(&["init"]).within(folder.path()).said();
    folder
});

fn certificate() -> String {
    INITIALIZED.path().join("lucid-cert.pem").to_str().expect("text").to_owned()
}

fn pair() -> Pair {
    let read = |name: &str| std::fs::read_to_string(INITIALIZED.path().join(name)).expect(name);
    Pair { certificate: read("lucid-cert.pem"), key: read("lucid-key.pem") }
}

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.tls(&pair());
    })
}

/// A call to the node by this host, over TLS.
fn secure(node: &Node, host: &str, arguments: &[&str]) -> Call {
    let url = format!("https://{host}:{}", node.tls_address().port());
    call_to(node, arguments).variable("LUCID_URL", &url)
}

#[test]
fn every_verb_speaks_https_with_the_certificate_that_init_makes() {
    let (node, ca) = (node(), certificate());
    let long = vec![b'x'; 300_000];
    for host in ["localhost", "127.0.0.1"] {
        let said = |arguments: &[&str]| secure(&node, host, arguments).variable("LUCID_CA", &ca).said();
        secure(&node, host, &["put", "long", "--ca", &ca]).stdin(&long).said();
        assert_eq!(said(&["get", "long"]).as_bytes(), long);
        said(&["put", "n", "41"]);
        assert_eq!(said(&["patch", "n", "increment"]), "42\n");
        assert_eq!(said(&["list", "--prefix", "n"]), "n\n");
        said(&["delete", "n"]);
        assert!(secure(&node, host, &["get", "n", "--ca", &ca]).failed(3).contains("does not exist"));
        said(&["delete", "long"]);
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_trusted_and_the_message_says_what_to_do() {
    let node = node();
    for arguments in [&["get", "k"][..], &["put", "k", "v"], &["delete", "k"], &["list"]] {
        let stderr = secure(&node, "localhost", arguments).failed(1);
        let url = format!("https://localhost:{}", node.tls_address().port());
        assert_eq!(
            stderr,
            format!(
                "lucid: certificate not trusted: nobody whom this machine trusts has signed the one of {url}\n\
                 lucid: if the node signed it itself, give its file, which `lucid init` wrote: --ca lucid-cert.pem\n"
            ),
            "{arguments:?}"
        );
    }
    // An empty variable is as none.
    let stderr = secure(&node, "localhost", &["get", "k"]).variable("LUCID_CA", "").failed(1);
    assert!(stderr.contains("certificate not trusted: nobody"), "{stderr}");
}

#[test]
fn another_certificate_than_the_one_of_the_file_is_not_trusted() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let other = folder.path().join("other.pem");
    std::fs::write(&other, Pair::new().certificate).unwrap();
    let stderr = secure(&node, "localhost", &["get", "k", "--ca", other.to_str().unwrap()]).failed(1);
    assert!(stderr.starts_with("lucid: certificate not trusted: nothing in "), "{stderr}");
    assert!(stderr.contains("other.pem vouches for"), "{stderr}");
}

#[test]
fn what_the_system_trusts_is_trusted_without_a_flag() {
    let node = node();
    // Where the system's own are looked for can be told by this variable.
    let call = secure(&node, "localhost", &["put", "k", "v"]).variable("SSL_CERT_FILE", &certificate());
    assert!(call.said().contains("ETag"));
}

#[test]
fn a_certificate_for_another_name_is_not_trusted() {
    let node = Node::start(|setup| {
        setup.tls(&pair()).set("general.bind_address", "127.0.0.2");
    });
    let stderr = secure(&node, "127.0.0.2", &["get", "k", "--ca", &certificate()]).failed(1);
    assert!(stderr.starts_with("lucid: certificate not trusted: the one of https://127.0.0.2:"), "{stderr}");
    assert!(stderr.contains("is not for 127.0.0.2, but for localhost, 127.0.0.1, ::1"), "{stderr}");
    assert!(stderr.contains("--url or LUCID_URL"), "{stderr}");
    assert!(secure(&node, "127.0.0.2", &["put", "k", "v", "--insecure"]).said().contains("ETag"));
}

#[test]
fn insecure_trusts_anybody_and_nothing_else_does() {
    let node = node();
    for arguments in [&["put", "insecure", "v", "--insecure"][..], &["get", "insecure", "--insecure"]] {
        secure(&node, "localhost", arguments).said();
    }
    // A file that is not there does no harm where nothing is checked, or where nothing could be.
    secure(&node, "localhost", &["get", "insecure", "--insecure", "--ca", "/no/such"]).said();
    call_to(&node, &["get", "insecure"]).variable("LUCID_CA", "/no/such").said();
}

#[test]
fn a_certificate_that_has_expired_is_not_trusted() {
    // A node does not start with one, so it is a bare peer that shows it.
    let (pair, folder) = (Pair::good(2020, 2021), tempfile::tempdir().unwrap());
    let file = folder.path().join("old.pem");
    std::fs::write(&file, &pair.certificate).unwrap();
    let (url, thread) = peer_over_tls(&pair);
    let stderr = call(&["get", "k", "--url", &url, "--ca", file.to_str().unwrap()]).failed(1);
    assert!(stderr.contains("certificate not trusted: the one of https://localhost:"), "{stderr}");
    assert!(stderr.contains("has expired"), "{stderr}");
    assert_eq!(thread.join().unwrap(), 0, "bytes of a request, which went to nobody that is trusted");
}

/// A peer with TLS that takes one connection, and counts the bytes inside.
fn peer_over_tls(pair: &Pair) -> (String, std::thread::JoinHandle<usize>) {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![pair.der()], key)
        .expect("a pair");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        let connection = rustls::ServerConnection::new(Arc::new(config)).expect("settings that are good");
        let mut inside = Vec::new();
        let _ = std::io::Read::read_to_end(&mut rustls::StreamOwned::new(connection, stream), &mut inside);
        inside.len()
    });
    (url, thread)
}

#[test]
fn files_that_hold_no_certificate_are_told() {
    let (node, folder) = (node(), tempfile::tempdir().unwrap());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let damaged = folder.path().join("damaged.pem");
    std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let key = INITIALIZED.path().join("lucid-key.pem");
    let get = |path: &Path| secure(&node, "localhost", &["get", "k", "--ca"]).argument(path).failed(1);
    for path in [&*empty, &damaged, &key] {
        let stderr = get(path);
        assert!(stderr.starts_with("lucid: cannot trust the certificates of "), "{stderr}");
        assert!(stderr.contains("lucid-cert.pem"), "{stderr}");
    }
    assert!(get(Path::new("/no/such")).contains("cannot read the certificates of /no/such: "));
}

#[test]
fn a_mixed_up_port_is_told() {
    let (node, ca) = (node(), certificate());
    let plain = format!("https://{}", node.address());
    let stderr = call(&["get", "k", "--url", &plain, "--ca", &ca]).failed(1);
    assert!(stderr.contains("does not speak TLS") && stderr.contains("7021"), "{stderr}");
    let tls = format!("http://{}", node.tls_address());
    let stderr = call_to(&node, &["get", "k", "--url", &tls]).failed(1);
    assert!(stderr.contains("This port speaks TLS: use https://"), "{stderr}");
    node.assert_well();
}

#[test]
fn bench_says_that_it_is_for_plain_http() {
    let node = node();
    let stderr = secure(&node, "localhost", &["bench", "--insecure"]).failed(2);
    assert!(stderr.contains("over plain HTTP only") && stderr.contains("http://127.0.0.1:7020"), "{stderr}");
}

#[test]
fn no_token_is_sent_to_a_node_that_is_not_trusted_nor_shown() {
    let (url, thread) = peer_over_tls(&Pair::new());
    let stderr = call(&["get", "k", "--url", &url]).variable("LUCID_TOKEN", &token::root()).failed(1);
    assert!(!stderr.contains(&token::root()), "{stderr}");
    assert_eq!(thread.join().unwrap(), 0);
}
