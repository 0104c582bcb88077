//! Files that appear in the drop-in directory, change there and disappear.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dae_tests::{spoil, until};
use serde_json::json;

use super::code::{Worlds, put_file};
use super::patience::patience;
use super::{Driver, Known, TooSlow};
use crate::model::{File, Name, Replacing, Step, World};

/// The time for which the host lets a drop-in file be absent before it uninstalls the daemon.
pub const GONE_MS: u64 = 1_500;

/// The limit for an absent file. After a longer time the host may have taken it for removed.
const AWAY_MAX: Duration = Duration::from_millis(GONE_MS / 2);

impl Driver<'_> {
    pub(super) fn change_dropped(
        &mut self,
        step: &Step,
        (before, after): Worlds<'_>,
    ) -> Result<(), TooSlow> {
        let departures = self.departures();
        self.move_files(step, before)?;
        if !after.is_up {
            return Ok(());
        }
        let name = Name::Recipe;
        match (before.daemons.get(&name), after.daemons.get(&name)) {
            (None, None) => {}
            (Some(_), None) => {
                self.until_departed(departures);
                let Known { ledger, guests, .. } = self.known(name);
                ledger.uninstall();
                guests.expect_closed();
            }
            (None, Some(_)) => {
                self.until_names(after);
                self.until_taken(name, after);
                self.ledger(name).install(before.departed.is_some());
                self.begin(name, after);
            }
            (Some(old), Some(new)) => {
                let file = after.dropped.map(|(file, _)| self.dropped(file));
                self.until_status(name, "is of the file", |status| {
                    status["source"] == json!(file) && !is_gone(status)
                });
                self.until_taken(name, after);
                let is_taken = old.version != new.version || old.taken != new.taken;
                if after.running(name).is_some() && is_taken {
                    self.ledger(name).maybe_hand_over();
                }
            }
        }
        Ok(())
    }

    fn move_files(&self, step: &Step, before: &World) -> Result<(), TooSlow> {
        let (old, _) = before.dropped.unwrap_or((File::First, 0));
        match *step {
            Step::DropIn { file, version } => {
                put_file(
                    &self.dropped(file),
                    self.plugin.bytes(version),
                    Replacing::InPlace,
                );
            }
            Step::ReplaceDropIn { version, how } => {
                let began = Instant::now();
                put_file(&self.dropped(old), self.plugin.bytes(version), how);
                if how == Replacing::InTwoSteps && began.elapsed() > AWAY_MAX {
                    return Err(TooSlow);
                }
            }
            Step::RenameDropIn => {
                let renamed = fs::rename(self.dropped(old), self.dropped(old.other()));
                renamed.expect("our own file");
            }
            _ => fs::remove_file(self.dropped(old)).expect("our own file"),
        }
        Ok(())
    }

    /// Returns how often the host has logged that the drop-in is uninstalled.
    pub(super) fn departures(&self) -> usize {
        let told = format!("{} is uninstalled; ", Name::Recipe);
        self.ecosystem.stderr().matches(&told).count()
    }

    /// Waits until the host has logged it once more. The daemon disappears from `list` before its state is saved.
    pub(super) fn until_departed(&self, before: usize) {
        until(patience(), "the drop-in is uninstalled", || {
            self.departures() > before
        });
    }

    fn dropped(&self, file: File) -> PathBuf {
        self.ecosystem.home().join("plugins").join(file.as_str())
    }

    /// Waits until the host has processed all files as they are now. The host logs a file that is not a plugin as soon
    /// as it sees it. Everything it sees together with the first such file is processed before it sees the second.
    pub(super) fn until_looked(&self) {
        let plugins = self.ecosystem.home().join("plugins");
        for _ in 0..2 {
            let name = format!("looked-{}.so", self.ecosystem.stderr().len());
            let file = spoil::write(&plugins, &name, b"no plugin");
            until(patience(), "the host looks at its files", || {
                self.ecosystem.stderr().contains(&name)
            });
            fs::remove_file(file).expect("our own file");
        }
    }
}

fn is_gone(status: &serde_json::Value) -> bool {
    let note = status["source_note"].as_str().unwrap_or_default();
    note.starts_with("gone")
}
