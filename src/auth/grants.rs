//! What a credential may do: a set of the grants of the contract, in one word.

use std::fmt;

/// A set of grants.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Grants(u32);

impl Grants {
    /// Nothing.
    pub const NONE: Grants = Grants(0);
    /// `kv:read`
    pub const KV_READ: Grants = Grants(1);
    /// `kv:write`
    pub const KV_WRITE: Grants = Grants(1 << 1);
    /// `kv:delete`
    pub const KV_DELETE: Grants = Grants(1 << 2);
    /// `kv:list`
    pub const KV_LIST: Grants = Grants(1 << 3);
    /// `kv:lock`
    pub const KV_LOCK: Grants = Grants(1 << 4);
    /// `kv:watch`
    pub const KV_WATCH: Grants = Grants(1 << 5);
    /// `light:read`
    pub const LIGHT_READ: Grants = Grants(1 << 6);
    /// `light:write`
    pub const LIGHT_WRITE: Grants = Grants(1 << 7);
    /// `db:read`
    pub const DB_READ: Grants = Grants(1 << 8);
    /// `db:write`
    pub const DB_WRITE: Grants = Grants(1 << 9);
    /// `db:admin`
    pub const DB_ADMIN: Grants = Grants(1 << 10);
    /// `log:write`
    pub const LOG_WRITE: Grants = Grants(1 << 11);
    /// `execute`
    pub const EXECUTE: Grants = Grants(1 << 12);
    /// `keys:read`
    pub const KEYS_READ: Grants = Grants(1 << 13);
    /// `keys:write`
    pub const KEYS_WRITE: Grants = Grants(1 << 14);
    /// `apps:admin`
    pub const APPS_ADMIN: Grants = Grants(1 << 15);
    /// `metrics:read`
    pub const METRICS_READ: Grants = Grants(1 << 16);
    /// `admin`. One grant among the others: it does not bring them along.
    pub const ADMIN: Grants = Grants(1 << 17);
    /// Every grant.
    pub const ALL: Grants = Grants((1 << NAMES.len()) - 1);

    /// The grant with this name, letter for letter.
    pub fn from_name(name: &[u8]) -> Option<Grants> {
        NAMES.iter().position(|known| known.as_bytes() == name).map(|bit| Grants(1 << bit))
    }

    /// The names of the grants in the set, in the order of the contract.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }

    /// Whether every grant of `needed` is in the set.
    pub const fn contains(self, needed: Grants) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// Whether any grant of `other` is in the set.
    pub const fn intersects(self, other: Grants) -> bool {
        self.0 & other.0 != 0
    }

    /// The grants of either set.
    pub const fn union(self, other: Grants) -> Grants {
        Grants(self.0 | other.0)
    }

    /// The grants of both sets.
    pub const fn intersection(self, other: Grants) -> Grants {
        Grants(self.0 & other.0)
    }

    /// The grants of this set that `other` lacks.
    pub const fn difference(self, other: Grants) -> Grants {
        Grants(self.0 & !other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a word, to be kept; [`Grants::from_bits`] reads it back.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    /// The set that [`Grants::bits`] gave.
    pub(super) const fn from_bits(bits: u32) -> Grants {
        Grants(bits & Grants::ALL.0)
    }
}

/// As in `X-Required-Grants`: names with `, ` between them.
impl fmt::Display for Grants {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names().enumerate() {
            out.write_str(if at == 0 { "" } else { ", " })?;
            out.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Grants({self})")
    }
}

/// Names by bit.
const NAMES: [&str; 18] = [
    "kv:read",
    "kv:write",
    "kv:delete",
    "kv:list",
    "kv:lock",
    "kv:watch",
    "light:read",
    "light:write",
    "db:read",
    "db:write",
    "db:admin",
    "log:write",
    "execute",
    "keys:read",
    "keys:write",
    "apps:admin",
    "metrics:read",
    "admin",
];

/// Longest name of a grant, in bytes. What is longer names none.
pub(super) const NAME_BYTES_MAX: usize = 16;

const _: () = {
    let mut at = 0;
    while at < NAMES.len() {
        assert!(NAMES[at].len() <= NAME_BYTES_MAX);
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::{Grants, NAMES};

    #[test]
    fn every_constant_carries_the_name_at_its_bit() {
        let constants = [
            Grants::KV_READ,
            Grants::KV_WRITE,
            Grants::KV_DELETE,
            Grants::KV_LIST,
            Grants::KV_LOCK,
            Grants::KV_WATCH,
            Grants::LIGHT_READ,
            Grants::LIGHT_WRITE,
            Grants::DB_READ,
            Grants::DB_WRITE,
            Grants::DB_ADMIN,
            Grants::LOG_WRITE,
            Grants::EXECUTE,
            Grants::KEYS_READ,
            Grants::KEYS_WRITE,
            Grants::APPS_ADMIN,
            Grants::METRICS_READ,
            Grants::ADMIN,
        ];
        let mut all = Grants::NONE;
        for (constant, name) in constants.into_iter().zip(NAMES) {
            assert_eq!(Grants::from_name(name.as_bytes()), Some(constant));
            assert_eq!(constant.to_string(), name);
            assert!(!all.intersects(constant));
            all = all.union(constant);
        }
        assert_eq!(all, Grants::ALL);
        assert_eq!(Grants::from_bits(Grants::ALL.bits()), Grants::ALL);
    }

    #[test]
    fn sets_combine_and_are_shown_by_name() {
        let both = Grants::KV_READ.union(Grants::ADMIN);
        assert_eq!(both.to_string(), "kv:read, admin");
        assert_eq!(format!("{both:?}"), "Grants(kv:read, admin)");
        assert!(both.contains(Grants::ADMIN) && both.contains(Grants::NONE));
        assert!(!both.contains(Grants::KV_READ.union(Grants::KV_WRITE)));
        assert!(both.intersects(Grants::KV_READ.union(Grants::KV_WRITE)));
        assert_eq!(both.difference(Grants::KV_READ), Grants::ADMIN);
        assert!(both.intersection(Grants::KV_LIST).is_empty());
        assert!(!Grants::ADMIN.contains(Grants::KV_READ), "admin brings no other grant along");
    }

    #[test]
    fn a_name_is_matched_letter_for_letter() {
        for name in ["", "KV:READ", "kv:read ", "kv", "kv:*", "*", "kv:readx"] {
            assert_eq!(Grants::from_name(name.as_bytes()), None, "{name}");
        }
    }
}
