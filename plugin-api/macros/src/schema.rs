//! Writes the expressions for the schemas of types: constants for the manifest, and calls for what only run time knows.
//!
//! The crate `dae_plugin_api` finds out whether a type has a schema; see its `Probe`.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{ReturnType, Type};

use crate::model::{Argument, Command, Daemon, Parameter, Slot, StartParameter};
use crate::{parts, types};

/// Returns the schema of a type, as a constant expression of type `&'static Schema`.
pub fn constant(daemon: &Daemon, ty: &Type) -> TokenStream {
    probed(daemon, ty, |ty| quote!(DaeProbe::<#ty>::SCHEMA))
}

/// Returns the schema of an argument. One that may be left out may be `null`, too.
pub fn constant_of_argument(daemon: &Daemon, argument: &Argument) -> TokenStream {
    let ty = &argument.ty;
    match argument.slot {
        Slot::Optional => probed(
            daemon,
            ty,
            |ty| quote!(DaeProbe::<::std::option::Option<#ty>>::SCHEMA),
        ),
        _ => constant(daemon, ty),
    }
}

/// Returns the schema of a command's result.
pub fn constant_of_result(daemon: &Daemon, command: &Command) -> TokenStream {
    match &parts::whole_output(command) {
        ReturnType::Default => quote!(DaeProbe::<()>::SCHEMA),
        ReturnType::Type(_, ty) => probed(
            daemon,
            ty,
            |ty| quote!(DaeProbe::<DaeReturned<#ty>>::SCHEMA),
        ),
    }
}

/// Writes the method that describes the types without a constant schema. It exists only with the feature `schema`.
pub fn describe(daemon: &Daemon) -> TokenStream {
    let commands = daemon
        .commands
        .iter()
        .map(|command| command_described(daemon, command));
    let mut start = daemon.start.iter().flat_map(|start| &start.parameters);
    let config = start.find_map(|one| match one {
        StartParameter::Config(ty) => Some(given(daemon, ty)),
        _ => None,
    });
    let config = config.map(|described| quote!(schemas.config(#described);));
    let state = daemon.state.as_ref().map(|ty| given(daemon, ty));
    let state = state.map(|described| quote!(schemas.state(#described);));
    let events = daemon.options.events.iter().map(|event| {
        let arguments = event.arguments.iter().map(|one| sent(daemon, &one.ty));
        quote!(schemas.event(::std::vec![#(#arguments),*]);)
    });
    quote! {
        ::dae_plugin_api::__with_schemas! {
            fn describe(schemas: &mut ::dae_plugin_api::export::RunTimeSchemas) {
                use ::dae_plugin_api::export::{DescribedLater as _, ResultLater as _, ResultNever as _, UndescribedLater as _};
                #(#commands)*
                #config
                #state
                #(#events)*
            }
        }
    }
}

fn command_described(daemon: &Daemon, command: &Command) -> TokenStream {
    let arguments = command.parameters.iter().filter_map(|one| match one {
        Parameter::Argument(argument) if argument.slot == Slot::Optional => {
            let ty = &argument.ty;
            let ty = syn::parse_quote!(::std::option::Option<#ty>);
            Some(given(daemon, &ty))
        }
        Parameter::Argument(argument) => Some(given(daemon, &argument.ty)),
        _ => None,
    });
    let result = match &parts::whole_output(command) {
        ReturnType::Default => quote!(::std::option::Option::None),
        ReturnType::Type(_, ty) if has_no_name(ty) => quote!(::std::option::Option::None),
        ReturnType::Type(_, ty) => {
            let ty = without_self(daemon, ty);
            quote_spanned!(ty.span() => (&&&&DaeProbe::<#ty>::NEW).result_schema(DaeProbe::<DaeReturned<#ty>>::SCHEMA))
        }
    };
    quote!(schemas.command(::std::vec![#(#arguments),*], #result);)
}

/// Returns the schema of a value that the daemon is given.
fn given(daemon: &Daemon, ty: &Type) -> TokenStream {
    described(daemon, ty, "given_schema")
}

/// Returns the schema of a value that the daemon sends.
fn sent(daemon: &Daemon, ty: &Type) -> TokenStream {
    described(daemon, ty, "sent_schema")
}

fn described(daemon: &Daemon, ty: &Type, method: &str) -> TokenStream {
    if has_no_name(ty) {
        return quote!(::std::option::Option::None);
    }
    let ty = without_self(daemon, ty);
    let method = Ident::new(method, ty.span());
    quote_spanned!(ty.span() => (&&DaeProbe::<#ty>::NEW).#method(DaeProbe::<#ty>::SCHEMA))
}

fn probed(
    daemon: &Daemon,
    ty: &Type,
    constant: impl FnOnce(TokenStream) -> TokenStream,
) -> TokenStream {
    match has_no_name(ty) {
        true => quote!(&::dae_plugin_api::export::Schema::Unknown),
        false => constant(without_self(daemon, ty)),
    }
}

/// Returns whether the type can't be written in an expression: `impl Trait` and `!`.
fn has_no_name(ty: &Type) -> bool {
    match ty {
        Type::ImplTrait(_) | Type::Never(_) => true,
        ty => types::inside(ty).into_iter().any(has_no_name),
    }
}

/// Returns the type's tokens, in which `Self` is the daemon's type: the constants stand outside of its `impl`.
fn without_self(daemon: &Daemon, ty: &Type) -> TokenStream {
    replaced(ty.to_token_stream(), &daemon.self_type.to_token_stream())
}

fn replaced(tokens: TokenStream, own: &TokenStream) -> TokenStream {
    let mut all = TokenStream::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => all.extend(own.clone()),
            TokenTree::Group(group) => {
                let mut inside = Group::new(group.delimiter(), replaced(group.stream(), own));
                inside.set_span(group.span());
                all.extend([TokenTree::Group(inside)]);
            }
            token => all.extend([token]),
        }
    }
    all
}
