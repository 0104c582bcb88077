//! The README's figures, out of what the benches have kept: nothing in that part of it is typed by a person.
pub(super) fn write() -> Result<(), String> { Err("nothing yet".to_owned()) }
