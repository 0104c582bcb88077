//! `config NAME --edit`: config and settings of a daemon in an editor, as one JSON5 text.
//!
//! The edited text is checked by the host before anything changes. A text that is refused is kept in the file, so that no
//! work is lost.

use std::env;
use std::fs;
use std::io::{IsTerminal as _, Write as _, stdin};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::report;
use crate::Session;
use crate::client::Client;
use crate::exit::Fault;
use crate::interrupted;
use dae_runtime::os::wording::EDITOR_DEFAULT;
use dae_store::daemon_config::DaemonConfig;
use dae_store::json5_text;
use dae_store::report::{ConfigureRequest, Configured, Mode, TakesEffect};

/// The edited text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edited {
    port: Option<u16>,
    mode: Mode,
    config: Value,
    settings: Value,
}

/// Has a person edit the values, and applies them.
pub(super) fn edit(session: &Session, name: &str, is_agreed: bool) -> Result<()> {
    if session.out.json || !stdin().is_terminal() {
        let text = "--edit needs a terminal; `config NAME set PATH=VALUE` doesn't";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    let present: DaemonConfig = Client::control(session)?.ask("config", &[name])?;
    let before = text_of(&present)?;
    let mut file = tempfile::Builder::new()
        .prefix("dae-host-")
        .suffix(".json5")
        .tempfile()
        .context("cannot make a file for the editor")?;
    file.write_all(before.as_bytes())
        .and_then(|()| file.flush())
        .context("cannot write the file for the editor")?;
    run_editor(file.path())?;
    let after = fs::read_to_string(file.path()).context("cannot read the edited file")?;
    if after == before {
        session.out.note("nothing was changed");
        return Ok(());
    }
    let applied = apply(session, &present, (&after, is_agreed));
    if applied.is_err() {
        // The person's work stays.
        let (_, path) = file.keep().context("cannot keep the edited file")?;
        session
            .out
            .note(&format!("the edited text is kept in {}", path.display()));
    }
    applied
}

fn text_of(present: &DaemonConfig) -> Result<String> {
    let values = json!({
        "port": present.port,
        "mode": present.mode,
        "config": present.config,
        "settings": present.given,
    });
    let text = serde_json::to_string_pretty(&values)?;
    Ok(format!(
        "// The values of {}, in JSON5. `config` is for the daemon's own code. `settings` override those of config.json5;\n\
         // `dae-host config {} --all` shows all of them. Leave without a change to keep the values.\n{text}\n",
        present.name, present.name
    ))
}

fn run_editor(path: &std::path::Path) -> Result<()> {
    let named = |name| {
        env::var(name)
            .ok()
            .filter(|editor| !editor.trim().is_empty())
    };
    let editor = named("VISUAL").or_else(|| named("EDITOR"));
    let editor = editor.unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(EDITOR_DEFAULT);
    let ended = Command::new(program)
        .args(words)
        .arg(path)
        .status()
        .with_context(|| format!("cannot run the editor {program}; set EDITOR to another one"))?;
    match ended.success() {
        true => Ok(()),
        false => bail!("the editor {program} failed ({ended}); nothing was changed"),
    }
}

fn apply(session: &Session, present: &DaemonConfig, (text, is_agreed): (&str, bool)) -> Result<()> {
    let strict = json5_text::document_to_strict(text)
        .map_err(|reason| Fault::Usage(format!("the text is not JSON5: {reason}")))?;
    let edited: Edited = serde_json::from_str(&strict)
        .map_err(|error| Fault::Usage(format!("the text is not as expected: {error}")))?;
    let mut request = ConfigureRequest {
        name: present.name.clone(),
        config: Some(edited.config),
        settings: Some(edited.settings),
        port: edited.port.filter(|port| Some(*port) != present.port),
        mode: Some(edited.mode),
        dry_run: true,
        ..ConfigureRequest::default()
    };
    // Until the person has agreed, a signal finds nothing to tell of.
    let preview: Configured = Client::control(session)?.ask("configure", &[&request])?;
    if !is_agreed || preview.takes_effect == TakesEffect::Unchanged {
        report(session, &preview)?;
    }
    if preview.takes_effect == TakesEffect::Unchanged {
        return Ok(());
    }
    if !is_agreed && !is_confirmed()? {
        bail!("nothing was changed");
    }
    request.dry_run = false;
    let done: Configured = interrupted::client(session)?.ask("configure", &[&request])?;
    report(session, &done)
}

fn is_confirmed() -> Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "Apply? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
