//! Listeners that are no daemons: the host asks them once, with a few bytes, or not at all. A scan always ends.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dae_tests::{Ecosystem, LIMIT, Running};
use serde_json::json;

use super::scene::{Crowd, Habit, Recorder, host_among, host_that_asks, scan};

/// The most bytes that a listener is ever sent.
const QUESTION_BYTES_MAX: usize = 16;

/// Ports of printers, which the rules exclude.
const PRINTERS: std::ops::RangeInclusive<u16> = 9100..=9107;

/// Scans three times and finds no daemon. By then the host has asked every listener that it may ask.
#[track_caller]
fn scan_thrice(ecosystem: &Ecosystem) {
    for _ in 0..3 {
        assert_eq!(scan(ecosystem), [""; 0]);
    }
}

#[test]
fn a_stranger_is_asked_once_and_briefly() {
    let strangers = [
        Recorder::start(Habit::Silent),
        Recorder::start(Habit::Says("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned())),
        Recorder::start(Habit::Says("dae\noptions\n".to_owned())),
        Recorder::start(Habit::Closes),
    ];
    let ecosystem = host_that_asks(&strangers.each_ref());
    scan_thrice(&ecosystem);
    for one in &strangers {
        assert_eq!(one.guests(), 1, "{} was asked again", one.port);
        assert!(one.heard().len() <= QUESTION_BYTES_MAX);
    }
    assert_eq!(strangers[0].heard(), b"dae\n");
}

#[test]
fn ports_that_the_config_excludes_and_printers_are_sent_nothing() {
    let (asked, excluded) = (
        Recorder::start(Habit::Silent),
        Recorder::start(Habit::Silent),
    );
    // Another program may hold some of these ports. If it holds all, only the unit tests of the rules cover printers.
    let printer = PRINTERS
        .into_iter()
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let printer = printer.map(|listener| Recorder::over(listener, Habit::Silent, &Arc::default()));
    let may_be_asked: Vec<&Recorder> = [&asked].into_iter().chain(&printer).collect();
    let ecosystem = host_that_asks(&may_be_asked);
    excluded.records(&ecosystem);
    scan_thrice(&ecosystem);
    assert_eq!(asked.guests(), 1);
    assert_eq!(excluded.guests(), 0, "{:?}", excluded.heard());
    match printer {
        Some(printer) => assert_eq!(printer.guests(), 0, "{:?}", printer.heard()),
        None => eprintln!("SKIPPED: ports 9100 to 9107 are all taken"),
    }
}

/// Another user's listener prints each guest that it gets.
#[test]
fn another_users_listener_is_sent_nothing() {
    const RECORDS: &str = "
import socket
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    guest, _ = listener.accept()
    print('a guest', guest.recv(99), flush=True)
";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can start a listener of another user");
        return;
    }
    // The other user may be unable to run the usual interpreter, which may lie in root's home.
    let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
    else {
        eprintln!("SKIPPED: no python3 that another user may run");
        return;
    };
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            python,
            "-c",
            RECORDS,
        ])
        .current_dir("/")
        .stdin(Stdio::null());
    let mut other = Running::start(&mut command);
    let port: u16 = other.line(LIMIT).parse().expect("it prints its port");
    let asked = Recorder::start(Habit::Silent);
    let ecosystem = host_among(&[port, asked.port]);
    asked.records(&ecosystem);
    scan_thrice(&ecosystem);
    assert_eq!(asked.guests(), 1);
    // This test's own guest is the first that it gets.
    drop(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens"));
    assert_eq!(other.line(LIMIT), "a guest b''");
}

#[test]
fn however_two_hundred_listeners_behave_a_scan_is_soon_over() {
    const LISTENERS: usize = 200;
    let habits = [Habit::Silent, Habit::Drips, Habit::Floods, Habit::Closes];
    let crowd = Arc::<Crowd>::default();
    let all: Vec<Recorder> = (0..LISTENERS)
        .map(|n| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            Recorder::over(listener, habits[n % habits.len()].clone(), &crowd)
        })
        .collect();
    let honest = Recorder::daemon("Honest");
    let may_be_asked: Vec<&Recorder> = all.iter().chain([&honest]).collect();
    let ecosystem = host_that_asks(&may_be_asked);
    let scan = || {
        let scan = ecosystem.cli(&["scan", "--json"]).ok().json();
        assert_eq!(scan["daemons"][0]["name"], "Honest", "{scan}");
        scan["asked"].clone()
    };
    // Half of the listeners cost half a second each. In sequence they would exceed the command line's time limit.
    assert_eq!(scan(), LISTENERS + 1);
    // The host asks 16 at a time. The count may be a little higher: a listener notices late that a guest has left.
    let most = crowd.most.load(Ordering::SeqCst);
    assert!((2..=16 + 4).contains(&most), "{most} at once");
    assert_eq!(scan(), 0, "nobody is asked again");
    assert!(all.iter().all(|one| one.guests() <= 1), "nor was before");
}

#[test]
fn who_is_full_is_given_up_on() {
    // The queue has one place, and nothing accepts its connections: further ones hang.
    let full = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .expect("a socket");
    let any = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    rustix::net::bind(&full, &any).expect("a port");
    rustix::net::listen(&full, 0).expect("it listens");
    let full = TcpListener::from(full);
    let address = full.local_addr().expect("an address");
    let guests: Vec<_> = (0..4)
        .map_while(|_| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()
        })
        .collect();
    assert!(guests.len() < 4, "the queue is full");
    let honest = Recorder::daemon("Patient");
    let ecosystem = host_among(&[address.port(), honest.port]);
    assert_eq!(scan(&ecosystem), ["Patient"]);
}

#[test]
fn an_answer_that_is_no_credential_is_shown_by_scan_and_listed_nowhere() {
    let one = Recorder::start(Habit::Says(
        "dae [{\"name\":\"\\u001b[2J\",\"pid\":1,\"port\":1}]\n".to_owned(),
    ));
    let ecosystem = host_among(&[one.port]);
    let scanned = ecosystem.cli(&["scan", "--json"]).ok().json();
    assert_eq!(scanned["daemons"], json!([]));
    let refused = &scanned["refused"][0];
    assert_eq!(refused["port"], one.port);
    assert_eq!(refused["pid"], std::process::id());
    let shown = ecosystem.cli(&["scan"]).ok();
    assert!(shown.says(&["can't be a daemon's"]), "{shown:?}");
    assert!(!shown.stderr.contains('\u{1b}'), "{shown:?}");
    assert_eq!(ecosystem.names(), ["Dae"]);
}
