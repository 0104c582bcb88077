//! `export`: writes the file that declares the daemons as the host has them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use toml::Table;

use super::PresentDaemon;
use crate::Session;
use crate::client::Client;
use dae_store::atomic_file;
use dae_store::report::Mode;

/// The arguments of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The file to write; it must not exist [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Writes the declaration of the daemons that the host has.
pub(crate) fn export(session: &Session, args: &ExportArgs) -> Result<()> {
    let mut client = Client::control(session)?;
    let present = super::present(&mut client)?;
    let Some(path) = &args.file else {
        return match session.out.json {
            true => session.out.document(&document(&present)),
            false => session.out.line(text(session, &present)?.trim_end()),
        };
    };
    let text = text(session, &present)?;
    // Configs and environments may hold secrets.
    atomic_file::create_private(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let count = present.iter().filter_map(table).count();
    if session.out.json {
        return session
            .out
            .document(&json!({"file": path, "daemons": count}));
    }
    let path = path.display();
    session.out.note(&match count {
        1 => format!("{path} declares 1 daemon"),
        count => format!("{path} declares {count} daemons"),
    });
    Ok(())
}

/// The declared daemons as `--json` prints them.
#[derive(Debug, Serialize)]
struct ExportDocument<'a> {
    daemons: BTreeMap<&'a str, ExportedDaemon<'a>>,
}

/// The declaration of one daemon.
#[derive(Debug, Serialize)]
struct ExportedDaemon<'a> {
    /// The file; `None` for a daemon that is part of another program, which the TOML leaves out.
    file: Option<&'a str>,
    /// The port, if a person has chosen it.
    port: Option<u16>,
    mode: Mode,
    config: &'a Value,
    settings: &'a Value,
}

fn document(present: &[PresentDaemon]) -> ExportDocument<'_> {
    let declared = present.iter().map(|PresentDaemon { status, config }| {
        let daemon = ExportedDaemon {
            file: config.source.as_deref(),
            port: config.port.filter(|_| config.port_pinned),
            mode: config.mode,
            config: &config.config,
            settings: &config.given,
        };
        (status.name.as_str(), daemon)
    });
    ExportDocument {
        daemons: declared.collect(),
    }
}

fn text(session: &Session, present: &[PresentDaemon]) -> Result<String> {
    let mut daemons = Table::new();
    for one in present {
        match table(one) {
            Some(table) => drop(daemons.insert(one.status.name.clone(), table.into())),
            None => session.out.note(&format!(
                "{} has no file, since it is part of another program; it is left out",
                one.status.name
            )),
        }
    }
    let mut all = Table::new();
    all.insert("daemons".to_owned(), daemons.into());
    let text = toml::to_string_pretty(&all).context("the daemons can't be written as TOML")?;
    let home = session.home.data.display();
    Ok(format!(
        "# The daemons of {home}. `dae-host apply -f FILE` makes them so again.\n\n{text}"
    ))
}

/// Returns the declaration of one daemon; `None` if it has no file.
fn table(one: &PresentDaemon) -> Option<Table> {
    let config = &one.config;
    let Some(source) = &config.source else {
        return None;
    };
    let mut table = Table::new();
    table.insert("file".to_owned(), source.clone().into());
    if let Some(port) = config.port.filter(|_| config.port_pinned) {
        table.insert("port".to_owned(), i64::from(port).into());
    }
    if config.mode == Mode::Subprocess {
        table.insert("mode".to_owned(), config.mode.as_str().into());
    }
    for (key, value) in [("config", &config.config), ("settings", &config.given)] {
        if value.as_object().is_some_and(|members| !members.is_empty()) {
            table.insert(key.to_owned(), toml_of(value));
        }
    }
    Some(table)
}

/// Returns the value as TOML. One that TOML can't hold exactly, such as one with a null, becomes JSON text.
fn toml_of(value: &Value) -> toml::Value {
    let is_exact =
        |written: &toml::Value| serde_json::to_value(written).is_ok_and(|read| read == *value);
    let written = toml::Value::try_from(value).ok().filter(is_exact);
    written.unwrap_or_else(|| value.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_toml_cannot_hold_become_text() {
        let plain = json!({"a": [1, 2.5, "x"], "b": {"c": true}});
        assert!(toml_of(&plain).is_table());
        for (odd, text) in [
            (json!({"a": null}), r#"{"a":null}"#),
            (json!({"a": u64::MAX}), r#"{"a":18446744073709551615}"#),
        ] {
            assert_eq!(toml_of(&odd).as_str(), Some(text));
        }
    }
}
