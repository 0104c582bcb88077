//! What a daemon asks of its host, by name: the operations of [`ask`](crate::abi::HostV1::ask) and
//! [`ask_later`](crate::abi::HostV1::ask_later).
//!
//! The types of the boundary are frozen; this list is what grows. A host that doesn't know a name answers `UNKNOWN`.
//!
//! - A number (of a guest, of a feed, of bytes) is a `u64` of eight bytes, the lowest first, before everything else; the
//!   rest is UTF-8. A *line* is a name, a space and a JSON array, without a line feed.
//! - A *guest* is a connection, accepted or opened by the daemon; both have their numbers from the host.
//! - A *feed* is a queue of lines that the host keeps for one reader. Its number is chosen by the plugin, and never used
//!   a second time in the life of an image. It holds a bounded number of bytes; past that its last line is
//!   `disconnect ["slow-guest: …"]`.
//! - A failure of another daemon, or of the way to it, is `FAILED` with `{"code": …, "message": …}`, the code being one of
//!   Common TCP's.

/// At once: the daemon's own credential, JSON.
pub const CREDENTIAL: &str = "credential";
/// At once: the daemon's config, a JSON object.
pub const CONFIG: &str = "config";
/// At once: whether the guest (its number in decimal) is there: `NOTHING`, or `GONE`.
pub const GUEST_OPEN: &str = "guest.open";
/// At once: feed, guest. From now on that guest's events go into that feed too. `NOTHING`, or `GONE`.
pub const GUEST_LISTEN: &str = "guest.listen";
/// At once: guest. Closes the connection, as soon as what is owed to it is written.
pub const GUEST_CLOSE: &str = "guest.close";
/// At once: feed, topic. What any daemon publishes on that topic goes into that feed.
pub const FEED_SUBSCRIBE: &str = "feed.subscribe";
/// At once: feed. `appeared`, `changed` and `gone`, each with a credential, go into it.
pub const FEED_WATCH: &str = "feed.watch";
/// At once: feed. Ends it; one that has ended already is left alone.
pub const FEED_CLOSE: &str = "feed.close";
/// At once: line, whose name is the topic.
pub const PUBLISH: &str = "publish";
/// Later: name. The answer is the number of the new guest, and the other daemon's credential behind it.
pub const CONNECT: &str = "connect";
/// Later: guest, line. Sends a command; the answer is the reply's arguments, a JSON array. `GONE` where the guest is.
pub const GUEST_CALL: &str = "guest.call";
/// Later: length of the name, name, line. As [`GUEST_CALL`], on a connection that the host keeps for it.
pub const CALL: &str = "call";
/// Later: the credentials of all daemons, a JSON array.
pub const LIST: &str = "list";
/// Later: name. That daemon's credential, or `NOTHING`.
pub const FIND: &str = "find";
/// Later: feed. The next lines, one or more, each ended by a line feed; `GONE` once there will be no more.
pub const FEED_NEXT: &str = "feed.next";
