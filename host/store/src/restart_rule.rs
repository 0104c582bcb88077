//! The rules by which a supervisor restarts a daemon or leaves it alone, with the numbers that led to the decision.
//!
//! They are plain data. Events keep them, so that `explain` can give the reason for a decision after the settings have
//! changed. [`crate::restart`] applies the rules.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The rule that chose the wait before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RestartRule {
    /// The first restart in a row is immediate, since the instance had served long enough.
    Served {
        /// The time for which it had served (ms).
        served_ms: u64,
        /// The time that it needed, `restart.served_ms`.
        needed_ms: u64,
    },
    /// The wait doubles with each restart in a row.
    Backoff {
        /// The number of restarts in a row before this one.
        in_a_row: u32,
        /// The first wait, `restart.backoff_first_ms`.
        first_ms: u64,
        /// The longest wait, `restart.backoff_max_ms`.
        max_ms: u64,
    },
}

/// Formats the rule as a clause that can follow "because".
impl fmt::Display for RestartRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RestartRule::Served {
                served_ms,
                needed_ms,
            } => write!(
                f,
                "it had served for {}, and the first restart after {} of service is immediate (restart.served_ms)",
                span(served_ms),
                span(needed_ms)
            ),
            RestartRule::Backoff {
                in_a_row,
                first_ms,
                max_ms,
            } => write!(
                f,
                "it is restart {} in a row; the wait is {} at first, doubles each time up to {}, and varies by a quarter \
                 (restart.backoff_first_ms, restart.backoff_max_ms)",
                u64::from(in_a_row) + 1,
                span(first_ms),
                span(max_ms)
            ),
        }
    }
}

/// The limit on restarts whose excess is a crash loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartLimit {
    /// `restart.burst_max` in `restart.burst_ms`.
    Burst,
    /// `restart.slow_max` in `restart.slow_ms`.
    Slow,
}

/// The rule that ended the restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopRule {
    /// The limit.
    pub limit: RestartLimit,
    /// The number of restarts in the window.
    pub restarts: u64,
    /// The highest number that is allowed.
    pub max: u64,
    /// The window (ms).
    pub window_ms: u64,
}

/// Formats the number of restarts and the window, such as `5 restarts in 30 s`.
impl fmt::Display for LoopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.restarts == 1 { "" } else { "s" };
        write!(
            f,
            "{} restart{plural} in {}",
            self.restarts,
            span(self.window_ms)
        )
    }
}

impl LoopRule {
    /// Returns the settings that make the rule.
    #[must_use]
    pub fn settings(&self) -> &'static str {
        match self.limit {
            RestartLimit::Burst => "restart.burst_max in restart.burst_ms",
            RestartLimit::Slow => "restart.slow_max in restart.slow_ms",
        }
    }
}

/// Formats a time in milliseconds below a second, in seconds below two minutes, and in minutes from there on.
#[must_use]
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_unit_that_people_use() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_550, "1.5 s"),
            (30_000, "30 s"),
            (119_999, "119.9 s"),
            (600_000, "10 min"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }

    #[test]
    fn a_rule_is_one_object_with_its_kind() {
        let rule = RestartRule::Backoff {
            in_a_row: 2,
            first_ms: 100,
            max_ms: 30_000,
        };
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"backoff","in_a_row":2,"first_ms":100,"max_ms":30000}"#
        );
        assert_eq!(serde_json::from_str::<RestartRule>(&text).unwrap(), rule);
        assert!(
            rule.to_string().starts_with("it is restart 3 in a row"),
            "{rule}"
        );
    }
}
