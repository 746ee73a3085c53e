//! Opens a folder: takes it for this process, reads all of it once, cuts a torn tail, refuses damage.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::disk::{Disk, DiskFile, FolderOnDisk, read_up_to, write_all};
use super::driver::Bell;
use super::files::{Found, NotRead};
use super::manifest::{
    BadManifest, Keys, MANIFEST, MANIFEST_COPY, Manifest, base_name, log_name, log_number,
};
use super::replay::{Files, Replay};
use super::scan::Bad;
use super::seal::MasterKey;
use super::segment::{FILE_HEAD_BYTES, Kind};
use super::validate::{Checked, Verdict, check_all, judge_base, judge_log};
use crate::clock::Version;

/// The name of the file that is locked by who has the folder.
pub(super) const LOCK: &str = "lock";

/// Bytes of a segment of the log. The folder takes at most three times the live set and 128 MiB: two of them,
/// and what may be left of a live set that is gone.
pub const SEGMENT_BYTES: u64 = 63 << 20;

/// When an answer may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Once the change is durable.
    Always,
    /// Once the system has the change; it is durable within a second.
    Everysec,
    /// Once the system has the change; it decides when that is durable.
    Never,
}

/// How a folder is to be used.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// When an answer may go out.
    pub sync: Sync,
    /// What the folder is sealed with; `None` for one that is not.
    pub key: Option<MasterKey>,
    /// [`SEGMENT_BYTES`], but in tests.
    pub segment_bytes: u64,
    /// How many threads read the folder.
    pub threads: usize,
    /// How far that has come, for whoever wants to know.
    pub progress: Arc<Progress>,
}

impl JournalConfig {
    /// Not sealed, and as many threads as the machine has cores.
    pub fn new(sync: Sync) -> JournalConfig {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        JournalConfig { sync, key: None, segment_bytes: SEGMENT_BYTES, threads, progress: Arc::default() }
    }
}

/// How far the opening of a folder has come, and a way to end it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    stage: AtomicU8,
}

/// What the opening of a folder is at. At first it reads, and changes nothing.
const CHANGES: u8 = 1;
const STOPPED: u8 = 2;

impl Progress {
    /// Bytes that are read, and bytes of the folder; both 0 before they are known.
    pub fn bytes(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Has the opening end without a change to the folder, soon and with some error. False if it is too late:
    /// all is read, and what is torn is being cut.
    pub fn stop(&self) -> bool {
        self.stage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| (at != CHANGES).then_some(STOPPED))
            .is_ok()
    }

    /// From now on something is changed that must not be left half done.
    ///
    /// # Errors
    /// When it was stopped.
    pub fn begin_changes(&self) -> Result<(), OpenError> {
        let begun = self
            .stage
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| (at != STOPPED).then_some(CHANGES));
        begun.map(drop).map_err(|_| OpenError::io("the folder")(stopped()))
    }

    /// So many bytes are to be read.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes more are read.
    ///
    /// # Errors
    /// When it was stopped.
    pub(super) fn advance(&self, bytes: u64) -> io::Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.stage.load(Ordering::Relaxed) == STOPPED { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> io::Error {
    io::Error::other("its reading was stopped")
}

/// Why a folder is not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Taken,
    /// Something in it is not as it was written. Nothing was changed.
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It is sealed with another key.
    WrongKey,
    /// It is sealed, and there is no key.
    KeyMissing,
    /// It is not sealed, and there is a key.
    NotSealed,
    /// A later version of this program wrote it.
    LaterVersion {
        /// The file.
        file: String,
        /// Its format.
        format: u16,
    },
    /// The disk says so.
    Io {
        /// What it says it of.
        what: String,
        /// What it says.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn damaged(file: &str, offset: u64, what: &'static str) -> OpenError {
        OpenError::Damaged { file: file.into(), offset, what }
    }

    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let what = what.into();
        move |error| OpenError::Io { what, error }
    }

    pub(super) fn not_read(file: &str, error: NotRead) -> OpenError {
        let file = file.to_string();
        match error {
            NotRead::Io(error) => OpenError::Io { what: file, error },
            NotRead::Damaged(what) => OpenError::Damaged { file, offset: 0, what },
            NotRead::Version(format) => OpenError::LaterVersion { file, format },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Taken => f.write_str("another lucid has this folder; stop it, or name another folder"),
            OpenError::Damaged { file, offset, what } => write!(
                f,
                "{file} is damaged at byte {offset}: {what}. Nothing was changed; `lucid recover` says what can be kept"
            ),
            OpenError::WrongKey => f.write_str("the folder is encrypted with another key than encryption.private_key"),
            OpenError::KeyMissing => f.write_str(
                "the folder is encrypted; turn encryption.enabled on and give its key as encryption.private_key",
            ),
            OpenError::NotSealed => f.write_str(
                "the folder is not encrypted and encryption.enabled is on; `lucid rekey` encrypts it",
            ),
            OpenError::LaterVersion { file, format } => {
                write!(f, "{file} has format {format}: a later version of lucid wrote it; start that one")
            }
            OpenError::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A tail that was torn, and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: String,
    /// Where it was bad.
    pub offset: u64,
    /// Where it ends now.
    pub end: u64,
    /// What was wrong.
    pub what: &'static str,
    /// Segments behind it that were removed.
    pub removed: Vec<String>,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { file, offset, end, what, removed } = self;
        write!(f, "the end of {file} was torn at byte {offset}: {what}. It was cut at byte {end}")?;
        match removed.as_slice() {
            [] => Ok(()),
            removed => write!(f, ", and what was behind it removed: {}", removed.join(", ")),
        }
    }
}

/// Where folders are opened.
#[derive(Debug)]
pub struct Folder;

/// A folder that belongs to this process and of which nothing is known but what its manifest says.
#[derive(Debug)]
pub struct Taken {
    disk: Arc<dyn Disk>,
    lock: Arc<dyn DiskFile>,
    config: JournalConfig,
    manifest: Manifest,
    keys: Keys,
}

/// A folder that belongs to this process and of which all is known to be good.
#[derive(Debug)]
pub struct Opened {
    pub(super) disk: Arc<dyn Disk>,
    /// Held as long as anything uses the folder.
    pub(super) lock: Arc<dyn DiskFile>,
    pub(super) config: JournalConfig,
    pub(super) manifest: Manifest,
    pub(super) keys: Keys,
    pub(super) files: Arc<Files>,
    /// The last group there is, and the last segment. All of it is durable.
    pub(super) sequence: u64,
    pub(super) segment: u64,
    /// Segments of the log and their bytes.
    pub(super) log: Vec<(u64, u64)>,
    ledger: BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>,
    version_max: u64,
    records: u64,
    cut: Option<Cut>,
    pub(super) bell: Bell,
}

impl Folder {
    /// Opens the folder at a path, which is made if need be.
    ///
    /// # Errors
    /// When it may not be used; it is unchanged then.
    pub fn open(location: &Path, config: &JournalConfig) -> Result<Opened, OpenError> {
        Folder::take(location, config)?.open()
    }

    /// Takes the folder at a path, which is made if need be, and looks at nothing but its manifest: whatever it
    /// is refused for without reading it is known then.
    ///
    /// # Errors
    /// When it may not be used; it is unchanged then.
    pub fn take(location: &Path, config: &JournalConfig) -> Result<Taken, OpenError> {
        let disk = FolderOnDisk::make(location).map_err(OpenError::io(location.display().to_string()))?;
        Folder::take_on(Arc::new(disk), config)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, config: &JournalConfig) -> Result<Opened, OpenError> {
        Folder::take_on(disk, config)?.open()
    }

    /// Takes a folder on any disk.
    ///
    /// # Errors
    /// When it may not be used; it is unchanged then.
    pub fn take_on(disk: Arc<dyn Disk>, config: &JournalConfig) -> Result<Taken, OpenError> {
        let shown = disk.shown();
        let lock =
            disk.lock(LOCK).map_err(OpenError::io(format!("{shown}/{LOCK}")))?.ok_or(OpenError::Taken)?;
        let names = disk.list().map_err(OpenError::io(shown.as_str()))?;
        let manifest = match Manifest::read(&*disk) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => make(&*disk, &names, config)?,
            Err(BadManifest::Damaged) => {
                return Err(OpenError::damaged(MANIFEST, 0, "its CRC does not match"));
            }
            Err(BadManifest::Version(format)) => {
                return Err(OpenError::LaterVersion { file: MANIFEST.into(), format });
            }
            Err(BadManifest::Io(error)) => return Err(OpenError::io(MANIFEST)(error)),
        };
        let keys = match (&config.key, manifest.is_sealed()) {
            (None, true) => return Err(OpenError::KeyMissing),
            (Some(_), false) => return Err(OpenError::NotSealed),
            (None, false) => Keys::default(),
            (Some(key), true) => manifest.unwrap_keys(key).map_err(|_| OpenError::WrongKey)?,
        };
        Ok(Taken { disk, lock, config: config.clone(), manifest, keys })
    }
}

impl Taken {
    /// Reads all of it, cuts a torn tail, refuses damage.
    ///
    /// # Errors
    /// When it may not be used; it is unchanged then.
    pub fn open(self) -> Result<Opened, OpenError> {
        let Taken { disk, lock, config, manifest, keys } = self;
        Contents::find(&*disk, &manifest)?.judge(disk, lock, &config, manifest, keys)
    }
}

/// Makes a new folder out of an empty one.
fn make(disk: &dyn Disk, names: &[String], config: &JournalConfig) -> Result<Manifest, OpenError> {
    let shown = disk.shown();
    for name in names.iter().filter(|name| name.starts_with("log-") || name.starts_with("base-")) {
        // What an attempt that was interrupted has left holds nothing.
        let length = disk.open(name).and_then(|file| file.length()).map_err(OpenError::io(name.as_str()))?;
        if length > FILE_HEAD_BYTES as u64 {
            return Err(OpenError::damaged(MANIFEST, 0, "the file is missing"));
        }
    }
    let manifest = Manifest::of_new_folder(config.key.as_ref());
    manifest.write(disk).map_err(OpenError::io(shown))?;
    Ok(manifest)
}

/// The files that count.
struct Contents {
    parts: Vec<Found>,
    segments: Vec<Found>,
    /// Files of ours that do not count any more.
    stale: Vec<String>,
}

impl Contents {
    fn find(disk: &dyn Disk, manifest: &Manifest) -> Result<Contents, OpenError> {
        let mut stale = Vec::new();
        let mut numbers = Vec::new();
        for name in disk.list().map_err(OpenError::io(disk.shown()))? {
            match log_number(&name) {
                Some(number) if number >= manifest.log_first => numbers.push(number),
                Some(_) => stale.push(name),
                None if [LOCK, MANIFEST, MANIFEST_COPY].contains(&name.as_str()) => {}
                None if is_left_over(&name, manifest) => stale.push(name),
                None => {}
            }
        }
        numbers.sort_unstable();
        let is_there = match numbers.first() {
            Some(first) => *first == manifest.log_first,
            None => manifest.fresh,
        };
        if !is_there {
            return Err(OpenError::damaged(&log_name(manifest.log_first), 0, "the file is missing"));
        }
        let open = |name: String, what| {
            Found::open(disk, name.clone(), what).map_err(|error| OpenError::not_read(&name, error))
        };
        let generation = manifest.generation;
        let parts = (0..manifest.parts.len() as u64)
            .map(|part| open(base_name(generation, part), (Kind::Base, part, generation)))
            .collect::<Result<_, _>>()?;
        let segments = numbers
            .into_iter()
            .map(|number| open(log_name(number), (Kind::Log, number, 0)))
            .collect::<Result<_, _>>()?;
        Ok(Contents { parts, segments, stale })
    }

    fn judge(
        mut self,
        disk: Arc<dyn Disk>,
        lock: Arc<dyn DiskFile>,
        config: &JournalConfig,
        manifest: Manifest,
        keys: Keys,
    ) -> Result<Opened, OpenError> {
        let files: Vec<Found> = self.parts.iter().chain(&self.segments).cloned().collect();
        config.progress.expect(files.iter().map(|found| found.length).sum());
        let checked = check_all(&files, &keys, config.threads, &config.progress)?;
        let pairs: Vec<(&Found, &Checked)> = files.iter().zip(&checked).collect();
        let (base, log) = pairs.split_at(self.parts.len());
        judge_base(&manifest, base)?;
        let verdict = judge_log(&manifest, log)?;
        config.progress.begin_changes()?;
        let cut = self.settle(&*disk, log, &verdict)?;
        let mut ledger = BTreeMap::new();
        let (mut version_max, mut records) = (manifest.version_max, 0);
        let good = self.parts.len() + self.segments.len();
        for checked in checked.into_iter().take(good) {
            version_max = version_max.max(checked.version_max);
            records += checked.records;
            for (key, value) in checked.node {
                match value {
                    Some(value) => drop(ledger.insert(key, value)),
                    None => drop(ledger.remove(&key)),
                }
            }
        }
        let segment = self.segments.last().map_or(manifest.log_first - 1, |found| found.head.number);
        let log = self.segments.iter().map(|found| (found.head.number, found.length)).collect();
        let files = self.parts.into_iter().chain(self.segments).collect();
        let files = Arc::new(Files { files, keys: keys.clone() });
        let (config, sequence) = (config.clone(), verdict.last);
        Ok(Opened {
            disk,
            lock,
            config,
            manifest,
            keys,
            files,
            sequence,
            segment,
            log,
            ledger,
            version_max,
            records,
            cut,
            bell: Bell::new(),
        })
    }

    /// Cuts what is torn, removes what does not count, and makes all that is left durable: a process that
    /// was killed has left it to the system, and from now on it is taken for durable.
    fn settle(
        &mut self,
        disk: &dyn Disk,
        log: &[(&Found, &Checked)],
        verdict: &Verdict,
    ) -> Result<Option<Cut>, OpenError> {
        let remove = |name: &str| disk.remove(name).map_err(OpenError::io(name));
        let mut cut = None;
        if let Some((at, bad)) = verdict.torn {
            let removed: Vec<Found> = self.segments.drain(at + 1..).collect();
            // From the last one on, so that an interruption leaves the same tail, only shorter.
            removed.iter().rev().try_for_each(|found| remove(&found.name))?;
            let Bad { offset, group, what } = bad;
            let file = self.segments[at].name.clone();
            let removed = removed.into_iter().map(|found| found.name).collect();
            cut = Some(Cut { file, offset, end: group, what, removed });
        }
        // A segment that was begun and not used. The first one stays: the manifest names it.
        while let [_, .., last] = self.segments.as_slice() {
            if log[self.segments.len() - 1].1.first.is_some() {
                break;
            }
            remove(&last.name)?;
            self.segments.pop();
        }
        for (found, (_, checked)) in self.segments.iter_mut().zip(log) {
            if found.length > checked.end {
                found.file.truncate(checked.end).map_err(OpenError::io(found.name.as_str()))?;
                found.length = checked.end;
            }
            let unsynced = checked.unsynced.iter().find(|(sequence, _)| *sequence > verdict.synced);
            if let Some((_, offset)) = unsynced {
                write_again(&*found.file, *offset).map_err(OpenError::io(found.name.as_str()))?;
            }
            found.file.sync().map_err(OpenError::io(found.name.as_str()))?;
        }
        self.stale.iter().try_for_each(|name| remove(name))?;
        disk.sync_folder().map_err(OpenError::io(disk.shown()))?;
        Ok(cut)
    }
}

/// Writes what is there once more. After a sync that failed the system may show what it never wrote, and the
/// next sync would not tell; what is written again is synced again.
fn write_again(file: &dyn DiskFile, mut offset: u64) -> io::Result<()> {
    let mut bytes = vec![0; 256 * 1_024];
    loop {
        let count = read_up_to(file, &mut bytes, offset)?;
        write_all(file, &bytes[..count], offset)?;
        offset += count as u64;
        if count < bytes.len() {
            return Ok(());
        }
    }
}

/// Whether a name is of a file that some attempt has left. Names that this program does not give are left
/// alone.
fn is_left_over(name: &str, manifest: &Manifest) -> bool {
    let of_base = |name: &str| -> Option<(u64, u64)> {
        let (generation, part) = name.strip_prefix("base-")?.split_once('-')?;
        let numbers = (generation.parse().ok()?, part.parse().ok()?);
        (base_name(numbers.0, numbers.1) == name).then_some(numbers)
    };
    match of_base(name) {
        Some((generation, part)) => generation != manifest.generation || part >= manifest.parts.len() as u64,
        None => name == super::manifest::MANIFEST_NEW || name == super::chore::LOG_NEXT,
    }
}

impl Opened {
    /// What entity tags of this folder begin with: the same from start to start.
    pub fn boot_id(&self) -> u32 {
        self.manifest.boot_id
    }

    /// What the node keeps of itself, by name: the last record about each, without those that are gone.
    pub fn ledger(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ledger.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// The highest version that was given out. All clocks must go on above it.
    pub fn version_max(&self) -> Version {
        Version(self.version_max)
    }

    /// Bytes that a replay reads.
    pub fn bytes(&self) -> u64 {
        self.files.files.iter().map(|found| found.length).sum()
    }

    /// Records that a replay gives.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The tail that was torn and cut, if one was.
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// All records, in the order in which they count. A clone of a replay begins at the beginning.
    pub fn replay(&self) -> Replay {
        Replay::new(self.files.clone())
    }
}
