//! What may be asked for on the command line.
//!
//! - `--rounds N`, `--seconds S` (a round of one server under one load);
//! - `--only SHAPE`, `--workload NAME`, `--server NAME,NAME`: less of it, as the table names them (`raw` always runs);
//! - `--no-idle`: without the ten thousand connections;
//! - `--page`: no measuring; see [`super::page`].

use std::time::Duration;

use super::Shape;
use super::script::Workload;
use super::servers::{Contender, RAW_LABEL};

/// The least that a median should be taken of.
const ROUNDS_DEFAULT: usize = 5;

/// Long against a scheduler's slice, short enough for five rounds of everything in six minutes.
const ROUND_DEFAULT: Duration = Duration::from_millis(500);

/// See the file's head.
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
    /// Errors: a flag is unknown, or has no value that it can take.
    pub(super) fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options {
            rounds: ROUNDS_DEFAULT,
            round: ROUND_DEFAULT,
            idle: true,
            page: false,
            only: None,
            workload: None,
            servers: None,
        };
        let mut words = arguments.iter().filter(|word| *word != "--bench");
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
            "--workload" => self.workload = Some(value.to_owned()),
            "--server" => self.servers = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "{flag} is unknown; there are --rounds, --seconds, --only, --workload, --server, --no-idle and --page"
                ));
            }
        }
        Ok(())
    }

    /// Whether that server is to be measured.
    pub(super) fn takes(&self, contender: &Contender) -> bool {
        let is_named = |names: &String| names.split(',').any(|name| name == contender.label);
        contender.label == RAW_LABEL || self.servers.as_ref().is_none_or(is_named)
    }

    /// Whether it is to be measured under that load.
    pub(super) fn loads(&self, workload: Workload) -> bool {
        let name = workload.name();
        self.workload.as_ref().is_none_or(|only| only == name)
    }

    /// Whether it is to be measured in that shape.
    pub(super) fn shapes(&self, shape: Shape) -> bool {
        let name = shape.name();
        self.only.as_ref().is_none_or(|only| *only == name)
    }
}
