//! Good plugins made bad: the bytes of a compiled plugin, changed in one place.
//!
//! Real files of another architecture, ABI or panic strategy would need other compilers; what the host looks at is a
//! few bytes, and those are changed here. The manifest is JSON in a section of the file, so that a value of the same
//! length can be put in place. Every change asserts that it found its place, or a test would pass for no reason.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where an ELF header names its architecture (`e_machine`, two bytes, little end first).
const ELF_MACHINE_AT: usize = 18;
const ELF_MACHINE_X86_64: u8 = 62;
const ELF_MACHINE_AARCH64: u8 = 183;

/// What stands before a recipe in the file of the fixture `recipe`.
const RECIPE_MARK: &[u8] = b"dae-fixture-recipe=";

/// Writes `bytes` as a file of a directory, readable like a plugin that a compiler wrote.
///
/// # Panics
/// When the file cannot be written.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    let written = std::fs::write(&path, bytes);
    // Whatever the umask of whoever runs the tests: a file that a group may write is refused for that reason.
    let written =
        written.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    path
}

/// The plugin as if compiled for an architecture that this machine is not.
///
/// # Panics
/// When the file is no 64-bit ELF library.
#[must_use]
pub fn of_another_architecture(mut plugin: Vec<u8>) -> Vec<u8> {
    assert!(
        plugin.starts_with(b"\x7fELF\x02\x01"),
        "a 64-bit little-endian ELF file"
    );
    let machine = &mut plugin[ELF_MACHINE_AT];
    *machine = if *machine == ELF_MACHINE_X86_64 {
        ELF_MACHINE_AARCH64
    } else {
        ELF_MACHINE_X86_64
    };
    plugin
}

/// The plugin as if compiled against an ABI of that one-digit version.
///
/// # Panics
/// When the file has no manifest with a one-digit version.
#[must_use]
pub fn of_abi(plugin: Vec<u8>, version: u8) -> Vec<u8> {
    assert!(version <= 9, "one digit takes the place of one digit");
    let digit = [b'0' + version];
    replace_all(
        plugin,
        b"\"abi\":1",
        &[b"\"abi\":".as_slice(), &digit].concat(),
    )
}

/// The plugin as if compiled with `panic = "abort"`.
///
/// # Panics
/// When the file has no manifest that says `unwind`.
#[must_use]
pub fn of_panic_abort(plugin: Vec<u8>) -> Vec<u8> {
    replace_all(plugin, b"\"panic\":\"unwind\"", b"\"panic\":\"abort\" ")
}

/// The fixture `recipe` with that recipe, a JSON object (`{"version": 2, "start": "panic"}`).
///
/// # Panics
/// When the file has no place for a recipe, or not so much.
#[must_use]
pub fn of_recipe(mut plugin: Vec<u8>, recipe: &serde_json::Value) -> Vec<u8> {
    let recipe = recipe.to_string();
    let mut places = memchr::memmem::find_iter(&plugin, RECIPE_MARK);
    let (place, second) = (places.next(), places.next());
    let start = place.expect("a plugin with a recipe") + RECIPE_MARK.len();
    assert!(second.is_none(), "one place for one recipe");
    let length = 1 + plugin[start..]
        .iter()
        .position(|byte| *byte == b'}')
        .expect("the end of the recipe");
    assert!(recipe.len() <= length, "{length} bytes for {recipe}");
    let place = &mut plugin[start..start + length];
    place.fill(b' ');
    place[..recipe.len()].copy_from_slice(recipe.as_bytes());
    plugin
}

/// The bytes with every `from` replaced by `to`, which is as long.
///
/// # Panics
/// When the lengths differ, or there is no `from`.
#[must_use]
pub fn replace_all(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "nothing in the file may move");
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, part)| *part == from)
        .map(|(at, _)| at)
        .collect();
    assert!(
        !places.is_empty(),
        "the file does not contain {}",
        String::from_utf8_lossy(from)
    );
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}
