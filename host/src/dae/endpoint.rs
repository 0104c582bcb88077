//! Dae's own endpoint: its port, and the gates that its guests and its owner's clients meet.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::supervise::SupervisorShared;
use dae_runtime::os::port;
use dae_runtime::peers::client::Host;
use dae_runtime::peers::directory::CredentialSource;
use dae_runtime::peers::ecosystem_api::EcosystemApi;
use dae_runtime::session::accept::{self, Listener};
use dae_runtime::session::gate::{Gate, GatePhase};
use dae_store::config::Config;
use dae_store::home::Home;
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::Credential;

/// The number of ports after its own that Dae tries if that one is taken. After them, it takes any free port.
const PORTS_TRIED: u16 = 16;

/// Dae as a daemon of its own ecosystem.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) port: u16,
    /// The gate behind the port.
    pub(super) gate: Arc<Gate>,
    /// The gate behind the control socket.
    pub(super) control_gate: Arc<Gate>,
    /// The connections of the embedding program to daemons, once Dae is in the name directory.
    pub(super) caller: OnceLock<Arc<EcosystemApi>>,
}

impl Endpoint {
    /// Listens on Dae's port, and records the port if it has changed. Both gates let guests wait until they are opened.
    pub(super) fn listen(
        home: &Home,
        config: &Config,
        registry: &mut Registry,
    ) -> anyhow::Result<(Self, Listener)> {
        let gate = Gate::new(DAE_NAME, config.limits());
        let listener = listen_near(registry.dae_port.unwrap_or(config.dae_port))?;
        let listening = Listener::over(listener, Arc::clone(&gate), &Handle::current())?;
        let port = listening.port();
        if registry.dae_port != Some(port) {
            registry.dae_port = Some(port);
            registry.save(&home.registry_file())?;
        }
        let control_gate = Gate::new("control", config.control_limits());
        let endpoint = Endpoint {
            port,
            gate,
            control_gate,
            caller: OnceLock::new(),
        };
        Ok((endpoint, listening))
    }

    /// Enters Dae into the name directory, so that it is found like every other daemon.
    pub(super) fn enter(&self, shared: &SupervisorShared) {
        let gate = Arc::clone(&self.gate);
        shared
            .directory
            .enter(&self.gate, Arc::new(DaeAnswers(gate)));
        let host = Host {
            visitor: DAE_NAME.to_owned(),
            directory: Arc::clone(&shared.directory),
            limits: shared.config().limits(),
            runtime: shared.runtime.clone(),
            client_listener: OnceLock::new(),
            opened: AtomicUsize::new(0),
            state_keeper: None,
            bridge: None,
        };
        let caller = EcosystemApi::new(host, Arc::clone(&self.gate.guests));
        // Dae enters once.
        let _ = self.caller.set(caller);
    }

    /// Closes the connections of all guests.
    pub(super) fn close_all(&self) {
        self.gate.guests.close_all();
        self.control_gate.guests.close_all();
    }
}

/// The source of Dae's credential. There is one once Dae's gate is open.
#[derive(Debug)]
struct DaeAnswers(Arc<Gate>);

impl CredentialSource for DaeAnswers {
    fn credential(&self) -> Option<Credential> {
        match &**self.0.phase() {
            GatePhase::Open(lease) => Some(lease.instance.identity.credential()),
            _ => None,
        }
    }
}

/// Binds Dae's own port, or the next free one.
fn listen_near(wanted: u16) -> anyhow::Result<TcpListener> {
    let own = wanted..=wanted.saturating_add(PORTS_TRIED);
    for tried in own.chain([0]) {
        match accept::listen_on(tried) {
            Ok(listener) => {
                if tried != wanted {
                    let has = listener
                        .local_addr()
                        .map_or(tried, |address| address.port());
                    tracing::warn!(
                        "port {wanted}, which is Dae's own, is taken; Dae listens on {has} instead"
                    );
                }
                return Ok(listener);
            }
            Err(error) if port::is_taken(&error) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("Dae can't listen on port {tried}"));
            }
        }
    }
    bail!("no port is free on the loopback address")
}
