//! The smallest shared library with a manifest, as ELF.
//!
//! It is for the machine that runs the test, 64 bits, little-endian, with one loadable segment, the manifest's
//! section and the section of names. The order is header, segment table, manifest, names, section table, so that
//! truncating it anywhere loses something.

/// The offset of the manifest (bytes).
pub(crate) const MANIFEST_AT: usize = HEADER_BYTES + SEGMENT_BYTES;
/// The offset of `e_machine` in the header (bytes).
pub(crate) const MACHINE_AT: usize = 18;
/// The offset of `e_type` in the header (bytes).
pub(crate) const TYPE_AT: usize = 16;
/// The values of `e_type` of other files, each with a part of the error's text.
pub(crate) const OTHER_TYPES: &[(u8, &str)] =
    &[(1, "not linked"), (2, "a program"), (4, "core dump")];
/// 32-bit ARM, which differs from every machine that runs the tests, with a part of the error's text.
pub(crate) const OTHER_MACHINE: (u8, &str) = (40, "Elf Arm");
/// The name of the manifest's section.
pub(crate) const SECTION: &[u8] = b".dae_manifest";

const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const SECTION_BYTES: usize = 64;
/// The names of the sections. Each is referenced by its offset here.
const NAMES: &[u8] = b"\0.dae_manifest\0.shstrtab\0";
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;

/// Returns a library with `manifest` in its section.
pub(crate) fn library(manifest: &[u8]) -> Vec<u8> {
    let names_at = MANIFEST_AT + manifest.len();
    let sections_at = names_at + NAMES.len();
    let mut file = header(sections_at);
    file.extend(segment(sections_at));
    file.extend(manifest);
    file.extend(NAMES);
    file.extend([0; SECTION_BYTES]);
    file.extend(section(1, SHT_PROGBITS, MANIFEST_AT, manifest.len()));
    file.extend(section(15, SHT_STRTAB, names_at, NAMES.len()));
    file
}

fn machine() -> u16 {
    match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        other => panic!("add the ELF number of {other} here to test on it"),
    }
}

fn header(sections_at: usize) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec(); // 64 bits, little-endian, version 1
    out.resize(TYPE_AT, 0);
    put16(&mut out, &[3, machine()]); // a shared object
    put32(&mut out, &[1]);
    put64(&mut out, &[0, HEADER_BYTES, sections_at]);
    put32(&mut out, &[0]);
    put16(&mut out, &[64, 56, 1, 64, 3, 2]); // the tables' sizes and counts, and the index of the section of names
    out
}

/// Returns a loadable, read-only segment of everything before the section table.
fn segment(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put32(&mut out, &[1, 4]);
    put64(&mut out, &[0, 0, 0, len, len, 4096]);
    out
}

fn section(name_at: u32, kind: u32, at: usize, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put32(&mut out, &[name_at, kind]);
    put64(&mut out, &[0, 0, at, len]);
    put32(&mut out, &[0, 0]);
    put64(&mut out, &[1, 0]);
    out
}

fn put16(out: &mut Vec<u8>, numbers: &[u16]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, numbers: &[usize]) {
    out.extend(numbers.iter().flat_map(|&n| (n as u64).to_le_bytes()));
}
