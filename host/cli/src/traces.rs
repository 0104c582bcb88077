//! The traces of a host: exported if the program can do so and the environment asks for it.

use anyhow::Result;

#[cfg(feature = "otlp")]
use super::otlp::TraceExport;

/// The export of a host's traces, while it runs.
#[derive(Debug)]
pub(super) struct Traces {
    #[cfg(feature = "otlp")]
    export: Option<TraceExport>,
}

#[cfg(feature = "otlp")]
impl Traces {
    /// Starts the export, if the environment asks for it. Must be called within the runtime of the host.
    ///
    /// # Errors
    /// A variable asks for what this program can't do.
    pub(super) fn start() -> Result<Self> {
        let export = super::otlp::start()?;
        Ok(Traces { export })
    }

    /// Sends the last spans.
    pub(super) async fn end(self) {
        if let Some(export) = self.export {
            export.end().await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Warns if the environment asks for an export, which this program was built without.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "with the feature `otlp` it can fail"
    )]
    pub(super) fn start() -> Result<Self> {
        if !matches!(super::otlp_variables::ask_for_export(), Ok(false)) {
            tracing::warn!(
                "the variables OTEL_* ask for an export of traces, and this program is built without it; build it with \
                 `--features otlp`"
            );
        }
        Ok(Traces {})
    }

    /// Does nothing.
    pub(super) async fn end(self) {}
}
