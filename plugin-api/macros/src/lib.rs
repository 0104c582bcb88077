//! The attribute `#[daemon]`, which turns an `impl` into a plugin, and the derives of the prelude.
//!
//! `model` reads the methods with the help of `command`, `lifecycle` and `reaction`, and reports each wrong signature
//! at its place. `manifest` writes the description that the host reads from the file without loading it. `expand`
//! writes the glue code, which calls the functions of `dae_plugin_api::export`. `options` reads the options of all attributes, `event` the
//! events among them, `signature` checks what all methods have in common. `schema` asks for the schemas that only run time knows. `client` is `#[daemon_client]`. `derive` is independent of the rest.

mod client;
mod command;
mod delta;
mod derive;
mod event;
mod expand;
mod lifecycle;
mod manifest;
mod model;
mod nearest;
mod options;
mod parts;
mod reaction;
mod schema;
mod signature;
mod state;
mod types;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, Item, parse_macro_input};

use derive::Derive;

/// Makes the type of this `impl` a daemon, and its crate the plugin of that daemon.
///
/// - `#[daemon]`: names the daemon after its type.
/// - `#[daemon(name = "Sample")]`: sets another name, of 1 to 64 of `A-Z a-z 0-9 _ . -`.
/// - `#[daemon(exclusive)]`: never runs two instances at once, not even during a reload.
/// - `#[daemon(shared)]`: the daemons of this name on several hosts stand for each other, so that a bridge spreads calls to them.
/// - `#[daemon(state = T)]`: hands a state of type `T` from one instance to the next, by `From<&Self> for T` and
///   `From<T> for Self`. The methods `save` and `start` can do the same. `state_version = 2` numbers the shape of the
///   state.
/// - `#[daemon(delta = T)]`: hands over a snapshot of the state, and then what has changed since, by the methods `snapshot`,
///   `delta` and `apply`.
/// - `#[daemon(events(tick(u64), moved(x: f64, y: f64)))]`: declares the events that the daemon sends, with the types of their
///   arguments. Callers see them in its schema.
/// - `#[daemon(preflight = "start")]`: runs `start` as well in the preflight of a new file.
/// - `#[daemon(built_in)]`: makes a daemon that is only linked into a program which embeds the host. The crate is no plugin.
///
/// The crate `dae_plugin_api` documents the methods of the `impl`. A plugin has one daemon; a crate may have several that are
/// `built_in`.
#[proc_macro_attribute]
pub fn daemon(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = match parse_macro_input!(item as Item) {
        Item::Impl(item) => item,
        other => {
            let text = "#[daemon] goes on the `impl` of the daemon's type";
            let error = Error::new_spanned(&other, text).into_compile_error();
            return quote::quote!(#error #other).into();
        }
    };
    match model::read(options.into(), &mut item) {
        Ok(daemon) => expand::expand(&daemon, &item).into(),
        Err(error) => {
            // Keep the methods, so that the compiler shows only the errors found here.
            model::strip(&mut item);
            let errors = error.into_compile_error();
            quote::quote!(#errors #item).into()
        }
    }
}

/// Makes a method a command. It stands in an `impl` with `#[daemon]`, which reads it.
///
/// - `#[command]`: a `fn` that must not block, or an `async fn`. The command has the name of the method.
/// - `#[command(blocking)]`: a `fn` that may block.
/// - `#[command(name = "…")]`: sets another name.
/// - `#[command(timeout_s = 5)]`: sets the time limit of this command (seconds, from 0.001 to 86400), in place of the host's
///   setting `command_ms`.
/// - `#[command(saves)]`: keeps the daemon's state before the answer is sent.
/// - `#[command(read_only)]`, `destructive`, `idempotent`: marks for callers, which are in the command's schema. They change
///   nothing else.
///
/// A doc comment on an argument becomes the description in its schema.
#[proc_macro_attribute]
pub fn command(_: TokenStream, item: TokenStream) -> TokenStream {
    let text = "#[command] goes on a method in an `impl` with #[daemon]";
    misplaced(text, item)
}

/// Makes a client of this trait: a struct of its name, with a method for each of its functions. Each function is a command of
/// the daemon. It needs the feature `client` of `dae-plugin-api`.
///
/// - `#[daemon_client]`: the daemon has the name of the trait.
/// - `#[daemon_client(name = "Counter")]`: sets another name.
/// - `#[command(name = "…")]` on a function: the command has this name.
/// - `Option<T>` at the end: `None` is left out of the line.
/// - `#[rest] more: Vec<T>` at the end: each element is an argument of its own.
///
/// A function is an `async fn` that takes `&self` and returns `Result<T>`. `NAME::at(&eco)` connects, and compares the functions
/// with the daemon's schemas. A type of your own is compared if it derives `JsonSchema`, with the feature `schema`; otherwise it
/// fits. `NAME::named(&eco, "Other")` connects to a daemon of another name. The client may be cloned; the
/// connection closes with the last clone. `guest()` returns it, for events.
///
/// A call goes on after a reload or a restart of the daemon. If the new code no longer takes the arguments, it answers
/// `bad-arguments`; the schemas are compared again by the next `at`.
#[proc_macro_attribute]
pub fn daemon_client(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = match parse_macro_input!(item as Item) {
        Item::Trait(item) => item,
        other => {
            let text = "#[daemon_client] goes on a trait: `trait Counter { async fn count(&self) -> Result<u64>; }`";
            let error = Error::new_spanned(&other, text).into_compile_error();
            return quote::quote!(#error #other).into();
        }
    };
    match client::read(options.into(), &mut item) {
        Ok(client) => client::expand(&client, &item).into(),
        Err(error) => {
            // The name stays, so that the compiler shows only the errors found here.
            let (errors, vis, name) = (error.into_compile_error(), &item.vis, &item.ident);
            quote::quote!(#errors #vis struct #name;).into()
        }
    }
}

/// Takes the place of `daemon_client` in a crate without the feature `client`.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn __daemon_client_without_feature(_: TokenStream, item: TokenStream) -> TokenStream {
    let text = "#[daemon_client] needs the feature `client` of dae-plugin-api: add `features = [\"client\"]` in Cargo.toml";
    let error = Error::new(proc_macro2::Span::call_site(), text).into_compile_error();
    // The name stays, so that the compiler shows only this error.
    let named = match parse_macro_input!(item as Item) {
        Item::Trait(item) => {
            let (vis, name) = (&item.vis, &item.ident);
            quote::quote!(#vis struct #name;)
        }
        other => quote::quote!(#other),
    };
    quote::quote!(#error #named).into()
}

/// Calls a method when a guest connects or disconnects: `#[on(connect)]` or `#[on(disconnect)]`. It stands in an `impl`
/// with `#[daemon]`, which reads it.
#[proc_macro_attribute]
pub fn on(_: TokenStream, item: TokenStream) -> TokenStream {
    let text = "#[on(…)] goes on a method in an `impl` with #[daemon]";
    misplaced(text, item)
}

/// Returns the item, with an error at the attribute that stands on it. `#[daemon]` removes the attributes that it reads,
/// so only one outside of it is expanded.
fn misplaced(text: &str, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let error = Error::new(proc_macro2::Span::call_site(), text).into_compile_error();
    quote::quote!(#error #item).into()
}

/// Derives serde's `Serialize`, in a crate that needs no dependency on serde. All of serde's attributes apply.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    let derive = Derive::of_serde(quote::quote!(::dae_plugin_api::serde::Serialize));
    derive.expand(item).into()
}

/// Derives serde's `Deserialize`, in a crate that needs no dependency on serde. All of serde's attributes apply.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    let derive = Derive::of_serde(quote::quote!(::dae_plugin_api::serde::Deserialize));
    derive.expand(item).into()
}

/// Derives schemars' `JsonSchema`, in a crate that needs no dependency on schemars. The feature `schema` of
/// `dae-plugin-api` has the trait. All attributes of schemars and serde apply, and doc comments become descriptions.
#[proc_macro_derive(JsonSchema, attributes(schemars, serde))]
pub fn json_schema(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    Derive::of_schemars().expand(item).into()
}

/// Removes the item that it stands on: the copy that the derives above give to serde.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn __removed(_: TokenStream, _: TokenStream) -> TokenStream {
    TokenStream::new()
}
