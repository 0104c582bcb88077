//! The option `--strict` of the commands that replace a daemon's code.

/// The option of all commands that replace code.
#[derive(Debug, clap::Args)]
pub(super) struct CallerCheck {
    /// Refuse what breaks a caller; without this option, the daemon's setting `strict` decides
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) strict: Option<bool>,
}
