//! The request head, read the slow and obvious way: a second opinion on the parser, for its tests
//! and for fuzzing. Follows RFC 9112 and the node's own rules line by line, knows nothing of the
//! parser, allocates freely, and cares for no order of complaints.

use std::net::Ipv6Addr;

/// What the naive reading comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The head is well-formed and says this.
    Taken(Head),
    /// It must be refused, with whatever status.
    Refused,
    /// It has no end yet.
    Incomplete,
}

/// A well-formed head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub http_1_1: bool,
    pub path: String,
    pub query: Option<String>,
    /// Names in lower case, values trimmed, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    pub chunked: bool,
    pub content_length: Option<u64>,
    pub keep_alive: bool,
    pub expect_continue: bool,
    /// Empty lines before the request included.
    pub len: usize,
}

/// Reads the head at the start of `buf`.
pub fn read(buf: &[u8]) -> Verdict {
    let mut blank = 0;
    while blank < 4 && buf[blank..].starts_with(b"\r\n") {
        blank += 2;
    }
    let rest = &buf[blank..];
    if rest.starts_with(b"\n") || rest.starts_with(b"\r") && (rest.len() > 1 || blank == 4) {
        return Verdict::Refused;
    }
    let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else { return Verdict::Incomplete };
    match read_complete(&rest[..end], blank + end + 4) {
        Some(head) if end + 4 <= 16_384 => Verdict::Taken(head),
        _ => Verdict::Refused,
    }
}

fn read_complete(text: &[u8], len: usize) -> Option<Head> {
    // One character for each byte, so that strings can be used.
    let text: String = text.iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let request_line: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version] = request_line[..] else { return None };

    let http_1_1 = match version {
        "HTTP/1.0" => false,
        "HTTP/1.1" | "HTTP/1.2" | "HTTP/1.3" | "HTTP/1.4" | "HTTP/1.5" | "HTTP/1.6" | "HTTP/1.7"
        | "HTTP/1.8" | "HTTP/1.9" => true,
        _ => return None,
    };
    if !["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"].contains(&method) {
        return None;
    }
    let (path, query) = read_target(target, method)?;

    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name_is_fine = !name.is_empty() && name.chars().all(is_tchar);
        let value_is_fine = value.chars().all(|c| c == '\t' || c >= ' ' && c != '\x7f');
        if !name_is_fine || !value_is_fine {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        fields.push((name.to_ascii_lowercase(), value.chars().map(|c| c as u8).collect::<Vec<u8>>()));
    }
    let values = |name: &str| -> Vec<String> {
        let of_name = fields.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.iter().map(|&byte| char::from(byte)).collect()).collect()
    };
    let options = |name: &str| -> Vec<String> {
        values(name).iter().flat_map(|value| split_list(&value.to_ascii_lowercase())).collect()
    };

    for once in [
        "host",
        "authorization",
        "token",
        "content-type",
        "content-encoding",
        "if-range",
        "range",
        "x-ttl",
        "x-fencing-token",
        "origin",
        "access-control-request-method",
        "transfer-encoding",
    ] {
        if values(once).len() > 1 {
            return None;
        }
    }
    if fields.len() > 100
        || http_1_1 && values("host").is_empty()
        || !values("host").iter().all(|h| is_authority(h))
    {
        return None;
    }

    let mut content_length = None;
    for value in values("content-length") {
        for number in value.split(',').map(|number| number.trim_matches([' ', '\t'])) {
            if number.is_empty() || !number.chars().all(|c| c.is_ascii_digit()) {
                return None;
            }
            let number: u64 = number.parse().ok()?;
            if *content_length.get_or_insert(number) != number {
                return None;
            }
        }
    }
    let codings = values("transfer-encoding");
    let chunked = !codings.is_empty();
    if chunked && (!codings[0].eq_ignore_ascii_case("chunked") || !http_1_1 || content_length.is_some()) {
        return None;
    }
    let expectations = if http_1_1 { options("expect") } else { Vec::new() };
    if expectations.iter().any(|expectation| expectation != "100-continue") {
        return None;
    }
    let connection = options("connection");
    let says = |option: &str| connection.iter().any(|other| other == option);
    Some(Head {
        method: method.to_owned(),
        http_1_1,
        path,
        query,
        chunked,
        content_length,
        keep_alive: !says("close") && (http_1_1 || says("keep-alive")),
        expect_continue: !expectations.is_empty()
            && (chunked || content_length.is_some_and(|length| length > 0)),
        len,
        fields,
    })
}

fn read_target(target: &str, method: &str) -> Option<(String, Option<String>)> {
    if target.len() > 8_192
        || target.is_empty()
        || target.chars().any(|c| !('!'..='~').contains(&c) || c == '#')
    {
        return None;
    }
    if target == "*" && method == "OPTIONS" {
        return Some(("*".to_owned(), None));
    }
    let mut local = target.to_owned();
    if !target.starts_with('/') {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if authority.is_empty() || authority.starts_with(':') || !is_authority(authority) {
            return None;
        }
        local = rest[end..].to_owned();
        if !local.starts_with('/') {
            local.insert(0, '/');
        }
    }
    Some(match local.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (local, None),
    })
}

fn is_authority(authority: &str) -> bool {
    let host_len = match authority.rfind(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_len);
    let port_is_fine =
        port.is_empty() || port.starts_with(':') && port[1..].chars().all(|c| c.is_ascii_digit());
    let host_is_fine = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => match address.to_ascii_lowercase().strip_prefix('v') {
            Some(future) => future.split_once('.').is_some_and(|(version, name)| {
                !version.is_empty()
                    && version.chars().all(|c| c.is_ascii_hexdigit())
                    && !name.is_empty()
                    && name.chars().all(|c| c == ':' || is_unreserved_or_sub_delim(c))
            }),
            None => address.parse::<Ipv6Addr>().is_ok(),
        },
        None => {
            let parts: Vec<&str> = host.split('%').collect();
            let escapes_are_fine =
                parts[1..].iter().all(|part| part.chars().take_while(char::is_ascii_hexdigit).count() >= 2);
            escapes_are_fine && parts.concat().chars().all(is_unreserved_or_sub_delim)
        }
    };
    port_is_fine && host_is_fine
}

/// Splits at commas outside quotes, drops what is empty.
fn split_list(list: &str) -> Vec<String> {
    let mut elements = vec![String::new()];
    let mut chars = list.chars();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            ',' if !quoted => {
                elements.push(String::new());
                continue;
            }
            '"' => quoted = !quoted,
            '\\' if quoted => {
                if let Some(escaped) = chars.next() {
                    elements.last_mut().unwrap().extend(['\\', escaped]);
                }
                continue;
            }
            _ => {}
        }
        elements.last_mut().unwrap().push(c);
    }
    elements.iter().map(|e| e.trim_matches([' ', '\t']).to_owned()).filter(|e| !e.is_empty()).collect()
}

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn is_unreserved_or_sub_delim(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c)
}
