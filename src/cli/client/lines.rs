//! The lines of a dump as its two verbs see them: a first one, a last one, and as many between them as the
//! last one says.

use std::fmt;

use serde::Deserialize;

/// What was seen of a dump so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Lines, blank ones too.
    pub lines: u64,
    /// Entries as the first line promises them, about.
    pub expected: u64,
    /// Lines that are neither blank, nor a first nor a last one.
    told: u64,
    begun: bool,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct End {
    apps: u64,
    databases: u64,
    keys: u64,
    items: u64,
    lists: u64,
    records: u64,
}

/// Why lines are no whole dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It begins with another line than a dump.
    NoHead,
    /// Something stands behind the last line, or a first line is in the middle.
    Behind(u64),
    /// It ends without a last line, behind so many.
    Cut(u64),
    /// There are other lines than the last one says: so many are there, so many should be.
    Miscounted(u64, u64),
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoHead => write!(out, "it does not begin as a dump does"),
            Trouble::Behind(line) => write!(out, "line {line} stands behind its end"),
            Trouble::Cut(lines) => write!(out, "it is cut off behind line {lines}"),
            Trouble::Miscounted(there, counted) => {
                write!(out, "it has {there} entries and apps, and its last line counts {counted}")
            }
        }
    }
}

impl Tally {
    /// Counts a line.
    pub fn add(&mut self, line: &[u8]) -> Result<(), Trouble> {
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.end.is_some() {
            return Err(Trouble::Behind(self.lines));
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.expected = head(line).ok_or(Trouble::NoHead)?;
            return Ok(());
        }
        match end(line) {
            Some(end) => self.end = Some(end),
            None => self.told += 1,
        }
        Ok(())
    }

    /// Whether a whole dump was seen.
    pub fn end(&self) -> Result<(), Trouble> {
        let Some(End { apps, databases, keys, items, lists, records }) = self.end else {
            return Err(if self.begun { Trouble::Cut(self.lines) } else { Trouble::NoHead });
        };
        let counted = apps + databases + keys + items + lists + records;
        if counted == self.told { Ok(()) } else { Err(Trouble::Miscounted(self.told, counted)) }
    }
}

/// What a whole dump holds, in words.
impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(End { apps, databases, keys, items, lists, records }) = self.end else {
            return write!(out, "a part of a dump");
        };
        let of =
            |count: u64, one: &'static str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        write!(
            out,
            "{}, {}, {}, {}",
            of(keys, "key"),
            of(items, "item"),
            of(lists, "list"),
            of(apps, "app")
        )?;
        match databases {
            0 => Ok(()),
            count => write!(out, ", {} with {}", of(count, "database"), of(records, "record")),
        }
    }
}

/// What the first line of a dump promises, if it is one.
pub fn head(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Head {
        lucid: String,
        #[serde(default)]
        entries: u64,
    }
    let head: Head = line.starts_with(b"{\"lucid\"").then(|| serde_json::from_slice(line).ok())??;
    (head.lucid == "dump").then_some(head.entries)
}

fn end(line: &[u8]) -> Option<End> {
    #[derive(Deserialize)]
    struct Last {
        end: End,
    }
    let last: Last = line.starts_with(b"{\"end\"").then(|| serde_json::from_slice(line).ok())??;
    Some(last.end)
}

#[cfg(test)]
mod tests {
    use super::{Tally, Trouble};

    fn tally(lines: &[&str]) -> Result<String, Trouble> {
        let mut tally = Tally::default();
        lines.iter().try_for_each(|line| tally.add(line.as_bytes()))?;
        tally.end().map(|()| tally.to_string())
    }

    const HEAD: &str = "{\"lucid\":\"dump\",\"version\":1,\"entries\":1}\n";
    const END: &str =
        "{\"end\":{\"apps\":0,\"databases\":0,\"keys\":1,\"items\":0,\"lists\":0,\"records\":0}}\n";
    const KEY: &str = "{\"key\":\"a\",\"value\":\"b\"}\n";

    #[test]
    fn a_dump_is_whole_with_its_ends_and_all_that_it_counts() {
        assert_eq!(tally(&[HEAD, KEY, END, "\n"]), Ok("1 key, 0 items, 0 lists, 0 apps".into()));
        assert_eq!(tally(&[]), Err(Trouble::NoHead));
        assert_eq!(tally(&[KEY]), Err(Trouble::NoHead));
        assert_eq!(tally(&[HEAD, KEY]), Err(Trouble::Cut(2)));
        assert_eq!(tally(&[HEAD, KEY, &END[..9]]), Err(Trouble::Cut(3)));
        assert_eq!(tally(&[HEAD, END]), Err(Trouble::Miscounted(0, 1)));
        assert_eq!(tally(&[HEAD, KEY, END, KEY]), Err(Trouble::Behind(4)));
        assert_eq!(tally(&[HEAD, HEAD, END]), Ok("1 key, 0 items, 0 lists, 0 apps".into()));
    }
}
