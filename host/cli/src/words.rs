//! Formats values for a person: times, hashes, words of a command line, and columns of text.
//!
//! [`dae_store::printable`] escapes and cuts text from others. Everything here is a pure function.

use dae_store::printable::one_line;
use dae_store::usage::{CpuKind, Usage};

pub(super) use dae_runtime::os::wording::shell_word;

/// The blanks between two columns.
pub(super) const GAP: usize = 2;

/// The widest column that others are aligned to (characters). One long cell must not push the others out of sight.
const COLUMN_CHARS_MAX: usize = 200;

/// The hex digits of a content hash that are shown: 48 bits, enough to distinguish the files of one home.
const HASH_DIGITS: usize = 12;

/// Aligns columns to their widest cells, up to [`COLUMN_CHARS_MAX`]. Nothing is cut, and no line ends in blanks.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let missing = width.saturating_sub(cell.chars().count());
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', missing + GAP));
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the width of each column's widest cell (characters), at most [`COLUMN_CHARS_MAX`].
pub(super) fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.map(|width| width.min(COLUMN_CHARS_MAX)).max()
    };
    (0..columns).filter_map(width).collect()
}

/// Lists names and values, one pair per line, with the values aligned.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let row =
        |(name, value): &(&str, String)| vec![format!("  {name}"), one_line(value).into_owned()];
    aligned(&facts.iter().map(row).collect::<Vec<_>>())
}

/// Formats the two largest units of a duration, without a blank: `42s`, `3m07s`, `5h02m`, `12d4h`.
pub(super) fn uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// Formats a size of memory in MiB, the usual unit for comparing such sizes.
pub(super) fn mebibytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Formats a size of memory in at most five characters, without a blank: `812K`, `3.1M`, `240M`, `1.2G`.
pub(super) fn memory(bytes: u64) -> String {
    let units = [
        ("K", 1_u64 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    let fits = |(_, unit): &&(&str, u64)| bytes / unit < 1_000;
    let (name, unit) = units.iter().find(fits).unwrap_or(&units[3]);
    let tenths = u128::from(bytes) * 10 / u128::from(*unit);
    match (*name, tenths < 100) {
        ("K", _) | (_, false) => format!("{}{name}", tenths / 10),
        (_, true) => format!("{}.{}{name}", tenths / 10, tenths % 10),
    }
}

/// Formats CPU time in percent of one core. A `~` marks a share of samples, which is not CPU time in the strict sense.
pub(super) fn cpu(usage: &Usage) -> Option<String> {
    let mark = match usage.cpu_kind {
        Some(CpuKind::Handlers) => "~",
        _ => "",
    };
    usage.cpu_percent.map(|percent| match percent < 9.95 {
        true => format!("{mark}{percent:.1}%"),
        false => format!("{mark}{percent:.0}%"),
    })
}

/// Formats a number per second in at most five characters: `0`, `7.5`, `340`, `12k`, `1.2M`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0".to_owned(),
        few if few < 9.95 => format!("{few:.1}"),
        some if some < 9_999.5 => format!("{some:.0}"),
        many if many < 999_500.0 => format!("{:.0}k", many / 1e3),
        more => format!("{:.1}M", more / 1e6),
    }
}

/// Formats a latency in at most five characters: `8.2µ`, `340µ`, `1.2ms`, `12s`.
pub(super) fn latency(us: f64) -> String {
    let short = |number: f64, unit: &str| match number < 9.95 {
        true => format!("{number:.1}{unit}"),
        false => format!("{number:.0}{unit}"),
    };
    match us {
        _ if us < 999.5 => short(us, "µ"),
        _ if us < 999_500.0 => short(us / 1e3, "ms"),
        _ => short(us / 1e6, "s"),
    }
}

/// Returns the start of a content hash.
pub(super) fn short_hash(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_width_is_shown() {
        let wide = "x".repeat(70_000);
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["a", "b"]), row([&wide, "c"])]);
        let first = text.lines().next().expect("a line");
        assert_eq!(first.chars().count(), COLUMN_CHARS_MAX + GAP + 1);
        assert!(text.ends_with(&format!("{wide}  c")));
    }

    #[test]
    fn memory_has_at_most_five_characters() {
        for (bytes, expected) in [
            (0, "0K"),
            (831_488, "812K"),
            (1_023_999, "999K"),
            (1_024_000, "0.9M"),
            (3_250_000, "3.0M"),
            (251_658_240, "240M"),
            (1 << 30, "1.0G"),
            (u64::MAX, "16777215T"),
        ] {
            assert_eq!(memory(bytes), expected);
        }
    }

    #[test]
    fn rates_and_latencies_have_at_most_five_characters() {
        for (number, expected) in [
            (0.0, "0"),
            (0.3, "0.3"),
            (9.96, "10"),
            (340.2, "340"),
            (9_999.0, "9999"),
            (12_345.0, "12k"),
            (1_234_567.0, "1.2M"),
        ] {
            assert_eq!(rate(number), expected);
        }
        for (us, expected) in [
            (0.25, "0.2µ"),
            (12.0, "12µ"),
            (999.9, "1.0ms"),
            (340_000.0, "340ms"),
            (12_000_000.0, "12s"),
        ] {
            assert_eq!(latency(us), expected);
        }
    }

    #[test]
    fn uptime_shows_two_units() {
        let cases = [
            (999, "0s"),
            (42_000, "42s"),
            (187_000, "3m07s"),
            (18_120_000, "5h02m"),
            (1_051_200_000, "12d4h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(uptime(ms), expected);
        }
    }
}
