//! The names of devices: in each directory and with any suffix they lead to the device, on Windows 10 at least.

/// The names of devices without a number.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The beginnings of names of devices that a digit follows.
const NUMBERED: [&str; 2] = ["com", "lpt"];

/// Names that differ only in the case of letters lead to the same file.
pub(crate) const IGNORES_CASE: bool = true;

/// Checks that files can be named after `name`. The error is the reason, for a person.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let has_digit = |rest: &str| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_digit());
    let is_numbered = |start: &&str| stem.strip_prefix(*start).is_some_and(has_digit);
    if DEVICES.contains(&&*stem) || NUMBERED.iter().any(is_numbered) {
        return Err(format!(
            "{name:?} is the name of a device on Windows, and a daemon's files are named after it; choose another name"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_no_names_of_files() {
        for name in ["NUL", "Aux", "con.v2", "Com1", "lpt9.x"] {
            let reason = check(name).expect_err(name);
            assert!(reason.contains("a device on Windows"), "{reason}");
        }
        for name in ["Null", "Console", "Com", "Com10", "x.con", "Clock"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }
}
