//! Tests of the plugin store in real directories.

use super::*;
use crate::manifest::sample::{self, MANIFEST};
use tempfile::TempDir;

/// A home with a store, and a plugin to install.
struct Fixture {
    dir: TempDir,
    store: PluginStore,
    source: PathBuf,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("home"));
    home.create().unwrap();
    let source = dir.path().join("libsample.so");
    write_source(&source, "1.2.3");
    Fixture {
        store: PluginStore::open(&home).unwrap(),
        source,
        dir,
    }
}

fn write_source(path: &Path, version: &str) {
    let manifest = MANIFEST.replace("1.2.3", version);
    fs::write(path, sample::library(manifest.as_bytes())).unwrap();
    private::make_owners(&File::open(path).unwrap()).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(dir).unwrap().map(name).collect()
}

#[test]
fn what_is_staged_is_a_copy_found_by_its_hash() {
    let Fixture {
        store,
        source,
        dir: _dir,
    } = fixture();
    let staged = store.stage(&source).unwrap();
    let bytes = fs::read(&source).unwrap();
    assert_eq!(staged.hash, blake3::hash(&bytes).to_hex().as_str());
    assert_eq!(staged.bytes, bytes.len() as u64);
    assert_eq!(staged.manifest.version, "1.2.3");
    fs::write(&source, "the author's next build").unwrap();
    assert_eq!(store.find(&staged.hash).unwrap(), staged);
    assert_eq!(fs::read(&staged.path).unwrap(), bytes);
}

#[test]
fn the_same_content_is_kept_once() {
    let Fixture { dir, store, source } = fixture();
    let staged = store.stage(&source).unwrap();
    let modified = fs::metadata(&staged.path).unwrap().modified().unwrap();
    let other = dir.path().join("other.dylib");
    fs::copy(&source, &other).unwrap();
    assert_eq!(store.stage(&other).unwrap(), staged);
    assert_eq!(names(&store.artefacts).len(), 1);
    let now = fs::metadata(&staged.path).unwrap().modified().unwrap();
    assert_eq!(now, modified);
}

#[test]
fn a_file_that_is_no_plugin_leaves_nothing() {
    let Fixture { dir, store, source } = fixture();
    let whole = fs::read(&source).unwrap();
    fs::write(&source, &whole[..whole.len() - 9]).unwrap();
    let error = store.stage(&source).unwrap_err();
    let fault = error.downcast_ref::<FileFault>().unwrap();
    assert!(fault.is_incomplete(), "{fault}");
    assert!(fault.to_string().contains("libsample.so"), "{fault}");
    let error = store.stage(dir.path()).unwrap_err();
    let fault = error.downcast_ref::<FileFault>().unwrap();
    assert_eq!(fault.kind(), FileFaultKind::NotAFile);
    assert_eq!(names(&store.artefacts), Vec::<String>::new());
}

#[test]
fn a_damaged_copy_is_never_handed_out_and_is_healed_by_an_install() {
    let Fixture {
        store,
        source,
        dir: _dir,
    } = fixture();
    let staged = store.stage(&source).unwrap();
    let mut bytes = fs::read(&staged.path).unwrap();
    bytes[200] ^= 1;
    fs::write(&staged.path, &bytes).unwrap();
    let errors = [
        store.find(&staged.hash).unwrap_err(),
        store.copy_for_loading(&staged).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("damaged"), "{error}");
    }
    assert_eq!(names(&store.copies), Vec::<String>::new());
    store.stage(&source).unwrap();
    assert_eq!(store.find(&staged.hash).unwrap(), staged);
}

#[test]
fn what_is_lost_or_never_was_is_told() {
    let Fixture {
        store,
        source: _,
        dir: _dir,
    } = fixture();
    let text = store.find(&"ab".repeat(32)).unwrap_err().to_string();
    assert!(text.contains("is lost; install it again"), "{text}");
    for hash in ["", "../../etc/passwd", &"AB".repeat(32), &"é".repeat(32)] {
        let text = store.find(hash).unwrap_err().to_string();
        assert!(text.contains("no content hash"), "{text}");
    }
}

#[test]
fn every_copy_is_a_file_of_its_own_under_a_new_name() {
    let Fixture {
        store,
        source,
        dir: _dir,
    } = fixture();
    let staged = store.stage(&source).unwrap();
    let copies: HashSet<PathBuf> = (0..3)
        .map(|_| store.copy_for_loading(&staged).unwrap().path)
        .collect();
    assert_eq!(copies.len(), 3);
    for copy in &copies {
        assert_eq!(fs::read(copy).unwrap(), fs::read(&source).unwrap());
    }
    store.sweep_copies().unwrap();
    assert_eq!(names(&store.copies), Vec::<String>::new());
    assert!(!copies.contains(&store.copy_for_loading(&staged).unwrap().path));
}

#[test]
fn a_file_is_told_from_one_that_differs_anywhere_and_from_a_longer_one() {
    let Fixture { dir, store, source } = fixture();
    let mut bytes = fs::read(&source).unwrap();
    // The file is longer than one part of the comparison.
    bytes.resize(
        bytes.len() + 3 * usize::try_from(COMPARED_BYTES).unwrap(),
        0,
    );
    fs::write(&source, &bytes).unwrap();
    let Artefact { hash, path, .. } = store.stage(&source).unwrap();
    let other = dir.path().join("other.so");
    let is_same = |bytes: &[u8]| {
        fs::write(&other, bytes).unwrap();
        store.is_same(&hash, &other)
    };
    assert!(is_same(&bytes));
    assert!(!is_same(&[&*bytes, b"longer"].concat()));
    assert!(!is_same(&bytes[..bytes.len() - 1]));
    assert!(!is_same(b""));
    *bytes.last_mut().unwrap() = 1;
    assert!(!is_same(&bytes));
    // A damaged copy counts as different. Without a copy, the hash decides.
    fs::write(&path, "damaged").unwrap();
    assert!(!store.is_same(&hash, &source));
    fs::remove_file(&path).unwrap();
    assert!(store.is_same(&hash, &source));
    assert!(!store.is_same(&hash, &other));
}

#[test]
fn a_sweep_leaves_what_is_kept_and_nothing_else() {
    let Fixture {
        store,
        source,
        dir: _dir,
    } = fixture();
    let old = store.stage(&source).unwrap();
    write_source(&source, "2.0.0");
    let new = store.stage(&source).unwrap();
    fs::write(store.artefacts.join(".new-left-behind"), "").unwrap();
    assert_ne!(old.hash, new.hash);
    store.sweep(&HashSet::from([new.hash.clone()])).unwrap();
    assert_eq!(names(&store.artefacts).len(), 1);
    assert_eq!(store.find(&new.hash).unwrap(), new);
    store.sweep(&HashSet::new()).unwrap();
    assert_eq!(names(&store.artefacts), Vec::<String>::new());
}

#[test]
fn a_sweep_goes_on_after_what_it_cannot_remove_and_tells_it() {
    let Fixture {
        store,
        source,
        dir: _dir,
    } = fixture();
    store.stage(&source).unwrap();
    fs::create_dir(store.artefacts.join("directory")).unwrap();
    let text = store.sweep(&HashSet::new()).unwrap_err().to_string();
    assert!(
        text.contains("cannot remove") && text.contains("directory"),
        "{text}"
    );
    assert_eq!(names(&store.artefacts), ["directory"]);
}

#[test]
fn a_store_that_is_not_there_is_told() {
    let home = Home::at("/nowhere/at/all");
    let text = PluginStore::open(&home).unwrap_err().to_string();
    let store = home.store_dir().display().to_string();
    assert!(text.contains(&store), "{text}");
}
