//! Entry points for the fuzzers: the parsers of this crate for bytes that another process wrote.
//!
//! Each function accepts any bytes, and panics if an invariant is broken. Nothing else uses this module.

use crate::hand_off::{HandedBack, Terms};
use crate::plugin::completion::RunEnd;
use crate::process::ipc::{FrameInbox, FrameKind, batch, split_u64};
use dae_store::log::Record;

/// Parses the frames between a host and its worker, at once and in pieces, and the payload of each frame.
pub fn frames(bytes: &[u8]) {
    let whole = frames_of(bytes, bytes.len());
    assert_eq!(whole, frames_of(bytes, 1));
    assert_eq!(whole, frames_of(bytes, 7));
}

fn frames_of(bytes: &[u8], piece_bytes: usize) -> Vec<String> {
    let mut inbox = FrameInbox::default();
    let mut lines = Vec::new();
    for piece in bytes.chunks(piece_bytes.max(1)) {
        inbox.room(piece.len()).extend_from_slice(piece);
        loop {
            match inbox.next() {
                Ok(Some(frame)) => {
                    read_payload(frame.kind, frame.payload);
                    lines.push(format!("{frame:?}"));
                }
                Ok(None) => break,
                Err(fault) => {
                    lines.push(fault.to_string());
                    return lines;
                }
            }
        }
    }
    lines
}

fn read_payload(kind: FrameKind, payload: &[u8]) {
    match kind {
        FrameKind::Batch | FrameKind::Replies => {
            let (_, entries) = split_u64(payload);
            if let Some(count) = batch::count(entries) {
                assert_eq!(batch::Entries(entries).count(), count);
            }
        }
        FrameKind::HandOff => {
            let terms = Terms::read(payload);
            assert_eq!(Terms::read(&terms.payload()), terms);
        }
        FrameKind::HandBack => {
            if let Some(back) = HandedBack::read(payload) {
                let parts = [&back.head()[..], &back.replies, &back.last, &back.rest].concat();
                assert_eq!(HandedBack::read(&parts), Some(back));
            }
        }
        FrameKind::Log => drop(serde_json::from_slice::<Record>(payload)),
        FrameKind::RunEnd => drop(serde_json::from_slice::<RunEnd>(payload)),
        _ => {}
    }
}
