//! Reads a command from its method: options, signature and parameters.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::ext::IdentExt as _;
use syn::{Attribute, FnArg, ImplItemFn, LitStr, Meta, Pat, PatType, Result, Type};

use crate::model::{self, Argument, Command, Effects, Faults, Kind, Parameter, Slot, fault};
use crate::options::{self, Row, Table, Takes, Value};
use crate::{parts, signature, types};

/// The command names that the host answers for every daemon.
pub const RESERVED: [&str; 5] = ["dae", "options", "help", "stats", "error"];
/// The name of the lines that carry the parts of replies.
const PART: &str = "part";
/// The longest name of a command (bytes, by Common TCP).
const NAME_BYTES_MAX: usize = 128;
/// The longest tuple of arguments that the glue code supports.
const ARGUMENTS_MAX: usize = 12;

/// The error of a `#[cfg]` on an argument. These are the attributes that the compiler and this macro take there.
const NO_CFG: &str = "an argument is there in every build; leave the #[cfg(…)] out: only a doc comment, `#[rest]` and lint \
                      levels such as #[allow(…)] go on an argument";

const ANY_TYPE: &str =
    "an argument is read from JSON into a type known here; write the type in place of `impl …`";

/// The options of the attribute.
const OPTIONS: Table = Table {
    attribute: "#[command]",
    rows: &[
        Row::new("blocking", "blocking", Takes::Nothing),
        Row::new("name", "name = \"…\"", Takes::Text),
        Row::new("timeout_s", "timeout_s = SECONDS", Takes::Seconds),
        Row::new("saves", "saves", Takes::Nothing),
        Row::new("read_only", "read_only", Takes::Nothing),
        Row::new("destructive", "destructive", Takes::Nothing),
        Row::new("idempotent", "idempotent", Takes::Nothing),
    ],
};

/// The options in `#[command(…)]`.
#[derive(Default)]
struct CommandOptions {
    is_blocking: bool,
    name: Option<LitStr>,
    timeout_ms: Option<u64>,
    saves: Option<TokenTree>,
    effects: Effects,
}

/// Reads a method that `attr` marks as a command.
pub fn read(attr: &Attribute, method: &mut ImplItemFn) -> Result<Command> {
    let mut faults = Faults::default();
    let options = faults.take(read_options(attr));
    let name = options
        .as_ref()
        .and_then(|options| faults.take(read_name(options, method)));
    let kind = options
        .as_ref()
        .and_then(|options| faults.take(read_kind(options, attr, method)));
    faults.take(signature::check("a command", &method.sig));
    let doc = faults.take(model::doc_of(&method.attrs));
    let parameters = faults.take(read_parameters(method));
    let given = parameters.as_deref().unwrap_or_default();
    let sent = faults.take(parts::read(kind, given, &method.sig.output));
    let faultless = (options, name, doc, kind, parameters, sent);
    let (Some(options), Some(name), Some(doc), Some(kind), Some(parameters), Some(sent)) =
        faults.none_or(faultless)?
    else {
        unreachable!("what is absent has left its fault");
    };
    Ok(Command {
        name,
        doc,
        method: method.sig.ident.clone(),
        kind,
        timeout_ms: options.timeout_ms,
        saves: options.saves,
        effects: options.effects,
        parameters,
        output: method.sig.output.clone(),
        parts: sent,
    })
}

fn read_options(attr: &Attribute) -> Result<CommandOptions> {
    let mut options = CommandOptions::default();
    options::check_list(attr, &OPTIONS)?;
    if let Meta::List(list) = &attr.meta {
        options::read(&OPTIONS, list.tokens.clone(), |name, value| {
            match (name, value) {
                ("blocking", _) => options.is_blocking = true,
                ("name", value) => options.name = value.into_text(),
                ("timeout_s", Value::Millis(ms)) => options.timeout_ms = Some(ms),
                ("saves", _) => options.saves = word(&list.tokens, "saves"),
                ("read_only", _) => options.effects.is_read_only = true,
                ("destructive", _) => options.effects.is_destructive = true,
                ("idempotent", _) => options.effects.is_idempotent = true,
                (name, _) => unreachable!("{name} has a row, and no arm for its value"),
            }
        })?;
    }
    match options.effects {
        Effects {
            is_read_only: true,
            is_destructive: true,
            ..
        } => fault(
            attr,
            "a command that destroys something doesn't only read: `read_only` and `destructive` exclude each other",
        ),
        _ => Ok(options),
    }
}

/// Returns the word in these tokens, for an error at its place.
fn word(tokens: &TokenStream, word: &str) -> Option<TokenTree> {
    let is_it = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if ident == word);
    tokens.clone().into_iter().find(is_it)
}

fn read_name(options: &CommandOptions, method: &ImplItemFn) -> Result<String> {
    let (name, place) = match &options.name {
        Some(given) => (given.value(), given.to_token_stream()),
        None => {
            let ident = &method.sig.ident;
            (ident.unraw().to_string(), ident.to_token_stream())
        }
    };
    check_name(&name, place)?;
    Ok(name)
}

fn read_kind(options: &CommandOptions, attr: &Attribute, method: &ImplItemFn) -> Result<Kind> {
    match (method.sig.asyncness.is_some(), options.is_blocking) {
        (false, false) => Ok(Kind::Sync),
        (false, true) => Ok(Kind::Blocking),
        (true, false) => Ok(Kind::Async),
        (true, true) => {
            let text = "an async command never blocks a thread; `blocking` is for a plain `fn`";
            fault(attr, text)
        }
    }
}

/// Returns whether the text can be the name of a command or an event.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(plain)
}

/// Checks the name of a command. `place` is marked in the error.
pub fn check_name(name: &str, place: TokenStream) -> Result<()> {
    if !is_name(name) {
        let text =
            "a command's name is 1 to 128 bytes without white space, control characters or `#`";
        return fault(place, text);
    }
    if name == PART {
        let text =
            "`part` is the name of the lines that carry the parts of replies; choose another name";
        return fault(place, text);
    }
    if RESERVED.contains(&name) {
        let text =
            format!("`{name}` is answered by the host for every daemon; choose another name");
        return fault(place, text);
    }
    Ok(())
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
    let doc = take_doc(input)?;
    let is_rest = take_rest(input)?;
    check_cfg(input)?;
    let given = parts::given_by_host(&input.ty).or_else(|| types::given_by_host(&input.ty));
    if let (false, Some(given)) = (is_rest, given) {
        return Ok(given);
    }
    let Pat::Ident(name) = &*input.pat else {
        let text = "an argument has a plain name, which `help` shows";
        return fault(&input.pat, text);
    };
    let name = name.ident.unraw().to_string();
    let (slot, ty) = read_type(&input.ty, is_rest)?;
    Ok(Parameter::Argument(Argument {
        name,
        doc,
        slot,
        ty,
    }))
}

/// Removes the doc comment of a parameter, which the compiler allows nowhere but here, and returns it.
pub fn take_doc(input: &mut PatType) -> Result<String> {
    let doc = model::doc_of(&input.attrs);
    input.attrs.retain(|attr| !attr.path().is_ident("doc"));
    doc
}

/// Checks that the compiler can't remove a parameter that the generated code passes.
pub fn check_cfg(input: &PatType) -> Result<()> {
    match model::cfg_of(&input.attrs) {
        Some(mark) => fault(mark, NO_CFG),
        None => Ok(()),
    }
}

/// Removes `#[rest]` from the parameter, and returns whether it was there.
pub fn take_rest(input: &mut PatType) -> Result<bool> {
    let (marks, others) = std::mem::take(&mut input.attrs)
        .into_iter()
        .partition::<Vec<Attribute>, _>(model::is_rest);
    input.attrs = others;
    match marks.as_slice() {
        [] => Ok(false),
        [mark] => match mark.meta {
            Meta::Path(_) => Ok(true),
            _ => fault(mark, "#[rest] takes no options; write it alone"),
        },
        [.., last] => fault(last, "#[rest] stands here a second time; write it once"),
    }
}

fn read_type(ty: &Type, is_rest: bool) -> Result<(Slot, Type)> {
    if let Some(reference) = types::reference_inside(ty) {
        let text = "only a whole argument may be `&str`; a type inside another one is owned, since a string with escapes \
                    can't be borrowed from JSON: write `String`";
        return fault(reference, text);
    }
    if let Some(any) = types::impl_trait_inside(ty) {
        return fault(any, ANY_TYPE);
    }
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
