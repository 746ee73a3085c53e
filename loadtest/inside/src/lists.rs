//! Lists of a shard, in thread CPU time: what adding one value costs on a short list and on a long one, and
//! the longest slice of a call on a whole list.
//!
//! A slice is what a reactor does in a turn. Every run does the same slice for slice, so the bar is for
//! the least time of each slice in any run, as in `stops`.

use inside::thread_cpu_ns;
use lucid::clock::Now;
use lucid::etag::Tags;
use lucid::limits::LIST_VALUES_MAX;
use lucid::op::{Expiry, KeyHasher, Namespace};
use lucid::shard::{Budget, Bytes, ListAction, ListOutcome, ListTask, Shard, Values};
use lucid::store::{Store, StoreConfig, WhenFull};
use std::ops::Range;
use std::sync::{Arc, Weak};

const NOW: Now = Now::from_unix_ms(1_700_000_000_000);
const SPACE: Namespace = Namespace::lists(1);
const SEED: u64 = 1;

/// Values of a short list, and values that are added one by one in a round.
const SHORT: u32 = 10;
const ADDED: u32 = 1_000;
const LONG: u32 = LIST_VALUES_MAX - ADDED;

/// How much more an addition to a long list may cost than one to a short list.
const RATIO_MAX: f64 = 2.0;

/// The longest that a slice may take.
const SLICE_NS_MAX: u64 = 1_000_000;

struct Core {
    shard: Shard,
    hasher: KeyHasher,
    asker: Arc<()>,
}

fn values(range: Range<u32>, width: usize) -> Values {
    let texts: Vec<String> = range.map(|number| format!("\"{number:0width$}\"")).collect();
    let document = texts.join(",").into_bytes();
    Values { range: 0..document.len(), document: Bytes::Small(document) }
}

impl Core {
    fn new() -> Core {
        let hasher = KeyHasher::seeded(SEED);
        let config =
            StoreConfig { memory_bytes: 1 << 30, value_bytes_max: 64 << 20, when_full: WhenFull::Reject };
        let store = Store::new(config, hasher.clone()).expect("address space for a store");
        Core { shard: Shard::new(store, Tags::new(1)), hasher, asker: Arc::new(()) }
    }

    fn task(&self, key: &str, action: ListAction) -> ListTask {
        let hash = self.hasher.hash(SPACE, key.as_bytes());
        let asker: Weak<()> = Arc::downgrade(&self.asker);
        ListTask::new(SPACE, key.into(), hash, action, asker)
    }

    /// Does all of a call, and answers what each slice took.
    fn slices(&mut self, key: &str, action: ListAction) -> (Vec<u64>, ListOutcome) {
        let mut task = self.task(key, action);
        let mut slices = Vec::new();
        loop {
            let before = thread_cpu_ns();
            let done = self.shard.work_on(&mut task, &mut Budget::OF_A_TURN, NOW);
            slices.push(thread_cpu_ns() - before);
            if done {
                return (slices, task.take_outcome().expect("a task that is done"));
            }
        }
    }

    fn write(&mut self, key: &str, values: Values) {
        let (_, outcome) = self.slices(key, ListAction::Write(values, Expiry::Never));
        assert!(matches!(outcome, ListOutcome::Written(_)), "{outcome:?}");
    }

    /// CPU time of an addition of one value, to lists that are given in turn.
    fn add(&mut self, key: impl Fn(u32) -> String) -> f64 {
        let mut tasks: Vec<ListTask> = (0..ADDED)
            .map(|number| {
                let value = LIST_VALUES_MAX + number;
                self.task(&key(number), ListAction::Add(values(value..value + 1, 8), Expiry::Never))
            })
            .collect();
        let before = thread_cpu_ns();
        for task in &mut tasks {
            while !self.shard.work_on(task, &mut Budget::OF_A_TURN, NOW) {}
        }
        let each = (thread_cpu_ns() - before) as f64 / f64::from(ADDED);
        for task in &mut tasks {
            let outcome = task.take_outcome();
            assert!(matches!(outcome, Some(ListOutcome::Added(1, _))), "{outcome:?}");
        }
        each
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What an addition costs on short lists and on one long one, in nanoseconds.
fn additions(runs: u32) -> (f64, f64) {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut core = Core::new();
        core.write("long", values(0..LONG, 8));
        (0..ADDED).for_each(|number| core.write(&format!("short {number}"), values(0..SHORT, 8)));
        short.push(core.add(|number| format!("short {number}")));
        long.push(core.add(|_| "long".to_owned()));
    }
    (median(short), median(long))
}

/// A call on a whole list, made on what the calls before it left.
type Call = (&'static str, fn() -> ListAction);

/// Every value of a list of the largest number of them, short ones and long ones.
const CALLS: [Call; 9] = [
    ("write", || ListAction::Write(values(0..LIST_VALUES_MAX, 8), Expiry::Never)),
    ("read", || ListAction::Slice { start: 0, end: -1 }),
    ("add, all known", || ListAction::Add(values(0..LIST_VALUES_MAX, 8), Expiry::Never)),
    ("write anew", || ListAction::Write(values(LIST_VALUES_MAX..2 * LIST_VALUES_MAX, 8), Expiry::Never)),
    ("remove, every value", || ListAction::Remove(values(LIST_VALUES_MAX..2 * LIST_VALUES_MAX, 8))),
    ("add, all new", || ListAction::Add(values(0..LIST_VALUES_MAX, 60), Expiry::Never)),
    ("read, 60 bytes each", || ListAction::Slice { start: 0, end: -1 }),
    ("purge", || ListAction::Purge),
    ("write one behind it", || ListAction::Write(values(0..1, 8), Expiry::Never)),
];

/// The time of each slice of each call.
fn calls() -> Vec<Vec<u64>> {
    let mut core = Core::new();
    CALLS
        .iter()
        .map(|(name, action)| {
            let (slices, outcome) = core.slices("list", action());
            let refused =
                matches!(outcome, ListOutcome::Absent | ListOutcome::StoreFull | ListOutcome::TooLarge);
            assert!(!refused, "{name}: {outcome:?}");
            slices
        })
        .collect()
}

fn main() {
    let runs: u32 = std::env::args().nth(1).map_or(7, |word| word.parse().expect("a number of runs"));
    let (short, long) = additions(runs);
    println!("adding one value to a list of {SHORT}: {short:.0} ns; to one of {LONG} and more: {long:.0} ns");
    println!("ratio {:.2}, medians of {runs} runs of {ADDED} additions", long / short);
    let mut least = calls();
    for _ in 1..runs {
        for (least, call) in least.iter_mut().zip(calls()) {
            assert_eq!(least.len(), call.len(), "two runs did not do the same");
            least.iter_mut().zip(call).for_each(|(least, ns)| *least = (*least).min(ns));
        }
    }
    println!("slices of calls on {LIST_VALUES_MAX} values, the least time of each in {runs} runs");
    let mut longest = 0;
    for ((name, _), slices) in CALLS.iter().zip(&least) {
        let (most, whole) = (slices.iter().max().copied().unwrap_or(0), slices.iter().sum::<u64>());
        longest = longest.max(most);
        println!(
            "  {name:20} {:5} slices, {:8.1} us in all, longest {:6.1} us",
            slices.len(),
            whole as f64 / 1e3,
            most as f64 / 1e3
        );
    }
    if long / short > RATIO_MAX {
        println!("MISS: an addition to a long list costs over {RATIO_MAX} times one to a short list");
    }
    if longest >= SLICE_NS_MAX {
        println!("MISS: a slice took over 1 ms of CPU in every run");
    }
    if long / short > RATIO_MAX || longest >= SLICE_NS_MAX {
        std::process::exit(1);
    }
    println!("PASS");
}
