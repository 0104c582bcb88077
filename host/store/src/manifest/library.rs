//! Inspects a shared library: whether it is one, is for this machine and is complete, and where its manifest is.
//!
//! Nothing is mapped or run. The bytes are read as data, and every offset is checked against the file's length. Linkers
//! write a file piece by piece, with the section table last, and an unfinished copy is too short. Both cases show up as
//! an offset past the end or as zeros in place of the magic number. The preflight in a subprocess catches other damage,
//! such as a hole in the middle.

use object::read::{File, Object as _, ObjectSection as _, ObjectSegment as _};
use object::{Architecture, BinaryFormat, ObjectKind};

use super::fault::{FileFault, FileFaultKind};

/// The magic numbers of ELF, PE and Mach-O (32 and 64 bits, both byte orders).
const LIBRARY_MAGICS: [&[u8]; 6] = [
    b"\x7fELF",
    b"MZ",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xfe\xed\xfa\xcf",
    b"\xfe\xed\xfa\xce",
];

/// The magic numbers of Mach-O files for several processors.
const UNIVERSAL_MAGICS: [&[u8]; 2] = [b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"];

/// The longest header of the formats above (bytes). No shorter file has a complete one.
const HEADER_BYTES: usize = 64;

/// The length of the beginning of a file that shows its type (bytes).
pub(super) const BEGINNING_BYTES: usize = 512;

/// Returns the bytes of the manifest's section.
pub(super) fn manifest_section(bytes: &[u8]) -> Result<&[u8], FileFault> {
    check_is_object(bytes)?;
    let file = File::parse(bytes).map_err(FileFault::incomplete)?;
    check_platform(&file)?;
    check_is_library(&file)?;
    check_whole(&file, bytes.len())?;
    let section = file.section_by_name(section_name(file.format()));
    let section = section.ok_or_else(not_a_daemon)?;
    section.data().map_err(FileFault::incomplete)
}

/// Returns the size of the mapped library according to its headers (bytes), or 0 if it can't be parsed. Wrong headers
/// may claim more memory than exists.
pub(super) fn mapped_bytes(bytes: &[u8]) -> u64 {
    let file = File::parse(bytes).ok();
    file.map_or(0, |file| {
        let sizes = file.segments().map(|segment| segment.size());
        sizes.fold(0, u64::saturating_add)
    })
}

fn section_name(format: BinaryFormat) -> &'static str {
    match format {
        BinaryFormat::MachO => "__dae_manifest",
        BinaryFormat::Pe => ".daemani", // PE limits a section name to eight bytes.
        _ => ".dae_manifest",
    }
}

fn not_a_daemon() -> FileFault {
    FileFault::new(
        FileFaultKind::NotADaemon,
        "is no daemon: it is a shared library, or a program, without a manifest; \
         its crate needs dae-plugin-api and #[daemon] on an impl",
    )
}

/// Checks the first bytes: they must belong to an object file format that has shared libraries.
pub(super) fn check_is_object(bytes: &[u8]) -> Result<(), FileFault> {
    if bytes.is_empty() {
        let text = "is empty; build or copy it anew";
        return Err(FileFault::new(FileFaultKind::Empty, text));
    }
    let head = &bytes[..bytes.len().min(HEADER_BYTES)];
    if head.iter().all(|&byte| byte == 0) {
        return Err(FileFault::incomplete("it begins with zeros"));
    }
    if UNIVERSAL_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        let text = "is a universal file for several processors; take this machine's part out with `lipo -thin`";
        return Err(FileFault::new(FileFaultKind::OtherPlatform, text));
    }
    if LIBRARY_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        return Ok(());
    }
    if LIBRARY_MAGICS.iter().any(|magic| magic.starts_with(head)) {
        return Err(FileFault::incomplete(format!(
            "it has {} bytes",
            bytes.len()
        )));
    }
    Err(not_a_library(appearance(bytes)))
}

fn not_a_library(what: &str) -> FileFault {
    let text = format!(
        "is {what}, and a plugin is a shared library; give it crate-type = [\"cdylib\"], build it, \
         and name the {}*{} in target/",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    FileFault::new(FileFaultKind::NotALibrary, text)
}

/// Describes a file that is not an object file.
fn appearance(bytes: &[u8]) -> &'static str {
    let glance = &bytes[..bytes.len().min(BEGINNING_BYTES)];
    let is_text = |&byte: &u8| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r');
    match glance {
        [b'#', b'!', ..] => "a script",
        _ if glance.starts_with(b"!<arch>\n") => "a static library or an rlib",
        _ if glance.starts_with(b"\0asm") => "WebAssembly",
        _ if glance.starts_with(b"PK\x03\x04") => "a zip archive",
        _ if glance.iter().all(is_text) => "text",
        _ => "nothing that is known here",
    }
}

/// Checks that the file is for this machine. Otherwise loading would fail with an error that few users understand.
fn check_platform(file: &File<'_>) -> Result<(), FileFault> {
    let theirs = (
        file.format(),
        file.architecture(),
        file.is_64(),
        file.is_little_endian(),
    );
    let ours = (
        native_format(),
        native_architecture().unwrap_or(theirs.1),
        cfg!(target_pointer_width = "64"),
        cfg!(target_endian = "little"),
    );
    if theirs == ours {
        return Ok(());
    }
    let text = format!(
        "is for another machine: {}, and this one runs {}; build it for {}",
        platform_text(theirs),
        platform_text(ours),
        std::env::consts::ARCH
    );
    Err(FileFault::new(FileFaultKind::OtherPlatform, text))
}

/// Returns the format of this system's libraries. Windows' object files are COFF and its libraries are PE; elsewhere both
/// have the same format.
fn native_format() -> BinaryFormat {
    match BinaryFormat::native_object() {
        BinaryFormat::Coff => BinaryFormat::Pe,
        other => other,
    }
}

fn platform_text(
    (format, architecture, is_64, is_little): (BinaryFormat, Architecture, bool, bool),
) -> String {
    let bits = if is_64 { 64 } else { 32 };
    let order = if is_little { "little" } else { "big" };
    format!("{format:?} {architecture:?}, {bits} bits, {order}-endian")
}

/// Returns `None` on a machine that isn't listed; there, loading reports a wrong architecture.
fn native_architecture() -> Option<Architecture> {
    Some(match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "x86" => Architecture::I386,
        "aarch64" => Architecture::Aarch64,
        "arm" => Architecture::Arm,
        "riscv64" => Architecture::Riscv64,
        "powerpc64" => Architecture::PowerPc64,
        "s390x" => Architecture::S390x,
        "loongarch64" => Architecture::LoongArch64,
        _ => return None,
    })
}

fn check_is_library(file: &File<'_>) -> Result<(), FileFault> {
    match file.kind() {
        ObjectKind::Dynamic => Ok(()),
        ObjectKind::Executable => Err(not_a_library("a program")),
        ObjectKind::Relocatable => Err(not_a_library("an object file that was not linked")),
        ObjectKind::Core => Err(not_a_library("a core dump")),
        _ => Err(not_a_library("another kind of object file")),
    }
}

/// Checks that every section and segment lies within the file's `len` bytes. Parsing has already checked the tables.
fn check_whole(file: &File<'_>, len: usize) -> Result<(), FileFault> {
    let sections = file.sections().filter_map(|section| section.file_range());
    let segments = file.segments().map(|segment| segment.file_range());
    for (start, size) in sections.chain(segments) {
        let end = start.checked_add(size);
        if end.is_none_or(|end| end > len as u64) {
            let evidence =
                format!("a part of {size} bytes at {start} reaches past its end at {len}");
            return Err(FileFault::incomplete(evidence));
        }
    }
    Ok(())
}
