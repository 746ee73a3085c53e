//! Reactors with a journal whose writer is the test: what is answered when, and what is not.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{Api, ApiConfig, NodeState, Phase};
use crate::auth::{Ledger, Trust, Verifier, VerifierConfig};
use crate::clock::{Clock, Now};
use crate::doorbell::Doorbell;
use crate::etag::Tags;
use crate::journal::{Handed, Health, Source, connect as connect_journal};
use crate::memory::Memory;
use crate::net::{Door, Helper, Loads, Reactor, ReactorConfig, Recovery, Timeouts, bind, connect};
use crate::op::KeyHasher;
use crate::shard::{Mesh, Registry, Shard};
use crate::store::{Store, StoreConfig, WhenFull};

const MEMORY_BYTES: u64 = 256 << 20;

/// How long a test waits for what has to come, and for what must not.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORTLY: Duration = Duration::from_millis(60);

struct Node {
    address: SocketAddr,
    state: Arc<NodeState>,
    bells: Arc<[Doorbell]>,
    /// The writers' ends, and how many changes came through each.
    sources: Vec<(Source, u64)>,
    threads: Vec<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl Node {
    fn start(workers: usize, idle_ms: u64) -> Node {
        let (state, hasher, tags) = (Arc::new(NodeState::default()), KeyHasher::seeded(3), Tags::new(1));
        state.recover(workers, 0);
        let verifier = VerifierConfig { enabled: false, secret: b"", leeway_seconds: 0, require_exp: true };
        let trust = Trust::new(Verifier::new(verifier)).unwrap();
        let (polls, wakers): (Vec<_>, Vec<_>) = (0..workers).map(|_| Reactor::poll().unwrap()).unzip();
        let bell = |waker: mio::Waker| Doorbell::new(Box::new(move || drop(waker.wake())));
        let bells: Arc<[Doorbell]> = wakers.into_iter().map(bell).collect();
        let memory = Memory::new(MEMORY_BYTES, workers, false).unwrap();
        let loads = Loads::new(workers);
        let (address, listeners) = bind("127.0.0.1:0".parse().unwrap(), workers).unwrap();
        let mut ledger = Ledger::new(&trust, memory.clone(), workers, 0).unwrap();
        let mut registry = Registry::new(memory.clone(), workers);
        let nothing = std::iter::empty::<(Vec<u8>, Vec<u8>)>;
        ledger.restore(nothing()).unwrap();
        registry.restore(nothing()).unwrap();
        let mut ledger = Some((ledger, registry));
        let (mut sources, mut threads) = (Vec::new(), Vec::new());
        let parts = polls.into_iter().zip(listeners).zip(Mesh::connect(bells.clone()));
        for (((poll, listener), mesh), helper) in parts.zip(Helper::start(bells.clone()).unwrap()) {
            let store = StoreConfig {
                memory_bytes: memory.shard_bytes_max(),
                value_bytes_max: 10 << 20,
                when_full: WhenFull::Reject,
            };
            let api = Api::new(ApiConfig {
                trust: trust.clone(),
                brake: None,
                hasher: hasher.clone(),
                tags,
                shards: workers,
                value_bytes_max: 10 << 20,
                request_bytes_max: 20 << 20,
                default_ttl: None,
                cors_origins: Vec::new(),
                anonymous_head: false,
                restricted: Arc::default(),
                state: state.clone(),
            });
            let api = match ledger.take() {
                Some((ledger, registry)) => api.with_ledger(ledger, registry),
                None => api,
            };
            let (tap, source) = connect_journal(Arc::new(Doorbell::new(Box::new(|| {}))));
            sources.push((source, 0));
            let (recovering, mut tap) = (state.clone(), Some(tap));
            let recovery = Recovery::new(move |shard: &mut Shard, _: Now| {
                tap.take().into_iter().for_each(|tap| shard.attach(tap));
                recovering.has_recovered();
                Ok(true)
            });
            let config = ReactorConfig {
                api,
                shard: Shard::new(Store::new(store, hasher.clone()).unwrap(), tags),
                recovery: Some(recovery),
                mesh,
                helper,
                doors: vec![Door::Plain(listener)],
                certificates: None,
                loads: loads.clone(),
                connections_max: 1_000,
                memory: memory.clone(),
                timeouts: Timeouts { head_ms: idle_ms, idle_ms },
                clock: Clock::start(),
                state: state.clone(),
                control: connect().1,
            };
            let reactor = Reactor::new(poll, config).unwrap();
            threads.push(std::thread::spawn(move || reactor.run().map(drop)));
        }
        let mut node = Node { address, state, bells, sources, threads };
        until(|| node.state.phase() == Phase::Serving);
        // What every node has: its key, its numbers, the default app.
        node.hears(1);
        node.keep();
        node
    }

    /// Takes what was handed over; how many changes that were.
    fn take(&mut self) -> u64 {
        let mut taken = 0;
        for (source, count) in &mut self.sources {
            let changes = source.drain().iter().filter(|it| matches!(it, Handed::Change(_))).count() as u64;
            *count += changes;
            taken += changes;
        }
        taken
    }

    /// Waits until so many changes have been handed over.
    #[track_caller]
    fn hears(&mut self, changes: u64) {
        let mut heard = 0;
        until(|| {
            heard += self.take();
            heard >= changes
        });
        assert_eq!(heard, changes);
    }

    /// Everything that was taken is kept.
    fn keep(&mut self) {
        self.sources.iter().for_each(|(source, count)| source.keep_up_to(*count));
        self.bells.iter().for_each(Doorbell::ring);
    }

    fn be(&self, health: Health) {
        self.sources.iter().for_each(|(source, _)| source.be(health));
        self.bells.iter().for_each(Doorbell::ring);
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream, Vec::new())
    }

    fn stop(self) {
        self.state.set(Phase::Draining);
        self.bells.iter().for_each(Doorbell::ring_always);
        for thread in self.threads {
            thread.join().expect("no panic").expect("no failure");
        }
    }
}

#[track_caller]
fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        std::thread::yield_now();
    }
}

/// A connection, and what came of the next answer.
struct Client(TcpStream, Vec<u8>);

/// What comes of waiting for an answer.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Answer(u16, String),
    Silence,
    End,
}

impl Client {
    fn send(&mut self, method: &str, path: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        self.0.write_all(&[head.as_bytes(), body].concat()).unwrap();
    }

    fn put(&mut self, key: &str, value: impl AsRef<[u8]>) {
        self.send("PUT", &format!("/api/kv/{key}"), value);
    }

    fn get(&mut self, key: &str) {
        self.send("GET", &format!("/api/kv/{key}"), "");
    }

    fn hear(&mut self, patience: Duration) -> Heard {
        self.0.set_read_timeout(Some(patience)).unwrap();
        loop {
            if let Some(heard) = self.parse() {
                return heard;
            }
            let mut block = [0; 65_536];
            match self.0.read(&mut block) {
                Ok(0) => return Heard::End,
                Ok(count) => self.1.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Heard::Silence,
                Err(_) => return Heard::End,
            }
        }
    }

    /// Reads until these bytes have come; all before them. `None` when they do not.
    fn raw(&mut self, until: &[u8], patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut from = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.1[from..], until) {
                let all = String::from_utf8_lossy(&self.1[..from + at]).into();
                self.1.drain(..from + at + until.len());
                return Some(all);
            }
            from = self.1.len().saturating_sub(until.len());
            let mut block = [0; 65_536];
            match self.0.read(&mut block) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.1.extend_from_slice(&block[..count]),
            }
        }
    }

    fn parse(&mut self) -> Option<Heard> {
        let end = self.1.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.1[..end].to_vec()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let body = self.1.get(end..end + length)?;
        let heard = Heard::Answer(head[9..12].parse().unwrap(), String::from_utf8_lossy(body).into());
        self.1.drain(..end + length);
        Some(heard)
    }

    #[track_caller]
    fn expect(&mut self, status: u16) -> String {
        match self.hear(PATIENCE) {
            Heard::Answer(code, body) if code == status => body,
            other => panic!("{other:?} instead of {status}"),
        }
    }

    #[track_caller]
    fn hears_nothing(&mut self) {
        assert_eq!(self.hear(SHORTLY), Heard::Silence);
    }
}

#[test]
fn nobody_is_told_of_what_is_not_kept_and_everybody_else_is_answered() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut writers: Vec<_> = (0..8).map(|_| node.client()).collect();
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.put(&format!("key-{number}"), "value");
        }
        node.hears(8);
        let mut readers: Vec<_> = (0..8).map(|_| node.client()).collect();
        for (number, reader) in readers.iter_mut().enumerate() {
            reader.get(&format!("key-{number}"));
        }
        let mut lister = node.client();
        lister.send("GET", "/api/kv", "");
        let mut batch = node.client();
        batch.send("POST", "/api/kv/batch", r#"[{"op":"get","key":"key-1"}]"#);
        let mut other = node.client();
        other.get("absent");
        other.expect(404);
        other.send("GET", "/readyz", "");
        other.expect(200);
        for client in writers.iter_mut().chain(&mut readers).chain([&mut lister, &mut batch]) {
            client.hears_nothing();
        }
        node.keep();
        writers.iter_mut().for_each(|writer| drop(writer.expect(201)));
        readers.iter_mut().for_each(|reader| assert_eq!(reader.expect(200), "value"));
        assert_eq!(lister.expect(200).matches("key-").count(), 8);
        assert!(batch.expect(200).contains("value"));
        drop((writers, readers, lister, batch, other));
        node.stop();
    }
}

#[test]
fn an_order_waits_until_the_ledger_is_kept_and_a_list_until_its_call_is() {
    let mut node = Node::start(2, 10_000);
    let mut maker = node.client();
    maker.send("POST", "/api/keys", r#"{"name":"k","grants":["kv:read"]}"#);
    node.hears(1);
    let mut other = node.client();
    other.send("GET", "/api/keys", "");
    other.hears_nothing();
    maker.hears_nothing();
    node.keep();
    maker.expect(201);
    assert!(other.expect(200).contains("\"k\""));
    maker.send("POST", "/list/add", r#"{"key":"l","values":[1,2]}"#);
    node.hears(1);
    other.send("GET", "/list/count?key=l", "");
    other.hears_nothing();
    maker.hears_nothing();
    node.keep();
    maker.expect(200);
    assert!(other.expect(200).contains("\"data\":2"));
    drop((maker, other));
    node.stop();
}

/// Keeps what comes until an answer does.
#[track_caller]
fn answer_of(node: &mut Node, client: &mut Client) -> (u16, String) {
    let began = Instant::now();
    loop {
        node.take();
        node.keep();
        match client.hear(Duration::from_millis(1)) {
            Heard::Answer(code, body) => return (code, body),
            Heard::Silence => assert!(began.elapsed() < PATIENCE, "it is not answered"),
            Heard::End => panic!("it is closed"),
        }
    }
}

#[test]
fn no_core_shows_a_change_of_the_databases_before_it_is_kept_as_one_record() {
    let execute = |client: &mut Client, query: &str| {
        client.send("POST", "/execute", format!(r#"{{"query":"{query}"}}"#));
    };
    for (order, before, after) in [
        ("DATABASE_DELETE old", (200, "\"v\""), (404, "")),
        ("DATABASE_POP old", (200, "\"v\""), (200, "null")),
        ("DATABASE_RENAME old other", (200, "\"v\""), (404, "")),
        ("DATABASE_POP_ALL", (200, "\"v\""), (200, "null")),
        ("DATABASE_DELETE_ALL", (200, "\"v\""), (404, "")),
        ("SET new 0 v", (404, ""), (200, "null")),
    ] {
        let mut node = Node::start(2, 10_000);
        let mut maker = node.client();
        for database in ["old", "two", "three", "four", "five"] {
            for key in 0..8 {
                execute(&mut maker, &format!("SET {database} {key} v"));
                assert_eq!(answer_of(&mut node, &mut maker).0, 200);
            }
        }
        let asked = if order.starts_with("SET") { "new" } else { "old" };
        // On both cores.
        let mut readers: Vec<_> = (0..8).map(|_| node.client()).collect();
        execute(&mut maker, order);
        node.hears(1);
        for key in 1..8 {
            readers.iter_mut().for_each(|reader| execute(reader, &format!("GET {asked} {key}")));
            for reader in &mut readers {
                assert!(reader.expect(before.0).contains(before.1), "{order}");
            }
        }
        maker.hears_nothing();
        node.keep();
        assert_eq!(answer_of(&mut node, &mut maker).0, 200, "{order}");
        for reader in &mut readers {
            execute(reader, &format!("GET {asked} 1"));
            let (code, body) = answer_of(&mut node, reader);
            assert!(code == after.0 && body.contains(after.1), "{order}: {code} {body}");
        }
        drop(readers);
        drop(maker);
        node.stop();
    }
}

#[test]
fn answers_of_a_connection_keep_their_order_behind_one_that_waits() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut client = node.client();
        client.put("a", "1");
        client.send("GET", "/livez", "");
        client.get("absent");
        client.get("a");
        let mut heard = 0;
        until(|| {
            heard += node.take();
            heard == 1
        });
        client.hears_nothing();
        node.keep();
        client.expect(201);
        assert_eq!(client.expect(200), "alive\n");
        client.expect(404);
        assert_eq!(client.expect(200), "1");
        drop(client);
        node.stop();
    }
}

#[test]
fn who_waits_for_the_disk_is_not_taken_for_slow() {
    let mut node = Node::start(1, 100);
    let mut client = node.client();
    client.put("a", "1");
    node.hears(1);
    let mut large = node.client();
    large.put("large", vec![b'x'; 200_000]);
    node.hears(1);
    for _ in 0..8 {
        client.hears_nothing();
        large.hears_nothing();
    }
    node.keep();
    client.expect(201);
    large.expect(201);
    // Its time begins then.
    client.get("large");
    assert_eq!(client.expect(200).len(), 200_000);
    assert_eq!(client.hear(PATIENCE), Heard::End, "it idles");
    drop((client, large));
    node.stop();
}

#[test]
fn when_the_disk_has_failed_nobody_hears_of_what_is_not_kept() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut client = node.client();
        client.put("kept", "1");
        node.hears(1);
        node.keep();
        client.expect(201);
        let mut lost: Vec<_> = (0..8).map(|_| node.client()).collect();
        for (number, writer) in lost.iter_mut().enumerate() {
            writer.put(&format!("lost-{number}"), "x");
        }
        node.hears(8);
        for (path, body) in [
            ("/list/add", r#"{"key":"l","values":[1]}"#),
            ("/item/write", r#"{"key":"i","value":1}"#),
            ("/apps", r#"{"name":"a"}"#),
            ("/api/keys", r#"{"name":"k","grants":["kv:read"]}"#),
            ("/controller/set", r#"{"database_name":"d","key":"k","value":1}"#),
            ("/api/kv/batch", r#"[{"op":"get","key":"kept"},{"op":"put","key":"b","value":"x"}]"#),
        ] {
            lost.push(node.client());
            lost.last_mut().unwrap().send("POST", path, body);
            until(|| node.take() > 0);
        }
        for path in ["/api/kv/lost-3", "/api/kv", "/list/read?key=l", "/apps"] {
            lost.push(node.client());
            lost.last_mut().unwrap().send("GET", path, "");
        }
        lost.iter_mut().for_each(Client::hears_nothing);
        node.be(Health::Failed);
        for (number, client) in lost.iter_mut().enumerate() {
            let told = client.expect(503);
            let is_text = number == 12;
            assert!(is_text || told.to_lowercase().contains("outcome_unknown"), "{number}: {told}");
            assert!(told.contains("may be there or not"), "{told}");
        }
        for (method, path, body) in [
            ("PUT", "/api/kv/new", "x"),
            ("DELETE", "/api/kv/kept", ""),
            ("POST", "/list/add", r#"{"key":"l","values":[1]}"#),
            ("POST", "/apps", r#"{"name":"a"}"#),
        ] {
            client.send(method, path, body);
            let refused = client.expect(503).to_lowercase();
            // What is ordered of the node itself waits for all that was.
            let is_order = path == "/apps" && refused.contains("outcome_unknown");
            assert!(is_order || refused.contains("disk_failed"), "{path}: {refused}");
        }
        let mut client = node.client();
        client.send("GET", "/readyz", "");
        assert!(client.expect(503).contains("failed"));
        client.get("kept");
        assert_eq!(client.expect(200), "1");
        // What is refused shows nothing, also of a key of which something is lost.
        client.put("lost-1", "x");
        assert!(client.expect(503).contains("disk_failed"));
        let mut reader = node.client();
        reader.get("lost-1");
        assert!(reader.expect(503).contains("outcome_unknown"));
        drop((client, lost, reader));
        node.stop();
    }
}

#[test]
fn when_the_time_to_stop_is_over_whoever_waits_for_the_disk_is_told_that_nothing_is_known() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut writers: Vec<_> = (0..8).map(|_| node.client()).collect();
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.put(&format!("key-{number}"), "x");
        }
        let mut batch = node.client();
        batch.send(
            "POST",
            "/api/kv/batch",
            r#"[{"op":"put","key":"a","value":"x"},{"op":"put","key":"b","value":"x"}]"#,
        );
        node.hears(10);
        // Some of them are answered in part already, and wait for another core.
        let mut pipelines: Vec<_> = (0..8).map(|_| node.client()).collect();
        for (number, pipeline) in pipelines.iter_mut().enumerate() {
            pipeline.get(&format!("absent-{number}"));
            pipeline.put(&format!("behind-{number}"), "x");
        }
        node.hears(8);
        let mut uploader = node.client();
        uploader.0.write_all(b"PUT /api/kv/never HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nx").unwrap();
        node.state.set(Phase::Draining);
        node.bells.iter().for_each(Doorbell::ring_always);
        writers.iter_mut().for_each(Client::hears_nothing);
        node.state.set(Phase::Closing);
        node.bells.iter().for_each(Doorbell::ring_always);
        for client in writers.iter_mut().chain([&mut batch]) {
            assert!(client.expect(503).contains("outcome_unknown"));
            assert_eq!(client.hear(PATIENCE), Heard::End);
        }
        for pipeline in &mut pipelines {
            pipeline.expect(404);
            assert!(pipeline.expect(503).contains("outcome_unknown"));
            assert_eq!(pipeline.hear(PATIENCE), Heard::End);
        }
        assert_eq!(uploader.hear(PATIENCE), Heard::End);
        for thread in node.threads {
            thread.join().expect("no panic").expect("no failure");
        }
    }
}

#[test]
fn of_a_pipeline_what_is_kept_is_answered_and_the_first_that_is_not_ends_it_when_the_disk_has_failed() {
    let mut node = Node::start(1, 10_000);
    let mut client = node.client();
    let large = "x".repeat(200_000);
    client.put("kept", &large);
    node.hears(1);
    node.keep();
    client.expect(201);
    client.get("absent");
    client.get("kept");
    client.put("lost", "1");
    client.get("kept");
    client.put("never done", "2");
    let mut head = node.client();
    head.send("HEAD", "/api/kv/lost", "");
    node.hears(1);
    node.be(Health::Failed);
    client.expect(404);
    assert_eq!(client.expect(200).len(), large.len());
    assert!(client.expect(503).contains("outcome_unknown"));
    assert_eq!(client.hear(PATIENCE), Heard::End);
    drop((client, head));
    node.stop();
}

#[test]
fn a_long_answer_shows_nothing_that_is_not_kept() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut writer = node.client();
        // Over a page, so that what there is of it could go before the rest.
        for number in 0..40 {
            let value = format!("value-{number}-{}", "x".repeat(4_000));
            let set = format!(r#"{{"database_name":"d","key":"k{number}","value":"{value}"}}"#);
            writer.send("POST", "/controller/set", set);
            until(|| {
                node.take();
                node.keep();
                writer.hear(Duration::from_millis(1)) != Heard::Silence
            });
        }
        let get_all = r#"{"database_name":"d"}"#;
        writer.send("POST", "/controller/get_all", get_all);
        let all = writer.raw(b"0\r\n\r\n", PATIENCE).expect("all of it");
        assert_eq!(all.matches("value-").count(), 40);
        for number in 0..40 {
            let value = format!("other-{number}-{}", "x".repeat(4_000));
            let set = format!(r#"{{"database_name":"d","key":"k{number}","value":"{value}"}}"#);
            let mut setter = node.client();
            setter.send("POST", "/controller/set", set);
            until(|| node.take() > 0);
        }
        let mut readers = [node.client(), node.client()];
        readers[0].send("POST", "/controller/get_all", get_all);
        readers[1].send("GET", "/api/dump", "");
        for reader in &mut readers {
            assert_eq!(reader.raw(b"other-", SHORTLY), None, "it shows what is not kept");
        }
        node.be(Health::Failed);
        readers[0].expect(503);
        assert_eq!(readers[1].raw(b"0\r\n\r\n", PATIENCE), None);
        drop((writer, readers));
        node.stop();
    }
}

#[test]
fn an_answer_of_which_a_part_has_gone_ends_without_its_end_when_the_disk_has_failed() {
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut writer = node.client();
        for number in 0..60 {
            writer.put(&format!("large-{number}"), vec![b'v'; 500_000]);
            node.hears(1);
            node.keep();
            writer.expect(201);
        }
        // More than fits between here and there, so it has not ended when something is written.
        let mut reader = node.client();
        reader.send("GET", "/api/dump", "");
        reader.raw(b"\"large-", PATIENCE).expect("its beginning");
        writer.put("lost", "x");
        node.hears(1);
        assert_eq!(reader.raw(b"0\r\n\r\n", SHORTLY), None, "it has come to its end");
        node.be(Health::Failed);
        assert_eq!(reader.raw(b"0\r\n\r\n", PATIENCE), None);
        assert_eq!(memchr::memmem::find(&reader.1, b"HTTP/1.1"), None, "an answer within an answer");
        assert_eq!(reader.hear(PATIENCE), Heard::End);
        assert!(writer.expect(503).contains("outcome_unknown"));
        drop((writer, reader));
        node.stop();
    }
}

#[test]
fn while_the_disk_is_full_what_takes_room_is_refused_and_the_rest_goes_on() {
    let mut node = Node::start(2, 10_000);
    let mut client = node.client();
    client.put("there", "1");
    node.hears(1);
    node.keep();
    client.expect(201);
    node.be(Health::Full);
    for (method, path, body) in [
        ("PUT", "/api/kv/new", "x"),
        ("PATCH", "/api/kv/there", "increment"),
        ("POST", "/item/write", r#"{"key":"i","value":1}"#),
        ("POST", "/list/add", r#"{"key":"l","values":[1]}"#),
        ("POST", "/apps", r#"{"name":"a"}"#),
        ("POST", "/execute", r#"{"query":"SET fresh k v"}"#),
        ("POST", "/execute", r#"{"query":"INCR fresh k"}"#),
    ] {
        client.send(method, path, body);
        let refused = client.expect(507).to_lowercase();
        assert!(refused.contains("disk_full") || refused.starts_with("the disk is full"), "{refused}");
    }
    assert_eq!(node.take(), 0);
    client.send("POST", "/execute", r#"{"query":"DATABASE_LIST"}"#);
    assert_eq!(client.expect(200), "{}", "what is refused makes no database");
    client.get("there");
    assert_eq!(client.expect(200), "1");
    client.send("GET", "/readyz", "");
    assert!(client.expect(200).contains("full"));
    client.send("DELETE", "/api/kv/there", "");
    node.hears(1);
    client.hears_nothing();
    node.keep();
    client.expect(200);
    node.be(Health::Good);
    client.put("new", "x");
    node.hears(1);
    node.keep();
    client.expect(201);
    drop(client);
    node.stop();
}

#[test]
fn writes_wait_while_the_journal_is_behind_and_reads_go_on() {
    const COUNT: usize = 150;
    for workers in [1, 2] {
        let mut node = Node::start(workers, 10_000);
        let mut client = node.client();
        client.put("read", "here");
        node.hears(1);
        node.keep();
        client.expect(201);
        // Together several times what the rings hold, to all workers.
        let mut writers: Vec<_> = (0..COUNT).map(|_| node.client()).collect();
        for (number, writer) in writers.iter_mut().enumerate() {
            writer.put(&format!("key-{number}"), vec![b'x'; 30_000]);
            writer.get(&format!("key-{number}"));
        }
        for _ in 0..50 {
            client.get("read");
            assert_eq!(client.expect(200), "here");
        }
        writers.iter_mut().take(10).for_each(Client::hears_nothing);
        // The writer is back.
        let mut heard = 0;
        until(|| {
            let changes = node.take();
            heard += changes;
            node.keep();
            heard == COUNT as u64
        });
        for writer in &mut writers {
            writer.expect(201);
            assert_eq!(writer.expect(200).len(), 30_000);
        }
        drop((client, writers));
        node.stop();
    }
}

#[test]
fn a_batch_that_meets_a_journal_that_is_behind_goes_on_where_it_stopped() {
    let mut node = Node::start(2, 10_000);
    let mut client = node.client();
    let value = "x".repeat(20_000);
    let puts: Vec<String> = (0..400)
        .map(|number| format!(r#"{{"op":"put","key":"key-{}","value":"{number}-{value}"}}"#, number % 10))
        .collect();
    client.send("POST", "/api/kv/batch", format!("[{}]", puts.join(",")));
    let mut heard = 0;
    until(|| {
        heard += node.take();
        node.keep();
        heard == 400
    });
    let body = client.expect(200);
    assert_eq!(body.matches("\"status\":201").count(), 10);
    assert_eq!(body.matches("\"status\":200").count(), 390);
    for last in 390..400 {
        client.get(&format!("key-{}", last % 10));
        assert!(client.expect(200).starts_with(&format!("{last}-")), "operations on a key keep their order");
    }
    drop(client);
    node.stop();
}
