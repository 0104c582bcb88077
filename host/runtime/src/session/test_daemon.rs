//! A built-in daemon for unit tests of this folder: its one command, `slow`, ends when the test says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::instance::{AnswerFuture, BuiltIn, Instance};
use crate::plugin::completion::Completion;
use crate::plugin::identity::Identity;
use crate::session::gate::{Gate, LeaseReturn};
use dae_store::config::{Config, Limits};
use dae_store::lock::lock;
use dae_store::manifest::{Command, Manifest};

/// The daemon.
#[derive(Debug)]
pub(crate) struct TestDaemon(Mutex<Option<oneshot::Receiver<Completion>>>);

impl TestDaemon {
    /// Makes a daemon, and the sender of the end of its command.
    pub(crate) fn that_waits() -> (Self, oneshot::Sender<Completion>) {
        let (end, ended) = oneshot::channel();
        (TestDaemon(Mutex::new(Some(ended))), end)
    }
}

impl BuiltIn for TestDaemon {
    fn answer(&self, _: u32, _: Vec<u8>, _: u64) -> AnswerFuture {
        let ended = lock(&self.0).take().expect("the test calls it once");
        Box::pin(async move {
            match ended.await {
                Ok(ended) => ended.into(),
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// Returns a gate that is open to a daemon.
pub(crate) fn gate_of(daemon: TestDaemon, manifest: Manifest) -> (Arc<Gate>, LeaseReturn) {
    let limits = Limits {
        instance_wait: Duration::from_millis(5),
        ..Config::default().limits()
    };
    let gate = Gate::new("A", limits);
    let lease_return = gate.open(instance(daemon, manifest));
    (gate, lease_return)
}

/// Returns an instance of a daemon.
pub(crate) fn instance(daemon: TestDaemon, manifest: Manifest) -> Arc<Instance> {
    Arc::new(Instance::built_in(
        Identity::of_test(),
        manifest,
        Arc::new(daemon),
    ))
}

/// Returns the manifest of an asynchronous command without arguments.
pub(crate) fn command(name: &str) -> Command {
    Command {
        name: name.to_owned(),
        kind: "async".to_owned(),
        ..Command::default()
    }
}
