//! The XDG directories, on macOS too.

use anyhow::Context as _;
use etcetera::base_strategy::{BaseStrategy, choose_base_strategy};

use super::UserDirectories;
use crate::os::advice::NO_HOME_DIRECTORY;

/// Returns the user's directories.
///
/// # Errors
/// The user has no home directory.
pub(crate) fn of_user() -> anyhow::Result<UserDirectories> {
    let user = choose_base_strategy().context(NO_HOME_DIRECTORY)?;
    Ok(UserDirectories {
        data: user.data_dir(),
        state: user.state_dir(),
        config: user.config_dir(),
    })
}
