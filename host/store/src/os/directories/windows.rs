//! `%LOCALAPPDATA%`, for everything. The directory that Windows copies to other machines of the user (`%APPDATA%`) is
//! not used: what is installed and the states belong to one machine.

use anyhow::Context as _;
use etcetera::base_strategy::{BaseStrategy, Windows};

use super::UserDirectories;
use crate::os::advice::NO_HOME_DIRECTORY;

/// Returns the user's directories.
///
/// # Errors
/// The user has no home directory.
pub(crate) fn of_user() -> anyhow::Result<UserDirectories> {
    let user = Windows::new().context(NO_HOME_DIRECTORY)?;
    // The crate calls this directory the one of caches, as Windows has no other for them.
    let local = user.cache_dir();
    Ok(UserDirectories {
        data: local.clone(),
        state: None,
        config: local,
    })
}
