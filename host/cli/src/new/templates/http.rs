//! The daemon Greeter: a web page, and commands that return the number of its visits.
//!
//! The daemon owns a port of its own. It is `exclusive`: at a reload the old instance closes the port before the new one
//! opens it. The state keeps the number of the port, so the page stays where it is.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use dae_plugin_api::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A web page that counts its visits.
struct Greeter {
    port: u16,
    /// The open port, until `run` serves it.
    listener: Mutex<Option<TcpListener>>,
    visits: watch::Sender<u64>,
}

/// The config, as `dae-host install --config '{"http_port": 8080}'` gives it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    /// The port of the page; 0 takes any free one, and keeps it.
    http_port: u16,
}

/// The state that one instance hands to the next.
#[derive(Serialize, Deserialize)]
struct Saved {
    port: u16,
    visits: u64,
}

/// A web page that counts its visits.
#[daemon(exclusive)]
impl Greeter {
    /// Opens the port. The state is what `save` of the instance before has returned.
    async fn start(config: Config, state: Option<Saved>) -> Result<Self> {
        let (kept, visits) = state.map_or((0, 0), |saved| (saved.port, saved.visits));
        let port = match config.http_port {
            0 => kept,
            port => port,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener =
            listener.map_err(|error| Error::new(format!("cannot open port {port}: {error}")))?;
        let daemon = Greeter {
            port: listener.local_addr()?.port(),
            listener: Mutex::new(Some(listener)),
            visits: watch::Sender::new(visits),
        };
        tracing::info!("the page is at {}", daemon.url());
        Ok(daemon)
    }

    /// Serves the page. The port closes when the instance ends, since this future is dropped then.
    async fn run(&self) -> Result<()> {
        let taken = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(listener) = taken else {
            return Ok(());
        };
        let router = Router::new().route("/", get(page));
        axum::serve(listener, router.with_state(self.visits.clone())).await?;
        Ok(())
    }

    /// Returns the state for the next instance.
    fn save(&self) -> Saved {
        Saved {
            port: self.port,
            visits: self.visits(),
        }
    }

    /// Returns the address of the page.
    #[command]
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Returns the number of visits.
    #[command]
    fn visits(&self) -> u64 {
        *self.visits.borrow()
    }

    /// Waits for the next visit, and returns the number of visits.
    #[command]
    async fn next_visit(&self) -> Result<u64> {
        let mut visits = self.visits.subscribe();
        visits.changed().await?;
        let number = *visits.borrow();
        Ok(number)
    }
}

/// Answers a visit of the page. Escape texts of others before you put them into HTML.
async fn page(State(visits): State<watch::Sender<u64>>) -> Html<String> {
    visits.send_modify(|visits| *visits += 1);
    let number = *visits.borrow();
    Html(format!("<h1>Hello! This is visit number {number}.</h1>\n"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::thread;

    use dae_plugin_api::testing::{self, TestDaemon};

    use super::*;

    /// Reads the page.
    fn read(url: &str) -> Result<String> {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    }

    /// Visits the page on a thread, since the daemon runs while this test waits for a reply of it.
    fn visited(daemon: &TestDaemon, url: &str) -> Result<String> {
        let visit = daemon.begin("next_visit", ())?;
        let url = url.to_owned();
        let visitor = thread::spawn(move || read(&url));
        visit.reply()?;
        visitor.join().unwrap()
    }

    #[test]
    fn the_next_instance_has_the_port_and_the_visits() -> Result<()> {
        let host = testing::host();
        let daemon = host.start::<Greeter>(())?;
        let url: String = daemon.call_as("url", ())?;
        let page = visited(&daemon, &url)?;
        assert!(page.contains("visit number 1."), "{page}");

        daemon.reload()?;
        assert_eq!(daemon.call("url", ())?, url);
        let page = visited(&daemon, &url)?;
        assert!(page.contains("visit number 2."), "{page}");
        Ok(())
    }
}
