//! A bare instance of a test host, for the tests of this crate: it runs no code of a daemon, a test sees each request,
//! and may prepare its answer.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::abi::{HostV1, StepV1, status};
use crate::export::{Call, Exported, Live, StartRequest, Work};
use crate::testing::core::Core;
use crate::testing::signal::{Signal, lock};
use crate::testing::slot::Slot;
use crate::testing::vtable;
use crate::testing::world::{Asked, Connection, MemberKind, Opener, Tables};
use crate::{Ecosystem, Guest};

/// The number of polls after which a test fails.
const ROUNDS_MAX: usize = 1_000;

/// The host of one instance.
pub struct FakeHost {
    core: Arc<Core>,
    slot: Arc<Slot>,
    host: HostV1,
}

/// A daemon without commands, which is never started.
struct Bare;

impl Exported for Bare {
    fn manifest() -> &'static str {
        r#"{"name":"Bare","version":"0.0.0","commands":[]}"#
    }

    fn start(_: StartRequest) -> Work<Self> {
        Box::pin(async { Ok(Bare) })
    }

    fn call(_: &Arc<Live<Self>>, _: Call<'_>) -> StepV1 {
        StepV1::ended(status::UNKNOWN)
    }
}

impl FakeHost {
    /// Creates a host without any requests so far.
    pub fn new() -> Self {
        let core = Core::start();
        lock(&core.script).is_bare = true;
        let host = vtable::register(&core);
        let slot = Slot::of::<Bare>(None, "{}".to_owned(), None).expect("a manifest");
        let slot = Arc::new(slot);
        {
            let mut world = lock(&core.world);
            world.add_member("Bare", MemberKind::Daemon(Arc::clone(&slot)));
            world.instances.insert(host.daemon, Tables::default());
            world.names.insert(host.daemon, Arc::clone(&slot));
        }
        FakeHost { core, slot, host }
    }

    pub fn host(&self) -> HostV1 {
        self.host
    }

    pub fn ecosystem(&self) -> Ecosystem {
        Ecosystem::new(self.host)
    }

    /// Returns a connected guest.
    pub fn guest(&self, id: u64) -> Guest {
        let mut world = lock(&self.core.world);
        world.connections.entry(id).or_insert_with(|| Connection {
            to: "Bare".to_owned(),
            opener: Opener::Test(Arc::new(Mutex::default())),
            heard: Vec::new(),
            asked: Asked::default(),
            handled: Asked::default(),
            greeted: Arc::new(Signal::default()),
            is_away: false,
        });
        Guest::new(self.host, id)
    }

    /// Sets the answer to an operation that takes time.
    pub fn answer(&self, operation: &str, status: u32, answer: &[u8]) {
        let mut script = lock(&self.core.script);
        let outcome = (status, answer.to_vec());
        script.answers.insert(operation.to_owned(), outcome);
    }

    /// Sends a line from the guest to its queues.
    pub fn say(&self, guest: u64, line: &str) {
        lock(&self.core.world).push_to_acceptor(guest, line);
    }

    /// Puts a line into the queues of topics and changes.
    pub fn say_to_all(&self, line: &str) {
        let mut world = lock(&self.core.world);
        let queues: Vec<u64> = world.topics.iter().map(|one| one.queue).collect();
        for queue in queues {
            if let Some(queue) = world.queue(self.host.daemon, queue) {
                queue.push(line);
            }
        }
    }

    /// Ends all queues of the guest, which stays connected.
    pub fn overflow_queues(&self, guest: u64) {
        let mut world = lock(&self.core.world);
        let connection = world.connections.get_mut(&guest).expect("a guest");
        for (instance, queue) in std::mem::take(&mut connection.heard) {
            if let Some(queue) = world.queue(instance, queue) {
                queue.end_as_slow();
            }
        }
    }

    /// Ends the guest for good.
    pub fn end_guest(&self, guest: u64) {
        self.core.leave(guest, "it has gone");
    }

    /// Ends the daemon, which cancels its spawned tasks.
    pub fn end(&self) {
        self.core.forget(self.host.daemon);
        self.core.executor.cancel_all_of(self.host.daemon);
    }

    pub fn asked(&self, operation: &str) -> Vec<Vec<u8>> {
        let script = lock(&self.core.script);
        let named = script.asked.iter().filter(|(name, _)| name == operation);
        named.map(|(_, request)| request.clone()).collect()
    }

    /// Returns the lines that guests were sent.
    pub fn emitted(&self) -> Vec<(u64, String)> {
        let world = lock(&self.core.world);
        let mut emitted = Vec::new();
        for (guest, connection) in &world.connections {
            if let Opener::Test(lines) = &connection.opener {
                emitted.extend(lock(lines).iter().map(|line| (*guest, line.clone())));
            }
        }
        emitted
    }

    pub fn logged(&self) -> String {
        let log = lock(&self.slot.log);
        let messages: Vec<&str> = log.iter().map(|line| line.message()).collect();
        messages.join("\n")
    }

    /// Returns the number of tasks that haven't ended.
    pub fn tasks(&self) -> usize {
        self.core.executor.tasks_of(self.host.daemon)
    }

    pub fn open_queues(&self) -> usize {
        let world = lock(&self.core.world);
        let tables = world.instances.values();
        let queues = tables.flat_map(|one| one.queues.values());
        queues.filter(|queue| queue.is_open()).count()
    }

    /// Runs the tasks until none makes further progress.
    #[track_caller]
    pub fn settle(&self) {
        self.core.settle().expect("no task holds the thread");
    }

    /// Runs `future` to its end, and the tasks beside it.
    #[track_caller]
    pub fn finish<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.settle();
        }
        panic!("it does not end");
    }

    /// Polls `future` once.
    pub fn glance<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.core.executor.close();
    }
}
