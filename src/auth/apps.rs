//! The apps of the light family and their tokens: made, listed, rotated, ended.
//!
//! An app has a token that reads and one that also writes, each limited to the app's own namespace. A
//! rotated token stays good for its grace. The app `default` is there from the start, has no token until
//! it is rotated, and stays.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Grants;
use super::credential::{Credential, Scope};
use super::kept::{self, KeptApp, KeptToken, NotKept};
use super::ledger::{Office, PAGE_MAX, Page, Refused};
use super::opaque::{Id, Kind, NoRandomness, draw_token};
use crate::op::Namespace;

/// The app of requests that name none.
pub const DEFAULT_APP: &str = "default";

/// Rotated tokens of an app that are still good. Beyond that the oldest ends at once.
const GRACED_MAX: usize = 8;

/// Which of an app's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that reads.
    Read,
    /// The one that also writes.
    ReadWrite,
    /// Both.
    Both,
}

impl Which {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Which::Read => &[Kind::AppRead],
            Which::ReadWrite => &[Kind::AppReadWrite],
            Which::Both => &[Kind::AppRead, Kind::AppReadWrite],
        }
    }
}

/// New tokens, told this once.
#[derive(Debug, Default)]
pub struct AppTokens {
    /// Each with what it is for.
    pub texts: Vec<(Kind, Zeroizing<String>)>,
    /// What every reactor has to learn before they are shown.
    pub credentials: Vec<Arc<Credential>>,
}

/// An app as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct AppView<'a> {
    /// Its name for machines.
    pub id: Id,
    /// Its name for people; no other app has it.
    pub name: &'a str,
    /// When it was made (Unix seconds).
    pub created: u64,
}

#[derive(Debug)]
struct App {
    id: Id,
    name: Box<str>,
    created: u64,
    /// Which one it was.
    number: u32,
    /// What its tokens reach.
    scope: Arc<Scope>,
    /// Its tokens, those in grace included, the oldest first.
    tokens: Vec<Arc<Credential>>,
    /// It was made by this ledger.
    is_new: bool,
    /// What it was counted with.
    bytes: u64,
}

/// All apps.
#[derive(Debug)]
pub struct Apps {
    office: Office,
    /// In the order in which they were made.
    apps: BTreeMap<u64, App>,
    serials: HashMap<Id, u64, ahash::RandomState>,
    names: HashMap<Box<str>, u64, ahash::RandomState>,
    next_serial: u64,
    next_namespace: u32,
    /// Those to be kept anew, if anybody keeps them.
    changed: Option<Vec<Id>>,
}

impl Apps {
    pub(super) fn new(office: Office, wall_seconds: u64) -> Result<Apps, NoRandomness> {
        let mut apps = Apps {
            office,
            apps: BTreeMap::new(),
            serials: HashMap::default(),
            names: HashMap::default(),
            next_serial: 1,
            next_namespace: Namespace::KV.0 + 1,
            changed: None,
        };
        apps.insert(Id::draw()?, DEFAULT_APP.into(), 0, wall_seconds);
        Ok(apps)
    }

    /// Makes an app. Its tokens are good once every reactor has learned of them.
    ///
    /// # Errors
    /// When another has the name, or there is no room.
    pub fn create(&mut self, name: Box<str>, wall_seconds: u64) -> Result<(AppView<'_>, AppTokens), Refused> {
        if self.names.contains_key(&name) {
            return Err(Refused::NameTaken);
        }
        let bytes = Office::record_bytes::<App>(2 * name.len());
        let id = Id::draw()?;
        if !self.office.memory.take_for_credentials(bytes) {
            return Err(Refused::NoRoom);
        }
        let serial = self.insert(id, name, bytes, wall_seconds);
        match self.issue(serial, Which::Both, wall_seconds) {
            Ok(tokens) => Ok((self.apps[&serial].view(), tokens)),
            Err(refused) => {
                self.remove(serial);
                Err(refused)
            }
        }
    }

    /// What an app with a name of this length takes, with its tokens.
    pub(super) fn bytes_of_new(&self, name_bytes: usize) -> u64 {
        Office::record_bytes::<App>(2 * name_bytes) + 2 * self.office.credential_bytes(0, None)
    }

    /// The apps, a page at a time, from behind the one with this number.
    pub fn list(&self, after: u64, limit: usize) -> Page<AppView<'_>> {
        let limit = limit.min(PAGE_MAX);
        let mut page = Page { items: Vec::new(), next: None };
        let mut last = after;
        for (serial, app) in self.apps.range(after.saturating_add(1)..) {
            if page.items.len() == limit {
                page.next = Some(last);
                break;
            }
            last = *serial;
            page.items.push(app.view());
        }
        page
    }

    /// Gives an app new tokens. Those before stay good for so many seconds.
    ///
    /// # Errors
    /// When there is no such app, or no room.
    pub fn rotate(
        &mut self,
        id: Id,
        which: Which,
        grace_seconds: u64,
        wall_seconds: u64,
    ) -> Result<(AppView<'_>, AppTokens), Refused> {
        let serial = *self.serials.get(&id).ok_or(Refused::Unknown)?;
        let before = self.apps[&serial].tokens.clone();
        let tokens = self.issue(serial, which, wall_seconds)?;
        for token in before.iter().filter(|token| which.kinds().contains(&token.kind)) {
            match grace_seconds {
                0 => token.revoke(),
                seconds => token.end_at(wall_seconds.saturating_add(seconds)),
            }
        }
        self.tidy(serial, wall_seconds);
        self.office.epoch.bump();
        self.office.note_ended();
        Ok((self.apps[&serial].view(), tokens))
    }

    /// The number of the app with this id or name.
    pub fn number_of(&self, name: &[u8]) -> Option<u32> {
        let serial = Id::parse(name)
            .and_then(|id| self.serials.get(&id))
            .or_else(|| self.names.get(std::str::from_utf8(name).ok()?))?;
        self.apps.get(serial).map(|app| app.number)
    }

    /// The number of the app with this name.
    pub fn number_named(&self, name: &str) -> Option<u32> {
        self.names.get(name).and_then(|serial| self.apps.get(serial)).map(|app| app.number)
    }

    /// Ends an app and its tokens, and answers its number. None of them is good any more when this is back,
    /// on any core.
    ///
    /// # Errors
    /// When there is no such app, or it is the default one.
    pub fn delete(&mut self, id: Id) -> Result<u32, Refused> {
        let serial = *self.serials.get(&id).ok_or(Refused::Unknown)?;
        if &*self.apps[&serial].name == DEFAULT_APP {
            return Err(Refused::DefaultApp);
        }
        let number = self.apps[&serial].number;
        self.remove(serial);
        self.office.epoch.bump();
        Ok(number)
    }

    fn insert(&mut self, id: Id, name: Box<str>, bytes: u64, wall_seconds: u64) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        let number = self.next_namespace;
        self.next_namespace += 1;
        let scope = Scope { namespace: Some(Namespace(number)), prefix: Box::default() };
        self.serials.insert(id, serial);
        self.changed.iter_mut().for_each(|changed| changed.push(id));
        self.names.insert(name.clone(), serial);
        let scope = Arc::new(scope);
        let app =
            App { id, name, created: wall_seconds, number, scope, tokens: Vec::new(), is_new: true, bytes };
        self.apps.insert(serial, app);
        serial
    }

    /// Draws tokens for an app, beside those it has.
    fn issue(&mut self, serial: u64, which: Which, wall_seconds: u64) -> Result<AppTokens, Refused> {
        let Some(app) = self.apps.get_mut(&serial) else { return Err(Refused::Unknown) };
        let bytes = self.office.credential_bytes(0, None) * which.kinds().len() as u64;
        let mut tokens = AppTokens::default();
        for &kind in which.kinds() {
            let (id, text) = draw_token(kind)?;
            let digest = self.office.node_key.digest(text.as_bytes());
            let scope = Some(app.scope.clone());
            let credential = Credential::new((id, kind), digest, grants_of(kind), scope, "".into(), None);
            tokens.texts.push((kind, text));
            tokens.credentials.push(Arc::new(credential));
        }
        if !self.office.memory.take_for_credentials(bytes) {
            self.tidy(serial, wall_seconds);
            if !self.office.memory.take_for_credentials(bytes) {
                return Err(Refused::NoRoom);
            }
        }
        if let Some(app) = self.apps.get_mut(&serial) {
            self.changed.iter_mut().for_each(|changed| changed.push(app.id));
            app.bytes += bytes;
            app.tokens.extend(tokens.credentials.iter().cloned());
        }
        Ok(tokens)
    }

    /// Drops the tokens of an app that have ended, and those that are too many.
    fn tidy(&mut self, serial: u64, wall_seconds: u64) {
        let Some(app) = self.apps.get_mut(&serial) else { return };
        let before = app.tokens.len();
        let in_grace = |token: &&Arc<Credential>| token.ends().is_some();
        while app.tokens.iter().filter(in_grace).count() > GRACED_MAX
            && let Some(oldest) = app.tokens.iter().position(|token| token.ends().is_some())
        {
            app.tokens.remove(oldest).revoke();
        }
        app.tokens.retain(|token| !token.has_ended(wall_seconds));
        self.changed.iter_mut().for_each(|changed| changed.push(app.id));
        let freed = (before - app.tokens.len()) as u64 * self.office.credential_bytes(0, None);
        app.bytes -= freed;
        self.office.memory.give_from_credentials(freed);
    }

    fn remove(&mut self, serial: u64) {
        let Some(app) = self.apps.remove(&serial) else { return };
        app.tokens.iter().for_each(|token| token.revoke());
        self.office.note_ended();
        self.serials.remove(&app.id);
        self.changed.iter_mut().for_each(|changed| changed.push(app.id));
        self.names.remove(&app.name);
        self.office.memory.give_from_credentials(app.bytes);
    }
}

/// What is kept of apps, and how they come back: see [`super::kept`].
impl Apps {
    pub(super) fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.apps.values().flat_map(|app| &app.tokens)
    }

    /// The numbers of all apps.
    pub(super) fn all_numbers(&self) -> impl Iterator<Item = u32> {
        self.apps.values().map(|app| app.number)
    }

    /// The serial of the next app, and its number.
    pub(super) fn numbers(&self) -> (u64, u32) {
        (self.next_serial, self.next_namespace)
    }

    pub(super) fn raise_numbers(&mut self, serial: u64, namespace: u32) {
        self.next_serial = self.next_serial.max(serial);
        self.next_namespace = self.next_namespace.max(namespace);
    }

    /// Has every change from now on remembered, for [`Apps::take_changed`]. A default app that was not
    /// restored has changed.
    pub(super) fn follow_changes(&mut self) {
        self.changed = Some(self.apps.values().filter(|app| app.is_new).map(|app| app.id).collect());
    }

    /// Those that have changed since the last time, each once; `None` if nobody keeps them.
    pub(super) fn take_changed(&mut self) -> Option<Vec<Id>> {
        let mut changed = std::mem::take(self.changed.as_mut()?);
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }

    pub(super) fn kept_behind(&self, serial: u64) -> impl Iterator<Item = (Id, KeptApp)> {
        self.apps.range(serial.saturating_add(1)..).map(|(serial, app)| (app.id, app.kept(*serial)))
    }

    pub(super) fn kept(&self, id: Id) -> Option<KeptApp> {
        let serial = *self.serials.get(&id)?;
        Some(self.apps.get(&serial)?.kept(serial))
    }

    /// Takes an app in. The default one takes the place of the one that a new ledger has.
    pub(super) fn restore(&mut self, id: Id, kept: KeptApp) -> Result<(), NotKept> {
        let is_default = &*kept.name == DEFAULT_APP;
        if is_default && let Some(serial) = self.names.get(DEFAULT_APP).copied() {
            self.remove(serial);
        }
        if self.serials.contains_key(&id)
            || self.apps.contains_key(&kept.serial)
            || self.names.contains_key(&kept.name)
        {
            return Err(NotKept::Unreadable);
        }
        let scope = Arc::new(Scope { namespace: Some(Namespace(kept.number)), prefix: Box::default() });
        let tokens = kept.tokens.iter().map(|token| restore_token(token, &scope));
        let tokens: Vec<Arc<Credential>> = tokens.collect::<Result<_, _>>()?;
        let record_bytes = if is_default { 0 } else { Office::record_bytes::<App>(2 * kept.name.len()) };
        let bytes = record_bytes + self.office.credential_bytes(0, None) * tokens.len() as u64;
        if !self.office.memory.take_for_credentials(bytes) {
            return Err(NotKept::NoRoom);
        }
        self.raise_numbers(kept.serial.saturating_add(1), kept.number.saturating_add(1));
        self.serials.insert(id, kept.serial);
        self.names.insert(kept.name.clone(), kept.serial);
        let KeptApp { serial, name, number, created, .. } = kept;
        self.apps.insert(serial, App { id, name, created, number, scope, tokens, is_new: false, bytes });
        Ok(())
    }
}

fn restore_token(kept: &KeptToken, scope: &Arc<Scope>) -> Result<Arc<Credential>, NotKept> {
    let id = Id::parse(kept.id.as_bytes()).ok_or(NotKept::Unreadable)?;
    let kind = if kept.writes { Kind::AppReadWrite } else { Kind::AppRead };
    let digest = kept::digest_of(&kept.digest)?;
    let credential =
        Credential::new((id, kind), digest, grants_of(kind), Some(scope.clone()), "".into(), kept.ends);
    credential.note_use(kept.used.unwrap_or(0));
    Ok(Arc::new(credential))
}

/// What the tokens of a kind may do.
fn grants_of(kind: Kind) -> Grants {
    match kind {
        Kind::AppReadWrite => Grants::LIGHT_READ.union(Grants::LIGHT_WRITE),
        Kind::AppRead | Kind::ApiKey => Grants::LIGHT_READ,
    }
}

impl App {
    fn kept(&self, serial: u64) -> KeptApp {
        let token = |token: &Arc<Credential>| KeptToken {
            id: token.id.to_string().into(),
            writes: token.kind == Kind::AppReadWrite,
            ends: token.ends(),
            used: token.last_used(),
            digest: kept::digest_text(token.digest()),
        };
        KeptApp {
            form: kept::FORM,
            serial,
            name: self.name.clone(),
            number: self.number,
            created: self.created,
            tokens: self.tokens.iter().map(token).collect(),
        }
    }

    fn view(&self) -> AppView<'_> {
        AppView { id: self.id, name: &self.name, created: self.created }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{AppTokens, DEFAULT_APP, GRACED_MAX, Which};
    use crate::auth::{
        Directory, Form, Grants, Kind, Ledger, NewKey, Principal, Refused, Trust, Unauthorized, Verifier,
        VerifierConfig,
    };
    use crate::memory::Memory;
    use crate::op::Namespace;

    const NOW: u64 = 1_000_000;

    struct Bench {
        ledger: Ledger,
        directory: Directory,
        memory: Arc<Memory>,
    }

    fn bench(memory_bytes: u64) -> Bench {
        let config = VerifierConfig { enabled: false, secret: b"", leeway_seconds: 0, require_exp: true };
        let trust = Trust::new(Verifier::new(config)).unwrap();
        let memory = Memory::new(memory_bytes, 1, true).unwrap();
        let ledger = Ledger::new(&trust, memory.clone(), 1, NOW).unwrap();
        Bench { ledger, directory: Directory::new(trust.node_key.clone()), memory }
    }

    impl Bench {
        fn learn(&mut self, tokens: &AppTokens) -> Vec<String> {
            for credential in &tokens.credentials {
                self.directory.learn(credential.clone(), NOW);
            }
            tokens.texts.iter().map(|(_, text)| text.to_string()).collect()
        }

        fn create(&mut self, name: &str) -> (crate::auth::Id, Vec<String>) {
            let (view, tokens) = self.ledger.apps.create(name.into(), NOW).unwrap();
            let id = view.id;
            (id, self.learn(&tokens))
        }

        /// One that has ended may have left already: some do whenever another is learned.
        fn is_refused(&self, token: &str) -> bool {
            matches!(self.is_good(token, NOW), Err(Unauthorized::Revoked | Unauthorized::Unknown))
        }

        fn is_good(&self, token: &str, now: u64) -> Result<(), Unauthorized> {
            self.directory.find(token.as_bytes(), now).map(|_| ())
        }
    }

    #[test]
    fn an_app_has_a_token_that_reads_and_one_that_writes_in_a_namespace_of_their_own() {
        let mut bench = bench(64 << 20);
        let (_, first) = bench.create("first");
        let (_, second) = bench.create("second");
        let both = Grants::LIGHT_READ.union(Grants::LIGHT_WRITE);
        let mut namespaces = Vec::new();
        for tokens in [&first, &second] {
            for (token, kind, grants) in
                [(&tokens[0], Kind::AppRead, Grants::LIGHT_READ), (&tokens[1], Kind::AppReadWrite, both)]
            {
                assert!(token.starts_with(kind.prefix()));
                let known = bench.directory.verify(token.as_bytes(), NOW).unwrap();
                assert_eq!((known.identity.form, known.identity.grants), (Form::AppToken, grants));
                namespaces.push(known.scope.unwrap().namespace.unwrap());
            }
        }
        assert_eq!(namespaces[0], namespaces[1]);
        assert_ne!(namespaces[0], namespaces[2]);
        assert!(!namespaces.contains(&Namespace::KV));
    }

    #[test]
    fn names_are_unique_and_free_again_once_their_app_is_gone() {
        let mut bench = bench(64 << 20);
        let before = bench.memory.credential_bytes();
        let (id, tokens) = bench.create("name");
        assert_eq!(bench.ledger.apps.create("name".into(), NOW).map(|_| ()), Err(Refused::NameTaken));
        assert_eq!(bench.ledger.apps.create(DEFAULT_APP.into(), NOW).map(|_| ()), Err(Refused::NameTaken));
        bench.ledger.apps.delete(id).unwrap();
        assert_eq!(bench.ledger.apps.delete(id), Err(Refused::Unknown));
        for token in tokens {
            assert!(bench.is_refused(&token));
        }
        assert_eq!(bench.memory.credential_bytes(), before);
        bench.create("name");
    }

    #[test]
    fn a_rotated_token_is_good_until_its_grace_is_over() {
        let mut bench = bench(64 << 20);
        let (id, old) = bench.create("app");
        let (_, tokens) = bench.ledger.apps.rotate(id, Which::Read, 60, NOW).unwrap();
        let new = bench.learn(&tokens);
        assert_eq!(new.len(), 1);
        assert_eq!(bench.is_good(&old[0], NOW + 59), Ok(()));
        assert_eq!(bench.is_good(&old[0], NOW + 60), Err(Unauthorized::Expired));
        assert_eq!(bench.is_good(&old[1], NOW + 60), Ok(()), "the other was not rotated");
        // At once, the one in grace included.
        let (_, tokens) = bench.ledger.apps.rotate(id, Which::Both, 0, NOW).unwrap();
        let newest = bench.learn(&tokens);
        for token in old.iter().chain(&new) {
            assert!(bench.is_refused(token));
        }
        assert!(newest.iter().all(|token| bench.is_good(token, NOW) == Ok(())));
    }

    #[test]
    fn tokens_in_grace_are_bounded_and_their_room_comes_back() {
        let mut bench = bench(64 << 20);
        let (id, first) = bench.create("app");
        let two = bench.memory.credential_bytes();
        for _ in 0..3 * GRACED_MAX {
            let (_, tokens) = bench.ledger.apps.rotate(id, Which::ReadWrite, 1_000, NOW).unwrap();
            bench.learn(&tokens);
        }
        assert!(bench.is_refused(&first[1]));
        assert_eq!(bench.is_good(&first[0], NOW), Ok(()));
        assert!(bench.memory.credential_bytes() > two);
        bench.ledger.apps.rotate(id, Which::Both, 0, NOW).unwrap();
        assert_eq!(bench.memory.credential_bytes(), two);
    }

    #[test]
    fn the_default_app_is_there_without_tokens_and_stays() {
        let mut bench = bench(64 << 20);
        let (id, name) = {
            let page = bench.ledger.apps.list(0, 10);
            (page.items[0].id, page.items[0].name.to_owned())
        };
        assert_eq!(name, DEFAULT_APP);
        assert_eq!(bench.ledger.apps.delete(id), Err(Refused::DefaultApp));
        let (_, tokens) = bench.ledger.apps.rotate(id, Which::Both, 0, NOW).unwrap();
        assert_eq!(tokens.texts.len(), 2);
    }

    #[test]
    fn an_app_that_finds_no_room_leaves_nothing_behind() {
        let mut bench = bench(1 << 20);
        let mut made = 0;
        while bench.ledger.apps.create(made.to_string().into(), NOW).is_ok() {
            made += 1;
        }
        assert!(made > 20, "{made} apps in 128 KiB");
        let held = bench.memory.credential_bytes();
        assert_eq!(bench.ledger.apps.create("more".into(), NOW).map(|_| ()), Err(Refused::NoRoom));
        assert_eq!(bench.memory.credential_bytes(), held);
        assert_eq!(bench.ledger.apps.list(0, 1_000).items.len(), made + 1);
    }

    #[test]
    fn nothing_shows_a_token() {
        let mut bench = bench(64 << 20);
        let (_, tokens) = bench.ledger.apps.create("app".into(), NOW).unwrap();
        let shown = format!("{tokens:?}");
        for (_, text) in &tokens.texts {
            assert!(!shown.contains(&text[16..30]), "{shown}");
        }
    }

    #[test]
    fn an_app_gets_the_room_of_keys_that_have_ended() {
        let mut bench = bench(1 << 20);
        let maker = Principal { subject: "me".into(), grants: Grants::ALL, scope: None, key: None };
        let new = |ends| NewKey { name: "".into(), grants: Grants::KV_READ, ends: Some(ends), scope: None };
        while bench.ledger.keys.create(&maker, new(NOW + 1), NOW).is_ok() {}
        assert_eq!(bench.ledger.create_app("early".into(), NOW).map(|_| ()), Err(Refused::NoRoom));
        let later = NOW + 60;
        let id = bench.ledger.create_app("late".into(), later).unwrap().0.id;
        while bench.ledger.keys.create(&maker, new(later + 1), later).is_ok() {}
        let rotated = |bench: &mut Bench, now| bench.ledger.rotate_app(id, Which::Both, 0, now).map(|_| ());
        assert_eq!(rotated(&mut bench, later), Err(Refused::NoRoom));
        assert_eq!(rotated(&mut bench, later + 60), Ok(()));
    }
}
