//! `check`: describes a plugin's file without running any of it. It needs no host.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::Session;
use super::words;
use dae_store::manifest::{self, Manifest, Needs};
use dae_store::printable::one_line;

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The compiled plugin
    file: PathBuf,
}

/// Describes a file without loading it.
pub(super) fn check(session: &Session, args: &CheckArgs) -> Result<()> {
    let found = manifest::read_with_needs(&args.file).and_then(|(manifest, needs)| {
        manifest::check_in_process(&manifest)?;
        Ok((manifest, needs))
    });
    if session.out.json {
        // JSON is UTF-8, and a path need not be.
        let file = args.file.to_string_lossy();
        session.out.document(&match &found {
            Ok((manifest, needs)) => {
                json!({"file": file, "ok": true, "reason": null, "manifest": manifest, "needs": needs.libraries})
            }
            Err(fault) => {
                let reason = fault.to_string();
                json!({"file": file, "ok": false, "reason": reason, "manifest": null, "needs": null})
            }
        })?;
    }
    let (manifest, needs) = found?;
    for library in beside(&args.file, &needs) {
        session.out.note(&format!(
            "{library} lies beside the file and may not be found: a plugin is loaded from a private copy in another \
             directory; put {library} where the system's loader looks, or link it statically"
        ));
    }
    match session.out.json {
        true => Ok(()),
        false => session.out.line(&described(&manifest, &needs)),
    }
}

/// Returns the libraries that the file finds beside itself, but its private copy would not.
fn beside<'a>(file: &Path, needs: &'a Needs) -> Vec<&'a String> {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let is_there = |library: &&String| needs.is_beside && real.with_file_name(library).is_file();
    needs.libraries.iter().filter(is_there).collect()
}

fn described(manifest: &Manifest, needs: &Needs) -> String {
    // Nothing of the file runs here, and an author's own types describe themselves only when it does.
    let schemas = match manifest.run_time_schemas {
        true => "of its own types after `install`, by `options --verbose`",
        false => "",
    };
    let mut facts = vec![
        ("about", manifest.about.clone()),
        (
            "abi",
            format!("{} (dae-plugin-api {})", manifest.abi, manifest.api_version),
        ),
        ("built by", manifest.rustc.clone()),
        ("target", manifest.target.clone()),
        ("panic", manifest.panic.clone()),
        ("needs", needs.libraries.join(", ")),
        ("schemas", schemas.to_owned()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let row = |command: &dae_store::manifest::Command| {
        let doc = command.doc.lines().next().unwrap_or_default();
        vec![
            format!("    {}", one_line(&command.signature())),
            one_line(doc).into_owned(),
        ]
    };
    let commands: Vec<_> = manifest.commands.iter().map(row).collect();
    let title = format!(
        "{} {}: a daemon that this host can run",
        manifest.name, manifest.version
    );
    format!(
        "{}\n{}\n  commands\n{}",
        one_line(&title),
        words::facts(&facts),
        words::aligned(&commands)
    )
}
