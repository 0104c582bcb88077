//! Releases pages of files that the worker has touched and no longer needs, while the daemon is at rest.
//!
//! Loading a plugin and comparing its ABI run code that never runs again, and around each touched page of a file the
//! kernel maps fifteen more. In a young worker, nine tenths of the resident memory are such pages. They are dropped,
//! and a page that is needed again comes back from the page cache at its next use. This alone frees no memory, since
//! the pages belong to files that all processes share. But the system reclaims unmapped pages first when it needs
//! memory, and the reported size of the process is then what it uses.
//!
//! Only mappings that stay for the life of the process are dropped: those of the executable and of what the system's
//! loader loaded with it, and those of the plugin, which is never closed. On other systems than
//! Linux this does nothing.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// The kernel's list of mappings.
const MAPS: &str = "/proc/self/maps";
/// The kernel's table of pages, with a number of `ENTRY_BYTES` bytes for each page.
const PAGES: &str = "/proc/self/pagemap";
const ENTRY_BYTES: usize = 8;
/// The bits of that number: the page is in memory; it is swapped out; it belongs to a file.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// The CPU time since the last look, below which a daemon counts as at rest.
const REST_CPU_MAX: Duration = Duration::from_millis(1);
/// The CPU time since the last drop, below which the process has touched little (some answers to pings).
const USE_CPU_MIN: Duration = Duration::from_micros(200);

/// The mappings whose pages can be dropped, and the times of the last looks.
#[derive(Debug, Default)]
pub(super) struct Shed {
    /// Mappings that are never unmapped and can't be written.
    lasting: Vec<Range<usize>>,
    /// The CPU time of the process at the last look, and at the last drop.
    looked_at: Duration,
    dropped_at: Duration,
}

impl Shed {
    /// Records the mappings of the system's loader. Call it before anything of a plugin is loaded.
    pub(super) fn of_program() -> Self {
        let mut shed = Shed::default();
        shed.add(|_| true);
        shed
    }

    /// Adds the mappings of a plugin. Call it when the plugin is loaded and before its code runs.
    pub(super) fn and_of(&mut self, plugin: &Path) {
        // Compares only the name: the kernel's path has links resolved.
        self.add(|file| Path::new(file).file_name() == plugin.file_name());
    }

    fn add(&mut self, is_meant: impl Fn(&str) -> bool) {
        // If the list is missing, nothing is ever dropped.
        let text = fs::read_to_string(MAPS).unwrap_or_default();
        let meant = text.lines().filter_map(mapping);
        let meant = meant.filter(|(_, file)| is_meant(file));
        self.lasting.extend(meant.map(|(place, _)| place));
    }

    /// Drops the pages if the daemon was at rest since the last look and has done something since the last drop. This
    /// blocks for less than a tenth of the time of the process's start.
    pub(super) fn look(&mut self) {
        let now = cpu_time();
        let is_at_rest = now.saturating_sub(self.looked_at) < REST_CPU_MAX;
        if is_at_rest && now.saturating_sub(self.dropped_at) >= USE_CPU_MIN {
            // A failure is ignored: a process with more pages than it needs works as well.
            let _ = self.drop_unused();
            self.dropped_at = cpu_time();
        }
        self.looked_at = cpu_time();
    }

    /// Drops all pages, since needed ones can't be told apart and come back by themselves. Skips what can't be dropped.
    fn drop_unused(&self) -> io::Result<()> {
        let pages = File::open(PAGES)?;
        // The executable, whose code runs here, is first in the kernel's list and is dropped last.
        for place in self.lasting.iter().rev() {
            // Checked right before the drop, with nothing between the two.
            if is_as_in_file(&pages, place)? {
                let _ = drop_pages(place);
            }
        }
        Ok(())
    }
}

/// Returns the CPU time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Parses a line of the kernel's list, `from-to rights offset device inode file`. Returns the address range and the
/// file, or `None` if the mapping is writable or not of a file.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let mut words = line.splitn(6, ' ');
    let (from, to) = words.next()?.split_once('-')?;
    let is_writable = words.next()?.contains('w');
    let file = words.nth(3)?.trim_start();
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    let place = number(from)?..number(to)?;
    (!is_writable && file.starts_with('/')).then_some((place, file))
}

/// Returns whether this process has no private page in that range, such as relocations and breakpoints create.
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
    // SAFETY: the mapping is the system loader's or of a library that is never closed, so it is still there. It is not
    // writable, and a moment ago it had no page that differs from the file's: each is read from the file again, with
    // the same bytes, at its next use. Files of the plugin store are never overwritten, and the executable can't be
    // while it runs. A change of the process's code from outside at that very moment is not covered.
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
