//! The registry: which daemons there are, and how they are to run. Pure data, and its file.
//!
//! One JSON file that a person can read and repair, small enough to be written whole at every change. The host that
//! has the home's lock is its only writer. It is written so that a power cut leaves the old or the new one.
//!
//! Keys that this version doesn't know are passed over, and are not kept by the next save; a change that an older host
//! must not pass over gets a new `version`, which that host refuses. A file that can't be understood is never
//! overwritten: the error says where it went wrong, and starting anew is for a person to decide.

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

/// The name of the daemon of daemons, which no plugin may take.
pub const DAE_NAME: &str = "Dae";

/// The longest name of a daemon, in bytes: it has to fit a table's column and, with a suffix, a file's name.
pub const DAEMON_NAME_BYTES_MAX: usize = 64;

/// The version of the file that this host reads and writes.
const VERSION: u32 = 1;

/// All daemons of an ecosystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registry {
    /// The version of this file's shape.
    pub version: u32,
    /// Dae's own port, kept over restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dae_port: Option<u16>,
    /// By the name it runs under.
    #[serde(default)]
    pub daemons: BTreeMap<String, Entry>,
}

/// One daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The plugin's own name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Content hash of what runs, in hex; its key in the store.
    pub hash: String,
    /// The file it was installed from, where that lies outside of the home. [`Entry::source_in`] returns either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// The file it was installed from, where that lies in the home: a path relative to the home, which may be moved. A key
    /// of its own, because an older host takes any `source` for a path that it can open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_in_home: Option<PathBuf>,
    /// Content hash of that file when it was last taken, where it is not what runs: a newer one that was rolled back
    /// from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    /// How it is run, as given at install, over what the config says.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub settings: serde_json::Value,
    /// Content hashes that did not last, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantined: BTreeMap<String, String>,
    /// It is uninstalled when its source goes from the drop-in directory.
    #[serde(default)]
    pub drop_in: bool,
    /// Its port, chosen at the first start and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user chose that port: it is never exchanged for another.
    #[serde(default)]
    pub port_pinned: bool,
    /// The JSON object that the daemon's `start` is given.
    #[serde(default)]
    pub config: serde_json::Value,
    /// Where its code runs.
    #[serde(default)]
    pub mode: Mode,
    /// Whether it is meant to run.
    #[serde(default)]
    pub desired: Desired,
    /// The state that its last start without it has set aside: a rollback goes back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<SetAside>,
    /// The hashes it had before, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
    /// The hashes that it was rolled back from, newest first; the next installation drops them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<String>,
}

impl Entry {
    /// Returns every content hash that the entry names. Each may become a part of a path.
    fn named_hashes(&self) -> impl Iterator<Item = &str> {
        let of_source = self.source_hash.iter().chain(self.quarantined.keys());
        let all = of_source.chain(self.stored());
        all.map(String::as_str)
    }

    /// Returns the hashes of the stored files that the daemon needs: what runs, and what it can be rolled back to.
    pub fn stored(&self) -> impl Iterator<Item = &String> {
        self.newer
            .iter()
            .chain(std::iter::once(&self.hash))
            .chain(&self.previous)
    }

    /// Returns the hashes that it had before once `hash` has been installed over it: at most `max`, newest first.
    #[must_use]
    pub fn previous_after(&self, hash: &str, max: usize) -> Vec<String> {
        let before = std::iter::once(&self.hash).chain(&self.previous);
        let others = before.filter(|other| *other != hash && !other.is_empty());
        others.take(max).cloned().collect()
    }

    /// Records that `hash`, which is one of [`Entry::stored`], runs instead of what ran until now.
    pub fn switch_to(&mut self, hash: &str) {
        let all: Vec<String> = self.stored().cloned().collect();
        let at = all.iter().position(|one| one == hash);
        let (newer, older) = all.split_at(at.unwrap_or_default());
        self.newer = newer.to_vec();
        self.previous = older.iter().filter(|one| *one != hash).cloned().collect();
        self.roll_back_to(hash);
    }

    /// Records that `bad` did not last, and that `good` runs again, or something that was installed since.
    pub fn quarantine(&mut self, bad: &str, reason: &str, good: &str) {
        let is_replaced = self.hash != bad && self.hash != good;
        if is_replaced {
            if !self.previous.iter().any(|one| one == good) {
                self.previous.insert(0, good.to_owned());
            }
        } else {
            // Whoever recorded what runs may have looked late.
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

    /// Returns the path of the file it was installed from; `home` is the directory that holds the registry.
    #[must_use]
    pub fn source_in(&self, home: &Path) -> Option<PathBuf> {
        match &self.source_in_home {
            Some(inside) => Some(home.join(inside)),
            None => self.source.clone(),
        }
    }

    /// Records the file it was installed from, relative to the home where it lies inside.
    pub fn set_source(&mut self, home: &Path, file: &Path) {
        (self.source, self.source_in_home) = match file.strip_prefix(home) {
            Ok(inside) => (None, Some(inside.to_owned())),
            Err(_) => (Some(file.to_owned()), None),
        };
    }

    /// Makes the absolute path that hosts before 0.2 wrote for a file in the home relative to it. Where the home was moved
    /// or is reached by another path, only a drop-in's file is recognised: it always lay in the drop-in directory.
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

    /// What did not last is not tried again by accident.
    ///
    /// # Errors
    /// That content is quarantined, and why.
    pub fn check_quarantine(&self, hash: &str, is_forced: bool) -> Result<(), String> {
        match self.quarantined.get(hash) {
            Some(reason) if !is_forced => Err(format!(
                "this file did not last before ({reason}) and is quarantined; --force installs it all the same"
            )),
            _ => Ok(()),
        }
    }

    /// The quarantine after an installation of that content: what was forced is quarantined no more.
    #[must_use]
    pub fn quarantine_after(&self, hash: &str, is_forced: bool) -> BTreeMap<String, String> {
        let mut quarantined = self.quarantined.clone();
        if is_forced {
            quarantined.remove(hash);
        }
        quarantined
    }

    /// Records that it runs other code than that of its source: what was left behind is that of the source, unless that
    /// was left behind before.
    fn roll_back_to(&mut self, hash: &str) {
        let before = std::mem::replace(&mut self.hash, hash.to_owned());
        let of_source = self.source_hash.take().unwrap_or(before);
        self.source_hash = Some(of_source).filter(|of_source| of_source != hash);
    }
}

/// A state that was set aside, and what left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Content hash of the code that left it.
    pub hash: String,
    /// What the state is called among those that are kept.
    pub state: String,
}

/// What a person asked of a daemon, whatever became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// To run, now and after every start of the host.
    #[default]
    Running,
    /// To stay down until started.
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

/// The one key that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Registry {
    /// Reads the file at `path`; one that isn't there is an empty registry.
    ///
    /// # Errors
    /// It can't be read or understood, or a newer host wrote it. The file is left as it is.
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

    /// Returns the content hashes that the store must keep.
    #[must_use]
    pub fn hashes(&self) -> HashSet<String> {
        let stored = self.daemons.values().flat_map(Entry::stored);
        stored.cloned().collect()
    }

    /// Reads a registry from the text of its file.
    ///
    /// # Errors
    /// What is wrong with the text, and where; or that a newer host wrote it.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let misfit = |error| anyhow!(misfit::explain(&error, text));
        // Before anything else: a newer file may have any other shape.
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

    /// Writes the file at `path`, whole and durably.
    ///
    /// # Errors
    /// The disk's; the file is then what it was.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(atomic_file::write(path, &text)?)
    }
}

/// The length of a content hash in hex: BLAKE3 has 32 bytes.
const HASH_DIGITS: usize = 64;

/// Checks that `hash` is a content hash: it becomes a part of a path, and may come from a file that a person has edited.
///
/// # Errors
/// Why it is none, for a person.
pub fn check_hash(hash: &str) -> Result<(), String> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match hash.len() == HASH_DIGITS && hash.bytes().all(is_digit) {
        true => Ok(()),
        false => Err(format!(
            "{hash:?} is no content hash, which has {HASH_DIGITS} digits 0-9 a-f; look at the registry, or install it again"
        )),
    }
}

/// Whether a daemon may run under `name`: it is part of file names, tables and command lines.
///
/// # Errors
/// Why it may not, for a person.
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
    // Both match the pattern above, and both are directories wherever a name is made a path.
    if matches!(name, "." | "..") {
        return Err(format!(
            "{name:?} cannot be a daemon's name; choose another"
        ));
    }
    Ok(())
}

/// Whether a daemon can be installed from the file at `path`: the registry keeps the path, and is UTF-8.
///
/// # Errors
/// Why not, for a person.
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

    /// What is newer, what runs, what is older, and what the source had.
    fn history(entry: &Entry) -> (String, &str, String, Option<&str>) {
        (
            entry.newer.concat(),
            &entry.hash,
            entry.previous.concat(),
            entry.source_hash.as_deref(),
        )
    }

    /// C runs, and had B and A before.
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
        // The report comes late: its owner has installed D since.
        let mut entry = Entry {
            hash: "D".into(),
            previous: vec!["C".into()],
            ..of_three()
        };
        entry.quarantine("C", "it fell", "B");
        assert_eq!(history(&entry), (String::new(), "D", "B".into(), None));
        // What came of the reload is not recorded yet.
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
