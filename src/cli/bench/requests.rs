//! The requests of a load: which kind comes next, for which key, and its bytes.

use crate::cli::client::node::Node;
use crate::http::response::decimal;

/// One write in so many requests of a mixed load.
const MIXED_PUT_EVERY: u64 = 10;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Get,
    /// Writes.
    Put,
    /// Removes.
    Delete,
}

/// What a load consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// One kind.
    Only(Kind),
    /// Nine gets to each put.
    Mixed,
}

/// Makes requests. All threads share one.
#[derive(Debug)]
pub struct Requests {
    mix: Mix,
    keys: u64,
    /// `/api/kv/` and what every key begins with.
    path: String,
    /// The fields that every request has.
    fields: String,
    value: Vec<u8>,
}

impl Requests {
    /// Requests for keys that begin with `prefix`, which is plain letters.
    pub fn new(node: &Node, prefix: &str, mix: Mix, keys: u64, value_bytes: usize) -> Requests {
        let authority = node.url().trim_start_matches("http://").split('/').next().unwrap_or_default();
        let token = node.token().map(|token| format!("Authorization: Bearer {}\r\n", token.expose()));
        Requests {
            mix,
            keys,
            path: format!("{}/api/kv/{prefix}", node.base_path()),
            fields: format!("Host: {authority}\r\n{}", token.unwrap_or_default()),
            value: vec![b'x'; value_bytes],
        }
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The next kind of a load.
    pub fn draw(&self, random: &mut Random) -> (Kind, u64) {
        let kind = match self.mix {
            Mix::Only(kind) => kind,
            Mix::Mixed if random.below(MIXED_PUT_EVERY) == 0 => Kind::Put,
            Mix::Mixed => Kind::Get,
        };
        (kind, random.below(self.keys))
    }

    /// The kind of a load that goes over every key.
    pub fn kind(&self) -> Kind {
        match self.mix {
            Mix::Only(kind) => kind,
            Mix::Mixed => Kind::Get,
        }
    }

    /// Appends the bytes of a request.
    pub fn write(&self, kind: Kind, key: u64, out: &mut Vec<u8>) {
        let method: &[u8] = match kind {
            Kind::Get => b"GET ",
            Kind::Put => b"PUT ",
            Kind::Delete => b"DELETE ",
        };
        out.extend_from_slice(method);
        out.extend_from_slice(self.path.as_bytes());
        decimal(out, key);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(self.fields.as_bytes());
        if kind == Kind::Put {
            out.extend_from_slice(b"Content-Length: ");
            decimal(out, self.value.len() as u64);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(&self.value);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): even and quick, and the same on every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, by Lemire's multiplication.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mix, Random, Requests};

    fn requests(mix: Mix) -> Requests {
        Requests {
            mix,
            keys: 8,
            path: "/api/kv/p-".into(),
            fields: "Host: h\r\nAuthorization: Bearer t\r\n".into(),
            value: b"xyz".to_vec(),
        }
    }

    #[test]
    fn a_request_is_written_whole() {
        let mut out = Vec::new();
        requests(Mix::Mixed).write(Kind::Put, 7, &mut out);
        requests(Mix::Mixed).write(Kind::Get, 0, &mut out);
        let fields = "HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n";
        let expected =
            format!("PUT /api/kv/p-7 {fields}Content-Length: 3\r\n\r\nxyzGET /api/kv/p-0 {fields}\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_mixed_load_writes_one_time_in_ten_and_meets_every_key() {
        let (requests, mut random) = (requests(Mix::Mixed), Random::new(1));
        let drawn: Vec<_> = (0..10_000).map(|_| requests.draw(&mut random)).collect();
        let puts = drawn.iter().filter(|(kind, _)| *kind == Kind::Put).count();
        assert!((800..1_200).contains(&puts), "{puts}");
        for key in 0..8 {
            let met = drawn.iter().filter(|(_, drawn)| *drawn == key).count();
            assert!((1_000..1_500).contains(&met), "{key}: {met}");
        }
        assert!(drawn.iter().all(|(_, key)| *key < 8));
    }
}
