//! The model: the expected state of a home with four daemons after each step, and the steps that are possible.
//!
//! It consists of pure data and pure functions. The model knows names, versions, modes, which daemons are stopped,
//! where drop-in files are, and whether a host runs. It does not know counts: the loss at a crash depends on the
//! answers before it, which only the driver sees. The driver therefore records the counts.
//!
//! A version is the number in the recipe of a plugin's file. Equal numbers mean equal bytes. Steps whose outcome would
//! depend on timing are not possible. The reason for each such limit is given beside it.

use std::collections::BTreeMap;

use proptest::prelude::{BoxedStrategy, Just, Strategy as _};
use proptest::sample::select;
use proptest::strategy::Union;
use proptest_state_machine::ReferenceStateMachine;

pub use crate::step::{Ending, Fault, File, Mode, Name, Nuisance, Replacing, Step, Way};

/// The versions, each with different content.
pub const VERSIONS: std::ops::RangeInclusive<u64> = 1..=8;

/// The number of versions that the host keeps for rollbacks of a daemon.
const OLDER_MAX: usize = 3;

/// The possible numbers of calls in one step.
const CALLS: [u64; 3] = [1, 8, 40];

/// The expected state of a home.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The home is on its own disk, which can be filled.
    pub has_own_disk: bool,
    /// The disk is full.
    pub is_full: bool,
    /// A host runs.
    pub is_up: bool,
    /// The installed daemons.
    pub daemons: BTreeMap<Name, Daemon>,
    /// The file in the drop-in directory, and its version.
    pub dropped: Option<(File, u64)>,
    /// The mode of the drop-in, and whether it was stopped, at its last uninstall. It returns with both.
    pub departed: Option<(Mode, bool)>,
}

/// The expected state of a daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// The version that runs, or runs at the next start.
    pub version: u64,
    /// The versions to which it can be rolled back, newest first.
    pub older: Vec<u64>,
    /// The versions from which it was rolled back, newest first.
    pub newer: Vec<u64>,
    /// The place where its code runs.
    pub mode: Mode,
    /// The owner has stopped the daemon.
    pub is_stopped: bool,
    /// The version in the file from which it was installed.
    pub source: u64,
    /// The version that was last taken from that file.
    pub taken: u64,
    /// The drop-in's file as the host knows it.
    pub file: Option<File>,
}

impl Daemon {
    fn new(version: u64, mode: Mode) -> Self {
        Daemon {
            version,
            older: Vec::new(),
            newer: Vec::new(),
            mode,
            is_stopped: false,
            source: version,
            taken: version,
            file: None,
        }
    }

    /// Returns every version that is stored for the daemon, newest first.
    pub fn stored(&self) -> impl Iterator<Item = u64> {
        let newer = self.newer.iter().copied();
        newer.chain([self.version]).chain(self.older.clone())
    }

    /// Records that another file takes over.
    fn take(&mut self, version: u64) {
        self.taken = version;
        self.source = version;
        if version == self.version {
            return;
        }
        let before = [self.version].into_iter().chain(self.older.clone());
        let before = before.filter(|older| *older != version);
        self.older = before.take(OLDER_MAX).collect();
        self.newer.clear();
        self.version = version;
    }

    fn roll_back(&mut self) {
        if !self.older.is_empty() {
            self.newer.push(self.version);
            self.version = self.older.remove(0);
        }
    }

    /// Returns whether the host treats a file of this version as left behind, because its content is already stored.
    fn is_left_behind(&self, version: u64) -> bool {
        self.older.contains(&version) || self.newer.contains(&version)
    }
}

impl World {
    /// Creates a home, on its own disk or not, with a running host and no daemons.
    fn new(has_own_disk: bool) -> Self {
        World {
            has_own_disk,
            is_up: true,
            ..World::default()
        }
    }

    /// Returns the daemon if it has a running instance.
    pub fn running(&self, name: Name) -> Option<&Daemon> {
        let daemon = self.daemons.get(&name);
        daemon.filter(|daemon| self.is_up && !daemon.is_stopped)
    }

    /// Returns the daemons that have a running instance.
    pub fn all_running(&self) -> impl Iterator<Item = Name> + use<'_> {
        let names = self.daemons.keys().copied();
        names.filter(|name| self.running(*name).is_some())
    }

    fn daemon(&mut self, name: Name) -> &mut Daemon {
        self.daemons.get_mut(&name).expect("it is installed")
    }

    /// Records that the drop-in is uninstalled, by its owner or because its file is gone.
    fn depart(&mut self) {
        if let Some(daemon) = self.daemons.remove(&Name::Recipe) {
            self.departed = Some((daemon.mode, daemon.is_stopped));
        }
    }

    /// Records that the host reads the drop-in directory. A known file whose content was left behind changes nothing. A
    /// file with another name takes over, unless it is the old one renamed.
    fn look(&mut self) {
        let Some((file, version)) = self.dropped else {
            self.depart();
            return;
        };
        let (mode, is_stopped) = self.departed.unwrap_or((Mode::Embedded, false));
        let new = || Daemon {
            is_stopped,
            file: Some(file),
            ..Daemon::new(version, mode)
        };
        let daemon = self.daemons.entry(Name::Recipe).or_insert_with(new);
        let is_renamed = daemon.file.replace(file) != Some(file);
        let is_known = match is_renamed {
            true => daemon.taken == version,
            false => daemon.version == version || daemon.is_left_behind(version),
        };
        daemon.source = version;
        if !is_known {
            daemon.take(version);
        }
    }

    fn start_host(&mut self) {
        self.is_up = true;
        for name in Name::INSTALLED {
            let Some(daemon) = self.daemons.get_mut(&name) else {
                continue;
            };
            if daemon.source != daemon.version && !daemon.is_left_behind(daemon.source) {
                daemon.take(daemon.source);
            }
        }
        self.look();
    }

    fn end_host(&mut self) {
        self.is_up = false;
    }

    /// Applies a step.
    pub fn change(&mut self, step: &Step) {
        match *step {
            Step::Install {
                name,
                version,
                mode,
                ..
            } => drop(self.daemons.insert(name, Daemon::new(version, mode))),
            Step::Uninstall { name: Name::Recipe } => {
                // The host moves the file that it knows out of the directory.
                let file = self.daemon(Name::Recipe).file;
                self.dropped = self.dropped.filter(|(dropped, _)| Some(*dropped) != file);
                self.depart();
            }
            Step::Uninstall { name } => drop(self.daemons.remove(&name)),
            Step::Stop { name, .. } => self.daemon(name).is_stopped = true,
            Step::Start { name } | Step::Restart { name, .. } => {
                self.daemon(name).is_stopped = false;
            }
            Step::Rollback { name, .. } => self.daemon(name).roll_back(),
            Step::Move { name, mode, .. } => self.daemon(name).mode = mode,
            Step::Again { name, .. } => {
                let daemon = self.daemon(name);
                daemon.take(daemon.source);
            }
            // Refused, because there is no space for the file.
            Step::Reload { .. } if self.is_full => {}
            Step::Reload {
                name, version, way, ..
            } => self.reload(name, version, way),
            Step::Crash { name, .. } if self.daemon(name).mode == Mode::Embedded => self.end_host(),
            _ => self.change_around(step),
        }
    }

    /// Applies a step on the host, its disk or the drop-in directory, or one that changes nothing.
    fn change_around(&mut self, step: &Step) {
        match step {
            Step::EndHost { .. } => self.end_host(),
            Step::StartHost => self.start_host(),
            Step::FillDisk => self.is_full = true,
            Step::FreeDisk => self.is_full = false,
            Step::DropIn { .. }
            | Step::ReplaceDropIn { .. }
            | Step::RenameDropIn
            | Step::RemoveDropIn => self.change_dropped(step),
            _ => {}
        }
    }

    fn reload(&mut self, name: Name, version: u64, way: Way) {
        let is_up = self.is_up;
        let daemon = self.daemon(name);
        match way {
            Way::Replace => daemon.take(version),
            // The version that already runs is no change, and without a host nothing reads the file.
            Way::Source(_) if !is_up || version == daemon.version => daemon.source = version,
            Way::Source(_) => daemon.take(version),
        }
    }

    fn change_dropped(&mut self, step: &Step) {
        let (file, version) = self.dropped.unwrap_or((File::First, 0));
        self.dropped = match *step {
            Step::DropIn { file, version } => Some((file, version)),
            Step::ReplaceDropIn { version, .. } => Some((file, version)),
            Step::RenameDropIn => Some((file.other(), version)),
            _ => None,
        };
        if self.is_up {
            self.look();
        }
    }

    /// Returns whether no daemon has a file of this version yet, so that the host has to store it.
    fn is_new(&self, version: u64) -> bool {
        let mut stored = self.daemons.values().flat_map(Daemon::stored);
        !stored.any(|one| one == version)
    }

    /// Returns the possible steps, with the weight of each kind.
    fn possible(&self) -> Vec<(u32, Vec<Step>)> {
        let mut kinds = match (self.is_up, self.is_full) {
            (true, false) => [self.of_home(), self.of_running(), self.of_code()].concat(),
            (true, true) => [self.of_running(), self.of_full_disk()].concat(),
            (false, false) => [self.of_home(), vec![(6, vec![Step::StartHost])]].concat(),
            (false, true) => Vec::new(),
        };
        if self.is_full {
            kinds.push((4, vec![Step::FreeDisk]));
        } else if self.is_up && self.has_own_disk {
            kinds.push((1, vec![Step::FillDisk]));
        }
        kinds.retain(|(_, steps)| !steps.is_empty());
        kinds
    }

    /// Returns the steps that are possible on a home, with a host or without.
    fn of_home(&self) -> Vec<(u32, Vec<Step>)> {
        let absent = Name::INSTALLED
            .into_iter()
            .filter(|name| !self.daemons.contains_key(name));
        let absent: Vec<Name> = absent.collect();
        let install = |name: &Name| {
            let name = *name;
            VERSIONS.flat_map(move |version| {
                let of = move |(mode, resume)| Step::Install {
                    name,
                    version,
                    mode,
                    resume,
                };
                [
                    (Mode::Embedded, false),
                    (Mode::Isolated, false),
                    (Mode::Embedded, true),
                    (Mode::Isolated, true),
                ]
                .map(of)
            })
        };
        let uninstall = self
            .daemons
            .keys()
            .map(|name| Step::Uninstall { name: *name });
        let eagerness = match absent.len() {
            3 => 20,
            few => few as u32 * 3,
        };
        vec![
            (eagerness, absent.iter().flat_map(install).collect()),
            (1, uninstall.collect()),
            (4, self.good_reloads(false)),
            (6, self.of_dropped()),
        ]
    }

    /// Returns a reload to each version for each manually installed daemon, with a caller or without.
    fn good_reloads(&self, is_busy: bool) -> Vec<Step> {
        let mut all = Vec::new();
        for name in Name::INSTALLED {
            let Some(daemon) = self.daemons.get(&name) else {
                continue;
            };
            for version in VERSIONS {
                let of = |way| Step::Reload {
                    name,
                    version,
                    way,
                    is_busy,
                };
                all.push(of(Way::Replace));
                // For a stored version the outcome depends on whether the host has seen the file before, and it may be
                // reading it now.
                if !daemon.is_left_behind(version) {
                    all.extend(
                        [Replacing::InPlace, Replacing::ByRename]
                            .map(Way::Source)
                            .map(of),
                    );
                }
            }
        }
        all
    }

    fn of_dropped(&self) -> Vec<Step> {
        let Some(_) = self.dropped else {
            let of =
                |version| [File::First, File::Second].map(|file| Step::DropIn { file, version });
            return match self.daemons.contains_key(&Name::Recipe) {
                // The file disappeared while no host ran. The result of a new file depends on when the host scans the
                // directory.
                true => Vec::new(),
                false => VERSIONS.flat_map(of).collect(),
            };
        };
        let daemon = self.daemons.get(&Name::Recipe);
        let is_left_behind = |version| daemon.is_some_and(|daemon| daemon.is_left_behind(version));
        let ways = [
            Replacing::InPlace,
            Replacing::ByRename,
            Replacing::InTwoSteps,
        ];
        let replace = |version| ways.map(|how| Step::ReplaceDropIn { version, how });
        let versions = VERSIONS.filter(|version| !is_left_behind(*version));
        let replaced = versions.flat_map(replace);
        let others = [Step::RenameDropIn, Step::RemoveDropIn];
        // Each of them must come as often as a replacement.
        let others = others.iter().cycle().take(16).cloned();
        replaced.chain(others).collect()
    }

    /// Returns the steps that are possible on running daemons, whether or not the disk is full.
    fn of_running(&self) -> Vec<(u32, Vec<Step>)> {
        let running: Vec<Name> = self.all_running().collect();
        let each = |of: fn(Name) -> Vec<Step>| running.iter().flat_map(|name| of(*name)).collect();
        let (isolated, embedded): (Vec<Name>, Vec<Name>) = running
            .iter()
            .partition(|name| self.daemons[name].mode == Mode::Isolated);
        let crash = |name: Name| busy(move |is_busy| Step::Crash { name, is_busy });
        let kill = |name: Name| busy(move |is_busy| Step::KillWorker { name, is_busy });
        let calls = |name| CALLS.map(|count| Step::Call { name, count }).to_vec();
        let nuisances = |name| {
            Nuisance::ALL
                .map(|how| Step::Disturb { name, how })
                .to_vec()
        };
        let ends = [None]
            .into_iter()
            .chain(running.iter().map(|name| Some(*name)));
        let end = |busy| [Ending::InOrder, Ending::Killed].map(|how| Step::EndHost { how, busy });
        vec![
            (10, each(calls)),
            (2, each(|name| vec![Step::Connect { name }])),
            (4, each(nuisances)),
            (4, isolated.iter().copied().flat_map(kill).collect()),
            (2, isolated.into_iter().flat_map(crash).collect()),
            (1, embedded.into_iter().flat_map(crash).collect()),
            (4, each(bad_replacements)),
            (4, ends.flat_map(end).collect()),
        ]
    }

    /// Returns the steps that change which code runs and where, which the registry has to save.
    fn of_code(&self) -> Vec<(u32, Vec<Step>)> {
        let running: Vec<Name> = self.all_running().collect();
        let each = |of: fn(Name) -> Vec<Step>| running.iter().flat_map(|name| of(*name)).collect();
        let moves = |name: &Name| {
            let (name, mode) = (*name, self.daemons[name].mode.other());
            busy(move |is_busy| Step::Move {
                name,
                mode,
                is_busy,
            })
        };
        let bad_sources = running.iter().copied().filter(|name| {
            let daemon = &self.daemons[name];
            // Restoring the old content counts as a change unless that version runs.
            *name != Name::Recipe && daemon.source == daemon.version
        });
        vec![
            (8, self.good_reloads(true)),
            (3, bad_sources.flat_map(bad_in_place).collect()),
            (2, each(|name| busy(|is_busy| Step::Stop { name, is_busy }))),
            (6, self.of_stopped()),
            (
                2,
                each(|name| busy(|is_busy| Step::Restart { name, is_busy })),
            ),
            (
                2,
                each(|name| busy(|is_busy| Step::Again { name, is_busy })),
            ),
            (
                4,
                each(|name| busy(|is_busy| Step::Rollback { name, is_busy })),
            ),
            (4, running.iter().flat_map(moves).collect()),
        ]
    }

    /// Returns the steps that are possible on stopped daemons.
    fn of_stopped(&self) -> Vec<Step> {
        let stopped: Vec<Name> = self.daemons.keys().copied().collect();
        let stopped = stopped
            .into_iter()
            .filter(|name| self.running(*name).is_none());
        let start = |name| {
            let mode = self.daemons[&name].mode.other();
            let is_busy = false;
            vec![
                Step::Start { name },
                Step::Start { name },
                Step::Restart { name, is_busy },
                Step::Again { name, is_busy },
                Step::Rollback { name, is_busy },
                Step::Move {
                    name,
                    mode,
                    is_busy,
                },
            ]
        };
        stopped.flat_map(start).collect()
    }

    /// Returns reloads for which the disk has no space.
    fn of_full_disk(&self) -> Vec<(u32, Vec<Step>)> {
        let running = self.all_running().filter(|name| *name != Name::Recipe);
        let running: Vec<Name> = running.collect();
        // Stored versions need no space.
        let versions: Vec<u64> = VERSIONS.filter(|version| self.is_new(*version)).collect();
        let of = |name: &Name| {
            let name = *name;
            let of = move |version: &u64| {
                let version = *version;
                busy(move |is_busy| Step::Reload {
                    name,
                    version,
                    way: Way::Replace,
                    is_busy,
                })
            };
            versions.iter().flat_map(of).collect::<Vec<_>>()
        };
        vec![(8, running.iter().flat_map(of).collect())]
    }
}

/// Returns the step without and with a caller.
fn busy(of: impl Fn(bool) -> Step) -> Vec<Step> {
    vec![of(false), of(true)]
}

fn bad_replacements(name: Name) -> Vec<Step> {
    bad(name, Way::Replace)
}

fn bad_in_place(name: Name) -> Vec<Step> {
    bad(name, Way::Source(Replacing::ByRename))
}

fn bad(name: Name, way: Way) -> Vec<Step> {
    let of = |fault| {
        busy(move |is_busy| Step::ReloadBad {
            name,
            fault,
            way,
            is_busy,
        })
    };
    Fault::ALL.into_iter().flat_map(of).collect()
}

/// The state machine from which histories are drawn, with or without a disk for the home.
pub struct Histories<const OWN_DISK: bool>;

impl<const OWN_DISK: bool> ReferenceStateMachine for Histories<OWN_DISK> {
    type State = World;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<World> {
        Just(World::new(OWN_DISK)).boxed()
    }

    fn transitions(world: &World) -> BoxedStrategy<Step> {
        let kinds = world.possible().into_iter();
        Union::new_weighted(
            kinds
                .map(|(weight, steps)| (weight, select(steps)))
                .collect(),
        )
        .boxed()
    }

    fn apply(mut world: World, step: &Step) -> World {
        world.change(step);
        world
    }

    fn preconditions(world: &World, step: &Step) -> bool {
        let mut kinds = world.possible().into_iter();
        kinds.any(|(_, steps)| steps.contains(step))
    }
}
