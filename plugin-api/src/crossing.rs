//! The types that cross the boundary as JSON: one trait for each use, so that the compiler's error names the use.
//!
//! Serde's own traits would do. But then the compiler speaks of the functions behind the macro, and of how a list of
//! arguments is put together. Every type that serde reads or writes has these traits, and no author writes them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

macro_rules! written {
    ($(#[$doc:meta])* $name:ident, $message:literal) => {
        $(#[$doc])*
        #[diagnostic::on_unimplemented(
            message = $message,
            label = "serde can't write `{Self}`",
            note = "a type of another crate: look for a feature `serde` there, or wrap it in a type of this crate"
        )]
        pub trait $name: Serialize {}

        #[diagnostic::do_not_recommend]
        impl<T: Serialize + ?Sized> $name for T {}
    };
}

macro_rules! read {
    ($(#[$doc:meta])* $name:ident, $message:literal) => {
        $(#[$doc])*
        #[diagnostic::on_unimplemented(
            message = $message,
            label = "serde can't read `{Self}`",
            note = "a type of another crate: look for a feature `serde` there, or wrap it in a type of this crate"
        )]
        pub trait $name: DeserializeOwned {}

        #[diagnostic::do_not_recommend]
        impl<T: DeserializeOwned> $name for T {}
    };
}

written!(
    /// A result of a command.
    Reply,
    "`{Self}` can't be a reply: it doesn't implement `Serialize`; add #[derive(Serialize)]"
);
written!(
    /// The arguments of a call or an event that a daemon sends.
    Sent,
    "`{Self}` can't be sent: it doesn't implement `Serialize`; add #[derive(Serialize)]"
);
written!(
    /// A state that is saved.
    SavableState,
    "`{Self}` can't be a state: it doesn't implement `Serialize`; add #[derive(Serialize, Deserialize)]"
);
read!(
    /// A state that is read again.
    ReadableState,
    "`{Self}` can't be a state: it doesn't implement `Deserialize`; add #[derive(Serialize, Deserialize)]"
);
read!(
    /// The config of a daemon.
    Config,
    "`{Self}` can't be a config: it doesn't implement `Deserialize`; add #[derive(Deserialize)]"
);
read!(
    /// The reply to a call, or the arguments of an event, that a daemon receives.
    Received,
    "`{Self}` can't be received: it doesn't implement `Deserialize`; add #[derive(Deserialize)]"
);

/// An argument of a command.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument: it doesn't implement `Deserialize`; add #[derive(Deserialize)]",
    label = "serde can't read `{Self}`",
    note = "a type of another crate: look for a feature `serde` there, or wrap it in a type of this crate"
)]
pub trait ArgumentType<'de>: Deserialize<'de> {}

#[diagnostic::do_not_recommend]
impl<'de, T: Deserialize<'de>> ArgumentType<'de> for T {}

/// The text of an error, as a command, `start` or another method returns it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the error of a command: it has no text, which `Display` gives",
    label = "it doesn't implement `Display`",
    note = "implement `Display` for it, or return `dae_plugin_api::Result`, whose error `?` makes from most errors"
)]
pub trait ErrorText: std::fmt::Display {}

#[diagnostic::do_not_recommend]
impl<T: std::fmt::Display + ?Sized> ErrorText for T {}
