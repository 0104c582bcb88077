//! The Common TCP codec: bytes to messages and messages to bytes, with no socket in sight.
//!
//! A message is one line, `name[#tag] [arguments]`. [`Inbox`] cuts what arrived into lines and reads
//! each one's name, tag and arguments; [`open_reply`], [`write_message`] and [`write_error`] append
//! lines to a buffer that the caller sends in one write.
//!
//! The arguments are handed on as text and are never parsed here: the daemon that takes them parses
//! them once, straight into its own types. What was given up for that is knowing here whether they
//! are JSON at all.
//!
//! Invariants: whichever way the bytes were split over reads, the same lines come out; no input
//! panics; the memory held is bounded by the line limit and one read, whatever arrives.
//! Absent on purpose: clocks, sockets, JSON values, and every decision about what a line does.
//!
//! What is wrong with a line is no `Err`: it is a [`Line::Fault`], to be answered to the guest in the
//! place of the reply, and the connection goes on.
//!
//! ```
//! use dae_common_tcp::{Inbox, LINE_BYTES_MAX, Line, close_reply, open_reply};
//!
//! let mut inbox = Inbox::new(LINE_BYTES_MAX);
//! inbox.room(64).extend_from_slice(b"add#7 [1,2]\r\nec");
//!
//! let mut out = Vec::new();
//! for line in inbox.lines() {
//!     let Line::Message(message) = line else { continue };
//!     assert_eq!(message.arguments, "[1,2]");
//!     let start = open_reply(&mut out, message.name, message.tag);
//!     out.push(b'3');
//!     close_reply(&mut out, start);
//! }
//! assert_eq!(out, b"add#7 [3]\n");
//! assert!(inbox.is_mid_line());
//! ```

mod code;
mod cutter;
mod http;
mod inbox;
mod line_end;
mod message;
mod nearest;
mod opening;
mod reply;
mod telnet;

pub use code::{ErrorCode, UnknownErrorCode};
pub use inbox::{Front, Inbox, Lines};
pub use message::{Fault, Line, Message, is_name, read_line};
pub use nearest::nearest;
pub use opening::Protocol;
pub use reply::{Opening, close_reply, open_reply, write_error, write_message};

/// The longest line, in bytes before its LF, unless configured otherwise: 1 MiB, from the protocol.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The longest name of a command, in bytes. From the protocol; long enough for any name a person types.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest tag, in bytes. From the protocol; a UUID or a trace id fits with room to spare.
pub const TAG_BYTES_MAX: usize = 128;
