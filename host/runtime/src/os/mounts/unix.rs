//! The mount option `noexec`.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;

pub(super) fn is_noexec(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|of_mount| of_mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
}
