//! Builds the smallest shared library that has a manifest, in the format of this system, for tests.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{
    MACHINE_AT, MANIFEST_AT, OTHER_MACHINE, OTHER_TYPES, SECTION, TYPE_AT, library,
};
#[cfg(windows)]
pub(crate) use windows::{
    MACHINE_AT, MANIFEST_AT, OTHER_MACHINE, OTHER_TYPES, SECTION, TYPE_AT, library,
};
