//! Requests that must be refused, each with the status that refuses it.

/// A request and what must come of it.
pub struct Malformed {
    /// What is wrong with it.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The status of the one answer, behind which the connection closes.
    pub status: u16,
}

/// A head of GET with these lines behind its Host.
fn get(lines: &str) -> String {
    format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A PUT with these lines and this body. It is refused before its credential is looked at.
fn put(lines: &str, body: &str) -> String {
    format!("PUT /api/kv/malformed HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}")
}

/// The whole corpus. `{token}` in a body's lines is replaced by a good token, since the framing of a
/// body is looked at only for those who may send one.
pub fn corpus(token: &str) -> Vec<Malformed> {
    let mut all = Vec::new();
    let mut add = |status: u16, name: &str, bytes: &[u8]| {
        all.push(Malformed { name: name.to_string(), bytes: bytes.to_vec(), status });
    };
    request_lines(&mut add);
    line_ends(&mut add);
    field_lines(&mut add);
    hosts(&mut add);
    lengths(&mut add);
    codings(&mut add);
    singletons(&mut add);
    let authorization = format!("Authorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n");
    chunks(&mut |status, name, body| {
        let mut bytes = put(&authorization, "").into_bytes();
        bytes.extend_from_slice(body);
        all.push(Malformed { name: name.to_string(), bytes, status });
    });
    all
}

type Add<'a> = &'a mut dyn FnMut(u16, &str, &[u8]);

fn request_lines(add: Add<'_>) {
    let host = "Host: localhost\r\n\r\n";
    for (status, line) in [
        (400, "GET"),
        (400, "GET /livez"),
        (400, "GET  /livez HTTP/1.1"),
        (400, "GET /livez  HTTP/1.1"),
        (400, " GET /livez HTTP/1.1"),
        (400, "GET /livez HTTP/1.1 "),
        (400, "GET\t/livez HTTP/1.1"),
        (400, "GET /livez\tHTTP/1.1"),
        (400, "GET /li vez HTTP/1.1"),
        (400, "GET /livez http/1.1"),
        (400, "GET /livez HTTP"),
        (400, "GET /livez HTTP/"),
        (400, "GET /livez HTTP/1"),
        (400, "GET /livez HTTP/1."),
        (400, "GET /livez HTTP/.1"),
        (400, "GET /livez HTTP/1.1.1"),
        (400, "GET /livez HTTP/11.1"),
        (400, "GET /livez HTTP/1.11"),
        (400, "GET /livez HTTP/a.b"),
        (400, "GET /livez HTTP 1.1"),
        (400, "GET /livez HTTPS/1.1"),
        (400, "GET /livez FTP/1.1"),
        (505, "GET /livez HTTP/2.0"),
        (505, "GET /livez HTTP/3.0"),
        (505, "GET /livez HTTP/0.9"),
        (505, "GET /livez HTTP/9.9"),
        (501, "BREW /livez HTTP/1.1"),
        (501, "get /livez HTTP/1.1"),
        (501, "GETS /livez HTTP/1.1"),
        (501, "TRACE /livez HTTP/1.1"),
        (501, "CONNECT localhost:80 HTTP/1.1"),
        (501, "PROPFIND /livez HTTP/1.1"),
        (400, "G(T /livez HTTP/1.1"),
        (400, "G\u{e9}T /livez HTTP/1.1"),
        (400, "GET livez HTTP/1.1"),
        (400, "GET * HTTP/1.1"),
        (400, "GET ?x HTTP/1.1"),
        (400, "GET http:// HTTP/1.1"),
        (400, "GET http:///livez HTTP/1.1"),
        (400, "GET /livez#fragment HTTP/1.1"),
        (400, "GET /li\u{7f}vez HTTP/1.1"),
        (400, "GET /li\u{1}vez HTTP/1.1"),
        (400, "GET /li\u{e9}vez HTTP/1.1"),
        (400, "{}"),
    ] {
        add(status, line, format!("{line}\r\n{host}").as_bytes());
    }
    add(400, "a NUL in the target", b"GET /li\0vez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add(400, "a byte over 127 in the target", b"GET /li\xffvez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add(400, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh\r\n\r\n");
    add(505, "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    add(400, "three empty lines first", format!("\r\n\r\n\r\n{}", get("")).as_bytes());
}

fn line_ends(add: Add<'_>) {
    add(400, "LF for CRLF everywhere", b"GET /livez HTTP/1.1\nHost: localhost\n\n");
    add(400, "LF behind the request line", b"GET /livez HTTP/1.1\nHost: localhost\r\n\r\n");
    add(400, "LF behind a field", b"GET /livez HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n");
    add(400, "LF behind the last field", b"GET /livez HTTP/1.1\r\nHost: localhost\n\r\n");
    add(400, "LF for the last line", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\n");
    add(400, "LF before the request", b"\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add(400, "CR in a value", get("X: a\rb\r\n").as_bytes());
    add(400, "CR in a name", get("X\rY: b\r\n").as_bytes());
    add(400, "CR behind a value", get("X: a\r\r\n").as_bytes());
    add(400, "CR in the request line", b"GET /livez\r HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add(400, "CR for CRLF", b"GET /livez HTTP/1.1\rHost: localhost\r\r\n\r\n");
    add(400, "LF in a value", get("X: a\nContent-Length: 5\r\n").as_bytes());
}

fn field_lines(add: Add<'_>) {
    for (name, lines) in [
        ("a folded line", "X: a\r\n b\r\n"),
        ("a line folded with a tab", "X: a\r\n\tb\r\n"),
        ("a space before the first field's name", " X: a\r\n"),
        ("a space before the colon", "X : a\r\n"),
        ("a tab before the colon", "X\t: a\r\n"),
        ("a length with a space before the colon", "Content-Length : 0\r\n"),
        ("no colon", "X\r\n"),
        ("no name", ": a\r\n"),
        ("a space in the name", "X Y: a\r\n"),
        ("a parenthesis in the name", "X(: a\r\n"),
        ("a quote in the name", "\"X\": a\r\n"),
        ("a slash in the name", "X/Y: a\r\n"),
        ("a letter over 127 in the name", "X\u{e9}: a\r\n"),
        ("a NUL in the value", "X: a\0b\r\n"),
        ("a control byte in the value", "X: a\u{1}b\r\n"),
        ("a bell in the value", "X: \u{7}\r\n"),
        ("an escape in the value", "X: \u{1b}[0m\r\n"),
        ("a DEL in the value", "X: a\u{7f}b\r\n"),
        ("a NUL in the name", "X\0: a\r\n"),
    ] {
        add(400, name, get(lines).as_bytes());
    }
}

fn hosts(add: Add<'_>) {
    for (name, lines) in [
        ("no Host", ""),
        ("no Host among others", "X: y\r\n"),
        ("two Hosts", "Host: localhost\r\nHost: localhost\r\n"),
        ("two Hosts that differ", "Host: a\r\nhost: b\r\n"),
        ("a Host with a space", "Host: a b\r\n"),
        ("a Host with a path", "Host: a/b\r\n"),
        ("a Host with a comma", "Host: a,b\r\n"),
        ("a Host with a user", "Host: u@a\r\n"),
        ("a Host with a bad port", "Host: a:b\r\n"),
        ("a Host with a query", "Host: a?b\r\n"),
        ("a Host with a backslash", "Host: a\\b\r\n"),
        ("a Host with an open bracket", "Host: [::1\r\n"),
        ("a Host with angle brackets", "Host: <a>\r\n"),
    ] {
        add(400, name, format!("GET /livez HTTP/1.1\r\n{lines}\r\n").as_bytes());
    }
}

fn lengths(add: Add<'_>) {
    for value in [
        "",
        "-1",
        "+1",
        "1.0",
        "1e1",
        "0x1",
        "1 1",
        "1;1",
        "abc",
        "\"1\"",
        "1,2",
        "1, 2",
        ",",
        "1,",
        "1,,1",
        "18446744073709551616",
        "99999999999999999999999999999",
        "1\u{b2}",
        "_1",
        "1_0",
    ] {
        let name = format!("Content-Length: {value:?}");
        add(400, &name, put(&format!("Content-Length: {value}\r\n"), "1").as_bytes());
    }
    add(400, "two lengths that differ", put("Content-Length: 1\r\nContent-Length: 2\r\n", "1").as_bytes());
    add(400, "two lengths, one bad", put("Content-Length: 1\r\nContent-Length: x\r\n", "1").as_bytes());
    add(400, "a GET with two lengths", get("Content-Length: 0\r\nContent-Length: 1\r\n").as_bytes());
}

fn codings(add: Add<'_>) {
    let body = "0\r\n\r\n";
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    add(400, "length and coding", put(both, body).as_bytes());
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    add(400, "coding and length", put(both, body).as_bytes());
    add(
        400,
        "length 0 and coding",
        put("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", body).as_bytes(),
    );
    for value in [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "",
        ",",
        "chunked, identity",
        "\u{b}chunked",
        "chunke\u{212a}d",
    ] {
        let name = format!("Transfer-Encoding: {value:?}");
        add(400, &name, put(&format!("Transfer-Encoding: {value}\r\n"), body).as_bytes());
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    add(400, "two codings", put(twice, body).as_bytes());
    let twice = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    add(400, "two codings that differ", put(twice, body).as_bytes());
    let old =
        "PUT /api/kv/malformed HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    add(400, "a coding in HTTP/1.0", old.as_bytes());
    let old = "GET /livez HTTP/1.0\r\nTransfer-Encoding: identity\r\n\r\n";
    add(400, "any coding in HTTP/1.0", old.as_bytes());
    add(417, "an unknown expectation", put("Expect: 200-ok\r\nContent-Length: 1\r\n", "").as_bytes());
}

fn singletons(add: Add<'_>) {
    for field in [
        "Authorization: x",
        "token: x",
        "Content-Type: a/b",
        "X-TTL: 5",
        "Range: bytes=0-1",
        "If-Range: \"a\"",
    ] {
        let lines = format!("{field}\r\n{field}\r\n");
        add(400, &format!("{field} twice"), get(&lines).as_bytes());
    }
}

fn chunks(add: Add<'_>) {
    for (name, body) in [
        ("an empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("a size that is no number", "x\r\nabc\r\n0\r\n\r\n"),
        ("a size with a sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
        ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a size over 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("a size of all ones and more", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("LF behind the size", "3\nabc\r\n0\r\n\r\n"),
        ("CR behind the size", "3\rabc\r\n0\r\n\r\n"),
        ("no line end behind the bytes", "3\r\nabcd\r\n0\r\n\r\n"),
        ("LF behind the bytes", "3\r\nabc\n0\r\n\r\n"),
        ("too few bytes", "4\r\nabc\r\n0\r\n\r\n"),
        ("too many bytes", "2\r\nabc\r\n0\r\n\r\n"),
        ("LF behind the last size", "3\r\nabc\r\n0\n\r\n"),
        ("a control byte in an extension", "3;a\u{1}\r\nabc\r\n0\r\n\r\n"),
        ("a CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("a trailer without a colon", "3\r\nabc\r\n0\r\nX\r\n\r\n"),
        ("a trailer with a space before the colon", "3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
        ("a folded trailer", "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
        ("a trailer that ends in LF", "3\r\nabc\r\n0\r\nX: y\n\r\n"),
        ("a NUL in a trailer", "3\r\nabc\r\n0\r\nX: \0\r\n\r\n"),
        ("a trailer without a name", "3\r\nabc\r\n0\r\n: y\r\n\r\n"),
    ] {
        add(400, name, body.as_bytes());
    }
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(10_000));
    add(400, "an endless extension", long.as_bytes());
    let zeros = format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(10_000));
    add(400, "endless zeros before the size", zeros.as_bytes());
    let trailers = format!("3\r\nabc\r\n0\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    add(431, "endless trailers", trailers.as_bytes());
}
