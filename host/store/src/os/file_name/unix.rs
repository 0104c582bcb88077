//! Unix reserves no file names.

/// Names that differ in the case of a letter are different.
pub(crate) const IGNORES_CASE: bool = false;

/// Checks that files can be named after `name`. The error is the reason, for a person.
pub(crate) fn check(_name: &str) -> Result<(), String> {
    Ok(())
}
