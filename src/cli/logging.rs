//! The log: one line for each record, to the outputs the settings name.
//!
//! A line is written in one piece, in UTC after RFC 3339, as text or as a JSON object. What a record
//! says may hold what a client sent, so control characters never reach a terminal. A line that cannot
//! be written is dropped: the node does not stop for its log. Nothing on the hot path logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::failure::Failure;
use crate::clock::Clock;
use crate::config::problem::escaped;
use crate::config::{Format, Logging, Output};

/// Sends the process's log where the settings say. Later calls change nothing.
pub fn start(logging: &Logging) -> Result<(), Failure> {
    let outputs = logging.outputs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let sink = Sink { clock: Clock::start(), level: logging.level, format: logging.format, outputs };
    // The log lives as long as the process.
    if log::set_logger(Box::leak(Box::new(sink))).is_ok() {
        log::set_max_level(logging.level);
    }
    Ok(())
}

fn open(output: &Output) -> Result<Destination, Failure> {
    Ok(match output {
        Output::Stderr { colored } => Destination { colored: *colored, stream: Stream::Stderr },
        Output::Stdout { colored } => Destination { colored: *colored, stream: Stream::Stdout },
        Output::File(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
                Failure::of_io(
                    &error,
                    format!("cannot open the log file {} of logging.outputs", path.display()),
                )
            })?;
            Destination { colored: false, stream: Stream::File(file) }
        }
    })
}

#[derive(Debug)]
struct Destination {
    colored: bool,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Stderr,
    Stdout,
    File(File),
}

impl Destination {
    fn write(&self, line: &[u8]) -> io::Result<()> {
        match &self.stream {
            Stream::Stderr => io::stderr().lock().write_all(line),
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line)?;
                stdout.flush()
            }
            Stream::File(file) => (&*file).write_all(line),
        }
    }
}

#[derive(Debug)]
struct Sink {
    clock: Clock,
    level: LevelFilter,
    format: Format,
    outputs: Vec<Destination>,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let time = rfc3339(self.clock.now().unix_ms);
        for output in &self.outputs {
            let line = match self.format {
                Format::Text => text_line(&time, record, output.colored),
                Format::Json => json_line(&time, record),
            };
            let _ = output.write(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

fn text_line(time: &str, record: &Record<'_>, colored: bool) -> String {
    let color = match record.level() {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 32,
        Level::Debug | Level::Trace => 90,
    };
    let level = match colored {
        true => format!("\u{1b}[{color}m{:5}\u{1b}[0m", record.level()),
        false => format!("{:5}", record.level()),
    };
    format!("{time} {level} {}: {}\n", record.target(), escaped(&record.args().to_string()))
}

fn json_line(time: &str, record: &Record<'_>) -> String {
    let line = serde_json::json!({
        "time": time,
        "level": record.level().as_str().to_ascii_lowercase(),
        "target": record.target(),
        "message": escaped(&record.args().to_string()),
    });
    format!("{line}\n")
}

/// `2026-11-20T18:06:55.123Z`.
fn rfc3339(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1_000, unix_ms % 1_000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The date of a day since 1970-01-01, in eras of 400 years that begin in March (Howard Hinnant,
/// "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use log::{Level, LevelFilter, Log, Record};

    use super::{Sink, json_line, open, rfc3339, text_line};
    use crate::clock::Clock;
    use crate::config::{Format, Output};

    #[test]
    fn times_are_rfc_3339() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_198_015_123, "2026-11-20T18:06:55.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let message = format_args!("bad\r\n\u{1b}[2Jname \"x\"").to_string();
        let args = format_args!("{message}");
        let record = Record::builder().args(args).level(Level::Warn).target("lucid::net").build();
        assert_eq!(text_line("T", &record, false), "T WARN  lucid::net: bad\\r\\n\\u{1b}[2Jname \"x\"\n");
        assert!(text_line("T", &record, true).starts_with("T \u{1b}[33mWARN \u{1b}[0m lucid"));
        let json: serde_json::Value = serde_json::from_str(&json_line("T", &record)).unwrap();
        assert_eq!(json["level"], "warn");
        assert_eq!(json["message"], "bad\\r\\n\\u{1b}[2Jname \"x\"");
    }

    #[test]
    fn a_file_gets_the_lines_up_to_the_level() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lucid.log");
        let sink = Sink {
            clock: Clock::start(),
            level: LevelFilter::Info,
            format: Format::Json,
            outputs: vec![open(&Output::File(path.clone())).unwrap()],
        };
        for level in [Level::Error, Level::Info, Level::Debug] {
            sink.log(&Record::builder().args(format_args!("hello")).level(level).target("t").build());
        }
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
        assert!(open(&Output::File(folder.path().to_owned())).is_err());
    }
}
