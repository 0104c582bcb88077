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

use crate::atomic_file::{self, DiskFault};
use crate::home::DROP_IN_DIR;
use crate::report::Mode;
use crate::text_file;

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
    /// The content hashes of quarantined code, with the reasons.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, String>,
    /// True if the daemon is a drop-in, which is uninstalled when its file is removed from the drop-in directory.
    #[serde(default)]
    pub drop_in: bool,
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
                "this file did not last before ({reason}) and is quarantined; --force installs it all the same"
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
        let text = match std::fs::read(path) {
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
        Ok(registry)
    }

    /// Writes the file at `path`, atomically and durably.
    ///
    /// # Errors
    /// A disk error; the file is then unchanged.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(atomic_file::write(path, &text)?)
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
mod tests {
    use super::*;
    use serde_json::json;

    fn entry() -> Entry {
        Entry {
            settings: serde_json::Value::Null,
            quarantined: BTreeMap::new(),
            plugin: "Sample".into(),
            version: "1.2.3".into(),
            hash: "ab".repeat(32),
            source: Some("/src/libsample.so".into()),
            source_in_home: None,
            source_hash: None,
            drop_in: false,
            port: Some(4711),
            port_pinned: true,
            config: json!({"greeting": "hello"}),
            mode: Mode::Subprocess,
            desired: Desired::Stopped,
            set_aside: None,
            previous: vec!["cd".repeat(32)],
            newer: Vec::new(),
        }
    }

    /// Returns the newer hashes, the current one, the older ones, and the source's.
    fn history(entry: &Entry) -> (String, &str, String, Option<&str>) {
        (
            entry.newer.concat(),
            &entry.hash,
            entry.previous.concat(),
            entry.source_hash.as_deref(),
        )
    }

    /// Returns an entry that runs C and had B and A before.
    fn of_three() -> Entry {
        Entry {
            hash: "C".into(),
            previous: vec!["B".into(), "A".into()],
            ..entry()
        }
    }

    #[test]
    fn versions_keep_their_order_whichever_runs() {
        let mut entry = of_three();
        entry.switch_to("B");
        assert_eq!(history(&entry), ("C".into(), "B", "A".into(), Some("C")));
        entry.switch_to("A");
        assert_eq!(
            history(&entry),
            ("CB".into(), "A", String::new(), Some("C"))
        );
        entry.switch_to("C");
        assert_eq!(history(&entry), (String::new(), "C", "BA".into(), None));
        entry.switch_to("A");
        assert_eq!(entry.previous_after("D", 3), ["A"]);
        assert_eq!(of_three().previous_after("D", 2), ["C", "B"]);
        assert_eq!(of_three().previous_after("B", 3), ["C", "A"]);
        assert_eq!(of_three().previous_after("C", 3), ["B", "A"]);
    }

    #[test]
    fn what_did_not_last_is_recorded_over_whatever_was_recorded_meanwhile() {
        let mut entry = of_three();
        entry.quarantine("C", "it fell", "A");
        assert_eq!(history(&entry), ("B".into(), "A", String::new(), Some("C")));
        assert_eq!(entry.quarantined["C"], "it fell");
        // The report is late: the owner has installed D since.
        let mut entry = Entry {
            hash: "D".into(),
            previous: vec!["C".into()],
            ..of_three()
        };
        entry.quarantine("C", "it fell", "B");
        assert_eq!(history(&entry), (String::new(), "D", "B".into(), None));
        // The reload is not recorded yet.
        let mut entry = Entry {
            hash: "B".into(),
            previous: Vec::new(),
            ..of_three()
        };
        entry.quarantine("C", "it fell", "B");
        assert_eq!(
            history(&entry),
            (String::new(), "B", String::new(), Some("C"))
        );
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_person_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.json");
        let mut registry = Registry::load(&path).unwrap();
        assert_eq!(registry, Registry::default());
        registry.dae_port = Some(3502);
        registry.daemons.insert("A".into(), entry());
        registry.save(&path).unwrap();
        assert_eq!(Registry::load(&path).unwrap(), registry);
        let text = std::fs::read_to_string(&path).unwrap();
        for line in [
            "  \"dae-port\": 3502,",
            "      \"mode\": \"subprocess\",",
            "      \"desired\": \"stopped\",",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_unknown_is_passed_over() {
        let text = r#"{"version":1,"colour":"red","daemons":{"A":
            {"plugin":"A","version":"1","hash":"HASH","colour":["red"]}}}"#;
        let text = text.replace("HASH", &"ab".repeat(32));
        let registry = Registry::parse(&text).unwrap();
        let entry = &registry.daemons["A"];
        assert_eq!(entry.desired, Desired::Running);
        assert_eq!(entry.mode, Mode::InProcess);
        assert!(entry.previous.is_empty() && !entry.port_pinned);
    }

    #[test]
    fn sources_in_the_home_move_with_it_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let mut registry = Registry::default();
        for (name, file) in [
            ("In", old.join("plugins/in.so")),
            ("Out", "/src/out.so".into()),
        ] {
            let mut entry = entry();
            entry.set_source(&old, &file);
            registry.daemons.insert(name.into(), entry);
        }
        std::fs::create_dir_all(&old).unwrap();
        registry.save(&old.join("registry.json")).unwrap();
        std::fs::rename(&old, &new).unwrap();
        let moved = Registry::load(&new.join("registry.json")).unwrap();
        let source = |name: &str| moved.daemons[name].source_in(&new).unwrap();
        assert_eq!(source("In"), new.join("plugins/in.so"));
        assert_eq!(source("Out"), Path::new("/src/out.so"));
    }

    #[test]
    fn absolute_sources_of_before_are_read() {
        let home = Path::new("/new/home");
        for (is_drop_in, source, expected) in [
            (true, "/old/home/plugins/a.so", "/new/home/plugins/a.so"),
            (true, "/new/home/plugins/a.so", "/new/home/plugins/a.so"),
            (false, "/new/home/b.so", "/new/home/b.so"),
            (false, "/old/home/b.so", "/old/home/b.so"),
        ] {
            let mut entry = entry();
            (entry.drop_in, entry.source) = (is_drop_in, Some(source.into()));
            entry.migrate_source(home);
            assert_eq!(entry.source_in(home).as_deref(), Some(Path::new(expected)));
            assert_eq!(
                entry.source.is_some(),
                !expected.starts_with("/new"),
                "{source}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.json");
        for (text, part) in [
            ("{\"version\":1,\n\"daemons\":{", "EOF while parsing"),
            (
                "\u{feff}{\"version\":1,\"daemons\":{\"A\":{\"plugin\":5}}}",
                "at .daemons.A.plugin: expected a string",
            ),
            ("", "it is empty"),
            (r#"{"daemons":{}}"#, "the member `version` is missing"),
            (r#"{"version":2,"daemons":[]}"#, "update dae-host"),
            (
                r#"{"version":1,"daemons":{"../x":{"plugin":"A","version":"1","hash":"00"}}}"#,
                "\"../x\" cannot be",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let told = format!("{:#}", Registry::load(&path).unwrap_err());
            assert!(told.contains(part), "{told}");
            assert!(told.contains(path.to_str().unwrap()), "{told}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_hash_that_is_none_is_refused_wherever_it_stands() {
        let good = "ab".repeat(32);
        type Change<'c> = &'c dyn Fn(&mut Entry, &str);
        let with = |change: Change<'_>, hash: &str| {
            let mut registry = Registry::default();
            let mut one = entry();
            change(&mut one, hash);
            registry.daemons.insert("A".into(), one);
            Registry::parse(&serde_json::to_string(&registry).unwrap())
        };
        let members: [Change<'_>; 4] = [
            &|entry, hash| entry.hash = hash.to_owned(),
            &|entry, hash| entry.previous.push(hash.to_owned()),
            &|entry, hash| entry.source_hash = Some(hash.to_owned()),
            &|entry, hash| drop(entry.quarantined.insert(hash.to_owned(), "it fell".into())),
        ];
        let short = &good[1..];
        let upper = good.to_uppercase();
        for (number, change) in members.into_iter().enumerate() {
            assert!(with(change, &good).is_ok(), "member {number}");
            for bad in [
                "",
                "../../..",
                "/etc/passwd",
                "00",
                short,
                &upper,
                &"é".repeat(32),
            ] {
                let told = format!("{:#}", with(change, bad).unwrap_err());
                assert!(
                    told.contains("daemon A") && told.contains("content hash"),
                    "{number}: {told}"
                );
            }
        }
    }

    #[test]
    fn a_registry_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let told = Registry::load(dir.path()).unwrap_err().to_string();
        assert!(told.starts_with("cannot read "), "{told}");
    }

    #[test]
    fn names() {
        let longest = "x".repeat(DAEMON_NAME_BYTES_MAX);
        for good in ["a", "Sample", "my.daemon_2-b", "dae", "...", &longest] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(DAEMON_NAME_BYTES_MAX + 1);
        for bad in [
            "", "a b", "a/b", "a#b", "ä", "a\n", "Dae", ".", "..", &too_long,
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
