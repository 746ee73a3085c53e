//! `GET /api/kv`: the keys in byte order, a page at a time.
//!
//! Every shard brings the smallest names past the cursor, as many as the page may hold; the
//! smallest of all are the page. The cursor is the last name answered, so it stays where it is
//! while keys come and go.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::auth::Scope;
use crate::clock::Now;
use crate::etag::Tags;
use crate::http::{Request, response, target};
use crate::limits::{KEY_BYTES_MAX, LIST_KEYS_DEFAULT, LIST_KEYS_MAX};
use crate::op::Namespace;
use crate::shard::{Listed, Scan};

use super::gather::{PIECES_MAX, Piece, Work};
use super::message::Problem;
use super::{Api, json, kv};

/// A page under way.
#[derive(Debug)]
pub(super) struct List {
    /// Whose keys.
    pub namespace: Namespace,
    wanted: Wanted,
    shards: usize,
    asked: usize,
    answered: usize,
    found: Vec<Listed>,
    more: bool,
    /// Held as long as anyone waits for the page.
    asker: Arc<()>,
}

/// A page of names.
#[derive(Debug)]
pub(super) struct Names {
    pub names: Vec<Vec<u8>>,
    /// There are others behind them.
    pub more: bool,
    pub prefix: Vec<u8>,
    pub limit: usize,
}

/// What the query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    prefix: Vec<u8>,
    after: Vec<u8>,
    limit: usize,
}

impl Api {
    /// Reads a listing. Whoever is limited to some keys gets those of them that are asked for.
    pub(super) fn list(
        &self,
        request: &Request,
        head: &[u8],
        scope: Option<Arc<Scope>>,
    ) -> Result<List, Problem> {
        let query = request.query.map_or(&b""[..], |query| query.of(head));
        let mut list = List::of(query, LIST_KEYS_DEFAULT, self.shards)?;
        if let Some(scope) = scope {
            list.wanted.keep_to(&scope)?;
        }
        Ok(list)
    }
}

impl Wanted {
    fn keep_to(&mut self, scope: &Scope) -> Result<(), Problem> {
        if scope.prefix.starts_with(&self.prefix) {
            self.prefix = scope.prefix.to_vec();
        }
        if scope.admits(Namespace::KV, &self.prefix) { Ok(()) } else { Err(Problem::OutOfScope) }
    }
}

impl List {
    /// The page that a query asks for, of so many names if it does not say.
    pub(super) fn of(query: &[u8], limit: usize, shards: usize) -> Result<List, Problem> {
        Ok(List {
            namespace: Namespace::KV,
            wanted: wanted(query, limit)?,
            shards,
            asked: 0,
            answered: 0,
            found: Vec::new(),
            more: false,
            asker: Arc::new(()),
        })
    }

    pub(super) fn next(&mut self) -> Option<Piece<'static>> {
        if self.asked == self.shards || self.asked - self.answered == PIECES_MAX {
            return None;
        }
        let shard = self.asked;
        self.asked += 1;
        let Wanted { prefix, after, limit } = &self.wanted;
        let scan = Box::new(Scan::page(prefix, after, *limit));
        let work = Work::Scan(self.namespace, scan, Arc::downgrade(&self.asker));
        Some(Piece { index: shard as u32, shard, work })
    }

    /// Merges a shard's page. No more names are kept than the page may have.
    pub(super) fn accept(&mut self, _index: u32, scan: Scan) {
        self.answered += 1;
        let (found, more) = scan.into_page();
        self.found.extend(found);
        self.more |= more || self.found.len() > self.wanted.limit;
        self.found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.found.truncate(self.wanted.limit);
    }

    pub(super) fn is_done(&self) -> bool {
        self.answered == self.shards
    }

    /// The page as names, and what it was asked for.
    pub(super) fn into_names(self) -> Names {
        let Wanted { prefix, limit, .. } = self.wanted;
        Names { names: self.found.into_iter().map(|key| key.name).collect(), more: self.more, prefix, limit }
    }

    /// The page as JSON.
    pub(super) fn body(self, tags: &Tags, now: Now) -> Vec<u8> {
        let mut body = b"{\"keys\":[".to_vec();
        for (at, key) in self.found.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            write_key(&mut body, key, tags, now);
        }
        body.extend_from_slice(b"],\"cursor\":");
        match self.found.last() {
            Some(last) if self.more => {
                json::write_text(&mut body, &URL_SAFE_NO_PAD.encode(&last.name));
                body.extend_from_slice(b",\"complete\":false}");
            }
            _ => body.extend_from_slice(b"null,\"complete\":true}"),
        }
        body
    }
}

fn write_key(body: &mut Vec<u8>, key: &Listed, tags: &Tags, now: Now) {
    match std::str::from_utf8(&key.name) {
        Ok(name) => {
            body.extend_from_slice(b"{\"name\":");
            json::write_text(body, name);
        }
        Err(_) => {
            body.extend_from_slice(b"{\"name_base64\":");
            json::write_text(body, &STANDARD.encode(&key.name));
        }
    }
    body.extend_from_slice(b",\"size\":");
    response::decimal(body, key.size);
    body.extend_from_slice(b",\"ttl\":");
    match kv::seconds_left(key.expires_ms, now) {
        Some(seconds) => response::decimal(body, seconds),
        None => body.extend_from_slice(b"null"),
    }
    body.extend_from_slice(b",\"etag\":");
    json::write_text(body, &String::from_utf8_lossy(&tags.tag(key.version)));
    body.extend_from_slice(b",\"type\":");
    json::write_text(body, &String::from_utf8_lossy(&key.content_type));
    body.push(b'}');
}

/// Reads the query. What is empty is as if it were not there; what is unknown is passed over.
fn wanted(query: &[u8], limit_default: usize) -> Result<Wanted, Problem> {
    let (mut prefix, mut cursor, mut limit) = (None, None, None);
    for pair in target::query_pairs(query) {
        let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
        let slot = match &*name {
            b"prefix" => &mut prefix,
            b"cursor" => &mut cursor,
            b"limit" => &mut limit,
            _ => continue,
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(Problem::QueryInvalid("a parameter stands twice"));
        }
    }
    let given = |value: Option<Vec<u8>>| value.filter(|value| !value.is_empty());
    let prefix = prefix.unwrap_or_default();
    if prefix.len() > KEY_BYTES_MAX {
        return Err(Problem::QueryInvalid("the prefix is longer than a key may be"));
    }
    Ok(Wanted {
        prefix,
        after: given(cursor).map_or(Ok(Vec::new()), |cursor| read_cursor(&cursor))?,
        limit: given(limit).map_or(Ok(limit_default), |limit| read_limit(&limit))?,
    })
}

fn read_limit(limit: &[u8]) -> Result<usize, Problem> {
    let number = limit.iter().all(u8::is_ascii_digit).then_some(limit);
    number
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .filter(|limit| (1..=LIST_KEYS_MAX).contains(limit))
        .ok_or(Problem::QueryInvalid("limit is an integer from 1 to 1000"))
}

fn read_cursor(cursor: &[u8]) -> Result<Vec<u8>, Problem> {
    let name = URL_SAFE_NO_PAD.decode(cursor).ok();
    name.filter(|name| (1..=KEY_BYTES_MAX).contains(&name.len()))
        .ok_or(Problem::QueryInvalid("the cursor is not one that a listing answered"))
}

#[cfg(test)]
mod tests {
    use super::{Wanted, wanted};
    use crate::api::message::Problem;
    use crate::auth::Scope;
    use crate::limits::LIST_KEYS_DEFAULT;
    use crate::op::Namespace;

    #[test]
    fn a_query_without_a_word_asks_for_the_first_hundred() {
        for query in ["", "prefix=&limit=&cursor=", "x=1&y"] {
            assert_eq!(
                wanted(query.as_bytes(), LIST_KEYS_DEFAULT),
                Ok(Wanted { prefix: vec![], after: vec![], limit: 100 }),
                "{query}"
            );
        }
        assert_eq!(
            wanted(b"prefix=a%2Fb+c&limit=1000&cursor=YS9i", LIST_KEYS_DEFAULT),
            Ok(Wanted { prefix: b"a/b c".to_vec(), after: b"a/b".to_vec(), limit: 1_000 })
        );
    }

    #[test]
    fn a_listing_is_kept_to_its_scope() {
        let scope = |namespace, prefix: &str| Scope { namespace, prefix: prefix.as_bytes().into() };
        for (query, scope, expected) in [
            ("", scope(None, "a/"), Some("a/")),
            ("prefix=a", scope(None, "a/"), Some("a/")),
            ("prefix=a/", scope(None, "a/"), Some("a/")),
            ("prefix=a/b", scope(None, "a/"), Some("a/b")),
            ("prefix=b", scope(None, "a/"), None),
            ("prefix=ab", scope(None, "a/"), None),
            ("prefix=b", scope(Some(Namespace::KV), ""), Some("b")),
            ("prefix=b", scope(Some(Namespace(7)), ""), None),
        ] {
            let mut wanted = wanted(query.as_bytes(), LIST_KEYS_DEFAULT).unwrap();
            let kept = wanted.keep_to(&scope).ok().map(|()| wanted.prefix);
            assert_eq!(kept.as_deref(), expected.map(str::as_bytes), "{query} {scope:?}");
        }
    }

    #[test]
    fn limits_cursors_and_prefixes_out_of_bounds_are_refused() {
        let long = "a".repeat(1_025);
        for query in [
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=1.5",
            "limit=x",
            "limit=99999999999999999999999",
            "limit=1&limit=1",
            "cursor=!",
            "cursor=YS9i=",
            "cursor=Y",
            "prefix=%zz",
            &format!("prefix={long}"),
            &format!(
                "cursor={long}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            ),
        ] {
            assert!(
                matches!(wanted(query.as_bytes(), LIST_KEYS_DEFAULT), Err(Problem::QueryInvalid(_))),
                "{query}"
            );
        }
        let longest = format!("prefix={}", "a".repeat(1_024));
        assert!(wanted(longest.as_bytes(), LIST_KEYS_DEFAULT).is_ok());
        assert!(wanted(b"limit=1", LIST_KEYS_DEFAULT).is_ok());
    }
}
