//! The flags on the command line.
//!
//! - `--rounds N`, `--seconds S` (the time of one server under one load in a round);
//! - `--only SHAPE`, `--workload NAME,NAME`, `--server NAME,NAME`: a selection, with the names in the table (`raw` always
//!   runs). The workloads are `echo`, `add`, `async-now` and `async-1ms`;
//! - `--no-idle`: leaves out the ten thousand connections;
//! - `--page`: measures nothing; see [`super::page`].

use std::time::Duration;

use super::Shape;
use super::script::Workload;
use super::servers::{Contender, RAW_LABEL};

/// Enough rounds for quartiles that two disturbed rounds don't move.
const ROUNDS_DEFAULT: usize = 9;

/// The time of a measurement: long compared with a scheduler's slice, short enough for nine full rounds in a quarter of an hour.
const ROUND_DEFAULT: Duration = Duration::from_millis(500);

/// The parsed flags.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) round: Duration,
    pub(super) idle: bool,
    pub(super) page: bool,
    only: Option<String>,
    workload: Option<String>,
    servers: Option<String>,
}

impl Options {
    /// Returns an error if a flag is unknown, or its value is invalid.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let mut options = Options {
            rounds: ROUNDS_DEFAULT,
            round: ROUND_DEFAULT,
            idle: true,
            page: false,
            only: None,
            workload: None,
            servers: None,
        };
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "--no-idle" => options.idle = false,
                "--page" => options.page = true,
                _ => {
                    let value = words.next().ok_or(format!("{flag} needs a value"))?;
                    options.set(flag, value)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let number = || {
            let number = value.parse::<f64>();
            number.map_err(|error| format!("{flag} {value}: {error}"))
        };
        match flag {
            "--rounds" => self.rounds = number()?.max(1.0) as usize,
            "--seconds" => {
                let round = Duration::try_from_secs_f64(number()?);
                self.round = round.map_err(|error| format!("{flag} {value}: {error}"))?;
            }
            "--only" => self.only = Some(value.to_owned()),
            "--workload" => {
                let is_known = |name: &&str| Workload::ALL.iter().any(|one| one.name() == *name);
                if let Some(unknown) = value.split(',').find(|name| !is_known(name)) {
                    let known = Workload::ALL.map(Workload::name).join(", ");
                    return Err(format!(
                        "there are the workloads {known}, and not {unknown}"
                    ));
                }
                self.workload = Some(value.to_owned());
            }
            "--server" => self.servers = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "{flag} is unknown; there are --rounds, --seconds, --only, --workload, --server, --no-idle and --page"
                ));
            }
        }
        Ok(())
    }

    /// Returns whether the given server is measured.
    pub(super) fn takes(&self, contender: &Contender) -> bool {
        let is_named = |names: &String| names.split(',').any(|name| name == contender.label);
        contender.label == RAW_LABEL || self.servers.as_ref().is_none_or(is_named)
    }

    /// Returns whether the given workload is measured.
    pub(super) fn loads(&self, workload: Workload) -> bool {
        let is_named = |names: &String| names.split(',').any(|name| name == workload.name());
        self.workload.as_ref().is_none_or(is_named)
    }

    /// Returns whether the given shape is measured.
    pub(super) fn shapes(&self, shape: Shape) -> bool {
        let name = shape.name();
        self.only.as_ref().is_none_or(|only| *only == name)
    }
}
