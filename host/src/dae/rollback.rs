//! The stored versions of a daemon's file, and the rollback between them.
//!
//! Versions form one line, from the newest to the oldest, and one of them runs. `rollback` goes one step towards
//! the oldest and ends there. `--to` goes to any of them, newer ones too. The next installation drops those that
//! are newer than what ran.

use std::sync::Arc;
use std::time::Instant;

use super::carry::ChangeKind;
use super::change::{installed, refused};
use super::{Dae, Fault, Inner};
use crate::supervise::{ChangeStart, DaemonSpec, Replacement};
use dae_store::daemon_state::DaemonState;
use dae_store::registry::{Entry, SetAside};
use dae_store::report::{Installed, RollbackRequest, Version};

/// The shortest prefix of a hash that is accepted, because fewer characters are easily typed by accident.
const PREFIX_CHARS_MIN: usize = 4;

impl Dae {
    /// Goes back to the previous code of a daemon.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name, no previous code, or it doesn't start. The running instance goes
    /// on then.
    pub async fn rollback(&self, name: &str) -> Result<Installed, Fault> {
        let request = RollbackRequest {
            name: name.to_owned(),
            ..RollbackRequest::default()
        };
        self.rollback_with(request).await
    }

    /// Does the same as [`Dae::rollback`], to a chosen version or without the state.
    ///
    /// # Errors
    /// As for [`Dae::rollback`]. Also fails if no stored version has that hash.
    pub async fn rollback_with(&self, request: RollbackRequest) -> Result<Installed, Fault> {
        self.carry_through(|dae, begin| async move {
            let gone_back = dae.rollback_now(&request, &begin).await;
            dae.inner
                .note_outcome(&request.name, ChangeKind::Rollback, &gone_back);
            gone_back
        })
        .await
    }

    async fn rollback_now(
        &self,
        request: &RollbackRequest,
        begin: &Arc<ChangeStart>,
    ) -> Result<Installed, Fault> {
        let (began, name) = (Instant::now(), &request.name);
        let _turn = self.inner.running.turn(name).await;
        let daemon = self.inner.known(name)?;
        self.inner.check_has_file(name, ChangeKind::Rollback)?;
        let (target, from) = self.inner.way_back(request).await?;
        let artefact = Arc::new(self.inner.staging.stored(name, &target).await?);
        let spec = DaemonSpec {
            artefact: Arc::clone(&artefact),
            ..daemon.glance().spec
        };
        let replacement = Replacement::of(spec, from).with_strict(request.strict);
        let done = match daemon.glance().state {
            // It waits for the next start.
            DaemonState::Stopped => daemon.prepare(begin, replacement).await,
            _ => daemon.replace(begin, replacement).await,
        };
        let done = done.map_err(|text| refused(name, &text, &daemon))?;
        let recorded = self.inner.keep(name, |entry| {
            entry.version.clone_from(&artefact.manifest.version);
            entry.plugin.clone_from(&artefact.manifest.name);
            let aside = done.set_aside.clone();
            entry.set_aside = aside.map(|state| SetAside {
                hash: entry.hash.clone(),
                state,
            });
            if entry.hash != target {
                entry.switch_to(&target);
            }
        });
        recorded.await?;
        Ok(installed(&daemon, &artefact, done, began))
    }

    /// Returns the stored versions of a daemon's file, newest first.
    ///
    /// # Errors
    /// Fails if there is no daemon of that name.
    pub async fn versions(&self, name: &str) -> Result<Vec<Version>, Fault> {
        self.inner.known(name)?;
        let entry = self.inner.entry(name)?;
        let mut versions = Vec::new();
        for (at, hash) in entry.stored().enumerate() {
            if entry.is_built_in {
                versions.push(Version {
                    hash: hash.clone(),
                    version: entry.version.clone(),
                    place: place(at, entry.newer.len()).to_owned(),
                    fault: String::new(),
                });
                continue;
            }
            let (version, fault) = match self.inner.staging.stored(name, hash).await {
                Ok(artefact) => (artefact.manifest.version.clone(), String::new()),
                Err(fault) => (String::new(), fault.to_string()),
            };
            let quarantined = entry.quarantined.get(hash);
            versions.push(Version {
                hash: hash.clone(),
                version,
                place: place(at, entry.newer.len()).to_owned(),
                fault: quarantined.map_or(fault, |reason| format!("quarantined: {reason}")),
            });
        }
        Ok(versions)
    }
}

impl Inner {
    pub(super) fn entry(&self, name: &str) -> Result<Entry, Fault> {
        let entry = self.catalogue.entry(name);
        entry.ok_or_else(|| self.unknown(name))
    }
}

fn place(at: usize, newer: usize) -> &'static str {
    match at.cmp(&newer) {
        std::cmp::Ordering::Less => "newer",
        std::cmp::Ordering::Equal => "runs",
        std::cmp::Ordering::Greater => "older",
    }
}

/// Returns the hash to go to: the next older one, or the one with the prefix `to`.
pub(super) fn target(entry: &Entry, to: Option<&str>) -> Result<String, String> {
    let Some(to) = to else {
        return entry
            .previous
            .first()
            .cloned()
            .ok_or_else(|| "there is no older code to go back to".to_owned());
    };
    if to.len() < PREFIX_CHARS_MIN {
        return Err(format!(
            "{to:?} is too short for a hash; give at least {PREFIX_CHARS_MIN} characters of that of a stored version"
        ));
    }
    let mut found = entry.stored().filter(|hash| hash.starts_with(to));
    let hash = match (found.next(), found.next()) {
        (Some(hash), None) => hash,
        (None, _) => {
            return Err(format!(
                "no stored version has a hash that begins with {to:?}"
            ));
        }
        (Some(_), Some(_)) => {
            return Err(format!(
                "more than one stored version begins with {to:?}; give more of it"
            ));
        }
    };
    if *hash == entry.hash {
        return Err(format!("{to} is what it runs already"));
    }
    match entry.quarantined.get(hash) {
        Some(reason) => Err(format!(
            "{to} did not last before ({reason}) and is quarantined; an install with `replace` and `force` installs its file nevertheless"
        )),
        None => Ok(hash.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rollback_ends_at_the_oldest_and_a_hash_names_one_version() {
        let entry = json!({
            "plugin": "A", "version": "1", "hash": "bbbb1", "newer": ["cccc1"], "previous": ["aaaa1", "aaaa2", "dddd1"],
            "quarantined": {"dddd1": "it fell"},
        });
        let mut entry: Entry = serde_json::from_value(entry).unwrap();
        assert_eq!(target(&entry, None).unwrap(), "aaaa1");
        assert_eq!(target(&entry, Some("cccc")).unwrap(), "cccc1");
        assert_eq!(target(&entry, Some("aaaa2")).unwrap(), "aaaa2");
        for (to, part) in [
            ("", "too short"),
            ("ccc", "too short"),
            ("eeee", "no stored version"),
            ("aaaa", "more than one"),
            ("bbbb", "already"),
            ("dddd1", "it fell"),
        ] {
            let text = target(&entry, Some(to)).unwrap_err();
            assert!(text.contains(part), "{to}: {text}");
        }
        entry.previous.clear();
        let text = target(&entry, None).unwrap_err();
        assert!(text.contains("no older code"), "{text}");
    }
}
