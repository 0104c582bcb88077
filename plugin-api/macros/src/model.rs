//! What an `impl` says about its daemon, read from the syntax.
//!
//! Every fault is reported at the place that has it, all of them at once, and says what is allowed there.

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::parse::Parser as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Lit, LitStr, Meta, Pat,
    PatType, Receiver, Result, ReturnType, Type,
};

use crate::types;

/// A daemon as its author wrote it.
pub struct Daemon {
    pub name: String,
    pub about: String,
    pub self_type: Type,
    pub commands: Vec<Command>,
    pub start: Option<Lifecycle>,
    pub run: Option<Lifecycle>,
    pub stop: Option<Lifecycle>,
}

/// One `#[command]`.
pub struct Command {
    pub name: String,
    pub doc: String,
    pub method: Ident,
    pub kind: Kind,
    pub parameters: Vec<Parameter>,
    pub output: ReturnType,
}

/// How a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sync,
    Blocking,
    Async,
}

/// One parameter behind `&self`.
pub enum Parameter {
    /// Given by the host; `borrowed` where the author wrote a reference.
    Guest { borrowed: bool },
    /// Given by the host; `borrowed` where the author wrote a reference.
    Ecosystem { borrowed: bool },
    /// Read from the guest's line.
    Argument(Argument),
}

/// One argument of a command.
pub struct Argument {
    pub name: String,
    pub slot: Slot,
    /// The type as written; of `Option<T>` and `Vec<T>` in their slots, the `T`.
    pub ty: Type,
}

/// How an argument is taken from the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Required,
    Optional,
    Rest,
    /// `&str`.
    Text,
}

/// `start`, `run` or `stop`.
pub struct Lifecycle {
    pub method: Ident,
    pub is_async: bool,
    pub parameters: Vec<StartParameter>,
}

/// One parameter of `start`.
pub enum StartParameter {
    Ecosystem,
    Config(Type),
}

/// The host answers these for every daemon.
const RESERVED: [&str; 5] = ["dae", "options", "help", "stats", "error"];
/// What the glue's tuples take.
const ARGUMENTS_MAX: usize = 12;
/// A daemon's name, as the host's registry takes it.
const NAME_BYTES_MAX: usize = 64;

/// Reads the `impl`, and takes our attributes out of it.
pub fn read(options: TokenStream, item: &mut ItemImpl) -> Result<Daemon> {
    check_impl(item)?;
    let name = read_name(options, &item.self_ty)?;
    let mut daemon = Daemon {
        name,
        about: doc_of(&item.attrs),
        self_type: (*item.self_ty).clone(),
        commands: Vec::new(),
        start: None,
        run: None,
        stop: None,
    };
    let mut faults = Faults::default();
    for item in &mut item.items {
        if let ImplItem::Fn(method) = item
            && let Err(fault) = read_method(&mut daemon, method)
        {
            faults.add(fault);
        }
    }
    faults.none_or(daemon)
}

#[derive(Default)]
struct Faults(Option<Error>);

impl Faults {
    fn add(&mut self, fault: Error) {
        match &mut self.0 {
            Some(all) => all.combine(fault),
            none => *none = Some(fault),
        }
    }

    fn none_or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

fn check_impl(item: &ItemImpl) -> Result<()> {
    if let Some((path, _)) = &item.trait_ {
        let text = "#[daemon] goes on the type's own `impl`, not on that of a trait";
        return Err(Error::new(path.span(), text));
    }
    if !item.generics.params.is_empty() {
        let text = "a daemon's type can't be generic: its plugin is one compiled type";
        return Err(Error::new(item.generics.span(), text));
    }
    Ok(())
}

fn read_name(options: TokenStream, self_type: &Type) -> Result<String> {
    let mut given: Option<LitStr> = None;
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("name") {
            given = Some(meta.value()?.parse()?);
            return Ok(());
        }
        Err(meta.error("#[daemon] knows `name = \"…\"`, and nothing else"))
    });
    parser.parse2(options)?;
    let Some(given) = given else {
        return types::last_ident(self_type)
            .map(ToString::to_string)
            .ok_or_else(|| {
                Error::new(
                    self_type.span(),
                    "this type has no name; write #[daemon(name = \"…\")]",
                )
            });
    };
    let name = given.value();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !fits || !name.chars().all(plain) || name == "Dae" {
        let text = "a daemon's name is 1 to 64 of A-Z a-z 0-9 _ . - and not `Dae`, which is the host's own";
        return Err(Error::new(given.span(), text));
    }
    Ok(name)
}

fn read_method(daemon: &mut Daemon, method: &mut ImplItemFn) -> Result<()> {
    let at = method
        .attrs
        .iter()
        .position(|attr| attr.path().is_ident("command"));
    let place = match method.sig.ident.to_string().as_str() {
        "start" => Some(&mut daemon.start),
        "run" => Some(&mut daemon.run),
        "stop" => Some(&mut daemon.stop),
        _ => None,
    };
    match (at, place) {
        (Some(at), None) => {
            let attr = method.attrs.remove(at);
            let command = read_command(&attr, method)?;
            if daemon
                .commands
                .iter()
                .any(|other| other.name == command.name)
            {
                let text = format!("there is a command `{}` already", command.name);
                return Err(Error::new(method.sig.ident.span(), text));
            }
            daemon.commands.push(command);
        }
        (Some(_), Some(_)) => {
            let text = "`start`, `run` and `stop` are a daemon's lifecycle and can't be commands; \
                        keep the method under another name, or write #[command(name = \"…\")] on one";
            return Err(Error::new(method.sig.ident.span(), text));
        }
        (None, Some(place)) => *place = Some(read_lifecycle(method)?),
        (None, None) => {}
    }
    Ok(())
}

fn read_command(attr: &Attribute, method: &mut ImplItemFn) -> Result<Command> {
    let (blocking, name) = read_command_options(attr, method)?;
    let kind = match (method.sig.asyncness.is_some(), blocking) {
        (false, false) => Kind::Sync,
        (false, true) => Kind::Blocking,
        (true, false) => Kind::Async,
        (true, true) => {
            let text = "an async command never blocks a thread; `blocking` is for a plain `fn`";
            return Err(Error::new(attr.span(), text));
        }
    };
    check_signature(method)?;
    let parameters = read_parameters(method)?;
    Ok(Command {
        name,
        doc: doc_of(&method.attrs),
        method: method.sig.ident.clone(),
        kind,
        parameters,
        output: method.sig.output.clone(),
    })
}

fn read_command_options(attr: &Attribute, method: &ImplItemFn) -> Result<(bool, String)> {
    let mut blocking = false;
    let mut name = method.sig.ident.unraw().to_string();
    let mut place = method.sig.ident.span();
    if let Meta::List(_) = attr.meta {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("blocking") {
                blocking = true;
            } else if meta.path.is_ident("name") {
                let given: LitStr = meta.value()?.parse()?;
                (name, place) = (given.value(), given.span());
            } else {
                return Err(
                    meta.error("#[command] knows `blocking` and `name = \"…\"`, and nothing else")
                );
            }
            Ok(())
        })?;
    }
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
        let text =
            "a command's name is 1 to 128 bytes without white space, control characters or `#`";
        return Err(Error::new(place, text));
    }
    if RESERVED.contains(&name.as_str()) {
        let text =
            format!("`{name}` is answered by the host for every daemon; choose another name");
        return Err(Error::new(place, text));
    }
    Ok((blocking, name))
}

fn check_signature(method: &ImplItemFn) -> Result<()> {
    let sig = &method.sig;
    if let Some(first) = sig.generics.params.first() {
        let text =
            "a command can't be generic: its arguments are read from JSON into types known here";
        return Err(Error::new(first.span(), text));
    }
    let receiver = sig.receiver().ok_or_else(|| {
        let text = "a command is a method: its first parameter is `&self`";
        Error::new(sig.ident.span(), text)
    })?;
    check_receiver(receiver)
}

fn check_receiver(receiver: &Receiver) -> Result<()> {
    let written: String = quote::quote!(#receiver)
        .to_string()
        .split_whitespace()
        .collect();
    if written == "&self" {
        return Ok(());
    }
    let text = "it takes `&self`, since several guests call at the same time; \
                keep what changes in an atomic or behind a Mutex";
    Err(Error::new(receiver.span(), text))
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
    let count = parameters
        .iter()
        .filter(|one| matches!(one, Parameter::Argument(_)))
        .count();
    if count > ARGUMENTS_MAX {
        let text =
            format!("a command takes at most {ARGUMENTS_MAX} arguments; take an object instead");
        return Err(Error::new(method.sig.inputs.span(), text));
    }
    Ok(parameters)
}

fn read_parameter(input: &mut PatType) -> Result<Parameter> {
    let rest = input
        .attrs
        .iter()
        .position(|attr| attr.path().is_ident("rest"));
    if let Some(at) = rest {
        input.attrs.remove(at);
    }
    if let Some(given) = types::given_by_host(&input.ty) {
        return Ok(given);
    }
    let Pat::Ident(name) = &*input.pat else {
        let text = "an argument has a plain name, which `help` shows";
        return Err(Error::new(input.pat.span(), text));
    };
    let name = name.ident.unraw().to_string();
    let (slot, ty) = match rest {
        Some(_) => (Slot::Rest, types::inner_of(&input.ty, "Vec").cloned()),
        None if types::is_str_reference(&input.ty) => (Slot::Text, Some((*input.ty).clone())),
        None => (Slot::Required, Some((*input.ty).clone())),
    };
    let Some(ty) = ty else {
        let text = "#[rest] takes all arguments that are left: its type is `Vec<T>`";
        return Err(Error::new(input.ty.span(), text));
    };
    if slot == Slot::Required && matches!(&ty, Type::Reference(_)) {
        let text = "an argument is read from JSON: an owned type that serde reads, or `&str`; \
                    a reference may only be to `Guest` or `Ecosystem`, which the host gives";
        return Err(Error::new(ty.span(), text));
    }
    Ok(Parameter::Argument(Argument { name, slot, ty }))
}

/// An `Option<T>` with nothing but others and a rest behind it may be left out.
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
    let arguments = parameters.iter().filter_map(|one| match one {
        Parameter::Argument(argument) => Some(argument),
        _ => None,
    });
    let mut arguments: Vec<_> = arguments.collect();
    arguments.pop();
    match arguments.iter().find(|one| one.slot == Slot::Rest) {
        Some(early) => {
            let text = "#[rest] takes all arguments that are left, so it is the last one";
            Err(Error::new(early.ty.span(), text))
        }
        None => Ok(()),
    }
}

fn read_lifecycle(method: &ImplItemFn) -> Result<Lifecycle> {
    let is_start = method.sig.ident == "start";
    let receiver = method.sig.receiver();
    match (is_start, receiver) {
        (true, Some(receiver)) => {
            let text = "`start` makes the daemon: `start(Ecosystem, Config) -> Result<Self>`, without `self`";
            return Err(Error::new(receiver.span(), text));
        }
        (false, None) => {
            let text = format!(
                "`{}` is a method of the daemon: it takes `&self`",
                method.sig.ident
            );
            return Err(Error::new(method.sig.ident.span(), text));
        }
        (false, Some(receiver)) => check_receiver(receiver)?,
        (true, None) => {}
    }
    let typed = method.sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(&*input.ty),
        FnArg::Receiver(_) => None,
    });
    let parameters: Vec<StartParameter> = typed.map(start_parameter).collect();
    if !is_start && !parameters.is_empty() {
        let text = format!("`{}` takes `&self` alone", method.sig.ident);
        return Err(Error::new(method.sig.inputs.span(), text));
    }
    let configs = parameters
        .iter()
        .filter(|one| matches!(one, StartParameter::Config(_)))
        .count();
    if configs > 1 || parameters.len() > 2 {
        let text =
            "`start` takes an `Ecosystem`, a config of any type that serde reads, both, or neither";
        return Err(Error::new(method.sig.inputs.span(), text));
    }
    Ok(Lifecycle {
        method: method.sig.ident.clone(),
        is_async: method.sig.asyncness.is_some(),
        parameters,
    })
}

fn start_parameter(ty: &Type) -> StartParameter {
    match types::last_ident(ty) {
        Some(ident) if ident == "Ecosystem" => StartParameter::Ecosystem,
        _ => StartParameter::Config(ty.clone()),
    }
}

/// The text of the doc comments, one line a comment, trimmed.
fn doc_of(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(expr) => match &expr.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}
