//! Reads the system's accounts: an owner, a group, and other users with that primary group.
//!
//! Owner and group are looked up by number through the system's own functions (NSS). Other users of the group can only
//! be found by listing all accounts. A directory service that doesn't list its accounts hides them here too; such an
//! account has another user's primary group only if an administrator set it.
//!
//! Errors are texts for a person: the reason why the group isn't known to be private.

#![allow(unsafe_code)]

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
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn other_with_primary(group: u32, owner: u32) -> std::io::Result<Option<String>> {
    /// The process has a single read position in the list of accounts.
    static READING: std::sync::Mutex<()> = std::sync::Mutex::new(());

    let _reading = crate::lock::lock(&READING);
    // SAFETY: it has no arguments; the read position that it resets belongs to glibc, which locks it.
    unsafe { libc::setpwent() };
    let found = find_account(|account| account.pw_gid == group && account.pw_uid != owner);
    // SAFETY: as for `setpwent`.
    unsafe { libc::endpwent() };
    found
}

/// Returns the name of the first matching account from the current read position on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn find_account(is_wanted: impl Fn(&libc::passwd) -> bool) -> std::io::Result<Option<String>> {
    /// The longest account record (bytes); usual ones have some hundred. A longer one is an error.
    const ACCOUNT_BYTES_MAX: usize = 1 << 20;

    let mut buffer = vec![0; 4 << 10];
    loop {
        // SAFETY: all bytes zero are a valid `passwd`, whose pointers are then null.
        let mut account: libc::passwd = unsafe { std::mem::zeroed() };
        let mut result = std::ptr::null_mut();
        let (place, length) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: the pointers are to our own places that live across the call, and `room` has `length` bytes.
        let code = unsafe { libc::getpwent_r(&raw mut account, place, length, &raw mut result) };
        match code {
            0 if is_wanted(&account) => {
                // SAFETY: after success the name is a C string in `room`, which isn't changed meanwhile.
                let name = unsafe { std::ffi::CStr::from_ptr(account.pw_name) };
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
            0 => {}
            libc::ENOENT => return Ok(None),
            // The next call reads the same account with a larger buffer.
            libc::ERANGE if length < ACCOUNT_BYTES_MAX => buffer.resize(length * 2, 0),
            code => return Err(std::io::Error::from_raw_os_error(code)),
        }
    }
}

/// Returns the same from `/etc/passwd`, the only source of accounts that other C libraries on Linux use.
#[cfg(all(target_os = "linux", not(target_env = "gnu")))]
fn other_with_primary(group: u32, owner: u32) -> std::io::Result<Option<String>> {
    let text = std::fs::read_to_string("/etc/passwd")?;
    let (group, owner) = (group.to_string(), owner.to_string());
    let other = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user, primary, ..] = fields.as_slice() else {
            return None;
        };
        (*primary == group && *user != owner).then(|| (*name).to_owned())
    });
    Ok(other)
}

/// Returns an error: on other systems, users usually share a primary group.
#[cfg(not(target_os = "linux"))]
fn other_with_primary(_group: u32, _owner: u32) -> std::io::Result<Option<String>> {
    Err(std::io::ErrorKind::Unsupported.into())
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
