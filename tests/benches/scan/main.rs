//! The cost of the scan for foreign daemons: `cargo bench -p dae-tests --bench scan`.
//!
//! A thousand sockets listen on this machine, in one process besides the host. In one run they are daemons that answer
//! at once, in the other they are strangers that never send anything. The first scan goes through the processes,
//! connects and asks. Every further scan finds nothing new, as an idle host does every five seconds. The figures are
//! the time to the answer and the CPU time of the host.
//!
//! The time for a thousand strangers follows from the rules: a timeout of half a second, sixteen at a time. Flags after
//! `--`: `--sockets N`, `--scans N`. All figures go to `target/bench/scan.json`.

#[path = "../figures/mod.rs"]
mod figures;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dae_tests::{Artefacts, Control, Ecosystem, process};
use figures::command_line;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOCKETS_DEFAULT: u16 = 1_000;

/// The number of scans that find nothing new: enough for a rough p99.
const SCANS_DEFAULT: u32 = 200;

/// The first port of the sockets. Further ports follow in order, below those that the system assigns.
const PORT_FIRST: u16 = 20_000;

/// The longest time for a first scan. With a thousand strangers it takes half a minute.
const FIRST_MAX: Duration = Duration::from_secs(300);

/// The largest time in the histogram, in microseconds.
const TIME_US_MAX: u64 = 300_000_000;

/// The significant digits of a time.
const DIGITS: u8 = 3;

fn main() -> ExitCode {
    let Some(words) = command_line::words("scan") else {
        return ExitCode::SUCCESS;
    };
    command_line::end("scan", Size::read(&words).and_then(|size| bench(&size)))
}

struct Size {
    sockets: u16,
    scans: u32,
}

impl Size {
    fn read(words: &[String]) -> Result<Self, String> {
        let flags = [
            ("--sockets", SOCKETS_DEFAULT.into()),
            ("--scans", SCANS_DEFAULT.into()),
        ];
        let [sockets, scans] = command_line::numbers(words, flags)?;
        let wrong = |error: std::num::TryFromIntError| error.to_string();
        Ok(Size {
            sockets: sockets.try_into().map_err(wrong)?,
            scans: scans.try_into().map_err(wrong)?,
        })
    }
}

fn bench(size: &Size) -> Result<(), String> {
    // Each socket needs a file descriptor, and so does each of its guests.
    figures::allow_descriptors(u64::from(size.sockets) * 2 + 100)?;
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9}",
        "ms", "first", "its CPU", "p50", "CPU"
    );
    let mut figures = json!({"sockets": size.sockets, "scans": size.scans});
    for (name, habit) in [("daemons", Habit::Daemon), ("strangers", Habit::Stranger)] {
        let crowd = Crowd::start(size.sockets, habit)?;
        let costs = Costs::of(&crowd, size.scans)?;
        println!("{:<34} {}", format!("{} {name}", size.sockets), costs.row());
        figures[name] = costs.json();
    }
    figures::keep("scan", figures)
}

#[derive(Clone, Copy)]
enum Habit {
    /// Answers the command `dae`.
    Daemon,
    /// Sends nothing.
    Stranger,
}

/// Listening sockets in this process, served by one thread until this value is dropped.
struct Crowd {
    ports: Vec<u16>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Crowd {
    fn start(count: u16, habit: Habit) -> Result<Self, String> {
        let bind = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
        let free = (PORT_FIRST..).filter_map(|port| Some((port, bind(port)?)));
        let listeners: Vec<_> = free.take(count.into()).collect();
        let ports: Vec<u16> = listeners.iter().map(|(port, _)| *port).collect();
        if ports.len() < usize::from(count) {
            return Err(format!(
                "there are {} free ports from {PORT_FIRST} on",
                ports.len()
            ));
        }
        let is_over = Arc::<AtomicBool>::default();
        let until = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || serve_all(listeners, habit, &until));
        Ok(Crowd {
            ports,
            is_over,
            thread: Some(thread),
        })
    }

    /// Returns a config with which the host scans no other ports of this machine.
    fn config(&self) -> Value {
        let (first, last) = (self.ports[0], self.ports[self.ports.len() - 1]);
        let gaps = (first..last).filter(|port| self.ports.binary_search(port).is_err());
        let mut never: Vec<Value> = gaps.map(Value::from).collect();
        never.push(json!(format!("1-{}", first - 1)));
        never.push(json!(format!("{}-65535", last + 1)));
        json!({"scan_ms": 0, "scan_ports_never": never})
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // The next crowd uses the same ports, so wait for the thread.
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve_all(
    listeners: Vec<(u16, std::net::TcpListener)>,
    habit: Habit,
    is_over: &AtomicBool,
) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(async {
        for (port, listener) in listeners {
            listener.set_nonblocking(true)?;
            tokio::spawn(listen(TcpListener::from_std(listener)?, port, habit));
        }
        while !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
}

async fn listen(listener: TcpListener, port: u16, habit: Habit) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, port, habit));
    }
}

async fn serve(mut stream: TcpStream, port: u16, habit: Habit) -> std::io::Result<()> {
    let pid = std::process::id();
    let reply = format!("dae [{{\"name\":\"Foreign-{port}\",\"pid\":{pid},\"port\":{port}}}]\n");
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).await? > 0 {
        if matches!(habit, Habit::Daemon) {
            stream.write_all(reply.as_bytes()).await?;
        }
    }
    Ok(())
}

/// The costs of one host's scans.
struct Costs {
    first: Cost,
    repeats: Histogram<u64>,
    repeats_cpu_ms: f64,
}

struct Cost {
    ms: f64,
    cpu_ms: f64,
}

impl Costs {
    fn of(crowd: &Crowd, scans: u32) -> Result<Self, String> {
        let mut ecosystem = Ecosystem::asleep_with(Artefacts::released());
        ecosystem.configure(&crowd.config());
        ecosystem.wake(&[]);
        let mut control = ecosystem.control();
        control.be_patient(FIRST_MAX);
        let first = scan(&ecosystem, &mut control, crowd.ports.len() as u64)?;
        let mut costs = Costs {
            first,
            repeats: Histogram::new_with_max(TIME_US_MAX, DIGITS).expect("a range that is one"),
            repeats_cpu_ms: 0.0,
        };
        for _ in 0..scans {
            let cost = scan(&ecosystem, &mut control, 0)?;
            costs.repeats.saturating_record((cost.ms * 1e3) as u64);
            costs.repeats_cpu_ms += cost.cpu_ms / f64::from(scans);
        }
        Ok(costs)
    }

    fn p50_ms(&self) -> f64 {
        self.repeats.value_at_quantile(0.5) as f64 / 1e3
    }

    fn row(&self) -> String {
        let Cost { ms, cpu_ms } = self.first;
        let (p50, cpu) = (self.p50_ms(), self.repeats_cpu_ms);
        format!("{ms:>9.1} {cpu_ms:>9.1} {p50:>9.2} {cpu:>9.2}")
    }

    fn json(&self) -> Value {
        let quantile_ms = |quantile| self.repeats.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "first": {"ms": self.first.ms, "cpu_ms": self.first.cpu_ms},
            "repeat": {
                "p50_ms": self.p50_ms(), "p99_ms": quantile_ms(0.99), "cpu_ms": self.repeats_cpu_ms,
            },
        })
    }
}

/// Makes one scan, and checks that it asked `asks` sockets.
fn scan(ecosystem: &Ecosystem, control: &mut Control, asks: u64) -> Result<Cost, String> {
    let cpu_ns = process::cpu_ns(ecosystem.pid());
    let begun = Instant::now();
    let scan = control.ask_plainly("scan");
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    let scan = scan.map_err(|fault| fault.message)?;
    if scan["asked"] != asks {
        return Err(format!(
            "it should have asked {asks}, and asked {}",
            scan["asked"]
        ));
    }
    let cpu_ms = (process::cpu_ns(ecosystem.pid()) - cpu_ns) as f64 / 1e6;
    Ok(Cost { ms, cpu_ms })
}
