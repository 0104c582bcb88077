//! Shared parts of the discovery tests: hosts that may ask at few ports, and listeners that record what they hear.
//!
//! A developer may well have another host running, which asks these listeners too. So a listener records the guests of
//! one host only, and serves others without recording them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use dae_tests::{Ecosystem, process};
use serde_json::{Value, json};

/// The pause between two looks of a listener's thread.
const PAUSE: Duration = Duration::from_millis(2);

/// Returns a host's config that lets it ask at these ports only, and only on request.
pub(crate) fn only(ports: &[u16]) -> Value {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    let mut never = Vec::new();
    let mut from = 1_u32;
    for port in ports.into_iter().map(u32::from).chain([65_536]) {
        if from < port {
            never.push(json!(format!("{from}-{}", port - 1)));
        }
        from = port + 1;
    }
    json!({"scan_ms": 0, "scan_ports_never": never})
}

/// Starts a host that may ask at these ports only.
pub(crate) fn host_among(ports: &[u16]) -> Ecosystem {
    Ecosystem::start_configured(&only(ports))
}

/// Starts a host that may ask these listeners only, and makes them record its guests.
pub(super) fn host_that_asks(recorders: &[&Recorder]) -> Ecosystem {
    let ports: Vec<u16> = recorders.iter().map(|one| one.port).collect();
    let ecosystem = host_among(&ports);
    recorders.iter().for_each(|one| one.records(&ecosystem));
    ecosystem
}

/// Makes a host scan now. Returns the names of the foreign daemons that it lists.
#[track_caller]
pub(crate) fn scan(ecosystem: &Ecosystem) -> Vec<String> {
    let scan = ecosystem.cli(&["scan", "--json"]).ok().json();
    let rows = scan["daemons"].as_array().expect("rows").iter();
    let name = |row: &Value| row["name"].as_str().expect("a name").to_owned();
    rows.map(name).collect()
}

/// The behaviour of a listener towards a guest.
#[derive(Debug, Clone)]
pub(super) enum Habit {
    /// Sends nothing, and waits for the guest to leave.
    Silent,
    /// Answers the first bytes with this text.
    Says(String),
    /// Sends one byte after the other without ending a line.
    Drips,
    /// Sends a megabyte at once without ending a line.
    Floods,
    /// Closes the connection before it hears anything.
    Closes,
}

/// A listener in this process that records all it hears.
pub(super) struct Recorder {
    pub(super) port: u16,
    record: Arc<Record>,
    habit: Arc<Mutex<Habit>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    heard: Mutex<Vec<u8>>,
    guests: AtomicUsize,
    is_over: AtomicBool,
    /// The process id of the host whose guests are recorded; 0 for none.
    host: AtomicU32,
}

/// The number of guests of all recorders at the moment, and the highest so far.
#[derive(Default)]
pub(super) struct Crowd {
    now: AtomicUsize,
    pub(super) most: AtomicUsize,
}

impl Recorder {
    /// Listens at a port that the system chooses.
    pub(super) fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self::over(listener, habit, &Arc::default())
    }

    /// Listens with that socket.
    pub(super) fn over(listener: TcpListener, habit: Habit, crowd: &Arc<Crowd>) -> Self {
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("a socket option");
        let record = Arc::<Record>::default();
        let habit = Arc::new(Mutex::new(habit));
        let (to_thread, habits) = (Arc::clone(&record), Arc::clone(&habit));
        let crowd = Arc::clone(crowd);
        let thread = std::thread::spawn(move || listen(&listener, &to_thread, &habits, &crowd));
        Recorder {
            port,
            record,
            habit,
            thread: Some(thread),
        }
    }

    /// Returns a listener that answers as an honest daemon of that name in this process.
    pub(super) fn daemon(name: &str) -> Self {
        let recorder = Self::start(Habit::Silent);
        recorder.becomes(Habit::Says(recorder.credential(name)));
        recorder
    }

    /// Returns an honest reply to `dae`.
    pub(super) fn credential(&self, name: &str) -> String {
        let pid = std::process::id();
        let credential = json!([{"name": name, "pid": pid, "port": self.port}]);
        format!("dae {credential}\n")
    }

    /// Records that host's guests and no others'.
    pub(super) fn records(&self, ecosystem: &Ecosystem) {
        self.record.host.store(ecosystem.pid(), Ordering::SeqCst);
    }

    pub(super) fn becomes(&self, habit: Habit) {
        *self.habit.lock().expect("whole") = habit;
    }

    /// Returns all bytes that all guests have sent.
    pub(super) fn heard(&self) -> Vec<u8> {
        self.record.heard.lock().expect("whole").clone()
    }

    /// Returns the number of recorded guests.
    pub(super) fn guests(&self) -> usize {
        self.record.guests.load(Ordering::SeqCst)
    }
}

impl Record {
    /// Returns whether a guest comes from the host. The kernel knows the process at its other end while the connection
    /// exists. A guest that is gone by now counts as the host's: on a busy machine a probe may be over so soon.
    fn is_of_host(&self, peer: SocketAddr) -> bool {
        let host = self.host.load(Ordering::SeqCst);
        match peer {
            SocketAddr::V4(peer) if host != 0 => {
                process::has_connection_from(host, peer).unwrap_or(true)
            }
            _ => false,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.record.is_over.store(true, Ordering::SeqCst);
        // The port is free once the thread has ended.
        self.thread.take().map(JoinHandle::join);
    }
}

fn listen(listener: &TcpListener, record: &Arc<Record>, habit: &Mutex<Habit>, crowd: &Arc<Crowd>) {
    while !record.is_over.load(Ordering::SeqCst) {
        let Ok((stream, peer)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let habit = habit.lock().expect("whole").clone();
        if !record.is_of_host(peer) {
            let nowhere = Arc::<Record>::default();
            std::thread::spawn(move || serve(stream, &habit, &nowhere));
            continue;
        }
        record.guests.fetch_add(1, Ordering::SeqCst);
        let now = crowd.now.fetch_add(1, Ordering::SeqCst) + 1;
        crowd.most.fetch_max(now, Ordering::SeqCst);
        let (record, crowd) = (Arc::clone(record), Arc::clone(crowd));
        std::thread::spawn(move || {
            serve(stream, &habit, &record);
            crowd.now.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Serves one guest until it leaves, the connection fails or the test is over.
fn serve(mut stream: TcpStream, habit: &Habit, record: &Record) {
    if matches!(habit, Habit::Closes) {
        return;
    }
    stream.set_nonblocking(false).expect("a socket option");
    stream
        .set_read_timeout(Some(PAUSE))
        .expect("a socket option");
    let mut bytes = [0; 256];
    let mut has_spoken = false;
    while !record.is_over.load(Ordering::SeqCst) {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                let mut heard = record.heard.lock().expect("whole");
                heard.extend_from_slice(&bytes[..count]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        let said = match habit {
            Habit::Says(text) if !has_spoken => stream.write_all(text.as_bytes()),
            Habit::Floods if !has_spoken => stream.write_all(&vec![b'x'; 1 << 20]),
            Habit::Drips => stream.write_all(b"d"),
            _ => Ok(()),
        };
        has_spoken = true;
        if said.is_err() {
            return;
        }
    }
}
