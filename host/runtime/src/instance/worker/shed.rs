//! What a worker has touched of its files and no longer needs, given back to the system while it rests.
//!
//! Loading a plugin and comparing its ABI go through code that never runs again, and around each page of a file that is
//! touched the kernel maps fifteen others: of a young worker's resident memory nine tenths are such. They are dropped; what
//! is needed after all comes back from the page cache at its next use, as it came at its first. That makes no memory
//! free by itself, since they are the files' own pages, which all processes share; but what nobody has mapped is the
//! first that the system takes when it needs some, and what a process is said to take is what it uses.
//!
//! Dropped are only mappings that stay for the life of the process: those of the executable and of what the system's
//! loader brought with it, and those of the plugin, which is never closed. Elsewhere than on Linux nothing is done.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// Where the kernel tells what is mapped.
const MAPS: &str = "/proc/self/maps";
/// Where it tells of each page what is there: a number of this many bytes.
const PAGES: &str = "/proc/self/pagemap";
const ENTRY_BYTES: usize = 8;
/// The bits of that number: the page is in memory; it is in the swap; it is a file's.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// A daemon that has taken less of the processors than this since it was last looked at is at rest.
const REST_CPU_MAX: Duration = Duration::from_millis(1);
/// What has taken less than this since something was dropped has touched little: some answers to pings.
const USE_CPU_MIN: Duration = Duration::from_micros(200);

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Shed {
    /// Mappings that are never unmapped and can't be written.
    lasting: Vec<Range<usize>>,
    /// What the process had taken of the processors when it was last looked at, and when something was last dropped.
    looked_at: Duration,
    dropped_at: Duration,
}

impl Shed {
    /// Knows what the system's loader has mapped. To be called before anything of a plugin is there.
    pub(super) fn of_program() -> Self {
        let mut shed = Shed::default();
        shed.add(|_| true);
        shed
    }

    /// Knows of a plugin, too. To be called when it is loaded and nothing of it runs.
    pub(super) fn and_of(&mut self, plugin: &Path) {
        // Not by the whole path: the kernel has followed links.
        self.add(|file| Path::new(file).file_name() == plugin.file_name());
    }

    fn add(&mut self, is_meant: impl Fn(&str) -> bool) {
        // Where there is no such list, nothing is ever dropped.
        let text = fs::read_to_string(MAPS).unwrap_or_default();
        let meant = text.lines().filter_map(mapping);
        let meant = meant.filter(|(_, file)| is_meant(file));
        self.lasting.extend(meant.map(|(place, _)| place));
    }

    /// Drops what isn't needed, if the daemon has rested since the last look and has done something since the last drop.
    /// Then it blocks for less than a tenth of the time that the process's start takes.
    pub(super) fn look(&mut self) {
        let now = cpu_time();
        let is_at_rest = now.saturating_sub(self.looked_at) < REST_CPU_MAX;
        if is_at_rest && now.saturating_sub(self.dropped_at) >= USE_CPU_MIN {
            // A process that has more than it needs serves as well.
            let _ = self.drop_unused();
            self.dropped_at = cpu_time();
        }
        self.looked_at = cpu_time();
    }

    /// All of it: what is still needed can't be told from the rest, and comes back by itself. What can't be dropped stays.
    fn drop_unused(&self) -> io::Result<()> {
        let pages = File::open(PAGES)?;
        // The executable, which does this, stands first in the kernel's list and goes last.
        for place in self.lasting.iter().rev() {
            // Looked at right before it is dropped: nothing else is between the two.
            if is_as_in_file(&pages, place)? {
                let _ = drop_pages(place);
            }
        }
        Ok(())
    }
}

/// What this process has taken of the processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Where a file is mapped, and which, of a line of the kernel's list, `from-to rights offset device inode file`; none
/// where it can be written, and where it is no file.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let mut words = line.splitn(6, ' ');
    let (from, to) = words.next()?.split_once('-')?;
    let is_writable = words.next()?.contains('w');
    let file = words.nth(3)?.trim_start();
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    let place = number(from)?..number(to)?;
    (!is_writable && file.starts_with('/')).then_some((place, file))
}

/// Whether this process has no page of its own there, as relocations and breakpoints make them.
fn is_as_in_file(pages: &File, place: &Range<usize>) -> io::Result<bool> {
    let page = page_size();
    let mut entries = vec![0; place.len() / page * ENTRY_BYTES];
    let offset = place.start / page * ENTRY_BYTES;
    pages.read_exact_at(&mut entries, offset as u64)?;
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let is_the_files = |entry: &[u8; ENTRY_BYTES]| is_the_files(u64::from_ne_bytes(*entry));
    Ok(entries.iter().all(is_the_files))
}

fn is_the_files(entry: u64) -> bool {
    let is_there = entry & (PRESENT | SWAPPED) != 0;
    !is_there || entry & (SWAPPED | OF_FILE) == OF_FILE
}

#[cfg(target_os = "linux")]
fn drop_pages(place: &Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(place.start);
    // SAFETY: the mapping is the system loader's or of a library that is never closed, so it is still there. It can't be
    // written, and a moment ago had no page that differs from the file's: each is read from the file again, with the
    // same bytes, when it is next touched. The store's files are never overwritten; the executable's can't be while it
    // runs. Whoever changes the process's code under its feet in that very moment is beyond this argument.
    unsafe { rustix::mm::madvise(start, place.len(), rustix::mm::Advice::LinuxDontNeed)? };
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn drop_pages(_place: &Range<usize>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_cannot_be_written_are_taken_from_the_list() {
        for (line, expected) in [
            (
                "55d000-55e000 r-xp 00001000 fe:00 123                     /opt/dae host (deleted)",
                Some((0x55d000..0x55e000, "/opt/dae host (deleted)")),
            ),
            (
                "55f000-560000 rw-p 00002000 fe:00 123                     /opt/dae host",
                None,
            ),
            ("560000-570000 r--p 00000000 00:00 0 ", None),
            (
                "7fff00-7fff10 r-xp 00000000 00:00 0                       [vdso]",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(mapping(line), expected, "{line}");
        }
    }

    #[test]
    fn a_page_of_ones_own_is_not_the_files() {
        for (entry, expected) in [
            (0, true),
            (PRESENT | OF_FILE, true),
            (PRESENT, false),
            (SWAPPED, false),
            (SWAPPED | OF_FILE, false),
        ] {
            assert_eq!(is_the_files(entry), expected, "{entry:x}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_dropped_comes_back_and_relocations_stay() {
        let shed = Shed::of_program();
        let pages = File::open(PAGES).unwrap();
        let of_its_own = |place: &&Range<usize>| !is_as_in_file(&pages, place).unwrap();
        let before: Vec<_> = shed.lasting.iter().filter(of_its_own).collect();
        assert!(!before.is_empty() && before.len() < shed.lasting.len());
        shed.drop_unused().unwrap();
        let after: Vec<_> = shed.lasting.iter().filter(of_its_own).collect();
        assert_eq!(after, before);
    }
}
