//! The environment of a worker, which may have been made before its daemon was known.

#![allow(unsafe_code)]

use std::collections::BTreeMap;

/// Sets those variables of this process. Those that it has already are left alone. Call it in a worker, before a plugin is
/// loaded. The names and values must be valid, as those in daemons' settings are.
pub(crate) fn set(variables: &BTreeMap<String, String>) {
    for (name, value) in variables {
        if std::env::var_os(name).is_none_or(|present| present.to_str() != Some(value.as_str())) {
            // SAFETY: on Unix no other thread may read or write the environment meanwhile. Until a worker loads its plugin,
            // its other threads are the warden's, which waits for the host's end, and an idle one. Neither reads a variable.
            unsafe { std::env::set_var(name, value) };
        }
    }
}
