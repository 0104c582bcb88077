//! Replies in parts, in both modes: who gets parts, who gets a whole reply, and what ends them.

mod asked;
mod cli;
mod earlier;
mod ends;
mod whole;

use dae_tests::{Ecosystem, Guest};

/// The names of the two daemons, and their flags of `install`.
const MODES: [(&str, &[&str]); 2] = [("Here", &[]), ("Apart", &["--isolate"])];

/// The line by which a guest asks for parts.
const ASKS: &str = "dae [{\"parts\":true}]\n";

/// Runs a test on each of both daemons of one host.
fn both(test: impl Fn(&Ecosystem, &str, Guest)) {
    let mut ecosystem = Ecosystem::start();
    for (name, flags) in MODES {
        let guest = ecosystem.install(name, "parts", flags);
        test(&ecosystem, name, guest);
    }
    ecosystem.stop();
}

/// Sends a command, and returns the next line.
fn line(guest: &mut Guest, sent: &str) -> String {
    guest.send(format!("{sent}\n"));
    guest.line()
}

/// Returns the line of a part of `count`.
fn part(tag: &str, command: &str, item: impl std::fmt::Display) -> String {
    format!("part#{tag} [{{\"command\":\"{command}\",\"item\":{item}}}]")
}
