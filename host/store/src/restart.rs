//! Decides what follows the end of an instance: a pure function of the policy, the history and the time.
//!
//! It uses no clock and no random numbers. The caller passes the monotonic time since the host's start, so that changes
//! of the machine's clock have no effect, and adds the jitter. The windows slide: the decision depends on the number of
//! restarts in the last 30 s and in the last 10 min. Neither a slow crash loop nor one with pauses therefore continues
//! forever.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durations::{in_ms, ms};
use crate::restart_rule::{LoopRule, RestartLimit, RestartRule};

/// The condition for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Restart after every end.
    Always,
    /// Restart after an error, a panic or a crash.
    #[default]
    OnFailure,
    /// Never restart.
    Never,
}

/// The restart policy of a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The condition for a restart.
    pub restart: When,
    /// The first wait (ms). It doubles with each restart in a row.
    pub backoff_first_ms: u64,
    /// The longest wait (ms).
    pub backoff_max_ms: u64,
    /// The service time after which the first restart in a row has no wait (ms).
    pub served_ms: u64,
    /// The service time after which the restarts in a row count from zero again (ms).
    pub healthy_ms: u64,
    /// The highest number of restarts in `burst_ms`. One more is a crash loop.
    pub burst_max: usize,
    /// The window for `burst_max` (ms).
    pub burst_ms: u64,
    /// The highest number of restarts in `slow_ms`. One more is a crash loop, whatever the intervals are.
    pub slow_max: usize,
    /// The window for `slow_max` (ms).
    pub slow_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            restart: When::OnFailure,
            backoff_first_ms: 100,
            backoff_max_ms: 30_000,
            served_ms: 1_000,
            healthy_ms: 60_000,
            burst_max: 5,
            burst_ms: 30_000,
            slow_max: 10,
            slow_ms: 600_000,
        }
    }
}

/// The restarts of one daemon that still lie in a window.
#[derive(Debug, Clone, Default)]
pub struct History {
    restarts: VecDeque<Duration>,
    in_a_row: u32,
}

/// The end of an instance.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// True if the instance ended in an error, a panic or a crash.
    pub is_failure: bool,
    /// The time for which it served.
    pub served: Duration,
}

/// The decision after an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Start another instance after a wait.
    Restart {
        /// The wait, before jitter.
        wait: Duration,
        /// The rule that chose it.
        rule: RestartRule,
    },
    /// Start none: the policy wants no restart.
    Finished,
    /// Start none: it would only crash again.
    CrashLoop(LoopRule),
}

/// Decides what follows an end and records a restart in the history.
#[must_use]
pub fn decide(policy: &Policy, history: &mut History, end: End, now: Duration) -> Decision {
    let wanted = match policy.restart {
        When::Always => true,
        When::OnFailure => end.is_failure,
        When::Never => false,
    };
    if !wanted {
        return Decision::Finished;
    }
    let longest = policy.slow_ms.max(policy.burst_ms);
    history.forget_before(now.saturating_sub(ms(longest)));
    if let Some(rule) = history.is_loop(policy, now) {
        return Decision::CrashLoop(rule);
    }
    if end.served >= ms(policy.healthy_ms) {
        history.in_a_row = 0;
    }
    let at_once = history.in_a_row == 0 && end.served >= ms(policy.served_ms);
    let (wait, rule) = match at_once {
        true => (Duration::ZERO, policy.served(end.served)),
        false => policy.backoff(history.in_a_row),
    };
    history.in_a_row = history.in_a_row.saturating_add(1);
    history.restarts.push_back(now);
    Decision::Restart { wait, rule }
}

impl Policy {
    fn served(&self, served: Duration) -> RestartRule {
        RestartRule::Served {
            served_ms: in_ms(served),
            needed_ms: self.served_ms,
        }
    }

    fn backoff(&self, in_a_row: u32) -> (Duration, RestartRule) {
        let (first_ms, max_ms) = (self.backoff_first_ms, self.backoff_max_ms);
        let doubled = 2_u64.saturating_pow(in_a_row.min(63));
        let wait = ms(first_ms.saturating_mul(doubled).min(max_ms));
        let rule = RestartRule::Backoff {
            in_a_row,
            first_ms,
            max_ms,
        };
        (wait, rule)
    }
}

impl History {
    /// Forgets all restarts, because a person has requested a start or the file has changed.
    pub fn clear(&mut self) {
        *self = History::default();
    }

    /// Returns the number of restarts in the last `window`.
    #[must_use]
    pub fn within(&self, window: Duration, now: Duration) -> usize {
        let since = now.saturating_sub(window);
        self.restarts.iter().filter(|at| **at >= since).count()
    }

    /// Returns the first limit that allows no more restarts.
    fn is_loop(&self, policy: &Policy, now: Duration) -> Option<LoopRule> {
        let limits = [
            (RestartLimit::Burst, policy.burst_max, policy.burst_ms),
            (RestartLimit::Slow, policy.slow_max, policy.slow_ms),
        ];
        limits.into_iter().find_map(|(limit, max, window_ms)| {
            let restarts = self.within(ms(window_ms), now);
            (restarts >= max).then_some(LoopRule {
                limit,
                restarts: restarts as u64,
                max: max as u64,
                window_ms,
            })
        })
    }

    fn forget_before(&mut self, since: Duration) {
        while self.restarts.front().is_some_and(|at| *at < since) {
            self.restarts.pop_front();
        }
    }
}

/// Returns the wait changed by up to a quarter either way; `random` is in 0..=1. Daemons that failed together then
/// don't restart together.
#[must_use]
pub fn with_jitter(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.75 + 0.5 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed_after(served_ms: u64) -> End {
        End {
            is_failure: true,
            served: ms(served_ms),
        }
    }

    /// Returns the waits of a daemon that serves `served_ms` each time, and the crash loop's reason if it gets there.
    fn life(served_ms: u64, most: usize) -> (Vec<Duration>, Option<String>) {
        let (policy, mut history, mut now) =
            (Policy::default(), History::default(), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..most {
            now += ms(served_ms);
            match decide(&policy, &mut history, failed_after(served_ms), now) {
                Decision::Restart { wait, .. } => {
                    waits.push(wait);
                    now += wait;
                }
                Decision::CrashLoop(rule) => return (waits, Some(rule.to_string())),
                Decision::Finished => unreachable!("it failed"),
            }
        }
        (waits, None)
    }

    #[test]
    fn the_wait_doubles_and_the_loop_is_found() {
        let (waits, reason) = life(0, 100);
        let waits: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600]);
        assert_eq!(reason.as_deref(), Some("5 restarts in 30 s"));
    }

    #[test]
    fn one_that_served_is_back_at_once_and_a_healthy_one_starts_over() {
        assert_eq!(life(5_000, 2).0, [Duration::ZERO, ms(200)]);
        let (waits, reason) = life(61_000, 8);
        assert_eq!((waits, reason), (vec![Duration::ZERO; 8], None));
    }

    #[test]
    fn a_burst_is_found_whatever_the_slow_window_is() {
        let policy = Policy {
            slow_ms: 0,
            burst_max: 3,
            ..Policy::default()
        };
        let (mut history, mut now) = (History::default(), Duration::ZERO);
        let mut decide_next = || {
            now += ms(500);
            decide(&policy, &mut history, failed_after(0), now)
        };
        for _ in 0..3 {
            assert!(matches!(decide_next(), Decision::Restart { .. }));
        }
        assert!(matches!(decide_next(), Decision::CrashLoop(_)));
    }

    #[test]
    fn no_setting_is_too_long_to_compute_with() {
        let policy = Policy {
            backoff_first_ms: u64::MAX,
            backoff_max_ms: u64::MAX,
            served_ms: u64::MAX,
            healthy_ms: u64::MAX,
            burst_ms: u64::MAX,
            slow_ms: u64::MAX,
            ..Policy::default()
        };
        let mut history = History::default();
        let Decision::Restart { wait, .. } = decide(&policy, &mut history, failed_after(5), ms(5))
        else {
            unreachable!("it is the first");
        };
        assert!(std::time::Instant::now() + with_jitter(wait, 1.0) > std::time::Instant::now());
    }

    #[test]
    fn the_policy_says_when() {
        let clean = End {
            is_failure: false,
            served: ms(5),
        };
        for (when, end, restarts) in [
            (When::Always, clean, true),
            (When::OnFailure, clean, false),
            (When::OnFailure, failed_after(5), true),
            (When::Never, failed_after(5), false),
        ] {
            let policy = Policy {
                restart: when,
                ..Policy::default()
            };
            let decision = decide(&policy, &mut History::default(), end, Duration::ZERO);
            assert_eq!(
                matches!(decision, Decision::Restart { .. }),
                restarts,
                "{when:?}"
            );
        }
    }

    proptest! {
        /// At any steady interval from 10 ms to 20 s, the loop is found after no more restarts than the windows allow.
        #[test]
        fn any_steady_crash_loop_is_found(served_ms in 10_u64..=20_000) {
            let (waits, reason) = life(served_ms, 100);
            prop_assert!(reason.is_some());
            prop_assert!(waits.len() <= 10);
        }

        /// At any intervals, no window ever holds more restarts than allowed.
        #[test]
        fn no_window_ever_overflows(served in proptest::collection::vec(0_u64..200_000, 1..200)) {
            let (policy, mut history, mut now) = (Policy::default(), History::default(), Duration::ZERO);
            for served_ms in served {
                now += ms(served_ms);
                if let Decision::Restart { wait, .. } = decide(&policy, &mut history, failed_after(served_ms), now) {
                    prop_assert!(wait <= ms(policy.backoff_max_ms));
                    now += wait;
                }
                prop_assert!(history.within(ms(policy.burst_ms), now) <= policy.burst_max);
                prop_assert!(history.within(ms(policy.slow_ms), now) <= policy.slow_max);
            }
        }

        #[test]
        fn jitter_is_a_quarter_either_way(wait_ms in 0_u64..60_000, random in 0.0_f64..=1.0) {
            let wait = with_jitter(ms(wait_ms), random);
            prop_assert!(wait >= ms(wait_ms).mul_f64(0.749) && wait <= ms(wait_ms).mul_f64(1.251));
        }
    }
}
