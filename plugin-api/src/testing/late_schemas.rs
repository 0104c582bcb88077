//! The schemas of an author's own types, as a real host adds them to `help`. Most tests ask for no help, so they are made
//! when the first guest does. Without the feature `schema` there are none.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use crate::export::Exported;

/// The schemas of a daemon's commands that only run time knows.
pub struct LateCommands {
    make: fn() -> Vec<LateCommand>,
    made: OnceLock<Vec<LateCommand>>,
}

/// The schemas of a command that only run time knows; `None` for each that is in the manifest or that nothing knows.
#[derive(Debug, Deserialize)]
pub struct LateCommand {
    pub arguments: Vec<Option<Value>>,
    pub result: Option<Value>,
}

impl LateCommands {
    pub fn of<D: Exported>() -> Self {
        LateCommands {
            make: make::<D>,
            made: OnceLock::new(),
        }
    }

    /// Returns them in the order of the manifest. There are none if the author's code panics.
    pub fn made(&self) -> &[LateCommand] {
        self.made.get_or_init(self.make)
    }
}

#[cfg(feature = "schema")]
fn make<D: Exported>() -> Vec<LateCommand> {
    #[derive(Default, Deserialize)]
    struct LateManifest {
        commands: Vec<LateCommand>,
    }

    let described = crate::panic::caught(|| {
        let mut schemas = crate::export::RunTimeSchemas::default();
        D::describe(&mut schemas);
        schemas.to_json()
    });
    let text = described.unwrap_or_default();
    let manifest: LateManifest = serde_json::from_str(&text).unwrap_or_default();
    manifest.commands
}

#[cfg(not(feature = "schema"))]
#[allow(
    clippy::extra_unused_type_parameters,
    reason = "with the feature it is used"
)]
fn make<D: Exported>() -> Vec<LateCommand> {
    Vec::new()
}
