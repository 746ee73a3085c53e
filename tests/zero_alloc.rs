//! A GET or PUT of a small value allocates nothing, once a node is warm, nor does one of a database.
//!
//! The reactors of a real node run in this process under an allocator that counts what their threads
//! ask for: over real sockets, with a token on every request, within a core and across two, at depth 1
//! and pipelined, in a full store where each new key evicts others.
#![allow(unsafe_code)] // an allocator cannot be written without

mod common;

use common::{Client, Random, kv, token};
use lucid::api::Phase;
use lucid::clock::Now;
use lucid::config::machine::Machine;
use lucid::config::{self, Secret, Sources};
use lucid::etag::Tags;
use lucid::journal;
use lucid::limits::CONNECTION_HOPS_MAX;
use lucid::net::Door;
use lucid::op::{Action, Condition, Encoding, Expiry, KeyHasher, Namespace, Operation, Outcome, Payload};
use lucid::server;
use lucid::shard::{Doorbell, Shard};
use lucid::store::{Store, StoreConfig, WhenFull};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Counts what reactors ask for while it is armed, and keeps where the first of it was.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FIRST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Whether what this thread asks for counts. Neither allocates nor is dropped.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn note(bytes: usize) {
    if !ARMED.load(Ordering::Relaxed) || !COUNTS.get() {
        return;
    }
    if COUNT.fetch_add(1, Ordering::Relaxed) == 0 {
        COUNTS.set(false);
        *FIRST.lock().unwrap() = Some(format!("{bytes} bytes at\n{}", Backtrace::force_capture()));
        COUNTS.set(true);
    }
}

// SAFETY: every call is handed on to the system's allocator as it is, under the same contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise for this method is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above; the block came from `System`, as all do.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A node whose reactors run in this process.
struct InProcess {
    address: SocketAddr,
    node: server::Reactors,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl InProcess {
    fn start(workers: usize) -> InProcess {
        let memory_mib = 4 * workers;
        let environment = [
            ("LUCID_RUNTIME__WORKERS", workers.to_string()),
            ("LUCID_STORE__MEMORY_LIMIT", format!("{memory_mib}MiB")),
            ("LUCID_AUTHENTICATION__SECRET_KEY", token::SECRET.to_owned()),
            // Short, so that timers come round while allocations are counted.
            ("LUCID_HTTP__IDLE_TIMEOUT", "2s".to_owned()),
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
        let (address, listeners) = lucid::net::bind("127.0.0.1:0".parse().unwrap(), workers).unwrap();
        let doors = listeners.into_iter().map(|listener| vec![Door::Plain(listener)]).collect();
        let mut node = server::reactors(&settings, doors, None, 7, false).unwrap();
        node.state.set(Phase::Serving);
        let run = |reactor: lucid::net::Reactor| {
            std::thread::spawn(move || {
                COUNTS.set(true);
                reactor.run().map(drop)
            })
        };
        let threads = node.reactors.drain(..).map(run).collect();
        InProcess { address, node, threads }
    }

    /// The clients must be gone.
    fn stop(self) {
        self.node.state.set(Phase::Draining);
        self.node.bells.iter().for_each(Doorbell::ring_always);
        for thread in self.threads {
            thread.join().expect("no panic").expect("no failure");
        }
    }
}

const CONNECTIONS: usize = 4;

/// Reads ask for one of so many newest keys: most are there, some were evicted.
const KEYS_RECENT: usize = 10_000;

/// What is asked for of each worker before anything is counted, with keys; three in eight are new.
const WARM_UP_BYTES: usize = 20 * 1_024 * 1_024;

fn api_key(address: SocketAddr) -> String {
    let mut root = Client::connect(address).with_token(&token::root());
    let order = br#"{"name":"key","grants":["kv:read","kv:write"],"prefix":"key-"}"#;
    let made = root.call("POST", "/api/keys", &[], order).expect(201);
    made.json()["key"].as_str().expect("a key").to_owned()
}

/// What the clients have done so far.
struct Load {
    clients: Vec<Client>,
    /// Several clients' tokens, so that none can be remembered by its connection alone. The last is an API
    /// key that is limited to the keys in use.
    tokens: [String; 3],
    random: Random,
    /// Keys are written in the order of their numbers.
    next_key: usize,
    gets: usize,
    puts: usize,
    found: usize,
}

impl Load {
    fn new(address: SocketAddr) -> Load {
        Load {
            clients: (0..CONNECTIONS).map(|_| Client::connect(address)).collect(),
            tokens: [token::root(), token::with_grants(&["kv:read", "kv:write"]), api_key(address)],
            random: Random::seeded(2),
            next_key: 0,
            gets: 0,
            puts: 0,
            found: 0,
        }
    }

    /// Half of the requests read, mostly what is there; of the others most bring new keys.
    fn request(&mut self, value: &[u8]) -> Vec<u8> {
        let back = self.random.below(KEYS_RECENT);
        let known = kv(format!("key-{:08}", self.next_key.saturating_sub(back)));
        let token = &self.tokens[[0, 0, 0, 0, 1, 2, 2, 2][self.random.below(8)]];
        let fields = [("Authorization", &*format!("Bearer {token}"))];
        match self.random.below(8) {
            0..4 => {
                self.gets += 1;
                self.clients[0].compose("GET", &known, &fields, b"")
            }
            4 => {
                self.puts += 1;
                self.clients[0].compose("PUT", &known, &fields, value)
            }
            _ => {
                self.puts += 1;
                self.next_key += 1;
                let new = kv(format!("key-{:08}", self.next_key));
                self.clients[0].compose("PUT", &new, &fields, value)
            }
        }
    }

    /// Puts new keys.
    fn fill(&mut self, requests: usize, depth: usize, value_bytes: usize) {
        let value = vec![b's'; value_bytes];
        let fields = [("Authorization", &*format!("Bearer {}", self.tokens[0]))];
        for round in 0..requests / depth {
            let client = &mut self.clients[round % CONNECTIONS];
            let paths = (0..depth).map(|at| kv(format!("key-{:08}", self.next_key + at)));
            let batch: Vec<u8> =
                paths.flat_map(|path| client.compose("PUT", &path, &fields, &value)).collect();
            client.send(&batch);
            (0..depth).for_each(|_| drop(client.response().expect(201)));
            self.next_key += depth;
        }
    }

    /// Reads the newest keys, as many at a time as can be under way.
    fn read_at_once(&mut self, rounds: usize) {
        let fields = [("Authorization", &*format!("Bearer {}", self.tokens[0]))];
        for _ in 0..rounds {
            for at in 0..CONNECTIONS {
                let newest =
                    (0..CONNECTION_HOPS_MAX).map(|back| kv(format!("key-{:08}", self.next_key - back)));
                let batch: Vec<u8> =
                    newest.flat_map(|path| self.clients[at].compose("GET", &path, &fields, b"")).collect();
                self.clients[at].send(&batch);
            }
            for client in &mut self.clients {
                (0..CONNECTION_HOPS_MAX).for_each(|_| drop(client.response()));
            }
        }
    }

    /// Sends this many requests, `depth` at a time on each connection.
    fn run(&mut self, requests: usize, depth: usize, value_bytes: usize) {
        let value = vec![b'v'; value_bytes];
        for _ in 0..requests / depth / CONNECTIONS {
            for at in 0..CONNECTIONS {
                let batch: Vec<u8> = (0..depth).flat_map(|_| self.request(&value)).collect();
                self.clients[at].send(&batch);
            }
            for client in &mut self.clients {
                for _ in 0..depth {
                    let response = client.response();
                    self.found += usize::from(response.body == value);
                    assert!([200, 201, 404].contains(&response.status), "{response}");
                }
            }
        }
    }
}

/// Holds a node of so many workers to no allocation over this many GETs and as many PUTs.
fn no_allocations(workers: usize, value_bytes: usize, requests: usize) {
    // What a client sends at once fits into a connection's block; a body that does not is read into
    // memory of its own.
    let depth = (28 * 1_024 / (value_bytes + 400)).min(CONNECTION_HOPS_MAX);
    let node = InProcess::start(workers);
    let mut load = Load::new(node.address);
    // Entries come and go that are smaller than those that count, so the index has grown as far as
    // it ever will, and has its spare tables.
    load.fill(WARM_UP_BYTES / (value_bytes + 60) * workers, depth, value_bytes * 2 / 3);
    load.run(4_000 * workers, 1, value_bytes);
    load.run(WARM_UP_BYTES / (value_bytes + 60) * workers, depth, value_bytes);
    // More jobs under way than reads and writes together ever have.
    load.read_at_once(200);
    (load.gets, load.puts, load.found) = (0, 0, 0);
    COUNT.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
    while load.gets < requests / 10 || load.puts < requests / 10 {
        load.run(1_000, 1, value_bytes);
    }
    while load.gets < requests || load.puts < requests {
        load.run(10_000, depth, value_bytes);
    }
    ARMED.store(false, Ordering::SeqCst);
    let (count, first) = (COUNT.load(Ordering::Relaxed), FIRST.lock().unwrap().take());
    assert_eq!(count, 0, "{workers} workers allocated, first {}", first.unwrap_or_default());
    assert!(load.found > load.gets / 10, "{} of {} GETs found their value", load.found, load.gets);
    let mut client = Client::connect(node.address).with_token(&load.tokens[0]);
    let gone = (0..100).filter(|key| client.get(&kv(format!("key-{key:08}"))).status == 404).count();
    assert!(gone > 50, "{gone} of the first 100 keys were evicted");
    drop((client, load));
    node.stop();
}

/// A shard that records all that it does.
struct Recording {
    shard: Shard,
    /// The other end, of which nothing is taken: the ring has room for what is counted.
    _source: journal::Source,
    hasher: KeyHasher,
    now_ms: u64,
}

impl Recording {
    fn new() -> Recording {
        let hasher = KeyHasher::random();
        let config =
            StoreConfig { memory_bytes: 4 << 20, value_bytes_max: 1 << 20, when_full: WhenFull::Evict };
        let shard = Shard::new(Store::new(config, hasher.clone()).unwrap(), Tags::new(7));
        let (tap, source) = journal::connect(Arc::new(Doorbell::new(Box::new(|| {}))));
        let mut recording = Recording { shard, _source: source, hasher, now_ms: 1_700_000_000_000 };
        // Warm before it records, so that the ring is empty when it begins.
        for number in 0..200_000 {
            recording.put(number, 100);
        }
        recording.shard.attach(tap);
        recording
    }

    fn apply(&mut self, number: u64, action: Action<'_>) -> bool {
        let mut key = *b"key-00000000";
        let mut rest = number;
        for digit in key[4..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let op = Operation {
            namespace: Namespace::KV,
            key: &key,
            hash: self.hasher.hash(Namespace::KV, &key),
            action,
            condition: Condition::default(),
            fencing_token: None,
            admin: false,
        };
        self.now_ms += number % 2;
        let outcome = self.shard.apply(&op, Now::from_unix_ms(self.now_ms));
        matches!(outcome, Outcome::Found(_) | Outcome::Created(_) | Outcome::Updated(_) | Outcome::Deleted(_))
    }

    fn put(&mut self, number: u64, bytes: usize) -> bool {
        let value = Payload::Bytes(&[b'v'; 1_000][..bytes]);
        let expiry = if number.is_multiple_of(3) { Expiry::Seconds(1_000) } else { Expiry::Never };
        self.apply(number, Action::Put { value, content_type: None, encoding: Encoding::Identity, expiry })
    }
}

/// What a shard does for its journal takes nothing either, evictions included.
fn no_allocations_of_a_shard_with_a_journal() {
    let mut recording = Recording::new();
    let evicted = recording.shard.stats().evictions;
    assert!(evicted > 0, "it is full");
    COUNT.store(0, Ordering::Relaxed);
    COUNTS.set(true);
    ARMED.store(true, Ordering::SeqCst);
    let mut done = 0;
    for number in 200_000..203_000 {
        done += usize::from(recording.put(number, 100));
        done += usize::from(recording.apply(number - 10, Action::Get));
        if number % 7 == 0 {
            done += usize::from(recording.apply(number - 5, Action::Delete { answer_value: false }));
        }
        recording.shard.take_gate();
        recording.shard.flush_journal();
    }
    ARMED.store(false, Ordering::SeqCst);
    COUNTS.set(false);
    let (count, first) = (COUNT.load(Ordering::Relaxed), FIRST.lock().unwrap().take());
    assert_eq!(count, 0, "first {}", first.unwrap_or_default());
    assert!(done > 5_500, "{done}");
    assert!(recording.shard.stats().evictions > evicted + 1_000, "evictions went on");
    assert!(!recording.shard.is_congested(), "the ring had room for all");
}

#[test]
fn nothing_is_allocated_for_gets_and_puts_once_a_node_is_warm() {
    no_allocations_of_a_shard_with_a_journal();
    no_allocations(2, 100, 100_000);
    no_allocations(1, 1_000, 100_000);
    no_allocations(2, 1_000, 20_000);
    no_allocations_in_databases(1, 20_000);
    no_allocations_in_databases(2, 20_000);
}

/// The same for entries of a database, in forms with and without escapes and in JSON. The values replace each
/// other.
fn no_allocations_in_databases(workers: usize, requests: usize) {
    const KEYS: usize = 200;
    let node = InProcess::start(workers);
    let token = format!("Bearer {}", token::root());
    let mut clients: Vec<Client> =
        (0..CONNECTIONS).map(|_| Client::connect(node.address).with_authorization(&*token)).collect();
    let compose = |client: &Client, number: usize| {
        let (key, value) = (number / 7 % KEYS, number % 10);
        let json = format!("{{\"database_name\":\"a b\",\"key\":\"key:{key}\",\"value\":[{value}]}}");
        let (path, body) = match number % 7 {
            0 => ("set", format!("database_name=a+b&key=key%3A{key}&value=a+%22quoted%22+text")),
            1 => ("get", format!("database_name=a%20b&key=key%3A{key}")),
            2 => ("get", format!("key=key:{key}&database_name=a+b")),
            3 => ("set", json),
            4 => ("get", json.replace(&format!(",\"value\":[{value}]"), "")),
            5 => ("delete", format!("database_name=a+b&key=absent{key}")),
            _ => ("get", format!("database_name=a+b&key=absent{key}")),
        };
        client.compose("POST", &format!("/controller/{path}"), &[], body.as_bytes())
    };
    let mut run = |requests: usize, depth: usize| {
        for round in 0..requests / depth / CONNECTIONS {
            for (at, client) in clients.iter_mut().enumerate() {
                let first = (round * CONNECTIONS + at) * depth;
                let batch: Vec<u8> = (0..depth).flat_map(|next| compose(client, first + next)).collect();
                client.send(&batch);
            }
            for client in &mut clients {
                (0..depth).for_each(|_| drop(client.response_to("POST").expect(200)));
            }
        }
    };
    // The database is to be there before all ask for it at once.
    Client::connect(node.address)
        .with_authorization(&*token)
        .call("POST", "/controller/set", &[], b"database_name=a+b&key=first&value=v")
        .expect(200);
    run(20_000, 1);
    run(60_000, 16);
    COUNT.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
    run(requests / 10, 1);
    run(requests, 16);
    ARMED.store(false, Ordering::SeqCst);
    let (count, first) = (COUNT.load(Ordering::Relaxed), FIRST.lock().unwrap().take());
    assert_eq!(count, 0, "{workers} workers allocated, first {}", first.unwrap_or_default());
    drop(clients);
    node.stop();
}
