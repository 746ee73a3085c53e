//! What a seed chooses: how a node is set up, and what is asked of it.

use std::collections::BTreeSet;

use crate::journal::{JournalConfig, MasterKey, Random, Sync};
use crate::op::{Encoding, Namespace};

/// Something of the node that keys are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    App(u32),
    Database(u32),
}

impl Space {
    /// The name of its record.
    pub(super) fn name(self) -> Vec<u8> {
        match self {
            Space::App(number) => format!("app/{number}").into_bytes(),
            Space::Database(number) => format!("database/{number}").into_bytes(),
        }
    }

    pub(super) fn of(name: &[u8]) -> Space {
        let name = std::str::from_utf8(name).expect("a name of ours");
        let (kind, number) = name.split_once('/').expect("a name of ours");
        let number = number.parse().expect("a number of ours");
        if kind == "app" { Space::App(number) } else { Space::Database(number) }
    }

    fn number(self) -> u32 {
        match self {
            Space::App(number) | Space::Database(number) => number,
        }
    }

    pub(super) fn namespaces(self) -> Vec<Namespace> {
        match self {
            Space::App(number) => vec![Namespace::items(number), Namespace::lists(number)],
            Space::Database(number) => vec![Namespace::database(number)],
        }
    }
}

/// What an operation makes its effect depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cond {
    Nothing,
    IsNew,
    Exists,
    /// The tag that it has.
    Tag,
    /// One that it never has.
    OtherTag,
}

/// What is asked of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Get,
    Put { length: usize, seconds: Option<u32>, text: bool, encoding: Encoding, condition: Cond },
    Restore { length: usize, seconds: Option<u32>, locked: bool },
    Number,
    Delete,
    Lock { lease_seconds: Option<u32> },
    Unlock,
    Add,
    Expire { seconds: u32 },
    Persist,
}

/// What is asked of a list. Its values are the numbers from one to another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Write(u32, u32, Option<u32>),
    WriteNew(u32, u32, Option<u32>),
    Add(u32, u32, Option<u32>),
    Remove(u32, u32),
    Purge,
    Slice,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Key { namespace: Namespace, key: Vec<u8>, kind: Kind, shows_token: bool },
    List { namespace: Namespace, key: Vec<u8>, call: Call },
    Create { database: bool },
    Drop(Space),
}

impl Ask {
    pub(super) fn writes(&self) -> bool {
        !matches!(self, Ask::Key { kind: Kind::Get, .. } | Ask::List { call: Call::Slice, .. })
    }
}

/// How the node is set up, over all of its lives but for what each changes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub shards: usize,
    /// What a shard may take.
    pub memory_bytes: u64,
    pub evicts: bool,
    /// Few keys with values so large that the memory does not hold them all.
    pub is_tight: bool,
    /// Of so many asks one is for a space.
    spaces_one_in: u64,
    pub config: JournalConfig,
    keys: u64,
}

impl Plan {
    pub(super) fn of(random: &mut Random) -> Plan {
        let sync = sync(random);
        let is_tight = random.one_in(6);
        let segment_bytes = if is_tight { 256 } else { 16 << random.below(3) } * 1_024;
        let key = random.one_in(8).then(|| MasterKey::from_text("hush"));
        let config = JournalConfig { key, segment_bytes, threads: 1, ..JournalConfig::new(sync) };
        let shards = 1 + random.below(3);
        Plan {
            shards: shards as usize,
            memory_bytes: if is_tight { 3 << 20 } else { 8 << 20 },
            evicts: random.one_in(2),
            is_tight,
            spaces_one_in: if random.one_in(4) { 5 } else { 40 },
            config,
            keys: if is_tight { 24 * shards } else { 8 + random.below(16) },
        }
    }

    /// Changes what an operator may change between two lives. Whether everything has room as before.
    pub(super) fn change(&mut self, random: &mut Random) -> bool {
        let (shards, memory_bytes) = (self.shards, self.memory_bytes);
        if random.one_in(3) {
            self.shards = 1 + random.below(3) as usize;
        }
        if random.one_in(4) {
            self.config.sync = sync(random);
        }
        if self.is_tight && random.one_in(4) {
            self.memory_bytes = (2 << 20) + random.below(4 << 20);
        }
        shards == self.shards && memory_bytes <= self.memory_bytes
    }

    /// What a shard may take while it serves: as the node has it, which keeps room for bodies.
    pub(super) fn ceiling_bytes(&self) -> u64 {
        if self.evicts { self.memory_bytes / 16 * 15 } else { self.memory_bytes / 4 * 3 }
    }

    pub(super) fn value_bytes_max(&self) -> usize {
        if self.is_tight { 300 * 1_024 } else { 1 << 20 }
    }

    /// What a client asks next where there are these spaces.
    pub(super) fn ask(&self, random: &mut Random, spaces: &BTreeSet<Space>) -> Ask {
        let mut spaces: Vec<Space> = spaces.iter().copied().collect();
        spaces.sort_by_key(|space| space.number());
        if random.one_in(self.spaces_one_in) || spaces.is_empty() && random.one_in(8) {
            let drops = spaces.len() > 3 || random.one_in(4);
            return match spaces.get(random.below(spaces.len().max(1) as u64) as usize) {
                Some(space) if drops => Ask::Drop(*space),
                _ => Ask::Create { database: random.one_in(2) },
            };
        }
        // The newest ones are asked of most.
        let space = (!self.is_tight && random.one_in(2))
            .then(|| spaces.iter().rev().nth(random.below(4).min(random.below(4)) as usize))
            .flatten();
        let mut namespaces = space.map_or(vec![Namespace::KV], |space| space.namespaces());
        let namespace = namespaces.swap_remove(random.below(namespaces.len() as u64) as usize);
        if namespace.holds_lists() {
            let key = format!("list-{}", random.below(3)).into_bytes();
            return Ask::List { namespace, key, call: call(random) };
        }
        let keys = if namespace == Namespace::KV { self.keys } else { 6 };
        let key = format!("key-{}", random.below(keys)).into_bytes();
        let shows_token = random.one_in(2);
        Ask::Key { namespace, key, kind: self.kind(random), shows_token }
    }

    fn kind(&self, random: &mut Random) -> Kind {
        match random.below(40) {
            0..4 => Kind::Get,
            4..22 => Kind::Put {
                length: self.length(random),
                seconds: seconds(random),
                text: random.one_in(4),
                encoding: if random.one_in(8) { Encoding::Zstd } else { Encoding::Identity },
                condition: match random.below(16) {
                    0 => Cond::IsNew,
                    1 => Cond::Exists,
                    2 => Cond::Tag,
                    3 => Cond::OtherTag,
                    _ => Cond::Nothing,
                },
            },
            22 => Kind::Restore {
                length: self.length(random),
                seconds: seconds(random),
                locked: random.one_in(2),
            },
            23..25 => Kind::Number,
            25..29 => Kind::Delete,
            29..31 => Kind::Lock { lease_seconds: seconds(random) },
            31..33 => Kind::Unlock,
            33..36 => Kind::Add,
            36..38 => Kind::Expire { seconds: 1 + random.below(8) as u32 },
            _ => Kind::Persist,
        }
    }

    /// Most are short; some do not share a group, some are longer than one, some lie beside the ring.
    fn length(&self, random: &mut Random) -> usize {
        let length = match random.below(400) {
            _ if self.is_tight => 40_000 + random.below(250_000),
            0 => 300_000,
            1..6 => 33_000 + random.below(60_000),
            6..30 => 2_000 + random.below(20_000),
            _ => random.below(600),
        };
        length as usize
    }
}

fn sync(random: &mut Random) -> Sync {
    [Sync::Always, Sync::Everysec, Sync::Never][random.below(3) as usize]
}

fn seconds(random: &mut Random) -> Option<u32> {
    random.one_in(4).then(|| 1 + random.below(8) as u32)
}

fn call(random: &mut Random) -> Call {
    let from = random.below(6) as u32 * 40;
    let count = if random.one_in(3) { 100 + random.below(200) } else { random.below(30) };
    let to = from + count as u32;
    match random.below(16) {
        0 => Call::Write(from, to, seconds(random)),
        1..3 => Call::WriteNew(from, to, seconds(random)),
        3..9 => Call::Add(from, to, seconds(random)),
        9..13 => Call::Remove(from, to),
        13 => Call::Purge,
        _ => Call::Slice,
    }
}
