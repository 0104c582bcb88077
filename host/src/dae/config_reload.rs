//! Takes up a changed config.json5 while the host runs.
//!
//! The whole file is read and checked first, with the settings of every daemon that it leads to. A fault changes nothing.
//! Then each daemon whose settings differ gets a new instance, as at a change of its own settings. If one doesn't start by
//! them, those before it go back, and so does the host. Members that count from the start of the host on are named and left.

use std::sync::Arc;
use std::time::Instant;

use super::configure::changed_values;
use super::{Dae, Fault, Inner, config_of};
use crate::supervise::{ChangeStart, Daemon, DaemonSpec};
use dae_store::config::Config;
use dae_store::difference::Difference;
use dae_store::durations;
use dae_store::install_plan;
use dae_store::report::{ConfigReloaded, TakenUp};

/// A daemon that gets other settings.
struct NewSettings {
    daemon: Arc<Daemon>,
    before: DaemonSpec,
    after: DaemonSpec,
    found: Vec<Difference>,
}

impl Dae {
    /// Takes up the changes of config.json5 that need no restart of the host, and says which ones do.
    ///
    /// # Errors
    /// The file has a fault, or a daemon doesn't start by its new settings. Nothing has changed then.
    pub async fn reload_config(&self) -> Result<ConfigReloaded, Fault> {
        self.carry_through(move |dae, begin| async move {
            let reloaded = dae.inner.reload_config(&begin).await;
            match &reloaded {
                Ok(done) => tracing::info!(
                    changed = done.changed.len(),
                    needs_restart = done.needs_restart.len(),
                    "the config was read again"
                ),
                Err(fault) => tracing::error!("the config was not taken up: {fault}"),
            }
            reloaded
        })
        .await
    }
}

impl Inner {
    async fn reload_config(
        self: &Arc<Self>,
        begin: &Arc<ChangeStart>,
    ) -> Result<ConfigReloaded, Fault> {
        let began = Instant::now();
        let _turn = self.config_turn.lock().await;
        let read = self.on_disk(|inner| config_of(&inner.home, !inner.watches_sources));
        let new = read.await?;
        let new = new.map_err(|error| Fault::failed(format!("{error:#}; nothing was changed")))?;
        let running = self.shared.config();
        let (next, changed, waiting) = running.taking_up(&new);
        self.check_all(&next)?;
        self.shared.config.replace(Arc::new(next));
        let taken = self.take_up_all(begin).await;
        if taken.is_err() {
            self.shared.config.replace(running);
        }
        let reserve = self.shared.config().reserve_processes;
        self.shared.code.spawner.keep_in_reserve(reserve);
        Ok(ConfigReloaded {
            changed,
            daemons: taken?,
            needs_restart: waiting,
            ms: durations::in_ms(began.elapsed()),
        })
    }

    /// Checks the settings that each daemon would have.
    fn check_all(&self, config: &Config) -> Result<(), Fault> {
        let checked = self.catalogue.read(|registry| {
            for (name, entry) in &registry.daemons {
                let settings = config.settings(name, &entry.settings);
                let settings = settings.map_err(|text| format!("{name}: {text}"))?;
                install_plan::check_order((registry, config), name, &settings.after)
                    .map_err(|refusal| refusal.to_string())?;
            }
            Ok::<(), String>(())
        });
        checked.map_err(|text| Fault::failed(format!("{text}; nothing was changed")))
    }

    /// Lets each daemon run by its present settings, or none.
    async fn take_up_all(&self, begin: &Arc<ChangeStart>) -> Result<Vec<TakenUp>, Fault> {
        let mut done: Vec<NewSettings> = Vec::new();
        for (name, daemon) in self.running.by_name() {
            match self.take_up(&name, daemon, begin).await {
                Ok(one) => done.extend(one),
                Err(fault) => {
                    for one in done.into_iter().rev() {
                        // It ran by these settings just now. If it doesn't any more, its state says why.
                        let _turn = self.running.turn(&one.before.name).await;
                        let _ = self
                            .apply(&one.daemon, (one.after, one.before), begin)
                            .await;
                    }
                    let text = format!("{fault}; nothing was changed");
                    return Err(Fault::failed(text));
                }
            }
        }
        let told = done.into_iter().map(|one| {
            self.send_change(&one.daemon, &one.found);
            TakenUp {
                name: one.after.name,
                changed: one.found,
            }
        });
        Ok(told.collect())
    }

    /// Lets a daemon run by its present settings, if they are others.
    async fn take_up(
        &self,
        name: &str,
        daemon: Arc<Daemon>,
        begin: &Arc<ChangeStart>,
    ) -> Result<Option<NewSettings>, Fault> {
        let _turn = self.running.turn(name).await;
        // A daemon that is compiled into the program has no entry, and its own settings.
        let Ok(entry) = self.entry(name) else {
            return Ok(None);
        };
        let before = daemon.glance().spec;
        let settings = self.shared.config().settings(name, &entry.settings);
        let after = DaemonSpec {
            settings: Arc::new(settings.map_err(Fault::failed)?),
            ..before.clone()
        };
        let found = changed_values(&before, &after);
        if found.is_empty() {
            return Ok(None);
        }
        let specs = (before.clone(), after.clone());
        self.apply(&daemon, specs, begin).await?;
        Ok(Some(NewSettings {
            daemon,
            before,
            after,
            found,
        }))
    }
}
