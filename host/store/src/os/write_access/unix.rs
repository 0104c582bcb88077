//! The owner, the mode and the access list.
//!
//! Write permission for a private group is safe: many systems give each user a group of their own and a umask of 002,
//! so all files of the user have it. A group is private if it is the owner's primary group, has the owner's name, has
//! no other members, and is not found to be another user's primary group. The system's accounts supply this (NSS: local
//! files, LDAP or other sources). In doubt, the group is not private.
//!
//! An access list (POSIX ACL) changes the meaning of the group's mode bits, so it counts as doubt.

mod accounts;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::{AclTarget, OtherOwner, OtherWriters};

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The attribute in which Linux stores an access list.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// The mode bit of a sticky directory.
const STICKY: u32 = 0o1000;

/// The number of the administrator.
const ROOT: u32 = 0;

pub(super) fn other_owner(
    metadata: &Metadata,
    _place: AclTarget<'_>,
    may_be_root: bool,
) -> io::Result<Option<OtherOwner>> {
    let (ours, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    let is_ours = owner == ours || (may_be_root && owner == ROOT);
    Ok((!is_ours).then(|| OtherOwner {
        owner: owner.to_string(),
        ours: ours.to_string(),
    }))
}

pub(super) fn is_sticky(metadata: &Metadata, _place: AclTarget<'_>) -> bool {
    metadata.is_dir() && metadata.mode() & STICKY != 0
}

pub(super) fn remedy(path: &Path, _id: Option<&str>) -> String {
    format!("close it with `chmod go-w {}`", path.display())
}

pub(super) fn others_who_write(metadata: &Metadata, place: AclTarget<'_>) -> Option<OtherWriters> {
    let mode = metadata.mode();
    let named = |who: &str| {
        let who = format!("{who} (mode {:03o})", mode & 0o777);
        Some(OtherWriters { who, id: None })
    };
    if mode & OTHERS_WRITE != 0 {
        return named("everybody");
    }
    if mode & GROUP_WRITES == 0 {
        return None;
    }
    if has_access_list(place) {
        return named("those whom its access list names");
    }
    match accounts::read(metadata.uid(), metadata.gid()).and_then(|facts| check_private(&facts)) {
        Ok(()) => None,
        Err(reason) => named(&format!("group {}, {reason}", metadata.gid())),
    }
}

fn has_access_list(place: AclTarget<'_>) -> bool {
    // With an empty buffer, the call returns the list's length.
    let mut nothing: [u8; 0] = [];
    let length = match place {
        AclTarget::Open(file) => rustix::fs::fgetxattr(file, ACCESS_LIST, &mut nothing[..]),
        AclTarget::Named(path) => rustix::fs::getxattr(path, ACCESS_LIST, &mut nothing[..]),
    };
    !matches!(length, Err(Errno::NODATA | Errno::OPNOTSUPP))
}

/// The system's account data about an owner and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AccountFacts {
    owner: String,
    is_primary: bool,
    group: String,
    members: Vec<String>,
    /// Another user whose primary group it is.
    other: Option<String>,
}

fn check_private(facts: &AccountFacts) -> Result<(), String> {
    let AccountFacts {
        owner,
        is_primary,
        group,
        members,
        other,
    } = facts;
    if group != owner {
        return Err(format!(
            "whose name {group} is not that of its owner {owner}"
        ));
    }
    if !is_primary {
        return Err(format!(
            "which is not the primary group of its owner {owner}"
        ));
    }
    let member = members.iter().find(|member| *member != owner);
    match member.or(other.as_ref()) {
        Some(other) => Err(format!("in which {other} is, too")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> AccountFacts {
        AccountFacts {
            owner: "ada".to_owned(),
            is_primary: true,
            group: "ada".to_owned(),
            members: Vec::new(),
            other: None,
        }
    }

    #[test]
    fn a_group_is_private_where_nobody_else_is_in_it() {
        let owner_listed = AccountFacts {
            members: vec!["ada".to_owned()],
            ..facts()
        };
        for private in [facts(), owner_listed] {
            assert_eq!(check_private(&private), Ok(()));
        }
        let shared = AccountFacts {
            group: "users".to_owned(),
            ..facts()
        };
        let not_primary = AccountFacts {
            is_primary: false,
            ..facts()
        };
        let member = AccountFacts {
            members: vec!["ada".to_owned(), "bob".to_owned()],
            ..facts()
        };
        let other = AccountFacts {
            other: Some("bob".to_owned()),
            ..facts()
        };
        for (facts, part) in [
            (shared, "users"),
            (not_primary, "primary group"),
            (member, "bob"),
            (other, "bob"),
        ] {
            let reason = check_private(&facts).expect_err("it is not private");
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn an_access_list_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!has_access_list(AclTarget::Open(file.as_file())));
        assert!(!has_access_list(AclTarget::Named(file.path())));
        // Version 2; owner rw, user 1 rw, group none, mask rw, others none.
        let entry = |tag: u16, rights: u16, id: u32| {
            let parts = [tag.to_le_bytes(), rights.to_le_bytes()].concat();
            [parts, id.to_le_bytes().to_vec()].concat()
        };
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 6, u32::MAX),
            entry(2, 6, 1),
            entry(4, 0, u32::MAX),
            entry(0x10, 6, u32::MAX),
            entry(0x20, 0, u32::MAX),
        ]
        .concat();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::fsetxattr(file.as_file(), ACCESS_LIST, &list, flags) {
            Ok(()) => {
                let metadata = file.as_file().metadata().unwrap();
                for place in [
                    AclTarget::Open(file.as_file()),
                    AclTarget::Named(file.path()),
                ] {
                    let who = others_who_write(&metadata, place).expect("user 1 writes");
                    assert!(who.to_string().contains("access list"), "{who}");
                }
            }
            // The file system of temporary files may not support access lists.
            Err(error) => assert_eq!(error, Errno::OPNOTSUPP),
        }
    }
}
