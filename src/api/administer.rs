//! API keys and apps over HTTP: an order is read here, done by the ledger of reactor 0, and, when it made
//! a credential, told to every other reactor before it is answered.
//!
//! The orders travel as [`Errand`]s, in pieces of a [`Gather`](super::Gather). What comes behind an order is
//! begun when the journal keeps it, so nobody sees what may yet be lost. A credential that
//! has ended needs no errand: see [`Ledger`]. When the caller leaves while a new
//! credential is on its way, some reactors never learn of it; nobody has seen its token then.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::{
    Credential, Fields, Id, Ledger, LedgerChange, NewKey, Principal, RecordsWalk, Refused, Which,
};
use crate::http::{Field, Method, Request, Status, response, target};
use crate::op::Namespace;
use crate::shard::{DatabaseChange, DatabasesWalk, Health, Refusal, Registry, Shard};

use super::databases::change::Aftermath;
use super::gather::{Piece, Work};
use super::message::Problem;
use super::routes::{Duty, Family};
use super::{Api, apps, json, keys};

/// The reactor with the ledger.
const LEDGER_REACTOR: usize = 0;

/// An order under way.
#[derive(Debug)]
pub(super) struct Administration {
    order: Option<Box<Order>>,
    answer: Option<Result<Answer, Problem>>,
    /// What the other reactors have to learn.
    made: Vec<Arc<Credential>>,
    /// And that others have ended.
    ended: bool,
    shards: usize,
    /// What a deleted app held, and the next shard to drop it.
    emptied: Option<([Namespace; 2], usize)>,
    /// The next reactor to learn of it, and how many pieces are out.
    next: usize,
    outstanding: usize,
}

/// What is to be done with the ledger.
#[derive(Debug)]
pub(super) enum Order {
    CreateKey(Principal, NewKey),
    ListKeys(Principal, Window),
    ShowKey(Principal, Id),
    RenameKey(Principal, Id, Box<str>),
    DeleteKey(Principal, Id),
    CreateApp(Box<str>),
    ListApps(Window),
    RotateApp(Id, Which, u64),
    DeleteApp(Id),
    /// Find the app of this name, or make it.
    RestoreApp(Box<str>),
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub after: u64,
    pub limit: usize,
}

/// Most items on a page of keys or apps, and as many as there are when the caller does not say.
pub(super) const PAGE_MAX: usize = 1_000;

/// What is answered. May show a secret, so it is wiped when it is dropped.
pub(super) struct Answer {
    pub status: Status,
    /// Fields of the head, with their line ends.
    pub fields: Vec<u8>,
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What one reactor has another do, and what came of it.
#[derive(Debug)]
pub struct Errand(Stage);

/// How far all that the ledger has to be kept was gone through.
#[derive(Debug, Default)]
pub struct LedgerWalk {
    ledger: RecordsWalk,
    databases: DatabasesWalk,
}

/// Records in one slice of it: some tenths of a millisecond.
const RECORDS_PER_SLICE: usize = 128;

/// What has to follow an order elsewhere.
#[derive(Debug, Default)]
struct Effects {
    made: Vec<Arc<Credential>>,
    /// Credentials have ended.
    ended: bool,
    emptied: Option<[Namespace; 2]>,
    /// The number of an app that was found or made.
    app: Option<u32>,
}

/// Apps by number and name, and behind which one there are more.
pub(super) type ListedApps = (Vec<(u32, Box<str>)>, Option<u64>);

#[derive(Debug)]
enum Stage {
    Order(Box<Order>),
    Done(Result<Answer, Problem>, Effects),
    /// These were made, and others have ended.
    Learn(Vec<Arc<Credential>>, bool),
    Learned,
    FindApp(Vec<u8>),
    FoundApp(Option<u32>),
    ListApps(u64),
    ListedApps(ListedApps),
}

/// Has the ledger's reactor name apps, from behind the one with this number.
pub(super) fn list_apps(after: u64) -> Piece<'static> {
    let errand = Box::new(Errand(Stage::ListApps(after)));
    Piece { index: 0, shard: LEDGER_REACTOR, work: Work::Errand(errand) }
}

/// What it has named.
pub(super) fn listed_apps(errand: Box<dyn Any + Send>) -> Option<ListedApps> {
    match errand.downcast::<Errand>().ok()?.0 {
        Stage::ListedApps(listed) => Some(listed),
        _ => None,
    }
}

/// Has the ledger's reactor find the app of this name, or make it.
pub(super) fn restore_app(name: Box<str>) -> Piece<'static> {
    let errand = Box::new(Errand(Stage::Order(Box::new(Order::RestoreApp(name)))));
    Piece { index: 0, shard: LEDGER_REACTOR, work: Work::Errand(errand) }
}

/// Its number.
pub(super) fn restored_app(errand: Box<dyn Any + Send>) -> Result<u32, Problem> {
    match errand.downcast::<Errand>().map(|errand| errand.0) {
        Ok(Stage::Done(Err(problem), _)) => Err(problem),
        Ok(Stage::Done(Ok(_), Effects { app: Some(number), .. })) => Ok(number),
        _ => Err(Problem::Busy),
    }
}

/// Has the ledger's reactor look up the app with this id or name.
pub(super) fn find_app(name: Vec<u8>) -> Piece<'static> {
    let errand = Box::new(Errand(Stage::FindApp(name)));
    Piece { index: 0, shard: LEDGER_REACTOR, work: Work::Errand(errand) }
}

/// Its number, if there is one.
pub(super) fn found_app(errand: Box<dyn Any + Send>) -> Option<u32> {
    match errand.downcast::<Errand>().ok()?.0 {
        Stage::FoundApp(number) => number,
        _ => None,
    }
}

impl Api {
    /// Reads an order, once its body is here.
    pub(super) fn administration(
        &self,
        request: &Request,
        head: &[u8],
        (duty, trusted_uid): (Duty, Option<u32>),
        body: &[u8],
    ) -> Result<Administration, Problem> {
        let fields = fields(request, head);
        // Judged again: the credential may have ended while the body was on its way.
        let who = self
            .authenticator
            .principal(fields, trusted_uid, self.wall_seconds)
            .map_err(|_| Problem::Unauthorized)?;
        let path = request.path.of(head);
        let order = match duty {
            Duty::CreateKey => Order::CreateKey(who, keys::new_key(body, self.wall_seconds)?),
            Duty::ListKeys => Order::ListKeys(who, window(request, head)?),
            Duty::ShowKey => Order::ShowKey(who, keys::id(path)?),
            Duty::RenameKey => Order::RenameKey(who, keys::id(path)?, keys::new_name(body)?),
            Duty::DeleteKey => Order::DeleteKey(who, keys::id(path)?),
            Duty::CreateApp => Order::CreateApp(apps::new_name(body)?),
            Duty::ListApps => Order::ListApps(window(request, head)?),
            Duty::RotateApp => {
                let (which, grace_seconds) = apps::rotation(body)?;
                Order::RotateApp(apps::id(path)?, which, grace_seconds)
            }
            Duty::DeleteApp => Order::DeleteApp(apps::id(path)?),
        };
        Ok(Administration {
            order: Some(Box::new(order)),
            answer: None,
            made: Vec::new(),
            ended: false,
            emptied: None,
            shards: self.shards,
            next: 0,
            outstanding: 0,
        })
    }

    /// Does what another reactor, or this one, asks for, if the journal can keep what it changes.
    #[cold]
    pub fn perform(&mut self, errand: &mut dyn Any, shard: &mut Shard) -> Aftermath {
        let Some(Errand(stage)) = errand.downcast_mut() else {
            return self.perform_for_databases(errand, shard);
        };
        *stage = match std::mem::replace(stage, Stage::Learned) {
            Stage::Order(order) => {
                let (answer, effects) = match order.refused_by(shard.health()) {
                    None => self.execute(*order),
                    Some(problem) => (Err(problem), Effects::default()),
                };
                if !effects.made.is_empty() || effects.ended {
                    self.learn(&effects.made, effects.ended);
                }
                Stage::Done(answer, effects)
            }
            Stage::Learn(made, ended) => {
                self.learn(&made, ended);
                Stage::Learned
            }
            Stage::FindApp(name) => {
                Stage::FoundApp(self.ledger.as_ref().and_then(|ledger| ledger.apps.number_of(&name)))
            }
            Stage::ListApps(after) => Stage::ListedApps(self.listed_apps(after)),
            done => done,
        };
        Aftermath::None
    }

    fn listed_apps(&self, after: u64) -> ListedApps {
        let Some(ledger) = &self.ledger else { return (Vec::new(), None) };
        let page = ledger.apps.list(after, PAGE_MAX);
        let number = |name: &str| ledger.apps.number_named(name);
        let apps = page.items.iter().filter_map(|app| Some((number(app.name)?, app.name.into()))).collect();
        (apps, page.next)
    }

    /// What the ledger has changed since this was last asked, to be kept: names and their contents, none for
    /// what is gone.
    pub fn take_ledger_changes(&mut self) -> Vec<LedgerChange> {
        let mut changes = self.ledger.as_mut().map(Ledger::take_changes).unwrap_or_default();
        changes.extend(self.registry.as_mut().map(Registry::take_changes).unwrap_or_default());
        changes
    }

    /// The next of all that the ledger has to be kept, as it is now; nothing when that was all.
    pub fn ledger_slice(&self, walk: &mut LedgerWalk) -> Vec<LedgerChange> {
        let of_ledger = |ledger: &Ledger| ledger.slice(&mut walk.ledger, RECORDS_PER_SLICE);
        let records = self.ledger.as_ref().map(of_ledger).unwrap_or_default();
        if !records.is_empty() {
            return records;
        }
        let of_registry = |registry: &Registry| registry.slice(&mut walk.databases, RECORDS_PER_SLICE);
        self.registry.as_ref().map(of_registry).unwrap_or_default()
    }

    /// Follows a change of the set of databases, with the shard of its core.
    pub fn follow(&mut self, change: &DatabaseChange, shard: &mut Shard) {
        self.databases.follow(change);
        shard.follow(change);
    }

    /// Learns of credentials that were made earlier, and that others have ended.
    pub fn learn(&mut self, made: &[Arc<Credential>], ended: bool) {
        if ended {
            self.authenticator.begin_sweep();
        }
        for credential in made {
            self.authenticator.learn(credential.clone(), self.wall_seconds);
        }
    }

    fn execute(&mut self, order: Order) -> (Result<Answer, Problem>, Effects) {
        let mut effects = Effects::default();
        let Some(ledger) = &mut self.ledger else {
            debug_assert!(false, "only reactor {LEDGER_REACTOR} is sent orders");
            return (Err(Problem::Busy), effects);
        };
        let answer = execute(ledger, order, self.wall_seconds, &mut effects);
        effects.ended = ledger.take_ended();
        (answer, effects)
    }

    /// Answers an order.
    pub(super) fn answer_order(
        &mut self,
        request: &Request,
        head: &[u8],
        answer: Result<Answer, Problem>,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return self.refuse(Some((request, head)), problem, close, out),
        };
        self.preamble.begin(out, answer.status);
        out.extend_from_slice(b"Cache-Control: no-store\r\n");
        out.extend_from_slice(&answer.fields);
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        response::content_length(out, answer.body.len() as u64);
        self.end(Some((request, head)), close, out);
        if request.method != Method::Head {
            out.extend_from_slice(&answer.body);
        }
    }
}

impl Order {
    /// Why it cannot be, if the journal does not keep what it does. What ends a credential makes room.
    fn refused_by(&self, journal: Health) -> Option<Problem> {
        let (changes, makes_room) = match self {
            Order::ListKeys(..) | Order::ShowKey(..) | Order::ListApps(_) => (false, false),
            Order::DeleteKey(..) | Order::DeleteApp(_) => (true, true),
            Order::CreateKey(..)
            | Order::RenameKey(..)
            | Order::CreateApp(_)
            | Order::RotateApp(..)
            | Order::RestoreApp(_) => (true, false),
        };
        journal.refuses(makes_room).filter(|_| changes).map(|refusal| match refusal {
            Refusal::Full => Problem::JournalFull,
            Refusal::Failed => Problem::JournalFailed,
        })
    }
}

fn execute(ledger: &mut Ledger, order: Order, now: u64, effects: &mut Effects) -> Result<Answer, Problem> {
    let made = &mut effects.made;
    let refused_key = |refused| refused_by(refused, Family::Keys);
    let refused_app = |refused| refused_by(refused, Family::Light);
    Ok(match order {
        Order::CreateKey(maker, new) => {
            let (token, credential, view) = ledger.keys.create(&maker, new, now).map_err(refused_key)?;
            log::info!("API key {} was made", view.id);
            made.push(credential);
            keys::created(&view, &token)
        }
        Order::ListKeys(who, window) => {
            keys::listed(&ledger.keys.list(&who, window.after, window.limit, now))
        }
        Order::ShowKey(who, id) => keys::shown(&ledger.keys.show(&who, id, now).map_err(refused_key)?),
        Order::RenameKey(who, id, name) => {
            keys::shown(&ledger.keys.rename(&who, id, name, now).map_err(refused_key)?)
        }
        Order::DeleteKey(who, id) => {
            ledger.keys.delete(&who, id, now).map_err(refused_key)?;
            log::info!("API key {id} was deleted");
            keys::deleted()
        }
        Order::CreateApp(name) => {
            let (view, tokens) = ledger.create_app(name, now).map_err(refused_app)?;
            log::info!("app {} was made", view.id);
            made.extend(tokens.credentials.iter().cloned());
            apps::told(Status::Created, &view, &tokens)
        }
        Order::ListApps(window) => apps::listed(&ledger.apps.list(window.after, window.limit), window.limit),
        Order::RotateApp(id, which, grace_seconds) => {
            let (view, tokens) = ledger.rotate_app(id, which, grace_seconds, now).map_err(refused_app)?;
            log::info!("app {id} has new tokens");
            made.extend(tokens.credentials.iter().cloned());
            apps::told(Status::Ok, &view, &tokens)
        }
        Order::RestoreApp(name) => {
            if ledger.apps.number_named(&name).is_none() {
                // Nobody is told of its tokens, so no reactor need learn of them.
                let (view, _) = ledger.create_app(name.clone(), now).map_err(refused_app)?;
                log::info!("app {} was made by a restore", view.id);
            }
            effects.app = ledger.apps.number_named(&name);
            Answer { status: Status::Ok, fields: Vec::new(), body: Zeroizing::default() }
        }
        Order::DeleteApp(id) => {
            let number = ledger.apps.delete(id).map_err(refused_app)?;
            effects.emptied = Some([Namespace::items(number), Namespace::lists(number)]);
            log::info!("app {id} was deleted");
            apps::deleted(id)
        }
    })
}

fn refused_by(refused: Refused, family: Family) -> Problem {
    match refused {
        Refused::ExceedsGrants(grants) => Problem::Forbidden(grants),
        Refused::ExceedsScope => Problem::ExceedsScope,
        Refused::TooManyGenerations => Problem::TooManyGenerations,
        Refused::OutlivesMaker(_) => Problem::OutlivesMaker,
        Refused::MakerEnded => Problem::Unauthorized,
        Refused::Unknown if family == Family::Light => Problem::AppUnknown,
        Refused::Unknown => Problem::ApiKeyUnknown,
        Refused::NameTaken => Problem::NameTaken,
        Refused::DefaultApp => Problem::DefaultApp,
        Refused::NoRoom => Problem::CredentialsFull,
        Refused::NoRandomness => Problem::Busy,
    }
}

impl Administration {
    pub(super) fn next(&mut self) -> Option<Piece<'static>> {
        if let Some((spaces, next)) = &mut self.emptied
            && *next < self.shards
        {
            let shard = *next;
            *next += 1;
            self.outstanding += 1;
            return Some(Piece { index: shard as u32, shard, work: Work::Empty(*spaces) });
        }
        let (shard, stage) = match self.order.take() {
            Some(order) => (LEDGER_REACTOR, Stage::Order(order)),
            None => {
                // The ledger's own reactor has learned already.
                let learner = Some(self.next).filter(|next| *next < self.shards && self.has_news());
                self.next += usize::from(learner.is_some());
                (learner?, Stage::Learn(self.made.clone(), self.ended))
            }
        };
        self.outstanding += 1;
        Some(Piece { index: shard as u32, shard, work: Work::Errand(Box::new(Errand(stage))) })
    }

    pub(super) fn accept(&mut self, errand: Box<dyn Any + Send>) {
        self.outstanding -= 1;
        let Ok(errand) = errand.downcast::<Errand>() else {
            debug_assert!(false, "not an errand of ours");
            return;
        };
        if let Stage::Done(answer, Effects { made, ended, emptied, .. }) = errand.0 {
            self.answer = Some(answer);
            self.made = made;
            self.ended = ended;
            self.emptied = emptied.map(|spaces| (spaces, 0));
            self.next = LEDGER_REACTOR + 1;
        }
    }

    fn has_news(&self) -> bool {
        !self.made.is_empty() || self.ended
    }

    /// A shard has dropped what a deleted app held.
    pub(super) fn accept_emptied(&mut self) {
        self.outstanding -= 1;
    }

    pub(super) fn is_done(&self) -> bool {
        let all_know = !self.has_news() || self.next >= self.shards;
        let all_empty = self.emptied.is_none_or(|(_, next)| next >= self.shards);
        self.answer.is_some() && self.outstanding == 0 && all_know && all_empty
    }

    pub(super) fn answer(self) -> Result<Answer, Problem> {
        self.answer.unwrap_or(Err(Problem::Busy))
    }
}

/// The fields of a request that may hold a credential.
pub(super) fn fields<'h>(request: &Request, head: &'h [u8]) -> Fields<'h> {
    Fields {
        authorization: request.field(head, Field::Authorization),
        token: request.field(head, Field::Token),
    }
}

/// Reads which part of a list is asked for. What is empty is as if it were not there.
fn window(request: &Request, head: &[u8]) -> Result<Window, Problem> {
    let mut window = Window { after: 0, limit: PAGE_MAX };
    let (mut cursor_given, mut limit_given) = (false, false);
    for pair in target::query_pairs(request.query.map_or(b"", |query| query.of(head))) {
        let (name, value) = pair.map_err(|_| Problem::QueryInvalid("an escape is malformed"))?;
        let given = match &*name {
            b"cursor" => &mut cursor_given,
            b"limit" => &mut limit_given,
            _ => continue,
        };
        if std::mem::replace(given, true) {
            return Err(Problem::QueryInvalid("a parameter stands twice"));
        }
        let number = || {
            let digits = value.iter().all(u8::is_ascii_digit).then_some(&*value)?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        };
        match &*name {
            _ if value.is_empty() => {}
            b"cursor" => {
                window.after =
                    number().ok_or(Problem::QueryInvalid("the cursor is not one that a listing answered"))?;
            }
            _ => {
                window.limit = number()
                    .filter(|limit| (1..=PAGE_MAX as u64).contains(limit))
                    .ok_or(Problem::QueryInvalid("limit is an integer from 1 to 1000"))?
                    as usize;
            }
        }
    }
    Ok(window)
}

/// Longest name of a key or an app, in characters.
const NAME_CHARS_MAX: usize = 100;

/// Whether this may be the name of a key or an app.
pub(super) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control)
}

/// A name for people.
pub(super) fn name(object: &json::Object<'_>) -> Result<Box<str>, Problem> {
    match object.member("name") {
        None | Some(json::Value::Null) => Err(Problem::MemberMissing("name")),
        Some(json::Value::Text(name)) => {
            if is_name(&name) {
                Ok(name.into())
            } else {
                Err(Problem::MemberInvalid("name is 1 to 100 characters, none of them a control character"))
            }
        }
        Some(_) => Err(Problem::MemberInvalid("name is a string")),
    }
}

/// A body that is a JSON object with no other members than these.
pub(super) fn form<'a>(body: &'a [u8], members: &[&str]) -> Result<json::Object<'a>, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::BodyInvalid("JSON is UTF-8"))?;
    let object = json::Object::parse(text).map_err(Problem::BodyInvalid)?;
    if object.names().any(|name| !members.contains(&name)) {
        return Err(Problem::MemberInvalid("it has a member that does not belong there"));
    }
    Ok(object)
}
