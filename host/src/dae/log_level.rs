//! `log`: the level of a daemon's log, which its owner may change until the host ends.

use super::{Dae, Fault, Inner};
use crate::supervise::Daemon;
use dae_store::event::{ChangedSetting, DaeEventKind};
use dae_store::report::{DaemonLogLevel, LogLevel, LogLevelRequest};

impl Dae {
    /// Returns the level of a daemon's log, after the change that the request asks for.
    ///
    /// # Errors
    /// Fails if this host has no daemon of that name.
    pub fn log_level(&self, request: &LogLevelRequest) -> Result<DaemonLogLevel, Fault> {
        let inner = &self.inner;
        let name = &request.name;
        let daemon = inner.known(name)?;
        match (request.level, request.reset) {
            (None, false) => {}
            (None, true) => inner.choose_level(&daemon, None),
            (Some(level), false) => inner.choose_level(&daemon, Some(level)),
            (Some(_), true) => {
                let text = "a level and `reset` exclude each other; give one of them".to_owned();
                return Err(Fault::bad_arguments(text));
            }
        }
        Ok(DaemonLogLevel {
            name: name.clone(),
            level: daemon.log_limit().level(),
            setting: daemon.glance().spec.settings.log_level,
        })
    }
}

impl Inner {
    /// Changes the level, and keeps an event of it if it is another one.
    fn choose_level(&self, daemon: &Daemon, level: Option<LogLevel>) {
        let limit = daemon.log_limit();
        let before = limit.level();
        limit.choose(level);
        let now = limit.level();
        if before == now {
            return;
        }
        let change = ChangedSetting {
            setting: "log_level".to_owned(),
            before: Some(before.as_str().into()),
            after: Some(now.as_str().into()),
            hidden: false,
            temporary: level.is_some(),
        };
        let (name, generation) = (&daemon.gate.name, daemon.glance().generation);
        let generation = (generation > 0).then_some(generation);
        // The record says why others are missing from here on.
        self.shared
            .tell(name, generation, "info", &change.to_string());
        let changed = vec![change];
        let kind = DaeEventKind::SettingsChanged { changed };
        self.shared.events.send(name, generation, kind);
    }
}
