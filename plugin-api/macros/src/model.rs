//! Reads the description of a daemon from the syntax of its `impl`.
//!
//! Reports the errors of all methods at once, each at its place and with what is allowed there.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Lit, LitInt, LitStr,
    Meta, Result, ReturnType, Type,
};

use crate::event::Event;
use crate::options::{self, Row, Table, Takes, Value};
use crate::{command, delta, lifecycle, reaction, state, types};

/// The description of a daemon, as its author wrote it.
pub struct Daemon {
    pub name: String,
    pub about: String,
    pub self_type: Type,
    pub commands: Vec<Command>,
    pub start: Option<Lifecycle>,
    pub run: Option<Lifecycle>,
    pub stop: Option<Lifecycle>,
    pub save: Option<Lifecycle>,
    pub migrate: Option<Lifecycle>,
    pub connect: Option<Reaction>,
    pub disconnect: Option<Reaction>,
    pub options: Options,
    /// The type of the state that the daemon hands over, if any.
    pub state: Option<Type>,
}

/// The options in `#[daemon(…)]`.
#[derive(Default)]
pub struct Options {
    pub name: Option<LitStr>,
    pub is_exclusive: bool,
    /// The daemons of this name on several hosts stand for each other.
    pub is_shared: bool,
    /// The crate is only linked into programs, so it exports no plugin.
    pub is_built_in: bool,
    pub state: Option<Type>,
    /// The version of the state's shape, and the place where it stands.
    pub state_version: Option<(u32, LitInt)>,
    /// The type of what has changed in the state since a snapshot, for a daemon that hands that over alone.
    pub delta: Option<Type>,
    /// Set by `preflight = "start"`: the preflight of a new file also starts the daemon.
    pub is_tried_by_start: bool,
    /// The events that the daemon declares.
    pub events: Vec<Event>,
}

/// A method with `#[command]`.
pub struct Command {
    pub name: String,
    pub doc: String,
    pub method: Ident,
    pub kind: Kind,
    /// Its own time limit, if the author set one.
    pub timeout_ms: Option<u64>,
    /// The option `saves`, if it is there: the state is kept before the answer is sent.
    pub saves: Option<TokenTree>,
    pub effects: Effects,
    pub parameters: Vec<Parameter>,
    pub output: ReturnType,
    /// The kind of parts that it sends before its reply, if any.
    pub parts: Option<PartsKind>,
}

/// The parts that a command sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PartsKind {
    /// The items of the stream that it returns; `fallible` if it returns a `Result` of one.
    Items { fallible: bool },
    /// The reports that it sends by its `Progress`.
    Progress,
}

/// The marks of a command for its callers. They change nothing else.
#[derive(Clone, Copy, Default)]
pub struct Effects {
    pub is_read_only: bool,
    pub is_destructive: bool,
    pub is_idempotent: bool,
}

impl Effects {
    /// Returns each mark's name and whether the command has it.
    pub fn marks(self) -> [(&'static str, bool); 3] {
        [
            ("read_only", self.is_read_only),
            ("destructive", self.is_destructive),
            ("idempotent", self.is_idempotent),
        ]
    }
}

impl Command {
    /// Returns the way in which the host runs the command. It waits for a save as for an async method. A method with a
    /// time limit may block: polled by the host, it could not be answered at its limit.
    pub fn runs(&self) -> Kind {
        if self.parts.is_some() {
            // The host polls it: a part may have to wait for the caller.
            return Kind::Async;
        }
        match (self.kind, &self.saves, self.timeout_ms) {
            (Kind::Sync, Some(_), None) => Kind::Async,
            (Kind::Sync, Some(_), Some(_)) => Kind::Blocking,
            (kind, ..) => kind,
        }
    }
}

/// The way a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sync,
    Blocking,
    Async,
}

/// A parameter after `&self`.
#[allow(
    clippy::large_enum_variant,
    reason = "a handful of them, for one expansion"
)]
pub enum Parameter {
    /// A guest handle that the host supplies; `borrowed` if the author wrote a reference.
    Guest { borrowed: bool },
    /// The ecosystem API that the host supplies; `borrowed` if the author wrote a reference.
    Ecosystem { borrowed: bool },
    /// The handle for reports that the host supplies, with the type of a report.
    Progress(Type),
    /// A value that is read from the guest's line.
    Argument(Argument),
}

/// An argument of a command.
pub struct Argument {
    pub name: String,
    /// Its doc comment.
    pub doc: String,
    pub slot: Slot,
    /// The type as written; for an `Option<T>` or `Vec<T>` in its own slot, the `T`.
    pub ty: Type,
}

/// The way an argument is taken from the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Required,
    Optional,
    Rest,
    /// A `&str`, which is read without a copy.
    Text,
}

/// `start`, `run`, `stop`, `save` or `migrate`.
pub struct Lifecycle {
    pub method: Ident,
    pub is_async: bool,
    pub parameters: Vec<StartParameter>,
    pub output: ReturnType,
}

/// A method that runs when a guest connects or disconnects.
pub struct Reaction {
    pub method: Ident,
    pub is_async: bool,
    /// The parameters; none of them is [`Parameter::Argument`].
    pub parameters: Vec<Parameter>,
    pub output: ReturnType,
}

/// A parameter of `start`.
#[allow(
    clippy::large_enum_variant,
    reason = "a handful of them, for one expansion"
)]
pub enum StartParameter {
    Ecosystem,
    Config(Type),
    /// An `Option<T>` for the state of the previous instance; this is the `T`.
    State(Type),
}

/// The longest doc comment (bytes). A host reads all of them whenever it looks at the file.
const DOC_BYTES_MAX: usize = 64 << 10;
/// The longest name of a daemon that the host's registry accepts (bytes).
const NAME_BYTES_MAX: usize = 64;

/// Reads the `impl` and removes this macro's attributes from it.
pub fn read(options: TokenStream, item: &mut ItemImpl) -> Result<Daemon> {
    check_impl(item)?;
    let mut faults = Faults::default();
    let options = faults.take(read_options(options)).unwrap_or_default();
    let name = faults.take(read_name("daemon", options.name.as_ref(), &item.self_ty));
    let mut daemon = Daemon {
        name: name.unwrap_or_default(),
        about: faults.take(doc_of(&item.attrs)).unwrap_or_default(),
        self_type: (*item.self_ty).clone(),
        commands: Vec::new(),
        start: None,
        run: None,
        stop: None,
        save: None,
        migrate: None,
        connect: None,
        disconnect: None,
        options,
        state: None,
    };
    for item in &mut item.items {
        faults.take(read_item(&mut daemon, item));
    }
    let mut daemon = faults.none_or(daemon)?;
    daemon.state = state::check(&daemon)?;
    delta::check(&daemon, item)?;
    check_purpose(&daemon)?;
    Ok(daemon)
}

/// Checks that the daemon does anything at all.
fn check_purpose(daemon: &Daemon) -> Result<()> {
    let works = daemon.start.is_some() || daemon.run.is_some();
    let reacts = daemon.connect.is_some() || daemon.disconnect.is_some();
    if works || reacts || !daemon.commands.is_empty() {
        return Ok(());
    }
    let text = "this daemon does nothing: mark a method with #[command], or with #[on(connect)] or #[on(disconnect)], \
                or add a method `run` for background work";
    fault(&daemon.self_type, text)
}

/// Removes this macro's attributes from an invalid `impl`, because the compiler would report them as unknown. It would report
/// the doc comments of arguments, too.
pub fn strip(item: &mut ItemImpl) {
    item.attrs.retain(|attr| !is_daemon(attr));
    for item in &mut item.items {
        let Some(attrs) = attrs_of(item) else {
            continue;
        };
        attrs.retain(|attr| !is_ours(attr) && !is_rest(attr));
        let ImplItem::Fn(method) = item else { continue };
        for input in &mut method.sig.inputs {
            attrs_of_input(input).retain(|attr| !is_rest(attr) && !attr.path().is_ident("doc"));
        }
    }
}

/// Returns whether the attribute is one of this macro's attributes on methods.
fn is_ours(attr: &Attribute) -> bool {
    attr.path().is_ident("command") || attr.path().is_ident("on")
}

/// Returns whether the attribute is `#[rest]`, which stands on an argument.
pub fn is_rest(attr: &Attribute) -> bool {
    attr.path().is_ident("rest")
}

fn is_daemon(attr: &Attribute) -> bool {
    let last = attr.path().segments.last();
    last.is_some_and(|segment| segment.ident == "daemon")
}

fn attrs_of(item: &mut ImplItem) -> Option<&mut Vec<Attribute>> {
    match item {
        ImplItem::Const(item) => Some(&mut item.attrs),
        ImplItem::Fn(item) => Some(&mut item.attrs),
        ImplItem::Type(item) => Some(&mut item.attrs),
        ImplItem::Macro(item) => Some(&mut item.attrs),
        _ => None,
    }
}

fn attrs_of_input(input: &mut FnArg) -> &mut Vec<Attribute> {
    match input {
        FnArg::Receiver(receiver) => &mut receiver.attrs,
        FnArg::Typed(input) => &mut input.attrs,
    }
}

/// Returns an error that marks all of `tokens`.
pub fn fault<T>(tokens: impl ToTokens, text: impl std::fmt::Display) -> Result<T> {
    Err(Error::new_spanned(tokens, text))
}

/// The errors found so far.
#[derive(Default)]
pub struct Faults(Option<Error>);

impl Faults {
    pub fn add(&mut self, fault: Error) {
        match &mut self.0 {
            Some(all) => all.combine(fault),
            none => *none = Some(fault),
        }
    }

    /// Returns the value, or keeps the fault.
    pub fn take<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|fault| self.add(fault)).ok()
    }

    pub fn none_or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

fn check_impl(item: &ItemImpl) -> Result<()> {
    if let Some(second) = item.attrs.iter().find(|attr| is_daemon(attr)) {
        let text = "#[daemon] stands here a second time; its options go into one: #[daemon(exclusive, name = \"…\")]";
        return fault(second, text);
    }
    if let Some((path, _)) = &item.trait_ {
        let text = "#[daemon] goes on the type's own `impl`, not on that of a trait";
        return fault(path, text);
    }
    if !item.generics.params.is_empty() {
        let text = "a daemon's type can't be generic: its plugin is one compiled type";
        return fault(&item.generics, text);
    }
    Ok(())
}

/// The options of the attribute.
const OPTIONS: Table = Table {
    attribute: "#[daemon]",
    rows: &[
        Row::new("name", "name = \"…\"", Takes::Text),
        Row::new("exclusive", "exclusive", Takes::Nothing),
        Row::new("shared", "shared", Takes::Nothing),
        Row::new("built_in", "built_in", Takes::Nothing),
        Row::new("state", "state = Type", Takes::Type),
        Row::new("state_version", "state_version = N", Takes::Version),
        Row::new("delta", "delta = Type", Takes::Type),
        Row {
            earlier: Some("trial"),
            ..Row::new("preflight", "preflight = \"start\"", Takes::Text)
        },
        Row::new("events", "events(tick(u64))", Takes::Events),
    ],
};

fn read_options(tokens: TokenStream) -> Result<Options> {
    let mut options = Options::default();
    let mut preflight: Option<LitStr> = None;
    options::read(&OPTIONS, tokens, |name, value| match (name, value) {
        ("name", value) => options.name = value.into_text(),
        ("exclusive", _) => options.is_exclusive = true,
        ("shared", _) => options.is_shared = true,
        ("built_in", _) => options.is_built_in = true,
        ("preflight", value) => preflight = value.into_text(),
        ("events", Value::Events(events)) => options.events = events,
        ("state", Value::Type(ty)) => options.state = Some(*ty),
        ("delta", Value::Type(ty)) => options.delta = Some(*ty),
        ("state_version", Value::Version(version, place)) => {
            options.state_version = Some((version, place));
        }
        (name, _) => unreachable!("{name} has a row, and no arm for its value"),
    })?;
    options.is_tried_by_start = read_preflight(preflight.as_ref(), options.is_exclusive)?;
    Ok(options)
}

fn read_preflight(preflight: Option<&LitStr>, is_exclusive: bool) -> Result<bool> {
    match preflight {
        None => Ok(false),
        Some(word) if word.value() != "start" => fault(
            word,
            "a preflight only loads the file, unless it says `preflight = \"start\"`; the owner's setting `preflight` turns it off",
        ),
        Some(word) if is_exclusive => fault(
            word,
            "an `exclusive` daemon can't be started in a preflight, beside the running one",
        ),
        Some(_) => Ok(true),
    }
}

/// Returns the name of a daemon: the given one, or that of its type. Errors name the attribute that gives it.
pub fn read_name(attribute: &str, given: Option<&LitStr>, self_type: &Type) -> Result<String> {
    let (name, place) = match (given, types::last_ident(self_type)) {
        (Some(given), _) => (given.value(), given.into_token_stream()),
        (None, Some(ident)) => (ident.unraw().to_string(), ident.into_token_stream()),
        (None, None) => {
            let text = format!("this type has no name; write #[{attribute}(name = \"…\")]");
            return fault(self_type, text);
        }
    };
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !fits || !name.chars().all(plain) || name == "Dae" {
        let text = format!(
            "a daemon's name is 1 to 64 of A-Z a-z 0-9 _ . - and not `Dae`, which is the host's own; \
             #[{attribute}(name = \"…\")] gives one"
        );
        return fault(place, text);
    }
    Ok(name)
}

fn read_item(daemon: &mut Daemon, item: &mut ImplItem) -> Result<()> {
    if let ImplItem::Fn(method) = item {
        return read_method(daemon, method);
    }
    match attrs_of(item).and_then(|attrs| attrs.iter().find(|attr| is_ours(attr))) {
        Some(mark) => fault(mark, "#[command] and #[on(…)] go on methods"),
        None => Ok(()),
    }
}

fn read_method(daemon: &mut Daemon, method: &mut ImplItemFn) -> Result<()> {
    let (ours, others) = std::mem::take(&mut method.attrs)
        .into_iter()
        .partition::<Vec<Attribute>, _>(is_ours);
    method.attrs = others;
    check_cfg(method, !ours.is_empty())?;
    let is_command = matches!(ours.as_slice(), [attr] if attr.path().is_ident("command"));
    check_rest(method, is_command)?;
    let place = match method.sig.ident.to_string().as_str() {
        "start" => Some(&mut daemon.start),
        "run" => Some(&mut daemon.run),
        "stop" => Some(&mut daemon.stop),
        "save" => Some(&mut daemon.save),
        "migrate" => Some(&mut daemon.migrate),
        _ => None,
    };
    match (ours.as_slice(), place) {
        ([], None) => {}
        ([], Some(place)) => *place = Some(lifecycle::read(method)?),
        ([attr], None) if attr.path().is_ident("on") => reaction::read(daemon, attr, method)?,
        ([attr], None) => {
            let command = command::read(attr, method)?;
            add_command(daemon, command)?;
        }
        (marked, place) => return misplaced(marked, place.is_some(), method),
    }
    Ok(())
}

fn is_lifecycle(name: &Ident) -> bool {
    ["start", "run", "stop", "save", "migrate"]
        .iter()
        .any(|method| name == method)
}

/// Returns the `#[cfg(…)]` among the attributes.
pub fn cfg_of(attrs: &[Attribute]) -> Option<&Attribute> {
    attrs.iter().find(|attr| attr.path().is_ident("cfg"))
}

/// Checks that the compiler can't remove a method that the generated code calls.
fn check_cfg(method: &ImplItemFn, is_marked: bool) -> Result<()> {
    let is_called = is_marked || is_lifecycle(&method.sig.ident);
    match cfg_of(&method.attrs) {
        Some(mark) if is_called => {
            let text = "the daemon has this method in every build; put the #[cfg(…)] inside the method, onto statements of \
                        its body";
            fault(mark, text)
        }
        _ => Ok(()),
    }
}

/// Checks that `#[rest]` stands on nothing but an argument of a command.
fn check_rest(method: &mut ImplItemFn, is_command: bool) -> Result<()> {
    const TEXT: &str = "#[rest] goes on the last argument of a #[command]: `#[rest] more: Vec<T>`";
    if let Some(mark) = method.attrs.iter().find(|attr| is_rest(attr)) {
        return fault(mark, TEXT);
    }
    for input in &mut method.sig.inputs {
        let may_have = is_command && matches!(input, FnArg::Typed(_));
        let mark = attrs_of_input(input).iter().find(|attr| is_rest(attr));
        if let (false, Some(mark)) = (may_have, mark) {
            return fault(mark, TEXT);
        }
    }
    Ok(())
}

/// Reports a method that has more than one role. The roles are lifecycle, command and `#[on(…)]`.
fn misplaced(marked: &[Attribute], is_lifecycle: bool, method: &ImplItemFn) -> Result<()> {
    let is_on = |attr: &&Attribute| attr.path().is_ident("on");
    let text = match (marked, marked.iter().find(is_on)) {
        (_, Some(on)) if is_lifecycle => {
            let text = "`start`, `run`, `stop`, `save` and `migrate` are a daemon's lifecycle; #[on(…)] goes on a method of another name";
            return fault(on, text);
        }
        (_, None) if is_lifecycle => {
            "`start`, `run`, `stop`, `save` and `migrate` are a daemon's lifecycle and can't be commands; \
             keep the method under another name, or write #[command(name = \"…\")] on one"
        }
        ([.., last], Some(_)) => {
            let text =
                "a method has one #[command] or one #[on(…)]; another method may call this one";
            return fault(last, text);
        }
        ([.., last], None) => {
            let text = "#[command] stands here a second time; its options go into one: #[command(blocking, name = \"…\")]";
            return fault(last, text);
        }
        ([], _) => return Ok(()),
    };
    fault(&method.sig.ident, text)
}

fn add_command(daemon: &mut Daemon, command: Command) -> Result<()> {
    let name = &command.name;
    if daemon.commands.iter().any(|other| other.name == *name) {
        let text = format!(
            "there is a command `{name}` already; rename one of them, or give it another name by #[command(name = \"…\")]"
        );
        return fault(&command.method, text);
    }
    daemon.commands.push(command);
    Ok(())
}

/// Returns the text of the doc comments, one trimmed line for each attribute.
pub fn doc_of(attrs: &[Attribute]) -> Result<String> {
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
    let doc = lines.join("\n").trim().to_owned();
    match (doc.len() > DOC_BYTES_MAX, attrs.first()) {
        (true, Some(place)) => {
            let text = format!(
                "this doc comment has {} bytes, and the manifest of a plugin takes {DOC_BYTES_MAX} of one; move the rest into a \
                 plain comment",
                doc.len()
            );
            fault(place, text)
        }
        _ => Ok(doc),
    }
}
