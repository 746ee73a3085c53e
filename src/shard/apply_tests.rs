//! What an operation comes to, case by case.

use super::Shard;
use crate::clock::Now;
use crate::etag::Tags;
use crate::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, VALUE_COPY_BYTES_MAX};
use crate::op::{
    Action, CONTENT_TYPE_DEFAULT, Condition, Encoding, Expiry, KeyHasher, Large, Meta, Namespace, Number,
    Operation, Outcome, Payload, Step,
};
use crate::store::{Store, StoreConfig, WhenFull};

const START_MS: u64 = 1_700_000_000_123;

/// A shard in virtual time.
pub(super) struct Bench {
    pub(super) shard: Shard,
    hasher: KeyHasher,
    pub(super) tags: Tags,
    pub(super) now: Now,
}

/// How an operation is asked beside its action.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    pub(super) condition: Condition<'a>,
    pub(super) fencing_token: Option<u64>,
    pub(super) admin: bool,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::over(64 << 20, 8 << 20)
    }

    fn over(memory_bytes: u64, value_bytes_max: usize) -> Bench {
        let config = StoreConfig { memory_bytes, value_bytes_max, when_full: WhenFull::Reject };
        let tags = Tags::new(7);
        let hasher = KeyHasher::random();
        let shard = Shard::new(Store::new(config, hasher.clone()).unwrap(), tags);
        Bench { shard, hasher, tags, now: Now::from_unix_ms(START_MS) }
    }

    pub(super) fn ask<'s>(&'s mut self, key: &str, action: Action<'_>, asked: Asked<'_>) -> Outcome<'s> {
        let Asked { condition, fencing_token, admin } = asked;
        let key = key.as_bytes();
        let namespace = Namespace::KV;
        let hash = self.hasher.hash(namespace, key);
        let op = Operation { namespace, key, hash, action, condition, fencing_token, admin };
        self.shard.apply(&op, self.now)
    }

    pub(super) fn apply<'s>(&'s mut self, key: &str, action: Action<'_>) -> Outcome<'s> {
        self.ask(key, action, Asked::default())
    }

    fn with_token<'s>(&'s mut self, key: &str, action: Action<'_>, token: u64) -> Outcome<'s> {
        self.ask(key, action, Asked { fencing_token: Some(token), ..Asked::default() })
    }

    fn if_match<'s>(&'s mut self, key: &str, action: Action<'_>, list: &str) -> Outcome<'s> {
        let condition = Condition { if_match: Some(list.as_bytes()), ..Condition::default() };
        self.ask(key, action, Asked { condition, ..Asked::default() })
    }

    fn if_none_match<'s>(&'s mut self, key: &str, action: Action<'_>, list: &str) -> Outcome<'s> {
        let condition = Condition { if_none_match: Some(list.as_bytes()), ..Condition::default() };
        self.ask(key, action, Asked { condition, ..Asked::default() })
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now = Now::from_unix_ms(self.now.unix_ms + ms);
    }

    /// Takes a lock that must be free, and gives its token.
    fn lock(&mut self, key: &str, lease_seconds: Option<u32>) -> u64 {
        match self.apply(key, Action::Lock { lease_seconds }) {
            Outcome::LockTaken { fencing_token, .. } => fencing_token,
            other => panic!("{other:?}"),
        }
    }

    fn value(&mut self, key: &str) -> String {
        String::from_utf8(self.found(key).3).unwrap()
    }

    fn meta(&mut self, key: &str) -> Meta {
        self.found(key).0
    }

    fn found(&mut self, key: &str) -> (Meta, Vec<u8>, Encoding, Vec<u8>) {
        match self.apply(key, Action::Get) {
            Outcome::Found(entry) => {
                (entry.meta, entry.content_type.to_vec(), entry.encoding, entry.value.bytes().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    fn tag(&mut self, key: &str) -> String {
        let version = self.meta(key).version;
        String::from_utf8(self.tags.tag(version).to_vec()).unwrap()
    }
}

fn put(value: &str) -> Action<'_> {
    Action::Put {
        value: Payload::Bytes(value.as_bytes()),
        content_type: None,
        encoding: Encoding::Identity,
        expiry: Expiry::Never,
    }
}

fn put_for(value: &str, seconds: u32) -> Action<'_> {
    Action::Put {
        value: Payload::Bytes(value.as_bytes()),
        content_type: None,
        encoding: Encoding::Identity,
        expiry: Expiry::Seconds(seconds),
    }
}

const LOCK: Action<'_> = Action::Lock { lease_seconds: None };
const LEASE: Action<'_> = Action::Lock { lease_seconds: Some(10) };
const DELETE: Action<'_> = Action::Delete { answer_value: false };
const COUNT: Action<'_> = Action::Add(Step::Integer(1));
const EXPIRE: Action<'_> = Action::Expire { seconds: 60 };

/// Everything that a lock keeps others from.
const GUARDED: [Action<'_>; 5] = [put_static(), DELETE, COUNT, EXPIRE, Action::Persist];

/// Every PATCH.
const PATCHES: [Action<'_>; 6] = [LOCK, LEASE, Action::Unlock, COUNT, EXPIRE, Action::Persist];

const fn put_static() -> Action<'static> {
    Action::Put {
        value: Payload::Bytes(b"written"),
        content_type: None,
        encoding: Encoding::Identity,
        expiry: Expiry::Never,
    }
}

macro_rules! assert_outcome {
    ($outcome:expr, $pattern:pat $(if $guard:expr)?) => {
        let outcome = $outcome;
        assert!(matches!(outcome, $pattern $(if $guard)?), "{:?}", outcome);
    };
}

#[test]
fn a_key_is_absent_then_created_then_updated_then_deleted() {
    let mut bench = Bench::new();
    assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    assert_outcome!(bench.apply("k", DELETE), Outcome::Absent);
    let Outcome::Created(created) = bench.apply("k", put("one")) else { panic!() };
    assert_eq!(created.expires_ms, None);
    assert_eq!(created.version.unix_ms(), START_MS);
    assert_eq!(
        bench.found("k"),
        (created, CONTENT_TYPE_DEFAULT.to_vec(), Encoding::Identity, b"one".to_vec())
    );
    let Outcome::Updated(updated) = bench.apply("k", put("one")) else { panic!() };
    assert!(updated.version > created.version, "the same bytes are a new write all the same");
    assert_outcome!(bench.apply("k", DELETE), Outcome::Deleted(None));
    assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    let Outcome::Created(again) = bench.apply("k", put("one")) else { panic!() };
    assert!(again.version > updated.version, "a version is never used again");
}

#[test]
fn keys_types_and_values_of_any_size_are_kept() {
    let mut bench = Bench::new();
    let long_type = "x".repeat(CONTENT_TYPE_BYTES_MAX);
    for key in ["k", &"k".repeat(KEY_BYTES_MAX)] {
        for content_type in ["", "text/plain", &long_type] {
            for length in [0, 1, 1_000, VALUE_COPY_BYTES_MAX] {
                let value = "v".repeat(length);
                let action = Action::Put {
                    value: Payload::Bytes(value.as_bytes()),
                    content_type: Some(content_type.as_bytes()),
                    encoding: Encoding::Zstd,
                    expiry: Expiry::Never,
                };
                assert_outcome!(bench.apply(key, action), Outcome::Created(_) | Outcome::Updated(_));
                let (_, found_type, encoding, found) = bench.found(key);
                assert_eq!((found_type, encoding), (content_type.into(), Encoding::Zstd));
                assert!(found == value.as_bytes());
            }
        }
    }
}

#[test]
fn a_large_value_is_shared_and_not_copied() {
    let mut bench = Bench::new();
    let large: Large = Large::copy_of(&[b'x'; VALUE_COPY_BYTES_MAX + 1]);
    let action = Action::Put {
        value: Payload::Large(&large),
        content_type: None,
        encoding: Encoding::Identity,
        expiry: Expiry::Never,
    };
    assert_outcome!(bench.apply("k", action), Outcome::Created(_));
    let Outcome::Found(entry) = bench.apply("k", Action::Get) else { panic!() };
    assert!(matches!(entry.value, Payload::Large(found) if found.is_same(&large)));
    assert_outcome!(bench.apply("k", COUNT), Outcome::NotNumeric);
    let Outcome::Deleted(Some(entry)) = bench.apply("k", Action::Delete { answer_value: true }) else {
        panic!()
    };
    assert!(matches!(entry.value, Payload::Large(found) if found.is_same(&large)));
    assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    assert_eq!(large.holders(), 1, "what was removed is given back with the next operation");
}

#[test]
fn a_delete_answers_the_removed_entry_when_asked() {
    let mut bench = Bench::new();
    let action = Action::Put {
        value: Payload::Bytes(b"bytes"),
        content_type: Some(b"text/plain"),
        encoding: Encoding::Gzip,
        expiry: Expiry::Seconds(9),
    };
    let Outcome::Created(created) = bench.apply("k", action) else { panic!() };
    let Outcome::Deleted(Some(entry)) = bench.apply("k", Action::Delete { answer_value: true }) else {
        panic!()
    };
    assert_eq!(
        (entry.meta, entry.content_type, entry.encoding),
        (created, &b"text/plain"[..], Encoding::Gzip)
    );
    assert_eq!(entry.value.bytes(), b"bytes");
    assert_outcome!(bench.apply("k", Action::Delete { answer_value: true }), Outcome::Absent);
}

#[test]
fn every_patch_of_an_absent_key_finds_nothing() {
    let mut bench = Bench::new();
    for action in PATCHES {
        assert_outcome!(bench.apply("k", action), Outcome::Absent);
        assert_outcome!(bench.with_token("k", action, 5), Outcome::Absent);
        assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    }
}

#[test]
fn an_expired_key_is_absent_to_everything() {
    let mut bench = Bench::new();
    for action in PATCHES.into_iter().chain([Action::Get, DELETE]) {
        bench.apply("k", put_for("1", 1));
        bench.lock("k", None);
        bench.wait(999);
        assert_outcome!(bench.apply("k", Action::Get), Outcome::Found(_));
        bench.wait(1);
        assert_outcome!(bench.apply("k", action), Outcome::Absent);
        assert_outcome!(bench.apply("k", put("free of the lock")), Outcome::Created(_));
        bench.apply("k", DELETE);
    }
}

#[test]
fn a_put_sets_or_clears_the_time_to_live() {
    let mut bench = Bench::new();
    let Outcome::Created(meta) = bench.apply("k", put_for("1", u32::MAX)) else { panic!() };
    assert_eq!(meta.expires_ms, Some(START_MS + 4_294_967_295_000));
    let Outcome::Updated(meta) = bench.apply("k", put_for("1", 1)) else { panic!() };
    assert_eq!(meta.expires_ms, Some(START_MS + 1_000));
    assert_eq!(bench.meta("k"), meta);
    let Outcome::Updated(meta) = bench.apply("k", put("1")) else { panic!() };
    assert_eq!(meta.expires_ms, None);
    bench.wait(1_000_000);
    assert_eq!(bench.meta("k"), meta);
}

#[test]
fn ttl_and_persist_change_the_deadline_and_nothing_else() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let before = bench.found("k");
    bench.wait(5_000);
    let Outcome::Expiring(meta) = bench.apply("k", EXPIRE) else { panic!() };
    assert_eq!(meta, Meta { version: before.0.version, expires_ms: Some(START_MS + 65_000) });
    assert_eq!(bench.found("k"), (meta, before.1.clone(), before.2, before.3.clone()));
    let Outcome::Persisted(meta) = bench.apply("k", Action::Persist) else { panic!() };
    assert_eq!(meta, before.0);
    assert_outcome!(bench.apply("k", Action::Persist), Outcome::Persisted(meta) if meta == before.0);
    bench.wait(1_000_000);
    assert_eq!(bench.found("k"), before);
}

#[test]
fn a_lock_keeps_everyone_else_out_and_leaves_reading_alone() {
    for lease_seconds in [None, Some(10)] {
        let mut bench = Bench::new();
        bench.apply("k", put("1"));
        let before = bench.found("k");
        let token = bench.lock("k", lease_seconds);
        assert_eq!(bench.found("k"), before, "a lock leaves tag and time alone");
        for action in GUARDED {
            assert_outcome!(bench.apply("k", action), Outcome::Locked);
            assert_outcome!(bench.with_token("k", action, token - 1), Outcome::Locked);
            assert_outcome!(bench.with_token("k", action, token + 1), Outcome::Locked);
            let admin = Asked { admin: true, ..Asked::default() };
            assert_outcome!(bench.ask("k", action, admin), Outcome::Locked);
        }
        assert_eq!(bench.found("k"), before);
    }
}

#[test]
fn a_write_that_shows_the_token_passes_and_keeps_the_lock() {
    for lease_seconds in [None, Some(10)] {
        let mut bench = Bench::new();
        bench.apply("k", put("1"));
        let token = bench.lock("k", lease_seconds);
        assert_outcome!(bench.with_token("k", COUNT, token), Outcome::Counted(Number::Integer(2), _));
        assert_outcome!(bench.apply("k", COUNT), Outcome::Locked);
        assert_outcome!(bench.with_token("k", EXPIRE, token), Outcome::Expiring(_));
        assert_outcome!(bench.apply("k", EXPIRE), Outcome::Locked);
        assert_outcome!(bench.with_token("k", Action::Persist, token), Outcome::Persisted(_));
        assert_outcome!(bench.apply("k", Action::Persist), Outcome::Locked);
        assert_outcome!(bench.with_token("k", put("5"), token), Outcome::Updated(_));
        assert_outcome!(bench.apply("k", put("6")), Outcome::Locked);
        assert_eq!(bench.value("k"), "5");
        assert_outcome!(bench.with_token("k", DELETE, token), Outcome::Deleted(_));
        assert_outcome!(bench.apply("k", put("free")), Outcome::Created(_));
        assert_outcome!(bench.apply("k", put("free")), Outcome::Updated(_));
    }
}

#[test]
fn a_token_that_holds_no_lock_passes_nothing() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let token = bench.lock("k", Some(1));
    bench.wait(1_000);
    for action in GUARDED {
        assert_outcome!(bench.with_token("k", action, token), Outcome::Locked);
    }
    assert_eq!(bench.value("k"), "1");
    assert_outcome!(bench.with_token("k", LOCK, token), Outcome::LockTaken { .. });
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::Unlocked(_));
    bench.apply("k", DELETE);
    assert_outcome!(bench.with_token("k", put("back from the dead"), token), Outcome::Locked);
    assert_outcome!(bench.with_token("k", DELETE, token), Outcome::Absent);
    assert_outcome!(bench.apply("k", put("1")), Outcome::Created(_));
}

#[test]
fn a_locked_key_is_not_locked_again_and_an_unlocked_one_not_unlocked() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let admin = Asked { admin: true, ..Asked::default() };
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::NotLocked);
    assert_outcome!(bench.ask("k", Action::Unlock, admin), Outcome::NotLocked);
    assert_outcome!(bench.with_token("k", Action::Unlock, 5), Outcome::NotLocked);
    let token = bench.lock("k", None);
    for action in [LOCK, LEASE] {
        assert_outcome!(bench.apply("k", action), Outcome::AlreadyLocked);
        assert_outcome!(bench.with_token("k", action, token), Outcome::AlreadyLocked);
        assert_outcome!(bench.ask("k", action, admin), Outcome::AlreadyLocked);
    }
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::Unlocked(_));
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::NotLocked);
}

#[test]
fn a_lock_without_a_lease_is_freed_by_any_unlock_and_never_by_time() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let before = bench.found("k");
    for shown in [None, Some(1)] {
        bench.lock("k", None);
        bench.wait(u64::from(u32::MAX) * 1_000);
        assert_outcome!(bench.apply("k", put("2")), Outcome::Locked);
        let asked = Asked { fencing_token: shown, ..Asked::default() };
        assert_outcome!(bench.ask("k", Action::Unlock, asked), Outcome::Unlocked(meta) if meta == before.0);
        assert_eq!(bench.found("k"), before);
    }
}

#[test]
fn a_leased_lock_is_freed_by_its_token_or_an_administrator() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let token = bench.lock("k", Some(10));
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::Locked);
    assert_outcome!(bench.with_token("k", Action::Unlock, token + 1), Outcome::Locked);
    assert_outcome!(bench.with_token("k", Action::Unlock, token), Outcome::Unlocked(_));
    bench.lock("k", Some(10));
    assert_outcome!(bench.with_token("k", Action::Unlock, token), Outcome::Locked);
    let admin = Asked { admin: true, ..Asked::default() };
    assert_outcome!(bench.ask("k", Action::Unlock, admin), Outcome::Unlocked(_));
    assert_outcome!(bench.apply("k", put("2")), Outcome::Updated(_));
}

#[test]
fn a_lease_frees_itself_at_its_end() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let first = bench.lock("k", Some(10));
    bench.wait(9_999);
    assert_outcome!(bench.apply("k", LOCK), Outcome::AlreadyLocked);
    assert_outcome!(bench.apply("k", put("2")), Outcome::Locked);
    bench.wait(1);
    assert_outcome!(bench.apply("k", Action::Unlock), Outcome::NotLocked);
    assert_outcome!(bench.apply("k", put("2")), Outcome::Updated(_));
    let second = bench.lock("k", Some(10));
    assert!(second > first);
    assert_outcome!(bench.with_token("k", put("3"), first), Outcome::Locked);
    assert_outcome!(bench.with_token("k", put("3"), second), Outcome::Updated(_));
    bench.wait(10_000);
    // A write behind the end of a lease leaves no lock behind that time or a sweep could find.
    assert_outcome!(bench.apply("k", EXPIRE), Outcome::Expiring(_));
    assert_outcome!(bench.apply("k", COUNT), Outcome::Counted(Number::Integer(4), _));
}

#[test]
fn fencing_tokens_rise_with_every_lock_even_when_time_stands_still() {
    let mut bench = Bench::new();
    let mut last = 0;
    for round in 0..20 {
        bench.apply("k", put("1"));
        let token = bench.lock("k", if round % 2 == 0 { None } else { Some(1) });
        assert!(token > last);
        last = token;
        if round % 3 == 0 {
            bench.with_token("k", DELETE, token);
        } else {
            bench.with_token("k", Action::Unlock, token);
        }
    }
}

#[test]
fn if_match_lets_a_write_pass_only_onto_the_bytes_it_names() {
    let forms: [fn(&str) -> String; 4] = [
        |tag| tag.to_string(),
        |tag| format!("\"x\", {tag}"),
        |tag| format!("{}-d\"", tag.trim_end_matches('"')),
        |_| "*".to_string(),
    ];
    for action in GUARDED.into_iter().chain([LOCK, LEASE]) {
        for form in forms {
            let mut bench = Bench::new();
            bench.apply("k", put("1"));
            let old = bench.tag("k");
            bench.apply("k", put("2"));
            let before = bench.found("k");
            let tag = bench.tag("k");
            for list in [&old, "\"x\"", "", &format!("W/{tag}"), tag.trim_matches('"')] {
                let refused = bench.if_match("k", action, list);
                assert_outcome!(refused, Outcome::ConditionFailed(Some(meta)) if meta == before.0);
                assert_eq!(bench.found("k"), before);
            }
            let passed = bench.if_match("k", action, &form(&tag));
            assert!(
                !matches!(passed, Outcome::ConditionFailed(_) | Outcome::Locked | Outcome::Absent),
                "{passed:?}"
            );
        }
    }
}

#[test]
fn if_match_on_an_absent_key_fails_whatever_it_says() {
    let mut bench = Bench::new();
    for action in GUARDED.into_iter().chain(PATCHES) {
        for list in ["*", "\"x\""] {
            assert_outcome!(bench.if_match("k", action, list), Outcome::ConditionFailed(None));
            assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
        }
    }
}

#[test]
fn if_none_match_makes_a_put_create_only() {
    let mut bench = Bench::new();
    assert_outcome!(bench.if_none_match("k", put("1"), "*"), Outcome::Created(_));
    let before = bench.found("k");
    assert_outcome!(bench.if_none_match("k", put("2"), "*"), Outcome::ConditionFailed(Some(meta)) if meta == before.0);
    let tag = bench.tag("k");
    let decoded = format!("{}-d\"", tag.trim_end_matches('"'));
    for list in [tag.clone(), format!("W/{tag}"), decoded, format!("\"x\", {tag}")] {
        assert_outcome!(bench.if_none_match("k", put("2"), &list), Outcome::ConditionFailed(Some(_)));
    }
    assert_eq!(bench.found("k"), before);
    assert_outcome!(bench.if_none_match("k", put("2"), "\"x\""), Outcome::Updated(_));
    bench.apply("k", put_for("3", 1));
    bench.wait(1_000);
    assert_outcome!(bench.if_none_match("k", put("4"), "*"), Outcome::Created(_));
}

#[test]
fn must_exist_makes_a_put_update_only() {
    let mut bench = Bench::new();
    let condition = Condition { must_exist: true, ..Condition::default() };
    let asked = Asked { condition, ..Asked::default() };
    assert_outcome!(bench.ask("k", put("1"), asked), Outcome::Absent);
    assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    bench.apply("k", put("1"));
    assert_outcome!(bench.ask("k", put("2"), asked), Outcome::Updated(_));
    bench.lock("k", None);
    assert_outcome!(bench.ask("k", put("3"), asked), Outcome::Locked);
}

#[test]
fn a_condition_does_not_touch_a_get() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    assert_outcome!(bench.if_match("k", Action::Get, "\"x\""), Outcome::Found(_));
    assert_outcome!(bench.if_none_match("k", Action::Get, "*"), Outcome::Found(_));
    assert_outcome!(bench.with_token("k", Action::Get, 1), Outcome::Found(_));
}

#[test]
fn locks_are_weighed_before_conditions() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let condition = Condition { if_match: Some(b"\"x\""), ..Condition::default() };
    let asked = Asked { condition, ..Asked::default() };
    assert_outcome!(bench.ask("k", Action::Unlock, asked), Outcome::NotLocked);
    let token = bench.lock("k", Some(10));
    for action in GUARDED {
        assert_outcome!(bench.ask("k", action, asked), Outcome::Locked);
    }
    assert_outcome!(bench.ask("k", Action::Unlock, asked), Outcome::Locked);
    assert_outcome!(bench.ask("k", LOCK, asked), Outcome::AlreadyLocked);
    // With the token the lock is out of the way, and the condition speaks.
    let asked = Asked { fencing_token: Some(token), ..asked };
    for action in GUARDED.into_iter().chain([Action::Unlock]) {
        assert_outcome!(bench.ask("k", action, asked), Outcome::ConditionFailed(Some(_)));
    }
    assert_outcome!(bench.apply("k", put("2")), Outcome::Locked);
}

#[test]
fn a_counter_keeps_type_deadline_and_lock_and_gets_a_new_version() {
    let mut bench = Bench::new();
    let long_type = "x".repeat(CONTENT_TYPE_BYTES_MAX);
    for content_type in ["text/x-number", "", &long_type] {
        let action = Action::Put {
            value: Payload::Bytes(b"41"),
            content_type: Some(content_type.as_bytes()),
            encoding: Encoding::Identity,
            expiry: Expiry::Seconds(60),
        };
        bench.apply("k", action);
        let before = bench.meta("k");
        let Outcome::Counted(number, meta) = bench.apply("k", COUNT) else { panic!() };
        assert_eq!(number, Number::Integer(42));
        assert!(meta.version > before.version);
        assert_eq!(meta.expires_ms, before.expires_ms);
        assert_eq!(bench.found("k"), (meta, content_type.into(), Encoding::Identity, b"42".to_vec()));
    }
}

#[test]
fn a_counter_holds_what_it_answers() {
    let mut bench = Bench::new();
    for (value, step, sum) in [
        ("10", Step::Integer(-11), "-1"),
        ("-1", Step::Integer(-i128::from(i64::MIN)), "9223372036854775807"),
        ("1.5", Step::Integer(1), "2.5"),
        ("1.5", Step::Decimal(0.5), "2"),
        ("1e15", Step::Integer(9_000_000_000_000_000), "1e16"),
        ("1e300", Step::Decimal(1e300), "2e300"),
        ("-0.5", Step::Decimal(0.5), "0"),
    ] {
        bench.apply("k", put(value));
        let Outcome::Counted(number, _) = bench.apply("k", Action::Add(step)) else { panic!("{value}") };
        assert_eq!((number.to_string().as_str(), bench.value("k").as_str()), (sum, sum));
    }
    // A decimal as large as no integer is still a counter.
    bench.apply("k", put("1e18"));
    for _ in 0..20 {
        assert_outcome!(bench.apply("k", Action::Add(Step::Decimal(1e18))), Outcome::Counted(..));
    }
    assert_eq!(bench.value("k"), "2.1e19");
}

#[test]
fn what_cannot_be_counted_is_left_untouched() {
    let mut bench = Bench::new();
    for (value, not_numeric) in [
        (&b""[..], true),
        (b"x", true),
        (b" 1", true),
        (b"+5", true),
        (b"007", true),
        (b"0x10", true),
        (b"NaN", true),
        (b"inf", true),
        (b"\xff\xfe1", true),
        (&[b'1'; 1_000], true),
        (&[b'1'; VALUE_COPY_BYTES_MAX], true),
        (b"9223372036854775807", false),
        (b"9223372036854775808", false),
        (b"1e999", false),
    ] {
        let action = Action::Put {
            value: Payload::Bytes(value),
            content_type: Some(b"a/b"),
            encoding: Encoding::Identity,
            expiry: Expiry::Seconds(5),
        };
        bench.apply("k", action);
        let before = bench.found("k");
        match bench.apply("k", COUNT) {
            Outcome::NotNumeric => assert!(not_numeric),
            Outcome::OutOfRange => assert!(!not_numeric),
            other => panic!("{other:?}"),
        }
        assert!(bench.found("k") == before);
    }
}

#[test]
fn encoded_bytes_are_no_number() {
    let mut bench = Bench::new();
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let action =
            Action::Put { value: Payload::Bytes(b"1"), content_type: None, encoding, expiry: Expiry::Never };
        bench.apply("k", action);
        assert_outcome!(bench.apply("k", COUNT), Outcome::NotNumeric);
        assert_eq!(bench.value("k"), "1");
    }
}

#[test]
fn a_value_too_large_for_the_store_leaves_the_old_one() {
    let mut bench = Bench::over(64 << 20, 1_000);
    let (fits, over) = ("x".repeat(1_000), "x".repeat(1_001));
    assert_outcome!(bench.apply("k", put(&over)), Outcome::TooLarge);
    assert_outcome!(bench.apply("k", Action::Get), Outcome::Absent);
    assert_outcome!(bench.apply("k", put(&fits)), Outcome::Created(_));
    let before = bench.found("k");
    assert_outcome!(bench.apply("k", put(&over)), Outcome::TooLarge);
    assert_eq!(bench.found("k"), before);
}

#[test]
fn a_full_store_refuses_writes_and_keeps_what_it_has() {
    let mut bench = Bench::over(16 << 20, 8 << 20);
    let value = "x".repeat(10_000);
    let full_at = (0..100_000)
        .find(|number| matches!(bench.apply(&format!("key {number}"), put(&value)), Outcome::StoreFull));
    let full_at = full_at.expect("a store that may not evict is full in the end");
    assert!(full_at > 100, "{full_at}");
    assert_outcome!(bench.apply(&format!("key {full_at}"), Action::Get), Outcome::Absent);
    for number in 0..full_at {
        assert!(bench.value(&format!("key {number}")) == value);
    }
    let larger = "y".repeat(60_000);
    let before = bench.found("key 0");
    if matches!(bench.apply("key 0", put(&larger)), Outcome::StoreFull) {
        assert!(bench.found("key 0") == before);
    }
}

#[test]
fn namespaces_do_not_meet() {
    let mut bench = Bench::new();
    bench.apply("k", put("1"));
    let other = Namespace(1);
    let op = Operation {
        namespace: other,
        key: b"k",
        hash: bench.hasher.hash(other, b"k"),
        action: Action::Get,
        condition: Condition::default(),
        fencing_token: None,
        admin: false,
    };
    assert_outcome!(bench.shard.apply(&op, bench.now), Outcome::Absent);
}
