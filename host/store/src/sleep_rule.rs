//! The rules by which a daemon sleeps: its port listens, and its code starts with the first command.
//!
//! They are plain data, as those in [`crate::restart_rule`], so that events keep them and `explain` can give the reason.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::restart_rule::span;

/// The rule by which a daemon sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SleepRule {
    /// It starts on demand, and no command has come yet.
    OnDemand,
    /// No command came for a while.
    Idle {
        /// The time without a command (s), the setting `idle_s`.
        idle_s: u64,
    },
}

/// Formats the rule as a clause that can follow "because".
impl fmt::Display for SleepRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SleepRule::OnDemand => f.write_str("it starts with its first command (start)"),
            SleepRule::Idle { idle_s } => {
                let time = span(idle_s.saturating_mul(1_000));
                write!(f, "no command came for {time} (idle_s)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_one_object_with_its_kind() {
        for (rule, object, clause) in [
            (
                SleepRule::OnDemand,
                r#"{"kind":"on-demand"}"#,
                "it starts with its first command (start)",
            ),
            (
                SleepRule::Idle { idle_s: 60 },
                r#"{"kind":"idle","idle_s":60}"#,
                "no command came for 60 s (idle_s)",
            ),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), object);
            assert_eq!(serde_json::from_str::<SleepRule>(object).unwrap(), rule);
            assert_eq!(rule.to_string(), clause);
        }
    }
}
