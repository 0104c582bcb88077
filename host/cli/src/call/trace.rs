//! The trace that a call belongs to: the one of the environment, or a new one.

use dae_common_tcp::TraceParent;

/// The environment variable in which a program passes its trace to those that it starts. OpenTelemetry names it so.
const VARIABLE: &str = "TRACEPARENT";

/// Returns the trace of the environment. If there is none, or it breaks the rules, returns a new one if `is_wanted`.
pub(super) fn of_call(is_wanted: bool) -> Option<TraceParent> {
    let given = std::env::var(VARIABLE).ok();
    let given = given.and_then(|text| text.trim().parse().ok());
    given.or_else(|| is_wanted.then(new).flatten())
}

/// Returns a new trace, to be recorded: whoever asks for one wants to see it.
fn new() -> Option<TraceParent> {
    /// Sampled, and the id is random.
    const FLAGS: u8 = 0b11;
    TraceParent::new(fastrand::u128(1..), fastrand::u64(1..), FLAGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_trace_is_recorded_and_differs_from_the_last() {
        let (one, other) = (new().expect("a trace"), new().expect("a trace"));
        assert!(one.is_sampled());
        assert_ne!(one.trace_id(), other.trace_id());
    }
}
