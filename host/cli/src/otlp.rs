//! Export of traces by OTLP, the protocol of OpenTelemetry, to a collector (feature `otlp`).
//!
//! The standard variables `OTEL_*` decide everything: whether and where to export, which traces, and how many at once. The
//! library of OpenTelemetry reads most of them. The host begins no trace, so a sampler that asks the parent keeps what the
//! caller records.
//!
//! Spans go over HTTP without TLS: a collector on this machine passes them on.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracer, SdkTracerProvider};

use dae_host::trace::{EndedSpan, report_spans};

use super::otlp_variables::{self, variable};

/// The longest time for the last spans at the end of the host.
const LAST_SPANS_MAX: Duration = Duration::from_secs(2);

/// The name of the service, unless a variable gives another.
const SERVICE: &str = "dae-host";

/// The export, which lasts until [`TraceExport::end`].
#[derive(Debug)]
pub(super) struct TraceExport(SdkTracerProvider);

/// Starts the export, if the environment asks for it. Must be called within the runtime that sends the spans.
///
/// # Errors
/// A variable asks for what this program can't do.
pub(super) fn start() -> Result<Option<TraceExport>> {
    if !otlp_variables::ask_for_export()? {
        return Ok(None);
    }
    check_transport()?;
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.context("cannot export traces as the variables OTEL_* say")?;
    let provider = SdkTracerProvider::builder()
        .with_id_generator(GivenIds)
        .with_resource(resource())
        .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
        .build();
    let tracer = provider.tracer(SERVICE);
    if !report_spans(move |span| export(&tracer, span)) {
        bail!("traces are exported already");
    }
    Ok(Some(TraceExport(provider)))
}

impl TraceExport {
    /// Sends the last spans.
    pub(super) async fn end(self) {
        // It waits for the exporter, which runs on this runtime.
        let sent =
            tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_SPANS_MAX));
        match tokio::time::timeout(LAST_SPANS_MAX, sent).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("the last spans of traces are lost: {error}"),
            Ok(Err(error)) => tracing::error!("the last spans of traces are lost: {error}"),
            Err(_) => tracing::warn!(
                "the last spans of traces are lost: the collector took longer than {LAST_SPANS_MAX:?}"
            ),
        }
    }
}

/// Checks that the endpoint can be reached by plain HTTP, in an encoding that is known.
fn check_transport() -> Result<()> {
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        if let Some(endpoint) = variable(name)
            && endpoint.starts_with("https:")
        {
            bail!(
                "{name} is {endpoint}, and this program exports without TLS: expected http://…, such as a collector on this \
                 machine, which can pass the traces on"
            );
        }
    }
    for name in [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        if let Some(protocol) = variable(name)
            && !["http/protobuf", "http/json"].contains(&&*protocol)
        {
            bail!("{name} is {protocol}, and this program exports by http/protobuf or http/json");
        }
    }
    Ok(())
}

/// Returns the description of this host in the traces.
fn resource() -> Resource {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let mut keys = attributes.split(',').filter_map(|one| one.split_once('='));
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || keys.any(|(key, _)| key.trim() == "service.name");
    let builder = Resource::builder();
    let builder = match is_named {
        true => builder,
        false => builder.with_service_name(SERVICE),
    };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    builder.with_attribute(version).build()
}

thread_local! {
    /// The id of the span that this thread exports next.
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Gives a span the id that the host has already given it, and passed on to what it called.
#[derive(Debug)]
struct GivenIds;

impl IdGenerator for GivenIds {
    fn new_trace_id(&self) -> TraceId {
        // Every span has a parent, and is in its trace.
        TraceId::INVALID
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(NEXT.get())
    }
}

fn export(tracer: &SdkTracer, span: EndedSpan) {
    let EndedSpan {
        context,
        parent_id,
        daemon,
        command,
        began,
        took,
        is_error,
    } = span;
    let parent = SpanContext::new(
        TraceId::from(context.trace_id()),
        SpanId::from(parent_id),
        TraceFlags::new(context.flags()),
        true,
        TraceState::default(),
    );
    let name = format!("{daemon}/{command}");
    // The names are those of OpenTelemetry's conventions for remote procedure calls.
    let attributes = vec![
        KeyValue::new("rpc.system", "common-tcp"),
        KeyValue::new("rpc.service", daemon),
        KeyValue::new("rpc.method", command),
    ];
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Server)
        .with_start_time(began)
        .with_attributes(attributes);
    NEXT.set(context.span_id());
    let parent = Context::new().with_remote_span_context(parent);
    let mut span = tracer.build_with_context(builder, &parent);
    use opentelemetry::trace::Span as _;
    if is_error {
        span.set_status(Status::error("answered with an error"));
    }
    span.end_with_timestamp(began + took);
}
