//! The counts of commands that are answered together, before they are added to the daemon's counters.

/// The place of commands that are none of the daemon's: unknown names, refused lines, and what the host answers itself.
pub const NO_COMMAND: u32 = u32::MAX;

/// The counts of one batch, or of one command's part of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BatchCounts {
    /// Commands answered.
    pub calls: u64,
    /// Commands answered with `error`.
    pub errors: u64,
    /// Errors that were panics.
    pub panics: u64,
}

impl BatchCounts {
    /// Adds the counts of another batch.
    pub fn add(&mut self, other: BatchCounts) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.panics += other.panics;
    }
}

/// The counts of one batch by command. The commands of a batch are often the same, and then it takes no memory beside
/// itself.
#[derive(Debug)]
pub struct BatchTally {
    /// The index of the command that is counted at present.
    command: u32,
    counts: BatchCounts,
    /// The counts of the other commands of the batch.
    others: Vec<(u32, BatchCounts)>,
}

impl Default for BatchTally {
    fn default() -> Self {
        BatchTally {
            command: NO_COMMAND,
            counts: BatchCounts::default(),
            others: Vec::new(),
        }
    }
}

impl BatchTally {
    /// Makes a tally of one command.
    pub(crate) fn one(command: u32, counts: BatchCounts) -> Self {
        BatchTally {
            command,
            counts,
            others: Vec::new(),
        }
    }

    /// Counts the command with that index from now on, or what is no command ([`NO_COMMAND`]).
    #[inline]
    pub fn turn_to(&mut self, command: u32) {
        if self.command != command {
            match self.counts.calls {
                0 => self.command = command,
                _ => self.leave_for(command),
            }
        }
    }

    /// Returns the counts of the command that is counted at present.
    #[inline(always)]
    pub fn current(&mut self) -> &mut BatchCounts {
        &mut self.counts
    }

    /// Adds counts of a command, and counts the same one as before.
    #[cold]
    pub fn add_to(&mut self, command: u32, counts: BatchCounts) {
        let before = self.command;
        self.turn_to(command);
        self.counts.add(counts);
        self.turn_to(before);
    }

    /// Adds another tally, and counts the same command as before.
    #[cold]
    pub fn add_all(&mut self, other: &BatchTally) {
        for (command, counts) in other.by_command() {
            self.add_to(command, counts);
        }
    }

    #[inline(never)]
    fn leave_for(&mut self, command: u32) {
        let before = std::mem::replace(&mut self.command, command);
        let others = &mut self.others;
        let at = others.iter().position(|(other, _)| *other == command);
        let counts = at.map(|at| others.swap_remove(at).1).unwrap_or_default();
        others.push((before, std::mem::replace(&mut self.counts, counts)));
    }

    /// Returns the counts of the command that is counted at present with its index, and those of the others.
    #[inline]
    pub(super) fn parts(&self) -> ((u32, BatchCounts), &[(u32, BatchCounts)]) {
        ((self.command, self.counts), &self.others)
    }

    /// Returns the counts of each command with its index.
    pub fn by_command(&self) -> impl Iterator<Item = (u32, BatchCounts)> {
        let current = (self.counts.calls > 0).then_some((self.command, self.counts));
        current.into_iter().chain(self.others.iter().copied())
    }

    /// Returns the counts of all commands together.
    #[inline]
    #[must_use]
    pub fn total(&self) -> BatchCounts {
        let mut total = self.counts;
        self.others
            .iter()
            .for_each(|(_, counts)| total.add(*counts));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_of_a_mixed_batch_has_its_own_counts() {
        let mut tally = BatchTally::default();
        let one = BatchCounts {
            calls: 1,
            ..BatchCounts::default()
        };
        for command in [3, 3, NO_COMMAND, 5, 3] {
            tally.turn_to(command);
            tally.current().add(one);
        }
        tally.add_to(NO_COMMAND, one);
        // It still counts the same command.
        tally.current().calls += 1;
        tally.turn_to(5);
        tally.current().errors += 1;
        // Nothing of this one is counted.
        tally.turn_to(7);
        let mut all: Vec<_> = tally.by_command().collect();
        all.sort_by_key(|(command, _)| *command);
        let counts = |calls, errors| BatchCounts {
            calls,
            errors,
            panics: 0,
        };
        let expected = [
            (3, counts(4, 0)),
            (5, counts(1, 1)),
            (NO_COMMAND, counts(2, 0)),
        ];
        assert_eq!(all, expected);
        assert_eq!(tally.total(), counts(7, 1));
    }
}
