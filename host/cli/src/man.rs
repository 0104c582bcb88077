//! `man`: writes the manual pages, one for the program and one for each of its commands.
//!
//! They are made from the definitions of the command line, so they say what `--help` says. A page that is there
//! already is replaced.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap_mangen::Man;
use serde_json::json;

use super::Session;

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory for the pages, such as ~/.local/share/man/man1; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// `man`: writes the manual pages.
pub(super) fn man(session: &Session, args: &Args) -> Result<()> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    let mut program = super::definition().disable_help_subcommand(true);
    program.build();
    let shown = program.get_subcommands().filter(|one| !one.is_hide_set());
    let pages: Vec<Man> = std::iter::once(program.clone())
        .chain(shown.cloned())
        .map(Man::new)
        .collect();
    for page in &pages {
        let file = directory.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text)
            .and_then(|()| fs::write(&file, text))
            .with_context(|| format!("cannot write the page {}", file.display()))?;
    }
    let document = json!({"directory": directory, "pages": pages.len()});
    let sentence = format!("{} pages are in {}", pages.len(), directory.display());
    session.out.done(&document, &sentence)
}
