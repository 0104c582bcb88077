//! `list` with its options, and the control command `usage` behind `--wide`.

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::{Value, json};

use crate::discovery::scene;

/// A time that is longer than any test (ms).
const FOR_EVER_MS: u64 = 3_600_000;

/// Daemons in the states that an operator meets, in both modes, and one of another host.
pub(crate) struct Mixed {
    pub(crate) ecosystem: Ecosystem,
    _other: Ecosystem,
}

impl Mixed {
    /// Starts both hosts, and waits until each daemon is in its state.
    pub(crate) fn start() -> Self {
        let other = Ecosystem::start_configured(&json!({"scan_ms": 0}));
        let _guest = other.install("Far", "sample", &[]);
        let ecosystem = scene::host_among(&[other.port_of("Far")]);
        let _guest = ecosystem.install("Here", "probe", &[]);
        let _guest = ecosystem.install("Own", "probe", &["--isolate"]);
        let _guest = ecosystem.install("Still", "sample", &[]);
        let _ = ecosystem.cli(&["stop", "Still"]).ok();
        install_failing(&ecosystem, "Loops", &json!({"burst_max": 0}), &[]);
        let waits = json!({
            "backoff_first_ms": FOR_EVER_MS, "backoff_max_ms": FOR_EVER_MS, "served_ms": FOR_EVER_MS,
        });
        install_failing(&ecosystem, "Waits", &waits, &["--isolate"]);
        assert_eq!(scene::scan(&ecosystem), ["Far"]);
        for (name, state) in [
            ("Here", "ready"),
            ("Own", "ready"),
            ("Still", "stopped"),
            ("Loops", "crash-loop"),
            ("Waits", "backoff"),
        ] {
            ecosystem.until_state(name, state);
        }
        Mixed {
            ecosystem,
            _other: other,
        }
    }
}

/// Installs a daemon whose background work fails at once.
fn install_failing(ecosystem: &Ecosystem, name: &str, restart: &Value, flags: &[&str]) {
    let config = json!({"run": "fail"}).to_string();
    let settings = json!({ "restart": restart }).to_string();
    let flags = [flags, &["--config", &config, "--settings", &settings]].concat();
    let _guest = ecosystem.install(name, "probe", &flags);
}

/// Returns the rows of a table, each as its cells.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

/// Returns the names in the first column.
fn names(table: &str) -> Vec<&str> {
    let rows = cells(table).into_iter().skip(1);
    rows.map(|row| row[0]).collect()
}

/// Returns the row of a daemon.
#[track_caller]
fn row<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    let found = cells(table).into_iter().find(|row| row[0] == name);
    found.unwrap_or_else(|| panic!("no {name} in {table}"))
}

/// Returns the document of a daemon.
#[track_caller]
fn document<'d>(documents: &'d Value, name: &str) -> &'d Value {
    let all = documents.as_array().expect("rows");
    let found = all.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {documents}"))
}

#[test]
fn a_wide_list_shows_what_can_be_known_of_each_daemon() {
    let mixed = Mixed::start();
    let output = mixed.ecosystem.cli(&["list", "--wide"]).ok();
    let table = &output.stdout;
    let heading = cells(table).remove(0);
    assert_eq!(heading[9..], ["GUESTS", "CPU", "MEM"], "{table}");
    for (name, has_cpu, has_memory) in [
        ("Dae", true, true),
        ("Here", true, false),
        ("Own", true, true),
        ("Still", false, false),
        ("Loops", false, false),
        ("Waits", false, false),
        ("Far", false, false),
    ] {
        let row = row(table, name);
        assert_eq!(row.len(), heading.len(), "{table}");
        let (cpu, memory) = (row[10], row[11]);
        assert_eq!(
            (cpu != "-", memory != "-"),
            (has_cpu, has_memory),
            "{table}"
        );
        assert_eq!(cpu.starts_with('~'), name == "Here", "{table}");
    }
}

#[test]
fn the_document_of_a_wide_list_says_how_it_was_measured() {
    let mixed = Mixed::start();
    let documents = mixed
        .ecosystem
        .cli(&["list", "--wide", "--json"])
        .ok()
        .json();
    for (name, kind) in [
        ("Dae", json!("host")),
        ("Here", json!("handlers")),
        ("Own", json!("process")),
        ("Still", Value::Null),
        ("Far", Value::Null),
    ] {
        let document = document(&documents, name);
        assert_eq!(document.get("cpu_kind"), Some(&kind), "{document}");
        assert!(document.get("p99_us").is_some(), "{document}");
    }
    let own = document(&documents, "Own")["memory_bytes"].as_u64();
    assert!(own > Some(100_000), "{documents}");
    // The plain list has none of this.
    let documents = mixed.ecosystem.cli(&["list", "--json"]).ok().json();
    assert!(document(&documents, "Own").get("cpu_kind").is_none());
}

#[test]
fn the_last_line_says_what_needs_attention_and_what_to_ask() {
    let mixed = Mixed::start();
    let ecosystem = &mixed.ecosystem;
    let output = ecosystem.cli(&["list"]).ok();
    let expected = "dae-host: 1 in crash-loop: `dae-host --home";
    assert!(output.stderr.starts_with(expected), "{output:?}");
    for part in [" status Loops`; 1 in backoff: `", " status Waits`\n"] {
        assert!(output.stderr.contains(part), "{output:?}");
    }
    for words in [&["list", "-q"][..], &["list", "--json"]] {
        let output = ecosystem.cli(words).ok();
        assert_eq!(output.stderr, "", "{words:?}");
    }
    for name in ["Loops", "Waits"] {
        let _ = ecosystem.cli(&["stop", name]).ok();
    }
    assert_eq!(ecosystem.cli(&["list"]).ok().stderr, "");
    // A file that is no plugin is refused, and the earlier code runs on.
    let file = ecosystem.scratch().join("libbroken.so");
    std::fs::copy(ecosystem.plugin("sample"), &file).expect("a copy");
    let text = file.to_str().expect("UTF-8");
    let _ = ecosystem.cli(&["install", "Fresh", text]).ok();
    std::fs::write(&file, "no plugin").expect("written");
    let _ = ecosystem.cli(&["reload", "Fresh"]).code(1);
    let output = ecosystem.cli(&["list"]).ok();
    let expected = "1 whose newest file was refused: `";
    assert!(output.stderr.contains(expected), "{output:?}");
}

#[test]
fn a_list_is_sorted_by_the_column_that_is_asked_for() {
    let mixed = Mixed::start();
    let ecosystem = &mixed.ecosystem;
    let mut guests: Vec<_> = (0..3).map(|_| ecosystem.guest("Own")).collect();
    for guest in &mut guests {
        assert_eq!(guest.ask("echo", &json!([1])), 1);
    }
    let sorted = |column: &str| ecosystem.cli(&["list", "--sort", column, "-q"]).ok().stdout;
    let by_name = ["Dae", "Here", "Loops", "Own", "Still", "Waits", "Far"];
    assert_eq!(names(&sorted("name")), by_name);
    let by_state = ["Dae", "Loops", "Waits", "Still", "Here", "Own", "Far"];
    assert_eq!(names(&sorted("state")), by_state);
    for column in ["calls", "guests", "mem"] {
        assert_eq!(names(&sorted(column))[..2], ["Dae", "Own"], "{column}");
    }
    assert_eq!(cells(&sorted("cpu"))[0].last(), Some(&"MEM"));
    let documents = ecosystem
        .cli(&["list", "--sort", "state", "--json"])
        .ok()
        .json();
    let documents = documents.as_array().expect("rows").iter();
    let names: Vec<_> = documents
        .map(|one| one["name"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(names, by_state);
    let wrong = ecosystem.cli(&["list", "--sort", "colour"]).code(2);
    for name in [
        "name", "cpu", "mem", "guests", "restarts", "uptime", "state",
    ] {
        assert!(wrong.stderr.contains(name), "{name}: {wrong:?}");
    }
}

#[test]
fn a_watched_list_goes_on_through_the_end_of_its_host() {
    let mut ecosystem = Ecosystem::start();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    let errors = ecosystem.scratch().join("errors");
    let mut command = ecosystem.command();
    command.args(["list", "--watch"]);
    command.stderr(std::fs::File::create(&errors).expect("a file"));
    let mut watch = dae_tests::Running::start(&mut command);
    for _ in 0..2 {
        assert!(watch.line(LIMIT).starts_with("NAME"));
        assert!(watch.line(LIMIT).starts_with("Dae"));
        assert!(watch.line(LIMIT).starts_with("Sample"));
        assert_eq!(watch.line(LIMIT), "");
    }
    ecosystem.stop();
    until(LIMIT, "it says so", || {
        let text = std::fs::read_to_string(&errors).expect("a file");
        text == "dae-host: the host has ended; the table is shown again once one runs\n"
    });
    ecosystem.wake(&[]);
    let _ = watch.line_with("Sample", LIMIT);
    // Without a host at its start, it fails as `list` does.
    ecosystem.stop();
    let _ = ecosystem.cli(&["list", "--watch"]).code(7);
}

#[test]
fn a_handler_that_holds_a_thread_shows_and_rates_are_those_of_the_window() {
    let ecosystem = Ecosystem::start();
    let mut here = ecosystem.install("Here", "probe", &[]);
    let mut own = ecosystem.install("Own", "probe", &["--isolate"]);
    let mut control = ecosystem.control();
    let mut usage = |window_ms: u64| {
        control.send("usage", &json!({ "window_ms": window_ms }));
        control.reply()
    };
    here.send("block [6000]\n");
    until(LIMIT, "the handler shows", || {
        let rows = usage(200).expect("an answer");
        let row = document(&rows, "Here").clone();
        assert_eq!(row["cpu_kind"], "handlers", "{row}");
        assert_eq!(row["memory_bytes"], Value::Null, "{row}");
        row["cpu_percent"].as_f64() > Some(90.0)
    });
    here.expect("block [6000]");
    let rows = usage(100).expect("an answer");
    assert_eq!(document(&rows, "Here")["cpu_percent"], 0.0, "{rows}");
    assert_eq!(document(&rows, "Here")["p50_us"], Value::Null, "{rows}");
    // The replies come within the window, whatever the machine does meanwhile.
    control.send("usage", &json!({"window_ms": 1000}));
    for _ in 0..100 {
        assert_eq!(own.ask("echo", &json!([1])), 1);
    }
    let rows = control.reply().expect("an answer");
    let row = document(&rows, "Own");
    assert_eq!(row["cpu_kind"], "process", "{row}");
    assert!(row["calls_per_s"].as_f64() > Some(0.0), "{row}");
    assert!(row["p50_us"].as_f64() <= row["p99_us"].as_f64(), "{row}");
    control.send("usage", &json!({"window_ms": 0}));
    let rows = control.reply().expect("an answer");
    assert_eq!(document(&rows, "Own")["cpu_percent"], Value::Null, "{rows}");
    control.send("usage", &json!({"window_ms": 10_001}));
    let fault = control.reply().expect_err("too long");
    assert!(fault.message.contains("at most 10000"), "{fault:?}");
}
