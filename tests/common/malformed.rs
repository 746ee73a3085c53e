//! Requests at and beyond the edge of HTTP/1.1, each with what must become of it.
//!
//! Used twice: by the parser's own tests, byte for byte, and over a socket against a node with
//! authentication off. A request that is taken goes to `/health`, `/` or `/api/kv/k` and is
//! answered 2xx there; a refused one is answered with its status and the connection is closed.

/// A message and its fate.
pub struct Case {
    /// What is odd about it.
    pub name: String,
    /// The whole message, body included.
    pub bytes: Vec<u8>,
    /// The status of the refusal; 200 stands for a request that is well-formed after all.
    pub status: u16,
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let plain =
        LINES.iter().chain(FIELDS).chain(BODIES).map(|&(name, bytes, status)| (name, bytes.to_vec(), status));
    let fields = FIELD_LINES.iter().map(|&(name, line, status)| {
        (name, [b"GET /health HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat(), status)
    });
    let hosts = HOSTS.iter().map(|&(name, host, status)| {
        (name, [b"GET /health HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat(), status)
    });
    let chunks = CHUNKS.iter().map(|&(name, body, status)| {
        let head = b"PUT /api/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        (name, [head, body].concat(), status)
    });
    plain
        .chain(fields)
        .chain(hosts)
        .chain(chunks)
        .map(|(name, bytes, status)| Case { name: name.to_owned(), bytes, status })
        .chain(large())
        .collect()
}

type Row = (&'static str, &'static [u8], u16);

/// Request lines, versions and targets.
const LINES: &[Row] = &[
    ("plain", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("1.0 without fields", b"GET /health HTTP/1.0\r\n\r\n", 200),
    ("one empty line before", b"\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("two empty lines before", b"\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("three empty lines before", b"\r\n\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("bare LF before", b"\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("bare LF behind an empty line", b"\r\n\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("bare CR before", b"\rGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space before", b" GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("NUL before", b"\0GET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("bare LF everywhere", b"GET /health HTTP/1.1\nHost: a\n\n", 400),
    ("bare LF behind the request line", b"GET /health HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("bare LF behind a field", b"GET /health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    ("bare LF behind the last field", b"GET /health HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("bare LF at the end", b"GET /health HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("bare LF behind an empty field", b"GET /health HTTP/1.1\r\nHost:\nX: b\r\n\r\n", 400),
    ("bare CR behind the request line", b"GET /health HTTP/1.1\rHost: a\r\n\r\n", 400),
    ("CR CR LF", b"GET /health HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    ("LF CR", b"GET /health HTTP/1.1\n\rHost: a\n\r\n\r", 400),
    ("HTTP/0.9", b"GET /health\r\n\r\n", 400),
    ("no version", b"GET /health \r\nHost: a\r\n\r\n", 400),
    ("no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces behind the method", b"GET  /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two spaces behind the target", b"GET /health  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space behind the version", b"GET /health HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("tab for a space", b"GET\t/health\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space in the target", b"GET /hea lth HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("junk behind the version", b"GET /health HTTP/1.1x\r\nHost: a\r\n\r\n", 400),
    ("method with a colon", b"GE:T /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("method with a control byte", b"G\x01T /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("method with a byte over 127", b"G\xc3T /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("lower-case method", b"get /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("unknown method", b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("method of punctuation", b"!#$%&'*+-.^_`|~ /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("method with a known beginning", b"GETS /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("TRACE", b"TRACE /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("HTTP/2.0", b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/0.9 spelt out", b"GET /health HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("HTTP/3.1", b"GET /health HTTP/3.1\r\nHost: a\r\n\r\n", 505),
    ("HTTP/1.2", b"GET /health HTTP/1.2\r\nHost: a\r\n\r\n", 200),
    ("HTTP/1.9", b"GET /health HTTP/1.9\r\nHost: a\r\n\r\n", 200),
    ("HTTP/1.2 without Host", b"GET /health HTTP/1.2\r\n\r\n", 400),
    ("HTTP/1.10", b"GET /health HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    ("HTTP/1", b"GET /health HTTP/1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/2", b"GET /health HTTP/2\r\nHost: a\r\n\r\n", 400),
    ("HTTP/11.1", b"GET /health HTTP/11.1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/1,1", b"GET /health HTTP/1,1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/1.x", b"GET /health HTTP/1.x\r\nHost: a\r\n\r\n", 400),
    ("HTTP/-1.1", b"GET /health HTTP/-1.1\r\nHost: a\r\n\r\n", 400),
    ("lower-case version", b"GET /health http/1.1\r\nHost: a\r\n\r\n", 400),
    ("another protocol", b"GET /health HTTPS/1.1\r\nHost: a\r\n\r\n", 400),
    ("ICY", b"GET /health ICY/1.1\r\nHost: a\r\n\r\n", 400),
    ("TLS on the plain port", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
    ("SSH on the plain port", b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    ("Redis on the plain port", b"*1\r\n$4\r\nPING\r\n", 400),
    ("query", b"GET /health?a=b?c=d/e HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("empty query", b"GET /health? HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("characters a URI should escape", b"GET /health?\"<>[]\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("fragment", b"GET /health#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("fragment behind a query", b"GET /health?a#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("NUL in the target", b"GET /hea\0lth HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("DEL in the target", b"GET /health?\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CR in the target", b"GET /hea\rlth HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("LF in the target", b"GET /hea\nlth HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("UTF-8 in the target", b"GET /health?\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("Latin-1 in the target", b"GET /health?\xfc HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form", b"GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("absolute form over TLS, upper case", b"GET HTTPS://A:7021/health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("absolute form without a path", b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("absolute form with a query alone", b"GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("absolute form, other Host", b"GET http://a/health HTTP/1.1\r\nHost: b\r\n\r\n", 200),
    ("absolute form without Host", b"GET http://a/health HTTP/1.1\r\n\r\n", 400),
    ("absolute form without an authority", b"GET http:///health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form with a user", b"GET http://u:p@a/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("absolute form with a bad port", b"GET http://a:b/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("another scheme", b"GET ftp://a/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("authority form", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("relative path", b"GET health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("query alone", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("asterisk form of GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("asterisk form with more", b"OPTIONS *? HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// Heads that differ in more than one field line.
const FIELDS: &[Row] = &[
    ("no Host", b"GET /health HTTP/1.1\r\n\r\n", 400),
    ("two Hosts in 1.0", b"GET /health HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("malformed Host in 1.0", b"GET /health HTTP/1.0\r\nHost: a b\r\n\r\n", 400),
    ("space before the first field", b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    (
        "Transfer-Encoding in 1.0",
        b"PUT /api/kv/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("Expect in 1.0 is ignored", b"PUT /api/kv/k HTTP/1.0\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx", 200),
    ("keep-alive in 1.0", b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
];

/// Lines behind `Host` of a GET.
const FIELD_LINES: &[Row] = &[
    ("empty value", b"X:", 200),
    ("spaces and tabs around a value", b"X: \t a \t ", 200),
    ("no space behind the colon", b"X:a", 200),
    ("tab in a value", b"X: a\tb", 200),
    ("bytes over 127 in a value", b"X: \xc3\xbc\xff", 200),
    ("colons in a value", b"X: a:b::c", 200),
    ("name of every token character", b"!#$%&'*+-.^_`|~09azAZ: a", 200),
    ("space before the colon", b"X : a", 400),
    ("tab before the colon", b"X\t: a", 400),
    ("space before the colon of Content-Length", b"Content-Length : 0", 400),
    ("obs-fold", b"X: a\r\n b", 400),
    ("obs-fold with a tab", b"X: a\r\n\tb", 400),
    ("obs-fold of nothing", b"X: a\r\n ", 400),
    ("empty name", b": a", 400),
    ("no colon", b"X", 400),
    ("no name and no colon", b"=", 400),
    ("space in a name", b"X Y: a", 400),
    ("bracket in a name", b"X[: a", 400),
    ("quote in a name", b"\"X\": a", 400),
    ("slash in a name", b"X/Y: a", 400),
    ("NUL in a name", b"X\0: a", 400),
    ("byte over 127 in a name", b"X\xfc: a", 400),
    ("NUL in a value", b"X: a\0b", 400),
    ("ESC in a value", b"X: a\x1bb", 400),
    ("vertical tab in a value", b"X: a\x0bb", 400),
    ("DEL in a value", b"X: a\x7fb", 400),
    ("bare CR in a value", b"X: a\rb", 400),
    ("bare CR at a value's start", b"X:\ra", 400),
    ("CR CR LF behind a value", b"X: a\r", 400),
    ("a doubled Host", b"Host: a", 400),
    ("a doubled Host in another case", b"hOST: b", 400),
    ("a doubled Authorization", b"Authorization: a\r\nAuthorization: a", 400),
    ("a doubled token", b"token: a\r\nToken: b", 400),
    ("a doubled Range", b"Range: bytes=0-1\r\nRange: bytes=0-1", 400),
    ("a doubled X-TTL", b"X-TTL: 1\r\nX-TTL: 1", 400),
    ("a doubled Origin", b"Origin: http://a\r\nOrigin: http://a", 400),
    ("a doubled list field", b"Accept: a/b\r\nAccept: c/d", 200),
    ("Content-Length 0", b"Content-Length: 0", 200),
    ("Content-Length with leading zeros", b"Content-Length: 000000000000000000000000000", 200),
    ("Content-Length twice, equal", b"Content-Length: 0\r\nContent-Length: 0", 200),
    ("Content-Length as an equal list", b"Content-Length: 0, 0", 200),
    ("Content-Length twice, different", b"Content-Length: 0\r\nContent-Length: 1", 400),
    ("Content-Length as a different list", b"Content-Length: 5,6", 400),
    ("Content-Length with an empty element", b"Content-Length: 0,", 400),
    ("Content-Length empty", b"Content-Length:", 400),
    ("Content-Length with a plus", b"Content-Length: +5", 400),
    ("Content-Length negative", b"Content-Length: -0", 400),
    ("Content-Length hexadecimal", b"Content-Length: 0x0", 400),
    ("Content-Length with a fraction", b"Content-Length: 0.0", 400),
    ("Content-Length with a space", b"Content-Length: 0 0", 400),
    ("Content-Length with an underscore", b"Content-Length: 1_0", 400),
    ("Content-Length in quotes", b"Content-Length: \"0\"", 400),
    ("Content-Length over 64 bits", b"Content-Length: 18446744073709551616", 400),
    ("Content-Length far over 64 bits", b"Content-Length: 99999999999999999999999999999999", 400),
    ("both framings", b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("both framings, the other way round", b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ("Transfer-Encoding gzip", b"Transfer-Encoding: gzip", 400),
    ("Transfer-Encoding gzip, chunked", b"Transfer-Encoding: gzip, chunked", 400),
    ("Transfer-Encoding chunked, gzip", b"Transfer-Encoding: chunked, gzip", 400),
    ("Transfer-Encoding chunked twice", b"Transfer-Encoding: chunked, chunked", 400),
    ("Transfer-Encoding on two lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding identity", b"Transfer-Encoding: identity", 400),
    ("Transfer-Encoding xchunked", b"Transfer-Encoding: xchunked", 400),
    ("Transfer-Encoding in quotes", b"Transfer-Encoding: \"chunked\"", 400),
    ("Transfer-Encoding with a parameter", b"Transfer-Encoding: chunked;a=b", 400),
    ("Transfer-Encoding with a comma", b"Transfer-Encoding: chunked,", 400),
    ("Transfer-Encoding empty", b"Transfer-Encoding:", 400),
    ("Transfer-Encoding with a vertical tab", b"Transfer-Encoding: \x0bchunked", 400),
    ("Transfer_Encoding is another field", b"Transfer_Encoding: chunked", 200),
    ("Expect without a body", b"Expect: 100-continue", 200),
    ("Expect something else", b"Expect: 200-ok", 417),
    ("Expect more", b"Expect: 100-continue, x", 417),
    ("Connection of many", b"Connection: keep-alive, Upgrade, close", 200),
    (
        "Upgrade to h2c is not taken up",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
        200,
    ),
];

/// Values of Host.
const HOSTS: &[Row] = &[
    ("Host empty", b"", 200),
    ("Host with a port", b"localhost:7020", 200),
    ("Host with an empty port", b"a:", 200),
    ("Host as IPv4", b"127.0.0.1", 200),
    ("Host as IPv6", b"[::1]:7020", 200),
    ("Host with an underscore", b"a_b", 200),
    ("Host escaped", b"%61", 200),
    ("Host with a space", b"a b", 400),
    ("Host with a comma and a space", b"a, b", 400),
    ("Host with a path", b"a/b", 400),
    ("Host with a scheme", b"http://a", 400),
    ("Host with a user", b"u@a", 400),
    ("Host with a bad port", b"a:b", 400),
    ("Host with two ports", b"a:1:2", 400),
    ("Host with a query", b"a?b", 400),
    ("Host with a fragment", b"a#b", 400),
    ("Host with a bad escape", b"%6", 400),
    ("Host with a quote", b"a\"", 400),
    ("Host with a byte over 127", b"\xc3\xbc", 400),
    ("Host as naked IPv6", b"::1", 400),
    ("Host as open IPv6", b"[::1", 400),
    ("Host as bad IPv6", b"[::g]", 400),
];

/// Messages with a sized body.
const BODIES: &[Row] = &[
    ("sized body", b"PUT /api/kv/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 200),
    (
        "equal lengths",
        b"PUT /api/kv/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 05\r\ncontent-length: 5\r\n\r\nhello",
        200,
    ),
    ("no body", b"PUT /api/kv/k HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    (
        "chunked in capitals",
        b"PUT /api/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:CHUNKED\t\r\n\r\n0\r\n\r\n",
        200,
    ),
    (
        "GET with a chunked body",
        b"GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        200,
    ),
];

/// Chunked bodies.
const CHUNKS: &[Row] = &[
    ("chunks", b"5\r\nhello\r\n0\r\n\r\n", 200),
    ("no chunk but the last", b"0\r\n\r\n", 200),
    ("last chunk of many zeros", b"0000000000000000\r\n\r\n", 200),
    ("size in capitals", b"A\r\n0123456789\r\n0\r\n\r\n", 200),
    ("extension", b"5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n", 200),
    ("trailers", b"0\r\nA: b\r\nC:\r\n\r\n", 200),
    ("framing in the trailers is ignored", b"0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\r\n", 200),
    ("no size", b"\r\nhello\r\n0\r\n\r\n", 400),
    ("size with a space before", b" 5\r\nhello\r\n0\r\n\r\n", 400),
    ("size with a space behind", b"5 \r\nhello\r\n0\r\n\r\n", 400),
    ("size with a tab behind", b"5\t\r\nhello\r\n0\r\n\r\n", 400),
    ("size with a space before its extension", b"5 ;a\r\nhello\r\n0\r\n\r\n", 400),
    ("size with a plus", b"+5\r\nhello\r\n0\r\n\r\n", 400),
    ("size negative", b"-5\r\nhello\r\n0\r\n\r\n", 400),
    ("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    ("size with h", b"5h\r\nhello\r\n0\r\n\r\n", 400),
    ("size of seventeen digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    ("size over 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    ("extension without a size", b";a\r\nhello\r\n0\r\n\r\n", 400),
    ("bare LF behind a size", b"5\nhello\r\n0\r\n\r\n", 400),
    ("bare CR behind a size", b"5\rhello\r\n0\r\n\r\n", 400),
    ("bare LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", 400),
    ("bare CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
    ("NUL in an extension", b"5;\0\r\nhello\r\n0\r\n\r\n", 400),
    ("chunk longer than its size", b"4\r\nhello\r\n0\r\n\r\n", 400),
    ("chunk shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", 400),
    ("bare LF behind a chunk", b"5\r\nhello\n0\r\n\r\n", 400),
    ("nothing behind a chunk", b"5\r\nhello0\r\n\r\n", 400),
    ("bare LF at the end", b"5\r\nhello\r\n0\r\n\n", 400),
    ("bare LF behind a trailer", b"0\r\nA: b\n\r\n", 400),
    ("trailer without a colon", b"0\r\nA\r\n\r\n", 400),
    ("trailer without a name", b"0\r\n: b\r\n\r\n", 400),
    ("trailer with a space before the colon", b"0\r\nA : b\r\n\r\n", 400),
    ("folded trailer", b"0\r\nA: b\r\n c\r\n\r\n", 400),
    ("NUL in a trailer", b"0\r\nA: \0\r\n\r\n", 400),
    ("another request in the place of trailers", b"0\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
];

/// Around each limit.
fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case =
        |name: String, bytes: String, status| cases.push(Case { name, bytes: bytes.into_bytes(), status });
    for (len, status) in [(8_191, 200), (8_192, 200), (8_193, 414)] {
        let target = format!("/health?{}", "x".repeat(len - 8));
        case(format!("target of {len} bytes"), format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), status);
    }
    case("target without an end".to_owned(), format!("GET /{}", "x".repeat(8_192)), 414);
    case(
        "target longer than a head".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)),
        414,
    );
    case("head without an end".to_owned(), format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(16_365)), 431);
    case("method without an end".to_owned(), "X".repeat(16_384), 431);
    for (len, status) in [(16_383, 200), (16_384, 200), (16_385, 431), (30_000, 431)] {
        let head = "GET /health HTTP/1.1\r\nHost: a\r\nX: ";
        let value = "x".repeat(len - head.len() - 4);
        case(format!("head of {len} bytes"), format!("{head}{value}\r\n\r\n"), status);
    }
    for (fields, status) in [(99, 200), (100, 200), (101, 431), (1_000, 431)] {
        let lines = "X: y\r\n".repeat(fields - 1);
        case(format!("{fields} fields"), format!("GET /health HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), status);
    }
    let put = "PUT /api/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (len, status) in [(255, 200), (256, 200), (257, 400)] {
        let line = format!("0;{}", "x".repeat(len - 2));
        case(format!("size line of {len} bytes"), format!("{put}{line}\r\n\r\n"), status);
    }
    for (len, status) in [(8_191, 200), (8_192, 200), (8_193, 431)] {
        let trailer = format!("X: {}\r\n", "x".repeat(len - 5));
        case(format!("trailers of {len} bytes"), format!("{put}0\r\n{trailer}\r\n"), status);
    }
    cases
}
