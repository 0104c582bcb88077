//! The hand-over in two phases: a snapshot of the state, and later what has changed since.
//!
//! `#[daemon(delta = Delta)]` stands for three methods of the author: `snapshot(&self) -> State`, `delta(&self) -> Delta`
//! and `apply(&self, Delta)`.

use proc_macro2::{Ident, TokenStream};
use quote::quote_spanned;
use syn::spanned::Spanned as _;
use syn::{ImplItem, ItemImpl, Result, Type};

use crate::model::{Daemon, fault};
use crate::state;

/// Checks that a daemon with a delta has a state, and the three methods.
pub fn check(daemon: &Daemon, item: &ItemImpl) -> Result<()> {
    let Some(ty) = &daemon.options.delta else {
        return Ok(());
    };
    if daemon.state.is_none() {
        let text = "`delta` is what has changed in the state, and this daemon has none: add `fn save(&self) -> State` and \
                    `start(…, state: Option<State>)`, or #[daemon(state = State)]";
        return fault(ty, text);
    }
    for (name, form) in [
        ("snapshot", "fn snapshot(&self) -> State"),
        ("delta", "fn delta(&self) -> Delta"),
        ("apply", "fn apply(&self, delta: Delta)"),
    ] {
        let is_it =
            |item: &ImplItem| matches!(item, ImplItem::Fn(method) if method.sig.ident == name);
        if !item.items.iter().any(is_it) {
            let text = format!(
                "a daemon with a `delta` has the methods `snapshot`, `delta` and `apply`; add `{form}`"
            );
            return fault(ty, text);
        }
    }
    Ok(())
}

/// Writes the glue functions of the three methods, or nothing for a daemon without a delta.
pub fn expand(daemon: &Daemon) -> TokenStream {
    let (Some(ty), Some(state)) = (&daemon.options.delta, &daemon.state) else {
        return TokenStream::new();
    };
    let version = state::version(daemon);
    let saving = |method: &str, ty: &Type| {
        let method = Ident::new(method, ty.span());
        quote_spanned! { ty.span() =>
            fn #method(
                live: DaeArc<DaeLive<Self>>,
                mut out: ::dae_plugin_api::abi::Output,
            ) -> ::std::option::Option<::dae_plugin_api::export::Work<()>> {
                ::std::option::Option::Some(::std::boxed::Box::pin(async move {
                    let saved: #ty = <_ as DaeStarted<#ty>>::started(Self::#method(&live.daemon))?;
                    ::dae_plugin_api::export::saved(#version, &saved, &mut out)
                }))
            }
        }
    };
    let (snapshot, delta) = (saving("snapshot", state), saving("delta", ty));
    quote_spanned! { ty.span() =>
        #snapshot

        #delta

        fn apply(
            live: DaeArc<DaeLive<Self>>,
            delta: &::dae_plugin_api::export::SavedState<'_>,
        ) -> ::std::option::Option<::dae_plugin_api::export::Work<()>> {
            let delta = delta.read_delta::<#ty>(#version);
            ::std::option::Option::Some(::std::boxed::Box::pin(async move {
                DaeEnded::ended(Self::apply(&live.daemon, delta?))
            }))
        }
    }
}
