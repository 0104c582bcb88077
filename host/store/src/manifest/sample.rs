//! The smallest plugin, for tests: a manifest and a library that has it.

pub(crate) use crate::os::sample_library::{
    MACHINE_AT, MANIFEST_AT, OTHER_MACHINE, OTHER_TYPES, SECTION, TYPE_AT, library,
};

/// A manifest that every host accepts.
pub(crate) const MANIFEST: &str = r#"{"name":"Sample","version":"1.2.3","abi":1,"api_version":"0.1.0","rustc":"rustc 1.95.0",
"target":"any","panic":"unwind","about":"A sample.","commands":[
{"name":"greet","doc":"Greets.","kind":"sync","arguments":[{"name":"who","type":"string","optional":false,"rest":false}]},
{"name":"sum","doc":"","kind":"async","arguments":[{"name":"first","type":"number","optional":false,"rest":false},
{"name":"second","type":"number","optional":true,"rest":false},{"name":"more","type":"number","optional":false,"rest":true}]}]}"#;
