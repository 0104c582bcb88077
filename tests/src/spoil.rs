//! Valid plugins made invalid by changing bytes of the compiled file.
//!
//! Real files of another architecture, ABI or panic strategy would need other compilers. The host checks only a few
//! bytes, so those are changed here. The manifest is JSON in a section of the file, so a value can be replaced by
//! another of the same length. Every change asserts that it found its place. Otherwise a test could pass for no reason.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The offset of the architecture in an ELF header (`e_machine`, two bytes, little-endian).
const ELF_MACHINE_AT: usize = 18;
const ELF_MACHINE_X86_64: u8 = 62;
const ELF_MACHINE_AARCH64: u8 = 183;

/// The bytes before the recipe in the file of the fixture `recipe`.
const RECIPE_MARK: &[u8] = b"dae-fixture-recipe=";

/// Writes `bytes` as a file in a directory, with the permissions of a compiled plugin.
///
/// # Panics
/// Panics if the file cannot be written.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(name);
    let written = std::fs::write(&path, bytes);
    // This does not depend on the umask: the host refuses a file that a group may write.
    let written =
        written.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    path
}

/// Returns the plugin as if compiled for another architecture than this machine's.
///
/// # Panics
/// Panics if the file is not a 64-bit ELF library.
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

/// Returns the plugin as if compiled against an ABI of the given one-digit version.
///
/// # Panics
/// Panics if the file has no manifest for version 1 of the ABI, or if `version` has two digits.
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

/// Returns the plugin as if compiled with `panic = "abort"`.
///
/// # Panics
/// Panics if the file has no manifest that says `unwind`.
#[must_use]
pub fn of_panic_abort(plugin: Vec<u8>) -> Vec<u8> {
    replace_all(plugin, b"\"panic\":\"unwind\"", b"\"panic\":\"abort\" ")
}

/// Returns the fixture `recipe` with the given recipe, a JSON object (`{"version": 2, "start": "panic"}`).
///
/// # Panics
/// Panics if the file has no place for a recipe, or if the recipe is too long for it.
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

/// Replaces every `from` in the bytes with `to`, which has the same length.
///
/// # Panics
/// Panics if the lengths differ, or `from` does not occur.
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
