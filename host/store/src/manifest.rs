//! The manifest: what a compiled plugin tells about itself without any of its code being run.
//!
//! It is JSON in a section of the file (`.dae_manifest` in ELF, `__DATA,__dae_manifest` in Mach-O, `.daemani` in PE), put
//! there by the plugin's macro. Loading a library runs its constructors, so that a look at a stranger's file must not
//! be a load; and a file that a linker still writes would end the host with SIGBUS. Therefore the file is also found
//! whole here before anything maps it.
//!
//! What is checked: the file can be trusted ([`read`] only), is a shared library for this machine, is whole, is a
//! daemon, and speaks an ABI of the host's range. Not checked: that its code does what the manifest says; the load does.
//! Keys that are not known are passed over, so that newer plugins may tell more.
//!
//! Every error is a [`FileFault`]: shown to whoever asked, never a reason to end.

use std::collections::HashSet;
use std::path::Path;

use dae_common_tcp::{NAME_BYTES_MAX, is_name};
use serde::{Deserialize, Serialize};

mod changes;
mod fault;
mod library;
mod needs;
#[cfg(test)]
pub mod sample;
mod source;

pub use changes::changes;
pub use fault::{FileFault, FileFaultKind};
pub use needs::{Needs, needs};
pub use source::{file_bytes, open, read_whole};

use dae_plugin_api::{ABI_VERSION_MAX, ABI_VERSION_MIN};

/// The commands that the host answers for every daemon, and the answer that is an error.
const RESERVED_COMMANDS: [&str; 5] = ["dae", "options", "help", "stats", "error"];

/// What `panic` says of a plugin whose panics can be caught.
const PANIC_UNWIND: &str = "unwind";

/// What a plugin tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The daemon's name, unless it is installed under another.
    pub name: String,
    /// The version of the plugin's crate.
    pub version: String,
    /// The ABI generation that it was built for.
    pub abi: u32,
    /// The version of the author's crate, for people.
    #[serde(default)]
    pub api_version: String,
    /// The compiler, for people: any works.
    #[serde(default)]
    pub rustc: String,
    /// The target triple, for people: the file's own headers are what counts.
    #[serde(default)]
    pub target: String,
    /// What a panic does: `unwind` or `abort`.
    pub panic: String,
    /// The doc comment of the daemon.
    #[serde(default)]
    pub about: String,
    /// `sync` or `async`, where the daemon has a `start` of its own.
    #[serde(default)]
    pub start: Option<String>,
    /// `sync` or `async`, where it has background work.
    #[serde(default)]
    pub run: Option<String>,
    /// `sync` or `async`, where it has last work.
    #[serde(default)]
    pub stop: Option<String>,
    /// `sync` or `async`, where it is to be told of a guest that has come.
    #[serde(default)]
    pub connect: Option<String>,
    /// `sync` or `async`, where it is to be told of a guest that has gone.
    #[serde(default)]
    pub disconnect: Option<String>,
    /// In the order in which the source has them; a command's index is its number at the boundary.
    pub commands: Vec<Command>,
    /// Two instances must never run at once, not even during a reload.
    #[serde(default)]
    pub exclusive: bool,
    /// The version of the state that it hands over, if it does.
    #[serde(default)]
    pub state_version: Option<u32>,
    /// `start`, where a trial also starts the daemon and stops it again.
    #[serde(default)]
    pub trial: Option<String>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The word that calls it.
    pub name: String,
    /// Its doc comment.
    #[serde(default)]
    pub doc: String,
    /// How it runs: `sync`, `blocking` or `async`.
    pub kind: String,
    /// What it takes from the guest; what the host gives it isn't listed.
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// One argument of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name in the source.
    pub name: String,
    /// Its type in the words of JSON, for people.
    #[serde(rename = "type")]
    pub type_name: String,
    /// It may be left out.
    #[serde(default)]
    pub optional: bool,
    /// It takes all arguments that are left.
    #[serde(default)]
    pub rest: bool,
}

impl Command {
    /// How many arguments it takes, the optional ones included; one that takes all the rest counts as one.
    #[must_use]
    pub fn arity(&self) -> usize {
        self.arguments.len()
    }

    /// The call as people write it: `add(a: number, b: number)`, `find(name: string, limit?: number, ...tags: string)`.
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

/// The manifest of the file at `path`.
///
/// # Errors
/// Why no host may run that file: see [`FileFaultKind`].
pub fn read(path: &Path) -> Result<Manifest, FileFault> {
    read_with_needs(path).map(|(manifest, _)| manifest)
}

/// The manifest of the file at `path`, and what the file asks of the system's loader.
///
/// # Errors
/// As [`read`].
pub fn read_with_needs(path: &Path) -> Result<(Manifest, Needs), FileFault> {
    let bytes = source::read_whole(&mut source::open(path)?, path)?;
    let manifest = parse(&bytes).map_err(|fault| fault.at(path))?;
    Ok((manifest, needs(&bytes)))
}

/// The manifest in `bytes`, the content of a whole file.
///
/// # Errors
/// As [`read`], less what only a path can have.
pub fn parse(bytes: &[u8]) -> Result<Manifest, FileFault> {
    let section = library::manifest_section(bytes)?;
    // Linkers pad a section with NUL; a linker at work has not yet put anything else there.
    let end = section.iter().rposition(|&byte| byte != 0);
    let text = match end {
        Some(last) => &section[..=last],
        None => return Err(FileFault::incomplete("its manifest is still empty")),
    };
    parse_text(text)
}

/// Reads the text of a manifest.
pub fn parse_text(text: &[u8]) -> Result<Manifest, FileFault> {
    check_abi(text)?;
    let manifest: Manifest = serde_json::from_slice(text).map_err(|e| unreadable(&e))?;
    check_commands(&manifest.commands).map_err(bad_command)?;
    Ok(manifest)
}

/// A command can be called only by a name of its own, which no host answers itself.
fn check_commands(commands: &[Command]) -> Result<(), String> {
    let mut names = HashSet::new();
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

/// What the library in `bytes` takes in memory once it is mapped, as its headers say (bytes).
pub fn mapped_bytes(bytes: &[u8]) -> u64 {
    library::mapped_bytes(bytes)
}

/// The one key that the manifest of every ABI has; its others may have any shape.
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

/// Whether the plugin may run in the host's own process.
///
/// # Errors
/// Its panics can't be caught, and would end the host with all its daemons.
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
