//! The Common TCP codec: converts bytes to messages and messages to bytes, without sockets.
//!
//! A message is one line, `name[#tag] [arguments]`. [`Inbox`] cuts incoming bytes into lines and reads the name,
//! tag and arguments of each line. [`open_reply`], [`write_message`] and [`write_error`] append lines to a buffer
//! that the caller sends in one write.
//!
//! The codec passes arguments on as text and never parses them. The daemon that receives them parses them once,
//! straight into its own types. The price: the codec doesn't know whether the arguments are JSON.
//!
//! Invariants: the lines don't depend on how the bytes were split over reads. No input causes a panic. Memory is
//! bounded by the line limit plus one read, whatever arrives. The codec has no clocks, sockets or JSON values, and
//! doesn't decide what a line does.
//!
//! A faulty line is not an `Err` but a [`Line::Fault`]. The caller answers it in place of the reply, and the
//! connection goes on.
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

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod code;
mod cutter;
mod http;
mod inbox;
mod line_end;
mod message;
mod nearest;
mod opening;
mod parts;
mod reply;
mod telnet;
mod trace;

pub use code::{ErrorCode, UnknownErrorCode};
pub use inbox::{Front, Inbox, Lines};
pub use message::{Fault, Line, Message, is_name, read_line};
pub use nearest::nearest;
pub use opening::Protocol;
pub use parts::{PART, Part, asks_for_parts, write_part};
pub use reply::{
    DaemonError, Opening, close_reply, open_reply, write_daemon_error, write_error, write_message,
};
pub use trace::{NotATraceParent, TraceParent, trace_of, write_trace};

/// The default limit for a line, in bytes before its LF: 1 MiB, from the protocol.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The longest command name, in bytes. The protocol sets it; it is long enough for any name that a person types.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest tag, in bytes. The protocol sets it; a UUID or a trace id fits easily.
pub const TAG_BYTES_MAX: usize = 128;
