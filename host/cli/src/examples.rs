//! The examples at the end of each `--help`. A test runs the parser on every line.

use clap::Command;

/// The heading of the examples in a help text.
const HEADING: &str = "Examples:";

/// Command lines without the program's name, each under its command, with a comment or an empty text.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "run",
        &[
            ("run", "in the foreground; Ctrl-C ends it in order"),
            (
                "run --detach",
                "in the background; `dae-host shutdown` ends it",
            ),
            (
                "--home /srv/dae run --log json",
                "another home, a log for programs",
            ),
        ],
    ),
    (
        "new",
        &[
            ("new greeter", "a crate that builds and runs at once"),
            (
                "new greeter --state",
                "a daemon whose state stays over reloads",
            ),
        ],
    ),
    (
        "dev",
        &[
            ("dev greeter", ""),
            ("dev greeter clock --embed", "in the host's own process"),
        ],
    ),
    (
        "install",
        &[
            (
                "install target/release/libsample.so",
                "under the plugin's own name",
            ),
            ("install Counter libcounter.so --port 4000 --isolate", ""),
            (
                "install Counter libcounter.so --replace --config '{\"start\": 5}'",
                "new code and config; port and state stay",
            ),
        ],
    ),
    (
        "uninstall",
        &[
            ("uninstall Counter", "state and log are kept for a week"),
            ("uninstall --purge Counter Clock", ""),
        ],
    ),
    ("start", &[("start Counter Clock", "")]),
    ("stop", &[("stop Counter", "until `start` or `restart`")]),
    (
        "restart",
        &[(
            "restart Counter",
            "also ends a crash loop; connections stay open",
        )],
    ),
    (
        "reload",
        &[
            ("reload Counter", ""),
            (
                "reload Counter --strict",
                "refuses code that breaks a caller",
            ),
        ],
    ),
    (
        "rollback",
        &[
            ("rollback Counter", "to the code before"),
            ("rollback Counter --list", ""),
            ("rollback Counter --to cc62c8349fce", ""),
        ],
    ),
    (
        "state",
        &[
            ("state Counter", ""),
            ("state Counter --history", "with IDs for `install --state`"),
        ],
    ),
    (
        "isolate",
        &[("isolate Sorter", "a crash of it then ends nothing else")],
    ),
    (
        "list",
        &[("list", ""), ("list --json", "with all that is known")],
    ),
    (
        "status",
        &[
            ("status Counter", "code 3 if it is stopped or failed"),
            ("status Dae", "the host itself"),
        ],
    ),
    (
        "options",
        &[("options -v Sample", "with types and time limits")],
    ),
    (
        "call",
        &[
            ("call Sample greet Ada", ""),
            ("call Sample add --b 2 --a 1", "arguments by their names"),
            (
                "call --timeout 5s --raw Sample greet -",
                "the argument from standard input",
            ),
        ],
    ),
    (
        "connect",
        &[
            ("connect Sample", "a prompt; Ctrl-D ends it"),
            (
                "connect Sample < commands.txt",
                "an answer a line; the code is the last one's",
            ),
        ],
    ),
    (
        "client",
        &[("client Counter", "its source goes to standard output")],
    ),
    (
        "logs",
        &[
            ("logs Counter -n 20", ""),
            ("logs -f", "all daemons, until Ctrl-C"),
            (
                "logs Sorter Index --since 10m",
                "two daemons, the last ten minutes",
            ),
            ("logs --level warn --since 8h", "what went wrong last night"),
            ("logs Sorter --grep 'timeout|refused'", ""),
        ],
    ),
    (
        "check",
        &[("check target/release/libsample.so", "runs none of its code")],
    ),
    (
        "graph",
        &[
            ("graph", "who calls whom since the host started"),
            ("graph 'web-*'", "the calls by and to some daemons"),
            ("graph --svg > calls.svg", "as a picture"),
        ],
    ),
    (
        "service",
        &[
            (
                "service install --dry-run",
                "prints the unit, and changes nothing",
            ),
            ("service install", "for this user"),
            (
                "service install --system --user dae",
                "for the machine, as root",
            ),
            ("service status", "code 3 if it doesn't run"),
        ],
    ),
    (
        "doctor",
        &[
            ("doctor", "code 1 if something is to cure"),
            ("doctor --fix", "does the safe cures"),
        ],
    ),
    (
        "completions",
        &[
            (
                "completions bash",
                "in ~/.bashrc: source <(dae-host completions bash)",
            ),
            (
                "completions zsh",
                "in ~/.zshrc: source <(dae-host completions zsh)",
            ),
            (
                "completions fish",
                "in config.fish: dae-host completions fish | source",
            ),
        ],
    ),
    (
        "man",
        &[("man ~/.local/share/man/man1", "then `man dae-host-install`")],
    ),
];

/// Adds the examples to the help texts.
pub(super) fn add(mut program: Command) -> Command {
    for (name, lines) in EXAMPLES {
        program = program.mut_subcommand(name, |command| {
            let before = command.get_after_help().map(ToString::to_string);
            let examples = format!("{HEADING}\n{}", text(lines));
            command.after_help(match before {
                Some(before) => format!("{before}\n\n{examples}"),
                None => examples,
            })
        });
    }
    program
}

fn text(lines: &[(&str, &str)]) -> String {
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let row = |(line, comment): &(&str, &str)| match *comment {
        "" => format!("  dae-host {line}"),
        comment => format!("  dae-host {line:width$}  # {comment}"),
    };
    lines.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a line as a shell does; the examples have no quotes but single ones.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        parts
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn every_example_is_right_usage() {
        for (name, lines) in EXAMPLES {
            for (line, _) in *lines {
                // A shell reads the rest.
                let line = line.split(['<', '>']).next().unwrap_or_default();
                let words = [vec!["dae-host".to_owned()], words(line)].concat();
                let parsed = super::super::definition().try_get_matches_from(&words);
                let parsed = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(parsed.subcommand_name(), Some(*name), "{line}");
            }
        }
    }

    #[test]
    fn a_help_text_shows_its_examples() {
        let mut program = super::super::definition();
        let call = program.find_subcommand_mut("call").expect("call");
        let help = call.render_help().to_string();
        assert!(help.contains("--` ends them"), "{help}");
        assert!(
            help.contains("  dae-host call Sample greet Ada\n"),
            "{help}"
        );
    }
}
