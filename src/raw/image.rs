//! Gives back the memory of code that only the start of a program needed.
//!
//! A program's code and constants lie in private mappings of its file and of its libraries'. The kernel
//! maps sixteen pages and more around each that is touched, so that after the start (command line,
//! configuration, certificates) most of the file is resident, though serving needs a small part of it.
//! Given back, a page stays in the kernel's cache of files, and is mapped again when it is touched.

/// A mapping, as `/proc/self/smaps` tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
}

/// Gives back what is resident of all mappings that hold nothing but what their file does. Where that
/// cannot be known, elsewhere than on Linux or without `/proc`, nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", not(miri)))]
    if let Ok(smaps) = std::fs::File::open("/proc/self/smaps") {
        use std::io::{BufRead, BufReader};
        // Line by line: a buffer for all of it would outweigh what some libraries give back.
        let lines = BufReader::new(smaps).lines().map_while(Result::ok);
        // Found first and given back then, so that what finding them takes is not left behind.
        let mappings: Vec<_> = clean(lines).collect();
        mappings.into_iter().for_each(give_back_mapping);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn give_back_mapping(mapping: Mapping) {
    use rustix::mm::{Advice, madvise};
    let start = std::ptr::without_provenance_mut(mapping.start);
    // SAFETY: the kernel has just named this range: a private mapping of a file, that cannot be
    // written and has no page of its own. Whoever reads or executes it finds the bytes of the file,
    // as before (madvise(2), MADV_DONTNEED). What the dynamic linker has written to and protected
    // since has pages of its own. That no other mapping has taken its place meanwhile rests on this
    // crate: it maps no files itself, and nothing in it unloads a library.
    let _refused = unsafe { madvise(start, mapping.end - mapping.start, Advice::LinuxDontNeed) };
}

/// The private mappings of files that cannot be written and have no page of their own.
#[cfg_attr(any(miri, not(target_os = "linux")), allow(dead_code))] // built along, so that it does not rot
fn clean<L: AsRef<str>>(mut lines: impl Iterator<Item = L>) -> impl Iterator<Item = Mapping> {
    let mut candidate = None;
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let line = line.as_ref();
            match line.strip_prefix("Anonymous:") {
                Some(own) => match candidate.take() {
                    Some(mapping) if own.trim() == "0 kB" => return Some(mapping),
                    _ => {}
                },
                None => {
                    if let Some(headed) = heading(line) {
                        candidate = headed;
                    }
                }
            }
        }
    })
}

/// `start-end permissions offset device inode path`: the mapping, if it is of the kind. `None` for lines
/// that begin no mapping.
fn heading(line: &str) -> Option<Option<Mapping>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let mapping = Mapping { start: address(start)?, end: address(end)? };
    let permissions = words.next()?;
    let inode = words.nth(2)?;
    let is_clean = matches!(permissions, "r--p" | "r-xp") && inode != "0";
    Some(is_clean.then_some(mapping))
}

#[cfg(test)]
mod tests {
    use super::{Mapping, clean};

    const SMAPS: &str = "\
555555554000-55555563f000 r--p 00000000 fe:00 1311 /usr/bin/lucid
Rss:                 576 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
55555563f000-555555aa6000 r-xp 000ea000 fe:00 1311 /usr/bin/a path with Anonymous: 4 kB
Anonymous:             0 kB
555555aa6000-555555abd000 r--p 00550000 fe:00 1311 /usr/bin/lucid
Anonymous:            92 kB
555555abd000-555555abe000 rw-p 00566000 fe:00 1311 /usr/bin/lucid
Anonymous:             0 kB
555555abe000-555555b98000 r--p 00000000 00:00 0    [heap]
Anonymous:             0 kB
7ffff7c00000-7ffff7c26000 r--s 00000000 fe:00 22   /usr/lib/shared
Anonymous:             0 kB
7ffff7fc3000-7ffff7fc5000 r-xp 00000000 00:00 0    [vdso]
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
Anonymous:             0 kB
";

    #[test]
    fn only_clean_private_mappings_of_files_are_found() {
        let found: Vec<_> = clean(SMAPS.lines()).collect();
        let mapping = |start, end| Mapping { start, end };
        assert_eq!(
            found,
            [mapping(0x5555_5555_4000, 0x5555_5563_f000), mapping(0x5555_5563_f000, 0x5555_55aa_6000)]
        );
    }

    #[test]
    fn text_that_is_no_list_of_mappings_names_none() {
        for text in
            ["", "\n\n", "Anonymous: 0 kB", "a-b", "zz-yy r--p 0 0 1 x\nAnonymous: 0 kB\n", "1-2 r--p"]
        {
            assert_eq!(clean(text.lines()).count(), 0, "{text:?}");
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn constants_and_code_are_there_after_they_were_given_back() {
        static CONSTANTS: [u64; 4_096] = {
            let mut all = [0; 4_096];
            let mut at = 0;
            while at < all.len() {
                all[at] = at as u64;
                at += 1;
            }
            all
        };
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let here = constants_and_code_are_there_after_they_were_given_back as *const () as usize;
        assert!(clean(smaps.lines()).any(|mapping| (mapping.start..mapping.end).contains(&here)));
        super::give_back();
        assert!(std::hint::black_box(&CONSTANTS).iter().copied().eq(0..4_096));
    }
}
