//! File system events for the watched files, gathered until it is time to look at them.
//!
//! A directory is watched as a whole, because replacing a file creates another one of the same name. Events of
//! other files in it, such as a growing log or a build, are filtered out before they wake a task.
//!
//! `notify-debouncer-full` holds every event back for its whole span. Here a file that is complete is looked at at once,
//! and only changes that may go on wait.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use notify::EventKind;
use tokio::sync::Notify;
use tokio::time::timeout;

use dae_store::lock::lock;

/// The time without changes after which a file is acted on, unless its writer has closed it before. A linker writes
/// in many small steps.
const STILL: Duration = Duration::from_millis(150);
/// The longest wait for that. Changes that never stop come from another file in the directory, such as a log.
const STILL_MAX: Duration = Duration::from_secs(1);

/// A kind of file system event.
enum FileChange {
    /// A file was closed after writing, or was renamed or removed: it is complete.
    Whole,
    /// Another change. More may follow.
    Other,
}

/// The events since the last look. A pending event is merged with the next one, but the news that a file is
/// complete is never lost.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The signal that a file is complete.
    pub(super) whole: Notify,
    /// The signal of other changes. [`Changes::still`] says when to look.
    pub(super) other: Notify,
    /// The relevant files, and the watched directories. Other files beside them, such as logs and build output,
    /// wake no task.
    of_account: Mutex<HashSet<PathBuf>>,
    /// The directory in which all files are relevant.
    dir: PathBuf,
}

impl Changes {
    /// Creates the gathering of events for a directory in which all files are relevant.
    pub(super) fn around(dir: &Path) -> Self {
        Changes {
            dir: dir.to_owned(),
            ..Changes::default()
        }
    }

    /// Makes these files relevant, and no others outside the directory.
    pub(super) fn attend_to(&self, files: &[PathBuf]) {
        let directories = files.iter().filter_map(|file| file.parent());
        let all = directories.map(Path::to_owned).chain(files.iter().cloned());
        *lock(&self.of_account) = all.collect();
    }

    /// Receives an event of the file system, on the watcher's own thread.
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
        // An event without a path may concern any file.
        paths.is_empty() || paths.iter().any(is_one)
    }

    /// Waits until a file is complete, until nothing has changed for a moment, or until the wait is too long.
    pub(super) async fn still(&self) {
        let still = async { while timeout(STILL, self.other.notified()).await.is_ok() {} };
        tokio::select! {
            biased;
            () = self.whole.notified() => {}
            // A timeout is a reason to look, too.
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
        // An error, such as lost events, is a reason to look.
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
