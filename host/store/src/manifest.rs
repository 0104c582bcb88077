//! The manifest: a compiled plugin's description of itself, read without running any of its code.
//!
//! It is JSON in a section of the file (`.dae_manifest` in ELF, `__DATA,__dae_manifest` in Mach-O, `.daemani` in PE),
//! put there by the plugin's macro. Loading a library runs its constructors, so an untrusted file must not be loaded
//! just to read it. Mapping a file that a linker is still writing would end the host with SIGBUS, so this module first
//! checks that the file is complete.
//!
//! It checks that the file can be trusted ([`read`] only), is a shared library for this machine, is complete, is a
//! daemon, and uses an ABI in the host's range. It does not check that the code matches the manifest; loading does.
//! Unknown keys are ignored, so that newer plugins can add some.
//!
//! Every error is a [`FileFault`], which is returned to the caller and never ends the host.

use std::collections::HashSet;
use std::path::Path;

use dae_common_tcp::{NAME_BYTES_MAX, is_name};
use serde::{Deserialize, Serialize};

use crate::json_form::text_or_null;

mod changes;
mod compatibility;
mod fault;
mod library;
mod needs;
#[cfg(test)]
pub mod sample;
mod schema;
mod source;

pub use changes::{changes, check_strict};
pub use fault::{FileFault, FileFaultKind};
pub use needs::{Needs, needs};
pub use schema::{SCHEMAS_BYTES_MAX, Schema};
pub use source::{FileContent, file_bytes, open, read_whole};

use dae_plugin_api::{ABI_VERSION_MAX, ABI_VERSION_MIN};

/// The commands that the host answers for every daemon, and the name of the error reply.
const RESERVED_COMMANDS: [&str; 5] = ["dae", "options", "help", "stats", "error"];

/// The longest manifest (bytes). It stays in memory as long as its daemon is installed.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// The name of the lines that carry the parts of replies. A plugin that knows of parts has no command of that name; one
/// that was built before may have one.
const PART: &str = "part";

/// The value of `panic` for a plugin whose panics can be caught.
const PANIC_UNWIND: &str = "unwind";

/// A plugin's description of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The daemon's default name. It may be installed under another.
    pub name: String,
    /// The version of the plugin's crate.
    pub version: String,
    /// The version of the ABI that it was built for.
    pub abi: u32,
    /// The version of `dae-plugin-api` that it was built with, for people.
    #[serde(default, with = "text_or_null")]
    pub api_version: String,
    /// The compiler version, for people. Any compiler works.
    #[serde(default, with = "text_or_null")]
    pub rustc: String,
    /// The target triple, for people. The host checks the file's own headers instead.
    #[serde(default, with = "text_or_null")]
    pub target: String,
    /// The effect of a panic: `unwind` or `abort`.
    pub panic: String,
    /// The doc comment of the daemon.
    #[serde(default, with = "text_or_null")]
    pub about: String,
    /// `sync` or `async`, if the daemon has a `start` method.
    #[serde(default)]
    pub start: Option<String>,
    /// `sync` or `async`, if the daemon has background work.
    #[serde(default)]
    pub run: Option<String>,
    /// `sync` or `async`, if the daemon has a `stop` method.
    #[serde(default)]
    pub stop: Option<String>,
    /// `sync` or `async`, if the daemon has a handler for guests that connect.
    #[serde(default)]
    pub connect: Option<String>,
    /// `sync` or `async`, if the daemon has a handler for guests that disconnect.
    #[serde(default)]
    pub disconnect: Option<String>,
    /// The commands in source order. A command's index is its number in the ABI.
    pub commands: Vec<Command>,
    /// True if two instances must never run at the same time, not even during a reload.
    #[serde(default)]
    pub exclusive: bool,
    /// True if the daemons of this name on several hosts stand for each other.
    #[serde(default)]
    pub shared: bool,
    /// True if the daemon also hands over what has changed since a snapshot.
    #[serde(default)]
    pub delta: bool,
    /// The version of the state that it hands over, if it hands one over.
    #[serde(default)]
    pub state_version: Option<u32>,
    /// `start`, if the preflight must also start the daemon and stop it again.
    #[serde(default)]
    #[serde(alias = "trial")]
    pub preflight: Option<String>,
    /// The events that it declares.
    #[serde(default)]
    pub events: Vec<Event>,
    /// The schema of its config, if it takes one.
    #[serde(default)]
    pub config: Option<Schema>,
    /// The schema of its state, if it hands one over.
    #[serde(default)]
    pub state: Option<Schema>,
    /// True if its code has schemas that are not here; see [`Manifest::add_schemas`].
    #[serde(default)]
    pub run_time_schemas: bool,
}

impl Manifest {
    /// Returns whether the daemon hands over what has changed in its state since a snapshot.
    #[must_use]
    pub fn hands_over_delta(&self) -> bool {
        self.delta && self.state_version.is_some()
    }
}

/// An event or a topic that a daemon declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The name of its lines.
    pub name: String,
    /// The arguments that it carries.
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// A command of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The name that guests send.
    pub name: String,
    /// Its doc comment.
    #[serde(default, with = "text_or_null")]
    pub doc: String,
    /// The way it runs: `sync`, `blocking` or `async`.
    pub kind: String,
    /// Its own time limit (ms), in place of the setting `command_ms`.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// True if it changes nothing.
    #[serde(default)]
    pub read_only: bool,
    /// True if it may destroy something.
    #[serde(default)]
    pub destructive: bool,
    /// True if a second call with the same arguments changes nothing more.
    #[serde(default)]
    pub idempotent: bool,
    /// The parts that it sends before its reply to a caller that asks for them: `items` of a stream, or reports of its
    /// `progress`.
    #[serde(default)]
    pub parts: Option<String>,
    /// The arguments that guests send. Arguments that the host supplies aren't listed.
    #[serde(default)]
    pub arguments: Vec<Argument>,
    /// The schema of its result.
    #[serde(default)]
    pub result: Schema,
}

/// An argument of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name in the source.
    pub name: String,
    /// Its JSON type, for people.
    #[serde(rename = "type")]
    pub type_name: String,
    /// True if the argument may be omitted.
    #[serde(default)]
    pub optional: bool,
    /// True if the argument takes all remaining ones.
    #[serde(default)]
    pub rest: bool,
    /// Its doc comment.
    #[serde(default, with = "text_or_null")]
    pub description: String,
    /// Its schema. It is that of one element for an argument that takes all remaining ones, and allows `null` for an
    /// argument that may be omitted.
    #[serde(default)]
    pub schema: Schema,
}

impl Command {
    /// Returns the number of arguments, including optional ones. One that takes all remaining arguments counts as one.
    #[must_use]
    pub fn arity(&self) -> usize {
        self.arguments.len()
    }

    /// Returns the call in readable form: `add(a: number, b: number)`, `find(name: string, limit?: number, ...tags:
    /// string)`.
    #[must_use]
    pub fn signature(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(Argument::signature).collect();
        format!("{}({})", self.name, arguments.join(", "))
    }
}

impl Argument {
    fn signature(&self) -> String {
        let before = if self.rest { "..." } else { "" };
        let after = if self.optional { "?" } else { "" };
        format!("{before}{}{after}: {}", self.name, self.type_name)
    }
}

/// Reads the manifest of the file at `path`.
///
/// # Errors
/// The reason why no host can run the file: see [`FileFaultKind`].
pub fn read(path: &Path) -> Result<Manifest, FileFault> {
    read_with_needs(path).map(|(manifest, _)| manifest)
}

/// Reads the manifest of the file at `path` and the file's requirements on the system's loader.
///
/// # Errors
/// The same as [`read`].
pub fn read_with_needs(path: &Path) -> Result<(Manifest, Needs), FileFault> {
    let bytes = source::read_whole(&mut source::open(path)?, path)?;
    let manifest = parse(&bytes).map_err(|fault| fault.at(path))?;
    Ok((manifest, needs(&bytes)))
}

/// Reads the manifest in `bytes`, the content of a whole file.
///
/// # Errors
/// The same as [`read`], except errors that concern the path.
pub fn parse(bytes: &[u8]) -> Result<Manifest, FileFault> {
    let section = library::manifest_section(bytes)?;
    // Linkers pad a section with NUL. A section of only NULs means that the linker is still writing.
    let end = section.iter().rposition(|&byte| byte != 0);
    let text = match end {
        Some(last) => &section[..=last],
        None => return Err(FileFault::incomplete("its manifest is still empty")),
    };
    parse_text(text)
}

/// Reads the text of a manifest.
pub fn parse_text(text: &[u8]) -> Result<Manifest, FileFault> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(FileFault::new(
            FileFaultKind::BadManifest,
            format!(
                "has a manifest of {} bytes, and a host reads {MANIFEST_BYTES_MAX}; shorten its doc comments",
                text.len()
            ),
        ));
    }
    check_abi(text)?;
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| unreadable(&e))?;
    check_commands(&manifest.commands).map_err(bad_command)?;
    Ok(manifest)
}

/// Checks that each command has a valid and unique name that the host doesn't reserve.
fn check_commands(commands: &[Command]) -> Result<(), String> {
    let mut names = HashSet::new();
    let sends_parts = commands.iter().any(|command| command.parts.is_some());
    for Command { name, .. } in commands {
        if !is_name(name) {
            return Err(format!(
                "a command named {name:?}, and a name has 1 to {NAME_BYTES_MAX} bytes without blanks, control characters and `#`"
            ));
        }
        if RESERVED_COMMANDS.contains(&name.as_str()) {
            return Err(format!(
                "a command named {name}, which every host answers itself"
            ));
        }
        if sends_parts && name == PART {
            return Err(format!(
                "a command named {name}, which is the name of the lines that carry the parts of its replies"
            ));
        }
        if !names.insert(name) {
            return Err(format!("two commands named {name}"));
        }
    }
    Ok(())
}

fn bad_command(what: String) -> FileFault {
    FileFault::new(
        FileFaultKind::BadManifest,
        format!("has {what}; rename it in the plugin's source and build it anew"),
    )
}

/// Returns the size of the mapped library according to its headers (bytes).
pub fn mapped_bytes(bytes: &[u8]) -> u64 {
    library::mapped_bytes(bytes)
}

/// The key that the manifest of every ABI version has. All other keys may differ.
#[derive(Deserialize)]
struct Abi {
    abi: u32,
}

fn check_abi(text: &[u8]) -> Result<(), FileFault> {
    let Abi { abi } = serde_json::from_slice(text).map_err(|e| unreadable(&e))?;
    let way_out = match abi {
        ABI_VERSION_MIN..=ABI_VERSION_MAX => return Ok(()),
        _ if abi > ABI_VERSION_MAX => {
            "it is newer than this host: update dae-host, or build it with an older dae-plugin-api"
        }
        _ => "it is older than this host reads: build it anew with the present dae-plugin-api",
    };
    Err(FileFault::new(
        FileFaultKind::Abi,
        format!(
            "has ABI {abi}, and this host takes {ABI_VERSION_MIN} to {ABI_VERSION_MAX}; {way_out}"
        ),
    ))
}

fn unreadable(error: &serde_json::Error) -> FileFault {
    FileFault::new(
        FileFaultKind::BadManifest,
        format!(
            "has a manifest that cannot be read ({error}); build it anew, with one #[daemon] in it"
        ),
    )
}

/// Checks that the plugin may run in the host's own process.
///
/// # Errors
/// Its panics can't be caught, so a panic would end the host and all its daemons.
pub fn check_in_process(manifest: &Manifest) -> Result<(), FileFault> {
    let Manifest { name, panic, .. } = manifest;
    if panic == PANIC_UNWIND {
        return Ok(());
    }
    let text = format!(
        "was built with panic={panic}: a panic in it would end the host and every other daemon; \
         build it with panic = \"unwind\" in its profile, or let it run in a subprocess of its own"
    );
    Err(FileFault::new(FileFaultKind::PanicAbort, text).of_plugin(name))
}

#[cfg(test)]
mod tests;
