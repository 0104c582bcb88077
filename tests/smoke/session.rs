//! One session with the whole command line, and the texts that a person sees.

use std::path::PathBuf;

use dae_tests::until;
use serde_json::json;

use crate::host::{Host, PATIENT};
use crate::program::{Program, System};

/// A host, and the file of the plugin that the session is about.
struct Session {
    host: Host,
    file: PathBuf,
}

impl Session {
    fn begin(program: &'static Program) -> Self {
        let mut host = Host::asleep(program);
        let line = host.wake();
        let expected = "Dae listens on 0.0.0.0:0, home HOME";
        assert_eq!(host.plain(&line), expected);
        let file = host.scratch(&program.library("counter"));
        host.put("counter", &file, "first");
        Session { host, file }
    }

    /// Runs command lines in which `FILE` stands for the plugin, and compares the output of each.
    #[track_caller]
    fn expect(&self, steps: &[(&str, &str)]) {
        let file = self.host.path(&self.file);
        for (line, expected) in steps {
            let words = line.split(' ').map(|word| match word {
                "FILE" => &file,
                word => word,
            });
            let said = self.host.said(&words.collect::<Vec<_>>());
            let said = said.replace(&self.host.plain(&file), "FILE");
            assert_eq!(said, *expected, "{line}");
        }
    }
}

#[test]
fn a_session_shows_what_each_command_says() {
    let Some(program) = Program::asked() else {
        return;
    };
    let mut session = Session::begin(program);
    session.expect(&BEFORE);
    assert_eq!(session.host.call(&["Counter", "count"]), "5");
    change_the_file(&session);
    session.expect(&AFTER);
    let said = session.host.shut_down().stdout;
    let said = session.host.plain(&said);
    assert_eq!(said, "the host with pid 0 has ended (0 ms)");
    let text = session.host.refused(&["list"], 7);
    let expected =
        "dae-host: no host runs for the home HOME; start one with `dae-host --home HOME run`";
    assert_eq!(text, expected);
}

/// The host sees that the file has changed.
fn change_the_file(session: &Session) {
    let host = &session.host;
    let before = host.status("Counter")["hash"].clone();
    host.put("counter", &session.file, "second");
    until(PATIENT, "the new file runs", || {
        host.status("Counter")["hash"] != before
    });
}

/// The first steps of the session.
const BEFORE: [(&str, &str); 12] = [
    (
        "install FILE",
        "Counter 0.0.0 runs on 0.0.0.0:0 (hash HASH, 0 ms)",
    ),
    ("call Counter increment", "0"),
    ("call Counter increment --by 4", "0"),
    ("list", LIST),
    ("status Counter", STATUS),
    ("state Counter", r#"{"version":0,"data":{"count":0}}"#),
    (
        "reload Counter",
        "accepted Counter generation 0 (HASH, 0 ms, state 0 B)",
    ),
    ("isolate Counter", "Counter is ready (0 ms)"),
    ("embed Counter", "Counter is ready (0 ms)"),
    ("restart Counter", "Counter is ready (0 ms)"),
    ("stop Counter", "Counter is stopped (0 ms)"),
    ("start Counter", "Counter is ready (0 ms)"),
];

/// The steps after the file has changed.
const AFTER: [(&str, &str); 4] = [
    (
        "rollback Counter",
        "accepted Counter generation 0 (HASH, 0 ms, state 0 B)",
    ),
    ("rollback Counter --list", VERSIONS),
    ("logs Counter -n 2", LOGS),
    ("uninstall Counter", UNINSTALLED),
];

/// The output of `list` after the install.
const LIST: &str = "\
NAME VERSION MODE STATE PID PORT UPTIME RESTARTS CALLS
Dae 0.0.0 in-process ready 0 0 0s 0 0
Counter 0.0.0 in-process ready 0 0 0s 0 0";

/// The output of `status` then.
const STATUS: &str = "\
Counter: ready
 plugin Counter 0.0.0
 mode in-process
 pid 0
 address 0.0.0.0:0
 uptime 0s
 generation 0
 restarts 0
 calls 0 (0 answered with an error)
 guests 0
 hash HASH
 source FILE
 state from clean";

/// The output of `rollback --list` after the rollback.
const VERSIONS: &str = "\
HASH VERSION PLACE NOTE
HASH 0.0.0 newer -
HASH 0.0.0 runs -";

/// The output of `uninstall` of a daemon that has a state.
const UNINSTALLED: &str = "\
Counter is uninstalled; its state (0 B) and log are kept until 0-0-0; `dae-host --home HOME install Counter FILE \
--state last` starts from its state, `dae-host --home HOME state Counter --history` shows it";

/// The last lines of the log then.
const LOGS: &str = "\
0-0-0T0:0:0.0Z INFO Counter#0: generation 0 answers
0-0-0T0:0:0.0Z DEBUG Counter#0: ready";

#[test]
fn check_describes_a_plugin_without_a_host() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::asleep(program);
    let file = host.path(&program.plugin("counter"));
    let said = host.said(&["check", &file]);
    // The compiler, the target, the libraries and the features are those of the build.
    let of_build = [" built by ", " target ", " needs ", " schemas "];
    let differs = |line: &&str| of_build.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = said.lines().filter(|line| !differs(line)).collect();
    let expected = [
        "Counter 0.0.0: a daemon that this host can run",
        " about Counts, and goes on counting over reloads.",
        " abi 0 (dae-plugin-api 0.0.0)",
        " panic unwind",
        " commands",
        " increment(by?: integer from 0) One more, or `by` more.",
        " count() The count.",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_preflight_runs_in_a_child_and_the_old_code_survives_its_crash() {
    let Some(program) = Program::asked() else {
        return;
    };
    let host = Host::start(program);
    let mut guest = host.install("Counter", "counter", &[]);
    assert_eq!(guest.ask("increment", &json!([5])), 5);
    let diary = host.scratch("diary");
    let replace = |aborts: bool| {
        let config = json!({"diary": host.path(&diary), "aborts": aborts}).to_string();
        let file = host.path(&program.plugin("tried"));
        host.cli(&[
            "install",
            "Counter",
            &file,
            "--replace",
            "--config",
            &config,
        ])
    };
    let failed = replace(true).code(1);
    let how = match program.system() {
        System::Windows => "its preflight failed: its process ended with 0xC0000409: abort",
        System::Linux => "its preflight failed: its process was killed by signal 6",
    };
    assert!(failed.stderr.contains(how), "{failed:#?}");
    assert_eq!(guest.ask("increment", &json!([])), 6);
    let _ = replace(false).ok();
    assert_eq!(guest.ask("count", &json!([])), 6, "the connection stays");
    let diary = std::fs::read_to_string(diary).expect("the daemon wrote it");
    let lines: Vec<&str> = diary.lines().collect();
    assert_eq!(lines, ["start 6", "stop", "start 6"]);
}

#[test]
fn help_names_what_a_person_of_the_system_knows() {
    let Some(program) = Program::asked() else {
        return;
    };
    let (home, file) = match program.system() {
        System::Windows => ("%DAE_HOME%, or else a directory in %LOCALAPPDATA%", ".dll"),
        System::Linux => ("DAE_HOME", ".so"),
    };
    let help = program.run(&["--help"]).ok().stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(home), "{help}");
    let help = program.run(&["install", "--help"]).ok().stdout;
    assert!(help.contains(file), "{help}");
}
