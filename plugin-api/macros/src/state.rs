//! The state that one instance hands to the next, by two methods or by two conversions.
//!
//! The methods are `save(&self) -> State` and `start(…, Option<State>)`. The conversions are `From<&Self> for State`
//! and `From<State> for Self` with `#[daemon(state = State)]`. In both cases serde writes and reads the type, and
//! `migrate` reads older versions.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Result, Type};

use crate::delta;
use crate::model::{Daemon, Lifecycle, StartParameter, fault};

/// Returns the type of the state, if there is one. Reports a state that has only one of its two parts, and a command
/// that keeps a state of which there is none.
pub fn check(daemon: &Daemon) -> Result<Option<Type>> {
    let state = check_parts(daemon)?;
    let saves = daemon.commands.iter().find_map(|one| one.saves.as_ref());
    match saves.filter(|_| state.is_none()) {
        Some(saves) => {
            let text = "`saves` keeps the daemon's state, and this daemon has none: add `fn save(&self) -> State` and \
                        `start(…, state: Option<State>)`, or #[daemon(state = State)]";
            fault(saves, text)
        }
        None => Ok(state),
    }
}

fn check_parts(daemon: &Daemon) -> Result<Option<Type>> {
    let taken = daemon
        .start
        .iter()
        .flat_map(|start| &start.parameters)
        .find_map(|one| match one {
            StartParameter::State(ty) => Some(ty),
            _ => None,
        });
    match (&daemon.options.state, taken, &daemon.save) {
        (None, None, None) => no_rest(daemon),
        (Some(ty), None, None) if daemon.start.is_none() => versioned(daemon, ty),
        (Some(ty), _, _) => {
            let text = "`state = Type` stands for `save` and `start`: it goes with neither of them";
            fault(ty, text)
        }
        (None, Some(ty), Some(_)) => versioned(daemon, ty),
        (None, Some(ty), None) => {
            let text = "`start` takes a state, and nothing saves one: add `fn save(&self) -> Result<State>`; \
                        a config that may be absent is `#[serde(default)]` on its fields";
            fault(ty, text)
        }
        (None, None, Some(save)) => {
            let text = "`save` gives a state, and nothing takes it: add `start(…, state: Option<State>) -> Result<Self>`";
            fault(&save.method, text)
        }
    }
}

/// Checks that a daemon with a state numbers its shape if it reads other shapes.
fn versioned(daemon: &Daemon, ty: &Type) -> Result<Option<Type>> {
    match (&daemon.migrate, &daemon.options.state_version) {
        (Some(migrate), None) => fault(
            &migrate.method,
            "`migrate` reads the states of earlier versions, and this state has the first version, 1; \
             number its present shape: #[daemon(state_version = 2)]",
        ),
        _ => Ok(Some(ty.clone())),
    }
}

/// Checks a daemon without a state: it has nothing that belongs to one.
fn no_rest(daemon: &Daemon) -> Result<Option<Type>> {
    const MISSING: &str = "this daemon hands no state over; add `fn save(&self) -> State` and `start(…, state: Option<State>)`, \
                           or #[daemon(state = State)]";
    if let Some(migrate) = &daemon.migrate {
        let text = format!("`migrate` reads an older state, and {MISSING}");
        return fault(&migrate.method, text);
    }
    if let Some((_, place)) = &daemon.options.state_version {
        let text = format!("`state_version` numbers the shape of a state, and {MISSING}");
        return fault(place, text);
    }
    Ok(None)
}

/// Returns the author's version number for the shape of the state.
pub fn version(daemon: &Daemon) -> u32 {
    daemon
        .options
        .state_version
        .as_ref()
        .map_or(1, |(version, _)| *version)
}

/// Returns code that reads `Option<State>` from the start request.
pub fn read(daemon: &Daemon) -> TokenStream {
    let Some(ty) = &daemon.state else {
        return quote!(::std::option::Option::None);
    };
    let (version, migrate) = (version(daemon), migrate(daemon));
    quote_spanned! { ty.span() =>
        match &request.state {
            ::std::option::Option::Some(saved) => ::std::option::Option::Some(saved.read::<#ty>(#version, #migrate)?),
            ::std::option::Option::None => ::std::option::Option::None,
        }
    }
}

/// Returns code that starts a daemon without `start`: from its state if there is one, otherwise from the default.
pub fn start_from(daemon: &Daemon, default: &TokenStream) -> TokenStream {
    if daemon.state.is_none() {
        return quote!(::std::result::Result::Ok(#default));
    }
    let state = read(daemon);
    quote! {
        ::std::result::Result::Ok(match #state {
            ::std::option::Option::Some(state) => <Self as ::std::convert::From<_>>::from(state),
            ::std::option::Option::None => #default,
        })
    }
}

/// Writes the glue functions `save` and `check_state`, and those of a delta, or nothing for a daemon without a state.
pub fn expand(daemon: &Daemon) -> TokenStream {
    let Some(ty) = &daemon.state else {
        return TokenStream::new();
    };
    let (version, migrate, save) = (version(daemon), migrate(daemon), save(daemon, ty));
    let saved =
        quote_spanned!(ty.span() => ::dae_plugin_api::export::saved(#version, &state, &mut out));
    let delta = delta::expand(daemon);
    quote! {
        fn save(
            live: DaeArc<DaeLive<Self>>,
            mut out: ::dae_plugin_api::abi::Output,
        ) -> ::std::option::Option<::dae_plugin_api::export::Work<()>> {
            ::std::option::Option::Some(::std::boxed::Box::pin(async move {
                let state: #ty = #save;
                #saved
            }))
        }

        fn check_state(
            state: &::dae_plugin_api::export::SavedState<'_>,
        ) -> ::std::result::Result<(), ::std::string::String> {
            state.read::<#ty>(#version, #migrate).map(::std::mem::drop)
        }

        #delta
    }
}

fn save(daemon: &Daemon, ty: &Type) -> TokenStream {
    match &daemon.save {
        Some(Lifecycle {
            method, is_async, ..
        }) => {
            let wait = is_async.then(|| quote!(.await));
            quote_spanned!(method.span() => <_ as DaeStarted<#ty>>::started(Self::#method(&live.daemon) #wait)?)
        }
        None => {
            quote_spanned!(ty.span() => <#ty as ::std::convert::From<&Self>>::from(&live.daemon))
        }
    }
}

fn migrate(daemon: &Daemon) -> TokenStream {
    match (&daemon.migrate, &daemon.state) {
        (Some(Lifecycle { method, .. }), Some(ty)) => quote_spanned! { method.span() =>
            ::std::option::Option::Some(&|version, state| <_ as DaeStarted<#ty>>::started(Self::#method(version, state)))
        },
        _ => quote!(::std::option::Option::None),
    }
}
