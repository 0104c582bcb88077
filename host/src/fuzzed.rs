//! What the fuzzers in `tests/fuzz` reach inside of this library: readers of bytes that others wrote.
//!
//! Each takes any bytes, and panics where a promise is broken. Nothing else uses this module.

use crate::config::Config;
use crate::frame::loan::{HandedBack, Terms};
use crate::frame::{FrameInbox, Kind, batch, split_u64};
use crate::log::Record;
use crate::outcome::RunEnd;
use crate::registry::Registry;
use crate::{lenient, manifest, text};

/// Rewrites JSON5 arguments as strict JSON.
///
/// # Errors
/// They are not JSON5; the text says why.
pub fn to_strict(arguments: &str) -> Result<String, String> {
    lenient::to_strict(arguments)
}

/// Reads the frames between a host and its worker, at once and in pieces, and what is inside of each.
pub fn frames(bytes: &[u8]) {
    let whole = frames_of(bytes, bytes.len());
    assert_eq!(whole, frames_of(bytes, 1));
    assert_eq!(whole, frames_of(bytes, 7));
}

fn frames_of(bytes: &[u8], piece_bytes: usize) -> Vec<String> {
    let mut inbox = FrameInbox::default();
    let mut told = Vec::new();
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.room(piece.len()).extend_from_slice(piece);
        loop {
            match inbox.next() {
                Ok(Some(frame)) => {
                    read_payload(frame.kind, frame.payload);
                    told.push(format!("{frame:?}"));
                }
                Ok(None) => break,
                Err(fault) => {
                    told.push(fault.to_string());
                    return told;
                }
            }
        }
    }
    told
}

fn read_payload(kind: Kind, payload: &[u8]) {
    match kind {
        Kind::Batch | Kind::Replies => {
            let (_, entries) = split_u64(payload);
            if let Some(count) = batch::count(entries) {
                assert_eq!(batch::Entries(entries).count(), count);
            }
        }
        Kind::Lend => {
            let terms = Terms::read(payload);
            assert_eq!(Terms::read(&terms.payload()), terms);
        }
        Kind::HandBack => {
            if let Some(back) = HandedBack::read(payload) {
                let parts = [&back.head()[..], &back.replies, &back.last, &back.rest].concat();
                assert_eq!(HandedBack::read(&parts), Some(back));
            }
        }
        Kind::Log => drop(serde_json::from_slice::<Record>(payload)),
        Kind::RunEnd => drop(serde_json::from_slice::<RunEnd>(payload)),
        _ => {}
    }
}

/// Reads a plugin's file, and the same bytes as the text of a manifest.
pub fn manifest(bytes: &[u8]) {
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

/// Reads the registry; what was read is written and read back.
pub fn registry(bytes: &[u8]) {
    let Ok(text) = text::of_file(bytes.to_vec()) else {
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

/// Reads the config file, and in it the settings of daemons.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = text::of_file(bytes.to_vec()) else {
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
