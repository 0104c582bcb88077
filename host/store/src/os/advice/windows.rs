//! The remedies on Windows.

use std::io;
use std::path::Path;

use windows_sys::Win32::Foundation as code;

/// The error text if no thread is available. Windows limits the threads of a process by its memory, and those of a job
/// by the job's settings.
pub(crate) const NO_THREAD: &str = "the system gives the host's process no more threads; end other programs, or allow its job more memory";

/// Where to look if a file of the home may not be used.
pub(crate) const OWNER: &str =
    "see who may use it and its directory (`icacls`), and whether another program has it open";

/// Where to look if a plugin's file may not be read.
pub(crate) const FILE_RIGHTS: &str = "see `icacls` of it and of its directories";

/// The error text if the user has no home directory.
pub(crate) const NO_HOME_DIRECTORY: &str = "cannot tell where your home directory is; set USERPROFILE, or name a home, also by the variable DAE_HOME";

/// The errors of a volume that was pulled out, or of a share whose server is away.
const GONE_DRIVE: [u32; 12] = [
    code::ERROR_INVALID_DRIVE,
    code::ERROR_NOT_READY,
    code::ERROR_WRONG_DISK,
    code::ERROR_BAD_NETPATH,
    code::ERROR_DEV_NOT_EXIST,
    code::ERROR_UNEXP_NET_ERR,
    code::ERROR_NETNAME_DELETED,
    code::ERROR_BAD_NET_NAME,
    code::ERROR_NO_SUCH_DEVICE,
    code::ERROR_FILE_INVALID,
    code::ERROR_DEVICE_NOT_CONNECTED,
    code::ERROR_DEVICE_REMOVED,
];

/// Returns a remedy for an error that only this system has.
pub(crate) fn of_error(error: &io::Error, path: &Path) -> Option<&'static str> {
    match number(error)? {
        code::ERROR_TOO_MANY_OPEN_FILES => {
            Some("this process may open no more files: let it run fewer daemons")
        }
        _ => of_path(error, path),
    }
}

/// Returns a remedy for an error of a path: of its drive, of its form, or of another program that uses it.
pub(crate) fn of_path(error: &io::Error, path: &Path) -> Option<&'static str> {
    let number = number(error)?;
    if GONE_DRIVE.contains(&number) || is_drive_gone(error, path) {
        return Some(
            "the drive or the share that it lies on is gone or not ready: connect it again",
        );
    }
    if is_in_use(error) {
        return Some(
            "another program has it open (a virus scanner does so for a moment): close it there, and try again",
        );
    }
    match number {
        code::ERROR_FILENAME_EXCED_RANGE | code::ERROR_BUFFER_OVERFLOW => Some(
            "that path, or a name in it, is longer than the file system takes: choose a shorter one",
        ),
        code::ERROR_INVALID_NAME => Some(
            "a name in that path has a character that Windows doesn't take: choose another path",
        ),
        _ => None,
    }
}

/// Returns whether a path is not found because its drive isn't there: the error is that of a missing directory.
fn is_drive_gone(error: &io::Error, path: &Path) -> bool {
    let drive = path.ancestors().last();
    let is_gone = |drive: &Path| drive.has_root() && !drive.exists();
    error.kind() == io::ErrorKind::NotFound && drive.is_some_and(is_gone)
}

/// Returns whether another program has the file open and doesn't share it.
pub(crate) fn is_in_use(error: &io::Error) -> bool {
    let number = number(error);
    matches!(
        number,
        Some(
            code::ERROR_SHARING_VIOLATION
                | code::ERROR_LOCK_VIOLATION
                | code::ERROR_USER_MAPPED_FILE
        )
    )
}

fn number(error: &io::Error) -> Option<u32> {
    error.raw_os_error().map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_drives_and_of_open_files_have_a_remedy() {
        for (number, part) in [
            (code::ERROR_NOT_READY, "connect it again"),
            (code::ERROR_DEVICE_NOT_CONNECTED, "connect it again"),
            (code::ERROR_SHARING_VIOLATION, "another program has it open"),
            (code::ERROR_FILENAME_EXCED_RANGE, "choose a shorter one"),
            (code::ERROR_TOO_MANY_OPEN_FILES, "open no more files"),
        ] {
            let error = io::Error::from_raw_os_error(number.cast_signed());
            let text = of_error(&error, Path::new("x")).expect("a remedy");
            assert!(text.contains(part), "{text}");
        }
        let missing = io::Error::from_raw_os_error(code::ERROR_PATH_NOT_FOUND.cast_signed());
        let here = std::env::current_dir().unwrap();
        assert_eq!(of_error(&missing, &here.join("x")), None);
        let gone = of_error(&missing, Path::new(r"Q:\x")).expect("a remedy");
        assert!(gone.contains("connect it again"), "{gone}");
    }
}
