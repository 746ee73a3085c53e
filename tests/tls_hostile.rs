//! Clients that misuse TLS: the node lives, stays small, and serves the others.

mod common;

use common::client::PATIENCE;
use common::process::resident_bytes;
use common::tls::{Pair, VERSIONS, begin, client_hello, connect, try_connect};
use common::{Client, Node, Random, kv, token};
use rustls::version::TLS13;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// One at a time: these tests measure time and memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stream
}

/// How long until the node ends a connection.
fn time_to_end(stream: &mut TcpStream, began: Instant) -> Duration {
    let mut block = [0; 4_096];
    loop {
        match stream.read(&mut block) {
            Ok(0) => return began.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return began.elapsed(),
            Err(error) => panic!("not ended after {:?}: {error}", began.elapsed()),
        }
    }
}

#[test]
fn a_handshake_has_the_time_of_a_head_however_it_dribbles() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair).set("http.header_timeout", "1s").set("http.idle_timeout", "60s");
    });
    let hello = client_hello(&pair.trusted(&TLS13));
    let began = Instant::now();
    let mut silent = raw(node.tls_address());
    let mut half = raw(node.tls_address());
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    let mut unfinished = raw(node.tls_address());
    unfinished.write_all(&hello).unwrap();
    // One that always has a byte more does not get more time.
    let mut dribbler = raw(node.tls_address());
    dribbler.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    let mut sent = 0;
    let dribbled = loop {
        if sent < hello.len() / 2 {
            let _ = dribbler.write_all(&hello[sent..sent + 1]);
            sent += 1;
        }
        match dribbler.read(&mut [0; 64]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break began.elapsed(),
        }
        assert!(began.elapsed() < PATIENCE, "the dribbler lives");
    };
    for ended in [
        dribbled,
        time_to_end(&mut silent, began),
        time_to_end(&mut half, began),
        time_to_end(&mut unfinished, began),
    ] {
        assert!(ended > Duration::from_millis(900) && ended < Duration::from_secs(4), "{ended:?}");
    }
    node.assert_well();
}

#[test]
fn half_open_handshakes_count_as_connections() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair).set("http.max_connections", 10);
    });
    let mut one = node.client();
    one.get("/livez").expect(200);
    let half: Vec<_> = (0..9).map(|_| raw(node.tls_address())).collect();
    // Served in the order in which they came, so once this one is refused, those are counted.
    let mut beyond = raw(node.tls_address());
    assert!(time_to_end(&mut beyond, Instant::now()) < PATIENCE);
    let mut beyond = Client::connect(node.address());
    beyond.get("/livez").expect(503);
    one.get("/livez").expect(200);
    drop(half);
    let began = Instant::now();
    loop {
        let mut client = node.client();
        if client.try_response_to_get("/livez").is_ok_and(|answer| answer.status == 200) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the places are not given back");
    }
}

/// A pair whose signatures are slow.
fn rsa_pair() -> Option<Pair> {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:4096", "-nodes", "-days", "100", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder.path())
        .output();
    let Ok(made) = made else {
        println!("SKIPPED: openssl is not installed");
        return None;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| std::fs::read_to_string(folder.path().join(name)).expect("a file");
    Some(Pair { certificate: read("cert.pem"), key: read("key.pem") })
}

#[test]
fn a_flood_of_handshakes_does_not_starve_those_who_are_in() {
    flood_of_handshakes(b"");
}

#[test]
fn a_flood_of_handshakes_that_fail_once_they_were_worked_on_does_not_either() {
    // A record under keys that nobody has, right behind the first message.
    flood_of_handshakes(&[&[0x17, 3, 3, 0, 32][..], &[0; 32]].concat());
}

/// 200 clients begin a handshake at once, each with this behind its first message.
fn flood_of_handshakes(behind: &[u8]) {
    let _alone = alone();
    let Some(pair) = rsa_pair() else { return };
    let node = Node::start(|setup| {
        setup.tls(&pair);
    });
    let config = pair.trusted(&TLS13);
    let mut plain = node.client();
    let mut over_tls = connect(node.tls_address(), &config).with_token(&token::root());
    plain.put(&kv("x"), "1").expect(201);
    over_tls.get(&kv("x")).expect(200);
    let hello = [&client_hello(&config)[..], behind].concat();
    let mut flood: Vec<TcpStream> = (0..200).map(|_| raw(node.tls_address())).collect();
    let began = Instant::now();
    flood.iter_mut().for_each(|stream| stream.write_all(&hello).expect("an open connection"));
    let mut longest = Duration::ZERO;
    let mut rounds = 0;
    flood.iter().for_each(|stream| stream.set_nonblocking(true).expect("a socket"));
    let mut waiting: Vec<&TcpStream> = flood.iter().collect();
    while !waiting.is_empty() {
        for client in [&mut plain, &mut over_tls] {
            let asked = Instant::now();
            client.get(&kv("x")).expect(200);
            longest = longest.max(asked.elapsed());
        }
        rounds += 1;
        waiting
            .retain(|stream| stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        assert!(began.elapsed() < PATIENCE, "{} handshakes were never answered", waiting.len());
    }
    let all = began.elapsed();
    println!("200 handshakes in {all:?}, {rounds} rounds of requests beside them, the longest {longest:?}");
    assert!(rounds >= 20, "{rounds} rounds of requests within {all:?}");
    assert!(longest < all / 4 + Duration::from_millis(20), "{longest:?} of {all:?}");
    node.assert_well();
}

#[test]
fn garbage_in_place_of_tls_and_within_it_hurts_nobody() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair).workers(2).set("http.header_timeout", "300ms").set("http.idle_timeout", "300ms");
    });
    let seed = std::env::var("LUCID_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(46);
    println!("seed {seed}");
    let mut random = Random::seeded(seed);
    let configs = VERSIONS.map(|version| pair.trusted(version));
    let mut streams = Vec::new();
    for round in 0..600 {
        let config = &configs[round % 2];
        let mut bytes = client_hello(config);
        let mut stream = if round % 3 == 0 {
            // Behind a good handshake.
            let mut tls = try_connect(node.tls_address(), config).expect("a connection");
            tls.conn.writer().write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            bytes.clear();
            tls.conn.write_tls(&mut bytes).unwrap();
            tls.sock
        } else {
            raw(node.tls_address())
        };
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.next() as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, random.next() as u8),
                _ => bytes.truncate(at + 1),
            }
        }
        if round % 5 == 0 {
            bytes.extend((0..random.below(40_000)).map(|_| random.next() as u8));
        }
        let _ = stream.write_all(&bytes);
        streams.push(stream);
        if streams.len() > 50 {
            streams.clear();
        }
    }
    // A message that claims to be as long as it can be, and comes.
    let mut endless = raw(node.tls_address());
    let record = [&[22, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 16_380]].concat();
    for _ in 0..8 {
        let _ = endless.write_all(&record);
    }
    time_to_end(&mut endless, Instant::now());
    node.assert_well();
    connect(node.tls_address(), &configs[1]).get("/livez").expect(200);
}

#[test]
fn clients_that_ask_and_do_not_read_cost_a_bounded_amount_and_lose_nothing() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair).workers(2);
    });
    let value: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).take(2_000_000).collect();
    node.client().put(&kv("slow"), &value).expect(201);
    let config = pair.trusted(&TLS13);
    let mut clients: Vec<Client> =
        (0..64).map(|_| connect(node.tls_address(), &config).with_token(&token::root())).collect();
    clients.iter_mut().for_each(|client| drop(client.get("/livez").expect(200)));
    let before = resident_bytes(node.pid());
    for client in &mut clients {
        let gets: Vec<u8> = (0..20).flat_map(|_| client.compose("GET", &kv("slow"), &[], b"")).collect();
        client.send(&gets);
    }
    // Others are served meanwhile, and by their answers all of those have been looked at.
    for _ in 0..200 {
        node.client().get(&kv("slow")).expect(200);
    }
    let grown = resident_bytes(node.pid()).saturating_sub(before);
    println!("64 clients that do not read 2.5 GiB: {} KiB more", grown / 1024);
    assert!(grown < 32 * MIB, "{} MiB more", grown / MIB);
    for client in clients.iter_mut().take(8) {
        for _ in 0..20 {
            assert!(client.response().expect(200).body == value, "an answer has changed on the way");
        }
    }
    node.assert_well();
}

#[test]
fn records_that_hold_nothing_do_not_hold_up_others() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair);
    });
    let mut tls = try_connect(node.tls_address(), &pair.trusted(&TLS13)).expect("a connection");
    // Requests in records of one byte, as many as the socket takes at once.
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut flood = Vec::new();
    for _ in 0..400 {
        for byte in request {
            tls.conn.writer().write_all(std::slice::from_ref(byte)).unwrap();
            tls.conn.write_tls(&mut flood).unwrap();
        }
    }
    let mut writer = tls.sock.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&flood).unwrap());
        let mut plain = node.client();
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            let asked = Instant::now();
            plain.get("/livez").expect(200);
            longest = longest.max(asked.elapsed());
        }
        assert!(longest < Duration::from_millis(200), "{longest:?}");
        let mut client = Client::over_tls(tls);
        for _ in 0..400 {
            client.response().expect(200);
        }
    });
    node.assert_well();
}

#[test]
fn idle_tls_connections_stay_small() {
    let _alone = alone();
    let pair = Pair::new();
    let node = Node::start(|setup| {
        setup.tls(&pair).set("http.idle_timeout", "120s");
    });
    let config = pair.trusted(&TLS13);
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|_| {
                let mut client = connect(node.tls_address(), &config);
                client.get("/livez").expect(200);
                client
            })
            .collect()
    };
    let first = open(100);
    let before = resident_bytes(node.pid());
    let more = open(500);
    let each = resident_bytes(node.pid()).saturating_sub(before) / 500;
    println!("{each} bytes for each idle connection");
    assert!(each < 24 * 1_024, "{each} bytes for each idle connection");
    drop((first, more));
    let half: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = raw(node.tls_address());
            let _ = begin(&config).write_tls(&mut stream);
            stream
        })
        .collect();
    node.assert_well();
    drop(half);
}
