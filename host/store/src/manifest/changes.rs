//! Compares the commands of two plugin files, to show what guests will notice. Pure functions.
//!
//! A command's name and arguments are compared. Its kind and its doc comment don't count.

use super::{Command, Manifest};
use crate::report::CommandChanges;

/// Returns the changes from `before` to `after`. Each list is in the order of its file.
#[must_use]
pub fn changes(before: &Manifest, after: &Manifest) -> CommandChanges {
    let (before, after) = (&before.commands[..], &after.commands[..]);
    let mut changes = CommandChanges::default();
    for command in after {
        let signature = command.signature();
        match named(before, &command.name).map(Command::signature) {
            None => changes.added.push(signature),
            Some(old) if old != signature => {
                changes.changed.push(format!("{signature}, before {old}"));
            }
            Some(_) => {}
        }
    }
    let has_gone = |command: &&Command| named(after, &command.name).is_none();
    let gone = before.iter().filter(has_gone);
    changes.removed = gone.map(Command::signature).collect();
    changes
}

fn named<'a>(commands: &'a [Command], name: &str) -> Option<&'a Command> {
    commands.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Argument;

    fn command(name: &str, arguments: &[&str]) -> Command {
        let argument = |name: &&str| Argument {
            name: (*name).to_owned(),
            type_name: "number".to_owned(),
            ..Argument::default()
        };
        Command {
            name: name.to_owned(),
            kind: "sync".to_owned(),
            arguments: arguments.iter().map(argument).collect(),
            ..Command::default()
        }
    }

    #[test]
    fn what_came_what_went_and_what_takes_other_arguments() {
        let of = |commands: &[Command]| Manifest {
            commands: commands.to_vec(),
            ..Manifest::default()
        };
        let before = of(&[
            command("stays", &["a"]),
            command("goes", &[]),
            command("grows", &["a"]),
        ]);
        let after = of(&[
            command("comes", &["a"]),
            Command {
                kind: "async".to_owned(),
                timeout_ms: None,
                ..command("stays", &["a"])
            },
            command("grows", &["a", "b"]),
        ]);
        let text = changes(&before, &after).to_string();
        assert_eq!(
            text,
            "added comes(a: number); removed goes(); changed grows(a: number, b: number), before grows(a: number)"
        );
        assert!(changes(&before, &before).is_empty());
    }
}
