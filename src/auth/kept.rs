//! The ledger as records of the journal: what is kept of keys and apps, and how it comes back.
//!
//! | name | what |
//! |---|---|
//! | `node-key` | a byte 1, then the 32 bytes that all digests are keyed with |
//! | `numbers` | the numbers that are given out next, of which none is ever used again |
//! | `key/ID` | an API key |
//! | `app/ID` | an app with its tokens |
//!
//! All but the first are JSON objects with `"form":1` in them; digests and prefixes stand in base64. Nothing
//! is kept of a token but its digest, as in memory. When a credential was last used is kept as it was when its
//! record was last written for another reason.
//!
//! A change is a whole record, so the last one of a name is all there is to know of it.

use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::credential::{Digest, NODE_KEY_BYTES, NodeKey, Scope};
use super::ledger::Ledger;
use super::opaque::Id;
use super::{Grants, Trust};
use crate::op::Namespace;

/// The form that is written, and the only one that is read.
pub(super) const FORM: u32 = 1;

const NODE_KEY: &[u8] = b"node-key";
const NUMBERS: &[u8] = b"numbers";
const KEY: &str = "key/";
const APP: &str = "app/";

/// A record under its name; `None` when there is none any more.
pub type LedgerChange = (Box<[u8]>, Option<Zeroizing<Vec<u8>>>);

/// How far all records were gone through: keys and apps in the order in which they were made.
#[derive(Clone, Copy, Debug, Default)]
pub enum RecordsWalk {
    /// What there is once comes first.
    #[default]
    Own,
    /// The keys behind this one.
    Keys(u64),
    /// The apps behind this one.
    Apps(u64),
    /// There are no more.
    Over,
}

/// Why a ledger cannot be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrestored {
    /// The record of this name is none that this version reads.
    Unreadable(Box<str>),
    /// What was kept is more than the share of credentials in the memory.
    NoRoom,
    /// The ledger works with another key for digests than the records: [`Trust::restored`] comes first.
    OtherNodeKey,
}

impl fmt::Display for Unrestored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unrestored::Unreadable(name) => {
                write!(out, "the record {name} of the node is none that this version reads")
            }
            Unrestored::NoRoom => out.write_str(
                "API keys and apps take more than an eighth of the memory limit: raise store.memory_limit",
            ),
            Unrestored::OtherNodeKey => {
                out.write_str("API keys and apps were kept under another key of the node")
            }
        }
    }
}

impl Error for Unrestored {}

/// Numbers that are given out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbers {
    pub form: u32,
    pub key: u64,
    pub app: u64,
    pub namespace: u32,
}

/// An API key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptKey {
    pub form: u32,
    pub serial: u64,
    pub name: Box<str>,
    pub owner: Box<str>,
    pub grants: Vec<Box<str>>,
    pub namespace: Option<u32>,
    pub prefix: Option<Box<str>>,
    pub created: u64,
    pub ends: Option<u64>,
    /// One number for each that was revoked, in their order.
    pub revoked: Option<u64>,
    /// The serial of the key that made it.
    pub maker: Option<u64>,
    pub used: Option<u64>,
    pub digest: Box<str>,
}

/// An app.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptApp {
    pub form: u32,
    pub serial: u64,
    pub name: Box<str>,
    pub number: u32,
    pub created: u64,
    pub tokens: Vec<KeptToken>,
}

/// A token of an app.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptToken {
    pub id: Box<str>,
    pub writes: bool,
    pub ends: Option<u64>,
    pub used: Option<u64>,
    pub digest: Box<str>,
}

impl Trust {
    /// The same with the key that digests are made with as these records have it, if they do. Comes before
    /// everything that keeps a digest.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    ///
    /// # Panics
    /// Behind [`Trust::with_password`].
    pub fn restored<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        self,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Trust, Unrestored> {
        assert!(self.password.is_none(), "the password's digest is of another key");
        let kept = records.into_iter().find(|(name, _)| name.as_ref() == NODE_KEY);
        let Some((_, value)) = kept else { return Ok(self) };
        match value.as_ref().split_first() {
            Some((&1, bytes)) if bytes.len() == NODE_KEY_BYTES => {
                Ok(Trust { node_key: NodeKey::of(bytes).into(), ..self })
            }
            _ => Err(unreadable(NODE_KEY)),
        }
    }
}

impl Ledger {
    /// Brings back what was kept, and keeps account of all changes from now on, for
    /// [`Ledger::take_changes`]: what is not among the records counts as changed. To be called of a new
    /// ledger; `records` may be none. Those of other parts of the node are left alone.
    ///
    /// # Errors
    /// When a record cannot be read, or there is no room for all of them.
    pub fn restore<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Unrestored> {
        let mut has_node_key = false;
        for (name, value) in records {
            let (name, value) = (name.as_ref(), value.as_ref());
            let restored = match std::str::from_utf8(name) {
                Ok("node-key") if value == &**self.kept_node_key() => {
                    has_node_key = true;
                    Ok(())
                }
                Ok("node-key") => return Err(Unrestored::OtherNodeKey),
                Ok("numbers") => parse(value).map(|numbers: Numbers| {
                    self.numbers_kept = Some(numbers);
                    self.keys.raise_numbers(numbers.key);
                    self.apps.raise_numbers(numbers.app, numbers.namespace);
                }),
                Ok(name) if name.starts_with(KEY) => {
                    parse(value).and_then(|kept| self.keys.restore(id_in(name, KEY)?, kept))
                }
                Ok(name) if name.starts_with(APP) => {
                    parse(value).and_then(|kept| self.apps.restore(id_in(name, APP)?, kept))
                }
                _ => Ok(()),
            };
            restored.map_err(|why| match why {
                NotKept::Unreadable => unreadable(name),
                NotKept::NoRoom => Unrestored::NoRoom,
            })?;
        }
        self.node_key_is_new = !has_node_key;
        self.keys.find_makers();
        self.keys.follow_changes();
        self.apps.follow_changes();
        Ok(())
    }

    /// What has changed since the last time, to be kept before anybody is told of it. Nothing, unless the
    /// ledger was restored.
    pub fn take_changes(&mut self) -> Vec<LedgerChange> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.node_key_is_new) {
            changes.push((NODE_KEY.into(), Some(self.kept_node_key())));
        }
        let numbers = self.numbers();
        let (keys, apps) = (self.keys.take_changed(), self.apps.take_changed());
        if (keys.is_some() || apps.is_some()) && self.numbers_kept != Some(numbers) {
            self.numbers_kept = Some(numbers);
            changes.push((NUMBERS.into(), Some(json(&numbers))));
        }
        for id in keys.unwrap_or_default() {
            changes.push((named(KEY, id), self.keys.kept(id).map(|kept| json(&kept))));
        }
        for id in apps.unwrap_or_default() {
            changes.push((named(APP, id), self.apps.kept(id).map(|kept| json(&kept))));
        }
        changes
    }

    /// The next records, as they are now, about so many; none when there are no more. What is there from the
    /// first slice to the last is in one of them, whatever comes and goes meanwhile.
    pub fn slice(&self, walk: &mut RecordsWalk, count: usize) -> Vec<LedgerChange> {
        loop {
            let records: Vec<LedgerChange> = match walk {
                RecordsWalk::Own => {
                    let own =
                        [(NODE_KEY.into(), self.kept_node_key()), (NUMBERS.into(), json(&self.numbers()))];
                    *walk = RecordsWalk::Keys(0);
                    return own.into_iter().map(|(name, value)| (name, Some(value))).collect();
                }
                RecordsWalk::Keys(behind) => {
                    let keys = self.keys.kept_behind(*behind).take(count);
                    let kept = |(id, kept): (Id, KeptKey)| {
                        *behind = kept.serial;
                        (named(KEY, id), Some(json(&kept)))
                    };
                    keys.map(kept).collect()
                }
                RecordsWalk::Apps(behind) => {
                    let apps = self.apps.kept_behind(*behind).take(count);
                    let kept = |(id, kept): (Id, KeptApp)| {
                        *behind = kept.serial;
                        (named(APP, id), Some(json(&kept)))
                    };
                    apps.map(kept).collect()
                }
                RecordsWalk::Over => return Vec::new(),
            };
            if !records.is_empty() {
                return records;
            }
            *walk = match walk {
                RecordsWalk::Keys(_) => RecordsWalk::Apps(0),
                _ => RecordsWalk::Over,
            };
        }
    }

    fn numbers(&self) -> Numbers {
        let (app, namespace) = self.apps.numbers();
        Numbers { form: FORM, key: self.keys.numbers(), app, namespace }
    }

    fn kept_node_key(&self) -> Zeroizing<Vec<u8>> {
        let mut kept = Zeroizing::new(Vec::with_capacity(1 + NODE_KEY_BYTES));
        kept.push(1);
        kept.extend_from_slice(self.node_key.bytes());
        kept
    }
}

/// Why a record is not brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotKept {
    Unreadable,
    NoRoom,
}

/// A digest as it is kept.
pub(super) fn digest_text(digest: &Digest) -> Box<str> {
    BASE64.encode(digest.bytes()).into()
}

/// The digest that was kept as this.
pub(super) fn digest_of(text: &str) -> Result<Digest, NotKept> {
    BASE64.decode(text).ok().and_then(|bytes| Digest::of(&bytes)).ok_or(NotKept::Unreadable)
}

/// The grants that were kept under these names. One that is not known is none to leave out: what it limits
/// is not known either.
pub(super) fn grants_of(names: &[Box<str>]) -> Result<Grants, NotKept> {
    names.iter().try_fold(Grants::NONE, |all, name| {
        Grants::from_name(name.as_bytes()).map(|grant| all.union(grant)).ok_or(NotKept::Unreadable)
    })
}

/// Namespace and prefix as they are kept.
pub(super) fn scope_parts(scope: Option<&Scope>) -> (Option<u32>, Option<Box<str>>) {
    let namespace = scope.and_then(|scope| scope.namespace).map(|namespace| namespace.0);
    (namespace, scope.map(|scope| BASE64.encode(&scope.prefix).into()))
}

/// The scope that was kept as these. A prefix, if an empty one, makes it one.
pub(super) fn scope_of(namespace: Option<u32>, prefix: Option<&str>) -> Result<Option<Scope>, NotKept> {
    let Some(prefix) = prefix else { return Ok(None) };
    let prefix = BASE64.decode(prefix).map_err(|_| NotKept::Unreadable)?;
    Ok(Some(Scope { namespace: namespace.map(Namespace), prefix: prefix.into() }))
}

fn named(kind: &str, id: Id) -> Box<[u8]> {
    format!("{kind}{id}").into_bytes().into()
}

fn id_in(name: &str, kind: &str) -> Result<Id, NotKept> {
    name.strip_prefix(kind).and_then(|id| Id::parse(id.as_bytes())).ok_or(NotKept::Unreadable)
}

fn json(kept: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(kept).expect("numbers and texts"))
}

fn parse<'a, T: Formed + Deserialize<'a>>(value: &'a [u8]) -> Result<T, NotKept> {
    let kept: T = serde_json::from_slice(value).map_err(|_| NotKept::Unreadable)?;
    if kept.form() == FORM { Ok(kept) } else { Err(NotKept::Unreadable) }
}

/// What says in which form it is.
trait Formed {
    fn form(&self) -> u32;
}

impl Formed for Numbers {
    fn form(&self) -> u32 {
        self.form
    }
}

impl Formed for KeptKey {
    fn form(&self) -> u32 {
        self.form
    }
}

impl Formed for KeptApp {
    fn form(&self) -> u32 {
        self.form
    }
}

fn unreadable(name: &[u8]) -> Unrestored {
    Unrestored::Unreadable(String::from_utf8_lossy(name).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};

    use super::super::{
        Directory, Grants, Id, Ledger, NewKey, Principal, Scope, Trust, Verifier, VerifierConfig, Which,
    };
    use super::{NODE_KEY, RecordsWalk, Unrestored};
    use crate::memory::Memory;

    const START: u64 = 1_000_000;

    type Records = BTreeMap<Box<[u8]>, Vec<u8>>;

    #[derive(Clone, Debug)]
    enum Order {
        CreateKey { maker: Option<usize>, ends_in: Option<u64>, prefix: Option<&'static str> },
        RenameKey(usize),
        DeleteKey(usize),
        CreateApp(usize),
        Rotate(usize, Which, u64),
        DeleteApp(usize),
        UseToken(usize),
        Wait(u64),
        Restart,
    }

    fn order() -> impl Strategy<Value = Order> {
        let which = prop_oneof![Just(Which::Read), Just(Which::ReadWrite), Just(Which::Both)];
        let seconds = || prop_oneof![Just(0_u64), 1..100_u64];
        let prefix = prop::option::of(prop_oneof![Just(""), Just("a/"), Just("a/b")]);
        prop_oneof![
            5 => (prop::option::of(0..20_usize), prop::option::of(seconds()), prefix)
                .prop_map(|(maker, ends_in, prefix)| Order::CreateKey { maker, ends_in, prefix }),
            1 => (0..20_usize).prop_map(Order::RenameKey),
            2 => (0..20_usize).prop_map(Order::DeleteKey),
            3 => (0..6_usize).prop_map(Order::CreateApp),
            3 => (0..6_usize, which, seconds()).prop_map(|(app, which, grace)| Order::Rotate(app, which, grace)),
            2 => (0..6_usize).prop_map(Order::DeleteApp),
            2 => (0..40_usize).prop_map(Order::UseToken),
            2 => seconds().prop_map(Order::Wait),
            2 => Just(Order::Restart),
        ]
    }

    /// A node's credentials and what was kept of them.
    struct Node {
        ledger: Ledger,
        directory: Directory,
        memory: Arc<Memory>,
        kept: Records,
        /// Every token that was ever told.
        tokens: Vec<String>,
        now: u64,
    }

    fn owner() -> Principal {
        Principal { subject: "me".into(), grants: Grants::ALL, scope: None, key: None }
    }

    impl Node {
        fn restored(kept: Records, tokens: Vec<String>, now: u64) -> Result<Node, Unrestored> {
            let config =
                VerifierConfig { enabled: true, secret: &[7; 32], leeway_seconds: 0, require_exp: true };
            let trust = Trust::new(Verifier::new(config)).unwrap().restored(&kept)?;
            let memory = Memory::new(64 << 20, 1, true).unwrap();
            let mut ledger = Ledger::new(&trust, memory.clone(), 1, now).unwrap();
            ledger.restore(&kept)?;
            let mut directory = Directory::new(trust.node_key.clone());
            ledger.credentials().into_iter().for_each(|credential| directory.learn(credential, now));
            let mut node = Node { ledger, directory, memory, kept, tokens, now };
            node.keep();
            Ok(node)
        }

        fn keep(&mut self) {
            for (name, value) in self.ledger.take_changes() {
                match value {
                    Some(value) => self.kept.insert(name, value.to_vec()),
                    None => self.kept.remove(&name),
                };
            }
        }

        fn key_ids(&self) -> Vec<Id> {
            self.ledger.keys.list(&owner(), 0, 1_000, self.now).items.iter().map(|view| view.id).collect()
        }

        fn app_id(&self, number: usize) -> Option<Id> {
            let page = self.ledger.apps.list(0, 1_000);
            page.items.get(number).map(|view| view.id)
        }

        fn run(&mut self, order: &Order) {
            let now = self.now;
            match *order {
                Order::CreateKey { maker, ends_in, prefix } => {
                    let ids = self.key_ids();
                    let maker = maker.and_then(|maker| {
                        let id = ids.get(maker)?;
                        let known = self.ledger.credentials();
                        Some(Principal::of(known.iter().find(|known| known.id == *id)?))
                    });
                    let new = NewKey {
                        name: format!("key {}", ids.len()).into(),
                        grants: Grants::KV_READ.union(Grants::KEYS_WRITE),
                        ends: ends_in.map(|seconds| now + seconds),
                        scope: prefix
                            .map(|prefix| Scope { namespace: None, prefix: prefix.as_bytes().into() }),
                    };
                    if let Ok((token, credential, _)) =
                        self.ledger.keys.create(&maker.unwrap_or(owner()), new, now)
                    {
                        self.directory.learn(credential, now);
                        self.tokens.push(token.to_string());
                    }
                }
                Order::RenameKey(number) => {
                    if let Some(id) = self.key_ids().get(number) {
                        self.ledger.keys.rename(&owner(), *id, "renamed".into(), now).unwrap();
                    }
                }
                Order::DeleteKey(number) => {
                    if let Some(id) = self.key_ids().get(number) {
                        self.ledger.keys.delete(&owner(), *id, now).unwrap();
                    }
                }
                Order::CreateApp(name) => {
                    if let Ok((_, tokens)) = self.ledger.create_app(format!("app {name}").into(), now) {
                        self.told(tokens);
                    }
                }
                Order::Rotate(number, which, grace) => {
                    if let Some(id) = self.app_id(number) {
                        let (_, tokens) = self.ledger.rotate_app(id, which, grace, now).unwrap();
                        self.told(tokens);
                    }
                }
                Order::DeleteApp(number) => {
                    if let Some(id) = self.app_id(number) {
                        let _ = self.ledger.apps.delete(id);
                    }
                }
                Order::UseToken(number) => {
                    if let Some(token) = self.tokens.get(number) {
                        let _ = self.directory.verify(token.as_bytes(), now);
                    }
                }
                Order::Wait(seconds) => self.now += seconds,
                Order::Restart => {}
            }
            self.keep();
        }

        fn told(&mut self, tokens: super::super::AppTokens) {
            for credential in tokens.credentials {
                self.directory.learn(credential, self.now);
            }
            self.tokens.extend(tokens.texts.into_iter().map(|(_, text)| text.to_string()));
        }

        /// Everything that can be asked of it, but for when a credential was last used.
        fn answers(&self) -> Vec<String> {
            let keys = self.ledger.keys.list(&owner(), 0, 1_000, self.now);
            let keys = keys.items.iter().map(|view| {
                let (id, name, owner, grants) = (view.id, view.name, view.owner, view.grants);
                let (scope, created, ends, status) = (view.scope, view.created, view.ends, view.status);
                format!("{id} {name} {owner} {grants} {scope:?} {created} {ends:?} {status:?}")
            });
            let apps = self.ledger.apps.list(0, 1_000);
            let apps = apps.items.iter().map(|view| {
                let number = self.ledger.apps.number_of(view.name.as_bytes());
                format!("{} {} {} {number:?}", view.id, view.name, view.created)
            });
            let tokens = self.tokens.iter().map(|token| {
                let found = self.directory.find(token.as_bytes(), self.now);
                format!("{:?}", found.ok().map(|known| (known.id, known.kind, known.grants, known.ends())))
            });
            let numbers = [format!("{:?}", self.ledger.numbers())];
            keys.chain(apps).chain(tokens).chain(numbers).collect()
        }
    }

    proptest! {
        #[test]
        fn what_is_restored_from_the_records_of_any_orders_answers_the_same(
            orders in prop::collection::vec(order(), 1..50),
        ) {
            let mut node = Node::restored(Records::new(), Vec::new(), START).unwrap();
            for order in orders.iter().chain([&Order::Restart]) {
                node.run(order);
                if let Order::Restart = order {
                    let (mut all, mut walk) = (Records::new(), RecordsWalk::default());
                    loop {
                        let slice = node.ledger.slice(&mut walk, 3);
                        if slice.is_empty() {
                            break;
                        }
                        all.extend(slice.into_iter().map(|(name, value)| (name, value.unwrap().to_vec())));
                    }
                    let all_of = Node::restored(all, node.tokens.clone(), node.now).unwrap();
                    let again = Node::restored(node.kept.clone(), node.tokens.clone(), node.now).unwrap();
                    assert_eq!(again.answers(), node.answers());
                    assert_eq!(all_of.answers(), node.answers());
                    assert!(again.memory.credential_bytes() <= node.memory.credential_bytes());
                    assert_eq!(again.kept, node.kept, "nothing has changed by coming back");
                    node = again;
                }
            }
        }
    }

    #[test]
    fn no_record_shows_a_token() {
        let mut node = Node::restored(Records::new(), Vec::new(), START).unwrap();
        node.run(&Order::CreateKey { maker: None, ends_in: None, prefix: None });
        node.run(&Order::CreateApp(0));
        assert_eq!(node.tokens.len(), 3);
        for (name, value) in &node.kept {
            let shown = String::from_utf8_lossy(value);
            for token in &node.tokens {
                assert!(!shown.contains(&token[16..30]), "{name:?}");
            }
        }
        let secret = &node.kept[NODE_KEY][1..];
        let shown = format!("{:?} {:?}", node.ledger, node.directory);
        let bytes = format!("{:?}", &secret[..4]);
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
    }

    #[test]
    fn a_number_of_an_app_is_never_given_again() {
        let mut node = Node::restored(Records::new(), Vec::new(), START).unwrap();
        let mut seen = Vec::new();
        for _ in 0..5 {
            node.run(&Order::CreateApp(0));
            seen.push(node.ledger.apps.number_of(b"app 0").unwrap());
            node.run(&Order::DeleteApp(1));
            node = Node::restored(node.kept, Vec::new(), START).unwrap();
        }
        let given = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), given, "{seen:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut node = Node::restored(Records::new(), Vec::new(), START).unwrap();
        node.run(&Order::CreateKey { maker: None, ends_in: None, prefix: None });
        node.run(&Order::CreateApp(0));
        for (name, value) in node.kept.clone() {
            let text = String::from_utf8_lossy(&value).into_owned();
            let newer = text.replace("\"form\":1", "\"form\":2").into_bytes();
            let longer = text.replacen('{', "{\"x\":1,", 1).into_bytes();
            let others = match &*name == NODE_KEY {
                true => vec![value[..32].to_vec(), [&[2], &value[1..]].concat(), Vec::new()],
                false => vec![newer, longer, value[..value.len() - 1].to_vec(), Vec::new()],
            };
            for other in others {
                let mut kept = node.kept.clone();
                kept.insert(name.clone(), other);
                let refused = Node::restored(kept, Vec::new(), START).map(|_| ());
                let name = String::from_utf8_lossy(&name);
                assert_eq!(refused, Err(Unrestored::Unreadable((*name).into())));
            }
        }
    }

    #[test]
    fn digests_under_another_key_are_refused() {
        let node = Node::restored(Records::new(), Vec::new(), START).unwrap();
        let config = VerifierConfig { enabled: true, secret: &[7; 32], leeway_seconds: 0, require_exp: true };
        let trust = Trust::new(Verifier::new(config)).unwrap();
        let mut ledger = Ledger::new(&trust, node.memory.clone(), 1, START).unwrap();
        assert_eq!(ledger.restore(&node.kept), Err(Unrestored::OtherNodeKey));
    }

    #[test]
    fn more_than_the_share_of_credentials_is_refused() {
        let mut node = Node::restored(Records::new(), Vec::new(), START).unwrap();
        (0..1_000).for_each(|_| node.run(&Order::CreateKey { maker: None, ends_in: None, prefix: None }));
        let config = VerifierConfig { enabled: true, secret: &[7; 32], leeway_seconds: 0, require_exp: true };
        let trust = Trust::new(Verifier::new(config)).unwrap().restored(&node.kept).unwrap();
        let mut ledger = Ledger::new(&trust, Memory::new(1 << 20, 1, true).unwrap(), 1, START).unwrap();
        assert_eq!(ledger.restore(&node.kept), Err(Unrestored::NoRoom));
    }
}
