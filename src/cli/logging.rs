//! The log: one line for each record, to the outputs the settings name.
//!
//! Whoever logs hands the record to a queue and goes on. Each output has a queue and a thread of its own,
//! so that a pipe nobody reads or a disk that hangs stops neither the node nor the other outputs. A queue
//! is bounded; what finds it full is counted and dropped, and the output says how many lines it lost as
//! soon as it takes lines again. Nothing on the hot path logs.
//!
//! A line is written in one piece, in UTC after RFC 3339, as text or as a JSON object. What a record
//! says may hold what a client sent, so control characters never reach a terminal.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use log::{Level, Log, Metadata, Record};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

use super::failure::{Exit, Failure};
use crate::clock::Clock;
use crate::config::problem::escaped;
use crate::config::{Format, Logging, Output};

/// Lines that wait for an output. Some 200 KiB of them.
const QUEUE_LINES: usize = 1_024;

/// How long the end of the node waits for each output to write what is in its queue.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sends the process's log where the settings say. Called again, it changes the level, the format and the
/// outputs, and opens every file anew, so that one that was renamed (logrotate) is let go.
///
/// # Errors
/// A file cannot be opened or a thread not started. The log goes on as it was then.
pub fn start(logging: &Logging) -> Result<(), Failure> {
    let logger = LOGGER.get_or_init(|| Logger { clock: Clock::start(), outlets: RwLock::default() });
    let fresh = logging
        .outputs
        .iter()
        .map(|output| match logger.find_stream(output, logging.format) {
            Some(outlet) => Ok(outlet),
            None => Outlet::open(output, logging.format).map(Arc::new),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let old = {
        let mut outlets = logger.outlets.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *outlets, fresh)
    };
    // Their threads write what is in their queues and end.
    drop(old);
    // Refused when it is set already, by the first call.
    let _ = log::set_logger(logger);
    log::set_max_level(logging.level);
    Ok(())
}

/// Waits, for a bounded time, until everything that was logged is written.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.flush();
    }
}

struct Logger {
    clock: Clock,
    /// Locked to hand a record over and to change the outputs, neither of which waits for an output.
    outlets: RwLock<Vec<Arc<Outlet>>>,
}

impl Logger {
    fn outlets(&self) -> Vec<Arc<Outlet>> {
        self.outlets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stream is kept, with the thread that may be stuck in it; a file is opened anew.
    fn find_stream(&self, output: &Output, format: Format) -> Option<Arc<Outlet>> {
        let outlets = self.outlets();
        let same = |outlet: &&Arc<Outlet>| outlet.output == *output && outlet.format == format;
        outlets.iter().filter(|_| !matches!(output, Output::File(_))).find(same).cloned()
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let entry = Arc::new(Entry {
            unix_ms: self.clock.now().unix_ms,
            level: record.level(),
            target: record.target().to_owned(),
            message: escaped(&record.args().to_string()),
        });
        self.outlets().iter().for_each(|outlet| outlet.give(entry.clone()));
    }

    fn flush(&self) {
        self.outlets().iter().for_each(|outlet| outlet.flush());
    }
}

/// A record that waits to be written.
#[derive(Debug)]
struct Entry {
    unix_ms: u64,
    level: Level,
    target: String,
    /// Without control characters.
    message: String,
}

impl Entry {
    fn line(&self, format: Format, colored: bool) -> String {
        match format {
            Format::Text => self.text(colored),
            Format::Json => self.json(),
        }
    }

    fn text(&self, colored: bool) -> String {
        let color = match self.level {
            Level::Error => 31,
            Level::Warn => 33,
            Level::Info => 32,
            Level::Debug | Level::Trace => 90,
        };
        let level = match colored {
            true => format!("\u{1b}[{color}m{:5}\u{1b}[0m", self.level),
            false => format!("{:5}", self.level),
        };
        format!("{} {level} {}: {}\n", rfc3339(self.unix_ms), self.target, self.message)
    }

    fn json(&self) -> String {
        let line = serde_json::json!({
            "time": rfc3339(self.unix_ms),
            "level": self.level.as_str().to_ascii_lowercase(),
            "target": self.target,
            "message": self.message,
        });
        format!("{line}\n")
    }
}

enum Message {
    Entry(Arc<Entry>),
    /// Says so when everything before it is written.
    Flush(SyncSender<()>),
}

/// The near end of an output. Its thread ends when the last of these is dropped.
struct Outlet {
    output: Output,
    format: Format,
    queue: SyncSender<Message>,
    lost: Arc<Lost>,
}

/// Lines that an output could not take.
#[derive(Debug, Default)]
struct Lost {
    lines: AtomicU64,
    /// The thread has yet to say so.
    untold: AtomicBool,
}

impl Lost {
    fn add(&self) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        self.untold.store(true, Ordering::Release);
    }

    /// How many have been lost since the last time, if any.
    fn take(&self) -> Option<u64> {
        self.untold.swap(false, Ordering::Acquire).then(|| self.lines.swap(0, Ordering::Relaxed))
    }
}

impl Outlet {
    fn open(output: &Output, format: Format) -> Result<Outlet, Failure> {
        let (colored, stream): (bool, Box<dyn Write + Send>) = match output {
            Output::Stderr { colored } => (*colored, Box::new(io::stderr())),
            Output::Stdout { colored } => (*colored, Box::new(io::stdout())),
            Output::File(path) => {
                let opened = open_file(path);
                (false, Box::new(opened.map_err(|error| cannot_open(path, &error))?))
            }
        };
        Outlet::start(output.clone(), format, colored, stream)
            .map_err(|error| Failure::of_io(&error, "cannot start a thread for the log"))
    }

    fn start(
        output: Output,
        format: Format,
        colored: bool,
        stream: Box<dyn Write + Send>,
    ) -> io::Result<Outlet> {
        let (queue, messages) = sync_channel(QUEUE_LINES);
        let lost = Arc::new(Lost::default());
        let mut writer = Writer { stream, format, colored, lost: lost.clone(), clock: Clock::start() };
        std::thread::Builder::new().name("lucid-log".into()).spawn(move || writer.run(&messages))?;
        Ok(Outlet { output, format, queue, lost })
    }

    /// Never waits.
    fn give(&self, entry: Arc<Entry>) {
        if self.queue.try_send(Message::Entry(entry)).is_err() {
            self.lost.add();
        }
    }

    fn flush(&self) {
        let (done, wait) = sync_channel(1);
        match self.queue.try_send(Message::Flush(done)) {
            Ok(()) => drop(wait.recv_timeout(FLUSH_PATIENCE)),
            // The output has not kept up; what is in the queue had its time.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Opens a file to append to. A pipe that nobody reads is refused, where it would otherwise hold up whoever
/// opens it, the main thread at a reload among them, until somebody does.
fn open_file(path: &std::path::Path) -> io::Result<std::fs::File> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path)?;
    // The output's own thread may wait; a full pipe loses nothing that its queue can hold.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

fn cannot_open(path: &std::path::Path, error: &io::Error) -> Failure {
    let what = format!("cannot open the log file {} of logging.outputs", path.display());
    match error.kind() {
        _ if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Failure::new(
            Exit::Configuration,
            format!("{what}: it is a pipe that nobody reads; start its reader first"),
        ),
        ErrorKind::NotFound => {
            Failure::new(Exit::Configuration, format!("{what}: its folder is not there; make it first"))
        }
        ErrorKind::IsADirectory => {
            Failure::new(Exit::Configuration, format!("{what}: it is a folder; name a file in it"))
        }
        ErrorKind::PermissionDenied => Failure::denied(format!(
            "{what}: this process may not write to it; give the file or its folder to the user that runs Lucid"
        )),
        _ => Failure::of_io(error, what),
    }
}

/// The far end of an output, on a thread of its own.
struct Writer {
    stream: Box<dyn Write + Send>,
    format: Format,
    colored: bool,
    lost: Arc<Lost>,
    clock: Clock,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => return self.tell_lost(),
                Err(TryRecvError::Empty) => {
                    self.tell_lost();
                    match messages.recv() {
                        Ok(message) => message,
                        Err(_) => return self.tell_lost(),
                    }
                }
            };
            match message {
                Message::Entry(entry) => self.write(&entry),
                // Whoever asked may have stopped waiting.
                Message::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn write(&mut self, entry: &Entry) {
        let line = entry.line(self.format, self.colored);
        if self.stream.write_all(line.as_bytes()).and_then(|()| self.stream.flush()).is_err() {
            self.lost.add();
        }
    }

    /// Says, once the queue is empty, how many lines are missing above. While the output refuses them, they
    /// go on being counted.
    fn tell_lost(&mut self) {
        let Some(lines) = self.lost.take() else { return };
        let entry = Entry {
            unix_ms: self.clock.now().unix_ms,
            level: Level::Warn,
            target: "lucid::log".into(),
            message: format!("{lines} lines are missing here: this output did not keep up, or refused them"),
        };
        let line = entry.line(self.format, self.colored);
        if self.stream.write_all(line.as_bytes()).and_then(|()| self.stream.flush()).is_err() {
            // Tried again behind the next line, not now: that would spin.
            self.lost.lines.fetch_add(lines, Ordering::Relaxed);
            self.lost.untold.store(true, Ordering::Release);
        }
    }
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
    use std::io::{PipeReader, Read, Write};
    use std::sync::Arc;

    use log::Level;

    use super::{Entry, Outlet, QUEUE_LINES, rfc3339};
    use crate::config::{Format, Output};

    fn entry(message: &str) -> Arc<Entry> {
        let (target, message) = ("lucid::net".into(), super::escaped(message));
        Arc::new(Entry { unix_ms: 951_782_400_000, level: Level::Warn, target, message })
    }

    fn outlet_to(stream: Box<dyn Write + Send>) -> Outlet {
        Outlet::start(Output::Stdout { colored: false }, Format::Text, false, stream).unwrap()
    }

    fn read_all(mut pipe: PipeReader) -> String {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

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
        let entry = entry("bad\r\n\u{1b}[2Jname \"x\"");
        let time = "2000-02-29T00:00:00.000Z";
        let said = "bad\\r\\n\\u{1b}[2Jname \"x\"";
        assert_eq!(entry.line(Format::Text, false), format!("{time} WARN  lucid::net: {said}\n"));
        assert!(
            entry.line(Format::Text, true).starts_with(&format!("{time} \u{1b}[33mWARN \u{1b}[0m lucid"))
        );
        let json: serde_json::Value = serde_json::from_str(&entry.line(Format::Json, true)).unwrap();
        assert_eq!(json["level"], "warn");
        assert_eq!(json["message"], said);
        assert_eq!(json["time"], time);
    }

    #[test]
    fn a_full_pipe_holds_up_nobody_who_logs_and_the_loss_is_told() {
        let (reader, writer) = std::io::pipe().unwrap();
        let outlet = outlet_to(Box::new(writer));
        // Far more than a pipe and the queue hold. This returns although nobody reads.
        let many = 20 * QUEUE_LINES;
        let long = "x".repeat(500);
        (0..many).for_each(|at| outlet.give(entry(&format!("line {at} {long}"))));
        assert!(outlet.lost.lines.load(std::sync::atomic::Ordering::Relaxed) as usize > many / 2);
        // Nor does the end of the node.
        outlet.flush();
        drop(outlet);
        let text = read_all(reader);
        let told =
            text.lines().find(|line| line.contains(" lines are missing here")).expect("the loss is told");
        let lost: usize = told.split(' ').find_map(|word| word.parse().ok()).unwrap();
        let written = text.lines().filter(|line| line.contains(": line ")).count();
        assert_eq!(lost + written, many);
        // What came first is kept, in its order.
        assert!(text.lines().next().unwrap().contains("line 0 "));
    }

    #[test]
    fn flush_waits_until_every_line_is_written() {
        let (reader, writer) = std::io::pipe().unwrap();
        let outlet = outlet_to(Box::new(writer));
        let lines = std::thread::spawn(move || read_all(reader).lines().count());
        (0..QUEUE_LINES / 2).for_each(|_| outlet.give(entry("hello")));
        outlet.flush();
        drop(outlet);
        assert_eq!(lines.join().unwrap(), QUEUE_LINES / 2);
    }

    #[test]
    fn a_file_is_appended_to_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lucid.log");
        for _ in 0..2 {
            let outlet = Outlet::open(&Output::File(path.clone()), Format::Json).unwrap();
            outlet.give(entry("hello"));
            outlet.flush();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
        assert!(Outlet::open(&Output::File(folder.path().to_owned()), Format::Json).is_err());
        let absent = folder.path().join("no/lucid.log");
        let refused = Outlet::open(&Output::File(absent), Format::Json).err().unwrap();
        assert!(refused.lines()[0].ends_with("its folder is not there; make it first"));
    }
}
