//! The owner and the access list on Windows.
//!
//! The administrators and Windows itself may write everything in any case, as root may on Unix. Everybody else whom the
//! list allows to write counts, even if another entry denies it: the order of the entries decides that, and a file for
//! plugins needs no such list.

use std::fs::{File, Metadata};
use std::io;
use std::os::windows::io::{AsHandle as _, BorrowedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{GENERIC_ALL, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_APPEND_DATA, FILE_DELETE_CHILD, FILE_WRITE_DATA, WRITE_DAC, WRITE_OWNER,
};

use super::{AclTarget, OtherOwner, OtherWriters};
use crate::os::handle;
use crate::os::security::{self, Access, Grant, Sid};

/// The rights that change a file or what lies in a directory, or that let one take such rights. For a directory, the
/// first two are those to add a file and to add a directory.
const WRITING: u32 = FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | FILE_DELETE_CHILD
    | DELETE
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_WRITE
    | GENERIC_ALL;

/// Those of them that are more than the right to add something to a directory.
const REPLACING: u32 = WRITING & !(FILE_WRITE_DATA | FILE_APPEND_DATA);

/// The accounts that may do everything: the system, the administrators and the installer of Windows. The owner's
/// rights (`S-1-3-4`) are those of an owner that is checked by itself.
const TRUSTED: [&str; 4] = [
    "S-1-5-18",
    "S-1-5-32-544",
    "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
    "S-1-3-4",
];

/// The group of all users.
const EVERYONE: &str = "S-1-1-0";

/// The groups that a person knows by name.
const KNOWN: [(&str, &str); 4] = [
    (EVERYONE, "Everyone"),
    ("S-1-5-11", "Authenticated Users"),
    ("S-1-5-32-545", "Users"),
    ("S-1-5-32-546", "Guests"),
];

pub(super) fn other_owner(
    _metadata: &Metadata,
    place: AclTarget<'_>,
    _may_be_root: bool,
) -> io::Result<Option<OtherOwner>> {
    let (access, ours) = (access(place)?, security::own_user()?);
    Ok(owner_besides(&access, &ours))
}

/// Returns the owner if it is another one. A file system without access lists has no owners either: it names none, or
/// everyone. Then the missing list is what a person has to hear of.
fn owner_besides(access: &Access, ours: &Sid) -> Option<OtherOwner> {
    let owner = access.owner.as_ref();
    let has_no_owners =
        access.grants.is_none() && owner.is_none_or(|owner| owner.to_string() == EVERYONE);
    let is_ours = owner.is_some_and(|owner| is_trusted(owner, ours));
    (!is_ours && !has_no_owners).then(|| OtherOwner {
        owner: owner.map_or_else(|| "nobody".to_owned(), Sid::to_string),
        ours: ours.to_string(),
    })
}

/// The root of a drive is such a directory: all users may add directories to it.
pub(super) fn is_sticky(metadata: &Metadata, place: AclTarget<'_>) -> bool {
    let found = access(place).and_then(|access| Ok((access, security::own_user()?)));
    metadata.is_dir()
        && found.is_ok_and(|(access, ours)| of_access(&access, &ours, REPLACING).is_none())
}

pub(super) fn remedy(path: &Path, id: Option<&str>) -> String {
    let path = path.display();
    match id {
        // An inherited right can be removed only after the list has become the file's own.
        Some(id) => format!("close it with `icacls \"{path}\" /inheritance:d /remove:g *{id}`"),
        None => format!(
            "give it a list with `icacls \"{path}\" /reset`; a drive with FAT or exFAT has no such lists, so choose a place on a \
             drive with NTFS"
        ),
    }
}

pub(super) fn others_who_write(_metadata: &Metadata, place: AclTarget<'_>) -> Option<OtherWriters> {
    let found = access(place).and_then(|access| Ok((access, security::own_user()?)));
    match found {
        Ok((access, ours)) => of_access(&access, &ours, WRITING),
        // A list that can't be read may allow anything.
        Err(error) => Some(OtherWriters {
            who: format!("others: its access list can't be read ({error})"),
            id: None,
        }),
    }
}

/// Returns whether anybody else has any right, if only to read.
pub(crate) fn are_others_allowed(place: AclTarget<'_>) -> io::Result<bool> {
    let (access, ours) = (access(place)?, security::own_user()?);
    Ok(of_access(&access, &ours, u32::MAX).is_some())
}

fn access(place: AclTarget<'_>) -> io::Result<Access> {
    let opened: File;
    let file = match place {
        AclTarget::Open(file) => file,
        AclTarget::Named(path) => {
            opened = handle::open_to_look(path)?;
            &opened
        }
    };
    security::access(file.as_handle())
}

/// Returns whether a pipe was made by this user, an administrator or Windows itself. Its owner says so: a user can make a
/// pipe that belongs to another one as little as a file. `None` if no owner is known: Windows gives each pipe one, and
/// Wine doesn't.
///
/// # Errors
/// A system error.
pub fn is_own_pipe(pipe: BorrowedHandle<'_>) -> io::Result<Option<bool>> {
    let (access, ours) = (security::access(pipe)?, security::own_user()?);
    Ok(access.owner.map(|owner| is_trusted(&owner, &ours)))
}

/// Returns the first other account that has one of these rights.
fn of_access(access: &Access, ours: &Sid, rights: u32) -> Option<OtherWriters> {
    let Some(grants) = &access.grants else {
        return Some(OtherWriters {
            who: "everybody: it has no access list, or its file system has none".to_owned(),
            id: None,
        });
    };
    let is_other = |grant: &&Grant| {
        let is_ours = grant.sid.as_ref().is_some_and(|sid| is_trusted(sid, ours));
        grant.rights & rights != 0 && !is_ours
    };
    let other = grants.iter().find(is_other)?;
    let id = other.sid.as_ref().map(Sid::to_string);
    Some(OtherWriters {
        who: id
            .as_deref()
            .map_or_else(|| "an account that is not known here".to_owned(), name_of),
        id,
    })
}

fn is_trusted(sid: &Sid, ours: &Sid) -> bool {
    sid == ours || TRUSTED.contains(&&*sid.to_string())
}

fn name_of(id: &str) -> String {
    match KNOWN.iter().find(|(known, _)| *known == id) {
        Some((_, name)) => format!("the group {name}"),
        None => format!("the account {id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::security::tests::{sid, sid_of};

    fn access_of(grants: &[(&Sid, u32)]) -> Access {
        let grant = |(sid, rights): &(&Sid, u32)| Grant {
            sid: Some((*sid).clone()),
            rights: *rights,
        };
        Access {
            owner: None,
            grants: Some(grants.iter().map(grant).collect()),
        }
    }

    #[test]
    fn those_who_write_are_named_and_those_who_read_are_not() {
        let ours = sid(&[21, 1, 2, 3, 1000]);
        let (bob, users, system) = (sid(&[21, 1, 2, 3, 1001]), sid(&[32, 545]), sid(&[18]));
        let who = |grants: &[(&Sid, u32)]| of_access(&access_of(grants), &ours, WRITING);
        assert_eq!(who(&[(&ours, u32::MAX), (&system, u32::MAX)]), None);
        assert_eq!(
            who(&[(&users, 0x12_00a9), (&bob, 0x12_0089)]),
            None,
            "they read"
        );
        let found = who(&[(&ours, u32::MAX), (&users, 0x13_01bf)]).expect("they modify");
        assert_eq!(found.to_string(), "the group Users");
        assert_eq!(
            found.remedy(Path::new(r"C:\x")),
            r#"close it with `icacls "C:\x" /inheritance:d /remove:g *S-1-5-32-545`"#
        );
        let found = who(&[(&bob, WRITE_DAC)]).expect("he can take the right");
        assert_eq!(found.to_string(), "the account S-1-5-21-1-2-3-1001");
        let none = Access {
            owner: None,
            grants: None,
        };
        let found = of_access(&none, &ours, WRITING).expect("there is no list");
        let remedy = found.remedy(Path::new(r"E:\x"));
        assert!(remedy.contains("a drive with NTFS"), "{remedy}");
    }

    #[test]
    fn a_drive_without_access_lists_has_no_other_owner() {
        let ours = sid(&[21, 1, 2, 3, 1000]);
        let bob = sid(&[21, 1, 2, 3, 1001]);
        let everyone = sid_of(1, &[0]);
        for (owner, has_list, is_other) in [
            (Some(&ours), true, false),
            (Some(&bob), true, true),
            (Some(&bob), false, true),
            (Some(&everyone), true, true),
            (Some(&everyone), false, false),
            (None, true, true),
            (None, false, false),
        ] {
            let access = Access {
                owner: owner.cloned(),
                grants: has_list.then(Vec::new),
            };
            let found = owner_besides(&access, &ours);
            assert_eq!(found.is_some(), is_other, "{access:?}");
        }
    }

    #[test]
    fn a_file_of_our_own_is_ours() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        for place in [
            AclTarget::Open(file.as_file()),
            AclTarget::Named(file.path()),
        ] {
            assert_eq!(other_owner(&metadata, place, false).unwrap(), None);
            assert_eq!(others_who_write(&metadata, place), None);
        }
    }
}
