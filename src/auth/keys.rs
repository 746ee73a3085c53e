//! The API keys of the node: made, listed, renamed, ended.
//!
//! A key never becomes more than it was made: its grants, scope and end stay. A key that another key
//! made ends with that one, so that whoever got hold of a key cannot outlive its removal. What was ended
//! stays on the list as revoked for a while, for people to see; expired keys stay until their room is
//! needed.
//!
//! However many keys there are, a call looks at a bounded number of them: those that ended with the one
//! that made them are come upon in passing, some with each change.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Grants;
use super::credential::{Credential, GENERATIONS_MAX, Scope};
use super::kept::{self, KeptKey, NotKept};
use super::ledger::{LOOKS_MAX, Office, PAGE_MAX, Page, Principal, Refused};
use super::opaque::{Id, Kind, draw_token};

/// Revoked keys that stay on the list.
const REVOKED_KEPT_MAX: usize = 1_000;

/// When the room is used up, keys that are of no use any more are looked for so often, in seconds.
const CLEARING_SECONDS: u64 = 60;

/// Records that a change looks at in passing.
const LOOKS_IN_PASSING: usize = 1_000;

/// What somebody wants a key to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub name: Box<str>,
    /// What it may do.
    pub grants: Grants,
    /// When it ends (Unix seconds); `None` is never.
    pub ends: Option<u64>,
    /// What limits it besides.
    pub scope: Option<Scope>,
}

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can.
    Active,
    /// Its time is over.
    Expired,
    /// It was deleted, or the key that made it was.
    Revoked,
}

/// A key as it is shown. Nothing of its secret is known here.
#[derive(Clone, Copy, Debug)]
pub struct KeyView<'a> {
    /// Its name for machines.
    pub id: Id,
    /// Its name for people.
    pub name: &'a str,
    /// Whose it is.
    pub owner: &'a str,
    /// What it may do.
    pub grants: Grants,
    /// What limits it besides.
    pub scope: Option<&'a Scope>,
    /// When it was made (Unix seconds).
    pub created: u64,
    /// When it ends, if it does.
    pub ends: Option<u64>,
    /// When it was last used, to the minute.
    pub last_used: Option<u64>,
    /// Whether it can be used.
    pub status: Status,
}

#[derive(Debug)]
struct Record {
    credential: Arc<Credential>,
    name: Box<str>,
    created: u64,
    ends: Option<u64>,
    /// One number for each that is among those that are forgotten before others, in their order.
    revoked: Option<u64>,
    /// The key that made it, if one did.
    maker: Option<u64>,
    /// What it was counted with.
    bytes: u64,
}

/// All API keys.
#[derive(Debug)]
pub struct Keys {
    office: Office,
    /// In the order in which they were made.
    records: BTreeMap<u64, Record>,
    serials: HashMap<Id, u64, ahash::RandomState>,
    next_serial: u64,
    /// The oldest first.
    revoked: VecDeque<u64>,
    next_revoked: u64,
    /// Up to where records were looked at in passing, and to make room.
    passed: u64,
    cleared: u64,
    clear_again_at: u64,
    /// Those to be kept anew, if anybody keeps them.
    changed: Option<Vec<Id>>,
}

impl Keys {
    pub(super) fn new(office: Office) -> Keys {
        Keys {
            office,
            records: BTreeMap::new(),
            serials: HashMap::default(),
            next_serial: 1,
            revoked: VecDeque::new(),
            next_revoked: 1,
            passed: 0,
            cleared: 0,
            clear_again_at: 0,
            changed: None,
        }
    }

    /// Makes a key, which is good once every reactor has learned of it. Its token is told this once.
    ///
    /// # Errors
    /// When it would be more than its maker, or there is no room.
    pub fn create(
        &mut self,
        maker: &Principal,
        new: NewKey,
        wall_seconds: u64,
    ) -> Result<(Zeroizing<String>, Arc<Credential>, KeyView<'_>), Refused> {
        self.check(maker, &new, wall_seconds)?;
        let bytes = self.bytes_of(maker.subject.len(), new.scope.as_ref(), new.name.len());
        self.pass();
        self.take(bytes, wall_seconds)?;
        let (id, token) =
            draw_token(Kind::ApiKey).inspect_err(|_| self.office.memory.give_from_credentials(bytes))?;
        let made_by = maker.key.and_then(|maker| Some(self.record(maker.id)?.credential.clone()));
        let credential = Credential::new(
            (id, Kind::ApiKey),
            self.office.node_key.digest(token.as_bytes()),
            new.grants,
            new.scope.map(Arc::new),
            maker.subject.clone(),
            new.ends,
        );
        let credential = Arc::new(credential.made_by(made_by));
        let serial = self.next_serial;
        self.next_serial += 1;
        let maker = maker.key.and_then(|maker| self.serials.get(&maker.id).copied());
        self.serials.insert(id, serial);
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        let record = self.records.entry(serial).or_insert(Record {
            credential: credential.clone(),
            name: new.name,
            created: wall_seconds,
            ends: new.ends,
            revoked: None,
            maker,
            bytes,
        });
        Ok((token, credential, record.view(wall_seconds)))
    }

    /// Whether a key may be made: no more than its maker in any way.
    fn check(&self, maker: &Principal, new: &NewKey, wall_seconds: u64) -> Result<(), Refused> {
        let lacking = new.grants.difference(maker.grants);
        if !lacking.is_empty() {
            return Err(Refused::ExceedsGrants(lacking));
        }
        if maker.scope.as_ref().is_some_and(|scope| !scope.contains(new.scope.as_ref())) {
            return Err(Refused::ExceedsScope);
        }
        let Some(maker) = maker.key else { return Ok(()) };
        // It may have been ended since it was let in.
        let made_by = self.record(maker.id);
        if made_by.is_some_and(|record| record.credential.generation() == GENERATIONS_MAX) {
            return Err(Refused::TooManyGenerations);
        }
        if made_by.is_none_or(|record| record.credential.has_ended(wall_seconds)) {
            return Err(Refused::MakerEnded);
        }
        match maker.ends {
            Some(ends) if new.ends.is_none_or(|wanted| wanted > ends) => Err(Refused::OutlivesMaker(ends)),
            _ => Ok(()),
        }
    }

    /// The keys that a caller sees, a page at a time, from behind the one with this number.
    pub fn list(&self, who: &Principal, after: u64, limit: usize, wall_seconds: u64) -> Page<KeyView<'_>> {
        let limit = limit.min(PAGE_MAX);
        let mut page = Page { items: Vec::new(), next: None };
        let mut last = after;
        for (looked, (serial, record)) in self.records.range(after.saturating_add(1)..).enumerate() {
            if looked == LOOKS_MAX || page.items.len() == limit {
                page.next = Some(last);
                break;
            }
            last = *serial;
            if record.is_visible(who) {
                page.items.push(record.view(wall_seconds));
            }
        }
        page
    }

    /// A key.
    ///
    /// # Errors
    /// When the caller sees none of this id.
    pub fn show(&self, who: &Principal, id: Id, wall_seconds: u64) -> Result<KeyView<'_>, Refused> {
        match self.record(id).filter(|record| record.is_visible(who)) {
            Some(record) => Ok(record.view(wall_seconds)),
            None => Err(Refused::Unknown),
        }
    }

    /// Gives a key another name.
    ///
    /// # Errors
    /// When the caller sees none of this id, or there is no room for the name.
    pub fn rename(
        &mut self,
        who: &Principal,
        id: Id,
        name: Box<str>,
        wall_seconds: u64,
    ) -> Result<KeyView<'_>, Refused> {
        let longer = name.len().saturating_sub(self.show(who, id, wall_seconds)?.name.len()) as u64;
        self.take(longer, wall_seconds)?;
        let Some(record) = self.serials.get(&id).and_then(|serial| self.records.get_mut(serial)) else {
            // It had ended itself, and was forgotten to make room.
            self.office.memory.give_from_credentials(longer);
            return Err(Refused::Unknown);
        };
        record.bytes += longer;
        record.name = name;
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        Ok(record.view(wall_seconds))
    }

    /// Ends a key, and all keys that it made. None of them is good any more when this is back, on any
    /// core. A key that has been ended stays so.
    ///
    /// # Errors
    /// When the caller sees none of this id.
    pub fn delete(&mut self, who: &Principal, id: Id, wall_seconds: u64) -> Result<(), Refused> {
        self.show(who, id, wall_seconds)?;
        if let Some(record) = self.record(id) {
            record.credential.revoke();
        }
        let serial = self.serials.get(&id).copied();
        serial.into_iter().for_each(|serial| self.queue(serial));
        self.office.epoch.bump();
        self.office.note_ended();
        self.pass();
        Ok(())
    }

    /// Puts a key that has been ended behind those that are forgotten before others, once.
    fn queue(&mut self, serial: u64) {
        let Some(record) = self.records.get_mut(&serial).filter(|record| record.revoked.is_none()) else {
            return;
        };
        record.revoked = Some(self.next_revoked);
        self.next_revoked += 1;
        self.revoked.push_back(serial);
        self.changed.iter_mut().for_each(|changed| changed.push(record.credential.id));
    }

    fn record(&self, id: Id) -> Option<&Record> {
        self.records.get(self.serials.get(&id)?)
    }

    /// Looks at some records, from where it left off: those that have ended with their maker are queued,
    /// and those that have been queued for long are forgotten.
    fn pass(&mut self) {
        let behind = self.records.range(self.passed.saturating_add(1)..);
        let (mut last, mut ended) = (0, Vec::new());
        for (looked, (serial, record)) in behind.take(LOOKS_IN_PASSING).enumerate() {
            // At the end it begins anew.
            last = if looked + 1 == LOOKS_IN_PASSING { *serial } else { 0 };
            if record.revoked.is_none() && record.credential.is_revoked() {
                ended.push(*serial);
            }
        }
        self.passed = last;
        ended.into_iter().for_each(|serial| self.queue(serial));
        // More than came in, so that what piled up goes too.
        for _ in 0..2 * LOOKS_IN_PASSING {
            if self.revoked.len() <= REVOKED_KEPT_MAX {
                break;
            }
            self.forget_oldest_revoked();
        }
    }

    /// Sees to it that there is room for so much else, if those that are of no use any more leave it.
    pub(super) fn make_room(&mut self, bytes: u64, wall_seconds: u64) {
        if self.take(bytes, wall_seconds).is_ok() {
            self.office.memory.give_from_credentials(bytes);
        }
    }

    /// Takes room for a record, if need be from those that are of no use any more.
    fn take(&mut self, bytes: u64, wall_seconds: u64) -> Result<(), Refused> {
        if self.office.memory.take_for_credentials(bytes) {
            return Ok(());
        }
        if wall_seconds >= self.clear_again_at {
            self.clear(wall_seconds);
        }
        if self.office.memory.take_for_credentials(bytes) { Ok(()) } else { Err(Refused::NoRoom) }
    }

    /// Forgets keys that are of no use any more, of as many as a call may look at. Once all were looked at,
    /// the next look is some time later.
    fn clear(&mut self, wall_seconds: u64) {
        for _ in 0..self.revoked.len().min(LOOKS_MAX) {
            self.forget_oldest_revoked();
        }
        let mut over = Vec::new();
        let (mut looked, mut last) = (0, 0);
        for (serial, record) in self.records.range(self.cleared.saturating_add(1)..).take(LOOKS_MAX) {
            (looked, last) = (looked + 1, *serial);
            if record.credential.has_ended(wall_seconds) {
                over.push(*serial);
            }
        }
        self.cleared = last;
        if looked < LOOKS_MAX {
            self.cleared = 0;
            self.clear_again_at = wall_seconds.saturating_add(CLEARING_SECONDS);
        }
        over.into_iter().for_each(|serial| self.forget(serial));
    }

    fn forget_oldest_revoked(&mut self) {
        if let Some(serial) = self.revoked.pop_front() {
            self.forget(serial);
        }
    }

    fn forget(&mut self, serial: u64) {
        if let Some(record) = self.records.remove(&serial) {
            self.serials.remove(&record.credential.id);
            self.changed.iter_mut().for_each(|changed| changed.push(record.credential.id));
            self.office.note_ended();
            self.office.memory.give_from_credentials(record.bytes);
        }
    }
}

/// What is kept of keys, and how they come back: see [`super::kept`].
impl Keys {
    /// What a key takes of the memory.
    fn bytes_of(&self, owner_bytes: usize, scope: Option<&Scope>, name_bytes: usize) -> u64 {
        self.office.credential_bytes(owner_bytes, scope)
            + Office::record_bytes::<Record>(name_bytes)
            + 4 * size_of::<u64>() as u64
    }

    pub(super) fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.records.values().map(|record| &record.credential)
    }

    /// The number of the next key.
    pub(super) fn numbers(&self) -> u64 {
        self.next_serial
    }

    pub(super) fn raise_numbers(&mut self, next: u64) {
        self.next_serial = self.next_serial.max(next);
    }

    /// Ties every key that came back to the one that made it, once all are back. Whose maker was forgotten has
    /// ended, as that one had.
    pub(super) fn find_makers(&mut self) {
        let serials: Vec<(u64, u64)> =
            self.records.iter().filter_map(|(serial, record)| Some((*serial, record.maker?))).collect();
        // A maker is older than what it made, so nothing is tied to a credential before it is tied itself.
        for (serial, maker) in serials {
            let maker = self.records.get(&maker).filter(|_| maker < serial);
            let maker = maker.map(|record| record.credential.clone());
            let Some(record) = self.records.get_mut(&serial) else { continue };
            if maker.is_none() {
                record.credential.revoke();
            }
            if let Some(credential) = Arc::get_mut(&mut record.credential) {
                credential.is_made_by(maker);
            }
        }
    }

    /// Has every change from now on remembered, for [`Keys::take_changed`].
    pub(super) fn follow_changes(&mut self) {
        let mut revoked: Vec<(u64, u64)> =
            self.records.iter().filter_map(|(serial, record)| Some((record.revoked?, *serial))).collect();
        revoked.sort_unstable();
        self.next_revoked = revoked.last().map_or(1, |(last, _)| last + 1);
        self.revoked = revoked.into_iter().map(|(_, serial)| serial).collect();
        self.changed = Some(Vec::new());
    }

    /// Those that have changed since the last time, each once; `None` if nobody keeps them.
    pub(super) fn take_changed(&mut self) -> Option<Vec<Id>> {
        let mut changed = std::mem::take(self.changed.as_mut()?);
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }

    pub(super) fn kept_behind(&self, serial: u64) -> impl Iterator<Item = (Id, KeptKey)> {
        self.records
            .range(serial.saturating_add(1)..)
            .map(|(serial, record)| (record.credential.id, record.kept(*serial)))
    }

    pub(super) fn kept(&self, id: Id) -> Option<KeptKey> {
        let serial = *self.serials.get(&id)?;
        Some(self.records.get(&serial)?.kept(serial))
    }

    pub(super) fn restore(&mut self, id: Id, kept: KeptKey) -> Result<(), NotKept> {
        let scope = kept::scope_of(kept.namespace, kept.prefix.as_deref())?;
        let (digest, grants) = (kept::digest_of(&kept.digest)?, kept::grants_of(&kept.grants)?);
        if self.serials.contains_key(&id) || self.records.contains_key(&kept.serial) {
            return Err(NotKept::Unreadable);
        }
        let bytes = self.bytes_of(kept.owner.len(), scope.as_ref(), kept.name.len());
        if !self.office.memory.take_for_credentials(bytes) {
            return Err(NotKept::NoRoom);
        }
        let owner: Arc<str> = kept.owner.into();
        let kind = Kind::ApiKey;
        let credential = Credential::new((id, kind), digest, grants, scope.map(Arc::new), owner, kept.ends);
        credential.note_use(kept.used.unwrap_or(0));
        if kept.revoked.is_some() {
            credential.revoke();
        }
        self.raise_numbers(kept.serial.saturating_add(1));
        self.serials.insert(id, kept.serial);
        self.records.insert(
            kept.serial,
            Record {
                credential: Arc::new(credential),
                name: kept.name,
                created: kept.created,
                ends: kept.ends,
                revoked: kept.revoked,
                maker: kept.maker,
                bytes,
            },
        );
        Ok(())
    }
}

impl Record {
    fn kept(&self, serial: u64) -> KeptKey {
        let (namespace, prefix) = kept::scope_parts(self.credential.scope.as_deref());
        KeptKey {
            form: kept::FORM,
            serial,
            name: self.name.clone(),
            owner: (*self.credential.owner).into(),
            grants: self.credential.grants.names().map(Box::from).collect(),
            namespace,
            prefix,
            created: self.created,
            ends: self.ends,
            revoked: self.revoked,
            maker: self.maker,
            used: self.credential.last_used(),
            digest: kept::digest_text(self.credential.digest()),
        }
    }

    /// Keys are personal: an owner sees those of the same owner, and `admin` all. Whoever is limited to
    /// some keys of the store sees only credentials that are so too.
    fn is_visible(&self, who: &Principal) -> bool {
        let own = *self.credential.owner == *who.subject || who.grants.contains(Grants::ADMIN);
        own && who.scope.as_ref().is_none_or(|scope| scope.contains(self.credential.scope.as_deref()))
    }

    fn view(&self, wall_seconds: u64) -> KeyView<'_> {
        let status = match self.ends {
            _ if self.credential.is_revoked() => Status::Revoked,
            Some(ends) if ends <= wall_seconds => Status::Expired,
            _ => Status::Active,
        };
        KeyView {
            id: self.credential.id,
            name: &self.name,
            owner: &self.credential.owner,
            grants: self.credential.grants,
            scope: self.credential.scope.as_deref(),
            created: self.created,
            ends: self.ends,
            last_used: self.credential.last_used(),
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LOOKS_IN_PASSING, NewKey, REVOKED_KEPT_MAX, Status};
    use crate::auth::credential::{Credential, GENERATIONS_MAX, Scope};
    use crate::auth::{
        Directory, Grants, Ledger, Principal, Refused, Trust, Unauthorized, Verifier, VerifierConfig,
    };
    use crate::memory::Memory;

    const MIB: u64 = 1 << 20;
    const NOW: u64 = 1_000_000;

    struct Bench {
        ledger: Ledger,
        directory: Directory,
        trust: Trust,
        memory: Arc<Memory>,
    }

    fn bench(memory_bytes: u64) -> Bench {
        let config = VerifierConfig { enabled: false, secret: b"", leeway_seconds: 0, require_exp: true };
        let trust = Trust::new(Verifier::new(config)).unwrap();
        let memory = Memory::new(memory_bytes, 1, true).unwrap();
        let ledger = Ledger::new(&trust, memory.clone(), 1, NOW).unwrap();
        Bench { ledger, directory: Directory::new(trust.node_key.clone()), trust, memory }
    }

    fn person(subject: &str, grants: Grants) -> Principal {
        Principal { subject: subject.into(), grants, scope: None, key: None }
    }

    fn key(name: &str, grants: Grants) -> NewKey {
        NewKey { name: name.into(), grants, ends: None, scope: None }
    }

    fn prefix(prefix: &str) -> Scope {
        Scope { namespace: None, prefix: prefix.as_bytes().into() }
    }

    impl Bench {
        fn make(&mut self, maker: &Principal, new: NewKey) -> Result<(String, Arc<Credential>), Refused> {
            let (token, credential, _) = self.ledger.keys.create(maker, new, NOW)?;
            self.directory.learn(credential.clone(), NOW);
            Ok((token.to_string(), credential))
        }

        fn names(&self, who: &Principal) -> Vec<String> {
            let page = self.ledger.keys.list(who, 0, 1_000, NOW);
            page.items.iter().map(|view| view.name.to_owned()).collect()
        }
    }

    #[test]
    fn no_key_is_more_than_its_maker() {
        let mut bench = bench(64 * MIB);
        let some = Grants::KV_READ.union(Grants::KEYS_WRITE);
        let maker = person("me", some);
        assert!(bench.make(&maker, key("same", some)).is_ok());
        let more = bench.make(&maker, key("more", some.union(Grants::KV_LIST).union(Grants::ADMIN)));
        assert_eq!(more.unwrap_err(), Refused::ExceedsGrants(Grants::KV_LIST.union(Grants::ADMIN)));
        let scoped = Principal { scope: Some(Arc::new(prefix("a/"))), ..maker };
        for (scope, good) in
            [(None, false), (Some("a"), false), (Some("b/"), false), (Some("a/"), true), (Some("a/b"), true)]
        {
            let new = NewKey { scope: scope.map(prefix), ..key("scoped", some) };
            let made = bench.make(&scoped, new);
            assert_eq!(made.err(), (!good).then_some(Refused::ExceedsScope), "{scope:?}");
        }
    }

    #[test]
    fn a_key_made_by_a_key_ends_before_it_and_with_it() {
        let mut bench = bench(64 * MIB);
        let grants = Grants::KEYS_WRITE.union(Grants::KV_READ);
        let until = |ends| NewKey { ends, ..key("key", grants) };
        let (_, parent) = bench.make(&person("me", Grants::ALL), until(Some(NOW + 100))).unwrap();
        let with_parent = Principal::of(&parent);
        for ends in [None, Some(NOW + 101)] {
            assert_eq!(bench.make(&with_parent, until(ends)).unwrap_err(), Refused::OutlivesMaker(NOW + 100));
        }
        let (_, child) = bench.make(&with_parent, until(Some(NOW + 100))).unwrap();
        let (token, _) = bench.make(&Principal::of(&child), until(Some(NOW + 50))).unwrap();
        let (other, _) = bench.make(&person("me", Grants::ALL), until(None)).unwrap();
        assert!(bench.directory.find(token.as_bytes(), NOW).is_ok());
        bench.ledger.keys.delete(&person("me", Grants::NONE), parent.id, NOW).unwrap();
        assert_eq!(bench.directory.find(token.as_bytes(), NOW).unwrap_err(), Unauthorized::Revoked);
        assert!(bench.directory.find(other.as_bytes(), NOW).is_ok());
        // What was let in before it ended cannot make another now.
        assert_eq!(bench.make(&with_parent, until(Some(NOW + 1))).unwrap_err(), Refused::MakerEnded);
    }

    #[test]
    fn keys_are_personal_and_admin_sees_all() {
        let mut bench = bench(64 * MIB);
        for owner in ["ann", "bob"] {
            bench.make(&person(owner, Grants::ALL), key(owner, Grants::KV_READ)).unwrap();
        }
        let of_ann = bench.ledger.keys.list(&person("ann", Grants::NONE), 0, 10, NOW).items[0].id;
        assert_eq!(bench.names(&person("ann", Grants::KEYS_READ)), ["ann"]);
        assert_eq!(bench.names(&person("eve", Grants::KEYS_READ)), [""; 0]);
        assert_eq!(bench.names(&person("eve", Grants::ADMIN)), ["ann", "bob"]);
        let eve = person("eve", Grants::KEYS_WRITE);
        assert_eq!(bench.ledger.keys.show(&eve, of_ann, NOW).unwrap_err(), Refused::Unknown);
        assert_eq!(bench.ledger.keys.rename(&eve, of_ann, "x".into(), NOW).unwrap_err(), Refused::Unknown);
        assert_eq!(bench.ledger.keys.delete(&eve, of_ann, NOW).unwrap_err(), Refused::Unknown);
        let scoped = Principal { scope: Some(Arc::new(prefix("a"))), ..person("ann", Grants::ALL) };
        assert_eq!(bench.names(&scoped), [""; 0], "her other keys reach further than this one");
    }

    #[test]
    fn a_key_is_renamed_ended_and_shown_with_its_status() {
        let mut bench = bench(64 * MIB);
        let me = person("me", Grants::ALL);
        let new = NewKey { ends: Some(NOW + 10), ..key("first", Grants::KV_READ) };
        let (token, credential) = bench.make(&me, new).unwrap();
        let id = credential.id;
        assert_eq!(
            bench.ledger.keys.rename(&me, id, "a longer name".into(), NOW).unwrap().name,
            "a longer name"
        );
        let status = |bench: &Bench, now| bench.ledger.keys.show(&me, id, now).unwrap().status;
        assert_eq!([status(&bench, NOW + 9), status(&bench, NOW + 10)], [Status::Active, Status::Expired]);
        let epoch = bench.trust.epoch().current();
        for _ in 0..2 {
            bench.ledger.keys.delete(&me, id, NOW).unwrap();
            assert_eq!(status(&bench, NOW), Status::Revoked);
        }
        assert!(bench.trust.epoch().current() > epoch);
        assert_eq!(bench.directory.find(token.as_bytes(), NOW).unwrap_err(), Unauthorized::Revoked);
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let mut bench = bench(64 * MIB);
        for number in 0..25 {
            let owner = if number % 5 == 0 { "other" } else { "me" };
            bench.make(&person(owner, Grants::ALL), key(&number.to_string(), Grants::KV_READ)).unwrap();
        }
        let me = person("me", Grants::NONE);
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let page = bench.ledger.keys.list(&me, after, 3, NOW);
            seen.extend(page.items.iter().map(|view| view.name.to_owned()));
            let Some(next) = page.next else { break };
            after = next;
        }
        let expected: Vec<String> = (0..25).filter(|n| n % 5 != 0).map(|n| n.to_string()).collect();
        assert_eq!(seen, expected);
        assert_eq!(bench.ledger.keys.list(&me, u64::MAX, 3, NOW).items.len(), 0);
    }

    #[test]
    fn the_room_for_credentials_ends_and_comes_back_with_those_that_ended() {
        let mut bench = bench(MIB);
        let me = person("me", Grants::ALL);
        let mut made = Vec::new();
        let full = loop {
            match bench.make(&me, NewKey { ends: Some(NOW + 10), ..key("key", Grants::KV_READ) }) {
                Ok((_, credential)) => made.push(credential.id),
                Err(refused) => break refused,
            }
        };
        assert_eq!(full, Refused::NoRoom);
        assert!((100..1_000).contains(&made.len()), "{} keys in 128 KiB", made.len());
        assert!(bench.memory.credential_bytes() <= MIB / 8);
        bench.ledger.keys.delete(&me, made[0], NOW).unwrap();
        // Looked for a moment ago, and looked for again a minute later.
        assert_eq!(bench.make(&me, key("early", Grants::KV_READ)).unwrap_err(), Refused::NoRoom);
        let later = NOW + 60;
        assert!(bench.ledger.keys.create(&me, key("late", Grants::KV_READ), later).is_ok());
        let left = bench.ledger.keys.list(&me, 0, 1_000, later).items.len();
        assert_eq!(left, 1, "all but the new one had expired");
    }

    #[test]
    fn revoked_keys_stay_listed_up_to_a_bound() {
        let mut bench = bench(64 * MIB);
        let me = person("me", Grants::ALL);
        let before = bench.memory.credential_bytes();
        for _ in 0..REVOKED_KEPT_MAX + 5 {
            let (_, credential) = bench.make(&me, key("key", Grants::KV_READ)).unwrap();
            bench.ledger.keys.delete(&me, credential.id, NOW).unwrap();
        }
        assert_eq!(bench.names(&me).len(), REVOKED_KEPT_MAX);
        while !bench.ledger.keys.revoked.is_empty() {
            bench.ledger.keys.forget_oldest_revoked();
        }
        assert_eq!(bench.memory.credential_bytes(), before);
    }

    #[test]
    fn a_key_that_makes_and_ends_keys_forever_does_not_grow() {
        let mut bench = bench(64 * MIB);
        let grants = Grants::KEYS_WRITE.union(Grants::KV_READ);
        let (_, maker) = bench.make(&person("me", grants), key("maker", grants)).unwrap();
        let maker = Principal::of(&maker);
        for _ in 0..3 * REVOKED_KEPT_MAX {
            let (_, child) = bench.make(&maker, key("child", Grants::KV_READ)).unwrap();
            bench.ledger.keys.delete(&maker, child.id, NOW).unwrap();
        }
        assert_eq!(bench.ledger.keys.records.len(), 1 + REVOKED_KEPT_MAX);
    }

    #[test]
    fn a_key_with_very_many_descendants_is_ended_at_once_and_they_are_forgotten_in_passing() {
        let mut bench = bench(64 * MIB);
        let grants = Grants::KEYS_WRITE.union(Grants::KV_READ);
        let me = person("me", grants);
        let (_, maker) = bench.make(&me, key("maker", grants)).unwrap();
        let children: Vec<_> = (0..5 * LOOKS_IN_PASSING)
            .map(|_| bench.make(&Principal::of(&maker), key("child", grants)).unwrap())
            .collect();
        let before = bench.ledger.keys.revoked.len();
        bench.ledger.keys.delete(&me, maker.id, NOW).unwrap();
        assert!(bench.ledger.keys.revoked.len() - before <= 1 + LOOKS_IN_PASSING, "not all in one pass");
        for (token, child) in &children {
            assert_eq!(bench.directory.find(token.as_bytes(), NOW).unwrap_err(), Unauthorized::Revoked);
            assert_eq!(
                bench.make(&Principal::of(child), key("no", Grants::NONE)).unwrap_err(),
                Refused::MakerEnded
            );
        }
        // A few changes come to all of them more than once.
        assert!(bench.ledger.keys.records.len() > REVOKED_KEPT_MAX + 2);
        for _ in 0..20 {
            let (_, other) = bench.make(&me, key("other", grants)).unwrap();
            bench.ledger.keys.delete(&me, other.id, NOW).unwrap();
        }
        assert_eq!(bench.ledger.keys.records.len(), REVOKED_KEPT_MAX);
        assert!(bench.ledger.take_ended() && !bench.ledger.take_ended());
    }

    #[test]
    fn a_line_of_keys_that_make_one_another_has_an_end() {
        let mut bench = bench(64 * MIB);
        let grants = Grants::KEYS_WRITE;
        let mut who = person("me", grants);
        for _ in 0..GENERATIONS_MAX {
            let (_, credential) = bench.make(&who, key("key", grants)).unwrap();
            who = Principal::of(&credential);
        }
        assert_eq!(bench.make(&who, key("key", grants)).unwrap_err(), Refused::TooManyGenerations);
    }

    #[test]
    fn a_name_that_finds_no_room_for_its_key_takes_none() {
        let mut bench = bench(MIB);
        let me = person("me", Grants::ALL);
        let until = |name: &str| NewKey { ends: Some(NOW + 1), ..key(name, Grants::KV_READ) };
        let (_, expiring) = bench.make(&me, until("")).unwrap();
        while bench.make(&me, until("")).is_ok() {}
        // To make room for the name, all that has ended is forgotten: the key that was to have it, too.
        let renamed = bench.ledger.keys.rename(&me, expiring.id, "n".repeat(4_000).into(), NOW + 100);
        assert_eq!(renamed.map(|_| ()).unwrap_err(), Refused::Unknown);
        assert_eq!((bench.ledger.keys.records.len(), bench.memory.credential_bytes()), (0, 0));
    }
}
