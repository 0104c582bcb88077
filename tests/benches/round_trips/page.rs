//! The figures of `host/docs/performance.md` and the short table of `README.md`, generated from the stored figures of
//! the benches.
//!
//! They are between two comments, which are placed by hand once. Everything between the comments is rewritten. Ratios
//! are shown next to their targets, whether or not they are met. The rows of a bench that has not been run are left
//! out.

mod cells;
mod others;
mod round_trips;
mod short;

use std::fs;

use dae_tests::artefacts::workspace;

use super::figures;

/// The page's path in the workspace.
const PAGE: &str = "host/docs/performance.md";

/// The path of the page with the short table.
const README: &str = "README.md";

/// The line before the figures.
const BEGIN: &str = "<!-- figures: begin -->";

/// The line after the figures.
const END: &str = "<!-- figures: end -->";

/// Writes the figures into both pages.
///
/// Returns an error if the two comments are missing, or no bench has been run.
pub(super) fn write() -> Result<(), String> {
    let kept = figures::kept(super::NAME);
    let kept = kept.ok_or("there are no figures yet: run the bench without --page")?;
    let text = round_trips::ratios(&kept) + &round_trips::commands(&kept) + &others::table();
    fill(PAGE, &text)?;
    fill(README, &short::table(&kept))
}

fn fill(page: &str, figures: &str) -> Result<(), String> {
    let path = workspace().join(page);
    let failed = |error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(failed)?;
    let parts = text.split_once(BEGIN);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        format!("{page} has no place for figures: a line `{BEGIN}` and, below it, a line `{END}`")
    })?;
    let text = format!("{before}{BEGIN}\n\n{figures}\n{END}{after}");
    fs::write(&path, text).map_err(failed)
}
