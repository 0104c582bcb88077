//! Decides which changes cause a build: a pure function of the changes, their times and the results of earlier builds.
//!
//! Two kinds of files change without the user. The build itself writes files, and these change during every build. A
//! file that does so several times in a row counts as generated, and its next change during a build causes none. A file
//! that is no source at all, such as a log in the crate's directory, causes a build in which cargo finds nothing to do.
//! Its next change causes none.
//!
//! A save by the user is never lost for long. Any change of a generated file outside a build causes one, and after a
//! build that compiles something all other files count again.

use std::collections::HashMap;
use std::path::PathBuf;

use super::tree::Paths;
use crate::dev::build::Outcome;

/// The number of builds in a row during which a file changes before it counts as generated, if a build script may have
/// written it.
const GENERATED_BUILDS_SCRIPT: u32 = 3;

/// The same number without a build script: users save a file often, but rarely during each of so many builds.
const GENERATED_BUILDS_NO_SCRIPT: u32 = 10;

/// The state of the decision: the files that builds write, and those that cargo doesn't use.
#[derive(Debug)]
pub(super) struct Decider {
    generated_builds: u32,
    /// The number of builds in a row during which a file has changed.
    in_a_row: HashMap<PathBuf, u32>,
    without_effect: Paths,
}

/// The files that need another build, and those that newly count as generated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AfterBuild {
    pub(super) causes: Paths,
    pub(super) generated: Paths,
}

impl Decider {
    pub(super) fn new(has_build_script: bool) -> Self {
        Decider {
            generated_builds: match has_build_script {
                true => GENERATED_BUILDS_SCRIPT,
                false => GENERATED_BUILDS_NO_SCRIPT,
            },
            in_a_row: HashMap::new(),
            without_effect: Paths::new(),
        }
    }

    /// Returns which of the files that changed outside a build need one.
    pub(super) fn outside(&mut self, changed: Paths) -> Paths {
        for path in &changed {
            self.in_a_row.remove(path);
        }
        changed.difference(&self.without_effect).cloned().collect()
    }

    /// Returns whether builds seem to write the file or not to read it: it has changed in the last ones that came to their
    /// end, or had no effect on one. Without a build script one change proves nothing, since a user may have saved the
    /// file meanwhile.
    pub(super) fn may_be_generated(&self, path: &PathBuf) -> bool {
        let builds = self.in_a_row.get(path).copied().unwrap_or_default();
        let expected = u32::from(self.generated_builds == GENERATED_BUILDS_NO_SCRIPT);
        builds > expected || self.without_effect.contains(path)
    }

    /// Records a build for `causes`, during which the files in `changed` have changed.
    pub(super) fn after(&mut self, causes: &Paths, outcome: Outcome, changed: Paths) -> AfterBuild {
        match outcome {
            Outcome::Fresh => self.without_effect.extend(causes.iter().cloned()),
            Outcome::Compiled => self.without_effect.clear(),
        }
        self.in_a_row.retain(|path, _| changed.contains(path));
        let mut after = AfterBuild::default();
        for path in changed {
            let builds = self.in_a_row.entry(path.clone()).or_default();
            *builds = builds.saturating_add(1);
            let is_generated = *builds >= self.generated_builds;
            if *builds == self.generated_builds {
                after.generated.insert(path.clone());
            }
            if !is_generated && !self.without_effect.contains(&path) {
                after.causes.insert(path);
            }
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Paths {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_every_build_writes_comes_to_rest() {
        let mut decider = Decider::new(true);
        let mut causes = Paths::new();
        let mut builds = 0;
        loop {
            builds += 1;
            let after = decider.after(&causes, Outcome::Compiled, paths(&["generated.rs"]));
            causes = after.causes;
            if causes.is_empty() {
                assert_eq!(after.generated, paths(&["generated.rs"]));
                break;
            }
        }
        assert_eq!(builds, GENERATED_BUILDS_SCRIPT);
        // An edit is built once, whatever the build writes.
        let causes = decider.outside(paths(&["lib.rs"]));
        assert_eq!(causes, paths(&["lib.rs"]));
        let after = decider.after(&causes, Outcome::Compiled, paths(&["generated.rs"]));
        assert_eq!(after, AfterBuild::default());
        // An edit of the generated file itself is built, too.
        assert_eq!(
            decider.outside(paths(&["generated.rs"])),
            paths(&["generated.rs"])
        );
    }

    #[test]
    fn a_save_in_one_build_does_not_make_a_file_generated() {
        for (has_build_script, expected) in [(true, [true, true]), (false, [false, true])] {
            let mut decider = Decider::new(has_build_script);
            let file = PathBuf::from("lib.rs");
            assert!(!decider.may_be_generated(&file));
            let may_be = expected.map(|_| {
                let _ = decider.after(&Paths::new(), Outcome::Compiled, paths(&["lib.rs"]));
                decider.may_be_generated(&file)
            });
            assert_eq!(may_be, expected);
        }
    }

    #[test]
    fn a_save_during_a_build_makes_another_one() {
        let mut decider = Decider::new(false);
        for _ in 1..GENERATED_BUILDS_NO_SCRIPT {
            let after = decider.after(&Paths::new(), Outcome::Compiled, paths(&["lib.rs"]));
            assert_eq!(after.causes, paths(&["lib.rs"]));
        }
        let after = decider.after(&Paths::new(), Outcome::Compiled, Paths::new());
        assert_eq!(after, AfterBuild::default());
        let after = decider.after(&Paths::new(), Outcome::Compiled, paths(&["lib.rs"]));
        assert_eq!(after.causes, paths(&["lib.rs"]));
    }

    #[test]
    fn what_cargo_has_no_use_for_makes_one_build() {
        let mut decider = Decider::new(false);
        let log = paths(&["daemon.log"]);
        assert_eq!(decider.outside(log.clone()), log);
        decider.after(&log, Outcome::Fresh, log.clone());
        assert_eq!(decider.outside(log.clone()), Paths::new());
        // An edit may have made it a source.
        decider.after(&paths(&["lib.rs"]), Outcome::Compiled, Paths::new());
        assert_eq!(decider.outside(log.clone()), log);
    }
}
