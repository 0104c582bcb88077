//! Reads a command from its method: options, signature and parameters.

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, FnArg, ImplItemFn, LitStr, Meta, Pat, PatType, Receiver, ReceiverKind, Result,
    Safety, Signature, Type,
};

use crate::model::{self, Argument, Command, Faults, Kind, Parameter, Slot, fault};
use crate::types;

/// The command names that the host answers for every daemon.
const RESERVED: [&str; 5] = ["dae", "options", "help", "stats", "error"];
/// The longest name of a command (bytes, by Common TCP).
const NAME_BYTES_MAX: usize = 128;
/// The longest tuple of arguments that the glue code supports.
const ARGUMENTS_MAX: usize = 12;

const GENERIC: &str =
    "a command can't be generic: its arguments are read from JSON into types known here";

/// Reads a method that `attr` marks as a command.
pub fn read(attr: &Attribute, method: &mut ImplItemFn) -> Result<Command> {
    let (blocking, name) = read_options(attr, method)?;
    let kind = match (method.sig.asyncness.is_some(), blocking) {
        (false, false) => Kind::Sync,
        (false, true) => Kind::Blocking,
        (true, false) => Kind::Async,
        (true, true) => {
            let text = "an async command never blocks a thread; `blocking` is for a plain `fn`";
            return fault(attr, text);
        }
    };
    check_signature(&method.sig)?;
    let parameters = read_parameters(method)?;
    Ok(Command {
        name,
        doc: model::doc_of(&method.attrs),
        method: method.sig.ident.clone(),
        kind,
        parameters,
        output: method.sig.output.clone(),
    })
}

fn read_options(attr: &Attribute, method: &ImplItemFn) -> Result<(bool, String)> {
    const KNOWN: &str = "#[command] knows `blocking` and `name = \"…\"`, and nothing else";
    let mut blocking = false;
    let mut name = method.sig.ident.unraw().to_string();
    let mut place = method.sig.ident.to_token_stream();
    let option = |meta: ParseNestedMeta<'_>| {
        if meta.path.is_ident("blocking") {
            blocking = true;
        } else if meta.path.is_ident("name") {
            let given: LitStr = meta.value()?.parse()?;
            (name, place) = (given.value(), given.into_token_stream());
        } else {
            return Err(meta.error(KNOWN));
        }
        Ok(())
    };
    match &attr.meta {
        Meta::Path(_) => {}
        Meta::List(_) => attr.parse_nested_meta(option)?,
        Meta::NameValue(_) => {
            return fault(&attr.meta, format!("{KNOWN}: #[command(name = \"…\")]"));
        }
    }
    check_name(&name, place)?;
    Ok((blocking, name))
}

fn check_name(name: &str, place: TokenStream) -> Result<()> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        let text =
            "a command's name is 1 to 128 bytes without white space, control characters or `#`";
        return fault(place, text);
    }
    if RESERVED.contains(&name) {
        let text =
            format!("`{name}` is answered by the host for every daemon; choose another name");
        return fault(place, text);
    }
    Ok(())
}

fn check_signature(sig: &Signature) -> Result<()> {
    if !sig.generics.params.is_empty() {
        return fault(&sig.generics, GENERIC);
    }
    if let Safety::Unsafe(word) = &sig.safety {
        let text = "a command can't be unsafe: a guest can't promise anything";
        return fault(word, text);
    }
    let Some(receiver) = sig.receiver() else {
        let text = "a command is a method: its first parameter is `&self`";
        return fault(&sig.ident, text);
    };
    check_receiver("a command", receiver)
}

/// Checks that the receiver is `&self`; `who` names the method in the error.
pub fn check_receiver(who: &str, receiver: &Receiver) -> Result<()> {
    let is_shared = matches!(&receiver.kind, ReceiverKind::Reference(_, None, None));
    if is_shared {
        return Ok(());
    }
    let text = format!(
        "{who} takes `&self`, since several guests call at the same time; \
         keep what changes in an atomic or behind a Mutex"
    );
    fault(receiver, text)
}

fn read_parameters(method: &mut ImplItemFn) -> Result<Vec<Parameter>> {
    let mut faults = Faults::default();
    let mut parameters = Vec::new();
    for input in &mut method.sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        match read_parameter(input) {
            Ok(parameter) => parameters.push(parameter),
            Err(fault) => faults.add(fault),
        }
    }
    let mut parameters = faults.none_or(parameters)?;
    free_trailing_options(&mut parameters);
    check_rest(&parameters)?;
    check_count(&parameters)?;
    Ok(parameters)
}

fn check_count(parameters: &[Parameter]) -> Result<()> {
    match arguments(parameters).nth(ARGUMENTS_MAX) {
        Some(surplus) => {
            let text = format!(
                "a command takes at most {ARGUMENTS_MAX} arguments; take an object instead"
            );
            fault(&surplus.ty, text)
        }
        None => Ok(()),
    }
}

fn arguments(parameters: &[Parameter]) -> impl Iterator<Item = &Argument> {
    parameters.iter().filter_map(|one| match one {
        Parameter::Argument(argument) => Some(argument),
        _ => None,
    })
}

fn read_parameter(input: &mut PatType) -> Result<Parameter> {
    let all = input.attrs.len();
    input.attrs.retain(|attr| !attr.path().is_ident("rest"));
    let is_rest = input.attrs.len() < all;
    if let (false, Some(given)) = (is_rest, types::given_by_host(&input.ty)) {
        return Ok(given);
    }
    let Pat::Ident(name) = &*input.pat else {
        let text = "an argument has a plain name, which `help` shows";
        return fault(&input.pat, text);
    };
    let name = name.ident.unraw().to_string();
    let (slot, ty) = read_type(&input.ty, is_rest)?;
    Ok(Parameter::Argument(Argument { name, slot, ty }))
}

fn read_type(ty: &Type, is_rest: bool) -> Result<(Slot, Type)> {
    if is_rest {
        let text = "#[rest] takes all arguments that are left: its type is `Vec<T>`";
        let inner = types::inner_of(ty, "Vec").cloned();
        return inner.map_or_else(|| fault(ty, text), |inner| Ok((Slot::Rest, inner)));
    }
    match ty {
        _ if types::is_str_reference(ty) => Ok((Slot::Text, ty.clone())),
        Type::Reference(_) => {
            let text = "an argument is read from JSON: an owned type that serde reads, or `&str`; \
                        a reference may only be to `Guest` or `Ecosystem`, which the host gives";
            fault(ty, text)
        }
        Type::ImplTrait(_) => fault(ty, GENERIC),
        _ => Ok((Slot::Required, ty.clone())),
    }
}

/// Makes each `Option<T>` optional that is followed only by other such arguments and a `#[rest]`.
fn free_trailing_options(parameters: &mut [Parameter]) {
    for parameter in parameters.iter_mut().rev() {
        let Parameter::Argument(argument) = parameter else {
            continue;
        };
        match (
            argument.slot,
            types::inner_of(&argument.ty, "Option").cloned(),
        ) {
            (Slot::Rest, _) => {}
            (Slot::Required, Some(inner)) => {
                argument.slot = Slot::Optional;
                argument.ty = inner;
            }
            _ => return,
        }
    }
}

fn check_rest(parameters: &[Parameter]) -> Result<()> {
    let mut all_but_last: Vec<_> = arguments(parameters).collect();
    all_but_last.pop();
    match all_but_last.iter().find(|one| one.slot == Slot::Rest) {
        Some(early) => {
            let text = "#[rest] takes all arguments that are left, so it is the last one";
            fault(&early.ty, text)
        }
        None => Ok(()),
    }
}
