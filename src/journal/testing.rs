//! The writer's end, for tests of what a shard hands over.

use super::tap::{Frame, Health, Mark, Source};

/// What a shard handed over.
#[derive(Clone, Debug)]
pub(crate) enum Handed {
    /// An encoded change.
    Change(Vec<u8>),
    /// Here begins the live set of this number.
    BaseBegins(u64),
    /// An encoded part of the live set.
    Base(Vec<u8>),
    /// The live set is complete.
    BaseEnds,
}

impl Source {
    /// All that is there.
    pub(crate) fn drain(&mut self) -> Vec<Handed> {
        let mut handed = Vec::new();
        self.take(Mark::END, |frame, body, value| {
            let body = [body, value.as_deref().unwrap_or_default()].concat();
            handed.push(match frame {
                Frame::Change | Frame::ChangeWithValue => Handed::Change(body),
                Frame::Base | Frame::BaseWithValue => Handed::Base(body),
                Frame::BaseBegins => {
                    Handed::BaseBegins(u64::from_le_bytes(body.try_into().expect("a number")))
                }
                Frame::BaseEnds => Handed::BaseEnds,
            });
            true
        });
        handed
    }

    pub(crate) fn ask_for_base(&self, number: u64) {
        self.want_base(number);
    }

    pub(crate) fn be(&self, health: Health) {
        self.set_health(health);
    }

    pub(crate) fn keep_up_to(&self, records: u64) {
        self.keep(records);
    }
}
