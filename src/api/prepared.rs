//! The usual answers of the hot path, made once and copied for each request.

use crate::clock::Version;
use crate::etag::Tags;
use crate::http::{Preamble, Prepared, Status, response};

use super::databases::controller;
use super::{message, value};

/// The usual answers of the hot path, ready but for what differs from key to key.
#[derive(Debug)]
pub(super) struct PreparedAnswers {
    /// GET, up to the digits of the length. Starts as [`value::VALIDATORS`].
    pub found: Prepared,
    /// PUT, whole. Start with [`ETAG`] and a tag.
    pub created: Prepared,
    pub updated: Prepared,
    /// A value of a database, up to the digits of the length.
    pub data: Prepared,
    /// It is set, whole.
    pub data_set: Prepared,
}

/// What stands before the tag of a prepared answer to a PUT.
pub(super) const ETAG: &[u8] = b"ETag: ";

impl PreparedAnswers {
    /// Those of a node with these tags. To be renewed before they are used.
    pub fn new(tags: &Tags) -> PreparedAnswers {
        let tag = tags.tag(Version(0));
        let written = |status, body: &'static [u8]| {
            let mut behind = [ETAG, &tag, b"\r\nContent-Type: application/json\r\n"].concat();
            response::content_length(&mut behind, body.len() as u64);
            response::end(&mut behind);
            behind.extend_from_slice(body);
            Prepared::new(status, behind)
        };
        PreparedAnswers {
            found: Prepared::new(Status::Ok, value::usual(&tag)),
            created: written(Status::Created, message::CREATED),
            updated: written(Status::Ok, message::UPDATED),
            data: Prepared::new(controller::STATUS, controller::DATA.to_vec()),
            data_set: Prepared::new(controller::STATUS, controller::data_set()),
        }
    }

    /// Has them begin as every answer does now.
    pub fn renew(&mut self, preamble: &Preamble) {
        let PreparedAnswers { found, created, updated, data, data_set } = self;
        for answer in [found, created, updated, data, data_set] {
            answer.renew(preamble);
        }
    }
}
