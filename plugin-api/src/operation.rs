//! The names of the operations that a daemon requests from its host by [`ask`](crate::abi::HostV1::ask) and
//! [`ask_later`](crate::abi::HostV1::ask_later).
//!
//! The types of the boundary are frozen; this list is where the host API grows. A host returns `UNKNOWN` for a name it
//! doesn't know. "At once" below stands for `ask`, "later" for `ask_later`; the parts of the request follow.
//!
//! - A number (of a guest, of a queue, of bytes) is a little-endian `u64` at the front of the request. The rest is
//!   UTF-8. A *line* is a name, a space and a JSON array, without a line feed.
//! - A *guest* is a connection that the daemon accepted or opened. The host numbers both kinds.
//! - A *queue* (`feed` in the wire names) is an event queue that the host keeps for one reader. The plugin chooses its
//!   number and never uses it twice while its library is loaded. A queue holds a limited number of bytes. When it is
//!   full, it ends with the line `disconnect ["slow-guest: …"]`.
//! - If another daemon fails or can't be reached, the status is `FAILED` and the text `{"code": …, "message": …}`, with
//!   an error code of Common TCP.

/// At once, no request. Returns the daemon's own credential, JSON.
pub const CREDENTIAL: &str = "credential";
/// At once, no request. Returns the daemon's config, a JSON object.
pub const CONFIG: &str = "config";
/// At once, no request. Returns the trace of the command whose code asks, as a `traceparent` of W3C Trace Context, or
/// `NOTHING`.
pub const TRACE_PARENT: &str = "traceparent";
/// At once: guest, in decimal. Returns `NOTHING` if the guest is there, otherwise `GONE`.
pub const GUEST_OPEN: &str = "guest.open";
/// At once: queue, guest. Adds the queue as a receiver of that guest's events. Returns `NOTHING` or `GONE`.
pub const GUEST_LISTEN: &str = "guest.listen";
/// At once: guest. Closes the connection as soon as all pending output is written.
pub const GUEST_CLOSE: &str = "guest.close";
/// At once: queue, topic. Puts into the queue what any daemon publishes on that topic.
pub const QUEUE_SUBSCRIBE: &str = "feed.subscribe";
/// At once: queue. Puts into the queue what anybody else publishes, on all topics. For a bridge alone.
pub const QUEUE_SUBSCRIBE_ALL: &str = "feed.subscribe_all";
/// At once: queue. Puts `appeared`, `changed` and `gone` into it, each with a credential.
pub const QUEUE_WATCH: &str = "feed.watch";
/// At once: queue. Ends it; has no effect on a queue that has already ended.
pub const QUEUE_CLOSE: &str = "feed.close";
/// At once: line. Publishes it; its name is the topic.
pub const PUBLISH: &str = "publish";
/// Later: name. Connects to that daemon. Returns the number of the new guest, then the other daemon's credential.
pub const CONNECT: &str = "connect";
/// Later: guest, line. Sends a command. Returns the reply's arguments, a JSON array, or `GONE` if the guest has gone.
pub const GUEST_CALL: &str = "guest.call";
/// Later: length of the name, name, line. Like [`GUEST_CALL`], on a connection to that daemon which the host keeps.
pub const CALL: &str = "call";
/// Later: guest, call, kind (one byte of [`kind`](crate::parts::kind)), item (JSON). Passes an item of that call, which came
/// by [`CallPartsV1`](crate::parts::CallPartsV1), to its caller. Returns `NOTHING` once the host has taken it, which may
/// wait until the caller has read what came before, or `GONE` if the caller no longer waits for that call.
pub const PART: &str = "part";
/// Later, no request. Keeps the daemon's state: `NOTHING` once it is on the disk.
pub const SAVE: &str = "save";
/// Later, no request. Returns the credentials of all daemons, a JSON array.
pub const LIST: &str = "list";
/// Later: name. Returns that daemon's credential, or `NOTHING`.
pub const FIND: &str = "find";
/// Later: credential, JSON. Provides a daemon of another host under the name `NAME@HOST`, which it returns. For a bridge
/// alone: a daemon with the grant `bridge`.
pub const PROVIDE: &str = "provide";
/// Later: name, with the host. Withdraws what [`PROVIDE`] has provided. Returns `NOTHING`, also if it isn't there.
pub const WITHDRAW: &str = "withdraw";
/// Later: queue. Returns the next lines, one or more, each with a line feed at its end; `GONE` after the last one.
pub const QUEUE_NEXT: &str = "feed.next";
