//! `run --metrics`: the numbers that it shows, the requests that it answers, and the addresses that it refuses.
//!
//! A small HTTP client is part of the tests, so that they see the bytes as a scraper does.

mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use dae_tests::artefacts::workspace;
use dae_tests::{Ecosystem, Guest, LIMIT, process, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::detach::Detached;

/// Flags of `install` for each mode, and the mode's name.
const MODES: [(&[&str], &str); 2] = [(&[], "in-process"), (&["--isolate"], "subprocess")];

/// A time that is longer than any test (ms).
const FOR_EVER_MS: u64 = 3_600_000;

/// The histogram of a command.
const DURATION: &str = "dae_command_duration_seconds";
const DURATION_COUNT: &str = "dae_command_duration_seconds_count";
/// A histogram's bound below the 30 ms that a command of a test takes.
const BELOW_30_MS: &str = "0.016777216";

/// Starts a host that serves metrics on a free port, and returns the address.
#[track_caller]
fn measured(config: &Value) -> (Ecosystem, SocketAddr) {
    let mut ecosystem = Ecosystem::asleep();
    ecosystem.configure(config);
    ecosystem.wake(&["--metrics", "127.0.0.1:0"]);
    let address = address_of(&ecosystem);
    (ecosystem, address)
}

/// Returns the address that the host names in its log.
#[track_caller]
fn address_of(ecosystem: &Ecosystem) -> SocketAddr {
    until_some(LIMIT, "the log names the address", || {
        let log = ecosystem.logged("Dae").join("\n");
        let (_, after) = log.split_once("metrics are served on http://")?;
        let (address, _) = after.split_once("/metrics")?;
        address.parse().ok()
    })
}

/// Sends bytes, and returns the status and the whole answer.
#[track_caller]
fn exchange(address: SocketAddr, bytes: &str) -> (u16, String) {
    let mut stream = connect(address);
    stream
        .write_all(bytes.as_bytes())
        .expect("an open connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
        answer,
    )
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the metrics' port listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream
}

#[track_caller]
fn request(address: SocketAddr, line: &str, host: &str) -> (u16, String) {
    exchange(address, &format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

/// Returns the metrics' text.
#[track_caller]
fn text(address: SocketAddr) -> String {
    let (status, answer) = request(address, "GET /metrics", &address.to_string());
    assert_eq!(status, 200, "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    body.to_owned()
}

/// The samples of one scrape, by name and labels as they are written.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    #[track_caller]
    fn of(address: SocketAddr) -> Self {
        let text = text(address);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        let scrape = Scrape(samples.map(sample).collect());
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(scrape.0.len(), lines, "a series is written once:\n{text}");
        scrape
    }

    /// Returns a sample of the daemon `Probe`; `labels` are those after its name.
    fn probe(&self, name: &str, labels: &str) -> Option<f64> {
        let series = format!("{name}{{daemon=\"Probe\"{labels}}}");
        self.0.get(&series).copied()
    }

    /// Returns the sum over the commands of `Probe`.
    fn all_commands(&self, name: &str) -> f64 {
        let start = format!("{name}{{daemon=\"Probe\",command=");
        let all = self
            .0
            .iter()
            .filter(|(series, _)| series.starts_with(&start));
        all.map(|(_, value)| value).sum()
    }

    /// Returns the buckets of a command of `Probe`, in the order of their bounds.
    fn buckets(&self, command: &str) -> Vec<(f64, f64)> {
        let before = format!("{DURATION}_bucket{{daemon=\"Probe\",command=\"{command}\",le=\"");
        let bucket = |(series, count): (&String, &f64)| {
            let bound = series.strip_prefix(&before)?.strip_suffix("\"}")?;
            Some((bound.parse().expect("a number"), *count))
        };
        let mut buckets: Vec<(f64, f64)> = self.0.iter().filter_map(bucket).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }

    fn names(&self) -> BTreeSet<&str> {
        let series = self.0.keys();
        series
            .map(|one| one.split('{').next().unwrap_or(one))
            .collect()
    }
}

/// Waits until the samples of `Probe` have these values.
#[track_caller]
fn until_probe(address: SocketAddr, expected: &[(&str, &str, f64)]) {
    let mut seen = Vec::new();
    let values = |scrape: &Scrape| -> Vec<Option<f64>> {
        let value = |(name, labels, _): &(&str, &str, f64)| scrape.probe(name, labels);
        expected.iter().map(value).collect()
    };
    let wanted: Vec<Option<f64>> = expected.iter().map(|(.., value)| Some(*value)).collect();
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        seen = values(&Scrape::of(address));
        if seen == wanted {
            return;
        }
    }
    panic!("seen {seen:?}, expected {expected:?}");
}

#[track_caller]
fn install(ecosystem: &Ecosystem, flags: &[&str], settings: &Value) -> Guest {
    let settings = settings.to_string();
    ecosystem.install(
        "Probe",
        "probe",
        &[flags, &["--settings", &settings]].concat(),
    )
}

#[test]
fn commands_are_counted_in_both_modes() {
    for (flags, mode) in MODES {
        let (ecosystem, address) = measured(&json!({}));
        let mut guest = install(&ecosystem, flags, &json!({}));
        let before = Scrape::of(address);
        let [calls, errors] = ["dae_commands_total", "dae_command_errors_total"];
        let calls_before = before.probe(calls, "").expect("each daemon has a count");
        assert_eq!(before.all_commands(errors), 0.0);
        for number in 0..5 {
            assert_eq!(guest.ask("echo", &json!([number])), number);
        }
        assert_eq!(guest.ask("slow", &json!([30])), 30);
        let _ = guest.ask_in_vain("echo", &json!([]));
        let _ = guest.ask_in_vain("nonsense", &json!([]));
        until_probe(
            address,
            &[
                (calls, "", calls_before + 8.0),
                (errors, ",command=\"echo\"", 1.0),
                (errors, ",command=\"\"", 1.0),
                (errors, ",command=\"slow\"", 0.0),
                ("dae_guests", "", 1.0),
                ("dae_daemon_up", "", 1.0),
                ("dae_daemon_state", ",state=\"ready\"", 1.0),
                (DURATION_COUNT, ",command=\"echo\"", 6.0),
                (DURATION_COUNT, ",command=\"slow\"", 1.0),
            ],
        );
        let scrape = Scrape::of(address);
        let status = ecosystem.cli(&["status", "Probe", "--json"]).ok().json();
        assert_eq!(scrape.probe(calls, ""), status["calls"].as_f64());
        assert_eq!(scrape.all_commands(DURATION_COUNT), calls_before + 8.0);
        let version = status["version"].as_str().expect("a version");
        let info = format!(",plugin=\"Probe\",version=\"{version}\",mode=\"{mode}\"");
        assert_eq!(scrape.probe("dae_daemon_info", &info), Some(1.0), "{info}");
        check_histograms(&scrape);
        drop(guest);
        until_probe(address, &[("dae_guests", "", 0.0)]);
    }
}

/// Checks the histograms of two commands, one of which took at least 30 ms in its one call.
#[track_caller]
fn check_histograms(scrape: &Scrape) {
    for (command, count) in [("echo", 6.0), ("slow", 1.0)] {
        let buckets = scrape.buckets(command);
        let counts: Vec<f64> = buckets.iter().map(|(_, count)| *count).collect();
        assert!(counts.is_sorted(), "cumulative: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{command}");
    }
    let of_slow = |part: &str, labels: &str| {
        let labels = format!(",command=\"slow\"{labels}");
        scrape.probe(&format!("{DURATION}_{part}"), &labels)
    };
    let below = format!(",le=\"{BELOW_30_MS}\"");
    assert_eq!(of_slow("bucket", &below), Some(0.0));
    let sum = of_slow("sum", "").expect("a sum");
    assert!((0.027..20.0).contains(&sum), "{sum}");
}

#[test]
fn restarts_have_their_reason_and_a_crash_loop_is_down() {
    let policy = json!({
        "on_panic": "restart", "rollback_window_ms": 0,
        "restart": {"burst_max": 2, "backoff_first_ms": 20, "served_ms": FOR_EVER_MS},
    });
    for (flags, mode) in MODES {
        let (ecosystem, address) = measured(&json!({}));
        let mut guest = install(&ecosystem, flags, &policy);
        let restarts = "dae_daemon_restarts_total";
        let (panicked, ended) = (",reason=\"panicked\"", ",reason=\"process-ended\"");
        let _ = guest.ask_in_vain("panic", &json!([]));
        until_probe(
            address,
            &[(restarts, panicked, 1.0), ("dae_daemon_up", "", 1.0)],
        );
        let by_kill = end_once_more(&mut guest, mode);
        let twice = [
            (restarts, panicked, 2.0 - by_kill),
            (restarts, ended, by_kill),
        ];
        until_probe(address, &twice);
        assert_eq!(guest.ask("echo", &json!([1])), 1);
        let _ = guest.ask_in_vain("panic", &json!([]));
        let _ = ecosystem.until_state("Probe", "crash-loop");
        let down = [
            ("dae_daemon_up", "", 0.0),
            ("dae_daemon_state", ",state=\"crash-loop\"", 1.0),
        ];
        until_probe(address, &[&twice[..], &down].concat());
        let scrape = Scrape::of(address);
        assert_eq!(scrape.probe("dae_daemon_state", ",state=\"ready\""), None);
        let status = ecosystem.cli(&["status", "Probe", "--json"]).ok().json();
        assert_eq!(status["restarts"], 2);
    }
}

/// Ends the instance a second time: by a signal if it has a process of its own. Returns how many signals that took.
#[track_caller]
fn end_once_more(guest: &mut Guest, mode: &str) -> f64 {
    if mode == "subprocess" {
        let pid = guest.ask("pid", &json!([])).as_u64().expect("a pid");
        process::signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
        return 1.0;
    }
    let _ = guest.ask_in_vain("panic", &json!([]));
    0.0
}

#[test]
fn a_daemon_that_waits_or_is_stopped_is_down() {
    let policy = json!({
        "on_panic": "restart", "rollback_window_ms": 0,
        "restart": {"backoff_first_ms": FOR_EVER_MS, "backoff_max_ms": FOR_EVER_MS, "served_ms": FOR_EVER_MS},
    });
    for (flags, _) in MODES {
        let (ecosystem, address) = measured(&json!({}));
        let mut guest = install(&ecosystem, flags, &policy);
        let _ = guest.ask_in_vain("panic", &json!([]));
        let restarts = ("dae_daemon_restarts_total", ",reason=\"panicked\"", 0.0);
        let backoff = ("dae_daemon_state", ",state=\"backoff\"", 1.0);
        let down = ("dae_daemon_up", "", 0.0);
        until_probe(address, &[backoff, down, restarts]);
        let _ = ecosystem.cli(&["stop", "Probe"]).ok();
        let stopped = ("dae_daemon_state", ",state=\"stopped\"", 1.0);
        until_probe(address, &[stopped, down, ("dae_guests", "", 0.0)]);
        let _ = ecosystem.cli(&["uninstall", "Probe"]).ok();
        assert_eq!(Scrape::of(address).probe("dae_daemon_up", ""), None);
    }
}

#[test]
fn reloads_are_counted_by_their_outcome() {
    for (flags, _) in MODES {
        let (ecosystem, address) = measured(&json!({}));
        let mut guest = install(&ecosystem, flags, &json!({"on_panic": "restart"}));
        let _ = ecosystem.cli(&["restart", "Probe"]).ok();
        let file = newer(&ecosystem);
        let replace = |config: &str| {
            let words = ["install", "Probe", &file, "--replace", "--config", config];
            ecosystem.cli(&words)
        };
        let _ = replace("{}").ok();
        let _ = replace(r#"{"wrong": 1}"#).code(1);
        let reloads = "dae_reloads_total";
        let (accepted, refused) = (",outcome=\"accepted\"", ",outcome=\"refused\"");
        let rolled_back = ",outcome=\"rolled_back\"";
        until_probe(
            address,
            &[
                (reloads, accepted, 2.0),
                (reloads, refused, 1.0),
                (reloads, rolled_back, 0.0),
            ],
        );
        assert_eq!(guest.ask("echo", &json!([1])), 1);
        let _ = guest.ask_in_vain("panic", &json!([]));
        // The new file is within its rollback window, so the one before comes back.
        until_probe(
            address,
            &[
                (reloads, accepted, 2.0),
                (reloads, refused, 1.0),
                (reloads, rolled_back, 1.0),
            ],
        );
    }
}

/// Returns the path of a file with the same code and another hash.
fn newer(ecosystem: &Ecosystem) -> String {
    let file = ecosystem.scratch().join("libnewer.so");
    let mut bytes = fs::read(ecosystem.plugin("probe")).expect("a plugin");
    bytes.push(0);
    fs::write(&file, bytes).expect("a directory of our own");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_refused_guest_is_counted() {
    let (ecosystem, address) = measured(&json!({"guests_max": 1}));
    let guest = install(&ecosystem, &[], &json!({}));
    let refused = "dae_guests_refused_total";
    until_probe(
        address,
        &[
            (refused, ",reason=\"guests_max\"", 0.0),
            ("dae_guests", "", 1.0),
        ],
    );
    let port = guest.stream().peer_addr().expect("a connection").port();
    let mut second = Guest::connect(port);
    assert!(second.line().contains("too-many-guests"));
    until_probe(
        address,
        &[
            (refused, ",reason=\"guests_max\"", 1.0),
            (refused, ",reason=\"descriptors\"", 0.0),
            ("dae_guests", "", 1.0),
        ],
    );
}

#[test]
fn the_hosts_process_is_measured() {
    let (ecosystem, address) = measured(&json!({}));
    let scrape = Scrape::of(address);
    let value = |name: &str| scrape.0.get(name).copied().unwrap_or(f64::NAN);
    assert!((1e6..1e10).contains(&value("process_resident_memory_bytes")));
    assert!((0.0..1e4).contains(&value("process_cpu_seconds_total")));
    let open = fs::read_dir(format!("/proc/{}/fd", ecosystem.pid())).expect("our child");
    let (open, told) = (open.count() as f64, value("process_open_fds"));
    assert!((told - open).abs() <= 3.0, "{told} of {open}");
    assert!(value("process_max_fds") >= told);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.expect("a clock").as_secs_f64() - value("process_start_time_seconds");
    assert!((-2.0..600.0).contains(&age), "{age}");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        value(&format!("dae_build_info{{version=\"{version}\"}}")),
        1.0
    );
    assert_eq!(value("dae_daemon_up{daemon=\"Dae\"}"), 1.0);
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let (ecosystem, address) = measured(&json!({}));
    let mut guest = install(&ecosystem, &[], &json!({}));
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut promtool) = promtool.spawn() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "promtool is not installed; CI needs it"
        );
        eprintln!("SKIPPED: promtool (Debian's prometheus) is not installed");
        return;
    };
    let mut input = promtool.stdin.take().expect("a pipe");
    input
        .write_all(text(address).as_bytes())
        .expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

#[test]
fn a_host_in_the_background_serves_them_too() {
    let ecosystem = Ecosystem::asleep();
    let words = ["--json", "run", "--detach", "--metrics", "0.0.0.0:0"];
    let refused = ecosystem.cli(&words).code(2);
    assert!(refused.stderr.contains("--metrics-anywhere"), "{refused:?}");
    let words = [&words[..], &["--metrics-anywhere"]].concat();
    let _host = Detached::of(&ecosystem.cli(&words).ok());
    let here = SocketAddr::from(([127, 0, 0, 1], address_of(&ecosystem).port()));
    let served = text(here);
    let _ = ecosystem.cli(&["shutdown"]).ok();
    assert!(served.contains("dae_daemon_up"), "{served}");
}

#[test]
fn an_address_in_use_ends_run_before_daemons_start() {
    let (mut ecosystem, _) = measured(&json!({}));
    let _ = ecosystem.install("Probe", "probe", &[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("a port").to_string();
    // A second host is told what matters more.
    let home = ecosystem.home();
    let home = home.to_str().expect("UTF-8");
    let words = ["run", "--home", home, "--metrics", &address];
    let held = ecosystem.cli(&words).code(6);
    assert!(!held.stderr.contains(&address), "{}", held.stderr);
    ecosystem.stop();
    let refused = ecosystem.cli(&words).code(1);
    let expected = format!("another program listens on {address}, the address of --metrics");
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    let events = ecosystem.cli(&["events", "--json", "-n", "10000"]).ok();
    let events = events.json_lines();
    let starts = events.iter().filter(|one| one["event"] == "host-started");
    assert_eq!(starts.count(), 1, "{events:?}");
    // The home is free again.
    drop(taken);
    ecosystem.wake(&["--metrics", &address]);
    let address = address.parse().expect("an address");
    until_probe(address, &[("dae_daemon_up", "", 1.0)]);
}

#[test]
fn an_address_that_others_reach_is_asked_for_twice() {
    let mut ecosystem = Ecosystem::asleep();
    let refused = ecosystem.cli(&["run", "--metrics", "0.0.0.0:0"]).code(2);
    assert!(
        refused.stderr.contains("--metrics-anywhere"),
        "{}",
        refused.stderr
    );
    let _ = ecosystem.cli(&["run", "--metrics-anywhere"]).code(2);
    for odd in ["nowhere", ":9464", "9464", "::1:9464", "127.0.0.1"] {
        let refused = ecosystem.cli(&["run", "--metrics", odd]).code(2);
        let told = &refused.stderr;
        assert!(told.contains("such as 127.0.0.1:9464"), "{odd}: {told}");
    }
    ecosystem.wake(&["--metrics", "0.0.0.0:0", "--metrics-anywhere"]);
    let port = address_of(&ecosystem).port();
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    until(LIMIT, "the metrics are served", || !text(here).is_empty());
    assert_eq!(request(here, "GET /metrics", "evil.example").0, 403);
}

#[test]
fn the_page_and_the_dashboard_name_what_is_served() {
    let (ecosystem, address) = measured(&json!({}));
    let mut guest = install(&ecosystem, &[], &json!({}));
    assert_eq!(guest.ask("echo", &json!([1])), 1);
    let scrape = Scrape::of(address);
    let served = scrape.names();
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("a page");
    let dashboard = read("host/docs/grafana-dashboard.json");
    let parsed: Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(
        parsed["panels"]
            .as_array()
            .is_some_and(|all| all.len() >= 6)
    );
    let shown = names_in(&dashboard);
    assert!(
        shown.len() >= 6 && shown.is_subset(&served),
        "{shown:?} of {served:?}"
    );
    let page = read("host/docs/operating.md");
    let (_, section) = page.split_once("\n## Metrics\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<&str> = rows.collect();
    let rows = rows.join("\n");
    let without_parts = |name: &&str| {
        let is_part = ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name.ends_with(end));
        !is_part
    };
    let mut expected: BTreeSet<&str> = served.iter().copied().filter(without_parts).collect();
    expected.insert("dae_command_duration_seconds");
    assert_eq!(names_in(&rows), expected, "left: the page, right: the host");
}

/// Returns the words that are names of metrics.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_name = |word: &&str| word.starts_with("dae_") || word.starts_with("process_");
    words.filter(is_name).collect()
}
