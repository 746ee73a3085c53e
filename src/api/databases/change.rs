//! What the databases family has a reactor do for it: find a database, decide upon a change, follow one.
//!
//! An errand stands for a step that no shard does. The ones that change the set of databases are done by
//! reactor 0, which tells all others before the change is answered: whoever drives the reactors holds the
//! errand back until the change is kept and they have followed, and until whatever was decided before it is done.

use std::any::Any;
use std::sync::Arc;

use crate::op::Namespace;
use crate::shard::{DatabaseChange, DatabaseOrder, Health, NotChanged, Refusal, Shard};

use super::super::gather::{Piece, Work};
use super::super::message::Problem;
use super::super::{Api, json, timestamp};
use super::Level;

/// The reactor with the registry.
const REGISTRY_REACTOR: usize = 0;

/// What one reactor does for another, or for itself, and what came of it.
#[derive(Debug)]
pub(super) enum Errand {
    /// To find the database of this name.
    Find(Box<str>),
    /// To name all databases.
    Names,
    /// To decide upon this.
    Order(DatabaseOrder),
    /// To follow this.
    Follow(DatabaseChange),
    /// To write this to the log, and to say under which key it is kept, and as what.
    Log(Level, Box<str>),
    /// What is done.
    Done(Done),
}

/// What came of an errand.
#[derive(Debug)]
pub(super) enum Done {
    Found(Option<Namespace>),
    Named(Vec<Arc<str>>),
    Decided(Result<Option<u32>, NotChanged>),
    Followed,
    Logged { key: String, value: Vec<u8> },
}

/// What has to happen before an errand is brought back.
#[derive(Debug)]
pub enum Aftermath {
    /// Nothing.
    None,
    /// All follow this change, once it is kept.
    Follow(DatabaseChange),
    /// They have followed all changes before.
    Followed,
}

/// An errand for the reactor that asks.
pub(super) fn here(errand: Errand) -> Piece<'static> {
    Piece { index: 0, shard: 0, work: Work::Here(Box::new(errand)) }
}

/// An errand for the reactor that decides.
pub(super) fn there(errand: Errand) -> Piece<'static> {
    Piece { index: 0, shard: REGISTRY_REACTOR, work: Work::Errand(Box::new(errand)) }
}

/// Takes an errand for what it is.
pub(super) fn done(errand: Box<dyn Any + Send>) -> Option<Done> {
    match *errand.downcast::<Errand>().ok()? {
        Errand::Done(done) => Some(done),
        _ => None,
    }
}

/// Has the database of this name found, or made.
pub(in super::super) fn ensure(name: Box<str>) -> Piece<'static> {
    there(Errand::Order(DatabaseOrder::Ensure(name)))
}

/// Its number.
pub(in super::super) fn ensured(errand: Box<dyn Any + Send>) -> Result<u32, Problem> {
    match done(errand) {
        Some(Done::Decided(Ok(Some(number)))) => Ok(number),
        Some(Done::Decided(Err(why))) => Err(refused(why)),
        _ => Err(Problem::Busy),
    }
}

/// Has another reactor follow a change.
pub fn follow(change: DatabaseChange) -> Box<dyn Any + Send> {
    Box::new(Errand::Follow(change))
}

impl Api {
    /// Does an errand of this family.
    pub(in super::super) fn perform_for_databases(
        &mut self,
        errand: &mut dyn Any,
        shard: &mut Shard,
    ) -> Aftermath {
        let Some(errand) = errand.downcast_mut::<Errand>() else {
            debug_assert!(false, "not an errand of ours");
            return Aftermath::None;
        };
        let mut aftermath = Aftermath::None;
        let done = match std::mem::replace(errand, Errand::Names) {
            Errand::Find(name) => Done::Found(self.databases.namespace(name.as_bytes())),
            Errand::Names => Done::Named(self.databases.names().cloned().collect()),
            Errand::Order(order) => {
                let decided = self.decide(order, shard.health());
                aftermath = match &decided {
                    Ok((_, Some(change))) => Aftermath::Follow(change.clone()),
                    Ok((_, None)) => Aftermath::Followed,
                    Err(_) => Aftermath::None,
                };
                Done::Decided(decided.map(|(number, _)| number))
            }
            Errand::Follow(change) => {
                self.follow(&change, shard);
                Done::Followed
            }
            Errand::Log(level, message) => self.log(level, &message),
            Errand::Done(done) => done,
        };
        *errand = Errand::Done(done);
        aftermath
    }

    /// The one place where it is decided how the set of databases changes. It does when all are told to follow.
    fn decide(
        &mut self,
        order: DatabaseOrder,
        journal: Health,
    ) -> Result<(Option<u32>, Option<DatabaseChange>), NotChanged> {
        let Some(registry) = &mut self.registry else {
            debug_assert!(false, "only reactor {REGISTRY_REACTOR} is sent orders");
            return Err(NotChanged::NoRoom);
        };
        let makes_room = !matches!(order, DatabaseOrder::Ensure(_) | DatabaseOrder::Rename(..));
        let is_there = matches!(&order, DatabaseOrder::Ensure(name) if registry.has(name));
        if let Some(refusal) = journal.refuses(makes_room).filter(|_| !is_there) {
            return Err(match refusal {
                Refusal::Full => NotChanged::JournalFull,
                Refusal::Failed => NotChanged::JournalFailed,
            });
        }
        registry.decide(order)
    }

    /// Writes a client's message to the log. Each level keeps so many of the last messages, under keys that
    /// are used over and over.
    fn log(&mut self, level: Level, message: &str) -> Done {
        log::log!(target: "lucid::client", level.of_log(), "{message}");
        debug_assert!(self.registry.is_some(), "only reactor {REGISTRY_REACTOR} is sent messages");
        let slot = self.registry.as_mut().map_or(0, |registry| registry.next_log_slot(level as usize));
        let key = format!("{}_writer-{slot:05}", level.name());
        let mut value = b"{\"time\":".to_vec();
        timestamp::write(&mut value, self.wall_seconds);
        value.extend_from_slice(b",\"message\":");
        json::write_text(&mut value, message);
        value.push(b'}');
        Done::Logged { key, value }
    }
}

/// What a client is told when there is no change.
pub(super) fn refused(why: NotChanged) -> Problem {
    match why {
        NotChanged::Unknown => Problem::DatabaseUnknown,
        NotChanged::NameTaken => Problem::DatabaseNameTaken,
        NotChanged::NoRoom => Problem::DatabasesFull,
        NotChanged::JournalFull => Problem::JournalFull,
        NotChanged::JournalFailed => Problem::JournalFailed,
    }
}
