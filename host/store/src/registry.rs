//! The registry: the installed daemons and their settings, as plain data with its file.
//!
//! It is one JSON file that a person can read and repair, small enough to be rewritten at every change. The host that
//! holds the home's lock is its only writer. A power cut leaves either the old or the new file.
//!
//! Unknown keys are ignored and dropped by the next save. A change that older hosts must not ignore gets a new
//! `version`, which they refuse. A file that can't be parsed is never overwritten: the error says where it is wrong,
//! and only a person decides to start with an empty registry.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use dae_plugin_api::{exact, misfit};
use serde::{Deserialize, Serialize};

pub use crate::os::file_name::file_key;

use crate::atomic_file::{self, DiskFault};
use crate::home::DROP_IN_DIR;
use crate::os::file_name;
use crate::report::Mode;
use crate::text_file;

/// Whether the names of files here ignore the case of letters. Two daemons whose names differ in nothing else would then
/// have the same files: the state, the log and others.
pub const FILES_IGNORE_CASE: bool = file_name::IGNORES_CASE;

/// The name of the host's own daemon, which no plugin may use.
pub const DAE_NAME: &str = "Dae";

/// The longest name of a daemon, in bytes. It must fit a table's column and, with a suffix, a file's name.
pub const DAEMON_NAME_BYTES_MAX: usize = 64;

/// The file format version that this host reads and writes.
const VERSION: u32 = 1;

/// The installed daemons of an ecosystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registry {
    /// The version of the file format.
    pub version: u32,
    /// Dae's port, kept over restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dae_port: Option<u16>,
    /// The daemons by the names they run under.
    #[serde(default)]
    pub daemons: BTreeMap<String, Entry>,
}

/// An installed daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// The content hash of the code that runs, in hex. It identifies the file in the plugin store.
    pub hash: String,
    /// The file it was installed from, if that lies outside of the home. [`Entry::source_in`] returns the path in both
    /// cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// The file it was installed from, if that lies in the home, as a path relative to the home, since the home may be
    /// moved. It has its own key because older hosts open any `source` as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_in_home: Option<PathBuf>,
    /// The content hash of the source when it was last read, if other code runs since a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    /// The settings given at install, which override the config.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
    /// The file of the `apply` that installed it, which may remove it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_from: Option<PathBuf>,
    /// The content hashes of quarantined code, with the reasons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, String>,
    /// True if the daemon is a drop-in, which is uninstalled when its file is removed from the drop-in directory.
    #[serde(default)]
    pub drop_in: bool,
    /// True if its code is part of a program that embeds the host. Then there is no file, and the hash only names it.
    #[serde(
        default,
        rename = "built_in",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_built_in: bool,
    /// Its port, chosen at the first start and then kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// True if the user has chosen the port. It is then never replaced by another.
    #[serde(default)]
    pub port_pinned: bool,
    /// The JSON object passed to the daemon's `start`.
    #[serde(default)]
    pub config: serde_json::Value,
    /// The process in which its code runs.
    #[serde(default)]
    pub mode: Mode,
    /// The state that a person has requested.
    #[serde(default)]
    pub desired: Desired,
    /// The state that the last start without it has set aside. A rollback restores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<SetAside>,
    /// The content hashes of older versions, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
    /// The content hashes of versions it was rolled back from, newest first. The next installation removes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<String>,
}

impl Entry {
    /// Returns every content hash in the entry. Each may become part of a path.
    fn named_hashes(&self) -> impl Iterator<Item = &str> {
        let of_source = self.source_hash.iter().chain(self.quarantined.keys());
        let all = of_source.chain(self.stored());
        all.map(String::as_str)
    }

    /// Returns the hashes of the stored files that the daemon needs: the current one and all that it can switch to.
    pub fn stored(&self) -> impl Iterator<Item = &String> {
        self.newer
            .iter()
            .chain(std::iter::once(&self.hash))
            .chain(&self.previous)
    }

    /// Returns the hashes of older versions after an installation of `hash`: at most `max`, newest first.
    #[must_use]
    pub fn previous_after(&self, hash: &str, max: usize) -> Vec<String> {
        let before = std::iter::once(&self.hash).chain(&self.previous);
        let others = before.filter(|other| *other != hash && !other.is_empty());
        others.take(max).cloned().collect()
    }

    /// Records that `hash`, which is one of [`Entry::stored`], runs instead of the current code.
    pub fn switch_to(&mut self, hash: &str) {
        let all: Vec<String> = self.stored().cloned().collect();
        let at = all.iter().position(|one| one == hash);
        let (newer, older) = all.split_at(at.unwrap_or_default());
        self.newer = newer.to_vec();
        self.previous = older.iter().filter(|one| *one != hash).cloned().collect();
        self.roll_back_to(hash);
    }

    /// Quarantines `bad` and records that `good` runs again. If another file was installed since, that one stays
    /// current.
    pub fn quarantine(&mut self, bad: &str, reason: &str, good: &str) {
        let is_replaced = self.hash != bad && self.hash != good;
        if is_replaced {
            if !self.previous.iter().any(|one| one == good) {
                self.previous.insert(0, good.to_owned());
            }
        } else {
            // If the reload is not recorded yet, the entry still names `good`.
            self.hash = bad.to_owned();
            self.previous.retain(|one| one != bad);
            if !self.stored().any(|one| one == good) {
                self.previous.insert(0, good.to_owned());
            }
            self.switch_to(good);
        }
        self.previous.retain(|one| one != bad);
        self.newer.retain(|one| one != bad);
        self.quarantined.insert(bad.to_owned(), reason.to_owned());
    }

    /// Returns the path of the source file. `home` is the directory of the registry.
    #[must_use]
    pub fn source_in(&self, home: &Path) -> Option<PathBuf> {
        match &self.source_in_home {
            Some(inside) => Some(home.join(inside)),
            None => self.source.clone(),
        }
    }

    /// Records the source file, as a path relative to the home if it lies inside.
    pub fn set_source(&mut self, home: &Path, file: &Path) {
        (self.source, self.source_in_home) = match file.strip_prefix(home) {
            Ok(inside) => (None, Some(inside.to_owned())),
            Err(_) => (Some(file.to_owned()), None),
        };
    }

    /// Converts the absolute path that hosts before 0.2 wrote for a file in the home to a relative one. If the home was
    /// moved or is reached by another path, only a drop-in's file is recognised, since it always lay in the drop-in
    /// directory.
    fn migrate_source(&mut self, home: &Path) {
        let Some(source) = self.source.take() else {
            return;
        };
        let dropped = source.file_name().filter(|_| self.drop_in);
        match dropped {
            Some(name) => self.source_in_home = Some(Path::new(DROP_IN_DIR).join(name)),
            None => self.set_source(home, &source),
        }
    }

    /// Checks that the code is not quarantined, unless the installation is forced.
    ///
    /// # Errors
    /// The code is quarantined; the text gives the reason.
    pub fn check_quarantine(&self, hash: &str, is_forced: bool) -> Result<(), String> {
        match self.quarantined.get(hash) {
            Some(reason) if !is_forced => Err(format!(
                "this file did not last before ({reason}) and is quarantined; an install with `replace` and `force` installs it nevertheless"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the quarantine after an installation of that code. A forced installation ends its quarantine.
    #[must_use]
    pub fn quarantine_after(&self, hash: &str, is_forced: bool) -> BTreeMap<String, String> {
        let mut quarantined = self.quarantined.clone();
        if is_forced {
            quarantined.remove(hash);
        }
        quarantined
    }

    /// Records that code other than the source's runs. `source_hash` then holds the source's code: the code that ran
    /// before, unless `source_hash` was already set.
    fn roll_back_to(&mut self, hash: &str) {
        let before = std::mem::replace(&mut self.hash, hash.to_owned());
        let of_source = self.source_hash.take().unwrap_or(before);
        self.source_hash = Some(of_source).filter(|of_source| of_source != hash);
    }
}

/// A state that was set aside, and the code that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The content hash of the code that left the state.
    pub hash: String,
    /// The id of the state in the archive.
    pub state: String,
}

/// The state that a person has requested for a daemon, whatever its actual state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// The daemon runs, now and after every start of the host.
    #[default]
    Running,
    /// The daemon stays stopped until a person starts it.
    Stopped,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            version: VERSION,
            dae_port: None,
            daemons: BTreeMap::new(),
        }
    }
}

/// The key that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Registry {
    /// Reads the file at `path`. A missing file gives an empty registry.
    ///
    /// # Errors
    /// The file can't be read or parsed, or a newer host wrote it. The file stays unchanged.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match atomic_file::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Registry::default()),
            Err(e) => return Err(DiskFault::new(&e, "read", path).into()),
        };
        let text = text_file::of_file(text).map_err(anyhow::Error::msg);
        let parsed = text.and_then(|text| Registry::parse(&text));
        let mut registry = parsed.with_context(|| {
            format!(
                "cannot use the registry {}, which is left as it is; repair it, or move it away to start with none",
                path.display()
            )
        })?;
        let home = path.parent().unwrap_or(Path::new(""));
        for entry in registry.daemons.values_mut() {
            entry.migrate_source(home);
        }
        Ok(registry)
    }

    /// Returns the content hashes that the plugin store must keep.
    #[must_use]
    pub fn hashes(&self) -> HashSet<String> {
        let stored = self.daemons.values().flat_map(Entry::stored);
        stored.cloned().collect()
    }

    /// Reads a registry from the text of its file.
    ///
    /// # Errors
    /// The text is wrong, and the error says where; or a newer host wrote it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let misfit = |error| anyhow!(misfit::explain(&error, text));
        // The version comes first, since a newer file may differ in everything else.
        let Versioned { version } = serde_json::from_str(text).map_err(misfit)?;
        if version != VERSION {
            bail!(
                "it has version {version} and this dae-host reads version {VERSION}: a newer one wrote it, update dae-host"
            );
        }
        let registry: Registry = exact::from_str(text).map_err(misfit)?;
        for (name, entry) in &registry.daemons {
            check_name(name).map_err(|reason| anyhow!(reason))?;
            let checked = entry.named_hashes().try_for_each(check_hash);
            checked.map_err(|reason| anyhow!("the daemon {name}: {reason}"))?;
        }
        registry.check_files_apart(FILES_IGNORE_CASE)?;
        Ok(registry)
    }

    /// Returns the daemon whose files a daemon of that name would share, if there is one besides that daemon itself.
    /// `ignores_case` says whether the names of files ignore the case of letters.
    pub fn sharing_files(&self, name: &str, ignores_case: bool) -> Option<&str> {
        let all = self.daemons.keys().map(String::as_str);
        let mut others = all.chain([DAE_NAME]).filter(|other| *other != name);
        let key = file_key(name, ignores_case);
        others.find(|other| file_key(other, ignores_case) == key)
    }

    /// Checks that no two daemons share files. They do if the home comes from a system that knows the case of letters.
    fn check_files_apart(&self, ignores_case: bool) -> anyhow::Result<()> {
        for name in self.daemons.keys() {
            if let Some(other) = self.sharing_files(name, ignores_case) {
                bail!(
                    "the daemons {name} and {other} would share their files, since the names of files here ignore the case of \
                     letters; remove one of the two from the registry"
                );
            }
        }
        Ok(())
    }

    /// Writes the file at `path`, atomically and durably.
    ///
    /// # Errors
    /// A disk error; the file is then unchanged.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        Ok(atomic_file::write(path, &self.text()?)?)
    }

    /// Returns the text of its file.
    ///
    /// # Errors
    /// It can't be written as JSON.
    pub fn text(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// The length of a content hash in hex digits: BLAKE3 has 32 bytes.
const HASH_DIGITS: usize = 64;

/// Checks that `hash` is a content hash. It becomes part of a path and may come from a file edited by a person.
///
/// # Errors
/// The reason why it is not one, for a person.
pub fn check_hash(hash: &str) -> Result<(), String> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match hash.len() == HASH_DIGITS && hash.bytes().all(is_digit) {
        true => Ok(()),
        false => Err(format!(
            "{hash:?} is no content hash, which has {HASH_DIGITS} digits 0-9 a-f; look at the registry, or install it again"
        )),
    }
}

/// Checks that a daemon may run under `name`, which appears in file names, tables and command lines.
///
/// # Errors
/// The reason why it may not, for a person.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > DAEMON_NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
        return Err(format!(
            "{name:?} cannot be a daemon's name; it takes 1 to {DAEMON_NAME_BYTES_MAX} of A-Z a-z 0-9 _ . -"
        ));
    }
    if name == DAE_NAME {
        return Err(format!(
            "{DAE_NAME} is the daemon of daemons itself; choose another name"
        ));
    }
    // Both match the pattern above, but are directories when used in a path.
    if matches!(name, "." | "..") {
        return Err(format!(
            "{name:?} cannot be a daemon's name; choose another"
        ));
    }
    Ok(())
}

/// The words that may stand in place of a daemon's name, or beside it, on a command line.
const COMMAND_WORDS: [&str; 4] = ["help", "reload", "set", "unset"];

/// Checks the name of a daemon of this host, after which its files are named.
///
/// # Errors
/// The reason why it can't be one, for a person.
pub fn check_installed_name(name: &str) -> Result<(), String> {
    check_name(name)?;
    if COMMAND_WORDS.contains(&name) {
        return Err(format!(
            "{name:?} cannot be a daemon's name, since it is a word of the command line where a name may stand; choose another"
        ));
    }
    file_name::check(name)
}

/// Checks that a daemon can be installed from the file at `path`: the registry stores the path and is UTF-8.
///
/// # Errors
/// The reason why it can't, for a person.
pub fn check_source(path: &Path) -> Result<(), String> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => Err(format!(
            "the path {} is not valid UTF-8, and the registry can't keep it; rename the file or its directory",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests;
