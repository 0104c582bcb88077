//! The arguments of Dae's commands: one, or none.

use dae_plugin_api::{exact, misfit};
use serde::de::DeserializeOwned;

use super::Fault;

/// Reads the single argument.
pub(super) fn one<T: DeserializeOwned>(arguments: &[u8]) -> Result<T, Fault> {
    if matches!(arguments, b"" | b"[]") {
        return Err(Fault::bad_arguments(
            "it takes one argument; got none".to_owned(),
        ));
    }
    // An array's elements are the arguments, any other value is the one argument.
    let read = match arguments.first() {
        Some(b'[') => exact::from_slice::<(T,)>(arguments).map(|(one,)| one),
        _ => exact::from_slice(arguments),
    };
    read.map_err(|error| {
        let text = String::from_utf8_lossy(arguments);
        let (path, what) = misfit::parts(&error, &text);
        let at = misfit::inside_argument(&path, &text);
        Fault::bad_arguments(format!("it takes one argument{at}: {what}"))
    })
}

/// Checks that there are no arguments.
pub(super) fn none(arguments: &[u8]) -> Result<(), Fault> {
    match arguments {
        b"" | b"[]" => Ok(()),
        _ => Err(Fault::bad_arguments("it takes no arguments".to_owned())),
    }
}
