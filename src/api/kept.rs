//! What the API of a node does not know before everything is read that the node has kept: who its credentials
//! stand for, which apps and databases there are, what its entity tags begin with.
//!
//! Until then a request that needs any of it is asked to come again, also one that shows a credential of a good
//! form that nobody knows: only what is certain is refused.

use std::sync::Arc;

use super::prepared::PreparedAnswers;
use super::{Api, Problem, unauthorized};
use crate::auth::{Authenticator, Credential, Ledger, Trust, Unauthorized};
use crate::etag::Tags;
use crate::shard::{DatabaseChange, Registry};

/// What the API of one reactor is told of what was kept.
#[derive(Debug)]
pub struct Kept {
    /// Goes on with the tags of an earlier run.
    pub tags: Tags,
    /// What credentials are judged by, those of earlier runs too.
    pub trust: Trust,
    /// All API keys and app tokens that there are.
    pub credentials: Arc<[Arc<Credential>]>,
    /// How all databases came to be.
    pub databases: Arc<[DatabaseChange]>,
    /// For reactor 0, where they are made and ended.
    pub ledger: Option<(Ledger, Registry)>,
}

impl Api {
    /// Whether all but the pages of the node is refused, since not everything is back that it has kept.
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// Everything is back.
    pub fn recovered(&mut self) {
        self.recovering = false;
    }

    /// Takes on what was kept, as it began without it. Whoever was let in before still is.
    pub fn remember(&mut self, kept: Kept) {
        self.checking = false;
        self.tags = kept.tags;
        self.prepared = PreparedAnswers::new(&kept.tags);
        self.prepared.renew(&self.preamble);
        self.authenticator = Authenticator::new(kept.trust);
        self.learn(&kept.credentials, false);
        kept.databases.iter().for_each(|database| self.databases.follow(database));
        if let Some((ledger, registry)) = kept.ledger {
            (self.ledger, self.registry) = (Some(ledger), Some(registry));
        }
    }

    /// Why a caller is not let in. What was kept may know it, as long as that is not read.
    #[cold]
    pub(super) fn not_let_in(&self, why: Unauthorized) -> Problem {
        match why {
            Unauthorized::Unknown if self.checking => Problem::Recovering,
            why => unauthorized(why),
        }
    }
}
