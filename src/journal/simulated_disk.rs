//! A disk in memory that does what a disk may do, by a seed: it loses what was not synced, in pieces of 512
//! bytes and in any order, forgets names, writes less than it was given, fills up, fails to sync, and is
//! taken away in the middle of a call.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// Numbers that look random and repeat: SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What has happened to a file since it was last durable.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What whoever reads it now sees.
    cached: Vec<u8>,
    /// What is there whatever happens.
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug)]
struct State {
    random: Random,
    files: BTreeMap<u64, Content>,
    next: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    capacity: u64,
    /// Calls that change something until the disk is taken away.
    calls_left: Option<u64>,
    /// One sync in so many fails.
    sync_fails: Option<u64>,
    has_failed: bool,
    locked: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

/// A file on it. The lock is one too, and gives the folder free when it is dropped.
#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
}

#[derive(Debug)]
struct Lock(SimulatedDisk);

/// How a process ends that does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed; the system goes on.
    Process,
    /// The machine loses its power.
    Power,
}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(State {
            random: Random(seed),
            files: BTreeMap::new(),
            next: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            capacity: u64::MAX,
            calls_left: None,
            sync_fails: None,
            has_failed: false,
            locked: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it")
    }

    /// How many bytes it holds in all.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// It is taken away after so many more calls.
    pub(crate) fn take_away_after(&self, calls: Option<u64>) {
        self.state().calls_left = calls;
    }

    pub(crate) fn is_taken_away(&self) -> bool {
        self.state().calls_left == Some(0)
    }

    /// One sync in so many fails.
    pub(crate) fn fail_syncs(&self, one_in: Option<u64>) {
        self.state().sync_fails = one_in;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state().has_failed
    }

    /// Flips a bit of a file, durably.
    pub(super) fn flip(&self, name: &str, bit: u64) {
        let mut state = self.state();
        let id = state.names[name];
        let file = state.files.get_mut(&id).expect("a file of this name");
        file.cached[bit as usize / 8] ^= 1 << (bit % 8);
        file.durable = file.cached.clone();
    }

    /// What a file holds.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[name]].cached.clone()
    }

    /// Cuts a file, durably.
    pub(super) fn cut(&self, name: &str, length: u64) {
        let mut state = self.state();
        let id = state.names[name];
        let file = state.files.get_mut(&id).expect("a file of this name");
        file.cached.truncate(length as usize);
        file.durable = file.cached.clone();
    }

    /// A disk with the same content, all of it durable.
    pub(super) fn copy(&self, seed: u64) -> SimulatedDisk {
        let copy = SimulatedDisk::new(seed);
        {
            let (from, mut to) = (self.state(), copy.state());
            to.files = from.files.clone();
            to.names = from.names.clone();
            to.durable_names = from.names.clone();
            to.next = from.next;
            for file in to.files.values_mut() {
                file.durable = file.cached.clone();
                file.changes.clear();
            }
        }
        copy
    }

    /// The process is gone, and with the power whatever the disk chooses to lose.
    pub(crate) fn crash(&self, crash: Crash) {
        let mut state = self.state();
        state.locked = false;
        state.calls_left = None;
        state.has_failed = false;
        state.sync_fails = None;
        if crash == Crash::Power {
            state.lose();
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|id| self.files[id].cached.len() as u64).sum()
    }

    /// A call that changes something. False once the disk is away.
    fn call(&mut self) -> io::Result<()> {
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the disk is away")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lose(&mut self) {
        // Now all of what was not synced is lost, now nothing, mostly a part.
        let mood = self.random.below(4);
        let keep = match mood {
            0 => 0,
            1 => self.name_changes.len(),
            _ => self.random.below(self.name_changes.len() as u64 + 1) as usize,
        };
        let changes: Vec<NameChange> = self.name_changes.drain(..).take(keep).collect();
        changes.into_iter().for_each(|change| apply_name(&mut self.durable_names, change));
        self.names = self.durable_names.clone();
        let State { files, random, names, .. } = self;
        files.retain(|id, _| names.values().any(|named| named == id));
        for file in files.values_mut() {
            let mut content = std::mem::take(&mut file.durable);
            for change in file.changes.drain(..) {
                match change {
                    Change::Length(length) => {
                        if mood == 1 || mood > 1 && random.one_in(2) {
                            set_length(&mut content, length);
                        }
                    }
                    Change::Write { offset, bytes } => {
                        lose_sectors(&mut content, offset, &bytes, mood, random)
                    }
                }
            }
            file.durable = content.clone();
            file.cached = content;
        }
    }
}

/// Keeps some of the sectors of a write.
fn lose_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], mood: u64, random: &mut Random) {
    let mut at = 0;
    while at < bytes.len() {
        let length = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(bytes.len() - at);
        if mood == 1 || mood > 1 && random.one_in(2) {
            write(content, offset + at, &bytes[at..at + length]);
        }
        at += length;
    }
}

/// As `resize`, which takes long where nothing is optimized.
fn set_length(content: &mut Vec<u8>, length: usize) {
    match length.checked_sub(content.len()) {
        Some(more) => content.extend_from_slice(&vec![0; more]),
        None => content.truncate(length),
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        set_length(content, offset + bytes.len());
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn apply_name(names: &mut BTreeMap<String, u64>, change: NameChange) {
    match change {
        NameChange::Link(name, id) => drop(names.insert(name, id)),
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(&from) {
                names.insert(to, id);
            }
        }
        NameChange::Remove(name) => drop(names.remove(&name)),
    }
}

impl Disk for SimulatedDisk {
    fn lock(&self, _: &str) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let was_locked = std::mem::replace(&mut self.state().locked, true);
        Ok((!was_locked).then(|| Arc::new(Lock(self.clone())) as Arc<dyn DiskFile>))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.call()?;
        let id = state.next;
        state.next += 1;
        state.files.insert(id, Content::default());
        state.names.insert(name.into(), id);
        state.name_changes.push(NameChange::Link(name.into(), id));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.into(), id);
        state.name_changes.push(NameChange::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Remove(name.into()));
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.fail_sync()?;
        let changes = std::mem::take(&mut state.name_changes);
        changes.into_iter().for_each(|change| apply_name(&mut state.durable_names, change));
        Ok(())
    }

    fn shown(&self) -> String {
        "simulated".into()
    }
}

impl State {
    fn fail_sync(&mut self) -> io::Result<()> {
        match self.sync_fails {
            Some(one_in) if self.random.one_in(one_in) => {
                self.has_failed = true;
                Err(io::Error::other("the sync fails"))
            }
            _ => Ok(()),
        }
    }
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        // Taken away in the middle of this call, some of it has happened.
        let (is_last, mut length) = (state.calls_left == Some(1), bytes.len());
        state.call()?;
        if is_last || bytes.len() > 1 && state.random.one_in(10) {
            length = 1 + state.random.below(bytes.len() as u64) as usize;
        }
        let (used, capacity) = (state.used(), state.capacity);
        let file = state.files.get_mut(&self.id).expect("an open file");
        let growth = (offset as usize + length).saturating_sub(file.cached.len());
        if growth as u64 > capacity.saturating_sub(used) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        write(&mut file.cached, offset as usize, &bytes[..length]);
        file.changes.push(Change::Write { offset: offset as usize, bytes: bytes[..length].to_vec() });
        if is_last { Err(io::Error::other("the disk is away")) } else { Ok(length) }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let rest = state.files[&self.id].cached.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        let (used, capacity) = (state.used(), state.capacity);
        let file = state.files.get_mut(&self.id).expect("an open file");
        let growth = (length as usize).saturating_sub(file.cached.len());
        if growth as u64 > capacity.saturating_sub(used) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if growth > 0 {
            set_length(&mut file.cached, length as usize);
            file.changes.push(Change::Length(length as usize));
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        let file = state.files.get_mut(&self.id).expect("an open file");
        set_length(&mut file.cached, length as usize);
        file.changes.push(Change::Length(length as usize));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.id].cached.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call()?;
        let failed = state.fail_sync();
        let State { files, random, .. } = &mut *state;
        let file = files.get_mut(&self.id).expect("an open file");
        for change in file.changes.drain(..) {
            // After a failed sync the system takes it for written, and some of it is not.
            let mood = if failed.is_ok() { 1 } else { 2 };
            match change {
                Change::Length(length) => set_length(&mut file.durable, length),
                Change::Write { offset, bytes } => {
                    lose_sectors(&mut file.durable, offset, &bytes, mood, random);
                }
            }
        }
        failed
    }
}

impl DiskFile for Lock {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}
