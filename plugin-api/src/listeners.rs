//! Event handlers: the registrations of `Guest::on`, and the task that runs them.
//!
//! A [`Guest`](crate::Guest) is only a number that is copied freely. So its handlers live here, in one table for each
//! library, by daemon and guest. The first handler opens an event queue and spawns the dispatcher, a task of the
//! daemon. The dispatcher handles one event after the other, and runs its handlers in the order of their registration.
//! It holds no lock of the table meanwhile: a handler may register, remove, send, and panic.
//!
//! An entry exists for as long as its dispatcher: until the guest has gone for good, or the daemon ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::DeserializeOwned;

use crate::abi::HostV1;
use crate::error::Callee;
use crate::event_stream::{EventStream, breath};
use crate::events::Event;
use crate::{Ecosystem, Error, Result, panic, wire};

/// The number of events that are handled before the dispatcher yields to other tasks on its thread.
const EVENTS_AT_ONCE_MAX: u32 = 64;

/// A registered handler; [`Guest::off`](crate::Guest::off) removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener {
    guest: u64,
    id: u64,
}

/// The function of a handler. Its error says why an event doesn't fit.
type Handle = Arc<Mutex<dyn FnMut(&Event) -> Result<(), String> + Send>>;

/// A handler, with the events for which it is called.
pub struct Handler {
    name: String,
    is_once: bool,
    handle: Handle,
}

struct Registered {
    id: u64,
    handler: Handler,
}

/// The handlers of one guest.
#[derive(Default)]
struct Hub {
    /// The result of opening the dispatcher, set by the first handler.
    opened: OnceLock<Result<(), String>>,
    handlers: Mutex<Handlers>,
}

#[derive(Default)]
struct Handlers {
    all: Vec<Registered>,
    /// Set when the dispatcher has ended. A new handler then needs another hub.
    is_over: bool,
}

type Key = (u64, u64);
static TABLE: Mutex<Option<HashMap<Key, Arc<Hub>>>> = Mutex::new(None);

impl Handler {
    /// Creates a handler for events of this name, whose arguments are read as `T`.
    pub fn new<T: DeserializeOwned>(
        name: &str,
        is_once: bool,
        mut handler: impl FnMut(T) + Send + 'static,
    ) -> Result<Self> {
        wire::check_name(name)?;
        Ok(Handler {
            name: name.to_owned(),
            is_once,
            handle: Arc::new(Mutex::new(move |event: &Event| {
                event.read().map(&mut handler)
            })),
        })
    }
}

/// Registers a handler. It receives all events of that guest after this call.
pub fn add(host: HostV1, guest: u64, handler: Handler) -> Result<Listener> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let key = (host.daemon, guest);
    let hub = push(key, Registered { id, handler });
    let opened = hub.opened.get_or_init(|| open(host, guest, &hub));
    match opened {
        Ok(()) => Ok(Listener { guest, id }),
        Err(text) => {
            end(key, &hub);
            Err(Error::new(text))
        }
    }
}

/// Removes a handler. Returns false if it is no longer registered. A call that is running continues.
pub fn remove(host: HostV1, guest: u64, listener: Listener) -> bool {
    let hub = match listener.guest == guest {
        true => with_table(|table| table.get(&(host.daemon, guest)).cloned()),
        false => None,
    };
    // The handler's captured values are dropped here, after the lock.
    let removed = hub.and_then(|hub| hub.lock().take(listener.id));
    removed.is_some()
}

fn with_table<T>(act: impl FnOnce(&mut HashMap<Key, Arc<Hub>>) -> T) -> T {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    act(table.get_or_insert_default())
}

fn push(key: Key, registered: Registered) -> Arc<Hub> {
    with_table(|table| {
        let hub = table.entry(key).or_default();
        // A hub can still be found between its dispatcher's end and its removal.
        if hub.lock().is_over {
            *hub = Arc::default();
        }
        hub.lock().all.push(registered);
        Arc::clone(hub)
    })
}

/// Opens the event queue, and spawns the dispatcher.
fn open(host: HostV1, guest: u64, hub: &Arc<Hub>) -> Result<(), String> {
    let stream = EventStream::of_guest(host, guest)
        .map_err(|fault| Error::of_call(&fault, "on", &Callee::Guest(guest)).to_string())?;
    let dispatcher = Dispatcher {
        host,
        guest,
        hub: Arc::clone(hub),
    };
    let spawned = Ecosystem::new(host).spawn(async move { dispatcher.run(stream).await });
    spawned.map_err(|error| error.to_string())
}

/// Ends a hub: drops its handlers, and removes it from the table.
fn end(key: Key, hub: &Arc<Hub>) {
    let dropped = {
        let mut handlers = hub.lock();
        handlers.is_over = true;
        std::mem::take(&mut handlers.all)
    };
    with_table(|table| {
        if table.get(&key).is_some_and(|found| Arc::ptr_eq(found, hub)) {
            table.remove(&key);
        }
    });
    // This drop may run the author's code, which must find no lock taken.
    drop(dropped);
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Handlers> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handlers {
    fn of(&self, name: &str) -> Vec<u64> {
        let named = |one: &&Registered| one.handler.name == name;
        self.all.iter().filter(named).map(|one| one.id).collect()
    }

    fn take(&mut self, id: u64) -> Option<Registered> {
        let at = self.all.iter().position(|one| one.id == id)?;
        Some(self.all.remove(at))
    }

    /// Returns the handler unless it was removed meanwhile. A handler for a single event is removed by this.
    fn due(&mut self, id: u64) -> Option<Handle> {
        let one = self.all.iter().find(|one| one.id == id)?;
        match one.handler.is_once {
            true => self.take(id).map(|taken| taken.handler.handle),
            false => Some(Arc::clone(&one.handler.handle)),
        }
    }
}

/// The task that runs a guest's handlers. Its drop, after its end or a cancellation, ends the hub.
struct Dispatcher {
    host: HostV1,
    guest: u64,
    hub: Arc<Hub>,
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        end((self.host.daemon, self.guest), &self.hub);
    }
}

impl Dispatcher {
    async fn run(self, mut stream: EventStream) {
        loop {
            self.follow(&mut stream).await;
            if !stream.was_full() {
                return;
            }
            self.warn("its handlers were too slow for its events, so that some are lost");
            match EventStream::of_guest(self.host, self.guest) {
                Ok(again) => stream = again,
                Err(_) => return,
            }
        }
    }

    async fn follow(&self, stream: &mut EventStream) {
        let mut handled = 0u32;
        while let Some(line) = stream.next().await {
            self.handle(&Event::new(line));
            handled = (handled + 1) % EVENTS_AT_ONCE_MAX;
            if handled == 0 {
                breath().await;
            }
        }
    }

    fn handle(&self, event: &Event) {
        let ids = self.hub.lock().of(event.name());
        for id in ids {
            let Some(handle) = self.hub.lock().due(id) else {
                continue;
            };
            self.call(&handle, event);
            // A handler for a single event is dropped here, where panics are caught.
            let _ = panic::caught(|| drop(handle));
        }
    }

    fn call(&self, handle: &Handle, event: &Event) {
        // The lock belongs to this handler, and only this task calls it.
        let called = panic::caught(|| {
            let mut handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
            handle(event)
        });
        let name = event.name();
        match called {
            Ok(Ok(())) => {}
            Ok(Err(text)) => self.warn(&format!("the event {name} was not handled: {text}")),
            Err(text) => self.warn(&format!("a handler of the event {name} {text}")),
        }
    }

    fn warn(&self, text: &str) {
        let text = format!("guest {}: {text}", self.guest);
        self.host.log(2, module_path!(), &text, "");
    }
}

#[cfg(test)]
mod tests;
