//! Whole screens at two sizes, and the edges.

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::list::SortColumn;
use crate::top::state::{Described, DescribedInstance, HostAction, Message, PaneKind};
use dae_store::event::{CauseKind, DaeEvent, DaeEventKind};
use dae_store::log::Record;
use dae_store::report::{Mode, Status};
use dae_store::usage::{CommandRates, CpuKind, Usage};

/// The time of all records and changes.
const TIME: Timestamp = Timestamp::UNIX_EPOCH;

fn commands(is_up: bool) -> CommandRates {
    CommandRates {
        calls_per_s: if is_up { 120.0 } else { 0.0 },
        errors_per_s: 0.0,
        p50_us: is_up.then_some(12.0),
        p99_us: is_up.then_some(340.0),
    }
}

fn row(name: &str, state: &str, mode: Mode, cpu: Option<(f64, CpuKind)>) -> Listed {
    let is_up = state == "ready";
    let (plugin, version) = (name.to_owned(), "0.1.0".to_owned());
    let usage = Usage {
        name: name.to_owned(),
        state: state.to_owned(),
        cpu_percent: cpu.map(|(percent, _)| percent),
        cpu_kind: cpu.map(|(_, kind)| kind),
        memory_bytes: cpu
            .filter(|(_, kind)| *kind != CpuKind::Handlers)
            .map(|_| 3 << 20),
        commands: commands(is_up),
        guests: 2,
        restarts: 1,
        generation: 2,
        uptime_ms: None,
    };
    Listed {
        status: Status {
            name: name.to_owned(),
            plugin,
            version,
            mode: Some(mode),
            state: state.to_owned(),
            pid: is_up.then_some(4711),
            port: Some(40_123),
            generation: 2,
            uptime_ms: is_up.then_some(187_000),
            restarts: 1,
            calls: 12_345,
            guests: 2,
            ..Status::default()
        },
        usage: Some(usage),
    }
}

fn rows() -> Vec<Listed> {
    let mut loops = row("Sorter", "crash-loop", Mode::Subprocess, None);
    loops.status.reason = "its process was killed by signal 6".to_owned();
    let foreign = Listed::from(Status {
        name: "Far".to_owned(),
        plugin: "Far".to_owned(),
        state: "foreign".to_owned(),
        foreign: true,
        port: Some(40_124),
        ..Status::default()
    });
    vec![
        row("Dae", "ready", Mode::InProcess, Some((3.0, CpuKind::Host))),
        row(
            "Counter",
            "ready",
            Mode::InProcess,
            Some((12.0, CpuKind::Handlers)),
        ),
        row(
            "Sample",
            "ready",
            Mode::Subprocess,
            Some((100.0, CpuKind::Process)),
        ),
        loops,
        foreign,
    ]
}

fn record(level: &str, message: &str) -> Record {
    Record {
        time: TIME,
        daemon: "Counter".to_owned(),
        generation: Some(2),
        level: level.to_owned(),
        target: "counter".to_owned(),
        message: message.to_owned(),
        fields: serde_json::Map::new(),
    }
}

/// Returns a state as after some seconds, with `Counter` selected.
fn state() -> TopState {
    let mut state = TopState::new(SortColumn::Name, true);
    for _ in 0..3 {
        let is_measured = true;
        state.take(Message::Seen {
            rows: rows(),
            is_measured,
        });
    }
    state.table.step(1);
    let records = vec![
        record("info", "counting"),
        record("error", &"long ".repeat(40)),
    ];
    state.take(Message::LogBegins(0, records));
    state
}

fn drawn(state: &TopState, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let draw = |frame: &mut ratatui::Frame<'_>| draw(state, frame.area(), frame.buffer_mut());
    terminal.draw(draw).expect("it is drawn");
    terminal
}

/// Returns the lines of the screen without the blanks at their ends.
fn screen(state: &TopState, width: u16, height: u16) -> Vec<String> {
    let terminal = drawn(state, width, height);
    let buffer = terminal.backend().buffer();
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn a_small_screen_has_the_table_and_the_log() {
    let expected =
        "\x20Dae  port 40123  up 3m07s  4 daemons  8 guests  360 calls/s  CPU 3.0%  MEM 3.0M
 1 in crash-loop: `Sorter`
 NAME         STATE      GEN GUESTS CALLS/s             P99    CPU   MEM UPTIME
 Dae          ready        2      2     120       ███  340µ   3.0%  3.0M  3m07s
 Counter      ready        2      2     120       ███  340µ   ~12%     -  3m07s
 Sample       ready        2      2     120       ███  340µ   100%  3.0M  3m07s
 Sorter       crash-loop   2      2       0               -      -     -      -
 Far          foreign      -      -       -               -      -     -      -
─ 1 log ─ 2 events ─ 3 commands ────────────────────────────────── newest, 2/5 ─
 Counter  0.1.0  in-process  127.0.0.1:40123  pid 4711  12345 calls, 0 errors  …
 00:00:00  INFO Counter#2: counting
 00:00:00 ERROR Counter#2: long long long long long long long long long long lo…











 ? help  / filter  o order: name  r restart  s start  x stop  Tab pane  q quit";
    assert_eq!(screen(&state(), 80, 24).join("\n"), expected);
}

#[test]
fn a_wide_screen_has_every_column() {
    let lines = screen(&state(), 140, 40);
    let expected = " NAME         STATE      MODE       GEN GUESTS CALLS/s                            P50   P99    CPU   MEM \
        RESTARTS UPTIME";
    assert_eq!(lines[2], expected);
    let counter = " Counter      ready      in-process   2      2     120                      ███   12µ  340µ   ~12%     -        \
        1  3m07s";
    assert_eq!(lines[4], counter);
    assert!(
        lines[9].contains("12345 calls, 0 errors  p50 12µ, p99 340µ  generation 2"),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 40);
}

#[test]
fn a_long_record_is_broken_where_that_is_wanted() {
    let mut state = state();
    state.panes.log.wraps = true;
    let lines = screen(&state, 80, 24);
    assert!(lines[12].starts_with("         long long"), "{lines:#?}");
    assert!(lines[8].ends_with(" whole, newest, 2/5 ─"), "{lines:#?}");
    state.panes.log.filter = "COUNTING".to_owned();
    let lines = screen(&state, 80, 24);
    assert_eq!(lines[11], "", "{lines:#?}");
}

#[test]
fn the_other_panes_show_events_and_commands() {
    let mut state = state();
    let degraded = DaeEventKind::Degraded {
        cause: "it is slow".to_owned(),
        cause_kind: CauseKind::HeldThread,
    };
    let event = DaeEvent::now("Counter", Some(2), degraded);
    state.take(Message::Happened(vec![event]));
    state.panes.kind = PaneKind::Events;
    let lines = screen(&state, 80, 24);
    assert!(
        lines[10].ends_with(" Counter  degraded: it is slow"),
        "{lines:#?}"
    );
    state.panes.kind = PaneKind::Commands;
    assert_eq!(screen(&state, 80, 24)[10], " asking …");
    let instance = DescribedInstance {
        name: "Counter".to_owned(),
        generation: 2,
    };
    assert_eq!(state.wanted_commands(), Some(instance.clone()));
    let commands = Ok(vec![("count()".to_owned(), "The count.".to_owned())]);
    state.take(Message::Described(Described { instance, commands }));
    assert_eq!(screen(&state, 80, 24)[10], " count()  The count.");
}

#[test]
fn a_question_names_the_effect_and_the_way_out() {
    let mut state = state();
    state.overlay = Overlay::Confirm(HostAction::Stop, "Counter".to_owned());
    let text = screen(&state, 80, 24).join("\n");
    for part in [
        "stop Counter?",
        "Its 2 guests are",
        "y: do it",
        "any other key: don't",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    state.overlay = Overlay::Help;
    for (width, height) in [(80, 24), (140, 40), (40, 10)] {
        let text = screen(&state, width, height).join("\n");
        assert!(text.contains("select a daemon"), "{text}");
    }
}

#[test]
fn a_host_that_has_ended_is_said_and_its_table_stays() {
    let mut state = state();
    state.take(Message::NoHost("no host runs".to_owned()));
    let lines = screen(&state, 80, 24);
    assert_eq!(lines[0], " no host runs; it is shown again once one runs");
    assert!(lines[3].starts_with(" Counter"), "{lines:#?}");
    let is_measured = false;
    state.take(Message::Seen {
        rows: rows(),
        is_measured,
    });
    let lines = screen(&state, 80, 24);
    assert!(lines[0].starts_with(" Dae  port"), "{lines:#?}");
}

#[test]
fn no_colour_is_used_where_none_is_allowed() {
    let mut state = state();
    let coloured = |state: &TopState| {
        let terminal = drawn(state, 80, 24);
        let cells = terminal.backend().buffer().content.clone();
        let is_coloured = cells.iter().any(|cell| cell.fg != Color::Reset);
        let is_selected = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
        assert!(
            cells.iter().any(is_selected),
            "the selected row shows in any case"
        );
        is_coloured
    };
    assert!(coloured(&state));
    state.colours = false;
    assert!(!coloured(&state));
}

#[test]
fn any_size_is_drawn() {
    let mut state = state();
    for overlay in [
        Overlay::None,
        Overlay::Help,
        Overlay::Confirm(HostAction::Embed, "Gone".to_owned()),
        Overlay::FilterTable,
    ] {
        state.overlay = overlay;
        for width in [1, 5, 39, 40, 41, 60, 79, 300] {
            for height in [1, 2, 9, 10, 11, 24, 100] {
                assert_eq!(screen(&state, width, height).len(), usize::from(height));
            }
        }
    }
    let empty = TopState::new(SortColumn::Name, true);
    assert_eq!(screen(&empty, 80, 24)[0], " asking the host …");
}
