//! The ecosystem API of one instance: the connections and event queues that its code knows by number.
//!
//! All of these end with the instance. A call or a request for lines with an unknown number returns the status `GONE`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dae_common_tcp::{ErrorCode, Line, Message, read_line};
use dae_plugin_api::abi::status;
use serde_json::json;

use crate::connection::event_queue::EventQueue;
use crate::connection::guest_handle::{GuestHandle, Guests};
use crate::connection::pending_calls::{CallError, CallReply, in_time};
use crate::peers::client::{CallProgress, Client, Host};
use crate::plugin::completion::{Completion, HostRequest};
use crate::plugin::host_api::{ClientListener, PeerAccess};
use crate::process::host_requests::{self, FEEDS_MAX, too_many_event_queues};
use dae_store::lock::lock;

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

    fn listen(&self, request: &[u8]) -> Result<(), RefusedRequest> {
        let (event_queue, rest) = number(request);
        let (guest, _) = number(rest);
        // A guest that has gone has no event queue: a request for its lines returns that there are none.
        if let Some(client) = self.client(guest) {
            client.heard.listen(&self.new_event_queue(event_queue)?);
        } else if let Some(guest) = self.guests.find(guest) {
            guest.heard.listen(&self.new_event_queue(event_queue)?);
        } else {
            return Err(RefusedRequest::Gone);
        }
        Ok(())
    }

    fn new_event_queue(&self, id: u64) -> Result<Arc<EventQueue>, RefusedRequest> {
        let mut tables = lock(&self.tables);
        if tables.event_queues.len() >= FEEDS_MAX {
            return Err(RefusedRequest::With(too_many_event_queues()));
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

    fn subscribe(&self, request: &[u8]) -> Result<(), RefusedRequest> {
        let (event_queue, topic) = number(request);
        let event_queue = self.new_event_queue(event_queue)?;
        let topic = String::from_utf8_lossy(topic);
        self.host.directory.topics.subscribe(&topic, &event_queue);
        Ok(())
    }

    fn watch(&self, request: &[u8]) -> Result<(), RefusedRequest> {
        let event_queue = self.new_event_queue(number(request).0)?;
        self.host.directory.watch(&event_queue);
        Ok(())
    }

    fn publish(&self, line: &[u8]) {
        if let Some(message) = host_requests::event(line) {
            self.host.directory.topics.publish(message.name, line);
        }
    }

    fn connect(&self, name: &[u8]) -> HostRequest {
        let Ok(name) = std::str::from_utf8(name) else {
            return refused(&not_utf8());
        };
        let client = Client::open(&self.host, name);
        {
            let mut tables = lock(&self.tables);
            if tables.clients.len() >= CLIENTS_MAX {
                client.close();
                let text = format!(
                    "this daemon has {CLIENTS_MAX} connections open, as many as it may; close those that it doesn't need"
                );
                return refused(&CallError::new(ErrorCode::Unavailable, text));
            }
            tables.clients.insert(client.id, Arc::clone(&client));
        }
        let opened = ClientGuard {
            client,
            ecosystem_api: Weak::clone(&self.own),
            is_kept: false,
        };
        HostRequest::Later(Box::pin(async move {
            let mut opened = opened;
            let credential = opened.client.connected().await;
            match credential {
                Ok(credential) => {
                    opened.is_kept = true;
                    let mut bytes = opened.client.id.to_le_bytes().to_vec();
                    bytes.extend_from_slice(json!(credential).to_string().as_bytes());
                    done(bytes)
                }
                Err(refusal) => failed(&refusal),
            }
        }))
    }

    fn call_guest(&self, request: &[u8]) -> HostRequest {
        let (id, line) = number(request);
        let Line::Message(message) = read_line(line) else {
            return refused(&not_a_line());
        };
        if let Some(client) = self.client(id) {
            return asking(client.call(message.name, message.arguments));
        }
        match self.guests.find(id) {
            Some(guest) => self.ask_guest(&guest, &message, line),
            None => HostRequest::Now(gone()),
        }
    }

    /// Calls a guest of the daemon.
    fn ask_guest(&self, guest: &GuestHandle, message: &Message<'_>, line: &[u8]) -> HostRequest {
        let reply = match guest.ask(message.name, line) {
            Ok(reply) => reply,
            Err(refusal) => return refused(&refusal),
        };
        let (limit, name) = (self.host.limits.command, message.name.to_owned());
        HostRequest::Later(Box::pin(async move {
            ended(in_time(reply, limit, ("the guest", &name)).await)
        }))
    }

    /// Makes a single call, over a connection that is kept for the next one.
    fn call_by_name(&self, request: &[u8]) -> HostRequest {
        let (length, rest) = number(request);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((name, line)) = rest.split_at_checked(length) else {
            return refused(&not_a_line());
        };
        let (Ok(name), Line::Message(message)) = (std::str::from_utf8(name), read_line(line))
        else {
            return refused(&not_a_line());
        };
        let kept = self.kept(name);
        match kept.client.call(message.name, message.arguments) {
            CallProgress::Now(reply) => {
                kept.calls.fetch_sub(1, Ordering::Relaxed);
                HostRequest::Now(ended(reply))
            }
            CallProgress::Later(reply) => {
                let ecosystem_api = Weak::clone(&self.own);
                let one_call = NamedCall {
                    kept,
                    ecosystem_api,
                };
                HostRequest::Later(Box::pin(async move {
                    let reply = reply.await;
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

    fn next_lines(&self, request: &[u8]) -> HostRequest {
        let (id, _) = number(request);
        let Some(event_queue) = lock(&self.tables).event_queues.get(&id).cloned() else {
            return HostRequest::Now(gone());
        };
        let own = Weak::clone(&self.own);
        HostRequest::Later(Box::pin(std::future::poll_fn(move |context| {
            event_queue.poll_lines(context).map(|lines| match lines {
                Some(lines) => done(lines),
                None if event_queue.is_slow() && !event_queue.has_ended() => {
                    // Reported once; after this the queue has ended.
                    event_queue.end();
                    done(SLOW.as_bytes().to_vec())
                }
                None => {
                    if let Some(ecosystem_api) = own.upgrade() {
                        lock(&ecosystem_api.tables).event_queues.remove(&id);
                    }
                    gone()
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
    fn ask(&self, operation: &str, request: &[u8]) -> Completion {
        if let Some(refused) = host_requests::refusal(operation, request) {
            return refused;
        }
        let result = match operation {
            "guest.listen" => self.listen(request),
            "feed.subscribe" => self.subscribe(request),
            "feed.watch" => self.watch(request),
            "publish" => {
                self.publish(request);
                Ok(())
            }
            "feed.close" => {
                self.close_event_queue(number(request).0);
                Ok(())
            }
            "guest.close" => {
                self.close_guest(number(request).0);
                Ok(())
            }
            _ => Err(RefusedRequest::Unknown),
        };
        let status = match result {
            Ok(()) => status::NOTHING,
            Err(RefusedRequest::Gone) => status::GONE,
            Err(RefusedRequest::Unknown) => status::UNKNOWN,
            Err(RefusedRequest::With(ended)) => return ended,
        };
        Completion {
            status,
            bytes: Vec::new(),
        }
    }

    fn ask_later(&self, operation: &str, request: &[u8]) -> HostRequest {
        match operation {
            "call" => self.call_by_name(request),
            "guest.call" => self.call_guest(request),
            "feed.next" => self.next_lines(request),
            "connect" => self.connect(request),
            "list" => HostRequest::Now(done(
                json!(self.host.directory.list()).to_string().into_bytes(),
            )),
            "find" => {
                let name = String::from_utf8_lossy(request);
                HostRequest::Now(match self.host.directory.credential(&name) {
                    Some(credential) => done(json!(credential).to_string().into_bytes()),
                    None => Completion {
                        status: status::NOTHING,
                        bytes: Vec::new(),
                    },
                })
            }
            _ => HostRequest::Now(Completion {
                status: status::UNKNOWN,
                bytes: Vec::new(),
            }),
        }
    }

    fn emit(&self, guest: u64, line: &[u8]) -> bool {
        if let Some(guest) = self.guests.find(guest) {
            return guest.push(line);
        }
        self.client(guest).is_some_and(|client| client.emit(line))
    }

    fn tell_of_clients(&self, told: ClientListener) {
        // Set once, before the daemon's code begins.
        let _ = self.host.told.set(told);
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

/// The reason why a request was refused.
enum RefusedRequest {
    Gone,
    Unknown,
    With(Completion),
}

fn number(bytes: &[u8]) -> (u64, &[u8]) {
    crate::process::ipc::split_u64(bytes)
}

fn asking(calling: CallProgress) -> HostRequest {
    match calling {
        CallProgress::Now(reply) => HostRequest::Now(ended(reply)),
        CallProgress::Later(reply) => {
            HostRequest::Later(Box::pin(async move { ended(reply.await) }))
        }
    }
}

fn ended(reply: CallReply) -> Completion {
    match reply {
        Ok(bytes) => done(bytes),
        Err(refusal) => failed(&refusal),
    }
}

fn done(bytes: Vec<u8>) -> Completion {
    Completion {
        status: status::DONE,
        bytes,
    }
}

fn gone() -> Completion {
    Completion {
        status: status::GONE,
        bytes: Vec::new(),
    }
}

fn failed(refusal: &CallError) -> Completion {
    Completion {
        status: status::FAILED,
        bytes: serde_json::to_vec(refusal).unwrap_or_default(),
    }
}

fn refused(refusal: &CallError) -> HostRequest {
    HostRequest::Now(failed(refusal))
}

fn not_utf8() -> CallError {
    CallError::new(ErrorCode::BadArguments, "the name is not UTF-8")
}

fn not_a_line() -> CallError {
    CallError::new(
        ErrorCode::BadName,
        "that is no line: a name, a space, and a JSON array",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use dae_store::config::Config;

    fn ecosystem_api() -> Arc<EcosystemApi> {
        let host = Host {
            visitor: "A".to_owned(),
            directory: Arc::default(),
            limits: Config::default().limits(),
            runtime: tokio::runtime::Handle::current(),
            told: OnceLock::new(),
            opened: AtomicUsize::new(0),
        };
        EcosystemApi::new(host, Arc::default())
    }

    async fn next(ecosystem_api: &EcosystemApi, event_queue: u64) -> Completion {
        match ecosystem_api.ask_later("feed.next", &event_queue.to_le_bytes()) {
            HostRequest::Now(ended) => ended,
            HostRequest::Later(work) => work.await,
        }
    }

    fn listen(ecosystem_api: &EcosystemApi, event_queue: u64, guest: u64) -> u32 {
        let request = [event_queue.to_le_bytes(), guest.to_le_bytes()].concat();
        ecosystem_api.ask("guest.listen", &request).status
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
        guest.heard.tell(&vec![
            b'x';
            crate::connection::event_queue::FEED_BYTES_MAX + 1
        ]);
        let told = next(&ecosystem_api, 1).await;
        assert_eq!(told.bytes, SLOW.as_bytes());
        assert_eq!(next(&ecosystem_api, 1).await.status, status::GONE);
    }

    #[tokio::test]
    async fn calls_to_nobody_leave_nothing_whether_they_end_or_are_dropped() {
        let ecosystem_api = ecosystem_api();
        for n in 0..10_u64 {
            let name = format!("N{n}");
            let length = (name.len() as u64).to_le_bytes();
            let request = [&length, name.as_bytes(), b"echo [1]"].concat();
            match ecosystem_api.ask_later("call", &request) {
                HostRequest::Later(work) if n % 2 == 0 => {
                    assert_eq!(work.await.status, status::FAILED);
                }
                dropped => drop(dropped),
            }
        }
        assert_eq!(lock(&ecosystem_api.tables).kept.len(), 0);
    }

    #[tokio::test]
    async fn two_lines_are_not_published_as_one() {
        let ended = ecosystem_api().ask("publish", b"tick []\nerror []");
        assert_eq!(ended.status, status::FAILED);
    }
}
