//! The states that daemons hand over, between instances and over the life of a host: one file a daemon.
//!
//! A state is the author's JSON with the author's version number; nobody here looks into it. It is kept at a stop, at a
//! reload, and every so often where that is asked for, and is given to the next start. Each write replaces the whole file
//! or leaves it as it was.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::durable::{self, DiskFault};
use crate::home::Home;

/// When a state was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Occasion {
    /// The daemon was stopped.
    Stop,
    /// It was time for one.
    Checkpoint,
    /// Another instance took over.
    Reload,
}

/// A state, and when and where it was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptState {
    /// When.
    pub(crate) time: Timestamp,
    /// Why then.
    pub(crate) occasion: Occasion,
    /// Of which instance.
    pub(crate) generation: u64,
    /// `{"version": …, "data": …}`, as it crosses the boundary.
    pub(crate) state: Box<RawValue>,
}

impl KeptState {
    /// Takes a state as the boundary gives it.
    pub(crate) fn of(bytes: &[u8], occasion: Occasion, generation: u64) -> Result<Self, String> {
        let state = serde_json::from_slice(bytes)
            .map_err(|error| format!("its state is not JSON: {error}"))?;
        Ok(KeptState {
            time: Timestamp::now(),
            occasion,
            generation,
            state,
        })
    }

    /// Its length as it crosses, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.get().len() as u64
    }

    /// Where it comes from, for `status`.
    pub(crate) fn origin(&self) -> String {
        let occasion = match self.occasion {
            Occasion::Stop => "the stop",
            Occasion::Checkpoint => "the checkpoint",
            Occasion::Reload => "the reload",
        };
        format!("{occasion} at {:.0}", self.time)
    }
}

/// The directory of them.
#[derive(Debug, Clone)]
pub(crate) struct States {
    dir: PathBuf,
}

impl States {
    /// Those of a home.
    pub(crate) fn of(home: &Home) -> Self {
        States {
            dir: home.states_dir(),
        }
    }

    /// The last one that was kept of that daemon.
    ///
    /// # Errors
    /// It is there, but can't be read. Nobody starts without it by accident.
    pub(crate) fn load(&self, daemon: &str) -> anyhow::Result<Option<KeptState>> {
        let path = self.path_of(daemon);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskFault::new(&error, "read the state", &path).into()),
        };
        let kept = serde_json::from_str(&text).with_context(|| {
            format!(
                "the state {} is damaged; `--fresh` starts without it",
                path.display()
            )
        })?;
        Ok(Some(kept))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The disk's; the one of before is still there then.
    pub(crate) fn keep(&self, daemon: &str, state: &KeptState) -> anyhow::Result<()> {
        let path = self.path_of(daemon);
        durable::write(&path, &serde_json::to_vec(state)?)?;
        Ok(())
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn forget(&self, daemon: &str) -> anyhow::Result<()> {
        let path = self.path_of(daemon);
        match path.exists() {
            true => Ok(durable::remove(&path)?),
            false => Ok(()),
        }
    }

    fn path_of(&self, daemon: &str) -> PathBuf {
        self.dir.join(format!("{daemon}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was_and_a_damaged_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.create().unwrap();
        let states = States::of(&home);
        assert!(states.load("A").unwrap().is_none());
        let kept = KeptState::of(br#"{"version":1,"data":{"n": 5}}"#, Occasion::Stop, 3).unwrap();
        states.keep("A", &kept).unwrap();
        let loaded = states.load("A").unwrap().unwrap();
        assert_eq!(loaded.state.get(), r#"{"version":1,"data":{"n": 5}}"#);
        assert_eq!((loaded.generation, loaded.bytes()), (3, 29));
        std::fs::write(home.states_dir().join("A.json"), "{").unwrap();
        assert!(
            states
                .load("A")
                .unwrap_err()
                .to_string()
                .contains("--fresh")
        );
        states.forget("A").unwrap();
        assert!(states.load("A").unwrap().is_none());
    }
}
