//! Mistakes that can be made on purpose, to see whether the simulation finds them: those that are easily made
//! where something is kept, and some that were. Outside the tests none is ever made, and the questions cost
//! nothing.

/// A mistake.
#[cfg_attr(not(test), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The log is taken for synced without having been.
    SyncSkipped,
    /// Under `always` the answer does not wait for the sync.
    AcknowledgedEarly,
    /// A record is believed whatever its CRC.
    CrcUnchecked,
    /// The names in the folder are not synced when a segment begins.
    FolderNotSynced,
    /// The live set is not synced before the manifest names it.
    BaseNotSynced,
    /// Others are told of a new space before the record of it is kept. The simulation makes it itself.
    ToldBeforeKept,
    /// Nobody steps the writer again when a live set is complete, or the log behind it is durable.
    CompactionNotWoken,
    /// What finds no room while a folder is replayed is not looked for again.
    NoSecondPass,
}

/// Whether this mistake is to be made.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is_planted(_fault: Fault) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is to be made.
#[cfg(test)]
pub(crate) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Makes a mistake from now on, in this thread.
#[cfg(test)]
pub(crate) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}
