//! Which changes make a build: a pure decision over what changed, when, and what came of the builds before.
//!
//! Two kinds of files change without a person's doing. What the build itself writes changes during every build; a file that
//! does so several times in a row is taken for generated, and its next change during a build makes none. What isn't a source
//! at all (a log in the crate's directory) makes a build in which cargo finds nothing to do; its next change makes none.
//! A save of the person's is never lost by this for long: any change of a generated file outside a build makes one, and
//! whatever cargo compiles makes all other files count again.

use std::collections::HashMap;
use std::path::PathBuf;

use super::tree::Paths;

/// In so many builds in a row a file has changed that is taken for generated, where a build script may have written it.
const GENERATED_BUILDS_SCRIPT: u32 = 3;

/// And where there is no build script: people save a file often, and rarely during each of so many builds.
const GENERATED_BUILDS_NO_SCRIPT: u32 = 10;

/// What came of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Cargo compiled something, or tried to.
    Compiled,
    /// Cargo found nothing to do.
    Fresh,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Decider {
    generated_builds: u32,
    /// In how many builds in a row a file has changed.
    in_a_row: HashMap<PathBuf, u32>,
    without_effect: Paths,
}

/// What to build for, and what was newly taken for generated.
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

    /// Those of the files that have changed while nothing was built for which something is to be built.
    pub(super) fn outside(&mut self, changed: Paths) -> Paths {
        for path in &changed {
            self.in_a_row.remove(path);
        }
        changed.difference(&self.without_effect).cloned().collect()
    }

    /// A build for `causes` has ended, during which `changed` have changed.
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
        // And an edit of the generated file itself.
        assert_eq!(
            decider.outside(paths(&["generated.rs"])),
            paths(&["generated.rs"])
        );
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
        // It may have become a source by an edit.
        decider.after(&paths(&["lib.rs"]), Outcome::Compiled, Paths::new());
        assert_eq!(decider.outside(log.clone()), log);
    }
}
