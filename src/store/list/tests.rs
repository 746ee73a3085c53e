//! A list against a vector: whatever is done to both, they hold the same, and the list knows its size.

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{List, Value, shown_bytes};

/// One thing done to a list.
#[derive(Clone, Debug)]
enum Step {
    Add { first: u32, count: u32, length: usize },
    Remove { first: u32, count: u32, every: u32 },
    Pop { count: u32 },
    Slice { start: u32, count: u32 },
}

fn steps() -> impl Strategy<Value = Step> {
    let length =
        || prop_oneof![6 => 0..30usize, 2 => 100..1_500usize, 1 => 3_900..4_300usize, 1 => 0..20_000usize];
    prop_oneof![
        4 => (0..3_000u32, 1..600u32, length()).prop_map(|(first, count, length)| {
            Step::Add { first, count: if length > 100 { count / 20 + 1 } else { count }, length }
        }),
        3 => (0..3_000u32, 1..2_000u32, 1..5u32).prop_map(|(first, count, every)| Step::Remove { first, count, every }),
        1 => (1..300u32).prop_map(|count| Step::Pop { count }),
        2 => (any::<u32>(), 0..200u32).prop_map(|(start, count)| Step::Slice { start, count }),
    ]
}

/// A text by number; every number has several that are equal.
fn text_of(number: u32, length: usize) -> String {
    match number % 4 {
        0 => format!("{number}"),
        1 => format!("{number}.{}", "0".repeat(length + 1)),
        2 => format!("\"{number}{}\"", "x".repeat(number as usize % 40)),
        _ => format!("\"{}{number}\"", "\\u0078".repeat(number as usize % 3)),
    }
}

struct Pair {
    list: List,
    model: Vec<(Vec<u8>, String)>,
    hasher: ahash::RandomState,
}

impl Pair {
    fn add(&mut self, number: u32, length: usize) {
        let text = text_of(number, length);
        let value = Value::of(text.as_bytes()).unwrap();
        let hash = self.hasher.hash_one(value.canonical());
        let known = self.model.iter().any(|(canonical, _)| canonical == value.canonical());
        assert_eq!(self.list.find(value.canonical(), hash).is_some(), known);
        if !known {
            let (before, growth) = (self.list.memory_bytes(), self.list.growth_bytes(&value, hash));
            assert!(self.list.push(&value, hash));
            assert!(self.list.memory_bytes() <= before + growth, "{before} + {growth}");
            self.model.push((value.canonical().to_vec(), text.clone()));
        }
    }

    fn remove(&mut self, number: u32) {
        let text = text_of(number, 0);
        let value = Value::of(text.as_bytes()).unwrap();
        let hash = self.hasher.hash_one(value.canonical());
        let at = self.model.iter().position(|(canonical, _)| canonical == value.canonical());
        let place = self.list.find(value.canonical(), hash);
        assert_eq!(place.map(|place| self.list.rank(place) as usize), at);
        if let (Some(place), Some(at)) = (place, at) {
            let hasher = |canonical: &[u8]| self.hasher.hash_one(canonical);
            self.list.remove(place, &hasher);
            self.model.remove(at);
        }
    }

    fn check(&self, start: usize, count: usize) {
        assert_eq!(self.list.count() as usize, self.model.len());
        let shown: u64 = self.model.iter().map(|(_, text)| shown_bytes(text.len())).sum();
        assert_eq!(self.list.text_bytes(), shown);
        let mut place = self.list.select(start as u32);
        for (_, text) in self.model.iter().skip(start).take(count) {
            let at = place.expect("a value");
            assert_eq!(self.list.record(at).text, text.as_bytes());
            place = self.list.next(at);
        }
        assert_eq!(place.is_none(), start + count >= self.model.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_answers_like_a_vector_of_distinct_values(steps in vec(steps(), 1..30)) {
        let mut pair = Pair { list: List::empty(), model: Vec::new(), hasher: ahash::RandomState::new() };
        for step in &steps {
            match *step {
                Step::Add { first, count, length } => (first..first + count).for_each(|number| pair.add(number, length)),
                Step::Remove { first, count, every } => {
                    (first..first + count).step_by(every as usize).for_each(|number| pair.remove(number));
                }
                Step::Pop { count } => {
                    for _ in 0..count.min(pair.list.count()) {
                        let last = pair.list.select(pair.list.count() - 1).unwrap();
                        let hasher = |canonical: &[u8]| pair.hasher.hash_one(canonical);
                        pair.list.remove(last, &hasher);
                        pair.model.pop();
                    }
                }
                Step::Slice { start, count } => {
                    pair.check(start as usize % (pair.model.len() + 1), count as usize);
                }
            }
            pair.check(0, usize::MAX / 2);
        }
        let mut slices = 0;
        while pair.list.free_slice(4) {
            slices += 1;
        }
        assert!(slices <= steps.len() * 700);
    }
}

#[test]
fn a_list_that_shrinks_gives_its_pages_back_while_it_shrinks() {
    let mut pair = Pair { list: List::empty(), model: Vec::new(), hasher: ahash::RandomState::new() };
    for number in 0..50_000_u32 {
        let text = format!("\"value {number}\"");
        let value = Value::of(text.as_bytes()).unwrap();
        assert!(pair.list.push(&value, pair.hasher.hash_one(value.canonical())));
    }
    let full = pair.list.memory_bytes();
    assert!(full < 50_000 * 36, "{full} bytes for 50,000 values of 14");
    for number in (0..50_000_u32).filter(|number| number % 100 != 7) {
        let text = format!("\"value {number}\"");
        let value = Value::of(text.as_bytes()).unwrap();
        let place = pair.list.find(value.canonical(), pair.hasher.hash_one(value.canonical())).unwrap();
        let hasher = |canonical: &[u8]| pair.hasher.hash_one(canonical);
        pair.list.remove(place, &hasher);
    }
    assert_eq!(pair.list.count(), 500);
    assert!(pair.list.memory_bytes() < full / 10, "{} of {full}", pair.list.memory_bytes());
    assert_eq!(pair.list.record(pair.list.select(3).unwrap()).text, b"\"value 307\"");
}
