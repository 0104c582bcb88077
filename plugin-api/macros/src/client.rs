//! Reads a trait with `#[daemon_client]`, and writes the client in its place: a struct of the trait's name with one
//! method for each function.
//!
//! The schemas of the arguments and results are one constant text, as in a manifest. Those that only run time knows are made
//! by functions beside it. `dae_plugin_api::client` compares both with the daemon's own schemas when it connects.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, FnArg, ItemTrait, LitStr, Meta, Pat, PatType, Result, ReturnType, TraitItem,
    TraitItemFn, Type, Visibility,
};

use crate::manifest::Parts;
use crate::model::{self, Faults, Slot, fault};
use crate::options::{self, Row, Table, Takes};
use crate::{command, signature, types};

/// A client, as its author wrote it.
pub struct DaemonClient {
    /// The name of the daemon.
    name: String,
    calls: Vec<RemoteCall>,
}

/// A function of the trait: one command of the daemon.
struct RemoteCall {
    /// The name of the command.
    name: String,
    method: TraitItemFn,
    arguments: Vec<SentArgument>,
    /// The `T` of its `Result<T>`.
    result: Type,
}

/// An argument that a call sends.
struct SentArgument {
    ident: Ident,
    slot: Slot,
    /// The type as written; for a `#[rest]`, the `T` of its `Vec<T>`.
    ty: Type,
}

/// The methods that each client has besides its commands.
const OWN_METHODS: [&str; 3] = ["at", "named", "guest"];

/// The options of the attribute.
const OPTIONS: Table = Table {
    attribute: "#[daemon_client]",
    rows: &[Row::new("name", "name = \"…\"", Takes::Text)],
};

/// The options of `#[command]` on a function of the trait.
const COMMAND_OPTIONS: Table = Table {
    attribute: "#[command] of a client",
    rows: &[Row::new("name", "name = \"…\"", Takes::Text)],
};

/// Reads the trait and removes this macro's attributes from it.
pub fn read(options: TokenStream, item: &mut ItemTrait) -> Result<DaemonClient> {
    let mut faults = Faults::default();
    faults.take(check_trait(item));
    let mut given: Option<LitStr> = None;
    let options = options::read(&OPTIONS, options, |_, value| given = value.into_text());
    faults.take(options);
    let name = faults.take(model::read_name(
        "daemon_client",
        given.as_ref(),
        &type_of(&item.ident),
    ));
    let mut calls: Vec<RemoteCall> = Vec::new();
    for one in &mut item.items {
        if let Some(call) = faults.take(read_item(one)) {
            faults.take(check_unique(&calls, &call));
            calls.push(call);
        }
    }
    if item.items.is_empty() {
        let text =
            "this client has no command: write one as `async fn increment(&self) -> Result<u64>;`";
        faults.take(fault::<()>(&item.ident, text));
    }
    faults.none_or(DaemonClient {
        name: name.unwrap_or_default(),
        calls,
    })
}

fn type_of(ident: &Ident) -> Type {
    syn::parse_quote!(#ident)
}

fn check_trait(item: &ItemTrait) -> Result<()> {
    if !item.generics.params.is_empty() {
        let text = "a client can't be generic: a daemon has only the types that are written here";
        return fault(&item.generics, text);
    }
    if !item.supertraits.is_empty() {
        let text = "a client becomes a struct, which has no traits above it; leave them out";
        return fault(&item.supertraits, text);
    }
    match &item.unsafety {
        Some(word) => fault(word, "a client is never `unsafe`; leave the word out"),
        None => Ok(()),
    }
}

fn check_unique(calls: &[RemoteCall], call: &RemoteCall) -> Result<()> {
    let is_same = |other: &&RemoteCall| other.name == call.name;
    match calls.iter().find(is_same) {
        Some(_) => {
            let text = format!(
                "there is a function for the command `{}` already; leave one out, or give one another name by \
                 #[command(name = \"…\")]",
                call.name
            );
            fault(&call.method.sig.ident, text)
        }
        None => Ok(()),
    }
}

fn read_item(item: &mut TraitItem) -> Result<RemoteCall> {
    match item {
        TraitItem::Fn(method) => read_method(method),
        other => {
            let text = "a client has only functions, one for each command; move this out of it";
            fault(other, text)
        }
    }
}

fn read_method(method: &mut TraitItemFn) -> Result<RemoteCall> {
    let mut faults = Faults::default();
    let name = faults.take(take_name(method));
    faults.take(check_form(method));
    let result = faults.take(read_result(method));
    let arguments = faults.take(read_arguments(method));
    let (Some(name), Some(result), Some(arguments)) = faults.none_or((name, result, arguments))?
    else {
        unreachable!("what is absent has left its fault");
    };
    Ok(RemoteCall {
        name,
        method: method.clone(),
        arguments,
        result,
    })
}

/// Removes `#[command(name = "…")]`, and returns the name of the command.
fn take_name(method: &mut TraitItemFn) -> Result<String> {
    let (marks, others) = std::mem::take(&mut method.attrs)
        .into_iter()
        .partition::<Vec<Attribute>, _>(|attr| attr.path().is_ident("command"));
    method.attrs = others;
    let mut given = None;
    for mark in &marks {
        options::check_list(mark, &COMMAND_OPTIONS)?;
        if let Meta::List(list) = &mark.meta {
            options::read(&COMMAND_OPTIONS, list.tokens.clone(), |_, value| {
                given = value.into_text();
            })?;
        }
    }
    if let [_, second, ..] = marks.as_slice() {
        return fault(
            second,
            "#[command] stands here a second time; write it once",
        );
    }
    let ident = &method.sig.ident;
    let place = given
        .as_ref()
        .map_or_else(|| ident.to_token_stream(), |name| name.to_token_stream());
    let name = given.map_or_else(|| ident.unraw().to_string(), |name| name.value());
    if command::RESERVED.contains(&name.as_str()) {
        let text = format!(
            "`{name}` is answered by the host for every daemon, and is no function of a client; leave it out, and send it by \
             `guest().call(\"{name}\", ())`"
        );
        return fault(place, text);
    }
    command::check_name(&name, place)?;
    Ok(name)
}

fn check_form(method: &TraitItemFn) -> Result<()> {
    let TraitItemFn { sig, default, .. } = method;
    if let Some(mark) = model::cfg_of(&method.attrs) {
        let text = "a client has this function in every build, since all of them are compared with the daemon; put the #[cfg(…)] \
                    onto the trait, or write another trait for the other build";
        return fault(mark, text);
    }
    if let Some(body) = default {
        let text = "a function of a client has no body: the daemon has it; write `;` in its place";
        return fault(body, text);
    }
    if OWN_METHODS.iter().any(|own| sig.ident == own) {
        let text = format!(
            "`{0}` is a method of every client; name the function otherwise, and the command by #[command(name = \"{0}\")]",
            sig.ident
        );
        return fault(&sig.ident, text);
    }
    signature::check("a function of a client", sig)?;
    match sig.asyncness {
        Some(_) => Ok(()),
        None => {
            let text =
                "a call waits for its reply, so a function of a client is async: write `async fn`";
            fault(sig.fn_token, text)
        }
    }
}

fn read_result(method: &TraitItemFn) -> Result<Type> {
    const TEXT: &str = "a call can fail, so a function of a client returns `Result<T>` of `dae_plugin_api`; without a result, \
                        `Result<()>`";
    let ReturnType::Type(_, ty) = &method.sig.output else {
        return fault(&method.sig.ident, TEXT);
    };
    match (types::inner_of(ty, "Result"), types::inside(ty).len()) {
        (Some(result), 1) => Ok(result.clone()),
        _ => fault(ty, TEXT),
    }
}

fn read_arguments(method: &mut TraitItemFn) -> Result<Vec<SentArgument>> {
    let mut faults = Faults::default();
    let mut arguments: Vec<SentArgument> = Vec::new();
    for input in &mut method.sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if let Some(argument) = faults.take(read_argument(input)) {
            arguments.push(argument);
        }
    }
    let mut arguments = faults.none_or(arguments)?;
    for argument in arguments.iter_mut().rev() {
        match (argument.slot, types::inner_of(&argument.ty, "Option")) {
            (Slot::Rest, _) => {}
            (_, Some(_)) => argument.slot = Slot::Optional,
            (_, None) => break,
        }
    }
    let early = arguments.iter().rev().skip(1);
    match early.into_iter().find(|one| one.slot == Slot::Rest) {
        Some(early) => {
            let text = "#[rest] sends all arguments that are left, so it is the last one";
            fault(&early.ident, text)
        }
        None => Ok(arguments),
    }
}

fn read_argument(input: &mut PatType) -> Result<SentArgument> {
    command::take_doc(input)?;
    let is_rest = command::take_rest(input)?;
    command::check_cfg(input)?;
    if types::given_by_host(&input.ty).is_some() {
        let text = "the daemon's host supplies this, and no caller sends it; leave it out";
        return fault(&input.ty, text);
    }
    let Pat::Ident(name) = &*input.pat else {
        let text = "an argument has a plain name, which error messages show";
        return fault(&input.pat, text);
    };
    if let Some(any) = types::impl_trait_inside(&input.ty) {
        let text = "an argument of a client has a type known here; write it in place of `impl …`";
        return fault(any, text);
    }
    let (slot, ty) = match (is_rest, &*input.ty) {
        (true, ty) => {
            let text = "#[rest] sends all arguments that are left: its type is `Vec<T>`";
            let inner = types::inner_of(ty, "Vec").cloned();
            let inner = inner.map_or_else(|| fault(ty, text), Ok)?;
            (Slot::Rest, inner)
        }
        (false, ty) => (Slot::Required, ty.clone()),
    };
    Ok(SentArgument {
        ident: name.ident.clone(),
        slot,
        ty,
    })
}

/// Returns the struct that takes the trait's place.
pub fn expand(client: &DaemonClient, item: &ItemTrait) -> TokenStream {
    let ItemTrait {
        attrs, vis, ident, ..
    } = item;
    let own_methods = own_methods(client, vis);
    let methods = client.calls.iter().map(|call| method(call, vis));
    quote! {
        #(#attrs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #ident {
            connection: ::dae_plugin_api::client::DaemonConnection,
        }

        #[allow(dead_code, reason = "a client may have more commands than its caller needs")]
        impl #ident {
            #own_methods
            #(#methods)*
        }
    }
}

/// Writes the methods that every client has.
fn own_methods(DaemonClient { name, calls }: &DaemonClient, vis: &Visibility) -> TokenStream {
    let description = description(calls);
    let at = format!(
        "Connects to the daemon `{name}`, and checks that it has the commands of this client.\n\n# Errors\n\
         There is no such daemon, it can't be reached, or it doesn't fit: the error names the command and the argument."
    );
    quote! {
        #[doc = #at]
        #vis async fn at(eco: &::dae_plugin_api::Ecosystem) -> ::dae_plugin_api::Result<Self> {
            Self::named(eco, #name).await
        }

        /// Connects to the daemon `daemon`, which is installed under another name. Otherwise it works like `at`.
        ///
        /// # Errors
        /// The same as those of `at`.
        #vis async fn named(
            eco: &::dae_plugin_api::Ecosystem,
            daemon: &str,
        ) -> ::dae_plugin_api::Result<Self> {
            #description
            let connection = ::dae_plugin_api::client::DaemonConnection::open(eco, daemon, calls).await?;
            ::core::result::Result::Ok(Self { connection })
        }

        /// Returns the connection, for the daemon's events. It closes with the last clone of this client.
        #vis fn guest(&self) -> ::dae_plugin_api::Guest {
            self.connection.guest()
        }
    }
}

fn method(call: &RemoteCall, vis: &Visibility) -> TokenStream {
    let RemoteCall {
        name,
        method,
        arguments,
        result,
    } = call;
    let TraitItemFn { attrs, sig, .. } = method;
    let own = sig.receiver().map(|receiver| receiver.self_token);
    // No parameter can have this name, by its span.
    let line = Ident::new("line", Span::mixed_site());
    let mutable = (!arguments.is_empty()).then(|| quote!(mut));
    let pushes = arguments.iter().map(|SentArgument { ident, slot, ty }| {
        let shown = ident.unraw().to_string();
        let push = match slot {
            Slot::Optional => quote_spanned!(at(ty) => push_optional),
            Slot::Rest => quote_spanned!(at(ty) => push_rest),
            _ => quote_spanned!(at(ty) => push),
        };
        quote_spanned!(at(ty) => #line.#push(#shown, &#ident)?;)
    });
    let call = quote_spanned!(at(result) => #own.connection.call::<#result>(#line).await);
    quote! {
        #(#attrs)*
        #vis #sig {
            let #mutable #line = ::dae_plugin_api::client::CallLine::new(#name);
            #(#pushes)*
            #call
        }
    }
}

/// Returns a span for generated names that points to the author's type, so that the compiler reports errors there.
fn at(ty: &Type) -> Span {
    Span::mixed_site().located_at(ty.span())
}

/// Writes the variable `calls`, which describes the commands: a constant text in the form that `help` has for each of a
/// daemon's commands, and the functions for the schemas that only run time knows.
fn description(calls: &[RemoteCall]) -> TokenStream {
    let mut parts = Parts::default();
    parts.text("[");
    for (index, call) in calls.iter().enumerate() {
        parts.text(if index == 0 { "" } else { "," });
        put_call(&mut parts, call);
    }
    parts.text("]");
    let parts = parts.tokens();
    let late = late_schemas(calls);
    quote! {
        use ::dae_plugin_api::export::{ManifestPart as DaePart, Probe as DaeProbe, Undescribed as _};
        const __DAE_PARTS: &[DaePart] = #parts;
        const __DAE_LEN: usize = ::dae_plugin_api::export::joined_len(__DAE_PARTS);
        static __DAE_CLIENT: [u8; __DAE_LEN] = ::dae_plugin_api::export::join::<__DAE_LEN>(__DAE_PARTS);
        let calls = ::dae_plugin_api::client::ClientCalls::new(&__DAE_CLIENT);
        #late
    }
}

/// Writes a function for the schema of each argument and each result. They exist only with the feature `schema`.
fn late_schemas(calls: &[RemoteCall]) -> TokenStream {
    let schemas = calls.iter().flat_map(|call| {
        let sent = call.arguments.iter().map(|one| &one.ty);
        let sent = sent.map(|ty| late_schema(ty, &quote!(sent_schema)));
        sent.chain([late_schema(&call.result, &quote!(given_schema))])
    });
    quote! {
        ::dae_plugin_api::__with_schemas! {
            use ::dae_plugin_api::export::{DescribedLater as _, UndescribedLater as _};
            const __DAE_LATE: &[::dae_plugin_api::client::LateSchema] = &[#(#schemas),*];
            static __DAE_MADE: ::dae_plugin_api::client::LateSchemas =
                ::dae_plugin_api::client::LateSchemas::new(__DAE_LATE);
            let calls = calls.with_late(&__DAE_MADE);
        }
    }
}

fn late_schema(ty: &Type, method: &TokenStream) -> TokenStream {
    quote_spanned!(at(ty) => || (&&DaeProbe::<#ty>::NEW).#method(DaeProbe::<#ty>::SCHEMA))
}

fn put_call(parts: &mut Parts, call: &RemoteCall) {
    let name = crate::manifest::json_string(&call.name);
    parts.text(&format!("{{\"name\":{name},\"arguments\":["));
    for (index, one) in call.arguments.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = crate::manifest::json_string(&one.ident.unraw().to_string());
        let (optional, rest) = (one.slot == Slot::Optional, one.slot == Slot::Rest);
        parts.text(&format!(
            "{comma}{{\"name\":{name},\"optional\":{optional},\"rest\":{rest},\"schema\":"
        ));
        let ty = &one.ty;
        parts.schema(&quote!(DaeProbe::<#ty>::SCHEMA));
        parts.text("}");
    }
    parts.text("],\"result\":");
    let result = &call.result;
    parts.schema(&quote!(DaeProbe::<#result>::SCHEMA));
    parts.text("}");
}
