//! Unix reserves no file names.

/// Checks that files can be named after `name`. The error is the reason, for a person.
pub(crate) fn check(_name: &str) -> Result<(), String> {
    Ok(())
}
