//! Reads the system's accounts: an owner, a group, and other users with that primary group.
//!
//! Owner and group are looked up by number through the system's own functions (NSS). Other users of the group can only
//! be found by listing all accounts. The C function for that has one read position for the whole process and any code
//! may move it, so no safe crate calls it. The system's program `getent` lists the same accounts. A directory service
//! that doesn't list its accounts hides them here too; such an account has another user's primary group only if an
//! administrator set it.
//!
//! Errors are texts for a person: the reason why the group isn't known to be private.

use std::io;

use nix::unistd::{Gid, Group, Uid, User};

use super::AccountFacts;

/// Returns the accounts' data about the user `owner` and the group `group`.
pub(super) fn read(owner: u32, group: u32) -> Result<AccountFacts, String> {
    let unknown = |what: &str| format!("and the system knows no {what}");
    let user = User::from_uid(Uid::from_raw(owner))
        .map_err(|error| format!("and user {owner} can't be looked up: {error}"))?
        .ok_or_else(|| unknown(&format!("user {owner}")))?;
    let found = Group::from_gid(Gid::from_raw(group))
        .map_err(|error| format!("which can't be looked up: {error}"))?
        .ok_or_else(|| unknown("group of that number"))?;
    Ok(AccountFacts {
        is_primary: user.gid.as_raw() == group,
        owner: user.name,
        group: found.name,
        members: found.mem,
        other: other_with_primary(group, owner)
            .map_err(|error| format!("and the accounts can't be listed: {error}"))?,
    })
}

/// Returns the name of a user other than `owner` whose primary group is `group`.
fn other_with_primary(group: u32, owner: u32) -> io::Result<Option<String>> {
    let (group, owner) = (group.to_string(), owner.to_string());
    let list = list()?;
    let other = list.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, _, user, primary, ..] = fields.as_slice() else {
            return None;
        };
        let is_other = *primary == group.as_bytes() && *user != owner.as_bytes();
        is_other.then(|| String::from_utf8_lossy(name).into_owned())
    });
    Ok(other)
}

/// Returns all accounts that the system lists, one a line, in the format of `/etc/passwd`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn list() -> io::Result<Vec<u8>> {
    use std::process::{Command, Stdio};

    let mut getent = Command::new("getent");
    let listed = getent.arg("passwd").stdin(Stdio::null()).output();
    let listed = listed.map_err(|error| io::Error::other(format!("`getent`: {error}")))?;
    match listed.status.success() {
        true => Ok(listed.stdout),
        false => Err(io::Error::other(format!("`getent`: {}", listed.status))),
    }
}

/// Returns the same from `/etc/passwd`, the only source of accounts that other C libraries on Linux use.
#[cfg(all(target_os = "linux", not(target_env = "gnu")))]
fn list() -> io::Result<Vec<u8>> {
    std::fs::read("/etc/passwd")
}

/// Returns an error: on other systems, users usually share a primary group.
#[cfg(not(target_os = "linux"))]
fn list() -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_list_of_accounts_is_gone_through() {
        // The first account's primary group has at least one user, whose number differs from the unused one passed as
        // owner.
        let text = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = text.lines().next().expect("an account");
        let fields: Vec<&str> = line.split(':').collect();
        let group = fields[3].parse().expect("a number");
        assert!(other_with_primary(group, 4_000_000_001).unwrap().is_some());
        assert_eq!(other_with_primary(4_000_000_001, 0).unwrap(), None);
    }

    #[test]
    fn an_unknown_owner_is_doubt() {
        let reason = read(4_000_000_001, 4_000_000_001).unwrap_err();
        assert!(reason.contains("knows no user 4000000001"), "{reason}");
    }
}
