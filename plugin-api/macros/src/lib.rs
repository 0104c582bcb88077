//! `#[daemon]`: turns an `impl` into a plugin.
//!
//! The walk: `model` reads the methods, by way of `command`, `lifecycle` and `reaction`, and says what is wrong with a
//! signature, at the signature; `manifest` writes what the file tells about itself without being loaded; `expand` writes
//! the glue. What the glue calls is in `dae_plugin_api::export`.

mod command;
mod expand;
mod lifecycle;
mod manifest;
mod model;
mod reaction;
mod state;
mod types;

use proc_macro::TokenStream;
use syn::{Error, Item, parse_macro_input};

/// Makes the type of this `impl` a daemon, and the crate its plugin.
///
/// - `#[daemon]`: under the type's own name.
/// - `#[daemon(exclusive)]`: two instances never run at once, not even during a reload.
/// - `#[daemon(state = T)]`: the state that one instance hands to the next, by `From<&Self> for T` and `From<T> for Self`;
///   or two methods, see the crate `dae_plugin_api`. `state_version = 2` numbers its shape.
/// - `#[daemon(name = "Sample")]`: under this one: 1 to 64 of `A-Z a-z 0-9 _ . -`.
///
/// See the crate `dae_plugin_api` for what the `impl` may hold. A crate has one daemon.
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
            // The methods stay, so that the only errors shown are ours.
            model::strip(&mut item);
            let errors = error.into_compile_error();
            quote::quote!(#errors #item).into()
        }
    }
}
