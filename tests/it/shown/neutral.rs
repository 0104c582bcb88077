//! Output without what differs from run to run: paths, ports, process ids, times, durations, sizes, hashes and versions.
//!
//! Each of them is replaced by an example of its kind, so that a stored text reads like the output of a real home. In a
//! table the columns are then drawn anew, and the cells of the original have to stand below their headings.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

use super::scene::{FILES, Scene};
use dae_tests::artefacts::workspace;

/// The directories of an operator, in place of those of the test.
const HOME: &str = "/home/ada/.local/share/dae";
const DIRECTORY: &str = "/home/ada";
const PROGRAM: &str = "/usr/local/bin/dae-host";
const CLONE: &str = "/home/ada/dae-host";

/// The version of the program and of all plugins.
const VERSION: &str = "0.1.0";

/// The ports of the daemons.
const PORTS: [(&str, &str); 11] = [
    ("Dae", "3502"),
    ("Batch", "33917"),
    ("Clock", "33305"),
    ("Counter", "56751"),
    ("Index", "41423"),
    ("Relay", "35579"),
    ("Sample", "49043"),
    ("Sorter", "33545"),
    ("Weather", "40111"),
    ("Worker", "54993"),
    ("Greeter", "38905"),
];

/// A port that is none of these.
const PORT: &str = "45454";

/// The process ids of the host and of all others.
const PID_OF_HOST: &str = "1264";
const PID: &str = "1301";

/// The first hashes of the files.
const HASHES: [&str; 7] = [
    "0f6d21b7aa93",
    "ebb0cfda5a21",
    "cc62c8349fce",
    "31f94cbfe149",
    "90aa12bd31c4",
    "b2cfbc5bfdf6",
    "7d3a0e415c88",
];

/// The hash of the new file.
const NEW_HASH: &str = "8567478885f3";

/// The lengths at which hashes are cut.
const HASH_LENGTHS: [usize; 3] = [64, 12, 8];

/// Patterns with their replacements, in this order.
static PATTERNS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let pattern = |(pattern, to)| (Regex::new(pattern).expect("a pattern"), to);
    RULES.map(pattern).into_iter().collect()
});

const RULES: [(&str, &str); 32] = [
    (r"\b20\d{6}T\d{6}\.\d{6}Z", "20261130T124857.301442Z"),
    (
        r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z",
        "2026-11-30T12:48:57.301Z",
    ),
    (
        r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        "2026-11-30T12:48:57Z",
    ),
    (r"\b20\d\d-\d\d-\d\d \d\d:\d\d UTC", "2026-12-07 12:48 UTC"),
    (r"kept until 20\d\d-\d\d-\d\d\b", "kept until 2026-12-07"),
    (r"(?m)^( ?)\d\d-\d\d \d\d:\d\d:\d\d", "${1}11-30 12:48:57"),
    (r"(?m)^( *)\d\d:\d\d:\d\d\b", "${1}12:48:57"),
    (r"\bin \d+ ms\b", "in 93 ms"),
    (r"\((\d+ ms|\d+\.\d+ s)([,)])", "(9 ms$2"),
    (r", (\d+ ms|\d+\.\d s)([,)])", ", 9 ms$2"),
    (r"next try in [\d.]+ s", "next try in 3412.6 s"),
    (r"restart in [\d.]+ (ms|s|min)\b", "restart in 112 ms"),
    (r"(?m)^(  port +)\d+", "${1}45454"),
    (r"\d+ sockets listen", "26 sockets listen"),
    (r"\bp50 [\d.]+(n|µ|m|s)", "p50 16µ"),
    (r"(?m)^(  uptime +)\d\S*$", "${1}26s"),
    (r"(?m)^(  pid +)\d+$", "${1}1264"),
    (r"\b(pid|process) \d+", "$1 1264"),
    (r"127\.0\.0\.1:\d{5}\b", "127.0.0.1:45454"),
    (r"\bup \d+\w+", "up 26s"),
    (r"CPU [\d.]+%  MEM \S+", "CPU 5.0%  MEM 3.0M"),
    // Cut by a window of `top`.
    (r"127\.0\.0\.1:\d{4}│", "127.0.0.1:5675│"),
    (r"(cargo|took over) [\d.]+ (ms|s)", "$1 9 ms"),
    (r"= [\d.]+ s\b", "= 0.33 s"),
    (r"may have \d+", "may have 20000"),
    (r"tick \[\d+,\d{13}\]", "tick [1,1796044422456]"),
    (
        r"rustc \d+\.\d+\.\d+ \([^)]*\)",
        "rustc 1.95.0 (59807616e 2026-04-14)",
    ),
    (
        r"(?m)^(  needs +).*$",
        "${1}libgcc_s.so.1, libc.so.6, ld-linux-x86-64.so.2",
    ),
    (r"\d+(\.\d+)? (KiB|MiB|GiB)\b", "1.5 MiB"),
    (
        r"in \d+(\.\d+)? s: \d+ a second",
        "in 1.31 s: 15267 a second",
    ),
    (
        r"\b(min|p50|p90|p95|p99|p99\.9|max) [\d.]+ (ns|µs|ms|s)\b",
        "$1 488 µs",
    ),
    (
        r"(?m)^ +[\d.]+ (ns|µs|ms|s) +\d+ █+\n(?:^ +[\d.]+ (?:ns|µs|ms|s) +\d+ ?█*\n)*",
        "   1.0 ms       100 ████████████████████████████\n",
    ),
];

/// The replacements for one scene.
pub(super) struct Neutral {
    /// Texts with their replacements, in this order.
    texts: Vec<(String, String)>,
    /// The ports by their numbers.
    ports: BTreeMap<String, &'static str>,
    pid: String,
}

impl Neutral {
    pub(super) fn of(scene: &Scene) -> Self {
        let ecosystem = &scene.ecosystem;
        let list = ecosystem.cli(&["list", "--json"]);
        let rows: Vec<Value> = serde_json::from_str(&list.stdout).unwrap_or_default();
        let text = |row: &Value, key: &str| row[key].to_string().trim_matches('"').to_owned();
        let port = |row: &Value| {
            let name = text(row, "name");
            let found = PORTS.iter().find(|(of, _)| *of == name);
            (text(row, "port"), found.map_or(PORT, |(_, port)| *port))
        };
        let dae = rows.first().map(|row| text(row, "pid"));
        let mut texts = vec![
            (ecosystem.home().display().to_string(), HOME.to_owned()),
            // The home is that of the user, whom no option has to name it.
            (format!(" --home {HOME}"), String::new()),
            // The fixture that ends itself stands for a plugin with a fault.
            ("Misbehave".to_owned(), "Sorting".to_owned()),
            (
                scene.directory().display().to_string(),
                DIRECTORY.to_owned(),
            ),
            (
                ecosystem.command().get_program().display().to_string(),
                PROGRAM.to_owned(),
            ),
            (workspace().display().to_string(), CLONE.to_owned()),
        ];
        texts.push((env!("CARGO_PKG_VERSION").to_owned(), VERSION.to_owned()));
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        texts.push((target, "x86_64-unknown-linux-gnu".to_owned()));
        texts.extend(hashes(scene));
        Neutral {
            texts,
            ports: rows.iter().map(port).collect(),
            pid: dae.unwrap_or_default(),
        }
    }

    /// Returns the text with its replacements.
    pub(super) fn text(&self, text: &str) -> String {
        let mut lines = Vec::new();
        let mut rest = text.lines().peekable();
        while let Some(line) = rest.next() {
            if !is_heading(line) {
                lines.push(line.to_owned());
                continue;
            }
            let mut table = vec![line];
            while let Some(row) = rest.next_if(|row| !row.trim().is_empty()) {
                table.push(row);
            }
            lines.extend(self.table(&table));
        }
        let end = if text.ends_with('\n') { "\n" } else { "" };
        self.flat(&(lines.join("\n") + end))
    }

    /// Returns the lines of a screen with their replacements. Columns and edges stay where they are.
    pub(super) fn screen(&self, lines: &[String]) -> String {
        let is_table = |line: &&String| line.starts_with(" NAME ");
        let columns = lines.iter().find(is_table).map(|line| ends(line));
        let below = lines.iter().position(|line| line.starts_with('─'));
        let line = |(at, line): (usize, &String)| {
            let mut line: Vec<char> = line.chars().collect();
            let columns = columns.iter().flatten();
            for (column, end) in columns.filter(|_| below.is_none_or(|below| at < below)) {
                let measured = MEASURED.iter().find(|(name, _)| name == column);
                overwrite(&mut line, *end, measured);
            }
            // Behind a window over the facts, the text depends on the length of the process id.
            let is_facts = below.is_some_and(|below| at == below + 1);
            if let Some(edge) = line.iter().rposition(|c| is_facts && *c == '│') {
                line.truncate(edge + 1);
            }
            let line = self.flat(&line.into_iter().collect::<String>());
            // The place of the cut depends on the numbers before it.
            line.strip_suffix('…').map_or(line.clone(), |cut| {
                format!("{}…", cut.trim_end_matches(|c: char| c != ' '))
            })
        };
        let screen: Vec<String> = lines.iter().enumerate().map(line).collect();
        match columns {
            Some(_) => screen.join("\n"),
            None => self.text(&screen.join("\n")),
        }
    }

    fn flat(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        for (port, to) in self
            .ports
            .iter()
            .filter(|(port, _)| port.as_str() != "null")
        {
            for before in ["127.0.0.1:", "port "] {
                text = text.replace(&format!("{before}{port}"), &format!("{before}<{to}>"));
            }
        }
        for (pattern, to) in PATTERNS.iter() {
            text = pattern.replace_all(&text, *to).into_owned();
        }
        static MARKED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"<(\d{4,5})>").expect("a pattern"));
        MARKED.replace_all(&text, "$1").into_owned()
    }

    /// Draws a table anew with its replacements.
    fn table(&self, lines: &[&str]) -> Vec<String> {
        let starts = starts(lines[0]);
        let heading = cells(lines[0], &starts);
        let cell = |(column, cell): (&String, String)| self.cell(column, &cell);
        let row = |line: &&str| -> Vec<String> {
            heading.iter().zip(cells(line, &starts)).map(cell).collect()
        };
        let rows: Vec<Vec<String>> = lines[1..].iter().map(row).collect();
        let all = || std::iter::once(&heading).chain(&rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max();
        let widths: Vec<usize> = (0..heading.len()).filter_map(width).collect();
        let draw = |row: &Vec<String>| {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all().map(draw).collect()
    }

    fn cell(&self, column: &str, cell: &str) -> String {
        let cell = self.flat(cell);
        let is_none = cell == "-";
        match column {
            _ if is_none => cell,
            "PID" if cell == self.pid => PID_OF_HOST.to_owned(),
            "PID" => PID.to_owned(),
            "PORT" => (*self.ports.get(&cell).unwrap_or(&PORT)).to_owned(),
            "UPTIME" => "26s".to_owned(),
            "CPU" => if cell.starts_with('~') {
                "~0.0%"
            } else {
                "2.0%"
            }
            .to_owned(),
            "MEM" => "3.0M".to_owned(),
            "P50" | "P99" => "16µ".to_owned(),
            _ => cell,
        }
    }
}

/// The columns of `top` that hold measurements, with what stands in their place.
const MEASURED: [(&str, &str); 5] = [
    ("P50", "16µ"),
    ("P99", "16µ"),
    ("CPU", "2.0%"),
    ("MEM", "3.0M"),
    ("UPTIME", "26s"),
];

/// Returns the columns of a heading of `top`, whose cells stand at the right, with their ends.
fn ends(heading: &str) -> Vec<(String, usize)> {
    let characters: Vec<char> = heading.chars().collect();
    let is_end =
        |at: &usize| characters[*at] != ' ' && characters.get(at + 1).is_none_or(|c| *c == ' ');
    let column = |at: usize| {
        let word: String = characters[..=at]
            .iter()
            .rev()
            .take_while(|c| **c != ' ')
            .collect();
        (word.chars().rev().collect(), at + 1)
    };
    (0..characters.len()).filter(is_end).map(column).collect()
}

/// Writes over a measurement that ends there.
fn overwrite(line: &mut [char], end: usize, measured: Option<&(&str, &str)>) {
    let (Some((_, to)), true) = (measured, line.len() >= end) else {
        return;
    };
    let start = line[..end]
        .iter()
        .rposition(|c| *c == ' ')
        .map_or(0, |at| at + 1);
    let cell: String = line[start..end].iter().collect();
    let is_behind = line.get(end).is_none_or(|c| *c == ' ');
    let mark = if cell.starts_with('~') { "~" } else { "" };
    if !is_behind
        || !cell
            .trim_start_matches('~')
            .starts_with(|c: char| c.is_ascii_digit())
    {
        return;
    }
    let to = if mark == "~" { "~0.0%" } else { to };
    let from = start.min(end - to.chars().count());
    line[from..end].fill(' ');
    for (at, character) in (end - to.chars().count()..).zip(to.chars()) {
        line[at] = character;
    }
}

/// Returns the hashes of the files, at each length at which one is shown, with their replacements.
fn hashes(scene: &Scene) -> Vec<(String, String)> {
    let of = |path: &str, example: &str| {
        let bytes = std::fs::read(scene.directory().join(path)).unwrap_or_default();
        let hash = blake3::hash(&bytes).to_hex();
        let whole = example.repeat(6);
        HASH_LENGTHS.map(|length| (hash[..length].to_owned(), whole[..length].to_owned()))
    };
    let files = FILES.iter().zip(HASHES);
    let files = files.flat_map(|((path, _), example)| of(path, example));
    files.chain(of("new/libcounter.so", NEW_HASH)).collect()
}

/// Returns whether a line is the heading of a table.
fn is_heading(line: &str) -> bool {
    static HEADING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[A-Z][A-Z0-9/]*(  +[A-Z][A-Z0-9/]*( [A-Z]+)*)+$").expect("a pattern")
    });
    HEADING.is_match(line)
}

/// Returns the places where the columns begin, in characters.
fn starts(heading: &str) -> Vec<usize> {
    let characters: Vec<char> = heading.chars().collect();
    let begins = |at: &usize| {
        let is_behind_gap = *at == 0 || characters[..*at].ends_with(&[' ', ' ']);
        characters[*at] != ' ' && is_behind_gap
    };
    (0..characters.len()).filter(begins).collect()
}

/// Returns the cells of a line.
///
/// # Panics
/// Panics if a cell doesn't stand below its heading.
#[track_caller]
fn cells(line: &str, starts: &[usize]) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    let ends = starts[1..].iter().copied().chain([usize::MAX]);
    let cell = |(&start, end): (&usize, usize)| {
        let end = end.min(characters.len());
        let start = start.min(end);
        let text: String = characters[start..end].iter().collect();
        let is_in_place =
            !text.starts_with(' ') && (end == characters.len() || text.ends_with("  "));
        assert!(is_in_place, "a cell is not below its heading: {line:?}");
        text.trim_end().to_owned()
    };
    starts.iter().zip(ends).map(cell).collect()
}
