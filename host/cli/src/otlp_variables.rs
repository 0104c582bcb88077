//! The variables of OpenTelemetry that say whether to export traces. They are read without the feature `otlp`, too, so
//! that a program built without it says so.

use anyhow::{Result, bail};

/// Returns the value of a variable; `None` if it is not set or empty, which OpenTelemetry holds to be the same.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns whether traces are to be exported: if an endpoint is given, or `OTEL_TRACES_EXPORTER=otlp`.
///
/// # Errors
/// The variables ask for another exporter.
pub(super) fn ask_for_export() -> Result<bool> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(other) => bail!(
            "OTEL_TRACES_EXPORTER is {other}, and this program knows `otlp` and `none`; leave it out to export only if \
             OTEL_EXPORTER_OTLP_ENDPOINT is set"
        ),
        None => Ok([
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ]
        .iter()
        .any(|name| variable(name).is_some())),
    }
}
