//! Hostile or ignorant guests: HTTP, endless lines, floods, a thousand at once, crash after crash.
//!
//! Each test keeps a second, honest guest beside the hostile one: no guest may slow down another.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dae_tests::{Ecosystem, Guest, LIMIT, process, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

/// The longest line that the protocol allows, before its LF (bytes).
const LINE_BYTES_MAX: usize = 1 << 20;

/// More bytes than the kernel's buffers of a loopback connection (tens of MB at most) and the host's queue (1 MiB)
/// hold.
const FLOOD_BYTES_MAX: usize = 256 << 20;

fn vectors() -> (Ecosystem, Guest) {
    let ecosystem = Ecosystem::start();
    let guest = ecosystem.install("Vectors", "vectors", &[]);
    (ecosystem, guest)
}

/// Asserts that the host serves the honest guest while the other one goes on, which outlasts every wait here.
#[track_caller]
fn served_at_once(honest: &mut Guest) {
    assert_eq!(honest.ask("echo", &json!(["honest"])), "honest");
}

#[test]
fn another_protocol_drives_nothing() {
    let (ecosystem, mut honest) = vectors();
    let calls = |ecosystem: &Ecosystem| {
        ecosystem.status("Vectors")["calls"]
            .as_u64()
            .expect("a count")
    };
    let before = calls(&ecosystem);
    let requests = [
        "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\necho [1]\n",
        "POST /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\necho [1]\n",
        "OPTIONS * HTTP/1.0\r\n\r\necho [1]\n",
        "Host: localhost\r\necho [1]\n",
        "\u{16}\u{3}\u{1}\necho [1]\n",
        "SSH-2.0-x\r\necho [1]\n",
        "EHLO x\r\necho [1]\n",
    ];
    for request in requests {
        let mut page = ecosystem.guest("Vectors");
        page.send(request);
        page.expect_closed();
    }
    assert_eq!(
        calls(&ecosystem),
        before,
        "something of another protocol was run"
    );
    until(LIMIT, "the log has a line for each protocol", || {
        let records = ecosystem.cli(&["logs", "-n", "1000"]).ok().stdout;
        let told = ["HTTP", "TLS", "SSH", "SMTP", "127.0.0.1:"];
        told.iter().all(|word| records.contains(word))
    });
    served_at_once(&mut honest);
}

#[test]
fn the_longest_line_is_taken_and_one_byte_more_is_not() {
    let (_ecosystem, mut guest) = vectors();
    let frame = "echo [\"\"]".len();
    let text = "x".repeat(LINE_BYTES_MAX - frame);
    assert_eq!(guest.ask("echo", &json!([text])), json!(text));

    guest.send(format!("echo [\"{text}x\"]\necho [\"after\"]\n"));
    assert_eq!(
        guest.message().result().expect_err("an error").code,
        "line-too-long"
    );
    guest.expect("echo [\"after\"]");
}

#[test]
fn an_endless_line_takes_no_memory() {
    let (ecosystem, mut guest) = vectors();
    let before = process::resident_bytes(ecosystem.pid());
    let chunk = vec![b'x'; LINE_BYTES_MAX];
    for _ in 0..64 {
        guest.send(&chunk);
    }
    let grown = process::resident_bytes(ecosystem.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "64 MiB of one line cost {grown} bytes");
    guest.send("\necho [\"after\"]\n");
    assert_eq!(
        guest.message().result().expect_err("an error").code,
        "line-too-long"
    );
    guest.expect("echo [\"after\"]");
}

#[test]
fn half_a_line_holds_up_nobody_and_may_be_ended_later() {
    let (ecosystem, mut half) = vectors();
    half.send("echo [\"ha");
    let mut honest = ecosystem.guest("Vectors");
    served_at_once(&mut honest);
    half.send("lf\"]\n");
    half.expect("echo [\"half\"]");
}

#[test]
#[ignore = "takes the protocol's whole minute"]
fn half_a_line_older_than_a_minute_closes_the_connection() {
    let (ecosystem, mut half) = vectors();
    let mut quiet = ecosystem.guest("Vectors");
    quiet.expect_alive();
    half.send("echo [\"ha");
    let start = Instant::now();
    while let Some(line) = half.line_within(Duration::from_secs(75)) {
        assert!(line.starts_with("error "), "{line}");
    }
    assert!(
        start.elapsed() > Duration::from_secs(55),
        "closed after {:?}",
        start.elapsed()
    );
    quiet.expect_alive();
}

/// Sends without reading until the host takes no more. Returns the number of whole lines that it took.
fn flood(stream: &TcpStream, line: &[u8]) -> usize {
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .expect("a socket option");
    let batch = line.repeat(1000);
    let (mut stream, mut sent) = (stream, 0);
    loop {
        match stream.write(&batch[sent % line.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the host closed on a guest that is only slow to read: {error}"),
        }
        assert!(
            sent < FLOOD_BYTES_MAX,
            "the host reads on while nobody takes its replies"
        );
    }
    // The last line may be incomplete.
    sent / line.len()
}

#[test]
fn a_guest_that_does_not_read_is_not_read_from() {
    let (ecosystem, mut honest) = vectors();
    let before = process::resident_bytes(ecosystem.pid());
    let mut rude = ecosystem.guest("Vectors");
    let line = format!("echo [\"{}\"]\n", "x".repeat(1013));
    let whole_lines = flood(rude.stream(), line.as_bytes());
    served_at_once(&mut honest);
    let grown = process::resident_bytes(ecosystem.pid()).saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "a guest that reads nothing cost the host {grown} bytes"
    );
    // Once the guest reads, it gets every reply in order.
    for _ in 0..whole_lines {
        assert_eq!(format!("{}\n", rude.line()), line);
    }
    rude.stream()
        .set_write_timeout(Some(LIMIT))
        .expect("a socket option");
    // Ends the incomplete line, and sends one more.
    rude.send("\necho#after [1]\n");
    until(LIMIT, "the flood is over", || {
        rude.message().tag.as_deref() == Some("after")
    });
}

#[test]
fn a_guest_that_gets_more_events_than_may_wait_is_told_and_closed() {
    let (ecosystem, mut honest) = vectors();
    let mut lazy = ecosystem.guest("Vectors");
    // A single sync command sends all of them: the guest can't take any event before all are queued.
    lazy.send("push [3000000]\n");
    let (mut ticks, mut last) = (0_u64, String::new());
    while let Some(line) = lazy.line_within(LIMIT) {
        ticks += u64::from(line.starts_with("tick "));
        last = line;
    }
    assert!(
        (1..3_000_000).contains(&ticks) && last.contains("slow-guest"),
        "after {ticks} events the last line was {last}"
    );
    served_at_once(&mut honest);
}

#[test]
fn a_guest_that_takes_no_events_is_given_up() {
    let (ecosystem, mut honest) = vectors();
    let mut deaf = ecosystem.guest("Vectors");
    let before = process::resident_bytes(ecosystem.pid());
    deaf.send("push [3000000]\n");
    until(LIMIT, "the host gives the guest up", || {
        served_at_once(&mut honest);
        ecosystem.status("Vectors")["guests"] == 1
    });
    let grown = process::resident_bytes(ecosystem.pid()).saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "a guest that was given up left {grown} bytes"
    );
}

#[test]
fn a_thousand_guests_at_once() {
    room_for_descriptors();
    let (ecosystem, mut honest) = vectors();
    let port = ecosystem.port_of("Vectors");
    let mut guests: Vec<Guest> = (0..1000).map(|_| Guest::connect(port)).collect();
    for (number, guest) in guests.iter_mut().enumerate() {
        guest.send(format!("echo [{number}]\n"));
    }
    for (number, guest) in guests.iter_mut().enumerate() {
        guest.expect(&format!("echo [{number}]"));
    }
    assert!(ecosystem.status("Vectors")["guests"].as_u64() >= Some(1001));
    drop(guests);
    served_at_once(&mut honest);
    until(LIMIT, "the host notices that they have gone", || {
        ecosystem.status("Vectors")["guests"] == 1
    });
}

/// Allows for a thousand connections of this process, beside the descriptors of its other tests.
fn room_for_descriptors() {
    let now = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: now.maximum,
            maximum: now.maximum,
        },
    )
    .expect("up to the hard limit");
}

#[test]
fn connections_that_say_nothing_come_and_go() {
    let (ecosystem, mut honest) = vectors();
    let port = ecosystem.port_of("Vectors");
    for _ in 0..2000 {
        drop(Guest::connect(port));
    }
    served_at_once(&mut honest);
    until(LIMIT, "none of them is left", || {
        ecosystem.status("Vectors")["guests"] == 1
    });
}

#[test]
fn a_hundred_thousand_crashes_cost_no_memory() {
    let (ecosystem, mut honest) = vectors();
    let mut crasher = ecosystem.guest("Vectors");
    // After the first tenth, buffers, log files and the allocator have reached their size.
    crash(&mut crasher, 10_000);
    let before = process::resident_bytes(ecosystem.pid());
    crash(&mut crasher, 90_000);
    let grown = process::resident_bytes(ecosystem.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "90,000 crashes cost {grown} bytes");
    served_at_once(&mut honest);
}

/// Sends panics, a hundred at a time, and asserts that each is answered. An echo follows every fifth: ten panics in a
/// row would end the instance.
fn crash(guest: &mut Guest, times: usize) {
    const IN_A_ROW: usize = 5;
    const BATCH: usize = 20;
    let row = format!("{}echo [1]\n", "panic\n".repeat(IN_A_ROW));
    for at in 0..times / BATCH {
        if at % IN_A_ROW == 0 {
            guest.send(row.repeat(BATCH));
        }
        for nth in 1..=BATCH + BATCH / IN_A_ROW {
            if nth % (IN_A_ROW + 1) == 0 {
                assert!(guest.message().result().is_ok(), "an echo is answered well");
                continue;
            }
            let fault = guest
                .message()
                .result()
                .expect_err("a panic is answered with an error");
            assert_eq!(
                (fault.command.as_str(), fault.code.as_str()),
                ("panic", "crashed")
            );
        }
    }
}

#[test]
fn noise_is_answered_with_errors_and_never_with_silence() {
    let (ecosystem, mut honest) = vectors();
    // A fixed seed (xorshift): a failure can be reproduced.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    for _ in 0..200 {
        let mut guest = ecosystem.guest("Vectors");
        let mut noise = b"x".to_vec();
        noise.extend((0..500).map(|_| byte()).filter(|byte| *byte != 0xFF));
        guest.send(&noise);
        guest.send("\necho#end [\"noise\"]\n");
        until(LIMIT, "the host answers after noise", || {
            guest.message().tag.as_deref() == Some("end")
        });
    }
    served_at_once(&mut honest);
}
