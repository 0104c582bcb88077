//! The plan of `apply`: the declared daemons compared with those of the host. A pure function, but for the hash of each
//! declared file.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::declared::{Declared, DeclaredSet};
use crate::{content_hash, words};
use dae_store::daemon_config::DaemonConfig;
use dae_store::difference::{Difference, differences};
use dae_store::report::{Status, TakesEffect};

/// A daemon that the host has.
#[derive(Debug)]
pub(super) struct PresentDaemon {
    pub(super) status: Status,
    pub(super) config: DaemonConfig,
}

/// The action for one daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PlannedAction {
    /// It is new.
    Install,
    /// It has other values, or its file has other content.
    Change,
    /// It is as declared.
    Unchanged,
    /// An earlier `apply` of the file had installed it, and it is to go.
    Remove,
    /// An earlier `apply` of the file had installed it, and nothing says that it is to go.
    Left,
}

impl PlannedAction {
    pub(super) fn changes(&self) -> bool {
        !matches!(self, PlannedAction::Unchanged | PlannedAction::Left)
    }
}

/// A line of the plan.
#[derive(Debug, Serialize)]
pub(super) struct PlannedDaemon {
    /// The daemon's name.
    pub(super) name: String,
    /// The action.
    pub(super) action: PlannedAction,
    /// The changed values.
    pub(super) changed: Vec<Difference>,
    /// The way in which a change takes effect.
    pub(super) takes_effect: TakesEffect,
    /// True if the code changes, or the file that it comes from.
    #[serde(skip)]
    pub(super) brings_file: bool,
}

/// Formats the line as a person reads plans: `+ New`, `~ Changed: what (how)`, `- Removed`.
impl fmt::Display for PlannedDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<String> = self.changed.iter().map(sentence).collect();
        let (name, changed) = (&self.name, changed.join(", "));
        match self.action {
            PlannedAction::Install => {
                let file = self.changed.first().map(|one| text(one.now.as_ref()));
                write!(f, "+ {name}: {}", file.unwrap_or_default())
            }
            PlannedAction::Change => {
                let how = match self.takes_effect {
                    TakesEffect::Restart => "restart",
                    TakesEffect::NextStart => "from its next start on",
                    TakesEffect::Reload | TakesEffect::Unchanged => "reload",
                };
                write!(f, "~ {name}: {changed} ({how})")
            }
            PlannedAction::Remove => write!(f, "- {name}"),
            PlannedAction::Unchanged | PlannedAction::Left => write!(f, "= {name}"),
        }
    }
}

/// The path of a change of the file's content, whose values are content hashes.
const CONTENT: &str = "content";

/// Returns a change as a person reads it.
fn sentence(one: &Difference) -> String {
    let (before, now) = (text(one.before.as_ref()), text(one.now.as_ref()));
    match (one.path.as_str(), now.as_str()) {
        ("file", now) => format!("file: {before} → {now}"),
        (CONTENT, "-") => "file: can't be read".to_owned(),
        (CONTENT, now) => format!(
            "file content: {} → {}",
            words::short_hash(&before),
            words::short_hash(now)
        ),
        ("port_pinned", _) => "port: pinned".to_owned(),
        _ => one.to_string(),
    }
}

/// Returns a text without its quotes, and `-` for none.
fn text(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str);
    text.unwrap_or("-").to_owned()
}

/// Compares the declared daemons with those of the host. Removals come last.
pub(super) fn plan(
    set: &DeclaredSet,
    present: &[PresentDaemon],
    is_pruned: bool,
) -> Vec<PlannedDaemon> {
    let declared = set.order.iter().filter_map(|name| {
        let declared = set.daemons.get(name)?;
        let found = present.iter().find(|one| one.status.name == *name);
        Some(match found {
            Some(found) => compared(name, declared, found),
            None => new(name, declared),
        })
    });
    let is_ours = |one: &&PresentDaemon| {
        let from = one.config.applied_from.as_deref();
        let is_of_file = from.is_some() && from == set.path.as_deref();
        is_of_file && !set.daemons.contains_key(&one.status.name)
    };
    let gone = present.iter().filter(is_ours).map(|one| PlannedDaemon {
        name: one.status.name.clone(),
        action: match is_pruned {
            true => PlannedAction::Remove,
            false => PlannedAction::Left,
        },
        changed: Vec::new(),
        takes_effect: TakesEffect::Unchanged,
        brings_file: false,
    });
    declared.chain(gone).collect()
}

fn new(name: &str, declared: &Declared) -> PlannedDaemon {
    PlannedDaemon {
        name: name.to_owned(),
        action: PlannedAction::Install,
        changed: vec![difference(
            "file",
            None,
            Some(declared.file.display().to_string()),
        )],
        takes_effect: TakesEffect::Reload,
        brings_file: true,
    }
}

fn compared(name: &str, declared: &Declared, found: &PresentDaemon) -> PlannedDaemon {
    let PresentDaemon { status, config } = found;
    let file = file_changes(declared, status);
    let port = declared.port.map_or(config.port, Some);
    let is_pinned = config.port_pinned || declared.port.is_some();
    let values = |port: Option<u16>, mode, config: &Value, settings: &Value| json!({"port": port, "mode": mode, "config": config, "settings": settings});
    let before = values(config.port, config.mode, &config.config, &config.given);
    let now = values(port, declared.mode(), &declared.config, &declared.settings);
    let mut changed = file.clone();
    changed.extend(differences("", &before, &now));
    if is_pinned != config.port_pinned && port == config.port {
        changed.push(Difference {
            path: "port_pinned".to_owned(),
            before: Some(json!(config.port_pinned)),
            now: Some(json!(is_pinned)),
        });
    }
    let is_down = matches!(status.state.as_str(), "asleep" | "stopped" | "finished");
    let takes_effect = match changed.is_empty() {
        true => TakesEffect::Unchanged,
        false if is_down => TakesEffect::NextStart,
        false if port != config.port => TakesEffect::Restart,
        false => TakesEffect::Reload,
    };
    PlannedDaemon {
        name: name.to_owned(),
        action: match changed.is_empty() {
            true => PlannedAction::Unchanged,
            false => PlannedAction::Change,
        },
        changed,
        takes_effect,
        brings_file: !file.is_empty(),
    }
}

/// Returns the differences between the declared file and the one that is installed. A file that can't be read counts as
/// changed: the host says why it can't.
fn file_changes(declared: &Declared, status: &Status) -> Vec<Difference> {
    let path = declared.file.display().to_string();
    let mut changed = Vec::new();
    if status.source.as_deref() != Some(path.as_str()) {
        changed.push(difference("file", status.source.clone(), Some(path)));
    }
    let hash = content_hash::of_file(&declared.file).ok();
    if hash.as_ref() != Some(&status.hash) {
        changed.push(difference(CONTENT, Some(status.hash.clone()), hash));
    }
    changed
}

fn difference(path: &str, before: Option<String>, now: Option<String>) -> Difference {
    Difference {
        path: path.to_owned(),
        before: before.map(Value::from),
        now: now.map(Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::declared;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn present(name: &str, applied_from: Option<&str>) -> PresentDaemon {
        PresentDaemon {
            status: Status {
                name: name.to_owned(),
                state: "ready".to_owned(),
                ..Status::default()
            },
            config: DaemonConfig {
                name: name.to_owned(),
                source: None,
                port: None,
                port_pinned: false,
                mode: dae_store::report::Mode::InProcess,
                config: json!({}),
                settings: json!({}),
                origins: BTreeMap::new(),
                given: json!({}),
                applied_from: applied_from.map(PathBuf::from),
            },
        }
    }

    #[test]
    fn only_what_the_same_file_had_installed_is_removed_and_only_if_asked() {
        let set = declared::DeclaredSet {
            path: Some(PathBuf::from("/set/dae.toml")),
            daemons: BTreeMap::new(),
            order: Vec::new(),
        };
        let present = [
            present("Ours", Some("/set/dae.toml")),
            present("Others", Some("/other/dae.toml")),
            present("ByHand", None),
        ];
        for (is_pruned, action) in [(true, PlannedAction::Remove), (false, PlannedAction::Left)] {
            let plan = plan(&set, &present, is_pruned);
            let found: Vec<_> = plan
                .iter()
                .map(|one| (one.name.as_str(), one.action))
                .collect();
            assert_eq!(found, [("Ours", action)]);
        }
    }
}
