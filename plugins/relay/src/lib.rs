//! A relay daemon: it calls other daemons by their names, and forwards the events of one to another. Forwarding
//! continues after a reload of the relay or of the other daemons.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dae_plugin_api::prelude::*;
use tokio::sync::oneshot;

/// The time between attempts to reach a daemon whose events are forwarded.
const RETRY: Duration = Duration::from_secs(1);

/// Calls and forwards.
struct Relay {
    eco: Ecosystem,
    config: Config,
    routes: Mutex<Routes>,
}

#[derive(Deserialize)]
struct Config {
    /// The daemon that `pass` passes on to.
    #[serde(default)]
    next: Option<String>,
}

/// The way that one kind of event takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Route {
    from: String,
    event: String,
    to: String,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} to {}", self.event, self.from, self.to)
    }
}

/// The routes. Dropping the sender of a route ends it. A route with `None` has not started.
type Routes = HashMap<Route, Option<oneshot::Sender<()>>>;

/// A connection that belongs to one route, and that is closed when it is dropped.
struct Source {
    guest: Guest,
    events: Events,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.guest.close();
    }
}

/// Calls daemons by name, and forwards events.
#[daemon(name = "Relay")]
impl Relay {
    fn start(eco: Ecosystem, config: Config, state: Option<Vec<Route>>) -> Self {
        let routes = state.unwrap_or_default().into_iter();
        Relay {
            eco,
            config,
            routes: Mutex::new(routes.map(|route| (route, None)).collect()),
        }
    }

    /// Goes on with what the instance before has forwarded. Not in `start`: until this one takes over, that one is at
    /// work, and each event would be sent twice.
    async fn run(&self) -> Result<()> {
        for route in self.save() {
            self.keep(route, None)?;
        }
        std::future::pending().await
    }

    fn save(&self) -> Vec<Route> {
        self.table().keys().cloned().collect()
    }

    /// Returns the reply of `daemon` to `command` with these arguments.
    #[command]
    async fn ask(
        &self,
        daemon: &str,
        command: &str,
        #[rest] arguments: Vec<json::Value>,
    ) -> Result<json::Value> {
        self.eco.call(daemon, command, arguments).await
    }

    /// Sends each event of that name of the daemon `from` to the daemon `to`, as a command.
    #[command]
    async fn forward(&self, from: String, event: String, to: String) -> Result<()> {
        let route = Route { from, event, to };
        if self.table().contains_key(&route) {
            return Ok(());
        }
        // Connect before the reply, so that no event after the reply is missed.
        let source = Source::connect(self.eco, &route.from).await?;
        self.keep(route, Some(source))
    }

    /// Ends what `forward` began; false where there is no such route.
    #[command]
    fn stop_forwarding(&self, from: String, event: String, to: String) -> bool {
        let route = Route { from, event, to };
        self.table().remove(&route).is_some()
    }

    /// Returns the routes that are forwarded.
    #[command]
    fn routes(&self) -> Vec<Route> {
        self.save()
    }

    /// Passes on to the next relay of a ring, `hops` times in all; replies with how many have passed it on.
    #[command]
    async fn pass(&self, hops: u64) -> Result<u64> {
        if hops == 0 {
            return Ok(0);
        }
        let Some(next) = &self.config.next else {
            let text = r#"this relay has nobody to pass on to; its config takes {"next": "Name"}"#;
            return Err(Error::new(text));
        };
        let passed: u64 = self.eco.call(next, "pass", (hops - 1,)).await?;
        Ok(passed + 1)
    }
}

impl Relay {
    /// Forwards along `route` until the route is removed from the table, or the daemon ends.
    fn keep(&self, route: Route, source: Option<Source>) -> Result<()> {
        let (stop, stopped) = oneshot::channel();
        let follower = follow(self.eco, route.clone(), source);
        self.eco.spawn(async move {
            tokio::select! {
                () = follower => {}
                _ = stopped => {}
            }
        })?;
        self.table().insert(route, Some(stop));
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards without end, on the given connection or on a new one.
async fn follow(eco: Ecosystem, route: Route, mut source: Option<Source>) {
    loop {
        let connected = match source.take() {
            Some(source) => Ok(source),
            None => Source::connect(eco, &route.from).await,
        };
        match connected {
            Ok(source) => source.forward(eco, &route).await,
            Err(error) => tracing::warn!(%route, "can't hear it yet: {error}"),
        }
        eco.sleep(RETRY).await;
    }
}

impl Source {
    async fn connect(eco: Ecosystem, daemon: &str) -> Result<Self> {
        let guest = eco.connect(daemon).await?;
        // From here on, the connection is closed even if a later step fails.
        let source = Source {
            guest,
            events: guest.events()?,
        };
        source.subscribe().await?;
        Ok(source)
    }

    /// Subscribes if the daemon has a command for that. Some daemons, such as the clock, send events only to
    /// subscribers.
    async fn subscribe(&self) -> Result<()> {
        let options: HashMap<String, u64> = self.guest.call("options", ()).await?;
        if options.get("subscribe") == Some(&0) {
            self.guest.call::<json::Value>("subscribe", ()).await?;
        }
        Ok(())
    }

    /// Forwards the events of this connection, on another connection that belongs to the route.
    async fn forward(mut self, eco: Ecosystem, route: &Route) {
        let mut target = None;
        while let Some(event) = self.events.next().await {
            if event.name() == route.event {
                let sent = send(eco, &event, route, &mut target).await;
                log_refusal(route, sent);
            }
            // The other daemon was away and is back.
            if event.name() == "connect" {
                log_refusal(route, self.subscribe().await);
            }
        }
    }
}

/// The connection to the receiver of a route's events, closed when it is dropped.
struct Target(Guest);

impl Drop for Target {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends the event to the receiver of the route. The connection is opened for the first event. Does not wait for a
/// reply, because not every daemon replies to an event.
async fn send(
    eco: Ecosystem,
    event: &Event,
    route: &Route,
    target: &mut Option<Target>,
) -> Result<()> {
    let arguments: json::Value = event.arguments()?;
    let to = match target {
        Some(to) => to,
        None => target.insert(connect(eco, route).await?),
    };
    to.0.emit(event.name(), arguments)
}

/// Connects to the receiver. A daemon that doesn't know the event reports that by an event `error`, which is logged.
async fn connect(eco: Ecosystem, route: &Route) -> Result<Target> {
    let target = Target(eco.connect(&route.to).await?);
    let logged_route = route.clone();
    target.0.on("error", move |why: json::Value| {
        tracing::warn!(route = %logged_route, "refused: {why}");
    })?;
    Ok(target)
}

fn log_refusal(route: &Route, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%route, "not forwarded: {error}");
    }
}

#[cfg(test)]
mod tests;
