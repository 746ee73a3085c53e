//! Any sequence of operations against a naive model: the contract of the kv family, written down
//! once more.

use std::collections::HashMap;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::apply_tests::{Asked, Bench};
use crate::clock::{Now, Version};
use crate::op::{
    Action, CONTENT_TYPE_DEFAULT, Condition, Encoding, Expiry, Meta, Number, Outcome, Payload, Step,
};

/// What the model holds under a key. It knows nothing of how versions and tokens are made: it
/// takes them from the answers and only checks that they rise.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    meta: Meta,
    value: Vec<u8>,
    content_type: Vec<u8>,
    encoding: Encoding,
    /// Token and end of the lease.
    lock: Option<(u64, Option<u64>)>,
}

/// How a step of the model names tokens and tags: by how many were given out since.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nothing,
    Current,
    Stale,
    Junk,
}

#[derive(Clone, Debug)]
struct ModelStep {
    key: usize,
    action: ModelAction,
    token: Shown,
    if_match: Shown,
    if_none_match: Shown,
    must_exist: bool,
    admin: bool,
    wait_ms: u64,
}

#[derive(Clone, Debug)]
enum ModelAction {
    Get,
    Put { value: Vec<u8>, content_type: Option<&'static str>, encoding: Encoding, seconds: Option<u32> },
    Delete { answer_value: bool },
    Lock { lease_seconds: Option<u32> },
    Unlock,
    Add { by: i64 },
    Expire { seconds: u32 },
    Persist,
}

fn model_step() -> impl Strategy<Value = ModelStep> {
    let value = prop_oneof![
        3 => (-50..50_i64).prop_map(|number| number.to_string().into_bytes()),
        1 => Just(i64::MAX.to_string().into_bytes()),
        1 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| [b"x", &bytes[..]].concat()),
    ];
    let encoding = prop_oneof![6 => Just(Encoding::Identity), 1 => Just(Encoding::Gzip)];
    let content_type = prop_oneof![Just(None), Just(Some("text/plain")), Just(Some(""))];
    let put = (value, content_type, encoding, prop::option::of(1..8_u32)).prop_map(
        |(value, content_type, encoding, seconds)| ModelAction::Put {
            value,
            content_type,
            encoding,
            seconds,
        },
    );
    let action = prop_oneof![
        2 => Just(ModelAction::Get),
        5 => put,
        2 => any::<bool>().prop_map(|answer_value| ModelAction::Delete { answer_value }),
        3 => prop::option::of(1..5_u32).prop_map(|lease_seconds| ModelAction::Lock { lease_seconds }),
        2 => Just(ModelAction::Unlock),
        4 => (-3..4_i64).prop_map(|by| ModelAction::Add { by }),
        2 => (1..8_u32).prop_map(|seconds| ModelAction::Expire { seconds }),
        2 => Just(ModelAction::Persist),
    ];
    let shown = |nothing: u32| {
        prop_oneof![
            nothing => Just(Shown::Nothing),
            3 => Just(Shown::Current),
            1 => Just(Shown::Stale),
            1 => Just(Shown::Junk),
        ]
    };
    let wait_ms = prop_oneof![3 => Just(0_u64), 2 => 1..1_500_u64, 1 => Just(1_000), 1 => Just(4_000)];
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (0..3_usize, action, shown(6), shown(20), shown(25), flags, wait_ms).prop_map(
        |(key, action, token, if_match, if_none_match, (must_exist, admin), wait_ms)| ModelStep {
            key,
            action,
            token,
            if_match,
            if_none_match,
            must_exist,
            admin,
            wait_ms,
        },
    )
}

/// A naive store of a few keys.
#[derive(Default)]
struct Model {
    entries: HashMap<usize, Known>,
    /// The last tag and token given out for each key.
    last_version: HashMap<usize, Version>,
    last_token: HashMap<usize, u64>,
    highest: u64,
}

impl Model {
    /// Drops what time has ended.
    fn pass(&mut self, now: Now) {
        self.entries.retain(|_, known| known.meta.expires_ms.is_none_or(|at| at > now.unix_ms));
        for known in self.entries.values_mut() {
            known.lock = known.lock.filter(|(_, until)| until.is_none_or(|until| until > now.unix_ms));
        }
    }

    /// The kind of answer a step must get, before anything happens.
    fn expected(&self, step: &ModelStep, token: Option<u64>) -> &'static str {
        let known = self.entries.get(&step.key);
        let lock = known.and_then(|known| known.lock);
        match &step.action {
            ModelAction::Get => return if known.is_some() { "Found" } else { "Absent" },
            ModelAction::Lock { .. } if lock.is_some() => return "AlreadyLocked",
            ModelAction::Lock { .. } => {}
            ModelAction::Unlock => match (known, lock) {
                (Some(_), None) => return "NotLocked",
                (_, Some((held, Some(_)))) if token != Some(held) && !step.admin => return "Locked",
                _ => {}
            },
            ModelAction::Put { .. } if token != lock.map(|lock| lock.0) => return "Locked",
            _ if known.is_some() && token != lock.map(|lock| lock.0) => return "Locked",
            _ => {}
        }
        let match_fails = match step.if_match {
            Shown::Nothing => false,
            Shown::Current => known.is_none(),
            Shown::Stale | Shown::Junk => true,
        };
        if match_fails || (matches!(step.if_none_match, Shown::Current) && known.is_some()) {
            return "ConditionFailed";
        }
        match (&step.action, known) {
            (ModelAction::Put { .. }, Some(_)) => "Updated",
            (ModelAction::Put { .. }, None) if step.must_exist => "Absent",
            (ModelAction::Put { .. }, None) => "Created",
            (_, None) => "Absent",
            (ModelAction::Delete { .. }, _) => "Deleted",
            (ModelAction::Lock { .. }, _) => "LockTaken",
            (ModelAction::Unlock, _) => "Unlocked",
            (ModelAction::Expire { .. }, _) => "Expiring",
            (ModelAction::Persist, _) => "Persisted",
            (ModelAction::Add { by }, Some(known)) => match counted(known, *by) {
                Ok(_) => "Counted",
                Err(refused) => refused,
            },
            (ModelAction::Get, _) => unreachable!(),
        }
    }

    fn version_rises(&mut self, meta: Meta) {
        assert!(meta.version.0 > self.highest, "{meta:?}");
        self.highest = meta.version.0;
    }
}

/// Values of the model are small integers or nothing like a number.
fn counted(known: &Known, by: i64) -> Result<i64, &'static str> {
    let text = std::str::from_utf8(&known.value).map_err(|_| "NotNumeric")?;
    let number: i64 = text.parse().map_err(|_| "NotNumeric")?;
    if known.encoding != Encoding::Identity || number.to_string() != text {
        return Err("NotNumeric");
    }
    number.checked_add(by).ok_or("OutOfRange")
}

/// The name of an outcome's variant.
fn kind(outcome: &Outcome<'_>) -> String {
    let shown = format!("{outcome:?}");
    shown.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}

/// Applies a step to both, and compares.
fn run_step(bench: &mut Bench, model: &mut Model, step: &ModelStep) {
    bench.wait(step.wait_ms);
    model.pass(bench.now);
    let now_ms = bench.now.unix_ms;
    let known = model.entries.get(&step.key).cloned();
    let lock = known.as_ref().and_then(|known| known.lock);
    let stale_token =
        model.last_token.get(&step.key).copied().filter(|token| Some(*token) != lock.map(|lock| lock.0));
    let token = match step.token {
        Shown::Nothing => None,
        Shown::Current => lock.map(|lock| lock.0),
        Shown::Stale => stale_token,
        Shown::Junk => Some(1),
    };
    let current = known.as_ref().map(|known| known.meta.version);
    let list = |shown, absent: &'static str| match (shown, current) {
        (Shown::Nothing, _) => None,
        (Shown::Current, Some(version)) => Some(bench.tags.tag(version).to_vec()),
        (Shown::Current, None) => Some(absent.into()),
        (Shown::Stale, _) => {
            let stale =
                model.last_version.get(&step.key).copied().filter(|version| Some(*version) != current);
            Some(stale.map_or(b"\"never\"".to_vec(), |version| bench.tags.tag(version).to_vec()))
        }
        (Shown::Junk, _) => Some(b"\"junk\"".to_vec()),
    };
    let (if_match, if_none_match) = (list(step.if_match, "*"), list(step.if_none_match, "*"));
    let expected = model.expected(step, token);
    let action = match &step.action {
        ModelAction::Get => Action::Get,
        ModelAction::Put { value, content_type, encoding, seconds } => Action::Put {
            value: Payload::Bytes(value),
            content_type: content_type.map(str::as_bytes),
            encoding: *encoding,
            expiry: seconds.map_or(Expiry::Never, Expiry::Seconds),
        },
        ModelAction::Delete { answer_value } => Action::Delete { answer_value: *answer_value },
        ModelAction::Lock { lease_seconds } => Action::Lock { lease_seconds: *lease_seconds },
        ModelAction::Unlock => Action::Unlock,
        ModelAction::Add { by } => Action::Add(Step::Integer((*by).into())),
        ModelAction::Expire { seconds } => Action::Expire { seconds: *seconds },
        ModelAction::Persist => Action::Persist,
    };
    let condition = Condition {
        if_match: if_match.as_deref(),
        if_none_match: if_none_match.as_deref(),
        must_exist: step.must_exist,
    };
    let asked = Asked { condition, fencing_token: token, admin: step.admin };
    let name = format!("key {}", step.key);
    let outcome = bench.ask(&name, action, asked);
    assert_eq!(kind(&outcome), expected, "{step:?} on {known:?}");

    match outcome {
        Outcome::Created(meta) | Outcome::Updated(meta) => {
            let ModelAction::Put { value, content_type, encoding, seconds } = &step.action else { panic!() };
            assert_eq!(meta.expires_ms, seconds.map(|seconds| now_ms + u64::from(seconds) * 1_000));
            model.version_rises(meta);
            let content_type = content_type.map_or(CONTENT_TYPE_DEFAULT.to_vec(), |name| name.into());
            let entry = Known { meta, value: value.clone(), content_type, encoding: *encoding, lock };
            model.last_version.extend(current.map(|version| (step.key, version)));
            model.entries.insert(step.key, entry);
        }
        Outcome::Deleted(removed) => {
            let known = known.unwrap();
            if let ModelAction::Delete { answer_value: true } = step.action {
                let removed = removed.unwrap();
                assert_eq!(removed.meta, known.meta);
                assert_eq!(removed.value.bytes(), known.value);
                assert_eq!((removed.content_type, removed.encoding), (&*known.content_type, known.encoding));
            }
            model.last_version.insert(step.key, known.meta.version);
            model.entries.remove(&step.key);
        }
        Outcome::LockTaken { fencing_token, meta } => {
            let ModelAction::Lock { lease_seconds } = step.action else { panic!() };
            assert!(fencing_token > model.highest);
            model.highest = fencing_token;
            model.last_token.insert(step.key, fencing_token);
            let entry = model.entries.get_mut(&step.key).unwrap();
            assert_eq!(meta, entry.meta);
            entry.lock =
                Some((fencing_token, lease_seconds.map(|seconds| now_ms + u64::from(seconds) * 1_000)));
        }
        Outcome::Unlocked(meta) => {
            let entry = model.entries.get_mut(&step.key).unwrap();
            assert_eq!(meta, entry.meta);
            entry.lock = None;
        }
        Outcome::Counted(number, meta) => {
            let ModelAction::Add { by } = step.action else { panic!() };
            let mut entry = known.unwrap();
            let sum = counted(&entry, by).unwrap();
            assert_eq!(number, Number::Integer(sum));
            assert_eq!(meta.expires_ms, entry.meta.expires_ms);
            model.version_rises(meta);
            model.last_version.insert(step.key, entry.meta.version);
            entry.meta = meta;
            entry.value = sum.to_string().into_bytes();
            model.entries.insert(step.key, entry);
        }
        Outcome::Expiring(meta) | Outcome::Persisted(meta) => {
            let entry = model.entries.get_mut(&step.key).unwrap();
            assert_eq!(meta.version, entry.meta.version);
            let seconds =
                if let ModelAction::Expire { seconds } = step.action { Some(seconds) } else { None };
            assert_eq!(meta.expires_ms, seconds.map(|seconds| now_ms + u64::from(seconds) * 1_000));
            entry.meta = meta;
        }
        Outcome::ConditionFailed(meta) => assert_eq!(meta, known.map(|known| known.meta)),
        _ => {}
    }
    compare(bench, model);
}

/// Every key reads as the model has it.
fn compare(bench: &mut Bench, model: &Model) {
    for key in 0..3 {
        match (bench.apply(&format!("key {key}"), Action::Get), model.entries.get(&key)) {
            (Outcome::Absent, None) => {}
            (Outcome::Found(entry), Some(known)) => {
                assert_eq!(entry.meta, known.meta);
                assert_eq!(entry.value.bytes(), known.value);
                assert_eq!((entry.content_type, entry.encoding), (&*known.content_type, known.encoding));
            }
            (outcome, known) => panic!("{outcome:?} where the model has {known:?}"),
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_of_operations_does_what_the_model_does(
        steps in prop::collection::vec(model_step(), 1..60),
        sweep_every in 1..10_usize,
    ) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for (number, step) in steps.iter().enumerate() {
            run_step(&mut bench, &mut model, step);
            if number % sweep_every == 0 {
                bench.shard.sweep(bench.now);
            }
        }
    }
}
