//! What a load came to, in words for people and as JSON for scripts.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Task;
use super::load::Tally;
use super::requests::{Kind, Mix};
use crate::cli::failure::{Exit, Failure};

/// The quantiles that are shown.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The summary for people.
pub fn text(task: &Task, tally: &Tally) -> String {
    let seconds = tally.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let answers = tally.answers();
    let plural =
        |count: u64, noun: &str| format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" });
    let pace = match task.rate {
        Some(rate) => format!("open loop at {} a second", grouped(rate)),
        None => "closed loop".into(),
    };
    let mut text = format!(
        "{}, {pace}: {}, depth {}, {} of {}, {:.1} s\n\n",
        name(task.mix),
        plural(task.connections as u64, "connection"),
        task.depth,
        plural(task.keys, "key"),
        plural(task.value_bytes as u64, "byte"),
        seconds,
    );
    text.push_str(&format!(
        "requests   {:>12}   {} a second, {} a second back\n\n",
        grouped(answers),
        grouped((answers as f64 / seconds) as u64),
        amount(tally.bytes as f64 / seconds),
    ));
    let heads: String = QUANTILES.iter().map(|(name, _)| format!("{name:>11}")).collect();
    text.push_str(&format!("latency   {heads}{:>11}\n", "max"));
    for (name, histogram) in [("get", &tally.gets), ("put", &tally.writes)] {
        if !histogram.is_empty() {
            let cells: String = QUANTILES
                .iter()
                .map(|(_, q)| format!("{:>11}", time(histogram.value_at_quantile(*q))))
                .collect();
            text.push_str(&format!("{name:<10}{cells}{:>11}\n", time(histogram.max())));
        }
    }
    if tally.unsent > 0 {
        text.push_str(&format!(
            "\nunsent     {:>12}   due but not sent by the end, so in no latency: the node fell behind\n",
            grouped(tally.unsent)
        ));
    }
    text
}

/// The summary for scripts. Times are in microseconds.
pub fn json(task: &Task, tally: &Tally) -> String {
    let seconds = tally.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let micros = |ns: u64| (ns as f64 / 100.0).round() / 10.0;
    let latency = |histogram: &Histogram<u64>| match histogram.is_empty() {
        true => Value::Null,
        false => {
            let mut object: serde_json::Map<String, Value> = QUANTILES
                .iter()
                .map(|(name, q)| ((*name).to_owned(), micros(histogram.value_at_quantile(*q)).into()))
                .collect();
            object.insert("mean".into(), micros(histogram.mean() as u64).into());
            object.insert("max".into(), micros(histogram.max()).into());
            object.into()
        }
    };
    let statuses: serde_json::Map<String, Value> =
        tally.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
    let object = json!({
        "load": name(task.mix),
        "connections": task.connections,
        "depth": task.depth,
        "rate": task.rate,
        "keys": task.keys,
        "value_bytes": task.value_bytes,
        "threads": task.threads,
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "requests": tally.answers(),
        "requests_per_second": (tally.answers() as f64 / seconds).round(),
        "bytes_per_second": (tally.bytes as f64 / seconds).round(),
        "statuses": statuses,
        "lost": tally.lost,
        "unsent": tally.unsent,
        "get_us": latency(&tally.gets),
        "put_us": latency(&tally.writes),
    });
    format!("{object}\n")
}

/// Why the figures are not what they seem.
pub fn wrong(tally: &Tally) -> Failure {
    let bad = tally.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
    let mut list: Vec<String> =
        bad.map(|(status, count)| format!("{} of {status}", grouped(*count))).collect();
    if tally.lost > 0 {
        list.push(format!("{} cut off", grouped(tally.lost)));
    }
    let line = format!("{} requests were no success: {}", grouped(tally.wrong()), list.join(", "));
    let mut failure = Failure::new(Exit::Failed, line);
    let reasons = [
        (
            tally.statuses.contains_key(&404),
            "404: keys were evicted; the node holds less than --keys times --value-size",
        ),
        (
            tally.statuses.contains_key(&503),
            "503: the node has no room for so many bodies at a time; try fewer --connections",
        ),
        (tally.statuses.contains_key(&507), "507: the node is full and may not evict; try fewer --keys"),
        (
            tally.lost > 0,
            "cut off: the node closed the connection; it does when answers take too much of its memory",
        ),
    ];
    for (_, reason) in reasons.into_iter().filter(|(applies, _)| *applies) {
        failure = failure.and(reason);
    }
    failure
}

fn name(mix: Mix) -> &'static str {
    match mix {
        Mix::Only(Kind::Get) => "get",
        Mix::Only(Kind::Put) => "put",
        Mix::Only(Kind::Delete) => "delete",
        Mix::Mixed => "mixed",
    }
}

/// A number with commas: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency in the unit that suits it.
fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Bytes in the unit that suits them.
fn amount(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes if bytes < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
        bytes => format!("{:.1} GiB", bytes / 1024.0 / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{amount, grouped, time};

    #[test]
    fn numbers_are_shown_so_that_they_can_be_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999_900, 1_500_000, 2_000_000_000].map(time),
            ["0.0 us", "999.9 us", "1.50 ms", "2.00 s"]
        );
        assert_eq!([0.0, 1_048_576.0, 3_221_225_472.0].map(amount), ["0.0 KiB", "1.0 MiB", "3.0 GiB"]);
    }
}
