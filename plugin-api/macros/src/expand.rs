//! Writes a daemon's glue code: its `impl Exported`, its manifest section and its root module.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, ItemImpl, ReturnType};

use crate::manifest;
use crate::model::{
    Argument, Command, Daemon, Kind, Lifecycle, Parameter, PartsKind, Reaction, Slot,
    StartParameter,
};
use crate::{parts, schema, state, types};

/// Returns the author's `impl` together with the code that makes it a plugin.
pub fn expand(daemon: &Daemon, item: &ItemImpl) -> TokenStream {
    let exported = exported(daemon);
    let statics = statics(daemon);
    let only = (!daemon.options.is_built_in).then(|| only_daemon(daemon));
    quote! {
        #item
        #only
        #[automatically_derived]
        #[allow(clippy::unit_arg, clippy::let_unit_value, clippy::needless_borrow, clippy::redundant_closure_call)]
        const _: () = {
            #exported
            #statics
        };
    }
}

/// Writes a name that a crate can have only once, wherever its modules define it. A second daemon of a plugin would otherwise fail in
/// the linker. The compiler shows the name in its error, so the name is the rule.
fn only_daemon(daemon: &Daemon) -> TokenStream {
    let rule = Ident::new("a_crate_has_only_one_daemon", at(daemon.self_type.span()));
    quote! {
        #[doc(hidden)]
        #[allow(unused_macros, non_local_definitions)]
        #[macro_export]
        macro_rules! #rule {
            () => {};
        }
    }
}

fn exported(daemon: &Daemon) -> TokenStream {
    let ty = &daemon.self_type;
    let start = start(daemon);
    let state = state::expand(daemon);
    let call = call(daemon);
    let run = work("run", daemon.run.as_ref());
    let stop = work("stop", daemon.stop.as_ref());
    let connect = reaction("guest_came", daemon.connect.as_ref());
    let disconnect = reaction("guest_gone", daemon.disconnect.as_ref());
    let describe = schema::describe(daemon);
    quote! {
        // Under names that no author's type has: these are looked up before the names around the `impl`.
        use ::dae_plugin_api::export::{
            Call as DaeCall, CommandValue as DaeValue, Ended as DaeEnded, Exported as DaeExported, FallibleReply as _,
            Live as DaeLive, ManifestPart as DaePart, Optional as DaeOptional, PlainReply as _, Probe as DaeProbe,
            Required as DaeRequired, Rest as DaeRest, Returned as DaeReturned, Signature as DaeSignature, StartRequest as DaeStartRequest,
            Started as DaeStarted, Text as DaeText, Undescribed as _,
        };
        use ::std::sync::Arc as DaeArc;

        impl DaeExported for #ty {
            fn manifest() -> &'static str {
                __DAE_MANIFEST_TEXT
            }

            fn start(request: DaeStartRequest) -> ::dae_plugin_api::export::Work<Self> {
                ::std::boxed::Box::pin(async move { #start })
            }

            #call
            #run
            #stop
            #connect
            #disconnect
            #state
            #describe
        }
    }
}

fn call(daemon: &Daemon) -> TokenStream {
    let arms = daemon
        .commands
        .iter()
        .enumerate()
        .map(|(index, command)| arm(daemon, index, command));
    quote! {
        #[allow(unused_variables)]
        fn call(live: &DaeArc<DaeLive<Self>>, call: DaeCall<'_>) -> ::dae_plugin_api::abi::StepV1 {
            match call.command {
                #(#arms)*
                _ => call.unknown(),
            }
        }
    }
}

/// Returns a span for generated names that points to the author's code, so that the compiler reports errors there.
fn at(place: Span) -> Span {
    Span::call_site().located_at(place)
}

/// Returns the place of a method's return type, or of its name if it has none.
fn place_of_output(method: &Ident, output: &ReturnType) -> Span {
    match output {
        ReturnType::Default => at(method.span()),
        ReturnType::Type(_, ty) => at(ty.span()),
    }
}

fn start(daemon: &Daemon) -> TokenStream {
    let ty = &daemon.self_type;
    let Some(Lifecycle {
        method,
        is_async,
        parameters,
        output,
    }) = &daemon.start
    else {
        let default = quote_spanned!(ty.span() => <Self as ::std::default::Default>::default());
        return state::start_from(daemon, &default);
    };
    let given = parameters.iter().map(|parameter| match parameter {
        StartParameter::Ecosystem => quote!(request.ecosystem()),
        StartParameter::Config(ty) => quote_spanned!(at(ty.span()) => request.config::<#ty>()?),
        StartParameter::State(_) => state::read(daemon),
    });
    let place = place_of_output(method, output);
    let wait = is_async.then(|| quote_spanned!(place => .await));
    quote_spanned!(place => <_ as DaeStarted<Self>>::started(Self::#method(#(#given),*) #wait))
}

/// Writes a glue function that calls the author's method. Writes nothing if there is none: the trait has a default.
fn work(function: &str, method: Option<&Lifecycle>) -> TokenStream {
    let Some(Lifecycle {
        method,
        is_async,
        output,
        ..
    }) = method
    else {
        return TokenStream::new();
    };
    let function = format_ident!("{function}");
    let place = place_of_output(method, output);
    let wait = is_async.then(|| quote_spanned!(place => .await));
    let ended = quote_spanned!(place => DaeEnded::ended(Self::#method(&live.daemon) #wait));
    quote_spanned! { at(method.span()) =>
        fn #function(live: DaeArc<DaeLive<Self>>) -> ::std::option::Option<::dae_plugin_api::export::Work<()>> {
            ::std::option::Option::Some(::std::boxed::Box::pin(async move { #ended }))
        }
    }
}

/// Does the same as [`work`] for a method that runs when a guest connects or disconnects.
fn reaction(function: &str, reaction: Option<&Reaction>) -> TokenStream {
    let Some(Reaction {
        method,
        is_async,
        parameters,
        output,
    }) = reaction
    else {
        return TokenStream::new();
    };
    let function = format_ident!("{function}");
    let passed = passed(parameters, &[]);
    let place = place_of_output(method, output);
    let wait = is_async.then(|| quote_spanned!(place => .await));
    let ended =
        quote_spanned!(place => DaeEnded::ended(Self::#method(&live.daemon #(, #passed)*) #wait));
    quote_spanned! { at(method.span()) =>
        #[allow(unused_variables)]
        fn #function(
            live: DaeArc<DaeLive<Self>>,
            guest: ::dae_plugin_api::Guest,
        ) -> ::std::option::Option<::dae_plugin_api::export::Work<()>> {
            ::std::option::Option::Some(::std::boxed::Box::pin(async move {
                let ecosystem = live.ecosystem();
                #ended
            }))
        }
    }
}

/// Writes the match arm of one command: reads the arguments, calls the method, writes the result.
fn arm(daemon: &Daemon, index: usize, command: &Command) -> TokenStream {
    let index = u32::try_from(index).expect("fewer commands than u32 holds");
    let run = match command.runs() {
        Kind::Async => run_later(daemon, command),
        Kind::Sync | Kind::Blocking => run_now(daemon, command),
    };
    let parts = command.parts.map(|_| quote!(let parts = call.parts();));
    quote_spanned! { at(command.method.span()) =>
        #index => {
            let (guest, ecosystem) = (call.guest(), call.ecosystem());
            #parts
            #run
        }
    }
}

fn run_now(daemon: &Daemon, command: &Command) -> TokenStream {
    let (method, mut reply) = (&command.method, reply(command));
    if command.saves.is_some() {
        reply = quote!(::dae_plugin_api::export::kept_blocking(#reply, out, ecosystem));
    }
    let Taken {
        names,
        types,
        patterns,
        signature,
    } = Taken::of(daemon, command);
    let passed = passed(&command.parameters, &names);
    quote_spanned! { at(method.span()) =>
        call.now::<(#(#types,)*)>(#signature, |(#(#patterns,)*), out| {
            let value = Self::#method(&live.daemon #(, #passed)*);
            #reply
        })
    }
}

fn run_later(daemon: &Daemon, command: &Command) -> TokenStream {
    let (method, reply) = (&command.method, later_reply(command));
    let Taken {
        names,
        types,
        patterns,
        signature,
    } = Taken::of(daemon, command);
    let passed = passed(&command.parameters, &names);
    // A future outlives the guest's line, so it can't borrow from it.
    let owned = arguments(command)
        .zip(&names)
        .filter(|(one, _)| one.slot == Slot::Text)
        .map(|(_, name)| quote!(let #name = #name.into_owned();));
    let wait = (command.kind == Kind::Async).then(|| quote!(.await));
    let save = command.saves.as_ref().map(
        |_| quote!(let status = ::dae_plugin_api::export::kept(status, &mut out, ecosystem).await;),
    );
    quote_spanned! { at(method.span()) =>
        let owner = DaeArc::clone(live);
        call.later::<_, (#(#types,)*), _>(live, #signature, move |(#(#patterns,)*), mut out| {
            #(#owned)*
            async move {
                let status = {
                    let value = Self::#method(&owner.daemon #(, #passed)*) #wait;
                    #reply
                };
                #save
                status
            }
        })
    }
}

/// The code that reads a command's arguments from its line.
struct Taken {
    names: Vec<Ident>,
    types: Vec<TokenStream>,
    patterns: Vec<TokenStream>,
    signature: TokenStream,
}

impl Taken {
    fn of(daemon: &Daemon, command: &Command) -> Self {
        let names: Vec<Ident> = (0..arguments(command).count())
            .map(|n| format_ident!("argument_{n}"))
            .collect();
        let patterns = arguments(command).zip(&names);
        Taken {
            types: arguments(command).map(taken_type).collect(),
            patterns: patterns.map(|(one, name)| pattern(one, name)).collect(),
            signature: signature(daemon, command),
            names,
        }
    }
}

fn arguments(command: &Command) -> impl Iterator<Item = &Argument> {
    command.parameters.iter().filter_map(|one| match one {
        Parameter::Argument(argument) => Some(argument),
        _ => None,
    })
}

fn taken_type(argument: &Argument) -> TokenStream {
    let ty = &argument.ty;
    match argument.slot {
        Slot::Required => quote_spanned!(ty.span() => DaeRequired<#ty>),
        Slot::Optional => quote_spanned!(ty.span() => DaeOptional<#ty>),
        Slot::Rest => quote_spanned!(ty.span() => DaeRest<#ty>),
        Slot::Text => quote!(DaeRequired<DaeText>),
    }
}

fn pattern(argument: &Argument, name: &Ident) -> TokenStream {
    match argument.slot {
        Slot::Required => quote!(DaeRequired(#name)),
        Slot::Optional => quote!(DaeOptional(#name)),
        Slot::Rest => quote!(DaeRest(#name)),
        Slot::Text => quote!(DaeRequired(DaeText(#name))),
    }
}

/// Writes the command's signature, a constant.
fn signature(daemon: &Daemon, command: &Command) -> TokenStream {
    let entries = arguments(command).map(signature_entry);
    let takes_names = match arguments(command).next() {
        // The arguments of a rest alone are a list and have no names.
        Some(first) if first.slot != Slot::Rest => {
            let schema = schema::constant_of_argument(daemon, first);
            quote!((#schema).excludes_objects())
        }
        _ => quote!(false),
    };
    quote! {
        const {
            &DaeSignature {
                arguments: &[#(#entries),*],
                takes_names: #takes_names,
            }
        }
    }
}

fn signature_entry(argument: &Argument) -> TokenStream {
    let name = match argument.slot {
        Slot::Optional => format!("{}?", argument.name),
        Slot::Rest => format!("...{}", argument.name),
        Slot::Required | Slot::Text => argument.name.clone(),
    };
    let spoken = types::spoken(&argument.ty);
    quote!((#name, #spoken))
}

/// Returns the arguments for the call of the method, in the method's own order.
fn passed(parameters: &[Parameter], names: &[Ident]) -> Vec<TokenStream> {
    let mut names = names.iter();
    let one = |parameter: &Parameter| match parameter {
        Parameter::Guest { borrowed: false } => quote!(guest),
        Parameter::Guest { borrowed: true } => quote!(&guest),
        Parameter::Ecosystem { borrowed: false } => quote!(ecosystem),
        Parameter::Ecosystem { borrowed: true } => quote!(&ecosystem),
        Parameter::Progress(_) => quote!(parts.progress()),
        Parameter::Argument(argument) => {
            let name = names.next().expect("a name for each argument");
            match argument.slot {
                Slot::Text => quote!(&#name),
                _ => quote!(#name),
            }
        }
    };
    parameters.iter().map(one).collect()
}

/// Writes the result. If serde can't write its type, the compiler's error points to the return type.
fn reply(command: &Command) -> TokenStream {
    let place = place_of_output(&command.method, &command.output);
    quote_spanned!(place => (&DaeValue(&value)).reply_kind().write(&value, out))
}

/// Does the same as [`reply`] for a command that ends later, whose result may be a stream.
fn later_reply(command: &Command) -> TokenStream {
    if let Some(PartsKind::Items { fallible }) = command.parts {
        return parts::drain(fallible, &command.output);
    }
    let reply = reply(command);
    quote! {
        let out = &mut out;
        #reply
    }
}

fn statics(daemon: &Daemon) -> TokenStream {
    let ty = &daemon.self_type;
    let parts = manifest::parts(daemon);
    // Two crates that export a plugin can't be linked into one program: each would have the one symbol of plugins.
    let root_module = (!daemon.options.is_built_in)
        .then(|| quote!(::dae_plugin_api::__export_root_module!(#ty);));
    let section = (!daemon.options.is_built_in).then(section);
    quote! {
        const __DAE_MANIFEST_PARTS: &[DaePart] = #parts;
        const __DAE_MANIFEST_LEN: usize = ::dae_plugin_api::export::joined_len(__DAE_MANIFEST_PARTS);

        /// The manifest in a section of its own, so that the host can read it without running any code of this file.
        #section
        static __DAE_MANIFEST: [u8; __DAE_MANIFEST_LEN] =
            ::dae_plugin_api::export::join::<__DAE_MANIFEST_LEN>(__DAE_MANIFEST_PARTS);

        const __DAE_MANIFEST_TEXT: &str = match ::std::str::from_utf8(&__DAE_MANIFEST) {
            ::std::result::Result::Ok(text) => text,
            ::std::result::Result::Err(_) => panic!("the manifest is joined from strings"),
        };

        #root_module
    }
}

/// Returns the attributes that put the manifest into a section of the plugin's file.
fn section() -> TokenStream {
    quote! {
        #[used]
        #[allow(unsafe_code)]
        #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__dae_manifest"))]
        #[cfg_attr(windows, unsafe(link_section = ".daemani"))]
        #[cfg_attr(not(any(target_vendor = "apple", windows)), unsafe(link_section = ".dae_manifest"))]
    }
}
