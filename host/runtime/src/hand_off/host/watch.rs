//! Decides which handed-off guests of a subprocess to recall: those that have become quiet, and the one whose command
//! does not end. A pure function of what each check of the hand-off state showed, and when. The caller reads the
//! hand-off state and the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::RecallReason;
use crate::hand_off::state::Position;

/// The number of checks in a row after which a quiet guest is recalled, which frees a descriptor of the subprocess.
const QUIET_LOOKS: u32 = 10;

/// The observations up to the last check.
#[derive(Debug)]
pub(super) struct HandOffWatch {
    /// The limit for a command; zero means no limit.
    limit: Duration,
    /// The progress of each hand-off, by its id.
    seen: HashMap<u64, HandOffProgress>,
    /// The line that the subprocess ran, and since when.
    at: Option<((u64, Position), Instant)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct HandOffProgress {
    /// The number of times that the subprocess had picked up the guest.
    turns: u32,
    /// The number of checks in a row in which `turns` did not change.
    quiet_looks: u32,
}

impl HandOffWatch {
    /// Creates a watch without observations.
    pub(super) fn of(limit: Duration) -> Self {
        HandOffWatch {
            limit,
            seen: HashMap::new(),
            at: None,
        }
    }

    /// Returns the hand-offs to recall, and the reasons. `hand_offs` holds ids, each with how often the subprocess has
    /// picked up the guest. `at` is the subprocess's position.
    pub(super) fn look(
        &mut self,
        hand_offs: Vec<(u64, u32)>,
        at: Option<(u64, Position)>,
        now: Instant,
    ) -> Vec<(u64, RecallReason)> {
        let stuck = self.stuck(at, now);
        let before = std::mem::take(&mut self.seen);
        let mut recalled = Vec::new();
        for (id, turns) in hand_offs {
            let is_at_work = at.is_some_and(|(at_work, _)| at_work == id);
            let last = before
                .get(&id)
                .filter(|last| last.turns == turns && !is_at_work);
            let quiet_looks = last.map_or(0, |last| last.quiet_looks + 1);
            if quiet_looks >= QUIET_LOOKS {
                recalled.push((id, RecallReason::Recalled));
            }
            self.seen.insert(id, HandOffProgress { turns, quiet_looks });
        }
        recalled.extend(stuck.map(|(id, line)| (id, RecallReason::TooLong(line))));
        recalled
    }

    /// Returns the line that the subprocess has run for too long.
    fn stuck(&mut self, at: Option<(u64, Position)>, now: Instant) -> Option<(u64, Position)> {
        let since = match self.at {
            Some((before, since)) if Some(before) == at => since,
            _ => now,
        };
        self.at = at.map(|at| (at, since));
        let is_too_long = !self.limit.is_zero() && now.duration_since(since) >= self.limit;
        at.filter(|_| is_too_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);
    const LOOK: Duration = Duration::from_millis(100);

    /// The number of times that hand-offs 1 and 2 had been picked up at a check, and the line that the subprocess ran.
    type Look = ([u32; 2], Option<(u64, Position)>);

    /// Returns what each check decides about hand-offs 1 and 2.
    fn looks(limit: Duration, seen: &[Look]) -> Vec<Vec<(u64, RecallReason)>> {
        let (mut watch, mut now) = (HandOffWatch::of(limit), Instant::now());
        let look = |(turns, at): &Look| {
            now += LOOK;
            watch.look(vec![(1, turns[0]), (2, turns[1])], *at, now)
        };
        seen.iter().map(look).collect()
    }

    #[test]
    fn a_guest_that_sends_nothing_for_a_while_is_recalled() {
        let mut seen = vec![([1, 1], None); 11];
        // The other guest has sent something in between.
        seen[5..].fill(([1, 2], None));
        let came = looks(LIMIT, &seen);
        assert!(came[..10].iter().all(Vec::is_empty), "{came:?}");
        assert_eq!(came[10], [(1, RecallReason::Recalled)]);
    }

    #[test]
    fn a_guest_that_is_worked_on_is_not_quiet() {
        let came = looks(Duration::ZERO, &vec![([1, 1], Some((1, (1, 1)))); 30]);
        let called: Vec<_> = came.into_iter().flatten().collect();
        assert!(
            called
                .iter()
                .all(|(id, why)| (*id, why) == (2, &RecallReason::Recalled))
        );
        assert!(!called.is_empty());
    }

    #[test]
    fn a_command_is_too_long_once_its_own_line_has_taken_the_limit() {
        let (first, second) = (Some((1, (7, 10))), Some((1, (7, 20))));
        let at = [first, first, first, second, second, second, second, None];
        let came = looks(LIMIT, &at.map(|at| ([1, 1], at)));
        let recalled: Vec<_> = came.iter().map(|home| home.first().cloned()).collect();
        let too_long = Some((1, RecallReason::TooLong((7, 20))));
        assert_eq!(
            recalled,
            [None, None, None, None, None, None, too_long, None]
        );
    }

    #[test]
    fn no_limit_is_no_limit() {
        let came = looks(Duration::ZERO, &vec![([1, 2], Some((1, (1, 1)))); 9]);
        assert!(came.iter().all(Vec::is_empty), "{came:?}");
    }
}
