//! A guest: one Common TCP connection to this daemon, as the daemon sees it.
//!
//! The value is an id; the connection is the host's. It may be kept for as long as one likes and used from any thread:
//! once the guest has gone, everything answers with an error, and nothing dangles.

use std::fmt;

use serde::Serialize;

use crate::abi::{HostV1, status};
use crate::reply::write_json;
use crate::{Error, Result};

/// One connection to this daemon.
///
/// ```
/// # use dae_plugin_api::prelude::*;
/// # #[derive(Default)] struct Teller;
/// # #[daemon(name = "Teller")] impl Teller {
/// /// Counts to `n`, one event a number.
/// #[command]
/// fn count(&self, guest: Guest, n: u32) -> Result<()> {
///     for i in 1..=n {
///         guest.emit("number", (i,))?;
///     }
///     Ok(())
/// }
/// # }
/// # fn main() {}
/// ```
#[derive(Clone, Copy)]
pub struct Guest {
    host: HostV1,
    id: u64,
}

impl Guest {
    pub(crate) fn new(host: HostV1, id: u64) -> Self {
        Guest { host, id }
    }

    /// A number for this connection; never given twice in the life of a host.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends an event: a line that answers nothing. `arguments` is written as a JSON array: a tuple, a slice, a `Vec`;
    /// a value that isn't one becomes the only argument.
    ///
    /// It returns once the line is queued. A guest that doesn't read is closed as `slow-guest` when 4 MiB wait for it.
    ///
    /// # Errors
    /// The guest has gone, the name is not one (1 to 128 bytes without white space, control characters or `#`), or
    /// the arguments can't be written as JSON.
    pub fn emit(&self, name: &str, arguments: impl Serialize) -> Result<()> {
        let line = event_line(name, &arguments)?;
        match self.host.emit(self.id, &line) {
            status::DONE | status::NOTHING => Ok(()),
            _ => Err(Error::new(format!("guest {} has gone", self.id))),
        }
    }

    /// Whether the connection is still open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let request = self.id.to_string();
        self.host.ask("guest.open", request.as_bytes()).is_ok()
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest({})", self.id)
    }
}

impl PartialEq for Guest {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Guest {}

impl std::hash::Hash for Guest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// The most that a name may have, in bytes (Common TCP).
const NAME_BYTES_MAX: usize = 128;

fn event_line(name: &str, arguments: &impl Serialize) -> Result<Vec<u8>> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if !fits || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(Error::new(format!(
            "{name:?} is no name for an event: 1 to {NAME_BYTES_MAX} bytes without white space, control characters or `#`"
        )));
    }
    let mut line = Vec::with_capacity(name.len() + 16);
    line.extend_from_slice(name.as_bytes());
    line.push(b' ');
    let start = line.len();
    write_json(&mut line, arguments)?;
    match &line[start..] {
        b"null" => line.splice(start.., *b"[]").for_each(drop),
        [b'[', ..] => {}
        _ => {
            line.insert(start, b'[');
            line.push(b']');
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, arguments: impl Serialize) -> String {
        match event_line(name, &arguments) {
            Ok(line) => String::from_utf8(line).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments_are_always_an_array() {
        assert_eq!(line("tick", (7,)), "tick [7]");
        assert_eq!(line("tick", ()), "tick []");
        assert_eq!(line("tick", 7), "tick [7]");
        assert_eq!(line("tick", "a"), "tick [\"a\"]");
        assert_eq!(line("tick", vec![1, 2]), "tick [1,2]");
    }

    #[test]
    fn a_name_that_would_break_the_line_is_refused() {
        for name in ["", "a b", "a\nb", "a#b", &"x".repeat(129)] {
            assert!(line(name, ()).contains("is no name"), "{name:?}");
        }
    }
}
