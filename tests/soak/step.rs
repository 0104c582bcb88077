//! The steps of a history. People read their debug form when a history fails.

/// A daemon of the soak test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Ada,
    Bob,
    Cleo,
    /// The drop-in, which has the name of its plugin.
    Recipe,
}

impl Name {
    /// The daemons that are installed manually.
    pub const INSTALLED: [Name; 3] = [Name::Ada, Name::Bob, Name::Cleo];

    pub fn as_str(self) -> &'static str {
        match self {
            Name::Ada => "Ada",
            Name::Bob => "Bob",
            Name::Cleo => "Cleo",
            Name::Recipe => "Recipe",
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The place where a daemon's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Embedded,
    Isolated,
}

impl Mode {
    pub fn other(self) -> Self {
        match self {
            Mode::Embedded => Mode::Isolated,
            Mode::Isolated => Mode::Embedded,
        }
    }

    /// Returns the word that `list` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Embedded => "in-process",
            Mode::Isolated => "subprocess",
        }
    }
}

/// A defect of a plugin file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    ConstructorCrashes,
    StartFails,
    StartPanics,
    MisreadsState,
}

impl Fault {
    pub const ALL: [Fault; 4] = [
        Fault::ConstructorCrashes,
        Fault::StartFails,
        Fault::StartPanics,
        Fault::MisreadsState,
    ];
}

/// The way in which a new file reaches its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `install --replace`.
    Replace,
    /// The new file replaces the one from which the daemon was installed.
    Source(Replacing),
}

/// The way in which one file replaces another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacing {
    /// `cp new old`: for a moment the file is incomplete.
    InPlace,
    /// `mv new old`.
    ByRename,
    /// `mv old away; cp new old`: for a moment there is no file.
    InTwoSteps,
}

/// The name of the drop-in's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    First,
    Second,
}

impl File {
    pub fn other(self) -> Self {
        match self {
            File::First => File::Second,
            File::Second => File::First,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            File::First => "first.so",
            File::Second => "second.so",
        }
    }
}

/// A guest that misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nuisance {
    /// It sends commands until no more are accepted, and reads nothing.
    ReadsNothing,
    /// Its lines are not messages.
    Malformed,
    /// It sends an HTTP request.
    Http,
    /// It sends half a line and disconnects.
    HalfLine,
}

impl Nuisance {
    pub const ALL: [Nuisance; 4] = [
        Nuisance::Malformed,
        Nuisance::HalfLine,
        Nuisance::Http,
        Nuisance::ReadsNothing,
    ];
}

/// The way in which a host ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    InOrder,
    Killed,
}

/// One step. If `is_busy` is set, a guest calls the daemon during the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Install {
        name: Name,
        version: u64,
        mode: Mode,
        /// Starts from the archived state of the name, if there is one.
        resume: bool,
    },
    Uninstall {
        name: Name,
    },
    Stop {
        name: Name,
        is_busy: bool,
    },
    Start {
        name: Name,
    },
    Restart {
        name: Name,
        is_busy: bool,
    },
    /// A good file, which is refused if the disk is full.
    Reload {
        name: Name,
        version: u64,
        way: Way,
        is_busy: bool,
    },
    /// A bad file, which is refused.
    ReloadBad {
        name: Name,
        fault: Fault,
        way: Way,
        is_busy: bool,
    },
    /// `reload NAME`.
    Again {
        name: Name,
        is_busy: bool,
    },
    Rollback {
        name: Name,
        is_busy: bool,
    },
    /// `isolate` or `embed`.
    Move {
        name: Name,
        mode: Mode,
        is_busy: bool,
    },
    /// SIGKILL of a daemon's process.
    KillWorker {
        name: Name,
        is_busy: bool,
    },
    /// The plugin crashes. An in-process plugin takes the host down with it.
    Crash {
        name: Name,
        is_busy: bool,
    },
    Call {
        name: Name,
        count: u64,
    },
    /// A guest that stays connected.
    Connect {
        name: Name,
    },
    Disturb {
        name: Name,
        how: Nuisance,
    },
    EndHost {
        how: Ending,
        busy: Option<Name>,
    },
    StartHost,
    DropIn {
        file: File,
        version: u64,
    },
    ReplaceDropIn {
        version: u64,
        how: Replacing,
    },
    RenameDropIn,
    RemoveDropIn,
    FillDisk,
    FreeDisk,
}
