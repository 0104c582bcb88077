//! Writes the manifest: the description of a plugin that the host reads from the file without loading it.
//!
//! The manifest is JSON and is put together at compile time. The macro writes what it knows as literals. Versions,
//! target and panic strategy, which only the compiler and cargo know, are constants between them.

use std::fmt::Write as _;

use proc_macro2::TokenStream;
use quote::quote;

use crate::model::{Argument, Command, Daemon, Kind, Lifecycle, Parameter, Reaction, Slot};
use crate::{state, types};

/// Returns the parts of the manifest, to be concatenated, as an expression of type `&[&str]`.
pub fn parts(daemon: &Daemon) -> TokenStream {
    let head = format!("{{\"name\":{},\"version\":\"", json_string(&daemon.name));
    let tail = tail(daemon);
    quote! {
        &[
            #head,
            env!("CARGO_PKG_VERSION"),
            "\",\"abi\":",
            ::dae_plugin_api::abi::ABI_VERSION_TEXT,
            ",\"api_version\":\"",
            ::dae_plugin_api::API_VERSION,
            "\",\"rustc\":\"",
            ::dae_plugin_api::RUSTC,
            "\",\"target\":\"",
            ::dae_plugin_api::TARGET,
            "\",\"panic\":\"",
            ::dae_plugin_api::__panic_strategy!(),
            #tail,
        ]
    }
}

fn tail(daemon: &Daemon) -> String {
    let commands: Vec<String> = daemon.commands.iter().map(command).collect();
    let mut tail = format!("\",\"about\":{}", json_string(&daemon.about));
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
            let _ = write!(tail, ",\"{name}\":\"{kind}\"");
        }
    }
    if daemon.options.is_exclusive {
        tail.push_str(",\"exclusive\":true");
    }
    if daemon.state.is_some() {
        let _ = write!(tail, ",\"state_version\":{}", state::version(daemon));
    }
    if daemon.options.is_tried_by_start {
        tail.push_str(",\"preflight\":\"start\"");
    }
    let _ = write!(tail, ",\"commands\":[{}]}}", commands.join(","));
    tail
}

fn command(command: &Command) -> String {
    let kind = match command.runs() {
        Kind::Sync => "sync",
        Kind::Blocking => "blocking",
        Kind::Async => "async",
    };
    let arguments = command.parameters.iter().filter_map(|one| match one {
        Parameter::Argument(one) => Some(argument(one)),
        _ => None,
    });
    let arguments: Vec<String> = arguments.collect();
    let timeout = command
        .timeout_ms
        .map(|ms| format!("\"timeout_ms\":{ms},"))
        .unwrap_or_default();
    format!(
        "{{\"name\":{},\"doc\":{},\"kind\":\"{kind}\",{timeout}\"arguments\":[{}]}}",
        json_string(&command.name),
        json_string(&command.doc),
        arguments.join(","),
    )
}

fn argument(argument: &Argument) -> String {
    format!(
        "{{\"name\":{},\"type\":{},\"optional\":{},\"rest\":{}}}",
        json_string(&argument.name),
        json_string(&types::spoken(&argument.ty)),
        argument.slot == Slot::Optional,
        argument.slot == Slot::Rest,
    )
}

/// Returns a JSON string with only the required escapes, so that this crate needs no JSON library.
fn json_string(text: &str) -> String {
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
