//! The ecosystem API of one instance: the connections and event queues that its code knows by number.
//!
//! All of these end with the instance. A call or a request for lines with an unknown number returns the status `GONE`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dae_common_tcp::{ErrorCode, Message};
use serde_json::json;

use crate::connection::event_queue::EventQueue;
use crate::connection::guest_handle::{GuestHandle, Guests, PartOffer, PartWait, SentPart};
use crate::connection::pending_calls::{CallError, CallReply, in_time};
use crate::peers::client::{CallProgress, Client, Host};
use crate::plugin::completion::{Completion, HostAnswer};
use crate::plugin::host_api::{ClientListener, PeerAccess};
use crate::plugin::host_request::{
    DeferredRequest, EVENT_QUEUES_MAX, Instruction, too_many_event_queues,
};
use crate::session::gate::Gate;
use dae_store::lock::lock;
use dae_store::report::Credential;

/// The limit for open connections of one instance. Each costs a task. A daemon that opens one per action should keep
/// and reuse them instead.
const CLIENTS_MAX: usize = 1024;

/// The ecosystem API of one instance.
#[derive(Debug)]
pub struct EcosystemApi {
    own: Weak<EcosystemApi>,
    host: Arc<Host>,
    /// The guests of the daemon itself.
    guests: Arc<Guests>,
    tables: Mutex<ApiTables>,
}

#[derive(Debug, Default)]
struct ApiTables {
    clients: HashMap<u64, Arc<Client>>,
    /// The connections that the host keeps for calls by name, by the other daemon's name.
    kept: HashMap<String, Arc<KeptClient>>,
    event_queues: HashMap<u64, Arc<EventQueue>>,
}

/// A connection for calls by name. It is closed when the other daemon isn't there and nobody waits for a reply.
#[derive(Debug)]
struct KeptClient {
    client: Arc<Client>,
    /// The number of calls in flight; increased under the tables' lock.
    calls: AtomicUsize,
}

impl EcosystemApi {
    /// Makes the API of one instance.
    pub fn new(host: Host, guests: Arc<Guests>) -> Arc<Self> {
        Arc::new_cyclic(|own| EcosystemApi {
            own: Weak::clone(own),
            host: Arc::new(host),
            guests,
            tables: Mutex::default(),
        })
    }

    fn client(&self, id: u64) -> Option<Arc<Client>> {
        lock(&self.tables).clients.get(&id).cloned()
    }

    fn listen(&self, event_queue: u64, guest: u64) -> Result<(), Completion> {
        // A guest that has gone has no event queue: a request for its lines returns that there are none.
        if let Some(client) = self.client(guest) {
            client.heard.listen(&self.new_event_queue(event_queue)?);
        } else if let Some(guest) = self.guests.find(guest) {
            guest.heard.listen(&self.new_event_queue(event_queue)?);
        } else {
            return Err(Completion::gone());
        }
        Ok(())
    }

    fn new_event_queue(&self, id: u64) -> Result<Arc<EventQueue>, Completion> {
        let mut tables = lock(&self.tables);
        if tables.event_queues.len() >= EVENT_QUEUES_MAX {
            return Err(too_many_event_queues());
        }
        let event_queue = Arc::new(EventQueue::default());
        tables.event_queues.insert(id, Arc::clone(&event_queue));
        Ok(event_queue)
    }

    fn close_event_queue(&self, id: u64) {
        if let Some(event_queue) = lock(&self.tables).event_queues.remove(&id) {
            event_queue.end();
        }
    }

    fn close_guest(&self, id: u64) {
        if let Some(client) = lock(&self.tables).clients.remove(&id) {
            client.close();
        } else if let Some(guest) = self.guests.find(id) {
            guest.close();
        }
    }

    fn subscribe(&self, event_queue: u64, topic: &str) -> Result<(), Completion> {
        let event_queue = self.new_event_queue(event_queue)?;
        self.host.directory.topics.subscribe(topic, &event_queue);
        Ok(())
    }

    /// Opens an event queue for all topics. Without the grant it ends at once: in a subprocess the answer to this request
    /// isn't the host's.
    fn subscribe_all(&self, event_queue: u64) -> Result<(), Completion> {
        let bridge = self.bridge().map_err(Completion::failed);
        let opened = bridge.and_then(|_| self.new_event_queue(event_queue))?;
        let topics = &self.host.directory.topics;
        topics.subscribe_bridge(&self.host.visitor, &opened);
        Ok(())
    }

    fn watch(&self, event_queue: u64) -> Result<(), Completion> {
        let event_queue = self.new_event_queue(event_queue)?;
        self.host.directory.watch(&event_queue);
        Ok(())
    }

    fn connect(&self, name: &str) -> HostAnswer {
        let client = Client::open(&self.host, name);
        {
            let mut tables = lock(&self.tables);
            if tables.clients.len() >= CLIENTS_MAX {
                client.close();
                let text = format!(
                    "this daemon has {CLIENTS_MAX} connections open, as many as it may; close those that it doesn't need"
                );
                return HostAnswer::Now(CallError::new(ErrorCode::Unavailable, text).into());
            }
            tables.clients.insert(client.id, Arc::clone(&client));
        }
        let opened = ClientGuard {
            client,
            ecosystem_api: Weak::clone(&self.own),
            is_kept: false,
        };
        HostAnswer::Later(Box::pin(async move {
            let mut opened = opened;
            let credential = opened.client.connected().await;
            match credential {
                Ok(credential) => {
                    opened.is_kept = true;
                    let mut bytes = opened.client.id.to_le_bytes().to_vec();
                    bytes.extend_from_slice(json!(credential).to_string().as_bytes());
                    Completion::done(bytes)
                }
                Err(refusal) => refusal.of_daemon(&opened.client.name).into(),
            }
        }))
    }

    fn call_guest(&self, guest: u64, message: &Message<'_>, line: &[u8]) -> HostAnswer {
        if let Some(client) = self.client(guest) {
            return asking(client, message);
        }
        match self.guests.find(guest) {
            Some(guest) => self.ask_guest(&guest, message, line),
            None => HostAnswer::Now(Completion::gone()),
        }
    }

    /// Calls a guest of the daemon.
    fn ask_guest(&self, guest: &GuestHandle, message: &Message<'_>, line: &[u8]) -> HostAnswer {
        let reply = match guest.ask(message.name, line) {
            Ok(reply) => reply,
            Err(refusal) => return HostAnswer::Now(refusal.into()),
        };
        let (limit, name) = (self.host.limits.command, message.name.to_owned());
        HostAnswer::Later(Box::pin(async move {
            ended(in_time(reply, limit, ("the guest", &name)).await)
        }))
    }

    /// Makes a single call, over a connection that is kept for the next one.
    fn call_by_name(&self, daemon: &str, message: &Message<'_>) -> HostAnswer {
        let kept = self.kept(daemon);
        let started = kept.client.counts.start();
        match kept.client.call(message.name, message.arguments) {
            CallProgress::Now(reply) => {
                kept.calls.fetch_sub(1, Ordering::Relaxed);
                started.ended(reply.is_err());
                HostAnswer::Now(ended(reply))
            }
            CallProgress::Later(reply) => {
                let ecosystem_api = Weak::clone(&self.own);
                let one_call = NamedCall {
                    kept,
                    ecosystem_api,
                };
                HostAnswer::Later(Box::pin(async move {
                    let reply = reply.await;
                    started.ended(reply.is_err());
                    drop(one_call);
                    ended(reply)
                }))
            }
        }
    }

    /// Returns the connection for calls to that name, and counts one more call in flight.
    fn kept(&self, name: &str) -> Arc<KeptClient> {
        let mut tables = lock(&self.tables);
        if let Some(kept) = tables.kept.get(name) {
            kept.calls.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(kept);
        }
        tables.kept.retain(|_, kept| kept.is_of_use());
        let client = Client::open(&self.host, name);
        // Nobody will ever listen.
        client.heard.end();
        let calls = AtomicUsize::new(1);
        let kept = Arc::new(KeptClient { client, calls });
        tables.kept.insert(name.to_owned(), Arc::clone(&kept));
        kept
    }

    fn find(&self, name: &str) -> Completion {
        match self.host.directory.credential(name) {
            Some(credential) => Completion::done(json!(credential).to_string().into_bytes()),
            None => Completion::nothing(),
        }
    }

    fn list(&self) -> Completion {
        let credentials = json!(self.host.directory.list());
        Completion::done(credentials.to_string().into_bytes())
    }

    /// Adds a daemon of another host to the directory.
    fn provide(&self, credential: &str) -> Completion {
        let provided = self.bridge().and_then(|bridge| {
            let credential: Credential = serde_json::from_str(credential)
                .map_err(|error| format!("that is no credential: {error}"))?;
            self.host.directory.provide(credential, bridge)
        });
        match provided {
            Ok(name) => Completion::done(name.into_bytes()),
            Err(refusal) => Completion::failed(refusal),
        }
    }

    /// Removes a daemon of another host from the directory. One that isn't there any more is no fault.
    fn withdraw(&self, name: &str) -> Completion {
        match self.bridge() {
            Ok(bridge) => {
                self.host.directory.withdraw(name, bridge);
                Completion::nothing()
            }
            Err(refusal) => Completion::failed(refusal),
        }
    }

    /// Returns the daemon's gate, if it is a bridge.
    fn bridge(&self) -> Result<&Arc<Gate>, String> {
        self.host.bridge.as_ref().ok_or_else(|| {
            let name = &self.host.visitor;
            format!(
                "{name} may not provide daemons of other hosts; its owner allows that by the setting `grants`, a list with \"bridge\""
            )
        })
    }

    /// Passes a part to the guest that takes it, as soon as its queue has room.
    fn part(&self, part: SentPart<'_>) -> HostAnswer {
        let Some(guest) = self.guests.find(part.guest) else {
            return HostAnswer::Now(Completion::gone());
        };
        match guest.offer_part(part) {
            PartOffer::Taken => HostAnswer::Now(Completion::nothing()),
            PartOffer::Gone => HostAnswer::Now(Completion::gone()),
            PartOffer::Full(line) => {
                let taken = guest.wait_for_room(part.call, line);
                HostAnswer::Later(Box::pin(async move {
                    match taken.await {
                        PartWait::Taken => Completion::nothing(),
                        PartWait::Gone => Completion::gone(),
                        PartWait::Refused => Completion::failed(
                            "the caller doesn't read, and too many parts wait for it".to_owned(),
                        ),
                    }
                }))
            }
        }
    }

    fn next_lines(&self, id: u64) -> HostAnswer {
        let Some(event_queue) = lock(&self.tables).event_queues.get(&id).cloned() else {
            return HostAnswer::Now(Completion::gone());
        };
        let own = Weak::clone(&self.own);
        HostAnswer::Later(Box::pin(std::future::poll_fn(move |context| {
            event_queue.poll_lines(context).map(|lines| match lines {
                Some(lines) => Completion::done(lines),
                None if event_queue.is_slow() && !event_queue.has_ended() => {
                    // Reported once; after this the queue has ended.
                    event_queue.end();
                    Completion::done(SLOW.as_bytes().to_vec())
                }
                None => {
                    if let Some(ecosystem_api) = own.upgrade() {
                        lock(&ecosystem_api.tables).event_queues.remove(&id);
                    }
                    Completion::gone()
                }
            })
        })))
    }
}

impl KeptClient {
    fn is_of_use(&self) -> bool {
        let is_of_use = self.calls.load(Ordering::Relaxed) > 0 || self.client.is_open();
        if !is_of_use {
            self.client.close();
        }
        is_of_use
    }
}

/// A call by name in flight, until it is dropped.
struct NamedCall {
    kept: Arc<KeptClient>,
    ecosystem_api: Weak<EcosystemApi>,
}

impl Drop for NamedCall {
    fn drop(&mut self) {
        let Some(ecosystem_api) = self.ecosystem_api.upgrade() else {
            return;
        };
        let mut tables = lock(&ecosystem_api.tables);
        let is_last = self.kept.calls.fetch_sub(1, Ordering::Relaxed) == 1;
        let client = &self.kept.client;
        if client.is_open() || (!is_last && client.was_there()) {
            return;
        }
        // The next call of that name starts with a new attempt.
        let is_own = |kept: &Arc<KeptClient>| Arc::ptr_eq(kept, &self.kept);
        if tables.kept.get(&client.name).is_some_and(is_own) {
            tables.kept.remove(&client.name);
        }
        if is_last {
            client.close();
        }
    }
}

/// The last line for a reader that was too slow.
const SLOW: &str = "disconnect [\"slow-guest: too many events waited to be read; no more come\"]\n";

/// A guard that closes a new connection if its caller stops waiting before it is established.
struct ClientGuard {
    client: Arc<Client>,
    ecosystem_api: Weak<EcosystemApi>,
    is_kept: bool,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        if !self.is_kept {
            self.client.close();
            if let Some(ecosystem_api) = self.ecosystem_api.upgrade() {
                lock(&ecosystem_api.tables).clients.remove(&self.client.id);
            }
        }
    }
}

impl PeerAccess for EcosystemApi {
    fn instruct(&self, instruction: Instruction<'_>) -> Completion {
        let done = match instruction {
            Instruction::Listen { event_queue, guest } => self.listen(event_queue, guest),
            Instruction::Subscribe { event_queue, topic } => self.subscribe(event_queue, topic),
            Instruction::SubscribeAll(event_queue) => self.subscribe_all(event_queue),
            Instruction::Watch(event_queue) => self.watch(event_queue),
            Instruction::Publish { topic, line } => {
                let publisher = Some(self.host.visitor.as_str());
                self.host.directory.topics.publish(publisher, topic, line);
                Ok(())
            }
            Instruction::CloseEventQueue(event_queue) => {
                self.close_event_queue(event_queue);
                Ok(())
            }
            Instruction::CloseGuest(guest) => {
                self.close_guest(guest);
                Ok(())
            }
        };
        done.err().unwrap_or_else(Completion::nothing)
    }

    fn ask_later(&self, request: DeferredRequest<'_>) -> HostAnswer {
        match request {
            DeferredRequest::Call { daemon, message } => self.call_by_name(daemon, &message),
            DeferredRequest::CallGuest {
                guest,
                message,
                line,
            } => self.call_guest(guest, &message, line),
            DeferredRequest::NextLines(event_queue) => self.next_lines(event_queue),
            DeferredRequest::Connect(name) => self.connect(name),
            DeferredRequest::List => HostAnswer::Now(self.list()),
            DeferredRequest::Find(name) => HostAnswer::Now(self.find(&name)),
            DeferredRequest::Provide(credential) => HostAnswer::Now(self.provide(credential)),
            DeferredRequest::Withdraw(name) => HostAnswer::Now(self.withdraw(name)),
            DeferredRequest::Part(part) => self.part(part),
            DeferredRequest::Save => match &self.host.state_keeper {
                Some(keeper) => HostAnswer::Later(keeper.save()),
                None => HostAnswer::Now(Completion::unknown()),
            },
        }
    }

    fn emit(&self, guest: u64, line: &[u8]) -> bool {
        if let Some(guest) = self.guests.find(guest) {
            return guest.push(line);
        }
        self.client(guest).is_some_and(|client| client.emit(line))
    }

    fn tell_of_clients(&self, listener: ClientListener) {
        // Set once, before the daemon's code begins.
        let _ = self.host.client_listener.set(listener);
    }

    fn is_open(&self, guest: u64) -> bool {
        self.guests.find(guest).is_some()
            || self.client(guest).is_some_and(|client| client.is_open())
    }
}

impl Drop for EcosystemApi {
    fn drop(&mut self) {
        let tables = self
            .tables
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = tables.kept.values().map(|kept| &kept.client);
        for client in tables.clients.values().chain(kept) {
            client.close();
        }
        for event_queue in tables.event_queues.values() {
            event_queue.end();
        }
    }
}

/// Returns the answer to a call over `client`. Its error names the daemon, since the caller knows only a number.
fn asking(client: Arc<Client>, message: &Message<'_>) -> HostAnswer {
    let started = client.counts.start();
    let calling = client.call(message.name, message.arguments);
    let named = move |reply: CallReply| {
        started.ended(reply.is_err());
        ended(reply.map_err(|refusal| refusal.of_daemon(&client.name)))
    };
    match calling {
        CallProgress::Now(reply) => HostAnswer::Now(named(reply)),
        CallProgress::Later(reply) => {
            HostAnswer::Later(Box::pin(async move { named(reply.await) }))
        }
    }
}

fn ended(reply: CallReply) -> Completion {
    reply.map_or_else(Completion::from, Completion::done)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use dae_plugin_api::abi::status;

    use super::*;
    use dae_store::config::Config;

    fn ecosystem_api() -> Arc<EcosystemApi> {
        let host = Host {
            visitor: "A".to_owned(),
            directory: Arc::default(),
            limits: Config::default().limits(),
            runtime: tokio::runtime::Handle::current(),
            client_listener: OnceLock::new(),
            opened: AtomicUsize::new(0),
            state_keeper: None,
            bridge: None,
        };
        EcosystemApi::new(host, Arc::default())
    }

    async fn next(ecosystem_api: &EcosystemApi, event_queue: u64) -> Completion {
        match ecosystem_api.ask_later(DeferredRequest::NextLines(event_queue)) {
            HostAnswer::Now(ended) => ended,
            HostAnswer::Later(work) => work.await,
        }
    }

    fn listen(ecosystem_api: &EcosystemApi, event_queue: u64, guest: u64) -> u32 {
        let listen = Instruction::Listen { event_queue, guest };
        ecosystem_api.instruct(listen).status
    }

    #[tokio::test]
    async fn event_queues_of_guests_who_have_gone_leave_nothing() {
        let ecosystem_api = ecosystem_api();
        for event_queue in 1..10 {
            let guest = ecosystem_api.guests.enter();
            assert_eq!(
                listen(&ecosystem_api, event_queue, guest.id()),
                status::NOTHING
            );
            ecosystem_api.guests.leave(guest.id());
            assert_eq!(next(&ecosystem_api, event_queue).await.status, status::DONE);
            assert_eq!(next(&ecosystem_api, event_queue).await.status, status::GONE);
            assert_eq!(
                listen(&ecosystem_api, event_queue + 100, guest.id()),
                status::GONE
            );
        }
        assert_eq!(lock(&ecosystem_api.tables).event_queues.len(), 0);
    }

    #[tokio::test]
    async fn one_line_too_many_is_told_even_where_nothing_else_waits() {
        let ecosystem_api = ecosystem_api();
        let guest = ecosystem_api.guests.enter();
        listen(&ecosystem_api, 1, guest.id());
        guest.heard.notify(&vec![
            b'x';
            crate::connection::event_queue::EVENT_QUEUE_BYTES_MAX
                + 1
        ]);
        let refusal = next(&ecosystem_api, 1).await;
        assert_eq!(refusal.bytes, SLOW.as_bytes());
        assert_eq!(next(&ecosystem_api, 1).await.status, status::GONE);
    }

    #[tokio::test]
    async fn calls_to_nobody_leave_nothing_whether_they_end_or_are_dropped() {
        let ecosystem_api = ecosystem_api();
        for n in 0..10_u64 {
            let message = Message {
                name: "echo",
                tag: None,
                arguments: "[1]",
            };
            let daemon = &format!("N{n}");
            match ecosystem_api.ask_later(DeferredRequest::Call { daemon, message }) {
                HostAnswer::Later(work) if n % 2 == 0 => {
                    assert_eq!(work.await.status, status::FAILED);
                }
                dropped => drop(dropped),
            }
        }
        assert_eq!(lock(&ecosystem_api.tables).kept.len(), 0);
    }
}
