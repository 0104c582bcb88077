//! The tables of `round_trips`: every server beside the bare echo, and both modes of a daemon for each kind of command.

use serde_json::Value;

use super::cells::{head, line, median, number, ratio, row, shown};

/// The servers whose ratios are shown, with the headings of their columns.
const COLUMNS: [(&str, &str); 8] = [
    ("in-process", "in-process"),
    ("subprocess", "subprocess"),
    ("static", "static"),
    ("redis RESP", "Redis module, RESP"),
    ("redis inline", "inline"),
    ("node", "Node"),
    ("relay", "relay"),
    ("naive", "naive"),
];

/// The rows: the shape, the figure, the label, and the targets in-process and in a subprocess.
const ROWS: [(&str, &str, &str, [f64; 2]); 5] = [
    ("1x1", "p50_us", "1x1 p50", [1.05, 1.5]),
    ("1x1", "cpu_us", "1x1 CPU", [1.1, 2.0]),
    ("1x64", "cpu_us", "1x64 CPU", [1.7, 3.0]),
    ("50x16", "cpu_us", "50x16 CPU", [1.7, 2.0]),
    ("1000x1", "cpu_us", "1000x1 CPU", [1.05, 1.15]),
];

/// The target for idle connections: bytes per connection, with ten thousand of them.
const IDLE_TARGET_BYTES: f64 = 1_500.0;

/// The kinds of commands, by their workloads.
const COMMANDS: [(&str, &str); 3] = [
    ("echo", "`fn`"),
    ("async-now", "`async fn` that ends at once"),
    ("async-1ms", "`async fn` that waits 1 ms"),
];

/// The figures that are shown of each kind of command, with their labels.
const FIGURES: [(&str, &str); 2] = [("cpu_us", "CPU"), ("p50_us", "p50")];

/// The modes, each with the server beside it, the member with the ratio to it, and its label.
const MODES: [(&str, &str, &str); 2] = [
    ("in-process", "to_raw", "bare echo"),
    ("subprocess", "to_in_process", "in-process"),
];

/// Returns the round trips of every server as ratios to the bare echo.
pub(super) fn ratios(kept: &Value) -> String {
    let mut text = format!(
        "Ratios to a bare tokio line echo in the same run (connections x commands in flight; an echo of 20 bytes; CPU is user and \
         system time a request of the server's processes; in square brackets the quartiles of the rounds; in round brackets the \
         aim; `~` marks a difference that is smaller than the spread, which is no result). {}, {}.\n\n",
        runs(kept),
        shown(&kept["machine"])
    );
    let heads = COLUMNS.map(|(_, head)| head);
    text += &head(&[&["figure"], &heads[..], &["bare echo"]].concat());
    for (shape, figure, label, targets) in ROWS {
        let of = |server: &str| row(kept, "echo", shape, server);
        let columns = COLUMNS.iter().enumerate();
        let cells = columns.map(|(at, (server, _))| {
            let stored = &of(server)["to_raw"][figure];
            match targets.get(at) {
                Some(target) => format!("{} ({target})", ratio(stored)),
                None => number(median(stored), 2),
            }
        });
        let raw = format!("{} µs", number(of("raw")[figure].as_f64(), 2));
        text += &line([label.to_owned()].into_iter().chain(cells).chain([raw]));
    }
    text + &idle(&kept["idle"])
}

fn idle(kept: &Value) -> String {
    let of = |server: &str| {
        let idle = super::cells::find(kept, |row| row["server"] == server);
        let [new, used] =
            ["new_bytes", "used_bytes"].map(|member| number(idle[member].as_f64(), 0));
        format!("{new} / {used}")
    };
    let columns = COLUMNS.iter().enumerate();
    let cells = columns.map(|(at, (server, _))| match at < 2 {
        true => format!("{} ({IDLE_TARGET_BYTES:.0})", of(server)),
        false => of(server),
    });
    let label = "bytes a connection, 10,000 idle, new / used".to_owned();
    line([label].into_iter().chain(cells).chain([of("raw")]))
}

/// Returns the days of the runs, and the fewest rounds.
fn runs(kept: &Value) -> String {
    let rows = || kept["rows"].as_array().into_iter().flatten();
    let day = |row: &Value| {
        row["date"]
            .as_str()
            .or(kept["date"].as_str())
            .map(str::to_owned)
    };
    let (first, last) = (rows().filter_map(day).min(), rows().filter_map(day).max());
    let rounds = rows().filter_map(|row| row["rounds"].as_array().map(Vec::len));
    let rounds = rounds.min().unwrap_or_default();
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    match first == last {
        true => format!("{first}, {rounds} rounds"),
        false => format!("{first} to {last}, at least {rounds} rounds"),
    }
}

/// Returns the kinds of commands in both modes, for each shape.
pub(super) fn commands(kept: &Value) -> String {
    let shapes = crate::SHAPES.map(crate::Shape::name);
    let mut text = "\nThe kinds of commands in both modes, each as a ratio to the server beside it. For a command that waits, \
                    the bare echo waits as long.\n\n"
        .to_owned();
    let heads = ["the command", "figure", "mode", "beside"].map(str::to_owned);
    text += &head(&[&heads[..], &shapes[..]].concat());
    for (workload, command) in COMMANDS {
        if row(kept, workload, "1x1", "in-process").is_null() {
            continue;
        }
        let of = |cells: [&str; 4], each: &dyn Fn(&str) -> String| {
            let shapes = shapes.iter().map(|shape| each(shape));
            line(cells.map(str::to_owned).into_iter().chain(shapes))
        };
        for (figure, label) in FIGURES {
            for (server, member, beside) in MODES {
                text += &of([command, label, server, beside], &|shape| {
                    ratio(&row(kept, workload, shape, server)[member][figure])
                });
            }
            text += &of([command, label, "bare echo", ""], &|shape| {
                let raw = &row(kept, workload, shape, "raw")[figure];
                format!("{} µs", number(raw.as_f64(), 2))
            });
        }
    }
    text
}
