//! The steps that a history is made of. Their debug form is what a person reads of a history that failed.

/// A daemon of the soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Ada,
    Bob,
    Cleo,
    /// The drop-in, which has its plugin's own name.
    Recipe,
}

impl Name {
    /// Those that are installed by hand.
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

/// Where a daemon's code runs.
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

    /// The word that `list` has.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Embedded => "in-process",
            Mode::Isolated => "subprocess",
        }
    }
}

/// What is wrong with a file.
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

/// How a new file comes to its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `install --replace`.
    Replace,
    /// It takes the place of the file that the daemon was installed from.
    Source(Replacing),
}

/// How a file takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacing {
    /// `cp new old`: for a moment it is a half one.
    InPlace,
    /// `mv new old`.
    ByRename,
    /// `mv old away; cp new old`: for a moment there is none.
    InTwoSteps,
}

/// The drop-in's file, by its name.
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
    /// It sends commands until nobody takes more, and reads nothing.
    ReadsNothing,
    /// Its lines are no messages.
    Malformed,
    /// It speaks HTTP.
    Http,
    /// It leaves half a line, and goes.
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

/// How a host ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    InOrder,
    Killed,
}

/// One step. Where it `is_busy`, a guest calls the daemon all the while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Install {
        name: Name,
        version: u64,
        mode: Mode,
        /// From the last state that was kept under the name, if there is one.
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
    /// A good file; on a full disk it is refused all the same.
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
    /// The plugin crashes, and the host with it where it is embedded.
    Crash {
        name: Name,
        is_busy: bool,
    },
    Call {
        name: Name,
        count: u64,
    },
    /// A guest that stays.
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
