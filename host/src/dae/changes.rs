//! What the file system says of the files that are watched: gathered until it is time to look at them.
//!
//! A directory is watched as a whole, since whoever replaces a file makes another of the same name. What happens beside
//! the files that are of account, a log that grows or a build, is left out before it wakes anybody.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use notify::EventKind;
use tokio::sync::Notify;
use tokio::time::timeout;

use dae_store::lock::lock;

/// A file is acted on when it has been left alone for so long, unless whoever wrote it has closed it: a linker writes in
/// many small steps.
const STILL: Duration = Duration::from_millis(150);
/// But no longer than this: what is never left alone is a neighbour of it, a log in the same directory.
const STILL_MAX: Duration = Duration::from_secs(1);

/// What the file system says.
enum FileChange {
    /// A file was closed after writing, or renamed: it is whole.
    Whole,
    /// Something else; more may follow.
    Other,
}

/// What it has said since it was last listened to. A change that isn't looked at yet says the same as the next one, but
/// that a file is whole is never lost behind something less.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// A file is whole.
    pub(super) whole: Notify,
    /// Something else has changed; [`Changes::still`] says when to look.
    pub(super) other: Notify,
    /// The files that are looked at, and the directories that are watched. Those beside them, a log or all that a build
    /// makes, are nobody's business, and wake nobody.
    of_account: Mutex<HashSet<PathBuf>>,
    /// Of this directory all are.
    dir: PathBuf,
}

impl Changes {
    /// Those of a directory, and of what else is attended to.
    pub(super) fn around(dir: &Path) -> Self {
        Changes {
            dir: dir.to_owned(),
            ..Changes::default()
        }
    }

    /// From now on these files are of account, and no others outside the directory.
    pub(super) fn attend_to(&self, files: &[PathBuf]) {
        let directories = files.iter().filter_map(|file| file.parent());
        let all = directories.map(Path::to_owned).chain(files.iter().cloned());
        *lock(&self.of_account) = all.collect();
    }

    /// Hears what the file system says, on a thread of its own.
    pub(super) fn hear(&self, event: &notify::Result<notify::Event>) {
        match change_of(event).filter(|_| self.is_of_account(event)) {
            Some(FileChange::Whole) => self.whole.notify_one(),
            Some(FileChange::Other) => self.other.notify_one(),
            None => {}
        }
    }

    fn is_of_account(&self, event: &notify::Result<notify::Event>) -> bool {
        let paths = event.as_ref().map_or(&[][..], |event| &event.paths);
        let of_account = lock(&self.of_account);
        let is_one = |path: &PathBuf| path.starts_with(&self.dir) || of_account.contains(path);
        // Where none is named it may have been any.
        paths.is_empty() || paths.iter().any(is_one)
    }

    /// Ends when a file is whole, when nothing has changed for a moment, or when that doesn't come.
    pub(super) async fn still(&self) {
        let still = async { while timeout(STILL, self.other.notified()).await.is_ok() {} };
        tokio::select! {
            biased;
            () = self.whole.notified() => {}
            // Its time being over is as good a reason to look.
            _ = timeout(STILL_MAX, still) => {}
        }
    }
}

fn change_of(event: &notify::Result<notify::Event>) -> Option<FileChange> {
    use notify::event::ModifyKind;
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(access) => is_written(access).then_some(FileChange::Whole),
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                Some(FileChange::Whole)
            }
            _ => Some(FileChange::Other),
        },
        // Events were lost, say: a reason to look.
        Err(_) => Some(FileChange::Other),
    }
}

fn is_written(access: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    access == AccessKind::Close(AccessMode::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};

    #[test]
    fn what_happens_beside_the_files_is_of_no_account() {
        let changes = Changes::around(Path::new("/home/plugins"));
        changes.attend_to(&["/target/liba.so".into()]);
        let is_of_account = |paths: &[&str]| {
            let event = notify::Event::new(EventKind::Modify(ModifyKind::Any));
            let event = paths
                .iter()
                .fold(event, |event, path| event.add_path(path.into()));
            changes.is_of_account(&Ok(event))
        };
        for ours in ["/home/plugins/b.so", "/target/liba.so", "/target"] {
            assert!(is_of_account(&[ours]), "{ours}");
        }
        assert!(!is_of_account(&["/target/build.log"]));
        assert!(is_of_account(&["/target/build.log", "/target/liba.so"]));
        assert!(is_of_account(&[]), "it may have been any");
    }

    #[tokio::test]
    async fn a_file_that_is_begun_is_heard_of_and_a_neighbour_is_not() {
        let changes = Changes::around(Path::new("/home/plugins"));
        let event = |path: &str| {
            let event = notify::Event::new(EventKind::Create(CreateKind::File));
            Ok(event.add_path(path.into()))
        };
        changes.hear(&event("/elsewhere/b.so"));
        let other = timeout(Duration::ZERO, changes.other.notified());
        assert!(other.await.is_err());
        changes.hear(&event("/home/plugins/b.so"));
        changes.other.notified().await;
        changes.still().await;
    }
}
