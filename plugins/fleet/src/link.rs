//! The connection to a server of NATS: made again when it is lost, for as long as the daemon runs.
//!
//! The client reconnects by itself and renews its subscriptions. What it was to send meanwhile it keeps, and sends it then; so a
//! call is only sent while there is a connection, since nobody waits for it any more later.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use dae_plugin_api::prelude::*;
use tokio::sync::watch;

use crate::config::Config;
use crate::lock;
use crate::subject::Subjects;

/// The interval of the pings to the server. Two that are not answered mean that the connection is lost.
const PING_EVERY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest wait for one attempt to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The most messages that wait for one subscription. Beyond it the client drops them and says so.
const WAITING_MAX: usize = 16_384;
/// The longest wait for a connection when the daemon starts.
const CONNECT_FIRST_MAX: Duration = Duration::from_secs(2);
/// The longest wait for what is to be sent, at the end.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// A connection that is made again when it is lost.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) subjects: Subjects,
    known: Arc<Known>,
    subscriptions: AtomicUsize,
}

/// The state that the events of the client have told.
struct Known {
    /// Counts the losses of the connection.
    losses: watch::Sender<u64>,
    /// Counts the connections.
    connects: watch::Sender<u64>,
    last_fault: Mutex<Option<String>>,
}

/// The state of the connection.
pub(crate) struct LinkStatus {
    pub(crate) is_connected: bool,
    pub(crate) server: Option<String>,
    pub(crate) last_fault: Option<String>,
    pub(crate) reconnects: u64,
    pub(crate) subscriptions: usize,
}

impl Link {
    /// Begins to connect. A server that isn't there is tried again later.
    ///
    /// # Errors
    /// An address or a file of the config can't be used.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let known = Arc::new(Known {
            losses: watch::Sender::new(0),
            connects: watch::Sender::new(0),
            last_fault: Mutex::default(),
        });
        let told = Arc::clone(&known);
        let options = options(config)
            .await?
            .name("dae-host fleet")
            // An event of this host must not come back as one of another.
            .no_echo()
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING_EVERY)
            .connection_timeout(CONNECT_MAX)
            .request_timeout(None)
            .subscription_capacity(WAITING_MAX)
            .reconnect_delay_callback(|attempts| {
                let steps = u32::try_from(attempts.min(10)).unwrap_or(10);
                (Duration::from_millis(20) * 2_u32.pow(steps)).min(PAUSE_MAX)
            })
            .event_callback(move |event| {
                let told = Arc::clone(&told);
                async move { told.note(&event) }
            });
        let client = options.connect(config.servers.clone()).await;
        let client = client.map_err(|fault| {
            Error::new(format!(
                "cannot use the servers {}: {fault}; expected addresses such as nats://127.0.0.1:4222",
                config.servers.join(", ")
            ))
        })?;
        Ok(Link {
            client,
            subjects: Subjects::of(&config.ecosystem),
            known,
            subscriptions: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits until there is a connection, for a limited time: a server that isn't there holds up nothing.
    pub(crate) async fn connected(&self) {
        let mut connects = self.known.connects.subscribe();
        let connected = connects.wait_for(|connects| *connects > 0);
        let _ = tokio::time::timeout(CONNECT_FIRST_MAX, connected).await;
    }

    /// Waits until the server knows all that was sent, for a limited time.
    pub(crate) async fn flushed(&self) {
        if self.is_connected() {
            let _ = tokio::time::timeout(FLUSH_MAX, self.client.flush()).await;
        }
    }

    /// Returns a receiver whose value changes when the connection is lost.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.known.losses.subscribe()
    }

    /// Subscribes to a subject. With `is_shared`, each message comes to only one of the instances that have subscribed.
    pub(crate) async fn subscribe(&self, subject: String, is_shared: bool) -> Result<Subscriber> {
        let subscriber = match is_shared {
            true => {
                self.client
                    .queue_subscribe(subject, "dae".to_owned())
                    .await?
            }
            false => self.client.subscribe(subject).await?,
        };
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        Ok(subscriber)
    }

    /// Notes that a subscription has ended.
    pub(crate) fn unsubscribed(&self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let server = self.client.try_server_info().map(|info| {
            format!(
                "{}:{} {} ({})",
                info.host, info.port, info.version, info.server_name
            )
        });
        LinkStatus {
            is_connected: self.is_connected(),
            server,
            last_fault: lock(&self.known.last_fault).clone(),
            reconnects: self.known.connects.borrow().saturating_sub(1),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
        }
    }

    /// Sends what is to be sent, and closes the connection.
    pub(crate) async fn close(&self) {
        self.flushed().await;
        let _ = tokio::time::timeout(FLUSH_MAX, self.client.drain()).await;
    }
}

impl Known {
    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                let earlier = *self.connects.borrow();
                self.connects.send_replace(earlier + 1);
                tracing::info!(reconnects = earlier, "connected to a server of NATS");
            }
            Event::Disconnected | Event::Closed => {
                self.losses.send_modify(|losses| *losses += 1);
                tracing::warn!("the connection to the server of NATS is lost; it is tried again");
            }
            other => {
                let text = other.to_string();
                let mut last = lock(&self.last_fault);
                // An attempt a second must not fill the log.
                if last.as_ref() != Some(&text) {
                    tracing::warn!("NATS: {text}");
                    *last = Some(text);
                }
            }
        }
    }
}

/// Returns the options that say who this host is.
async fn options(config: &Config) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new();
    if let Some(file) = &config.credentials {
        let read = options.credentials_file(file).await;
        options = read.map_err(|fault| {
            Error::new(format!(
                "cannot use the credentials {}: {fault}",
                file.display()
            ))
        })?;
    }
    if let Some(seed) = &config.nkey {
        options = options.nkey(seed.clone());
    }
    if let Some(user) = &config.user {
        let password = config.password.clone().unwrap_or_default();
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(file) = &config.authorities {
        options = options.add_root_certificates(file.clone());
    }
    Ok(options)
}
