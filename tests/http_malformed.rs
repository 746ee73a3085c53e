//! What is not HTTP/1.1, or could be read in two ways, is refused, and the connection with it.

mod common;

use common::malformed::{Case, cases};
use common::{Client, Node, Random, Trouble, kv, token};
use std::time::Duration;

/// A node that asks for no credential, so that framing is looked at.
fn node(workers: usize) -> Node {
    Node::start(|setup| {
        setup.set("authentication.enabled", false).workers(workers);
    })
}

/// A good request that a lenient reader would find behind a bad one, and serve.
fn smuggled() -> Vec<u8> {
    format!("PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", kv("smuggled")).into_bytes()
}

fn refused_cases() -> Vec<Case> {
    cases().into_iter().filter(|case| case.status >= 400).collect()
}

/// That the next answer refuses the case and is the last one.
fn check_refusal(client: &mut Client, case: &Case) -> Result<(), String> {
    match client.try_response("GET") {
        Ok(answer) if answer.status == case.status && answer.closes() => match client.try_response("GET") {
            Err(Trouble::Closed(_)) => Ok(()),
            other => Err(format!("{}: not closed: {other:?}", case.name)),
        },
        other => {
            let got = other.map(|answer| answer.to_string());
            Err(format!("{}: expected {} and a close, got {got:?}", case.name, case.status))
        }
    }
}

#[test]
fn each_malformed_request_is_refused_and_its_connection_closed() {
    let node = node(2);
    let refused = refused_cases();
    assert!(refused.len() >= 100, "only {} cases", refused.len());
    let mut wrong = Vec::new();
    for case in &refused {
        let mut client = node.stranger();
        client.set_patience(Duration::from_secs(5));
        let _ = client.try_send(&case.bytes);
        wrong.extend(check_refusal(&mut client, case).err());
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
    node.assert_well();
}

#[test]
fn nothing_around_a_malformed_request_changes_its_fate() {
    let node = node(1);
    let mut wrong = Vec::new();
    for case in refused_cases() {
        // A case without an end would swallow what follows it.
        let ends = case.bytes.windows(4).any(|window| window == b"\r\n\r\n");
        let mut client = node.stranger();
        client.set_patience(Duration::from_secs(5));
        let mut bytes = client.compose("GET", "/livez", &[], b"");
        bytes.extend(&case.bytes);
        if ends {
            bytes.extend(smuggled());
        }
        let _ = client.try_send(&bytes);
        client.response().expect(200);
        wrong.extend(check_refusal(&mut client, &case).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    node.stranger().get(&kv("smuggled")).expect(404);
    node.assert_well();
}

#[test]
fn what_is_unusual_but_well_formed_is_served() {
    let node = node(1);
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.status == 200) {
        let mut client = node.stranger();
        client.set_patience(Duration::from_secs(5));
        client.send(&case.bytes);
        match client.try_response("GET") {
            Ok(answer) if (200..300).contains(&answer.status) => {}
            other => wrong.push(format!("{}: {:?}", case.name, other.map(|answer| answer.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_says_why_in_json() {
    let node = Node::start(|_| {});
    let mut client = node.stranger();
    client.send(b"GET /livez HTTP/1.1\r\n\r\n");
    let refused = client.response().expect(400);
    assert!(!refused.message().is_empty(), "{refused}");
    client.expect_close();
}

#[test]
fn unusual_requests_leave_no_trace_on_their_connection() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    client.put(&kv("seen"), "x");
    let good: [&[u8]; 16] = [
        b"\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhOsT:localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost:  \t localhost:80 \t \r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: [::1]:7020\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX:\r\nY: \r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09aZ: strange name\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: \x80\xff obs-text\ttab\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n000\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na;b\r\n0123456789\r\n0;c\r\nX: y\r\nZ:\r\n\r\n",
        b"GET http://localhost/livez HTTP/1.1\r\nHost: other\r\n\r\n",
        b"GET /livez?%00=%ff&&== HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for bytes in good {
        client.send(bytes);
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.closes()),
            (200, false),
            "{:?}: {answer}",
            String::from_utf8_lossy(bytes)
        );
    }
    client.get(&kv("seen")).expect(200);
}

#[test]
fn a_smuggled_request_is_never_served() {
    let node = node(1);
    let inner = String::from_utf8(smuggled()).unwrap();
    let outer = "POST /api/kv/batch HTTP/1.1\r\nHost: x\r\n";
    for lines in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5 + inner.len()),
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n".to_string(),
        "Content-Length: 2\r\nContent-Length: 0\r\n\r\n[]".to_string(),
        "Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n".to_string(),
        "Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n[]".to_string(),
        "Content-Length: 2\r\nContent\u{ad}Length: 0\r\n\r\n[]".to_string(),
        "Transfer-Encoding: chunked\r\n\r\n2 \r\n[]\r\n0\nX: y\r\n\r\n".to_string(),
        "Transfer-Encoding: chunked\r\n\r\n2;\n[]\r\n0\r\n\r\n".to_string(),
    ] {
        let mut client = node.stranger();
        let _ = client.try_send(format!("{outer}{lines}{inner}").as_bytes());
        client.response().expect(400);
        client.expect_close();
    }
    node.client().get(&kv("smuggled")).expect(404);
}

#[test]
fn chopped_requests_leave_nothing_behind() {
    let node = Node::start(|_| {});
    let mut random = Random::seeded(61);
    let whole = Client::connect(node.address()).with_token(&token::root());
    let request = whole.compose("PUT", &kv("chopped"), &[], &vec![b'x'; 1_000]);
    for _ in 0..200 {
        let mut client = node.stranger();
        client.send(&request[..random.below(request.len())]);
        // Dropped here, mid-request.
    }
    node.assert_well();
    node.client().get(&kv("chopped")).expect(404);
}
