//! The states that daemons hand over, between instances and over the life of a host: one file a daemon.
//!
//! A state is the author's JSON with the author's version number; nobody here looks into it. It is kept at a stop, at a
//! reload, and every so often where that is asked for, and is given to the next start. Each write replaces the whole file
//! or leaves it as it was; what the disk doesn't take is held in memory until it does.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::durable::{self, DiskFault};
use crate::home::Home;
use crate::text;

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

/// What lies in the place of a daemon's state.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A state.
    State(KeptState),
    /// Something that can't be read as one.
    Damaged(String),
}

/// The directory of them.
#[derive(Debug, Clone)]
pub(crate) struct States {
    dir: PathBuf,
    /// Those that the disk has not taken: newer than what it has, and written with the next one that it takes.
    unwritten: Arc<Mutex<BTreeMap<String, KeptState>>>,
}

impl States {
    /// Those of a home.
    pub(crate) fn of(home: &Home) -> Self {
        States {
            dir: home.states_dir(),
            unwritten: Arc::default(),
        }
    }

    /// The last one that was kept of that daemon.
    ///
    /// # Errors
    /// It is there, but can't be read. Nobody starts without it by accident.
    pub(crate) fn load(&self, daemon: &str) -> anyhow::Result<Option<KeptState>> {
        if let Some(newest) = self.unwritten().get(daemon) {
            return Ok(Some(newest.clone()));
        }
        let path = self.path_of(daemon);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskFault::new(&error, "read the state", &path).into()),
        };
        let damaged = || {
            format!(
                "the state {} is damaged; --fresh starts without it (`install`, `reload` and `rollback` take it)",
                path.display()
            )
        };
        let text = text::of_file(bytes)
            .map_err(anyhow::Error::msg)
            .with_context(damaged)?;
        let kept = serde_json::from_str(&text).with_context(damaged)?;
        Ok(Some(kept))
    }

    /// As [`States::load`], for one who doesn't start from it: what is damaged is returned as the text that it is.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn find(&self, daemon: &str) -> anyhow::Result<Found> {
        let damaged = match self.load(daemon) {
            Ok(state) => return Ok(state.map_or(Found::Nothing, Found::State)),
            Err(error) if error.is::<DiskFault>() => return Err(error),
            Err(_) => std::fs::read(self.path_of(daemon)),
        };
        Ok(match damaged {
            Ok(bytes) => Found::Damaged(String::from_utf8_lossy(&bytes).into_owned()),
            Err(_) => Found::Nothing,
        })
    }

    /// Keeps it, and with it those that the disk has not taken before.
    ///
    /// # Errors
    /// The disk's; the one of before is still on it then, and this one is found by [`States::load`] for as long as this
    /// process lives.
    pub(crate) fn keep(&self, daemon: &str, state: &KeptState) -> anyhow::Result<()> {
        let mut unwritten = self.unwritten();
        unwritten.insert(daemon.to_owned(), state.clone());
        let written = self.write_all(&mut unwritten);
        match unwritten.contains_key(daemon) {
            true => {
                written.context("it is held in memory meanwhile, and lost if the host is killed")
            }
            false => Ok(()),
        }
    }

    /// Writes what the disk has not taken before, for as long as it takes it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.write_all(&mut self.unwritten())
    }

    fn write_all(&self, unwritten: &mut BTreeMap<String, KeptState>) -> anyhow::Result<()> {
        while let Some(first) = unwritten.first_entry() {
            durable::write(
                &self.path_of(first.key()),
                &serde_json::to_vec(first.get())?,
            )?;
            first.remove();
        }
        Ok(())
    }

    /// No code of others runs under this lock, so a poisoned one is as good as new.
    fn unwritten(&self) -> MutexGuard<'_, BTreeMap<String, KeptState>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn forget(&self, daemon: &str) -> anyhow::Result<()> {
        self.unwritten().remove(daemon);
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
        let path = states.path_of("A");
        let kept_text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("\u{feff}{kept_text}")).unwrap();
        assert!(states.load("A").is_ok(), "a byte order mark is dropped");
        assert_eq!((loaded.generation, loaded.bytes()), (3, 29));
        // A directory in its place stands for a disk that takes nothing.
        std::fs::create_dir(home.states_dir().join("B.json")).unwrap();
        let told = format!("{:#}", states.keep("B", &kept).unwrap_err());
        assert!(told.contains("held in memory"), "{told}");
        assert!(states.load("B").unwrap().is_some(), "it is not lost");
        std::fs::remove_dir(home.states_dir().join("B.json")).unwrap();
        states.settle().unwrap();
        assert!(
            States::of(&home).load("B").unwrap().is_some(),
            "written when it could be"
        );
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
