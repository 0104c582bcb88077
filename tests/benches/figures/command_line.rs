//! The command line of a bench: flags with numbers, and the exit code.

use std::process::ExitCode;

/// Returns the words behind the program's name, without the flag of cargo. `None`, after a message, if `cargo bench` has not
/// started the bench: `cargo test --benches` runs it without the flag, as a debug build that measures nothing.
pub(crate) fn words(bench: &str) -> Option<Vec<String>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let others: Vec<String> = words
        .iter()
        .filter(|word| *word != "--bench")
        .cloned()
        .collect();
    if others.len() == words.len() {
        eprintln!("{bench} measures under `cargo bench` alone");
        return None;
    }
    Some(others)
}

/// Returns the number behind each flag, or the default that stands beside the flag.
///
/// Returns an error if there is another word, or a value is no number.
pub(crate) fn numbers<const COUNT: usize>(
    words: &[String],
    flags: [(&str, u64); COUNT],
) -> Result<[u64; COUNT], String> {
    let mut found = flags.map(|(_, default)| default);
    for pair in words.chunks(2) {
        let flag = flags.iter().position(|(flag, _)| *flag == pair[0]);
        let number = pair.get(1).and_then(|number| number.parse().ok());
        match (flag, number) {
            (Some(at), Some(number)) => found[at] = number,
            (Some(_), None) => return Err(format!("{} takes a number", pair[0])),
            (None, _) => {
                let known = flags.map(|(flag, _)| format!("{flag} N")).join(" and ");
                return Err(format!("there is {known}, and not {}", pair[0]));
            }
        }
    }
    Ok(found)
}

/// Prints an error, and returns the exit code.
pub(crate) fn end(bench: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{bench}: {reason}");
            ExitCode::FAILURE
        }
    }
}
