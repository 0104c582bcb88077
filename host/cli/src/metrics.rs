//! `run --metrics ADDRESS`: the host's measures over HTTP, in the text format of Prometheus.
//!
//! It is off by default. Anyone who can connect can read, so an address that other machines reach has to be asked for
//! twice. A web page can't read through a browser: see `request` for the check of the `Host` header.
//!
//! A request is bounded in its size and in its time, and so is the number of connections. Few clients are sent the
//! metrics at once, since that takes memory. A client that hangs gives way to others: see `places`. Each connection gets
//! one answer, so that none is held open between two scrapes. The text is written anew for each request, by one thread
//! at a time, and nothing is gathered while nobody asks.

mod exposition;
mod places;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::exit::Fault;
use dae_host::Dae;
use dae_runtime::os::port;
use dae_runtime::threads::fd_limits;
use dae_store::blocking;
use dae_store::tasks;
use places::{Place, Places};
use request::RequestFault;

/// The connections in all. Each takes a descriptor.
const CONNECTIONS_MAX: usize = 128;
/// The connections whose request has not come yet; fewer than all, so that they don't keep out those with a request.
const HEADERS_MAX: usize = 64;
/// The time that a client has for its request in any case. A scraper sends it at once.
const HEADER_TIME_MIN: Duration = Duration::from_millis(500);
/// The time that a client has for its request if nobody waits for its place.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// The clients that are sent the metrics at once. Two scrapers and a person are usual; each answer takes memory.
const ANSWERS_MAX: usize = 4;
/// The time that a client has for the metrics in any case. A scraper waits 10 s by default.
const ANSWER_TIME_MIN: Duration = Duration::from_secs(5);
/// The longest time for a connection in all.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// The connections that the kernel queues.
const BACKLOG: u32 = 128;
/// The most bytes of a request's header; the least that hyper allows.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// The most lines of a request's header. A browser sends about twenty.
const HEADER_LINES_MAX: usize = 64;
/// The pause after a failed accept, which fails when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The options of `run` about metrics.
#[derive(Debug, clap::Args)]
pub(super) struct MetricsArgs {
    /// Serve metrics for Prometheus over HTTP at this address, such as 127.0.0.1:9464; every local program can read them
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Let the address of --metrics be one that other machines reach
    #[arg(long, requires = "metrics")]
    metrics_anywhere: bool,
}

impl MetricsArgs {
    /// Returns the address of `--metrics`.
    ///
    /// # Errors
    /// Other machines reach it, and nothing says that they may.
    pub(super) fn address(&self) -> Result<Option<SocketAddr>> {
        match self.metrics {
            Some(address) if !address.ip().is_loopback() && !self.metrics_anywhere => {
                let text = format!(
                    "--metrics {address}: other machines may reach this address, and everyone who reaches it can read the \
                     metrics; choose one of this machine alone, such as 127.0.0.1:{}, or add --metrics-anywhere",
                    address.port()
                );
                Err(Fault::Usage(text).into())
            }
            address => Ok(address),
        }
    }

    /// Returns the options as words of a command line, for another `run`.
    pub(super) fn words(&self) -> Vec<String> {
        let metrics = self
            .metrics
            .map(|address| ["--metrics".to_owned(), address.to_string()]);
        let anywhere = self
            .metrics_anywhere
            .then(|| "--metrics-anywhere".to_owned());
        metrics.into_iter().flatten().chain(anywhere).collect()
    }
}

/// Reads an address. `localhost` is the loopback address that every machine has. An address of IPv4 that is written as
/// one of IPv6 is the same address.
fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.split_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => {
            format!("{}:{port}", Ipv4Addr::LOCALHOST)
        }
        _ => text.to_owned(),
    };
    match numeric.parse::<SocketAddr>() {
        Ok(address) => Ok(SocketAddr::new(address.ip().to_canonical(), address.port())),
        Err(_) => Err(
            "expected an IP address or localhost, a colon and a port, such as 127.0.0.1:9464 or [::1]:9464"
                .to_owned(),
        ),
    }
}

/// Takes the address. Connections wait until a server serves them.
///
/// # Errors
/// Another program has the address, or this machine doesn't have it.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = port::bind_to(address).and_then(|socket| socket.listen(BACKLOG));
    listener.map_err(|error| {
        let is_taken = port::is_taken(&error);
        let error = anyhow::Error::from(error);
        match is_taken {
            true => error.context(format!(
                "another program listens on {address}, the address of --metrics; choose another port, or 0 for any free one"
            )),
            false => error.context(format!("cannot listen on {address}, the address of --metrics")),
        }
    })
}

/// A server of metrics, until it is dropped.
#[derive(Debug)]
pub(super) struct MetricsServer(AbortHandle);

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl MetricsServer {
    /// Serves the measures of an ecosystem.
    pub(super) fn start(listener: TcpListener, dae: &Dae) -> Result<MetricsServer> {
        let address = listener.local_addr().context("cannot serve metrics")?;
        tracing::info!("metrics are served on http://{address}/metrics");
        let (listener, site) = (Arc::new(listener), Arc::new(Site::of(dae)));
        let make = move || accept(Arc::clone(&listener), Arc::clone(&site));
        let task = tasks::keep_alive(&Handle::current(), "the server of metrics", make);
        Ok(MetricsServer(task.abort_handle()))
    }
}

/// The parts that all requests share.
#[derive(Debug)]
struct Site {
    dae: Dae,
    connections: Arc<Semaphore>,
    headers: Arc<Places>,
    answers: Arc<Places>,
    /// Held while the text is written.
    turn: Mutex<()>,
}

impl Site {
    fn of(dae: &Dae) -> Self {
        Site {
            dae: dae.clone(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            headers: Places::new(HEADERS_MAX, HEADER_TIME_MIN),
            answers: Places::new(ANSWERS_MAX, ANSWER_TIME_MIN),
            turn: Mutex::default(),
        }
    }

    /// Returns the metrics as they are now.
    ///
    /// # Errors
    /// The host is ending, or has no thread for the work.
    async fn text(&self) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        let dae = self.dae.clone();
        blocking::run(move || exposition::text(dae.measure())).await
    }
}

/// Accepts and serves connections until the returned future is dropped, which also ends those in progress.
async fn accept(listener: Arc<TcpListener>, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&site.connections).acquire_owned().await {
        // Drops the results of finished connections, which would pile up in the set.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (client, site) = (Scraper::of(&site).await, Arc::clone(&site));
                let served = async move {
                    serve(stream, &client, &site).await;
                    drop(permit);
                };
                connections.spawn(tasks::logged("a request for metrics", served));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &io::Error) {
    if !fd_limits::grow_after(error) {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// A client and its place: one for its request, and then one for the answer.
#[derive(Debug)]
struct Scraper {
    place: Mutex<Option<Place>>,
    place_lost: Arc<Notify>,
}

impl Scraper {
    async fn of(site: &Site) -> Self {
        let place_lost = Arc::new(Notify::new());
        Scraper {
            place: Mutex::new(Some(site.headers.take(&place_lost).await)),
            place_lost,
        }
    }

    /// Gives up the place of a client whose request has come.
    async fn has_asked(&self) {
        *self.place.lock().await = None;
    }

    /// Takes a place for the answer, which is held until the answer is sent.
    async fn is_answered(&self, site: &Site) {
        *self.place.lock().await = Some(site.answers.take(&self.place_lost).await);
    }
}

/// Serves one request. For a malformed or too large one, hyper sends an error response or closes the connection.
async fn serve(stream: TcpStream, client: &Scraper, site: &Site) {
    let Ok(here) = stream.local_addr() else {
        return;
    };
    let service = service_fn(async |request| {
        client.has_asked().await;
        Ok::<_, Infallible>(answer(&request, here, (client, site)).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .half_close(true)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error is the client's.
        _ = timeout(CONNECTION_TIME_MAX, connection) => {}
        () = client.place_lost.notified() => {}
    }
}

async fn answer(
    request: &Request<Incoming>,
    here: SocketAddr,
    (client, site): (&Scraper, &Site),
) -> Response<String> {
    if let Err(fault) = request::check(request, here.ip()) {
        return refused(fault, here);
    }
    client.is_answered(site).await;
    match site.text().await {
        Ok(text) => {
            let kind = HeaderValue::from_static(CONTENT_TYPE);
            response(StatusCode::OK, kind, text)
        }
        Err(reason) => {
            let text = format!("there are no metrics at present: {reason}\n");
            response(StatusCode::SERVICE_UNAVAILABLE, plain(), text)
        }
    }
}

fn refused(fault: RequestFault, here: SocketAddr) -> Response<String> {
    let text = format!(
        "{}; read the metrics at http://{here}/metrics\n",
        fault.reason()
    );
    let mut response = response(fault.status(), plain(), text);
    if fault == RequestFault::Method {
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn plain() -> HeaderValue {
    HeaderValue::from_static("text/plain; charset=utf-8")
}

fn response(status: StatusCode, kind: HeaderValue, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_host::dae::{CommandMeasures, DaemonMeasures, GuestMeasures, Measures, OwnProcess};
    use dae_host::report::Mode;

    #[test]
    fn an_address_is_read_or_refused_with_what_was_expected() {
        for (text, expected) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("127.0.0.2:0", "127.0.0.2:0"),
            ("localhost:9464", "127.0.0.1:9464"),
            ("LocalHost:9464", "127.0.0.1:9464"),
            ("[::1]:9464", "[::1]:9464"),
            ("[::ffff:127.0.0.1]:9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("[::]:9464", "[::]:9464"),
        ] {
            let read = address(text).map(|address| address.to_string());
            assert_eq!(read.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "9464",
            ":9464",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "localhost",
            "localhost:http",
            "::1:9464",
            "evil.example:9464",
            "http://127.0.0.1:9464",
        ] {
            let refused = address(text).unwrap_err();
            assert!(refused.contains("127.0.0.1:9464"), "{text}: {refused}");
        }
    }

    #[test]
    fn an_address_that_others_reach_needs_a_second_option() {
        for (text, is_local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("[::ffff:0.0.0.0]:1", false),
            ("192.0.2.1:1", false),
        ] {
            for metrics_anywhere in [false, true] {
                let metrics = Some(address(text).unwrap());
                let args = MetricsArgs {
                    metrics,
                    metrics_anywhere,
                };
                let is_taken = args.address().is_ok();
                assert_eq!(is_taken, is_local || metrics_anywhere, "{text}");
            }
        }
    }

    /// Returns the metrics of one daemon with those names.
    fn text_of(name: &str, plugin: &str, version: &str) -> String {
        let daemon = DaemonMeasures {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            version: version.to_owned(),
            mode: Mode::InProcess,
            state: "ready",
            is_up: true,
            commands: CommandMeasures::default(),
            guests: GuestMeasures::default(),
            changes: None,
        };
        exposition::text(Measures {
            daemons: vec![daemon],
            process: OwnProcess::default(),
        })
    }

    #[test]
    fn a_name_cannot_break_a_line_or_make_it_long() {
        let lines = text_of("a", "b", "1").lines().count();
        for odd in [
            "quote\"s",
            "back\\slash",
            "two\nlines\r\n",
            "} 1\nfake_metric{x=\"",
            "\\",
            "\u{0}\u{1b}[2J\u{202e}",
            "",
        ] {
            let text = text_of("a", odd, odd);
            assert_eq!(text.lines().count(), lines, "{odd:?}: {text}");
            let starts = |line: &str| {
                ["# ", "dae_", "process_"]
                    .iter()
                    .any(|start| line.starts_with(start))
            };
            assert!(text.lines().all(starts), "{odd:?}: {text}");
            let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
            assert_eq!(controls.count(), 0, "{odd:?}: {text}");
        }
        let info = text_of("a", "q\"b\\n\n", "1");
        let expected = r#"dae_daemon_info{daemon="a",plugin="q\"b\\n\\n","#;
        assert!(info.contains(expected), "{info}");
        let long = "\u{e9}\n".repeat(1 << 20);
        let text = text_of("a", &long, &long);
        assert!(text.len() < 8 << 10, "{}", text.len());
    }
}
