//! A moved home, or one that is reached by another path, is the same home: with its drop-ins, states and ports.

use std::fs;
use std::path::Path;

use dae_tests::{LIMIT, spoil, until};
use serde_json::{Value, json};

use super::{Kitchen, NAME, count_to, until_version};

/// Makes the registry name the drop-in's file by its absolute path, as earlier hosts did.
fn make_old(kitchen: &Kitchen, home_then: &str) {
    let path = kitchen.ecosystem.home().join("registry.json");
    let text = fs::read_to_string(&path).expect("a registry");
    let mut registry: Value = serde_json::from_str(&text).expect("JSON");
    let entry = registry["daemons"][NAME].as_object_mut().expect("an entry");
    assert_eq!(
        entry.remove("source-in-home"),
        Some(json!("plugins/recipe.so"))
    );
    let source = format!("{home_then}/plugins/recipe.so");
    entry.insert("source".to_owned(), json!(source));
    fs::write(&path, registry.to_string()).expect("our own file");
}

/// Waits until the registry on disk names the file as this host does. Guests see the new code a moment earlier.
fn until_recorded(kitchen: &Kitchen) {
    let path = kitchen.ecosystem.home().join("registry.json");
    until(LIMIT, "the registry is written", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("source-in-home"))
    });
}

/// Makes the home reachable at `path`: by a link, or by moving it there.
fn move_home(kitchen: &Kitchen, path: &Path, is_link: bool) {
    let home = kitchen.ecosystem.home();
    if is_link {
        let _ = fs::remove_file(path);
        return std::os::unix::fs::symlink(home, path).expect("our own");
    }
    fs::rename(home.canonicalize().expect("a home"), path).expect("our own");
}

#[test]
fn a_moved_home_keeps_its_drop_ins_and_their_states() {
    let mut kitchen = Kitchen::open();
    let first = kitchen.ecosystem.home();
    let old = kitchen.bytes(&json!({"version": 1}));
    spoil::write(&first.join("plugins"), "recipe.so", &old);
    kitchen.ecosystem.until_state(NAME, "ready");
    count_to(&mut kitchen.ecosystem.guest(NAME), 5);
    let port = kitchen.ecosystem.port_of(NAME);

    let (moved, link) = (first.with_file_name("moved"), first.with_file_name("link"));
    let old_place = first.to_str().expect("UTF-8").to_owned();
    for (version, home, is_old) in [
        (2, &moved, false),
        (3, &link, false),
        (4, &first, true),
        (5, &link, true),
    ] {
        kitchen.ecosystem.stop();
        if is_old {
            make_old(&kitchen, &old_place);
        }
        move_home(&kitchen, home, home == &link);
        kitchen.ecosystem.settle_in(home);
        kitchen.ecosystem.wake(&[]);
        kitchen.ecosystem.until_state(NAME, "ready");
        // The host watches the file at its new place, and the daemon was never uninstalled.
        let new = kitchen.bytes(&json!({"version": version}));
        spoil::write(&home.join("plugins"), "recipe.so", &new);
        let mut guest = kitchen.ecosystem.guest(NAME);
        until_version(&mut guest, version);
        assert_eq!(guest.ask("count", &json!([])), 5, "version {version}");
        let status = kitchen.ecosystem.status(NAME);
        assert_eq!(status["port"], port);
        assert_eq!(status["source"], json!(home.join("plugins/recipe.so")));
        until_recorded(&kitchen);
    }
}
