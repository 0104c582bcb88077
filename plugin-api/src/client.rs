//! The client of a daemon with types: what `#[daemon_client]` writes its methods with.
//!
//! The schemas of built-in types are constants of the client. Those of its author's types are made at the first connect,
//! with the feature `schema`, and kept. A type without one, or whose `JsonSchema` panics, fits everything.
//!
//! A client owns its connection, and its last clone closes it. So a command may connect each time that it runs, without
//! leaving connections behind. The schemas are compared once for each connection, when it opens. The host makes the
//! connection again after a restart of the daemon, without another comparison: a daemon refuses what it doesn't take.

mod compare;
mod fit;
mod words;

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use crate::crossing::{Received, Sent};
use crate::error::Callee;
use crate::reply::write_json;
use crate::{Ecosystem, Error, Guest, Result, misfit, panic, wire};
use compare::Descriptions;

/// The errors of a daemon that answers no `help` or no `options`. It is called without a comparison.
const UNANSWERED: [&str; 5] = [
    "unknown-command",
    "bad-arguments",
    "failed",
    "denied",
    "timeout",
];

/// A function that makes the schema of a type, if the type has one.
pub type LateSchema = fn() -> Option<Value>;

/// The commands of a client, with the schemas of what it sends and of what it reads.
#[derive(Clone, Copy, Debug)]
pub struct ClientCalls {
    /// JSON in the form of `help`. The schema of an author's own type is `true` in it.
    constant: &'static [u8],
    /// The schemas that only run time knows. `None` without the feature `schema`.
    late: Option<&'static LateSchemas>,
}

/// The schemas of a client that only run time knows: of each command those of the arguments, then that of the result.
#[derive(Debug)]
pub struct LateSchemas {
    functions: &'static [LateSchema],
    /// The schemas that the functions have made. They are made once: a connect runs on a thread of the host.
    made: OnceLock<Vec<Option<Value>>>,
}

impl LateSchemas {
    /// Keeps the functions until the first connect.
    #[must_use]
    pub const fn new(functions: &'static [LateSchema]) -> Self {
        LateSchemas {
            functions,
            made: OnceLock::new(),
        }
    }

    /// Returns the schemas. The panic hook has logged a panic of the author's code, whose type stays unknown.
    fn made(&self) -> &[Option<Value>] {
        let make = |function: &LateSchema| panic::caught(function).ok().flatten();
        self.made
            .get_or_init(|| self.functions.iter().map(make).collect())
    }
}

impl ClientCalls {
    /// Describes the commands of a client as far as the compiler knows them.
    #[must_use]
    pub const fn new(constant: &'static [u8]) -> Self {
        ClientCalls {
            constant,
            late: None,
        }
    }

    /// Adds the schemas that only run time knows.
    #[must_use]
    pub const fn with_late(self, late: &'static LateSchemas) -> Self {
        ClientCalls {
            late: Some(late),
            ..self
        }
    }
}

/// A connection to a daemon. It closes with its last clone.
#[derive(Clone, Debug)]
pub struct DaemonConnection(Arc<OpenConnection>);

#[derive(Debug)]
struct OpenConnection {
    guest: Guest,
    daemon: String,
}

impl DaemonConnection {
    /// Connects to a daemon, and compares it with the commands of a client.
    ///
    /// # Errors
    /// Those of [`Ecosystem::connect`]; or a command is not there, or takes or returns something else.
    pub async fn open(eco: &Ecosystem, daemon: &str, calls: ClientCalls) -> Result<Self> {
        let guest = eco.connect(daemon).await?;
        let connection = DaemonConnection(Arc::new(OpenConnection {
            guest,
            daemon: daemon.to_owned(),
        }));
        let described = connection.described().await?;
        compare::check(daemon, calls, &described)?;
        Ok(connection)
    }

    /// Returns the connection as a guest.
    #[must_use]
    pub fn guest(&self) -> Guest {
        self.0.guest
    }

    /// Sends a command, and waits for its reply.
    ///
    /// # Errors
    /// Those of [`Guest::call`].
    pub async fn call<T: Received>(&self, line: CallLine) -> Result<T> {
        let OpenConnection { guest, daemon } = &*self.0;
        let (line, command) = line.ended();
        let reply = guest.ask(&line, command, &Callee::Daemon(daemon)).await?;
        wire::read_reply(&reply)
            .map_err(|text| Error::new(format!("the reply to {command} of {daemon}: {text}")))
    }

    /// Returns what the daemon describes of its commands.
    async fn described(&self) -> Result<Descriptions> {
        // Every daemon answers `options`. One of another make may pass over a command that it doesn't have, so `help` is
        // asked for only if it is there.
        let options = self.ask("options").await?;
        let has_help = options
            .as_ref()
            .is_some_and(|all| all.get("help").is_some());
        let help = match has_help {
            true => self.ask("help").await?,
            false => None,
        };
        // A fake of a unit test answers `help` with no command at all: it takes whatever the test sends.
        let is_fake = help == Some(Value::Object(Map::new()));
        let options = options.filter(|_| !is_fake);
        Ok(Descriptions { help, options })
    }

    /// Asks for a description. Returns `None` if the daemon has none.
    async fn ask(&self, command: &str) -> Result<Option<Value>> {
        let OpenConnection { guest, daemon } = &*self.0;
        let line = wire::line(command, ())?;
        match guest.ask(&line, command, &Callee::Daemon(daemon)).await {
            // Not by `exact`, which refuses a bound of more than 64 bits. A rounded bound is near enough here.
            Ok(reply) => Ok(serde_json::from_slice::<[Value; 1]>(&reply)
                .ok()
                .map(|[answer]| answer)),
            Err(error) if error.code().is_some_and(|code| UNANSWERED.contains(&code)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.guest.close();
    }
}

/// The line of a call, while its arguments are written.
#[derive(Debug)]
pub struct CallLine {
    command: &'static str,
    bytes: Vec<u8>,
    is_first: bool,
    /// The arguments that are left out unless another one follows.
    absent: usize,
}

impl CallLine {
    /// Begins the line of a command.
    #[must_use]
    pub fn new(command: &'static str) -> Self {
        CallLine {
            command,
            bytes: format!("{command} [").into_bytes(),
            is_first: true,
            absent: 0,
        }
    }

    /// Adds an argument.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn push<T: Sent + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        for _ in 0..std::mem::take(&mut self.absent) {
            self.write(name, &())?;
        }
        self.write(name, value)
    }

    /// Adds an argument that may be left out, if none follows.
    ///
    /// # Errors
    /// Those of [`CallLine::push`].
    pub fn push_optional<T: Sent>(&mut self, name: &str, value: &Option<T>) -> Result<()> {
        match value {
            Some(value) => self.push(name, value),
            None => {
                self.absent += 1;
                Ok(())
            }
        }
    }

    /// Adds each of the values as an argument of its own.
    ///
    /// # Errors
    /// Those of [`CallLine::push`].
    pub fn push_rest<T: Sent>(&mut self, name: &str, values: &[T]) -> Result<()> {
        values.iter().try_for_each(|value| self.push(name, value))
    }

    fn write(&mut self, name: &str, value: &(impl serde::Serialize + ?Sized)) -> Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.bytes.push(b',');
        }
        write_json(&mut self.bytes, value).map_err(|error| {
            let reason = misfit::say(&error.to_string());
            Error::new(format!(
                "the argument {name} of {} can't be sent: {reason}",
                self.command
            ))
        })
    }

    fn ended(mut self) -> (Vec<u8>, &'static str) {
        self.bytes.push(b']');
        (self.bytes, self.command)
    }
}

#[cfg(all(test, feature = "schema"))]
mod own_types;
#[cfg(test)]
mod tests;
