//! The serial number of the volume and the index of the file. Windows gives them for open files only, and they are
//! unique while the file is open. NTFS uses an index again only with another sequence number, which is a part of it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::FileId;
use crate::os::handle;

pub(super) fn at(path: &Path) -> io::Result<FileId> {
    of_open(&handle::open_to_look(path)?)
}

pub(super) fn of_open(file: &File) -> io::Result<FileId> {
    let information = handle::information(file)?;
    Ok(FileId {
        device: information.volume.into(),
        inode: information.index,
    })
}
