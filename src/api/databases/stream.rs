//! What goes through all of a database: its values, the names of its keys, or how many there are.
//!
//! Shard by shard, a part at a time is brought here and written as JSON; once there is a page of it, it is
//! sent, and the next part asked for only when the client has taken that. So a database of any size is sent
//! with one page and one large value in hand. What fits into a page is answered with its length, anything
//! longer in chunks, or until the connection closes where there are no chunks.
//!
//! What is in the database from the beginning to the end is told once.

use std::sync::Arc;

use crate::config::Secret;
use crate::http::{Request, Status, Version, response};
use crate::limits::{DATABASE_PAGE_BYTES, DATABASE_PAGE_ENTRIES, VALUE_COPY_BYTES_MAX};
use crate::memory::{Large, Reservation};
use crate::op::Namespace;
use crate::shard::{Brought, Scan, ScanPlace, Sweep, Swept, SweptValue};

use super::super::gather::{Chore, Flow, Piece, Work};
use super::super::{Api, Tail, json};
use super::order::opening;
use super::seal::{self, Text};

/// What of a database is told.
#[derive(Debug)]
pub(super) enum Kind {
    /// Names and values, as far as this opens them.
    Values(Option<Secret>),
    /// The names that begin like this.
    Names(String),
    /// How many there are.
    Count,
}

/// Part of the entries of a page that are opened with a key, which takes its time.
const SEALED_PART: usize = 4;

/// A database on its way out.
#[derive(Debug)]
pub(super) struct Stream {
    namespace: Namespace,
    kind: Kind,
    shards: usize,
    /// Where to go on.
    shard: usize,
    place: ScanPlace,
    is_asked: bool,
    /// Entries that have yet to be written.
    entries: std::vec::IntoIter<Swept>,
    /// What has to be opened first.
    chore: Option<Chore>,
    is_opening: bool,
    count: u64,
    is_first: bool,
    /// What is to be sent, and a value behind it.
    text: Vec<u8>,
    large: Option<(Large, Option<Reservation>)>,
    has_begun: bool,
    is_written: bool,
    has_failed: bool,
    /// Held as long as anyone waits for it.
    asker: Arc<()>,
}

impl Stream {
    /// The beginning of a stream.
    pub fn new(namespace: Namespace, kind: Kind, shards: usize) -> Stream {
        let text = match kind {
            Kind::Values(_) => b"{".to_vec(),
            Kind::Names(_) => b"[".to_vec(),
            Kind::Count => Vec::new(),
        };
        Stream {
            namespace,
            kind,
            shards,
            shard: 0,
            place: ScanPlace::default(),
            is_asked: false,
            entries: Vec::new().into_iter(),
            chore: None,
            is_opening: false,
            count: 0,
            is_first: true,
            text,
            large: None,
            has_begun: false,
            is_written: false,
            has_failed: false,
            asker: Arc::new(()),
        }
    }

    /// The next piece, unless one is out or there is something to send first.
    pub fn next(&mut self) -> Option<Piece<'static>> {
        if self.is_asked || self.is_opening || self.is_written || self.has_page() || self.has_failed {
            return None;
        }
        if let Some(chore) = self.chore.take() {
            self.is_opening = true;
            return Some(Piece { index: 0, shard: 0, work: Work::Chore(chore) });
        }
        self.is_asked = true;
        let (brought, prefix, entries) = match &self.kind {
            Kind::Values(None) => (Brought::Values, "", DATABASE_PAGE_ENTRIES),
            Kind::Values(Some(_)) => (Brought::Values, "", DATABASE_PAGE_ENTRIES / SEALED_PART),
            Kind::Names(prefix) => (Brought::Names, prefix.as_str(), DATABASE_PAGE_ENTRIES),
            Kind::Count => (Brought::Count, "", DATABASE_PAGE_ENTRIES),
        };
        let sweep = Sweep::at(self.place, brought, prefix.as_bytes(), DATABASE_PAGE_BYTES, entries);
        let scan = Box::new(Scan::Sweep(sweep));
        let work = Work::Scan(self.namespace, scan, Arc::downgrade(&self.asker));
        Some(Piece { index: 0, shard: self.shard, work })
    }

    /// Brings back a part.
    pub fn accept(&mut self, sweep: Sweep) {
        self.is_asked = false;
        self.count += sweep.count;
        self.entries = sweep.found.into_iter();
        match sweep.next {
            Some(place) => self.place = place,
            None => {
                self.shard += 1;
                self.place = ScanPlace::default();
            }
        }
        self.write();
    }

    /// Brings back an opened value; `None` could not be.
    pub fn accept_opened(&mut self, text: Option<Text>, room: Option<Reservation>) {
        self.is_opening = false;
        match text {
            None => self.text.extend_from_slice(b"null"),
            Some(Text::Small(bytes)) => self.text.extend_from_slice(&bytes),
            Some(Text::Large(large)) => self.large = Some((large, room)),
        }
        self.write();
    }

    /// Whether a part of the answer was sent.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// It cannot go on.
    pub fn give_up(&mut self) {
        self.has_failed = true;
    }

    fn has_page(&self) -> bool {
        self.large.is_some() || self.text.len() >= DATABASE_PAGE_BYTES
    }

    /// Writes entries until there is a page, one has to be opened first, or they are through.
    fn write(&mut self) {
        while !self.has_page() && !self.is_opening && self.chore.is_none() {
            let Some(entry) = self.entries.next() else {
                if self.shard == self.shards {
                    self.write_end();
                }
                return;
            };
            if !std::mem::take(&mut self.is_first) {
                self.text.push(b',');
            }
            json::write_text(&mut self.text, &String::from_utf8_lossy(&entry.name));
            if let Kind::Values(encryption_key) = &self.kind {
                self.text.push(b':');
                let encryption_key = encryption_key.clone();
                self.write_value(entry, encryption_key);
            }
        }
    }

    fn write_value(&mut self, entry: Swept, encryption_key: Option<Secret>) {
        let kept = &*entry.value;
        if seal::is_sealed(kept) && encryption_key.is_none() {
            self.text.extend_from_slice(b"null");
        } else if seal::is_plain(kept) {
            match entry.value {
                SweptValue::Bytes(bytes) => self.text.extend_from_slice(&bytes),
                SweptValue::Large(large) => self.large = Some((large, None)),
            }
        } else if seal::work_bytes(kept) > VALUE_COPY_BYTES_MAX {
            let kept = match entry.value {
                SweptValue::Bytes(bytes) => Text::Small(bytes),
                SweptValue::Large(large) => Text::Large(large),
            };
            self.chore = Some(opening(kept, entry.name, encryption_key));
        } else {
            match seal::open(kept, &entry.name, encryption_key.as_ref().map(Secret::expose)) {
                Ok(text) => self.text.extend_from_slice(&text),
                Err(_) => self.text.extend_from_slice(b"null"),
            }
        }
    }

    fn write_end(&mut self) {
        match self.kind {
            Kind::Values(_) => self.text.push(b'}'),
            Kind::Names(_) => self.text.push(b']'),
            Kind::Count => response::decimal(&mut self.text, self.count),
        }
        self.is_written = true;
    }

    /// Whether all that is left can be sent at once.
    pub fn is_done(&self) -> bool {
        self.is_written && self.large.is_none()
    }

    /// Sends a page, if there is one.
    pub fn flow(
        &mut self,
        api: &mut Api,
        request: &Request,
        head: &[u8],
        close: bool,
        out: &mut Vec<u8>,
    ) -> Flow {
        if self.has_failed {
            return Flow::Broken;
        }
        if !self.has_page() {
            return Flow::Waits;
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            api.begin_stream(request, head, close, out);
        }
        let is_chunked = request.version == Version::Http11;
        write_chunk(&mut self.text, is_chunked, out);
        let (tail, room) = match self.large.take() {
            None => (Tail::None, None),
            Some((large, room)) if is_chunked => {
                out.extend_from_slice(format!("{:x}\r\n", large.len()).as_bytes());
                (Tail::Framed(large, b"\r\n"), room)
            }
            Some((large, room)) => {
                let range = 0..large.len();
                (Tail::Large(large, range), room)
            }
        };
        self.write();
        Flow::Sends(tail, room)
    }

    /// Sends the rest.
    pub fn finish(mut self, api: &mut Api, request: &Request, head: &[u8], close: bool, out: &mut Vec<u8>) {
        if !self.has_begun {
            api.begin_json(request, head, self.text.len(), close, out);
            out.extend_from_slice(&self.text);
            return;
        }
        let is_chunked = request.version == Version::Http11;
        write_chunk(&mut self.text, is_chunked, out);
        if is_chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// Moves a text to the answer. An empty chunk would be the last.
fn write_chunk(text: &mut Vec<u8>, is_chunked: bool, out: &mut Vec<u8>) {
    if text.is_empty() {
        return;
    }
    if is_chunked {
        out.extend_from_slice(format!("{:x}\r\n", text.len()).as_bytes());
    }
    out.extend_from_slice(text);
    if is_chunked {
        out.extend_from_slice(b"\r\n");
    }
    text.clear();
    text.shrink_to(2 * DATABASE_PAGE_BYTES);
}

impl Api {
    /// Appends the head of a success whose length is not known.
    fn begin_stream(&mut self, request: &Request, head: &[u8], close: bool, out: &mut Vec<u8>) {
        self.preamble.begin(out, Status::Ok);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        if request.version == Version::Http11 {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.end(Some((request, head)), close, out);
    }
}
