//! A new instance takes over from the one that runs: the walk of every reload, replacement, restart and move.
//!
//! From top to bottom: try the file out in a process of its own; load it; close the door and let what runs finish; take the state;
//! build the successor with it; open the door to it; retire the old one. Until the door opens again, any failure leaves
//! the old one where it was, with its queue, and says why. A daemon that must be alone (`exclusive`) ends before its
//! successor starts, and is started again from the same state if that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Current, Done, Notice, Spec, Supervisor};
use crate::child::{Child, ChildPlan, Spawner};
use crate::frame::StartMessage;
use crate::instance::Instance;
use crate::report::Mode;
use crate::state::State;
use crate::states::{KeptState, Occasion};

/// How long a trial may take. Loading and checking takes milliseconds; a static constructor that hangs never ends.
const TRIAL_MAX: Duration = Duration::from_secs(5);
/// How long a cancelled command may take to let go.
const LET_GO_MAX: Duration = Duration::from_millis(200);

/// A reload that is on probation: what to go back to, if the new generation doesn't last.
#[derive(Debug)]
pub(super) struct Probation {
    until: Instant,
    back: Spec,
    state: Option<KeptState>,
}

impl Supervisor {
    /// Has an instance of `spec` take over, from the state of before unless `is_fresh`.
    pub(super) async fn take_over(&mut self, spec: Spec, is_fresh: bool) -> Result<Done, String> {
        self.history.clear();
        let before = self.now.state.borrow().clone();
        self.set(match self.current {
            Some(_) => State::Reloading,
            None => State::Starting,
        });
        let had_port = self.listening.is_some();
        let result = self.walk(&spec, is_fresh).await;
        if let Err(cause) = &result {
            self.stay(before, had_port, cause);
        }
        result.map_err(with_cure)
    }

    /// The state it was in, or that it failed; a port that was bound for nothing is let go.
    fn stay(&mut self, before: State, had_port: bool, cause: &str) {
        if !had_port {
            self.listening = None;
            self.now.running().port = None;
        }
        let failed = || State::Failed {
            cause: cause.to_owned(),
        };
        let after = match before {
            State::Starting | State::Stopped => failed(),
            // An exclusive one that could not be started again.
            State::Ready | State::Degraded { .. } if self.current.is_none() => failed(),
            other => other,
        };
        if let State::Failed { cause } = &after {
            self.door
                .shut(format!("{} has failed: {cause}", self.spec.name));
        }
        self.set(after);
    }

    async fn walk(&mut self, spec: &Spec, is_fresh: bool) -> Result<Done, String> {
        self.try_out(spec, is_fresh).await?;
        self.load(spec).await?;
        // Even where the successor starts without it: the old one may have to go on from it.
        let left = self.quiesce(is_fresh).await?;
        let state = left.as_ref().filter(|_| !is_fresh);
        let old_spec = self.spec.clone();
        let is_exclusive = spec.artefact.manifest.exclusive || old_spec.artefact.manifest.exclusive;
        let mut was_retired = false;
        if is_exclusive && let Some(old) = self.take_away() {
            self.door.hold_for_change();
            self.retire(old).await;
            was_retired = true;
        }
        let instance = match self.build(spec, state).await {
            Ok(instance) => instance,
            Err(cause) => {
                let cause = with_hint(cause, is_exclusive);
                return Err(self.go_on(cause, was_retired, left.as_ref()).await);
            }
        };
        let is_new_code = old_spec.artefact.hash != spec.artefact.hash;
        let is_reload = self.current.is_some() || was_retired;
        self.spec = spec.clone();
        self.probation = (is_reload && is_new_code).then(|| Probation {
            until: Instant::now() + Duration::from_millis(self.spec.settings.probation_ms),
            back: old_spec,
            state: left.clone(),
        });
        let generation = instance.identity.generation;
        self.swap(instance, state).await;
        match state {
            Some(state) => self.keep(state),
            // Or a crash would bring back what was left behind.
            None if is_fresh => self.forget(),
            None => {}
        }
        Ok(Done {
            generation,
            state_bytes: state.map(KeptState::bytes),
        })
    }

    /// Loads the file in a process of its own, which reads a copy of the state; what crashes or hangs does so there. A
    /// subprocess is its own trial.
    async fn try_out(&mut self, spec: &Spec, is_fresh: bool) -> Result<(), String> {
        let is_known = self.shared.images.has(&spec.artefact.hash);
        let is_wanted = spec.settings.trial && Spawner::is_possible();
        if spec.mode == Mode::Subprocess || is_known || !is_wanted {
            return Ok(());
        }
        let state = match is_fresh {
            true => None,
            false => self.state_to_try().await?,
        };
        let plan = ChildPlan {
            message: StartMessage {
                is_trial: true,
                ..self.start_message(spec, state)
            },
            settings: spec.settings.clone(),
            local: self.local(0),
            limit: TRIAL_MAX,
            // Nobody's lines go to a trial.
            on_end: Box::new(|| ()),
        };
        let spawner = self.shared.spawner.clone();
        let tried = self
            .shared
            .runtime
            .spawn(async move { Child::start(plan, &spawner).await.map(drop) });
        let tried = tried
            .await
            .map_err(|error| format!("its trial crashed: {error}"))?;
        tried.map_err(|text| format!("its trial failed: {text}"))
    }

    /// A copy of what the successor will find; the one that runs goes on with its own.
    async fn state_to_try(&self) -> Result<Option<Box<RawValue>>, String> {
        let Some(current) = &self.current else {
            return Ok(None);
        };
        if !current.instance.has_state() {
            return Ok(None);
        }
        let limit = self.shared.config.stop_grace();
        let saved = Arc::clone(&current.instance).save(limit).await?;
        let generation = current.instance.identity.generation;
        let state = KeptState::of(&saved, Occasion::Reload, generation)?;
        Ok(Some(state.state))
    }

    /// What the successor starts from. Where an instance with a state runs, lines wait from here on, and those in flight
    /// have finished or were cancelled: no change of the state is lost.
    async fn quiesce(&mut self, is_fresh: bool) -> Result<Option<KeptState>, String> {
        let Some(current) = self
            .current
            .as_ref()
            .filter(|current| current.instance.has_state())
        else {
            return self.kept_state(is_fresh);
        };
        let instance = Arc::clone(&current.instance);
        self.door.hold_for_change();
        let grace = self.shared.config.stop_grace();
        if let Some(current) = &mut self.current {
            drain(current, grace).await;
        }
        let generation = instance.identity.generation;
        let saved = instance
            .save(grace)
            .await
            .and_then(|bytes| KeptState::of(&bytes, Occasion::Reload, generation));
        match saved {
            Ok(state) => Ok(Some(state)),
            // Nobody starts from it, so that it is no reason to refuse.
            Err(_) if is_fresh => Ok(None),
            Err(text) => {
                self.reopen();
                Err(text)
            }
        }
    }

    /// What was kept at the last stop, reload or checkpoint.
    pub(super) fn kept_state(&self, is_fresh: bool) -> Result<Option<KeptState>, String> {
        match is_fresh {
            true => Ok(None),
            false => self
                .shared
                .states
                .load(&self.spec.name)
                .map_err(|error| format!("{error:#}")),
        }
    }

    /// The successor didn't start: what was, goes on.
    async fn go_on(
        &mut self,
        cause: String,
        was_retired: bool,
        state: Option<&KeptState>,
    ) -> String {
        if self.current.is_some() {
            self.reopen();
            return cause;
        }
        if !was_retired {
            return cause;
        }
        let spec = self.spec.clone();
        match self.build(&spec, state).await {
            Ok(instance) => {
                self.swap(instance, state).await;
                cause
            }
            Err(text) => format!("{cause}; and the one before doesn't start again: {text}"),
        }
    }

    /// Opens the door again to the instance that it was closed to.
    fn reopen(&mut self) {
        if let Some(current) = &mut self.current {
            current.leased = self.door.open(Arc::clone(&current.instance));
        }
    }

    /// A new generation has ended by itself while on probation: the one of before takes over again, from the state of the
    /// swap. False where there is none to go back to.
    pub(super) async fn roll_back(&mut self, cause: &str) -> bool {
        let Some(probation) = self
            .probation
            .take()
            .filter(|probation| Instant::now() < probation.until)
        else {
            return false;
        };
        let Probation { back, state, .. } = probation;
        let bad = self.spec.artefact.hash.clone();
        let instance = match self.build(&back, state.as_ref()).await {
            Ok(instance) => instance,
            Err(text) => {
                let text = format!("the generation before can't take over again: {text}");
                self.shared.tell(&self.spec.name, None, "error", &text);
                return false;
            }
        };
        let good = back.artefact.hash.clone();
        self.spec = back;
        let generation = instance.identity.generation;
        self.swap(instance, state.as_ref()).await;
        if let Some(state) = &state {
            // Over what the bad one has kept since, in whatever shape.
            self.keep(state);
        }
        let text = format!("rolled back to {}: {cause}", short(&good));
        self.shared
            .tell(&self.spec.name, Some(generation), "error", &text);
        let notice = Notice::RolledBack {
            name: self.spec.name.clone(),
            bad,
            good,
            reason: cause.to_owned(),
        };
        // Where nobody listens any more the host is ending.
        let _ = self.shared.notices.send(notice);
        true
    }

    fn forget(&self) {
        if let Err(error) = self.shared.states.forget(&self.spec.name) {
            let text = format!("its former state could not be removed: {error:#}");
            self.shared.tell(&self.spec.name, None, "error", &text);
        }
    }

    /// Keeps a state for the next start; a disk that refuses is told, and costs nothing else.
    pub(super) fn keep(&self, state: &KeptState) {
        if let Err(error) = self.shared.states.keep(&self.spec.name, state) {
            let text = format!("its state could not be kept: {error:#}");
            self.shared
                .tell(&self.spec.name, Some(state.generation), "error", &text);
        }
    }
}

/// Waits for the commands that run, up to `grace`, and cancels those that are left.
pub(super) async fn drain(current: &mut Current, grace: Duration) {
    if current.leased.given_back.is_terminated() {
        // It has been drained before, on the way to its state.
        return;
    }
    if timeout(grace, &mut current.leased.given_back)
        .await
        .is_err()
    {
        current.leased.revoke.cancel();
        // A handler that holds a thread doesn't let go; it is left to itself.
        let _ = timeout(LET_GO_MAX, &mut current.leased.given_back).await;
    }
}

fn with_hint(cause: String, is_exclusive: bool) -> String {
    let lower = cause.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    let needs_to_be_alone = lower.contains("address already in use")
        || words.any(|word| matches!(word, "lock" | "locked" | "busy"));
    match needs_to_be_alone && !is_exclusive {
        true => {
            format!("{cause}; if only one of it can run at a time, #[daemon(exclusive)] says so")
        }
        false => cause,
    }
}

/// A state that the new code doesn't take is the owner's to give up, and nobody else's.
fn with_cure(cause: String) -> String {
    // The words of the author's crate, which is all that crosses.
    let of_the_state = [
        "the state can't be read",
        "the state is of version",
        "can't be migrated",
    ];
    match of_the_state.iter().any(|sign| cause.contains(sign)) {
        true => format!("{cause}; --fresh starts without it"),
        false => cause,
    }
}

fn short(hash: &str) -> &str {
    &hash[..hash.len().min(8)]
}

impl Instance {
    /// Its state for the next start, if it hands one over.
    pub(super) async fn last_state(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Result<Option<KeptState>, String> {
        if !self.has_state() {
            return Ok(None);
        }
        let saved = self.save(limit).await?;
        KeptState::of(&saved, Occasion::Stop, self.identity.generation).map(Some)
    }
}
