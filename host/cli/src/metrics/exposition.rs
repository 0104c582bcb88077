//! The measures as metrics: their names, labels and help texts, in the text format of Prometheus.
//!
//! Names and labels are part of the interface: dashboards and alerts use them. The bench `metrics` compiles this file too.
//!
//! The name of a daemon has few bytes, and no characters with a meaning in the text format. The name and the version of
//! a plugin are its author's, and may be any text: they are cut and escaped, and so are the names of its commands. All
//! other labels are words of this program.
//!
//! A daemon has one line for its present state, and a histogram for each command that it has answered. So ten thousand
//! daemons that nobody calls are a few lines each.

use std::borrow::Cow;
use std::fmt;
use std::iter::once;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use dae_host::dae::{ChangeMeasures, DaemonMeasures, Measures, OneCommandMeasures, OwnProcess};
use dae_store::printable;
use dae_store::report::EndKind;

/// Returns the metrics.
pub(super) fn text(measures: Measures) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(measures)));
    let mut text = String::new();
    // Writing to a string doesn't fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}

/// The measures of one moment, to be written once.
#[derive(Debug)]
struct Exposition(Measures);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Measures { daemons, process } = &self.0;
        let metrics = &mut Metrics(&mut encoder);
        states(metrics, daemons)?;
        changes(metrics, daemons)?;
        commands(metrics, daemons)?;
        latencies(metrics, daemons)?;
        guests(metrics, daemons)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        metrics.gauge(
            "dae_build_info",
            "The version of dae-host",
            once((version, 1)),
        )?;
        own_process(metrics, process)
    }
}

fn states(metrics: &mut Metrics<'_, '_>, daemons: &[DaemonMeasures]) -> fmt::Result {
    let up = daemons.iter().map(|one| (of(one), i64::from(one.is_up)));
    metrics.gauge(
        "dae_daemon_up",
        "1 if an instance of the daemon answers",
        up,
    )?;
    let info = daemons.iter().map(|one| {
        let labels = [
            ("daemon", Cow::Borrowed(one.name.as_str())),
            ("plugin", printable::label(&one.plugin)),
            ("version", printable::label(&one.version)),
            ("mode", Cow::Borrowed(one.mode.as_str())),
        ];
        (labels, 1)
    });
    metrics.gauge(
        "dae_daemon_info",
        "The code of the daemon, and where it runs",
        info,
    )?;
    let state = daemons
        .iter()
        .map(|one| ([("daemon", one.name.as_str()), ("state", one.state)], 1));
    metrics.gauge(
        "dae_daemon_state",
        "The present state of the daemon, as `list` shows it",
        state,
    )
}

fn changes(metrics: &mut Metrics<'_, '_>, daemons: &[DaemonMeasures]) -> fmt::Result {
    let changes = || {
        daemons
            .iter()
            .filter_map(|one| Some((one, one.changes.as_ref()?)))
    };
    let restarts = changes().flat_map(|(one, ChangeMeasures { restarts, .. })| {
        let row = |(reason, count): &(EndKind, u64)| {
            (
                [("daemon", one.name.as_str()), ("reason", reason.as_str())],
                *count,
            )
        };
        restarts.iter().map(row)
    });
    const RESTARTS: &str = "Restarts after an instance ended, by the reason for its end";
    metrics.counter("dae_daemon_restarts", RESTARTS, restarts)?;
    let reloads = changes().flat_map(|(one, ChangeMeasures { reloads, .. })| {
        let row = |(outcome, count): &(dae_host::dae::ReloadOutcome, u64)| {
            (
                [("daemon", one.name.as_str()), ("outcome", outcome.word())],
                *count,
            )
        };
        reloads.iter().map(row)
    });
    const RELOADS: &str = "Changes that replace an instance by a new one, by their outcome";
    metrics.counter("dae_reloads", RELOADS, reloads)
}

fn commands(metrics: &mut Metrics<'_, '_>, daemons: &[DaemonMeasures]) -> fmt::Result {
    let calls = daemons.iter().map(|one| (of(one), one.commands.calls));
    metrics.counter("dae_commands", "Commands answered", calls)?;
    let errors = each_command(daemons).map(|(labels, command)| (labels, command.errors));
    const ERRORS: &str = "Commands answered with an error";
    metrics.counter("dae_command_errors", ERRORS, errors)
}

fn latencies(metrics: &mut Metrics<'_, '_>, daemons: &[DaemonMeasures]) -> fmt::Result {
    const NAME: &str = "dae_command_duration_seconds";
    const HELP: &str = "Time from a command to its reply; its sum is within a tenth";
    let encoder = &mut *metrics.0;
    let mut metric = encoder.encode_descriptor(NAME, HELP, None, MetricType::Histogram)?;
    for (labels, command) in each_command(daemons) {
        if let Some(all) = &command.latencies {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(all.sum_s, all.count, &all.buckets, None)?;
        }
    }
    Ok(())
}

fn guests(metrics: &mut Metrics<'_, '_>, daemons: &[DaemonMeasures]) -> fmt::Result {
    let present = daemons.iter().map(|one| (of(one), one.guests.present));
    metrics.gauge("dae_guests", "Guests that are connected", present)?;
    let refused = daemons.iter().flat_map(|one| {
        let row = |reason, count| ([("daemon", one.name.as_str()), ("reason", reason)], count);
        let guests = &one.guests;
        [
            row("guests_max", guests.refused_at_max),
            row("descriptors", guests.refused_no_descriptors),
        ]
    });
    const REFUSED: &str = "Guests that were refused: at guests_max, or for lack of descriptors";
    metrics.counter("dae_guests_refused", REFUSED, refused)
}

fn own_process(metrics: &mut Metrics<'_, '_>, process: &OwnProcess) -> fmt::Result {
    const MEMORY: &str = "Resident memory of the host's process";
    let usage = process.usage;
    let memory = usage.map(|usage| usage.resident_bytes);
    metrics.plain_gauge("process_resident_memory_bytes", MEMORY, memory)?;
    if let Some(usage) = usage {
        let (help, cpu) = ("CPU time of the host's process", usage.cpu.as_secs_f64());
        metrics.counter("process_cpu_seconds", help, once(([NONE; 0], cpu)))?;
    }
    const OPEN: &str = "Open descriptors of the host's process";
    metrics.plain_gauge("process_open_fds", OPEN, process.descriptors)?;
    const MAX: &str = "Descriptors that the host's process may have at present; it raises this limit as it needs more";
    metrics.plain_gauge("process_max_fds", MAX, process.descriptors_max)?;
    const START: &str = "Start of the host's process, in seconds since 1970";
    metrics.plain_gauge("process_start_time_seconds", START, process.started_s)
}

/// The type of the labels of a metric without labels.
const NONE: (&str, &str) = ("", "");

/// Returns each command of each daemon with its labels. Lines that are no command of a daemon have an empty label, which
/// to Prometheus is the same as none.
fn each_command(
    daemons: &[DaemonMeasures],
) -> impl Iterator<Item = ([(&str, Cow<'_, str>); 2], &OneCommandMeasures)> {
    daemons.iter().flat_map(|daemon| {
        let commands = daemon.commands.by_name.iter();
        commands.map(|command| {
            let name = Cow::Borrowed(daemon.name.as_str());
            let labels = [
                ("daemon", name),
                ("command", printable::label(&command.name)),
            ];
            (labels, command)
        })
    })
}

fn of(daemon: &DaemonMeasures) -> [(&str, &str); 1] {
    [("daemon", &daemon.name)]
}

/// The writer of metrics, each with its samples.
struct Metrics<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Metrics<'_, '_> {
    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let encoder = &mut *self.0;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Writes a gauge without labels, if the system tells its value.
    fn plain_gauge<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: Option<V>,
    ) -> fmt::Result {
        match value {
            Some(value) => self.gauge(name, help, once(([NONE; 0], value))),
            None => Ok(()),
        }
    }

    /// Writes a counter. Its name ends in `_total`, which is added here.
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let encoder = &mut *self.0;
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }
}
