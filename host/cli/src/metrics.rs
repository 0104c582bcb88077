//! `run --metrics ADDRESS`: the host's measures over HTTP, in the text format of Prometheus.
//!
//! It is off by default. Anyone who can connect can read, so an address that other machines reach has to be asked for
//! twice. A web page can't read through a browser: see `request` for the check of the `Host` header.
//!
//! A request is bounded in its size and in its time, and few are served at once. Further connections wait in the
//! kernel's queue. Each connection gets one answer, so that none is held open between two scrapes. The text is written
//! anew for each request, by one thread at a time, and nothing is gathered while nobody asks.

mod exposition;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::exit::Fault;
use dae_host::Dae;
use dae_runtime::os::port;
use dae_runtime::threads::fd_limits;
use dae_store::blocking;
use dae_store::tasks;
use request::RequestFault;

/// The connections that are served at once. Two scrapers and a person are usual; each answer takes memory.
const CONNECTIONS_MAX: usize = 4;
/// The connections that the kernel queues.
const BACKLOG: u32 = 64;
/// The longest time for a request's header, which a scraper sends at once.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest time for a connection in all. A scraper gives up after 10 s by default.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
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
    #[arg(long, value_name = "ADDRESS")]
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
    /// Held while the text is written.
    turn: Mutex<()>,
}

impl Site {
    fn of(dae: &Dae) -> Self {
        Site {
            dae: dae.clone(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
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

/// Serves connections for good. Those in progress end with the returned future.
async fn accept(listener: Arc<TcpListener>, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&site.connections).acquire_owned().await {
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = Arc::clone(&site);
                let served = async move {
                    serve(stream, &site).await;
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

/// Serves one request. A client that breaks HTTP or a limit is told so by hyper, or loses its connection.
async fn serve(stream: TcpStream, site: &Site) {
    let Ok(here) = stream.local_addr() else {
        return;
    };
    let service =
        service_fn(async |request| Ok::<_, Infallible>(answer(&request, here, site).await));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .half_close(true)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // An error is the client's.
    let _ = timeout(CONNECTION_TIME_MAX, connection).await;
}

async fn answer(request: &Request<Incoming>, here: SocketAddr, site: &Site) -> Response<String> {
    if let Err(fault) = request::check(request, here.ip()) {
        return refused(fault, here);
    }
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
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
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
