//! The owner and the access list of a file or directory on Windows, the users of processes, and the protection of our own.
//!
//! Windows hands out pointers into memory of its own. They are copied into bytes at once, and everything else reads the
//! bytes with the checks of slices. The formats are those of `SID` and `ACL` in the documentation of Windows.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::slice;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_FILE_OBJECT, SetSecurityInfo,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, GetLengthSid, GetSecurityDescriptorDacl, GetTokenInformation,
    OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    SetKernelObjectSecurity, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, READ_CONTROL, ReOpenFile, WRITE_DAC,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// The longest account id (bytes): a header of eight bytes and fifteen parts of four.
const SID_BYTES_MAX: usize = 68;

/// The length of the header of an access list, and of one of its entries up to the account (bytes).
const HEADER_BYTES: usize = 8;

/// The types of an entry that allows something; the second one has a condition behind the account.
const ALLOWED: u8 = 0;
const ALLOWED_CALLBACK: u8 = 9;

/// The types of an entry that allows something to a part of an object. Files have none; where one is, the account isn't
/// where it is in the others.
const ALLOWED_COMPOUND: u8 = 4;
const ALLOWED_OBJECT: u8 = 5;
const ALLOWED_CALLBACK_OBJECT: u8 = 11;

/// The flag of an entry that only says what new files inherit.
const INHERIT_ONLY: u8 = 8;

/// The id of an account or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sid(Vec<u8>);

impl Sid {
    /// Returns the id at the beginning of these bytes.
    fn at(bytes: &[u8]) -> Option<Self> {
        let parts = usize::from(*bytes.get(1)?);
        bytes
            .get(..HEADER_BYTES + 4 * parts)
            .map(|sid| Sid(sid.to_owned()))
    }
}

/// Shows the id as Windows' own tools do: `S-1-5-32-544`.
impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0[2..HEADER_BYTES].iter();
        let authority = authority.fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        write!(f, "S-{}-{authority}", self.0[0])?;
        let (parts, _) = self.0[HEADER_BYTES..].as_chunks::<4>();
        parts
            .iter()
            .try_for_each(|part| write!(f, "-{}", u32::from_le_bytes(*part)))
    }
}

/// An entry of an access list that allows something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// The id of the account or group; `None` if it isn't known.
    pub(super) sid: Option<Sid>,
    /// The rights, as bits.
    pub(super) rights: u32,
}

/// The owner of a file or directory, and the rights of others to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) owner: Option<Sid>,
    /// The entries of the list that count for the file itself; `None` if it has no list, so that everybody may do
    /// everything.
    pub(super) grants: Option<Vec<Grant>>,
}

/// Returns who may do what with an open file, directory or pipe.
///
/// # Errors
/// A system error, or a list that can't be read.
pub(super) fn access(file: BorrowedHandle<'_>) -> io::Result<Access> {
    let (mut owner, mut list) = (null_mut(), null_mut());
    let mut descriptor = null_mut();
    let wanted = OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION;
    // SAFETY: the handle is borrowed, so it is open, and each pointer is to a pointer that the call sets.
    let error = unsafe {
        GetSecurityInfo(
            file.as_raw_handle(),
            SE_FILE_OBJECT,
            wanted,
            &raw mut owner,
            null_mut(),
            &raw mut list,
            null_mut(),
            &raw mut descriptor,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.cast_signed()));
    }
    let descriptor = Descriptor(descriptor);
    // SAFETY: both are null or lead into the descriptor, which lives until the end of this function.
    let (owner, list) = unsafe { (sid_bytes(owner), list_bytes(list)) };
    drop(descriptor);
    let grants = match list {
        Some(list) => Some(grants(&list).ok_or(io::ErrorKind::InvalidData)?),
        None => None,
    };
    Ok(Access {
        owner: owner.and_then(|bytes| Sid::at(&bytes)),
        grants,
    })
}

/// Returns the entries of an access list that allow something and count for the file itself; `None` if the list is
/// damaged. Entries that deny something are passed over, so the result may contain a right too many, and never one too few.
fn grants(list: &[u8]) -> Option<Vec<Grant>> {
    let count = u16::from_le_bytes([*list.get(4)?, *list.get(5)?]);
    let mut rest = list.get(HEADER_BYTES..)?;
    let mut grants = Vec::new();
    for _ in 0..count {
        let (header, _) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let [kind, flags, bytes @ ..] = *header;
        let [low, high, rights @ ..] = bytes;
        let bytes = usize::from(u16::from_le_bytes([low, high]));
        let entry = rest.get(..bytes)?;
        rest = &rest[bytes..];
        let sid = match kind {
            ALLOWED | ALLOWED_CALLBACK => Some(Sid::at(entry.get(HEADER_BYTES..)?)?),
            ALLOWED_COMPOUND | ALLOWED_OBJECT | ALLOWED_CALLBACK_OBJECT => None,
            _ => continue,
        };
        if flags & INHERIT_ONLY == 0 {
            let rights = u32::from_le_bytes(rights);
            grants.push(Grant { sid, rights });
        }
    }
    Some(grants)
}

/// Returns the id of the user that this process runs as.
///
/// # Errors
/// A system error.
pub fn own_user() -> io::Result<Sid> {
    // SAFETY: the call returns a constant that stands for this process, always.
    user_of(unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) })
}

/// Returns the id of the user that a process runs as.
///
/// # Errors
/// A system error.
pub fn user_of(process: BorrowedHandle<'_>) -> io::Result<Sid> {
    let token = ProcessToken::of(process)?;
    // The struct, and behind it the id that it points to. Of words, so that the struct is aligned.
    let mut found =
        [0_usize; (size_of::<TOKEN_USER>() + SID_BYTES_MAX).div_ceil(size_of::<usize>())];
    let (mut bytes, room) = (0, u32::try_from(size_of_val(&found)).unwrap_or(u32::MAX));
    // SAFETY: the token is open, and the buffer has as many bytes as are named.
    let is_known = unsafe {
        GetTokenInformation(
            token.0,
            TokenUser,
            found.as_mut_ptr().cast(),
            room,
            &raw mut bytes,
        )
    };
    if is_known == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so the buffer begins with the struct, for which it is aligned.
    let user = unsafe { &*found.as_ptr().cast::<TOKEN_USER>() };
    // SAFETY: the call has set the pointer to an id in the buffer, which lives until the end of this function.
    let sid = unsafe { sid_bytes(user.User.Sid) };
    sid.and_then(|bytes| Sid::at(&bytes))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Gives a directory to its owner, Windows itself and the administrators alone, with everything in it that has no access
/// list of its own.
///
/// # Errors
/// A system error.
pub(super) fn close_directory(directory: &Path) -> io::Result<()> {
    // Full access (FA) for the user, the system (SY) and the administrators (BA). New files and directories inherit it
    // (OICI), and the list itself inherits nothing (P).
    let user = own_user()?;
    set_list(
        directory,
        &format!("D:P(A;OICI;FA;;;{user})(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"),
    )
}

/// Gives an open file to its owner, Windows itself and the administrators alone.
///
/// # Errors
/// A system error; `Unsupported` where the file system has no access lists.
pub(super) fn close_file(file: &File) -> io::Result<()> {
    let user = own_user()?;
    let rights = READ_CONTROL | WRITE_DAC;
    let shared = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    // SAFETY: the handle is open while `file` lives, and the call touches no memory of this process.
    let opened = unsafe { ReOpenFile(file.as_raw_handle(), rights, shared, 0) };
    if opened == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was opened just now, and has no other owner.
    let opened = unsafe { OwnedHandle::from_raw_handle(opened) };
    let descriptor = Descriptor::parse(&format!("D:P(A;;FA;;;{user})(A;;FA;;;SY)(A;;FA;;;BA)"))?;
    // SAFETY: the handle is open while `opened` lives, and the descriptor lives until the end of this function.
    // `SetSecurityInfo` would add the directory's list under Wine; this call adds nothing.
    let is_set = unsafe {
        SetKernelObjectSecurity(
            opened.as_raw_handle(),
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            descriptor.as_ptr(),
        )
    };
    match is_set {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives a file or directory the access list with this text, in Windows' own language for them (SDDL).
pub(super) fn set_list(place: &Path, list: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options
        .access_mode(FILE_READ_ATTRIBUTES | READ_CONTROL | WRITE_DAC)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    let opened = options.open(place)?;
    let descriptor = Descriptor::parse(list)?;
    let list = descriptor.list()?;
    // SAFETY: the handle is open while `opened` lives, and the list lives in the descriptor, which lives until the end
    // of this function.
    let error = unsafe {
        SetSecurityInfo(
            opened.as_raw_handle(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            null_mut(),
            null_mut(),
            list,
            null(),
        )
    };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.cast_signed())),
    }
}

/// A security descriptor that Windows has allocated.
#[derive(Debug)]
pub struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// Makes a descriptor that gives the user of this process everything and others nothing.
    ///
    /// # Errors
    /// A system error.
    pub fn of_owner() -> io::Result<Self> {
        // The owner (O) is this user also for an elevated process. The list (D) inherits nothing (P).
        let user = own_user()?;
        Descriptor::parse(&format!("O:{user}D:P(A;;GA;;;{user})"))
    }

    /// Returns the pointer to it, which is valid as long as this lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.0
    }

    /// Makes a descriptor from its text, in Windows' own language for them (SDDL).
    fn parse(text: &str) -> io::Result<Self> {
        let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends with a NUL and lives through the call, which sets the pointer.
        let is_made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        match is_made {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Descriptor(descriptor)),
        }
    }

    /// Returns the access list, which lives as long as this does.
    fn list(&self) -> io::Result<*const ACL> {
        let (mut is_there, mut is_default) = (0, 0);
        let mut list = null_mut();
        // SAFETY: the descriptor is a whole one, and each pointer is to a variable that the call sets.
        let is_read = unsafe {
            GetSecurityDescriptorDacl(
                self.0,
                &raw mut is_there,
                &raw mut list,
                &raw mut is_default,
            )
        };
        match is_read {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(list),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: Windows has allocated it for us with this allocator, and nothing of it is used after this.
        unsafe { LocalFree(self.0) };
    }
}

/// An open token of a process.
struct ProcessToken(HANDLE);

impl ProcessToken {
    fn of(process: BorrowedHandle<'_>) -> io::Result<Self> {
        let mut token = null_mut();
        // SAFETY: the handle is borrowed, so it is open, and the pointer is to a handle that the call sets.
        let is_open =
            unsafe { OpenProcessToken(process.as_raw_handle(), TOKEN_QUERY, &raw mut token) };
        match is_open {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(ProcessToken(token)),
        }
    }
}

impl Drop for ProcessToken {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nothing uses it after this.
        unsafe { CloseHandle(self.0) };
    }
}

/// Returns a copy of the id at `sid`, or `None` if there is none.
///
/// # Safety
/// `sid` must be null or point to a whole id.
unsafe fn sid_bytes(sid: *mut core::ffi::c_void) -> Option<Vec<u8>> {
    if sid.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function it is a whole id.
    let bytes = unsafe { GetLengthSid(sid) };
    // SAFETY: an id has as many bytes as Windows says.
    let bytes = unsafe { slice::from_raw_parts(sid.cast::<u8>(), bytes as usize) };
    Some(bytes.to_owned())
}

/// Returns a copy of the access list at `list`, or `None` if there is none.
///
/// # Safety
/// `list` must be null or point to a whole list.
unsafe fn list_bytes(list: *const ACL) -> Option<Vec<u8>> {
    if list.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function it is a whole list, and its header says how many bytes that is.
    let bytes = unsafe { slice::from_raw_parts(list.cast::<u8>(), usize::from((*list).AclSize)) };
    Some(bytes.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::windows::io::AsHandle as _;

    /// Returns the id with these parts, of the authority 5 (`S-1-5-…`).
    pub(crate) fn sid(parts: &[u32]) -> Sid {
        sid_of(5, parts)
    }

    /// Returns the id with these parts, of that authority.
    pub(crate) fn sid_of(authority: u8, parts: &[u32]) -> Sid {
        let count = u8::try_from(parts.len()).unwrap();
        let mut bytes = vec![1, count, 0, 0, 0, 0, 0, authority];
        bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
        Sid(bytes)
    }

    fn entry(kind: u8, flags: u8, rights: u32, sid: &Sid) -> Vec<u8> {
        let bytes = u16::try_from(HEADER_BYTES + sid.0.len()).unwrap();
        let mut entry = vec![kind, flags];
        entry.extend(bytes.to_le_bytes());
        entry.extend(rights.to_le_bytes());
        entry.extend(&sid.0);
        entry
    }

    #[test]
    fn a_list_is_read_and_one_that_is_cut_off_is_damaged() {
        let (user, users) = (sid(&[21, 1, 2, 3, 1000]), sid(&[32, 545]));
        assert_eq!(users.to_string(), "S-1-5-32-545");
        let mut list = vec![2, 0, 0, 0, 4, 0, 0, 0];
        list.extend(entry(ALLOWED, 0, 0x1f_01ff, &user));
        list.extend(entry(1, 0, 2, &users));
        list.extend(entry(ALLOWED, INHERIT_ONLY, 2, &users));
        list.extend(entry(ALLOWED_CALLBACK, 3, 0x12_0089, &users));
        let grant = |sid: &Sid, rights| Grant {
            sid: Some(sid.clone()),
            rights,
        };
        let all = vec![grant(&user, 0x1f_01ff), grant(&users, 0x12_0089)];
        assert_eq!(grants(&list), Some(all));
        for bytes in 0..list.len() {
            assert_eq!(grants(&list[..bytes]), None, "{bytes} bytes");
        }
    }

    #[test]
    fn a_new_file_belongs_to_this_user() {
        let file = tempfile::tempfile().unwrap();
        let access = access(file.as_handle()).unwrap();
        let ours = own_user().unwrap();
        assert!(ours.to_string().starts_with("S-1-5-"), "{ours}");
        assert_eq!(access.owner, Some(ours));
        assert!(access.grants.is_some_and(|grants| !grants.is_empty()));
    }
}
