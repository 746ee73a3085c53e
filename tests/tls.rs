//! TLS serves the same API: versions, resumption, close, reload, and what stands in the files.

mod common;

use common::client::Trouble;
use common::node::Setup;
use common::tls::{Pair, VERSIONS, begin, connect, try_connect};
use common::{Client, Node, Random, kv, token};
use rustix::process::Signal;
use rustls::version::TLS13;
use rustls::{ClientConfig, HandshakeKind};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn start(pair: &Pair, change: impl FnOnce(&mut Setup)) -> Node {
    Node::start(|setup| {
        setup.tls(pair);
        change(setup);
    })
}

fn client(node: &Node, config: &Arc<ClientConfig>) -> Client {
    connect(node.tls_address(), config).with_token(&token::root())
}

/// What a program of the system says, both streams; `None` where it is not installed.
fn tool(program: &str, arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: {program} is not installed");
        return None;
    };
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a child");
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn both_versions_serve_what_the_plain_port_serves() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.workers(2);
    });
    for version in VERSIONS {
        let config = pair.trusted(version);
        let mut over_tls = client(&node, &config);
        assert_eq!(over_tls.tls().conn.protocol_version(), Some(version.version));
        assert_eq!(over_tls.tls().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let key = kv(format!("{version:?}"));
        over_tls.put(&key, "one").expect(201);
        assert_eq!(node.client().get(&key).expect(200).body, b"one");
        node.client().put(&key, "two").expect(200);
        assert_eq!(over_tls.get(&key).expect(200).body, b"two");
        connect(node.tls_address(), &config).get(&key).expect(401);
        over_tls.send(b"NONSENSE\r\n\r\n");
        over_tls.response().expect(400);
        over_tls.expect_orderly_close();
    }
    node.assert_well();
}

#[test]
fn only_http_1_1_is_agreed_on_inside() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None), (&["http/1.1"], Some(b"http/1.1"))]
    {
        let mut client = client(&node, &pair.trusted_with(&VERSIONS, offered));
        assert_eq!(client.tls().conn.alpn_protocol(), agreed);
        client.get("/livez").expect(200);
    }
    let error = try_connect(node.tls_address(), &pair.trusted_with(&VERSIONS, &["h2"])).expect_err("no h2");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_session_resumes_on_whichever_core_and_after_a_reload() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.workers(2);
    });
    for version in VERSIONS {
        let config = pair.trusted(version);
        let mut kinds = Vec::new();
        // All are kept, so that they are spread over the reactors.
        let mut clients: Vec<Client> = Vec::new();
        for round in 0..20 {
            if round == 10 {
                node.signal(Signal::HUP);
                node.wait_for_stderr("certificate reloaded", 1);
            }
            let mut client = client(&node, &config);
            client.get("/livez").expect(200);
            kinds.push(client.tls().conn.handshake_kind().expect("a handshake"));
            clients.push(client);
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{version:?}: {kinds:?}");
        clients.iter_mut().for_each(|client| drop(client.get("/livez").expect(200)));
    }
}

#[test]
fn openssl_finds_no_version_under_1_2_and_resumes_both_above() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.workers(2);
    });
    let address = node.tls_address().to_string();
    let session = node.folder().join("session");
    let session = session.to_str().expect("a plain path");
    let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for version in ["-tls1", "-tls1_1"] {
        let arguments = ["s_client", "-connect", &address, version, "-cipher", "DEFAULT@SECLEVEL=0"];
        let Some((_, said)) = tool("openssl", &arguments, "") else { return };
        assert!(said.contains("alert") && said.contains("Cipher is (NONE)"), "{version}: {said}");
    }
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let certificate = node.folder().join("cert.pem");
        let certificate = certificate.to_str().expect("a plain path");
        let common = ["s_client", "-connect", &address, version, "-CAfile", certificate, "-ign_eof"];
        let more = ["-verify_return_error", "-servername", "localhost", "-alpn", "h2,http/1.1"];
        let common = [&common[..], &more].concat();
        for (flag, kind) in [("-sess_out", "New"), ("-sess_in", "Reused")] {
            let arguments = [&common[..], &[flag, session]].concat();
            let Some((done, said)) = tool("openssl", &arguments, request) else { return };
            let expected = format!("{kind}, {name}");
            assert!(done && said.contains(&expected) && said.contains("alive"), "{expected}: {said}");
            assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
            // An end that only the TCP stream tells, OpenSSL calls an error.
            assert!(!said.contains("unexpected eof"), "{said}");
        }
    }
    let weak = [
        "s_client",
        "-connect",
        &address,
        "-tls1_2",
        "-cipher",
        "AES128-SHA:AES256-SHA:NULL:RC4:3DES:@SECLEVEL=0",
    ];
    let Some((_, said)) = tool("openssl", &weak, "") else { return };
    assert!(said.contains("Cipher is (NONE)"), "{said}");
    node.assert_well();
}

#[test]
fn curl_trusts_the_certificate_and_gets_an_answer() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    let (port, certificate) = (node.tls_address().port(), node.folder().join("cert.pem"));
    let url = format!("https://localhost:{port}/livez");
    for limit in ["1.2", "1.3"] {
        let arguments =
            ["-4", "-sS", "--tls-max", limit, "--cacert", certificate.to_str().expect("plain"), &url];
        let Some((done, said)) = tool("curl", &arguments, "") else { return };
        assert!(done && said.contains("alive"), "{said}");
    }
    let Some((done, said)) = tool("curl", &["-4", "-sS", &url], "") else { return };
    assert!(!done, "a stranger's certificate was trusted: {said}");
}

#[test]
fn each_port_tells_who_speaks_the_wrong_language() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    let mut plain = Client::connect(node.tls_address());
    let request = plain.compose("GET", "/livez", &[], b"");
    plain.send(&request);
    let answer = plain.response().expect(400);
    assert!(answer.text().contains("This port speaks TLS: use https://."), "{answer}");
    plain.expect_orderly_close();
    let error = try_connect(node.address(), &pair.trusted(&TLS13)).expect_err("HTTP");
    println!("{error}");
    let mut wrong = Client::connect(node.address());
    wrong.send(&common::tls::client_hello(&pair.trusted(&TLS13)));
    wrong.response().expect(400);
    wrong.expect_close();
    node.assert_well();
}

/// Random bytes, the same for the same key.
fn value(key: usize, bytes: usize) -> Vec<u8> {
    let mut random = Random::seeded(key as u64 + 1);
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

#[test]
fn large_bodies_pass_in_both_directions_pipelined_and_nothing_is_lost() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.workers(2).set("store.memory_limit", "512MiB");
    });
    const SIZES: [usize; 14] = [
        0, 1, 16_383, 16_384, 16_385, 32_768, 32_769, 65_536, 65_537, 1_000_000, 3_000_000, 7_340_032, 100,
        2_000_000,
    ];
    for version in VERSIONS {
        let mut client = client(&node, &pair.trusted(version));
        let puts: Vec<u8> = (0..SIZES.len())
            .flat_map(|key| client.compose("PUT", &kv(format!("large-{key}")), &[], &value(key, SIZES[key])))
            .collect();
        client.send(&puts);
        for _ in SIZES {
            let answer = client.response();
            assert!([200, 201].contains(&answer.status), "{answer}");
        }
        for round in 0..3 {
            let order: Vec<usize> = (0..SIZES.len()).map(|at| (at * 5 + round) % SIZES.len()).collect();
            let gets: Vec<u8> = order
                .iter()
                .flat_map(|key| client.compose("GET", &kv(format!("large-{key}")), &[], b""))
                .collect();
            client.send(&gets);
            for key in order {
                let answer = client.response().expect(200);
                assert!(answer.body == value(key, SIZES[key]), "value {key} has changed on the way");
            }
        }
    }
    node.assert_well();
}

#[test]
fn a_request_in_records_of_one_byte_and_a_hundred_requests_in_one_record_are_answered() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.workers(2);
    });
    for version in VERSIONS {
        let mut client = client(&node, &pair.trusted(version));
        client.put(&kv("byte"), "by byte");
        let request = client.compose("GET", &kv("byte"), &[], b"");
        for byte in &request {
            client.send(std::slice::from_ref(byte));
        }
        assert_eq!(client.response().expect(200).body, b"by byte");
        let put = client.compose("PUT", &kv("byte"), &[("X-Many", "small")], &value(7, 3_000));
        put.iter().for_each(|byte| client.send(std::slice::from_ref(byte)));
        client.response().expect(200);
        // More than are under way at a time: the rest waits decrypted, and no socket says so.
        let many: Vec<u8> = (0..300).flat_map(|_| client.compose("GET", &kv("byte"), &[], b"")).collect();
        client.send(&many);
        for _ in 0..300 {
            assert!(client.response().expect(200).body == value(7, 3_000));
        }
    }
}

#[test]
fn whoever_has_said_the_last_word_still_gets_every_answer() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    node.client().put(&kv("last"), value(1, 200_000)).expect(201);
    for version in VERSIONS {
        for orderly in [true, false] {
            let config = pair.trusted(version);
            let mut client = client(&node, &config);
            let get = client.compose("GET", &kv("last"), &[], b"");
            let tls = client.tls();
            for _ in 0..10 {
                tls.conn.writer().write_all(&get).unwrap();
            }
            if orderly {
                tls.conn.send_close_notify();
            }
            while tls.conn.wants_write() {
                tls.conn.write_tls(&mut tls.sock).unwrap();
            }
            if !orderly {
                client.finish_sending();
            }
            // A TLS 1.2 client that has closed must not read on (RFC 5246, section 7.2.1), so it is not asked to.
            if orderly && version.version == rustls::ProtocolVersion::TLSv1_2 {
                continue;
            }
            for _ in 0..10 {
                assert!(client.response().expect(200).body == value(1, 200_000));
            }
            assert_eq!(client.try_response("GET").map(|_| ()), Err(Trouble::Closed(false)));
        }
    }
    node.assert_well();
}

#[test]
fn a_request_that_is_cut_off_changes_nothing() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    let mut client = client(&node, &pair.trusted(&TLS13));
    client.put(&kv("whole"), "whole").expect(201);
    let put = client.compose("PUT", &kv("whole"), &[], &value(2, 100_000));
    client.send(&put[..90_000]);
    client.finish_sending();
    assert!(client.try_response("PUT").is_err());
    assert_eq!(node.client().get(&kv("whole")).expect(200).body, b"whole");
}

#[test]
fn a_node_that_stops_says_good_bye() {
    let pair = Pair::new();
    let mut node = start(&pair, |setup| {
        setup.workers(2);
    });
    let mut idle: Vec<Client> = (0..4).map(|_| client(&node, &pair.trusted(&TLS13))).collect();
    idle.iter_mut().for_each(|client| drop(client.get("/livez").expect(200)));
    let begun = TcpStream::connect(node.tls_address()).unwrap();
    node.signal(Signal::TERM);
    for client in &mut idle {
        // With close_notify: without it, this would be a broken connection.
        assert_eq!(client.try_response("GET").map(|_| ()), Err(Trouble::Closed(false)));
    }
    assert_eq!(node.wait(Duration::from_secs(5)).code, Some(0));
    drop(begun);
}

#[test]
fn an_idle_client_is_told_before_it_is_let_go() {
    let pair = Pair::new();
    let node = start(&pair, |setup| {
        setup.set("http.idle_timeout", "300ms");
    });
    let mut client = client(&node, &pair.trusted(&TLS13));
    client.get("/livez").expect(200);
    client.expect_orderly_close();
    node.assert_well();
}

/// The certificate that a new connection is shown.
fn shown(node: &Node, either: &[&Pair]) -> usize {
    let config: Vec<_> = either.iter().map(|pair| pair.trusted(&TLS13)).collect();
    let found = config.iter().position(|config| try_connect(node.tls_address(), config).is_ok());
    found.expect("one of these certificates")
}

#[test]
fn a_reload_under_load_drops_nothing_and_a_broken_pair_changes_nothing() {
    let (first, second) = (Pair::new(), Pair::new());
    let node = start(&first, |setup| {
        setup.workers(2);
    });
    node.client().put(&kv("load"), value(3, 50_000)).expect(201);
    let place = |certificate: &str, key: &str| {
        std::fs::write(node.folder().join("cert.pem"), certificate).unwrap();
        std::fs::write(node.folder().join("key.pem"), key).unwrap();
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Those that last begin before anything is replaced; without one, each request has a connection of its own.
        let work = |mut lasting: Option<Client>| {
            let (node, first, second, stop) = (&node, &first, &second, &stop);
            let fresh = lasting.is_none();
            move || {
                let configs = [first.trusted(&TLS13), second.trusted(&TLS13)];
                let mut requests = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut client = match lasting.take() {
                        Some(client) => client,
                        // One of the two trusts it. Which one may change between two attempts, but not for long.
                        None => (0..100)
                            .flat_map(|_| &configs)
                            .find_map(|config| try_connect(node.tls_address(), config).ok())
                            .map(|stream| Client::over_tls(stream).with_token(&token::root()))
                            .expect("a connection"),
                    };
                    assert!(client.get(&kv("load")).expect(200).body == value(3, 50_000));
                    requests += 1;
                    if !fresh {
                        lasting = Some(client);
                    }
                }
                requests
            }
        };
        let lasting = || Some(client(&node, &first.trusted(&TLS13)));
        let workers: Vec<_> = [lasting(), lasting(), None].map(|lasting| scope.spawn(work(lasting))).into();
        for round in 0..3 {
            place(&second.certificate, &second.key);
            node.signal(Signal::HUP);
            node.wait_for_stderr("certificate reloaded", 3 * round + 1);
            assert_eq!(shown(&node, &[&first, &second]), 1);
            // The key of another, no key, an old certificate: each keeps what is served.
            let old = Pair::good(2001, 2002);
            for (broken, (certificate, key)) in [
                (&second.certificate, &first.key),
                (&second.certificate, &String::new()),
                (&old.certificate, &old.key),
            ]
            .into_iter()
            .enumerate()
            {
                place(certificate, key);
                node.signal(Signal::HUP);
                node.wait_for_stderr(
                    "certificate not reloaded, the one before is kept",
                    3 * round + broken + 1,
                );
                assert_eq!(shown(&node, &[&first, &second]), 1);
            }
            place(&first.certificate, &first.key);
            node.signal(Signal::HUP);
            node.wait_for_stderr("certificate reloaded", 3 * round + 2);
            assert_eq!(shown(&node, &[&first, &second]), 0);
            node.signal(Signal::HUP);
            node.wait_for_stderr("certificate reloaded", 3 * round + 3);
        }
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().expect("no failure") > 3);
        }
    });
    node.assert_well();
}

#[test]
fn one_reload_takes_on_a_setting_and_a_certificate_at_once_or_each_without_the_other() {
    let (first, second) = (Pair::new(), Pair::new());
    let node = start(&first, |setup| {
        setup.workers(2);
    });
    let file = std::fs::read_to_string(node.folder().join("node.yml")).unwrap();
    let with_ttl = |seconds: u32| file.replace("store:\n", &format!("store:\n  default_ttl: {seconds}\n"));
    let place = |pair: &Pair| {
        std::fs::write(node.folder().join("cert.pem"), &pair.certificate).unwrap();
        std::fs::write(node.folder().join("key.pem"), &pair.key).unwrap();
    };
    let mut lasting = client(&node, &first.trusted(&TLS13));
    let mut check = |ttl: Option<&str>, pair: usize| {
        assert_eq!(shown(&node, &[&first, &second]), pair);
        let key = kv("at once");
        let mut clients: Vec<Client> =
            (0..4).map(|_| client(&node, &[&first, &second][pair].trusted(&TLS13))).collect();
        for client in clients.iter_mut().chain([&mut lasting, &mut node.client()]) {
            client.put(&key, "v");
            assert_eq!(client.get(&key).expect(200).field("X-TTL"), ttl);
        }
    };
    check(None, 0);
    place(&second);
    node.rewrite(&with_ttl(60));
    node.signal(Signal::HUP);
    node.wait_for_stderr("reloaded: 1 changed, 0 need a restart", 1);
    node.wait_for_stderr("certificate reloaded", 1);
    check(Some("60"), 1);
    // A broken pair keeps the one before, and the setting is taken on.
    place(&Pair { certificate: first.certificate.clone(), key: second.key.clone() });
    node.rewrite(&with_ttl(90));
    node.signal(Signal::HUP);
    node.wait_for_stderr("reloaded: 1 changed, 0 need a restart", 2);
    node.wait_for_stderr("certificate not reloaded, the one before is kept", 1);
    check(Some("90"), 1);
    // A broken file changes nothing, whatever lies beside it.
    place(&first);
    node.rewrite("store: {default_ttl: soon}\n");
    node.signal(Signal::HUP);
    node.wait_for_stderr("reload refused, nothing has changed", 1);
    check(Some("90"), 1);
    node.rewrite(&with_ttl(30));
    node.signal(Signal::HUP);
    node.wait_for_stderr("reloaded: 1 changed, 0 need a restart", 3);
    node.wait_for_stderr("certificate reloaded", 2);
    check(Some("30"), 0);
}

#[test]
fn a_server_without_a_pair_refuses_and_settings_say_why() {
    let (good, other, old) = (Pair::new(), Pair::new(), Pair::good(2001, 2002));
    for (certificate, key, says) in [
        (&good.certificate, &other.key, "does not belong to the certificate in cert.pem"),
        (&old.certificate, &old.key, "the certificate was good until Tue, 01 Jan 2002"),
        (&good.certificate, &String::from("none"), "key.pem: no private key that can be read"),
        (&good.key, &good.key, "cert.pem: no certificate that can be read"),
    ] {
        let wrong = Pair { certificate: certificate.clone(), key: key.clone() };
        let ended = Node::start_in_vain(|setup| {
            setup.tls(&wrong);
        });
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(says) && !ended.stderr.contains("PRIVATE KEY-----\nM"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "");
    }
    let ended = Node::start_in_vain(|setup| {
        setup.tls(&good).set("general.ssl_certificate_key", "nowhere.pem");
    });
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("nowhere.pem: the file is not there"), "{}", ended.stderr);
}

#[test]
fn a_busy_port_of_tls_is_a_loud_refusal() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    let port = node.tls_address().port();
    let ended = Node::start_in_vain(|setup| {
        setup.tls(&pair).set("general.port_ssl", port);
    });
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use") && ended.stderr.contains("general.port_ssl"), "{}", ended.stderr);
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
    let pair = Pair::new();
    let node = start(&pair, |_| {});
    for version in VERSIONS {
        let config = pair.trusted(version);
        let mut stream = TcpStream::connect(node.tls_address()).unwrap();
        stream.set_read_timeout(Some(common::client::PATIENCE)).unwrap();
        let mut tls = begin(&config);
        let request = Client::connect(node.address()).with_token(&token::root()).compose(
            "PUT",
            &kv("early"),
            &[],
            &value(9, 30_000),
        );
        // Kept by the client until its side of the handshake is done, then sent with it.
        tls.writer().write_all(&request).unwrap();
        let mut flight = Vec::new();
        while tls.is_handshaking() || tls.wants_write() {
            flight.clear();
            while tls.wants_write() {
                tls.write_tls(&mut flight).unwrap();
            }
            stream.write_all(&flight).unwrap();
            if tls.is_handshaking() {
                assert!(tls.read_tls(&mut stream).unwrap() > 0);
                tls.process_new_packets().unwrap();
            }
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            tls.read_tls(&mut stream).unwrap();
            tls.process_new_packets().unwrap();
            let mut block = [0; 4_096];
            if let Ok(count) = tls.reader().read(&mut block) {
                answer.extend_from_slice(&block[..count]);
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        assert!(node.client().get(&kv("early")).expect(200).body == value(9, 30_000));
    }
}
