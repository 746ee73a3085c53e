//! TLS stands outside the promise that a GET or PUT allocates nothing, because rustls allocates. How often is
//! bounded here; and whoever comes without TLS, or over the Unix socket, is within the promise as ever.
//!
//! The reactors of a real node run in this process under an allocator that counts what their threads ask
//! for, over real sockets, with a token on every request.
#![allow(unsafe_code)] // an allocator cannot be written without

mod common;

use common::tls::{Pair, VERSIONS, connect};
use common::{Client, kv, token};
use lucid::api::Phase;
use lucid::config::machine::Machine;
use lucid::config::{self, Secret, Sources};
use lucid::net::Doors;
use lucid::server;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether what this thread asks for counts. Neither allocates nor is dropped.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if COUNTS.get() {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it is, under the same contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise for this method is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: as above; the block came from `System`, as all do.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How often the node allocates for a request, of many at this depth: half GETs, half PUTs.
fn allocations(client: &mut Client, depth: usize) -> f64 {
    const ROUNDS: usize = 1_000;
    let value = [b'v'; 64];
    let mut batch = Vec::new();
    for number in 0..depth {
        let key = kv(format!("key-{number}"));
        batch.extend(client.compose("PUT", &key, &[], &value));
        batch.extend(client.compose("GET", &key, &[], b""));
    }
    let mut round = |_| {
        client.send(&batch);
        for _ in 0..depth {
            let put = client.response();
            assert!([200, 201].contains(&put.status), "{put}");
            assert_eq!(client.response().expect(200).body, value);
        }
    };
    (0..200).for_each(&mut round);
    COUNT.store(0, Ordering::Relaxed);
    (0..ROUNDS).for_each(&mut round);
    COUNT.load(Ordering::Relaxed) as f64 / (2 * ROUNDS * depth) as f64
}

#[test]
fn tls_allocates_a_few_times_for_a_request_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), &pair.certificate).unwrap();
    std::fs::write(path("key.pem"), &pair.key).unwrap();
    let environment = [
        ("LUCID_GENERAL__PORT", "0".to_owned()),
        ("LUCID_GENERAL__PORT_SSL", "0".to_owned()),
        ("LUCID_GENERAL__USE_SSL", "true".to_owned()),
        ("LUCID_GENERAL__SSL_CERTIFICATE", path("cert.pem")),
        ("LUCID_GENERAL__SSL_CERTIFICATE_KEY", path("key.pem")),
        ("LUCID_GENERAL__UNIX_SOCKET", path("lucid.sock")),
        ("LUCID_RUNTIME__WORKERS", "2".to_owned()),
        ("LUCID_STORE__MEMORY_LIMIT", "64MiB".to_owned()),
        ("LUCID_AUTHENTICATION__SECRET_KEY", token::SECRET.to_owned()),
    ];
    let loaded = config::load(Sources {
        config: None,
        search: Vec::new(),
        environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
        flags: Vec::new(),
        insecure: false,
        machine: Machine::measure(),
        fresh_secret: Secret::new(""),
    });
    let settings = loaded.expect("good settings").settings;
    let Doors { plain, tls, unix, each } = Doors::open(&settings, None).expect("free ports");
    let (address, certificates) = tls.expect("TLS");
    let mut node = server::reactors(&settings, each, Some(certificates), 7, false).unwrap();
    node.state.set(Phase::Serving);
    let threads: Vec<_> = node
        .reactors
        .drain(..)
        .map(|reactor| {
            std::thread::spawn(move || {
                COUNTS.set(true);
                reactor.run()
            })
        })
        .collect();
    for depth in [1, 16] {
        for version in VERSIONS {
            let mut client = connect(address, &pair.trusted(version)).with_token(&token::root());
            let count = allocations(&mut client, depth);
            println!("{:?} at depth {depth}: {count:.2} allocations for a request", version.version);
            assert!(count > 0.0, "nothing is counted");
            assert!(count <= 2.5, "{count} allocations for a request");
        }
        let unix = Client::try_connect_unix(std::path::Path::new(&path("lucid.sock"))).unwrap();
        for mut client in [Client::connect(plain), unix].map(|client| client.with_token(&token::root())) {
            let count = allocations(&mut client, depth);
            assert!(count == 0.0, "{count} allocations for a request without TLS");
        }
    }
    node.state.set(Phase::Draining);
    node.bells.iter().for_each(lucid::shard::Doorbell::ring_always);
    for thread in threads {
        thread.join().expect("no panic").expect("no failure");
    }
    drop(unix);
}
