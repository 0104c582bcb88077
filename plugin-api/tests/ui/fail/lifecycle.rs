//! Lifecycle methods with wrong signatures, with another role, or without what belongs to them. Each `impl` is no
//! daemon, because of its faults.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Signatures;

#[daemon]
impl Signatures {
    fn start(&self) -> Self {
        Signatures
    }

    fn run(&self, eco: Ecosystem) {
        let _ = eco;
    }

    fn stop() {}

    fn save(&mut self) -> u64 {
        0
    }

    async fn migrate(version: u32, state: json::Value) -> Result<u64> {
        let _ = (version, state);
        Ok(0)
    }
}

#[derive(Default)]
struct InSomeBuilds;

#[daemon]
impl InSomeBuilds {
    #[cfg(debug_assertions)]
    fn run(&self) {}

    #[on(connect)]
    #[cfg(debug_assertions)]
    fn came(&self) {}
}

struct ArgumentsInSomeBuilds;

#[daemon(state_version = 2)]
impl ArgumentsInSomeBuilds {
    fn start(#[cfg(debug_assertions)] _eco: Ecosystem, state: Option<u64>) -> Self {
        let _ = state;
        ArgumentsInSomeBuilds
    }

    fn save(&self, #[cfg(debug_assertions)] _more: u64) -> u64 {
        0
    }

    fn migrate(version: u32, #[cfg(debug_assertions)] _state: json::Value) -> Result<u64> {
        Ok(version.into())
    }

    #[on(connect)]
    fn came(&self, #[cfg(debug_assertions)] _guest: Guest) {}
}

struct Generic;

#[daemon]
impl Generic {
    fn start<T: json::value::Index>(config: T) -> Self {
        let _ = config;
        Generic
    }

    extern "C" fn run(&self) {}

    fn stop<T>(&self) {}
}

struct Borrowing;

#[daemon]
impl Borrowing {
    fn start(eco: &Ecosystem) -> Self {
        let _ = eco;
        Borrowing
    }
}

struct AnyConfig;

#[daemon]
impl AnyConfig {
    fn start(config: impl Serialize) -> Self {
        let _ = config;
        AnyConfig
    }
}

struct Marked;

#[daemon]
impl Marked {
    fn start(eco: Ecosystem, name: String, port: u16) -> Self {
        let _ = (eco, name, port);
        Marked
    }

    #[command]
    fn run(&self) {}

    fn stop(self) {}

    #[command]
    fn save(&self) -> u64 {
        0
    }

    #[command(blocking, name = "upgrade")]
    fn migrate(version: u32, state: json::Value) -> Result<u64> {
        let _ = (version, state);
        Ok(0)
    }
}

#[derive(Default)]
struct NotTaken;

#[daemon]
impl NotTaken {
    fn save(&self) -> u64 {
        0
    }
}

struct NotSaved;

#[daemon]
impl NotSaved {
    fn start(state: Option<u64>) -> Self {
        let _ = state;
        NotSaved
    }
}

struct SavedTwice;

#[daemon(state = u64)]
impl SavedTwice {
    fn save(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct NothingToMigrate;

#[daemon]
impl NothingToMigrate {
    fn migrate(version: u32, state: json::Value) -> Result<u64> {
        let _ = (version, state);
        Ok(0)
    }
}

#[derive(Default)]
struct NothingToNumber;

#[daemon(state_version = 2)]
impl NothingToNumber {
    #[command]
    fn ping(&self) {}
}

struct FirstVersion;

#[daemon]
impl FirstVersion {
    fn start(state: Option<u64>) -> Self {
        let _ = state;
        FirstVersion
    }

    fn save(&self) -> u64 {
        0
    }

    fn migrate(version: u32, state: json::Value) -> Result<u64> {
        let _ = (version, state);
        Ok(0)
    }
}

fn main() {}
