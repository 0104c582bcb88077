//! Files: any content is either read or refused with a message, and what was read survives a round trip.

use dae_store::config::Config;
use dae_store::registry::Registry;
use dae_store::{manifest, text_file};

/// Reads a plugin file, and the same bytes as the text of a manifest.
pub(crate) fn a_manifest(bytes: &[u8]) {
    let _ = manifest::mapped_bytes(bytes);
    for read in [manifest::parse(bytes), manifest::parse_text(bytes)] {
        match read {
            Ok(read) => drop(
                read.commands
                    .iter()
                    .map(|command| command.signature())
                    .collect::<Vec<_>>(),
            ),
            Err(fault) => assert!(!fault.to_string().trim().is_empty()),
        }
    }
}

/// Reads the registry, writes it and reads it again.
pub(crate) fn registry(bytes: &[u8]) {
    let Ok(text) = text_file::of_file(bytes.to_vec()) else {
        return;
    };
    match Registry::parse(&text) {
        Ok(registry) => {
            let written = serde_json::to_string_pretty(&registry).expect("a registry is JSON");
            let again = Registry::parse(&written).expect("it is read back");
            assert_eq!(again, registry);
        }
        Err(error) => assert!(!format!("{error:#}").trim().is_empty()),
    }
}

/// Reads the config file, with the settings of the daemons in it.
pub(crate) fn settings(bytes: &[u8]) {
    let Ok(text) = text_file::of_file(bytes.to_vec()) else {
        return;
    };
    match Config::parse(&text) {
        Ok(config) => {
            for name in config.daemons.keys() {
                let settings = config.settings(name, &serde_json::Value::Null);
                settings.expect("they were checked");
            }
        }
        Err(error) => assert!(!format!("{error:#}").trim().is_empty()),
    }
}
