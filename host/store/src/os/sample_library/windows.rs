//! The smallest shared library with a manifest, as PE.
//!
//! It is for x86-64, with one section. The order is DOS header, PE header, optional header, section table, manifest, so
//! that truncating it anywhere loses something.

/// The offset of the manifest (bytes).
pub(crate) const MANIFEST_AT: usize = DOS_BYTES + PE_BYTES + OPTIONAL_BYTES + SECTION_BYTES;
/// The offset of the upper byte of the machine (bytes).
pub(crate) const MACHINE_AT: usize = DOS_BYTES + 5;
/// The offset of the upper byte of the characteristics (bytes), which holds the bit of a DLL.
pub(crate) const TYPE_AT: usize = DOS_BYTES + 23;
/// The characteristics of other files, each with a part of the error's text.
pub(crate) const OTHER_TYPES: &[(u8, &str)] = &[(0, "a program")];
/// 64-bit ARM, with a part of the error's text.
pub(crate) const OTHER_MACHINE: (u8, &str) = (0xaa, "Pe Aarch64");
/// The name of the manifest's section.
pub(crate) const SECTION: &[u8] = b".daemani";

const DOS_BYTES: usize = 64;
/// The signature and the file header.
const PE_BYTES: usize = 24;
/// The optional header without data directories.
const OPTIONAL_BYTES: usize = 112;
const SECTION_BYTES: usize = 40;

/// Returns a library with `manifest` in its section.
pub(crate) fn library(manifest: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(manifest.len()).expect("a short one");
    let mut file = b"MZ".to_vec();
    file.resize(DOS_BYTES - 4, 0);
    put32(&mut file, &[64]); // the offset of the PE header
    file.extend(b"PE\0\0");
    put16(&mut file, &[0x8664, 1]); // x86-64, one section
    put32(&mut file, &[0, 0, 0]);
    put16(&mut file, &[112, 0x2022]); // the length of the optional header; a DLL
    put16(&mut file, &[0x20b]); // 64 bits
    file.resize(DOS_BYTES + PE_BYTES + 32, 0);
    put32(&mut file, &[0x1000, 0x200]); // the alignments in memory and in the file
    file.resize(DOS_BYTES + PE_BYTES + OPTIONAL_BYTES, 0);
    file.extend(SECTION);
    let at = u32::try_from(MANIFEST_AT).expect("a short one");
    put32(&mut file, &[bytes, 0x1000, bytes, at, 0, 0, 0, 0x4000_0040]);
    file.extend(manifest);
    file
}

fn put16(out: &mut Vec<u8>, numbers: &[u16]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}
