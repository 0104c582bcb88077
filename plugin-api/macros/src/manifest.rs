//! Writes the manifest: the description of a plugin that the host reads from the file without loading it.
//!
//! The manifest is JSON and is put together at compile time. The macro writes what it knows as literals. Versions,
//! target and panic strategy, which only the compiler and cargo know, are constants between them. So are the schemas of
//! types, since a macro sees only their names.

use std::fmt::Write as _;

use proc_macro2::TokenStream;
use quote::quote;

use crate::event::Event;
use crate::model::{
    Argument, Command, Daemon, Kind, Lifecycle, Parameter, Reaction, Slot, StartParameter,
};
use crate::{parts, schema, state, types};

/// The parts of a manifest, as tokens of type `ManifestPart`.
#[derive(Default)]
pub struct Parts {
    all: Vec<TokenStream>,
    /// Text that is not among `all` yet.
    text: String,
}

impl Parts {
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a constant of type `&'static str`.
    fn constant(&mut self, constant: &TokenStream) {
        self.flush();
        self.all.push(quote!(DaePart::Text(#constant)));
    }

    /// Adds the schema that a constant of type `&'static Schema` has.
    pub fn schema(&mut self, constant: &TokenStream) {
        self.flush();
        self.all.push(quote!(DaePart::Schema(#constant)));
    }

    /// Returns the parts as an expression of type `&[ManifestPart]`.
    pub fn tokens(mut self) -> TokenStream {
        self.flush();
        let all = self.all;
        quote!(&[#(#all),*])
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.all.push(quote!(DaePart::Text(#text)));
        }
    }
}

/// Returns the parts of the manifest, to be joined, as an expression of type `&[ManifestPart]`.
pub fn parts(daemon: &Daemon) -> TokenStream {
    let mut parts = Parts::default();
    parts.text(&format!(
        "{{\"name\":{},\"version\":\"",
        json_string(&daemon.name)
    ));
    parts.constant(&quote!(env!("CARGO_PKG_VERSION")));
    parts.text("\",\"abi\":");
    parts.constant(&quote!(::dae_plugin_api::abi::ABI_VERSION_TEXT));
    parts.text(",\"api_version\":\"");
    parts.constant(&quote!(::dae_plugin_api::API_VERSION));
    parts.text("\",\"rustc\":\"");
    parts.constant(&quote!(::dae_plugin_api::RUSTC));
    parts.text("\",\"target\":\"");
    parts.constant(&quote!(::dae_plugin_api::TARGET));
    parts.text("\",\"panic\":\"");
    parts.constant(&quote!(::dae_plugin_api::__panic_strategy!()));
    parts.text(&format!("\",\"about\":{}", json_string(&daemon.about)));
    put_lifecycle(&mut parts, daemon);
    put_state(&mut parts, daemon);
    put_events(&mut parts, daemon);
    parts.text(",\"commands\":[");
    for (index, one) in daemon.commands.iter().enumerate() {
        parts.text(if index == 0 { "" } else { "," });
        put_command(&mut parts, daemon, one);
    }
    parts.text("]}");
    parts.tokens()
}

fn put_lifecycle(parts: &mut Parts, daemon: &Daemon) {
    let lifecycle = |method: &Option<Lifecycle>| method.as_ref().map(|method| method.is_async);
    let reaction = |method: &Option<Reaction>| method.as_ref().map(|method| method.is_async);
    for (name, is_async) in [
        ("start", lifecycle(&daemon.start)),
        ("run", lifecycle(&daemon.run)),
        ("stop", lifecycle(&daemon.stop)),
        ("connect", reaction(&daemon.connect)),
        ("disconnect", reaction(&daemon.disconnect)),
    ] {
        if let Some(is_async) = is_async {
            let kind = if is_async { "async" } else { "sync" };
            parts.text(&format!(",\"{name}\":\"{kind}\""));
        }
    }
    if daemon.options.is_exclusive {
        parts.text(",\"exclusive\":true");
    }
    if daemon.options.is_shared {
        parts.text(",\"shared\":true");
    }
    if daemon.options.is_tried_by_start {
        parts.text(",\"preflight\":\"start\"");
    }
}

/// Writes the version and the schema of the state, and the schema of the config.
fn put_state(parts: &mut Parts, daemon: &Daemon) {
    if let Some(state) = &daemon.state {
        let version = state::version(daemon);
        parts.text(&format!(",\"state_version\":{version},\"state\":"));
        parts.schema(&schema::constant(daemon, state));
    }
    if daemon.options.delta.is_some() {
        parts.text(",\"delta\":true");
    }
    let mut start = daemon.start.iter().flat_map(|start| &start.parameters);
    let config = start.find_map(|one| match one {
        StartParameter::Config(ty) => Some(ty),
        _ => None,
    });
    if let Some(config) = config {
        parts.text(",\"config\":");
        parts.schema(&schema::constant(daemon, config));
    }
    // Asked for only where it may answer: not all plugins have the feature.
    parts.constant(&quote!(::dae_plugin_api::__run_time_schemas!()));
}

fn put_events(parts: &mut Parts, daemon: &Daemon) {
    if daemon.options.events.is_empty() {
        return;
    }
    parts.text(",\"events\":[");
    for (index, Event { name, arguments }) in daemon.options.events.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        parts.text(&format!(
            "{comma}{{\"name\":{},\"arguments\":[",
            json_string(name)
        ));
        for (index, argument) in arguments.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let position = index.to_string();
            let name = json_string(argument.name.as_ref().unwrap_or(&position));
            let spoken = json_string(&types::spoken(&argument.ty));
            parts.text(&format!(
                "{comma}{{\"name\":{name},\"type\":{spoken},\"schema\":"
            ));
            parts.schema(&schema::constant(daemon, &argument.ty));
            parts.text("}");
        }
        parts.text("]}");
    }
    parts.text("]");
}

fn put_command(parts: &mut Parts, daemon: &Daemon, command: &Command) {
    let kind = match command.runs() {
        Kind::Sync => "sync",
        Kind::Blocking => "blocking",
        Kind::Async => "async",
    };
    let mut head = format!(
        "{{\"name\":{},\"doc\":{},\"kind\":\"{kind}\"",
        json_string(&command.name),
        json_string(&command.doc),
    );
    if let Some(ms) = command.timeout_ms {
        let _ = write!(head, ",\"timeout_ms\":{ms}");
    }
    head.push_str(parts::in_manifest(command.parts));
    for (name, is_so) in command.effects.marks() {
        if is_so {
            let _ = write!(head, ",\"{name}\":true");
        }
    }
    parts.text(&head);
    parts.text(",\"arguments\":[");
    let arguments = command.parameters.iter().filter_map(|one| match one {
        Parameter::Argument(one) => Some(one),
        _ => None,
    });
    for (index, one) in arguments.enumerate() {
        parts.text(if index == 0 { "" } else { "," });
        put_argument(parts, daemon, one);
    }
    parts.text("],\"result\":");
    parts.schema(&schema::constant_of_result(daemon, command));
    parts.text("}");
}

fn put_argument(parts: &mut Parts, daemon: &Daemon, argument: &Argument) {
    let mut text = format!(
        "{{\"name\":{},\"type\":{},\"optional\":{},\"rest\":{}",
        json_string(&argument.name),
        json_string(&types::spoken(&argument.ty)),
        argument.slot == Slot::Optional,
        argument.slot == Slot::Rest,
    );
    if !argument.doc.is_empty() {
        let _ = write!(text, ",\"description\":{}", json_string(&argument.doc));
    }
    parts.text(&text);
    parts.text(",\"schema\":");
    parts.schema(&schema::constant_of_argument(daemon, argument));
    parts.text("}");
}

/// Returns a JSON string with only the required escapes, so that this crate needs no JSON library.
pub fn json_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
