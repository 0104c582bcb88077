//! `export`: writes the file that declares the daemons as the host has them.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use toml::Table;

use super::PresentDaemon;
use crate::Session;
use crate::client::Client;
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
    let text = text(session, &present)?;
    let Some(path) = &args.file else {
        return session.out.line(text.trim_end());
    };
    let file = std::fs::File::create_new(path);
    let mut file = file.with_context(|| format!("cannot make the file {}", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    let count = present.len();
    session
        .out
        .note(&format!("{} declares {count} daemons", path.display()));
    Ok(())
}

fn text(session: &Session, present: &[PresentDaemon]) -> Result<String> {
    let mut daemons = Table::new();
    for one in present {
        match table(one)? {
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
fn table(one: &PresentDaemon) -> Result<Option<Table>> {
    let config = &one.config;
    let Some(source) = &config.source else {
        return Ok(None);
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
            table.insert(key.to_owned(), toml_of(key, value)?);
        }
    }
    Ok(Some(table))
}

/// Returns the value as TOML. A config that TOML can't hold exactly, such as one with a null, becomes JSON text.
fn toml_of(key: &str, value: &Value) -> Result<toml::Value> {
    let is_exact =
        |written: &toml::Value| serde_json::to_value(written).is_ok_and(|read| read == *value);
    let written = toml::Value::try_from(value).ok().filter(is_exact);
    match written {
        Some(written) => Ok(written),
        None if key == "config" => Ok(value.to_string().into()),
        None => bail!("{key} can't be written as TOML: {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_toml_cannot_hold_becomes_text() {
        let plain = json!({"a": [1, 2.5, "x"], "b": {"c": true}});
        assert!(toml_of("config", &plain).expect("TOML").is_table());
        let odd = json!({"a": null});
        let text = toml_of("config", &odd).expect("text");
        assert_eq!(text.as_str(), Some(r#"{"a":null}"#));
        assert!(toml_of("settings", &odd).is_err());
    }
}
