//! An instance's background work, and its end.
//!
//! The end undoes the start in the reverse order, each step with a limit. What doesn't end in time is left behind with
//! its thread, and is reported.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dae_plugin_api::abi::status;

use super::{Body, Instance, LIFE};
use crate::plugin::completion::{Completion, InstanceEnd, RunEnd};
use dae_store::blocking;
use dae_store::tasks;

impl Instance {
    /// Starts its background work, once. The future completes when that work or the instance ends.
    pub fn run(self: &Arc<Self>) -> InstanceEnd {
        match &self.body {
            Body::Subprocess(subprocess) => {
                subprocess.run();
                Box::pin(subprocess.ended())
            }
            Body::InProcess(..) | Body::BuiltIn(_) => Box::pin(self.run_here()),
        }
    }

    fn run_here(self: &Arc<Self>) -> impl Future<Output = RunEnd> + Send + Sync + use<> {
        let (ended, end) = tokio::sync::oneshot::channel();
        let mut refused = None;
        if let (Body::InProcess(..), Some(kind)) = (&self.body, self.manifest.run.as_deref()) {
            let instance = Arc::clone(self);
            let (runtime, is_async) = (self.runtime(), kind == "async");
            let run = async move {
                let Body::InProcess(live, _) = &instance.body else {
                    return;
                };
                let end = match is_async {
                    true => instance.watched(LIFE, || live.run()).await,
                    false => live.run().await,
                };
                let _ = ended.send(run_end(end));
            };
            let work = async move {
                // The result has been sent through the channel.
                let _ = tasks::logged("the `run` of a daemon", run).await;
            };
            let task = match is_async {
                true => Ok(runtime.spawn(work)),
                // A plain `fn run` holds a thread for as long as the daemon lives.
                false => {
                    let own = runtime.clone();
                    blocking::spawn_on(&runtime, move || own.block_on(work))
                }
            };
            match task {
                Ok(task) => *self.lock_running() = Some(task),
                Err(why) => refused = Some(why),
            }
        }
        async move {
            match refused {
                Some(why) => RunEnd::Failed(format!("its `run` can't be started: {why}")),
                None => end.await.unwrap_or(RunEnd::Returned),
            }
        }
    }

    /// Ends it: `stop`, then its background work, then what it has spawned, then `Drop`. Nobody may hold a lease.
    ///
    /// Work that doesn't end within `grace` is left behind with its thread, and the text says so.
    ///
    /// # Errors
    /// All failures on the way, one text each. The instance is gone nevertheless.
    pub async fn end(self: Arc<Self>, grace: Duration) -> Result<(), Vec<EndFault>> {
        if let Body::Subprocess(subprocess) = &self.body {
            return subprocess
                .end(grace)
                .await
                .map_err(|text| text.lines().map(EndFault::failed).collect());
        }
        let mut faults = Vec::new();
        let deadline = tokio::time::Instant::now() + grace;
        if self.manifest.stop.is_some() {
            faults.extend(self.stop(deadline).await.err().map(EndFault::failed));
        }
        faults.extend(self.end_run(deadline).await.err());
        match alone(self).await {
            Some(instance) => faults.extend(instance.destroy(deadline).await.err()),
            None => faults.push(EndFault::left_behind(format!(
                "a command or `run` of it still holds a thread after {grace:?}; it is left behind with its memory"
            ))),
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    async fn stop(self: &Arc<Self>, deadline: tokio::time::Instant) -> Result<(), String> {
        let instance = Arc::clone(self);
        let runtime = self.runtime();
        let stopped = blocking::run(move || match &instance.body {
            Body::InProcess(live, _) => run_end_of(runtime.block_on(async {
                let mut stop = live.stop();
                tokio::time::timeout_at(
                    deadline,
                    poll_fn(|context| Pin::new(&mut stop).poll(context)),
                )
                .await
            })),
            Body::Subprocess(_) | Body::BuiltIn(_) => Ok(RunEnd::Returned),
        });
        match tokio::time::timeout_at(deadline, stopped).await {
            Ok(Ok(Ok(RunEnd::Returned))) => Ok(()),
            Ok(Ok(Ok(RunEnd::Failed(text) | RunEnd::Crashed(text) | RunEnd::Died(text)))) => {
                Err(format!("its `stop` failed: {text}"))
            }
            Ok(Ok(Err(()))) | Err(_) => Err("its `stop` took longer than the grace".to_owned()),
            Ok(Err(why)) => Err(format!("its `stop` can't be run: {why}")),
        }
    }

    async fn end_run(&self, deadline: tokio::time::Instant) -> Result<(), EndFault> {
        let task = self.lock_running().take();
        let Some(task) = task else { return Ok(()) };
        task.abort();
        match tokio::time::timeout_at(deadline, task).await {
            Ok(_) => Ok(()),
            Err(_) => Err(EndFault::left_behind(
                "its `run` did not return after `stop`; its thread is left behind",
            )),
        }
    }

    async fn destroy(self, deadline: tokio::time::Instant) -> Result<(), EndFault> {
        let Body::InProcess(live, registration) = self.body else {
            return Ok(());
        };
        if tokio::time::timeout_at(deadline, registration.cancel_spawned())
            .await
            .is_err()
        {
            std::mem::forget(live);
            return Err(EndFault::left_behind(
                "what it has spawned did not end; it is left behind with its memory",
            ));
        }
        let destroyed = blocking::run(move || live.destroy());
        let destroyed = tokio::time::timeout_at(deadline.max(soon()), destroyed).await;
        drop(registration);
        match destroyed {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(text))) => Err(EndFault::failed(format!("its Drop panicked: {text}"))),
            Ok(Err(why)) => Err(EndFault::failed(format!("its Drop can't be run: {why}"))),
            Err(_) => Err(EndFault::left_behind(
                "its Drop took longer than the grace; its thread is left behind",
            )),
        }
    }
}

/// The longest pause between two looks at whether anything else refers to an instance.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(20);

/// Returns the instance as soon as nothing else refers to it, or `None` if that takes too long. Code that has just ended, such
/// as that of an answered command, refers to it for a moment more.
async fn alone(mut shared: Arc<Instance>) -> Option<Instance> {
    let (deadline, mut pause) = (soon(), Duration::from_millis(1));
    loop {
        shared = match Arc::try_unwrap(shared) {
            Ok(instance) => return Some(instance),
            Err(shared) => shared,
        };
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_EVERY_MAX);
    }
}

/// Returns the deadline that a `Drop` or the last reference gets even if the grace has been used up by then.
fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_millis(500)
}

/// A failure at the end of an instance.
#[derive(Debug)]
pub struct EndFault {
    /// The failure, for a person.
    pub text: String,
    /// True if a thread or memory of the instance is left for good.
    pub is_left_behind: bool,
}

impl EndFault {
    fn failed(text: impl Into<String>) -> Self {
        EndFault {
            text: text.into(),
            is_left_behind: false,
        }
    }

    fn left_behind(text: impl Into<String>) -> Self {
        EndFault {
            text: text.into(),
            is_left_behind: true,
        }
    }
}

fn run_end_of<E>(ended: Result<Completion, E>) -> Result<RunEnd, ()> {
    ended.map(run_end).map_err(|_| ())
}

fn run_end(ended: Completion) -> RunEnd {
    let text = String::from_utf8_lossy(&ended.bytes).into_owned();
    match ended.status {
        status::DONE | status::NOTHING => RunEnd::Returned,
        status::CRASHED => RunEnd::Crashed(text),
        _ => RunEnd::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{AnswerFuture, BuiltIn};
    use crate::plugin::identity::Identity;
    use dae_store::manifest::Manifest;

    const GRACE: Duration = Duration::from_secs(5);

    /// A daemon that nobody calls.
    #[derive(Debug)]
    struct Silent;

    impl BuiltIn for Silent {
        fn answer(&self, _: u32, _: Vec<u8>, _: u64) -> AnswerFuture {
            Box::pin(std::future::pending())
        }
    }

    fn instance() -> Arc<Instance> {
        let instance =
            Instance::built_in(Identity::of_test(), Manifest::default(), Arc::new(Silent));
        Arc::new(instance)
    }

    #[tokio::test]
    async fn what_refers_to_an_instance_for_a_moment_leaves_nothing_behind() {
        let ending = instance();
        let shared = Arc::clone(&ending);
        let end = tokio::spawn(ending.end(GRACE));
        // The end has come to the point where it needs the instance alone.
        while Arc::strong_count(&shared) > 2 {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        drop(shared);
        let ended = end.await.expect("it doesn't panic");
        assert!(ended.is_ok(), "{ended:?}");
    }

    #[tokio::test]
    async fn what_goes_on_referring_to_an_instance_is_reported() {
        let ending = instance();
        let _shared = Arc::clone(&ending);
        let faults = ending.end(GRACE).await.expect_err("a fault");
        assert!(
            faults.iter().all(|fault| fault.is_left_behind),
            "{faults:?}"
        );
    }
}
