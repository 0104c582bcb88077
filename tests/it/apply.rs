//! `dae-host apply` and `export`: daemons as a file declares them.

use std::path::PathBuf;

use dae_tests::{Ecosystem, free_port};
use serde_json::{Value, json};

struct Declared {
    ecosystem: Ecosystem,
    file: PathBuf,
}

impl Declared {
    fn new() -> Self {
        let ecosystem = Ecosystem::start();
        let file = ecosystem.scratch().join("dae.toml");
        for library in ["sample", "counter", "probe"] {
            std::fs::copy(ecosystem.plugin(library), ecosystem.scratch().join(library))
                .expect("a copy of the plugin");
        }
        Declared { ecosystem, file }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).expect("the file");
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["apply", "-f", self.file.to_str().expect("UTF-8")], more].concat()
    }

    /// Runs `apply`, and returns the action of each daemon.
    #[track_caller]
    fn apply(&self, more: &[&str]) -> Vec<(String, String)> {
        let words = [&["--json"], &self.words(more)[..]].concat();
        let outcomes = self.ecosystem.cli(&words).ok().json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let outcomes = outcomes.as_array().expect("an array").iter();
        outcomes
            .map(|one| (text(&one["name"]), text(&one["action"])))
            .collect()
    }

    #[track_caller]
    fn actions(&self, more: &[&str], expected: &[(&str, &str)]) {
        let found = self.apply(more);
        let found: Vec<_> = found
            .iter()
            .map(|(name, action)| (&**name, &**action))
            .collect();
        assert_eq!(found, expected);
    }
}

const TWO: &str = r#"
[daemons.Front]
file = "sample"
after = ["Back"]
[daemons.Back]
file = "counter"
mode = "subprocess"
settings = { restart = { burst_max = 7 } }
"#;

#[test]
fn a_file_is_applied_once_and_again_without_effect() {
    let declared = Declared::new();
    declared.write(TWO);
    let ecosystem = &declared.ecosystem;
    let plan = ecosystem.cli(&declared.words(&["--dry-run"])).ok();
    let lines: Vec<&str> = plan.stdout.lines().collect();
    assert!(
        lines[0].starts_with("+ Back: ") && lines[1].starts_with("+ Front: "),
        "{plan:?}"
    );
    assert!(
        plan.says(&["2 to change, 0 unchanged; nothing was done"]),
        "{plan:?}"
    );
    let _ = ecosystem.cli(&["status", "Front"]).code(4);
    declared.actions(&[], &[("Back", "install"), ("Front", "install")]);
    assert_eq!(ecosystem.status("Back")["mode"], "subprocess");
    declared.actions(&[], &[("Back", "unchanged"), ("Front", "unchanged")]);
    let (back, front) = (ecosystem.status("Back"), ecosystem.status("Front"));
    assert_eq!(
        (&back["generation"], &front["generation"]),
        (&json!(1), &json!(1))
    );
    let again = ecosystem.cli(&declared.words(&[])).ok();
    assert!(
        again.stdout.is_empty() && again.says(&["0 changed, 2 unchanged, 0 failed"]),
        "{again:?}"
    );
}

#[test]
fn changes_take_effect_as_the_plan_says() {
    let declared = Declared::new();
    declared.write(TWO);
    let ecosystem = &declared.ecosystem;
    let _ = declared.apply(&[]);
    let mut guest = ecosystem.guest("Back");
    guest.ask("increment", &json!([5]));
    declared.write(&TWO.replace("burst_max = 7", "burst_max = 8"));
    let plan = ecosystem.cli(&declared.words(&["--dry-run"])).ok().stdout;
    assert_eq!(plan, "~ Back: settings.restart.burst_max: 7 → 8 (reload)\n");
    declared.actions(&[], &[("Back", "change"), ("Front", "unchanged")]);
    assert_eq!(
        guest.ask("increment", &json!([1])),
        6,
        "state and connection stay"
    );
    let port = free_port();
    let with_port = format!("port = {port}\nmode = \"subprocess\"");
    declared.write(&TWO.replace("mode = \"subprocess\"", &with_port));
    let plan = ecosystem.cli(&declared.words(&["--dry-run"])).ok().stdout;
    assert!(
        plan.contains(&format!("→ {port}")) && plan.contains("(restart)"),
        "{plan}"
    );
    let _ = declared.apply(&[]);
    assert_eq!(ecosystem.status("Back")["port"], port);
    assert_eq!(ecosystem.guest("Back").ask("increment", &json!([1])), 7);
    std::fs::copy(ecosystem.plugin("probe"), ecosystem.scratch().join("front"))
        .expect("another plugin");
    let text = std::fs::read_to_string(&declared.file).expect("the file");
    declared.write(&text.replace("file = \"sample\"", "file = \"front\""));
    declared.actions(&[], &[("Back", "unchanged"), ("Front", "change")]);
    assert_eq!(ecosystem.status("Front")["plugin"], "Probe");
    declared.actions(&[], &[("Back", "unchanged"), ("Front", "unchanged")]);
}

#[test]
fn only_what_the_file_had_installed_is_pruned() {
    let declared = Declared::new();
    declared.write(TWO);
    let ecosystem = &declared.ecosystem;
    let _ = ecosystem.install("ByHand", "probe", &[]);
    let _ = declared.apply(&[]);
    declared.write("[daemons.Front]\nfile = \"sample\"\n");
    declared.actions(&[], &[("Front", "change"), ("Back", "left")]);
    let told = ecosystem.cli(&declared.words(&[])).ok();
    assert!(told.says(&["had installed Back; --prune"]), "{told:?}");
    let plan = ecosystem
        .cli(&declared.words(&["--prune", "--dry-run"]))
        .ok();
    assert_eq!(plan.stdout, "- Back\n");
    declared.actions(&["--prune"], &[("Front", "unchanged"), ("Back", "remove")]);
    let _ = ecosystem.cli(&["status", "Back"]).code(4);
    assert_eq!(ecosystem.status("ByHand")["state"], "ready");
}

#[test]
fn one_that_fails_is_told_and_the_others_are_done() {
    let declared = Declared::new();
    declared.write(&format!("{TWO}\n[daemons.Bad]\nfile = \"probe\"\nconfig = {{ wrong = 1 }}\n[daemons.Gone]\nfile = \"nowhere\"\n"));
    let ecosystem = &declared.ecosystem;
    let output = ecosystem.cli(&declared.words(&[])).code(1);
    assert!(
        output.says(&["+ Bad"]) && output.says(&["+ Gone"]),
        "{output:?}"
    );
    assert_eq!(ecosystem.status("Front")["state"], "ready");
    let words = [&["--json"], &declared.words(&[])[..]].concat();
    let outcomes = ecosystem.cli(&words).code(1).json();
    let failed = outcomes
        .as_array()
        .expect("rows")
        .iter()
        .filter(|one| one["error"]["kind"].is_string());
    assert_eq!(failed.count(), 2, "{outcomes}");
}

#[test]
fn an_exported_file_declares_what_is_there() {
    for mode in [&[][..], &["--isolate"]] {
        let declared = Declared::new();
        let ecosystem = &declared.ecosystem;
        let config = r#"{"run_ms": 5, "run": "never"}"#;
        let settings = r#"{"restart": {"burst_max": 3}, "after": ["Plain"]}"#;
        let flags = [mode, &["--config", config, "--settings", settings]].concat();
        let _ = ecosystem.install("Rich", "probe", &flags);
        let _ = ecosystem.install("Plain", "sample", &["--port", &free_port().to_string()]);
        let file = declared.file.to_str().expect("UTF-8");
        let _ = ecosystem.cli(&["export", "-f", file]).ok();
        declared.actions(&[], &[("Plain", "unchanged"), ("Rich", "unchanged")]);
        let refused = ecosystem.cli(&["export", "-f", file]).code(1);
        assert!(refused.says(&["dae.toml"]), "{refused:?}");
        let text = ecosystem.cli(&["export"]).ok().stdout;
        assert_eq!(text, std::fs::read_to_string(file).expect("the file"));
        let _ = ecosystem.cli(&["uninstall", "--all"]).ok();
        declared.actions(&[], &[("Plain", "install"), ("Rich", "install")]);
        let rich = ecosystem.cli(&["--json", "config", "Rich"]).ok().json();
        assert_eq!(
            rich["config"],
            serde_json::from_str::<Value>(config).expect("JSON")
        );
        assert_eq!(
            rich["given"],
            serde_json::from_str::<Value>(settings).expect("JSON")
        );
    }
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let mut declared = Declared::new();
    for (text, told) in [
        (
            "[daemons.A]\nprot = 1\nfile = 'sample'",
            "did you mean `port`?",
        ),
        ("[daemons.A", "dae.toml"),
        ("[daemons.A]\nfile = 'sample'\nafter = ['A']", "circle"),
        (
            "[daemons.A]\nfile = 'sample'\nsettings = { restart = { burst_maxx = 1 } }",
            "burst_max",
        ),
    ] {
        declared.write(text);
        let output = declared.ecosystem.cli(&declared.words(&[])).code(1);
        assert!(output.says(&[told]), "{output:?}");
    }
    let output = declared
        .ecosystem
        .cli(&["apply", "-f", "/nowhere.toml"])
        .code(1);
    assert!(output.says(&["/nowhere.toml"]), "{output:?}");
    declared.write(TWO);
    declared.ecosystem.stop();
    let _ = declared.ecosystem.cli(&declared.words(&[])).code(7);
    let _ = declared.ecosystem.cli(&["export"]).code(7);
}

#[test]
fn a_dry_run_finds_what_the_host_would_refuse() {
    let declared = Declared::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    std::fs::write(declared.ecosystem.scratch().join("text"), "no plugin").expect("a file");
    for (text, told) in [
        ("[daemons.A]\nfile = \"nothing\"\n".to_owned(), "nothing"),
        ("[daemons.A]\nfile = \"text\"\n".to_owned(), "plugin"),
        (
            format!("[daemons.A]\nfile = \"sample\"\nport = {port}\n"),
            "can't be had",
        ),
        (
            "[daemons.Back]\nfile = \"sample\"\nafter = [\"Bakc\"]\n".to_owned(),
            "did you mean Back?",
        ),
        (
            "[daemons.A]\nfile = \"sample\"\nport = 4\n[daemons.B]\nfile = \"sample\"\nport = 4\n"
                .to_owned(),
            "declared for A and for B",
        ),
        ("[daemons.A]\nfile = \n".to_owned(), "line 2 is no TOML"),
        (
            "[daemons.A]\nfile = \"sample\"\nport = \"x\"\n".to_owned(),
            "port: ",
        ),
    ] {
        declared.write(&text);
        let output = declared
            .ecosystem
            .cli(&declared.words(&["--dry-run"]))
            .code(1);
        assert!(output.says(&[told]), "{text}: {output:?}");
        let is_foreign = ["invalid type", "TOML parse error"];
        assert!(!output.says(&is_foreign), "{text}: {output:?}");
    }
    declared.write("[daemons.A]\nfile = \"sample\"\n");
    let _ = declared.ecosystem.cli(&declared.words(&["--dry-run"])).ok();
}

#[test]
fn one_apply_of_a_home_runs_at_a_time() {
    let declared = Declared::new();
    declared.write("[daemons.A]\nfile = \"sample\"\n");
    let lock = std::fs::File::create(declared.ecosystem.home().join("run/apply.lock"));
    let lock = lock.expect("a file of the home");
    lock.lock().expect("the lock");
    let output = declared.ecosystem.cli(&declared.words(&[])).code(1);
    assert!(output.says(&["another `apply`"]), "{output:?}");
    let _ = declared.ecosystem.cli(&declared.words(&["--dry-run"])).ok();
    drop(lock);
    declared.actions(&[], &[("A", "install")]);
}

/// Runs `apply -f -` with that text as its standard input.
#[track_caller]
fn apply_input(ecosystem: &Ecosystem, text: &str, more: &[&str]) -> dae_tests::Output {
    let file = ecosystem.scratch().join("input");
    std::fs::write(&file, text).expect("a file of our own");
    let input = std::fs::File::open(&file).expect("a file of our own");
    let mut command = ecosystem.command();
    command
        .args(["apply", "-f", "-"])
        .args(more)
        .current_dir(ecosystem.scratch())
        .stdin(input);
    dae_tests::program::run(&mut command, dae_tests::LIMIT)
}

#[test]
fn standard_input_declares_daemons_too_and_prunes_none() {
    let declared = Declared::new();
    let ecosystem = &declared.ecosystem;
    let preview = apply_input(ecosystem, TWO, &["--dry-run"]).ok();
    assert!(preview.stdout.contains("+ Front: "), "{preview:?}");
    assert_eq!(ecosystem.names(), ["Dae"]);
    let _ = apply_input(ecosystem, TWO, &[]).ok();
    assert_eq!(ecosystem.names(), ["Dae", "Back", "Front"]);
    let one = "[daemons.Back]\nfile = \"counter\"\n";
    let rows = apply_input(ecosystem, one, &["--json"]).ok().json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    let output = apply_input(ecosystem, one, &["--prune"]).code(2);
    assert!(output.says(&["standard input is no file"]), "{output:?}");
    assert_eq!(ecosystem.names(), ["Dae", "Back", "Front"]);
    let config = ecosystem.cli(&["--json", "config", "Back"]).ok().json();
    assert_eq!(config["applied_from"], json!(null));
    let output = apply_input(ecosystem, "[daemons.A", &[]).code(1);
    assert!(
        output.says(&["standard input is not as expected"]),
        "{output:?}"
    );
}
