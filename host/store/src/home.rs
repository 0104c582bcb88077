//! A home: the directories of one ecosystem, and the lock that lets only one host use them at a time.
//!
//! The default is the XDG directories, and `%LOCALAPPDATA%\dae` on Windows. `--home` or `DAE_HOME` chooses a single
//! directory for everything, for tests and for several ecosystems on a machine. Everything in the home belongs to the
//! host and is accessible only to its user (0700), since anyone who can write there can make the host run anything. A
//! home that others can write is refused instead of repaired: the user must decide.
//!
//! All paths are absolute, so a later change of the working directory has no effect. Errors here end the program, since
//! a host can't work without a home.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;

mod lock;

pub use crate::os::control_address::SocketPath;
pub use crate::os::file_id::FileId;
pub use lock::{HomeBusy, HomeLock};

use crate::atomic_file::DiskFault;
use crate::os::directories::{self, UserDirectories};
use crate::os::write_access::{self, AclTarget};
use crate::os::{control_address, home_lock, private};

/// The name of our directory in each XDG directory.
const XDG_NAME: &str = "dae";

/// The name of the drop-in directory in the data directory.
pub(crate) const DROP_IN_DIR: &str = "plugins";

/// The directories of an ecosystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Data that must not be lost: registry, plugin store, snapshots. The path also identifies the home to people.
    pub data: PathBuf,
    /// The directory of the logs.
    pub logs: PathBuf,
    /// The directory of the control socket. It lies below `data`, so that a client that knows the home finds its host.
    pub runtime: PathBuf,
    /// The directory of the files that the user writes for the host.
    pub config: PathBuf,
}

impl<P: AsRef<Path>> From<P> for Home {
    fn from(dir: P) -> Self {
        Home::at(dir)
    }
}

impl Home {
    /// Returns a home in a single directory, which need not exist yet.
    #[must_use]
    pub fn at(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        // This fails only for an empty path or if the current directory was removed.
        let data = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        Home {
            logs: data.join("logs"),
            runtime: data.join("run"),
            config: data.clone(),
            data,
        }
    }

    /// Returns the requested home (`--home`, `DAE_HOME`), or otherwise the user's home in the XDG directories or, on
    /// Windows, in `%LOCALAPPDATA%`. An empty path counts as none, as XDG specifies for its own variables.
    ///
    /// # Errors
    /// No home was requested, and the user has no home directory.
    pub fn from_environment(home: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(dir) = home.filter(|dir| !dir.as_os_str().is_empty()) {
            return Ok(Home::at(dir));
        }
        Ok(Home::of_user(directories::of_user()?))
    }

    fn of_user(user: UserDirectories) -> Self {
        let data = user.data.join(XDG_NAME);
        Home {
            logs: user
                .state
                .map_or_else(|| data.join("logs"), |dir| dir.join(XDG_NAME).join("logs")),
            // XDG_RUNTIME_DIR is not used: two homes could share it, and a cron job has none.
            runtime: data.join("run"),
            config: user.config.join(XDG_NAME),
            data,
        }
    }

    /// Checks that the paths are valid text: the registry and every `--json` output are UTF-8.
    ///
    /// # Errors
    /// A path isn't UTF-8.
    pub fn check_paths(&self) -> anyhow::Result<()> {
        for dir in [&self.data, &self.logs, &self.config] {
            if dir.to_str().is_none() {
                bail!(
                    "the path {} is not valid UTF-8, and a home's path must be; choose another home",
                    dir.display()
                );
            }
        }
        Ok(())
    }

    /// Creates all missing directories and closes them to others. May be called at any time.
    ///
    /// # Errors
    /// A directory can't be created, isn't a directory, belongs to another user, or may be written by others; or a path
    /// isn't UTF-8.
    pub fn create(&self) -> anyhow::Result<()> {
        self.check_paths()?;
        make_private(&self.data)?;
        check_owner_alone_writes(&self.data)?;
        for dir in self.own_directories() {
            make_private(&dir)?;
            close_to_others(&dir)?;
        }
        Ok(())
    }

    /// Returns the directories that belong to the host alone.
    fn own_directories(&self) -> [PathBuf; 7] {
        [
            self.logs.clone(),
            self.runtime.clone(),
            self.store_dir(),
            self.library_copies_dir(),
            self.drop_in_dir(),
            self.states_dir(),
            self.past_dir(),
        ]
    }

    /// Checks the home's top directory as [`Home::create`] does, and makes nothing.
    ///
    /// # Errors
    /// It can't be read, belongs to another user, or may be written by others.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_paths()?;
        check_owner_alone_writes(&self.data)
    }

    /// Returns the host's directories that are open to others, or that can't be read. [`Home::create`] closes them.
    #[must_use]
    pub fn open_to_others(&self) -> Vec<PathBuf> {
        let is_open = |dir: &PathBuf| match fs::metadata(dir) {
            Ok(metadata) => private::is_open_to_others(dir, &metadata).unwrap_or(true),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        self.own_directories().into_iter().filter(is_open).collect()
    }

    /// Returns `file` as a path below [`Home::data`] if it lies in the home, by whatever path it was reached.
    pub fn path_through(&self, file: &Path) -> PathBuf {
        let resolved = || {
            let dir = file.parent()?.canonicalize().ok()?;
            let inside = dir
                .strip_prefix(self.data.canonicalize().ok()?)
                .ok()?
                .to_owned();
            Some(self.data.join(inside).join(file.file_name()?))
        };
        match file.starts_with(&self.data) {
            true => file.to_owned(),
            false => resolved().unwrap_or_else(|| file.to_owned()),
        }
    }

    /// Creates the directory of the control socket if it is missing, and closes it to others.
    ///
    /// # Errors
    /// The same as [`Home::create`].
    pub fn create_runtime(&self) -> anyhow::Result<()> {
        make_private(&self.runtime)?;
        close_to_others(&self.runtime)
    }

    /// Returns the directory of the installed plugins, each named by its content hash.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Returns the directory of the private copies that running processes map.
    #[must_use]
    pub fn library_copies_dir(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Returns the drop-in directory. The host runs compiled plugins that are put there.
    #[must_use]
    pub fn drop_in_dir(&self) -> PathBuf {
        self.data.join(DROP_IN_DIR)
    }

    /// Returns the directory of the logs, with current and rotated files.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.logs.clone()
    }

    /// Returns the directory of the kept events, below that of the logs. The first event makes it.
    #[must_use]
    pub fn events_dir(&self) -> PathBuf {
        self.logs.join("events")
    }

    /// Returns the directory of the states that daemons hand over to their next instances.
    #[must_use]
    pub fn states_dir(&self) -> PathBuf {
        self.data.join("states")
    }

    /// Returns the directory of the archive, which keeps old states and uninstalled entries for a week.
    #[must_use]
    pub fn past_dir(&self) -> PathBuf {
        self.data.join("past")
    }

    /// Returns the directory of the lines that were typed to daemons, a file for each.
    #[must_use]
    pub fn history_dir(&self) -> PathBuf {
        self.data.join("history")
    }

    /// Returns the path of the registry, in human-readable JSON.
    #[must_use]
    pub fn registry_file(&self) -> PathBuf {
        self.data.join("registry.json")
    }

    /// Returns the path of the socket that controls the host. It may be too long to bind: see
    /// [`Home::control_socket_short`]. On Windows it is the name of a named pipe.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        control_address::of_home(&self.data, &self.runtime)
    }

    /// Returns a path to the control socket that is short enough to bind and to connect to.
    ///
    /// # Errors
    /// The real path is too long, and its directory doesn't exist (then nothing listens either: `ErrorKind::NotFound`),
    /// can't be opened, or this system can't shorten the path.
    pub fn control_socket_short(&self) -> io::Result<SocketPath> {
        control_address::short(self.control_socket())
    }

    /// Returns the variables by which another process finds this home: `DAE_HOME`, or for the user's own home those of
    /// XDG that it comes from.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if *self == Home::at(&self.data) {
            return vec![("DAE_HOME".to_owned(), text(&self.data))];
        }
        let state = self.logs.parent().filter(|dir| **dir != *self.data);
        let all = [
            ("XDG_DATA_HOME", self.data.parent()),
            ("XDG_CONFIG_HOME", self.config.parent()),
            ("XDG_STATE_HOME", state.and_then(Path::parent)),
        ];
        let given = all.into_iter().filter_map(|(name, dir)| {
            let dir = dir?;
            Some((name.to_owned(), text(dir)))
        });
        given.collect()
    }

    /// Takes the turn to change many daemons in one go; `None` if another process has it. Closing the file ends the turn.
    ///
    /// # Errors
    /// The file can't be made or locked.
    pub fn apply_turn(&self) -> io::Result<Option<File>> {
        let file = home_lock::open(&self.runtime.join("apply.lock"))?;
        Ok(home_lock::try_lock(&file)?.then_some(file))
    }

    /// Returns the path of the file whose lock gives exclusive use of the home.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.data.join("lock")
    }

    /// Returns the path of the user's settings.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.json5")
    }
}

/// Creates a directory of mode 0700, with missing parents of the same mode, unless it exists.
///
/// # Errors
/// A disk error.
pub fn make_private(dir: &Path) -> anyhow::Result<()> {
    Ok(private::make_owners_directory(dir)
        .map_err(|e| DiskFault::new(&e, "make the directory", dir))?)
}

/// Checks that only the owner can write the home's top directory. The user may have created it, so its mode isn't
/// changed.
fn check_owner_alone_writes(dir: &Path) -> anyhow::Result<()> {
    let metadata = check_owner(dir)?;
    if let Some(who) = write_access::others_who_write(&metadata, AclTarget::Named(dir)) {
        bail!(
            "the home {} may be written by {who}, who could have this host run anything; {}",
            dir.display(),
            who.remedy(dir)
        );
    }
    Ok(())
}

/// Closes a directory to others. Directories below the home belong to the host, so their mode may be changed.
fn close_to_others(dir: &Path) -> anyhow::Result<()> {
    let metadata = check_owner(dir)?;
    let closed = private::close_to_others(dir, &metadata);
    Ok(closed.map_err(|e| DiskFault::new(&e, "close to others", dir))?)
}

/// Returns the metadata of a directory after checking that it belongs to the host's user.
fn check_owner(dir: &Path) -> anyhow::Result<fs::Metadata> {
    let fault = |e: &io::Error| DiskFault::new(e, "look at", dir);
    let metadata = fs::metadata(dir).map_err(|e| fault(&e))?;
    let other = write_access::other_owner(&metadata, AclTarget::Named(dir), false);
    if let Some(other) = other.map_err(|e| fault(&e))? {
        bail!(
            "{} belongs to user {}, and this host runs as user {}; run it as that user, \
             or choose another home",
            dir.display(),
            other.owner,
            other.ours
        );
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_holds_everything_and_paths_are_absolute() {
        let home = Home::at("some/where");
        assert!(home.data.is_absolute());
        for path in [
            home.lock_file(),
            home.registry_file(),
            home.config_file(),
            home.logs_dir(),
        ] {
            assert!(path.starts_with(&home.data), "{}", path.display());
        }
    }

    #[test]
    fn an_empty_choice_counts_as_none() {
        let chosen = Home::from_environment(Some(PathBuf::new()));
        let default = Home::from_environment(None);
        assert_eq!(chosen.ok(), default.ok());
    }

    #[test]
    fn user_directories_are_used_where_there_are_any() {
        let user = |state| UserDirectories {
            data: "/u/data".into(),
            state,
            config: "/u/config".into(),
        };
        let home = Home::of_user(user(Some("/u/state".into())));
        assert_eq!(home.data, Path::new("/u/data/dae"));
        assert_eq!(home.logs, Path::new("/u/state/dae/logs"));
        assert_eq!(home.runtime, Path::new("/u/data/dae/run"));
        assert_eq!(home.config_file(), Path::new("/u/config/dae/config.json5"));
        let home = Home::of_user(user(None));
        assert_eq!(home.logs, Path::new("/u/data/dae/logs"));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let home = Home::at(file.join("h"));
        let text = home.create().unwrap_err().to_string();
        let named = home.data.display().to_string();
        assert!(
            text.contains(&named) && text.contains("is a file"),
            "{text}"
        );
    }
}
