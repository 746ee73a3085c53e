//! The kv family from raw request to raw answer over real shards, without a socket and in virtual
//! time: what only shows when several requests meet.

use std::io::Write;
use std::sync::Arc;

use lucid::api::{Api, ApiConfig, Call, Gather, NodeState, Scratch, Tail, Work};
use lucid::auth::{Remembered, Trust, Verifier, VerifierConfig};
use lucid::clock::Now;
use lucid::etag::Tags;
use lucid::http::parse_head;
use lucid::limits::VALUE_COPY_BYTES_MAX;
use lucid::op::{KeyHasher, Large, Payload};
use lucid::shard::Shard;
use lucid::store::{Store, StoreConfig, WhenFull};
use serde_json::{Value, json};

const SHARDS: usize = 3;
const VALUE_BYTES_MAX: u64 = 1 << 20;

struct Node {
    api: Api,
    shards: Vec<Shard>,
    remembered: Remembered,
    now: Now,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

impl Node {
    fn new() -> Node {
        let (hasher, tags) = (KeyHasher::random(), Tags::new(7));
        let shard = || {
            let config = StoreConfig {
                memory_bytes: 64 << 20,
                value_bytes_max: VALUE_BYTES_MAX as usize,
                when_full: WhenFull::Evict,
            };
            Shard::new(Store::new(config, hasher.clone()).unwrap(), tags)
        };
        let shards = (0..SHARDS).map(|_| shard()).collect();
        let verifier = VerifierConfig { enabled: false, secret: b"", leeway_seconds: 0, require_exp: true };
        let api = Api::new(ApiConfig {
            trust: Trust::new(Verifier::new(verifier)).expect("randomness"),
            brake: None,
            hasher,
            tags,
            shards: SHARDS,
            value_bytes_max: VALUE_BYTES_MAX,
            request_bytes_max: 8 << 20,
            default_ttl: None,
            cors_origins: Vec::new(),
            anonymous_head: false,
            restricted: Default::default(),
            state: Arc::new(NodeState::default()),
        });
        Node { api, shards, remembered: Remembered::default(), now: Now::from_unix_ms(1_700_000_000_000) }
    }

    fn pass(&mut self, ms: u64) {
        self.now = Now::from_unix_ms(self.now.unix_ms + ms);
    }

    fn ask(&mut self, lines: &str, body: &[u8]) -> Reply {
        let first = lines.split_once('\n').map_or(lines, |(first, _)| first);
        let fields = &lines[first.len()..].replace('\n', "\r\n");
        let mut head = format!("{first} HTTP/1.1\r\nHost: h{fields}\r\n\r\n").into_bytes();
        let request = parse_head(&head, &mut 0).unwrap().unwrap();
        let mut out = Vec::new();
        match self.api.admit(&request, &mut head, &mut self.remembered, &mut None) {
            Err(problem) => self.api.refuse(Some((&request, &head)), problem, false, &mut out),
            Ok(Call::Page(page)) => {
                self.api.page(&request, &head, page, lucid::shard::Health::Good, false, &mut out)
            }
            Ok(Call::Gather(call)) => match self.api.gather(&request, &head, &call, Payload::Bytes(body)) {
                Err(problem) => self.api.refuse(Some((&request, &head)), problem, false, &mut out),
                Ok(mut gather) => {
                    self.drive(&mut gather);
                    gather.answer(&mut self.api, &request, &head, false, &mut out, self.now);
                }
            },
            Ok(Call::Key(mut call)) => {
                let large: Large = Large::copy_of(body);
                let body = match body.len() {
                    0..=VALUE_COPY_BYTES_MAX => Payload::Bytes(body),
                    _ => Payload::Large(&large),
                };
                let mut scratch = Scratch::default();
                match self.api.operation(&request, &head, &mut call, body, &mut scratch) {
                    Err(problem) => self.api.refuse(Some((&request, &head)), problem, false, &mut out),
                    Ok(operation) => {
                        let shard = &mut self.shards[KeyHasher::owner(call.hash, SHARDS)];
                        let outcome = shard.apply(&operation, self.now);
                        match self
                            .api
                            .answer(&request, &head, body, &call, &outcome, false, &mut out, self.now)
                        {
                            Tail::None => {}
                            Tail::Bytes(bytes) => out.extend_from_slice(bytes),
                            Tail::Large(large, part) => out.extend_from_slice(&large[part]),
                            Tail::Framed(large, behind) => {
                                out.extend_from_slice(&[&large[..], behind].concat());
                            }
                            Tail::Decode(decode) => {
                                let decoded = decode.run();
                                let tail = self
                                    .api
                                    .answer_decoded(&request, &head, decoded, false, &mut out, self.now);
                                if let Tail::Large(large, part) = tail {
                                    out.extend_from_slice(&large[part]);
                                }
                            }
                        }
                    }
                }
            }
        }
        let end = memchr::memmem::find(&out, b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(out[..end].to_vec()).unwrap();
        Reply { status: head[9..12].parse().unwrap(), body: out[end..].to_vec(), head }
    }

    fn drive(&mut self, gather: &mut Gather) {
        while let Some(piece) = gather.next() {
            let (index, shard) = (piece.index, &mut self.shards[piece.shard]);
            match piece.work {
                Work::Operation(operation) => {
                    let outcome = shard.apply(&operation, self.now);
                    gather.accept(index, &outcome);
                }
                Work::Errand(_)
                | Work::List(_)
                | Work::Empty(_)
                | Work::Here(_)
                | Work::Chore(_)
                | Work::Export(_) => {
                    panic!("no API keys, apps, lists, databases or dumps here")
                }
                Work::Scan(namespace, mut scan, _) => {
                    while !shard.scan(namespace, &mut scan, 7, self.now) {}
                    gather.accept_scan(index, scan);
                }
            }
        }
    }

    fn patch(&mut self, body: &str) -> Reply {
        self.ask("PATCH /api/kv/a", body.as_bytes())
    }
}

const CANNOT: &str = "The specified key cannot be updated.";

#[test]
fn a_key_is_made_read_replaced_and_removed() {
    let mut node = Node::new();
    assert_eq!(node.ask("GET /api/kv/a", b"").status, 404);
    let made = node.ask("PUT /api/kv/a\nContent-Type: text/plain", b"one");
    assert_eq!((made.status, made.message().as_str()), (201, "The specified key was successfully created."));
    let read = node.ask("GET /api/kv/a", b"");
    assert_eq!(
        (read.status, &read.body[..], read.field("Content-Type")),
        (200, &b"one"[..], Some("text/plain"))
    );
    assert_eq!(read.field("ETag"), made.field("ETag"));
    let replaced = node.ask("PUT /api/kv/a", b"");
    assert_eq!(
        (replaced.status, replaced.message().as_str()),
        (200, "The specified key was successfully updated.")
    );
    assert_ne!(replaced.field("ETag"), made.field("ETag"));
    let read = node.ask("GET /api/kv/a", b"");
    assert_eq!((&read.body[..], read.field("Content-Type")), (&b""[..], Some("application/octet-stream")));
    let removed = node.ask("DELETE /api/kv/a\nPrefer: return=representation", b"");
    assert_eq!((removed.status, &removed.body[..]), (200, &b""[..]));
    assert_eq!(node.ask("DELETE /api/kv/a", b"").message(), "The specified key does not exists.");
}

#[test]
fn every_key_byte_and_every_size_comes_back() {
    let mut node = Node::new();
    for byte in 0..=255_u8 {
        assert_eq!(node.ask(&format!("PUT /api/kv/%{byte:02X}"), &[byte; 3]).status, 201);
    }
    for byte in 0..=255_u8 {
        assert_eq!(node.ask(&format!("GET /api/kv/%{byte:02x}"), b"").body, [byte; 3]);
    }
    for length in [0, 1, 8_192, 8_193, 32_768, 32_769, 65_536, 1 << 20] {
        let value: Vec<u8> = (0..length).map(|at| (at / 251) as u8).collect();
        assert!(matches!(node.ask("PUT /api/kv/size", &value).status, 200 | 201));
        assert!(node.ask("GET /api/kv/size", b"").body == value, "{length}");
        assert!(
            node.ask("DELETE /api/kv/size\nPrefer: return=representation", b"").body == value,
            "{length}"
        );
    }
}

#[test]
fn conditions_guard_writes_on_both_sides() {
    let mut node = Node::new();
    assert_eq!(node.ask("PUT /api/kv/a\nIf-Match: *", b"x").status, 412);
    assert_eq!(node.ask("PUT /api/kv/a?if=exists", b"x").status, 404);
    let tag = node.ask("PUT /api/kv/a\nIf-None-Match: *", b"x").field("ETag").unwrap().to_owned();
    let refused = node.ask("PUT /api/kv/a\nIf-None-Match: *", b"y");
    assert_eq!((refused.status, refused.field("ETag")), (412, Some(&*tag)));
    assert_eq!(node.ask("GET /api/kv/a\nIf-None-Match: \"x\"", b"").body, b"x");
    assert_eq!(node.ask(&format!("GET /api/kv/a\nIf-None-Match: {tag}"), b"").status, 304);
    assert_eq!(
        node.ask(&format!("PUT /api/kv/a?if=exists\nIf-Match: \"o\"\nIf-Match: {tag}"), b"y").status,
        200
    );
    assert_eq!(node.ask(&format!("PUT /api/kv/a\nIf-Match: {tag}"), b"z").status, 412);
    assert_eq!(node.ask(&format!("DELETE /api/kv/a\nIf-Match: {tag}"), b"").status, 412);
    assert_eq!(node.ask(&format!("PATCH /api/kv/a\nIf-Match: {tag}"), b"lock").status, 412);
}

#[test]
fn locks_hold_off_everyone_but_who_shows_the_token() {
    let mut node = Node::new();
    node.ask("PUT /api/kv/a", b"1");
    let tag = node.ask("HEAD /api/kv/a", b"").field("ETag").unwrap().to_owned();
    let locked = node.patch("lock");
    assert_eq!(locked.message(), "The specified key was successfully locked.");
    assert_eq!(locked.field("ETag"), Some(&*tag), "a lock leaves the tag alone");
    let token = locked.field("X-Fencing-Token").unwrap().to_owned();
    for (lines, body) in [
        ("PUT /api/kv/a", "2"),
        ("PUT /api/kv/a\nIf-Match: \"x\"", "2"),
        ("PUT /api/kv/a\nX-Fencing-Token: 1", "2"),
        ("DELETE /api/kv/a", ""),
        ("PATCH /api/kv/a", "increment"),
        ("PATCH /api/kv/a", "operation=ttl&value=1"),
    ] {
        let reply = node.ask(lines, body.as_bytes());
        assert_eq!((reply.status, reply.message().as_str()), (409, CANNOT), "{lines} {body}");
    }
    assert_eq!(node.patch("lock").message(), "The specified key is already locked.");
    let counted = node.ask(&format!("PATCH /api/kv/a\nX-Fencing-Token: {token}"), b"increment");
    assert_eq!(counted.json()["value"], 2);
    assert_eq!(node.ask("PUT /api/kv/a", b"2").status, 409, "the write keeps the lock");
    assert_eq!(node.patch("unlock").message(), "The specified key was successfully unlocked.");
    assert_eq!(node.patch("unlock").message(), "The specified key is not currently locked.");
    let leased = node.patch(r#"{"operation":"lock","value":30}"#);
    let next: u64 = leased.field("X-Fencing-Token").unwrap().parse().unwrap();
    assert!(next > token.parse().unwrap());
    node.pass(29_999);
    assert_eq!(node.ask("DELETE /api/kv/a", b"").status, 409);
    node.pass(1);
    assert_eq!(node.ask("DELETE /api/kv/a", b"").status, 200);
}

#[test]
fn counters_are_exact_and_refuse_what_is_no_number() {
    let mut node = Node::new();
    assert_eq!(node.patch("increment").status, 404);
    node.ask("PUT /api/kv/a?ttl=100\nContent-Type: text/x", b"9007199254740993");
    let reply = node.patch("increment");
    assert_eq!((reply.status, reply.json()["value"].as_i64()), (200, Some(9_007_199_254_740_994)));
    let read = node.ask("GET /api/kv/a", b"");
    assert_eq!(
        (&read.body[..], read.field("Content-Type"), read.field("X-TTL")),
        (&b"9007199254740994"[..], Some("text/x"), Some("100"))
    );
    assert_eq!(
        node.patch("operation=decrement&value=0.5").message(),
        "The specified key was successfully decremented."
    );
    node.ask("PUT /api/kv/a", b"9223372036854775807");
    assert_eq!(node.patch("increment").status, 400);
    node.ask("PUT /api/kv/a", b"\xff");
    assert_eq!(node.patch("increment").message(), "The specified key is not a valid numeric value.");
    assert_eq!(node.ask("GET /api/kv/a", b"").body, b"\xff");
}

#[test]
fn a_deadline_is_kept_to_the_millisecond_and_can_be_moved_and_cancelled() {
    let mut node = Node::new();
    node.ask("PUT /api/kv/a\nCache-Control: max-age=10", b"x");
    node.pass(1);
    assert_eq!(node.ask("GET /api/kv/a", b"").field("X-TTL"), Some("10"));
    node.pass(9_998);
    assert_eq!(node.ask("HEAD /api/kv/a", b"").field("X-TTL"), Some("1"));
    assert_eq!(node.patch(r#"{"operation":"ttl","value":"20"}"#).field("X-TTL"), Some("20"));
    node.pass(19_999);
    let kept = node.patch("persist");
    assert_eq!((kept.status, kept.field("X-TTL")), (200, None));
    node.pass(1_000_000);
    assert_eq!(node.ask("GET /api/kv/a", b"").status, 200);
    node.patch(r#"{"operation":"ttl","value":1}"#);
    node.pass(999);
    assert_eq!(node.ask("GET /api/kv/a", b"").status, 200);
    node.pass(1);
    assert_eq!(node.ask("GET /api/kv/a", b"").status, 404);
    assert_eq!(node.ask("GET /api/kv", b"").json()["keys"], json!([]));
    assert_eq!(node.ask("PUT /api/kv/a", b"x").status, 201);
}

#[test]
fn a_stored_coding_goes_to_who_accepts_it_and_is_undone_for_others() {
    let mut node = Node::new();
    let text = b"hello ".repeat(30_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&text).unwrap();
    let zipped = encoder.finish().unwrap();
    assert!(zipped.len() > VALUE_COPY_BYTES_MAX);
    let made = node.ask("PUT /api/kv/a\nContent-Encoding: gzip", &zipped);
    let tag = made.field("ETag").unwrap().to_owned();
    assert!(node.ask("GET /api/kv/a\nAccept-Encoding: gzip", b"").body == zipped);
    let decoded = node.ask("GET /api/kv/a", b"");
    assert!(decoded.body == text);
    let decoded_tag = decoded.field("ETag").unwrap();
    assert_eq!(decoded_tag, format!("{}-d\"", &tag[..tag.len() - 1]));
    assert_eq!(node.ask(&format!("PUT /api/kv/a\nIf-Match: {decoded_tag}"), b"x").status, 200);
    assert_eq!(node.ask("PUT /api/kv/a\nContent-Encoding: gzip", b"no gzip").status, 200);
    assert_eq!(node.ask("GET /api/kv/a", b"").status, 406);
}

#[test]
fn a_listing_pages_in_byte_order_over_all_shards() {
    let mut node = Node::new();
    let mut names: Vec<Vec<u8>> =
        (0..250).map(|at| format!("n/{}", at * 7_919 % 1_000).into_bytes()).collect();
    names.push(b"n/\xff\xfe".to_vec());
    names.push("n/é\"".as_bytes().to_vec());
    for name in &names {
        let path: String = name.iter().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(
            node.ask(&format!("PUT /api/kv/{path}?ttl=60\nContent-Type: text/plain"), b"xyz").status,
            201
        );
    }
    node.ask("PUT /api/kv/m", b"");
    node.ask("PUT /api/kv/o", b"");
    names.sort();
    for limit in [1, 7, 100, 252, 1_000] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page =
                node.ask(&format!("GET /api/kv?prefix=n%2F&limit={limit}&cursor={cursor}"), b"").json();
            let keys = page["keys"].as_array().unwrap();
            assert!(keys.len() <= limit);
            for key in keys {
                found.push(match key["name"].as_str() {
                    Some(name) => name.as_bytes().to_vec(),
                    None => {
                        use base64::Engine;
                        let name = key["name_base64"].as_str().unwrap();
                        base64::engine::general_purpose::STANDARD.decode(name).unwrap()
                    }
                });
                assert_eq!(
                    (&key["size"], &key["ttl"], &key["type"]),
                    (&json!(3), &json!(60), &json!("text/plain"))
                );
            }
            assert_eq!(page["complete"].as_bool().unwrap(), page["cursor"].is_null());
            match page["cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(found, names, "{limit}");
    }
    let all = node.ask("GET /api/kv", b"").json();
    assert_eq!((all["keys"].as_array().unwrap().len(), all["complete"].as_bool()), (100, Some(false)));
    assert_eq!(all["keys"][0]["name"], "m");
    assert_eq!(all["keys"][0]["ttl"], Value::Null);
    let tag = node.ask("GET /api/kv/m", b"").field("ETag").unwrap().to_owned();
    assert_eq!(all["keys"][0]["etag"], tag);
    let head = node.ask("HEAD /api/kv?limit=1", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(node.ask("GET /api/kv?limit=1001", b"").status, 400);
}

#[test]
fn a_cursor_stays_where_it_is_while_keys_come_and_go() {
    let mut node = Node::new();
    for name in ["b", "d", "f"] {
        node.ask(&format!("PUT /api/kv/{name}"), b"");
    }
    let page = node.ask("GET /api/kv?limit=2", b"").json();
    let cursor = page["cursor"].as_str().unwrap().to_owned();
    node.ask("DELETE /api/kv/d", b"");
    for name in ["a", "c", "e"] {
        node.ask(&format!("PUT /api/kv/{name}"), b"");
    }
    let page = node.ask(&format!("GET /api/kv?limit=2&cursor={cursor}"), b"").json();
    let names: Vec<&str> =
        page["keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!((names, page["complete"].as_bool()), (vec!["e", "f"], Some(true)));
}

#[test]
fn a_batch_works_through_its_operations_in_order() {
    let mut node = Node::new();
    node.ask("PUT /api/kv/locked", b"1");
    node.ask("PATCH /api/kv/locked", b"lock");
    let body = r#"[{"op":"put","key":"n","value":"1"},{"op":"increment","key":"n","value":41},{"op":"get","key":"n"},
        {"op":"increment","key":"locked"},{"op":"put","key":"b","base64":"/wA","ttl":60},{"op":"get","key":"b"},
        {"op":"ttl","key":"n","ttl":9},{"op":"delete","key":"b"},{"op":"get","key":"b"},{"op":"delete","key":"b"}]"#;
    let results = node.ask("POST /api/kv/batch", body.as_bytes()).json()["results"].clone();
    let statuses: Vec<u64> =
        results.as_array().unwrap().iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 200, 200, 409, 201, 200, 200, 200, 404, 404]);
    assert_eq!((&results[1]["value"], &results[2]["value"]), (&json!(42), &json!("42")));
    assert_eq!(results[3]["message"], CANNOT);
    assert_eq!(results[5]["base64"], "/wA=");
    let read = node.ask("GET /api/kv/n", b"");
    assert_eq!((read.field("ETag"), read.field("X-TTL")), (results[6]["etag"].as_str(), Some("9")));
}

#[test]
fn a_batch_of_a_thousand_writes_and_reads_back() {
    let mut node = Node::new();
    let of = |op: &str, more: &str| {
        let items: Vec<String> =
            (0..1_000).map(|at| format!(r#"{{"op":"{op}","key":"k{at}"{more}}}"#)).collect();
        format!("[{}]", items.join(","))
    };
    for (op, more, status) in
        [("put", r#","value":"v""#, 201), ("get", "", 200), ("delete", "", 200), ("get", "", 404)]
    {
        let results = node.ask("POST /api/kv/batch", of(op, more).as_bytes()).json()["results"].clone();
        let results = results.as_array().unwrap();
        assert_eq!(results.len(), 1_000);
        assert!(results.iter().all(|result| result["status"] == status), "{op}");
    }
}
