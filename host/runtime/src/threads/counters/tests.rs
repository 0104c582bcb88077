//! Counters by command, over reloads, and from other processes.

use dae_store::manifest::Command;

use super::*;

fn one(errors: u64) -> BatchCounts {
    BatchCounts {
        calls: 1,
        errors,
        panics: 0,
    }
}

fn manifest(names: &[&str]) -> Arc<Manifest> {
    let commands = names.iter().map(|name| Command {
        name: (*name).to_owned(),
        ..Command::default()
    });
    Arc::new(Manifest {
        commands: commands.collect(),
        ..Manifest::default()
    })
}

fn tally(of: &[(u32, BatchCounts)]) -> BatchTally {
    let mut tally = BatchTally::default();
    of.iter()
        .for_each(|(command, counts)| tally.add_to(*command, *counts));
    tally
}

#[test]
fn quantiles_are_within_a_quarter_of_an_octave() {
    let stats = Counters::default();
    assert_eq!(stats.snapshot().quantile_us(0.5), None);
    for us in 1..=1000 {
        stats.add_other(one(0), Duration::from_micros(us));
    }
    for (quantile, truth) in [(0.5, 500.0), (0.99, 990.0)] {
        let found = stats.snapshot().quantile_us(quantile).unwrap();
        assert!(
            (truth..truth * 1.19).contains(&found),
            "{quantile}: {found}"
        );
    }
    assert_eq!(stats.calls(), 1000);
}

#[test]
fn a_window_has_the_counts_and_latencies_within_it_alone() {
    let stats = Counters::default();
    let before_all = stats.snapshot();
    stats.add_other(one(0), Duration::from_secs(1));
    let before = stats.snapshot();
    (0..10).for_each(|_| stats.add_other(one(1), Duration::from_micros(10)));
    let window = stats.snapshot().since(&before);
    assert_eq!((window.calls(), window.errors()), (10, 10));
    assert!(window.quantile_us(0.99).unwrap() < 20.0, "{window:?}");
    assert_eq!(stats.snapshot().since(&before_all).calls(), 11);
    let none = stats.snapshot().since(&stats.snapshot());
    assert_eq!((none.calls(), none.quantile_us(0.5)), (0, None));
}

#[test]
fn a_histogram_counts_each_latency_once_and_up_to_an_exact_bound() {
    let stats = Counters::default();
    assert_eq!(stats.snapshot().latencies(), None);
    let two = BatchCounts {
        calls: 2,
        ..BatchCounts::default()
    };
    let all = [
        1,
        1_024,
        1_025,
        2_048,
        2_049,
        1 << 36,
        (1 << 36) + 1,
        u64::MAX,
    ];
    for ns in all {
        stats.add_other(two, Duration::from_nanos(ns));
    }
    let histogram = stats.snapshot().latencies().unwrap();
    let (bounds, counts): (Vec<f64>, Vec<u64>) = histogram.buckets.iter().copied().unzip();
    assert_eq!(bounds[..2], [0.000_001_024, 0.000_002_048]);
    assert_eq!(counts[..3], [4, 4, 2]);
    assert_eq!(bounds[bounds.len() - 2..], [68.719_476_736, f64::INFINITY]);
    assert_eq!(counts[counts.len() - 2..], [2, 4]);
    assert_eq!(counts.iter().sum::<u64>(), 2 * all.len() as u64);
    assert_eq!(histogram.count, 2 * all.len() as u64);
    assert!(bounds.is_sorted());
}

#[test]
fn the_sum_of_latencies_is_within_a_tenth() {
    for ns in [5, 1_000, 1_279, 1_280, 999_999, 1_000_000_000] {
        let stats = Counters::default();
        let three = BatchCounts {
            calls: 3,
            ..BatchCounts::default()
        };
        stats.add_other(three, Duration::from_nanos(ns));
        let truth = 3.0 * Duration::from_nanos(ns).as_secs_f64();
        let sum = stats.snapshot().latencies().unwrap().sum_s;
        assert!(
            (sum - truth).abs() <= truth / 10.0,
            "{ns}: {sum} for {truth}"
        );
    }
}

#[test]
fn a_command_keeps_its_counts_when_a_reload_changes_its_index() {
    let stats = Counters::default();
    let before = stats.slots(&manifest(&["add", "greet"]));
    let (fast, slow) = (Duration::from_micros(1), Duration::from_secs(1));
    before.add(&tally(&[(0, one(0)), (1, one(1))]), fast);
    let after = stats.slots(&manifest(&["new", "greet", "add"]));
    after.add(
        &tally(&[(2, one(0)), (NO_COMMAND, one(1)), (7, one(1))]),
        slow,
    );
    let CommandSnapshots { by_name, other } = stats.by_command();
    let mut counts: Vec<(&str, u64, u64)> = by_name
        .iter()
        .map(|(name, counts)| (name.as_str(), counts.calls(), counts.errors()))
        .collect();
    counts.sort_unstable();
    // The command `new` was never called.
    assert_eq!(counts, [("add", 2, 0), ("greet", 1, 1)]);
    assert_eq!((other.calls(), other.errors()), (2, 2));
    let report = stats.report();
    assert_eq!(report["calls"], 5);
    assert_eq!(report["commands"]["add"]["calls"], 2);
    assert!(report["commands"]["greet"]["latency_us"]["p99"].as_f64() < Some(2.0));
    assert_eq!(report["commands"].as_object().unwrap().len(), 2);
}

#[test]
fn ever_new_names_of_commands_do_not_grow_the_counters_for_ever() {
    let stats = Counters::default();
    for number in 0..COMMANDS_MAX + 10 {
        let slots = stats.slots(&manifest(&[&format!("command{number}")]));
        slots.add(&tally(&[(0, one(0))]), Duration::from_micros(1));
    }
    let counted = stats.by_command();
    assert_eq!(counted.by_name.len(), COMMANDS_MAX);
    assert_eq!(counted.other.calls(), 10);
}

#[derive(Debug, Default)]
struct Process(SharedCounts);

impl CounterSource for Process {
    fn counted(&self) -> &SharedCounts {
        &self.0
    }
}

#[test]
fn a_process_is_believed_what_it_can_have_answered_and_no_more() {
    let (stats, process) = (Counters::default(), Arc::new(Process::default()));
    let slots = stats.slots(&manifest(&["add", "greet"]));
    let us = Duration::from_micros(1);
    // It may answer before it is included.
    process.0.add(&tally(&[(0, one(0))]), us);
    stats.include(&(Arc::clone(&process) as Arc<dyn CounterSource>), &slots);
    process.0.add(&tally(&[(0, one(0)), (1, one(1))]), us);
    assert_eq!((stats.calls(), stats.errors()), (3, 1));
    assert_eq!(stats.calls_elsewhere(), 3);
    assert_eq!(stats.report()["commands"]["greet"]["calls"], 1);
    let shard = process.0.shard(0);
    shard.calls.store(9_235_216_492_790_489_471, Relaxed);
    assert_eq!(stats.calls(), 3);
    // Neither later counts nor the earlier ones count again.
    shard.calls.store(4, Relaxed);
    assert_eq!(
        (stats.calls(), stats.report()["calls"].as_u64()),
        (3, Some(3))
    );
}

#[test]
fn a_process_may_have_more_commands_than_it_counts_one_by_one() {
    let (stats, process) = (Counters::default(), Arc::new(Process::default()));
    let names: Vec<String> = (0..100).map(|number| format!("command{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let slots = stats.slots(&manifest(&names));
    stats.include(&(Arc::clone(&process) as Arc<dyn CounterSource>), &slots);
    for command in [0, 62, 63, 99, NO_COMMAND] {
        process.0.add(&tally(&[(command, one(0))]), Duration::ZERO);
    }
    let counted = stats.by_command();
    let by_name: Vec<&str> = counted.by_name.iter().map(|(name, _)| &**name).collect();
    assert_eq!(by_name, ["command0", "command62"]);
    assert_eq!(counted.other.calls(), 3);
}
