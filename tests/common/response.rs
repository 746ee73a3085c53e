//! One answer, parsed without mercy: whatever a strict client could stumble over is a failed test.

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Field names as they were sent, with their values, in order.
    pub fields: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// Parses a head, blank line included. Says what is wrong with it.
    pub fn parse_head(head: &[u8]) -> Result<Response, String> {
        let text = std::str::from_utf8(head).map_err(|_| format!("head is not UTF-8: {head:?}"))?;
        let text = text.strip_suffix("\r\n\r\n").ok_or("head without its end")?;
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let rest = status_line
            .strip_prefix("HTTP/1.1 ")
            .ok_or_else(|| format!("no status line of HTTP/1.1: {status_line:?}"))?;
        let (code, reason) =
            rest.split_once(' ').ok_or_else(|| format!("no space behind the code: {status_line:?}"))?;
        if code.len() != 3 || reason.is_empty() {
            return Err(format!("bad status line: {status_line:?}"));
        }
        let status = code.parse().map_err(|_| format!("bad code: {status_line:?}"))?;
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("bad field line: {line:?}"))?;
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("bad field name: {line:?}"));
            }
            if value != value.trim() || value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
                return Err(format!("bad field value: {line:?}"));
            }
            fields.push((name.to_string(), value.to_string()));
        }
        let response = Response { status, fields, body: Vec::new() };
        response.check_fields()?;
        Ok(response)
    }

    fn check_fields(&self) -> Result<(), String> {
        for (at, (name, _)) in self.fields.iter().enumerate() {
            let twice = self.fields[..at].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name));
            if twice && !name.eq_ignore_ascii_case("vary") {
                return Err(format!("{name} comes twice: {self:?}"));
            }
        }
        // Whole databases and dumps alone are of unknown length.
        if let Some(coding) = self.field("transfer-encoding") {
            let is_good = coding == "chunked"
                && self.status == 200
                && self.field("content-length").is_none()
                && matches!(self.field("content-type"), Some("application/json" | "application/x-ndjson"));
            return if is_good { Ok(()) } else { Err(format!("chunks where none belong: {self:?}")) };
        }
        if self.status < 200 {
            return if self.fields.is_empty() { Ok(()) } else { Err(format!("fields in a 1xx: {self:?}")) };
        }
        let server = concat!("lucid/", env!("CARGO_PKG_VERSION"));
        if self.field("server") != Some(server) {
            return Err(format!("Server is not {server}: {self:?}"));
        }
        if !self.field("date").is_some_and(is_http_date) {
            return Err(format!("no good Date: {self:?}"));
        }
        match (self.status, self.field("content-length")) {
            (204, Some(_)) => Err(format!("Content-Length in a 204: {self:?}")),
            (204 | 304, None) => Ok(()),
            (200, None) if self.field("transfer-encoding").is_some() => Ok(()),
            (_, Some(digits)) if digits.parse::<u64>().is_ok_and(|n| n.to_string() == digits) => Ok(()),
            _ => Err(format!("no good Content-Length: {self:?}")),
        }
    }

    /// Whether the answer to `method` brings a body.
    pub fn brings_body(&self, method: &str) -> bool {
        method != "HEAD" && self.status >= 200 && self.status != 204 && self.status != 304
    }

    /// The declared length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.field("content-length").and_then(|digits| digits.parse().ok())
    }

    /// The value of a field, by a name of any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The value of a field that must be there.
    #[track_caller]
    pub fn expect_field(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("{name} is missing: {self}"))
    }

    /// Whether a list field (over all its lines) has this member, by a name of any case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        self.fields
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(','))
            .any(|own| own.trim().eq_ignore_ascii_case(member))
    }

    /// The fields but for Date, as a set that can be compared.
    pub fn fields_sorted(&self) -> Vec<(String, String)> {
        let mut fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, _)| name != "date")
            .collect();
        fields.sort();
        fields
    }

    /// Whether the connection ends behind this answer.
    pub fn closes(&self) -> bool {
        self.lists("connection", "close")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.field("content-type"), Some("application/json"), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The `message` of a JSON body.
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_else(|| panic!("no message: {self}")).to_string()
    }

    /// Passes the answer on if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl std::fmt::Display for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.body[..self.body.len().min(500)];
        write!(f, "{} {:?} {:?}", self.status, self.fields, String::from_utf8_lossy(shown))
    }
}

/// Whether `text` has the shape of an IMF-fixdate (RFC 9110, section 5.6.7).
pub fn is_http_date(text: &str) -> bool {
    const SHAPE: &[u8; 29] = b"aaa, 00 aaa 0000 00:00:00 GMT";
    text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'a' => byte.is_ascii_alphabetic(),
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}
