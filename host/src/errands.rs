//! What one instance of a daemon has its host do about others: the connections and feeds that its code knows by number.
//!
//! Everything here ends with the instance. A number that stands for nothing is answered so, as everywhere at the boundary.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dae_common_tcp::{ErrorCode, Line, Message, read_line};
use dae_plugin_api::abi::status;
use serde_json::json;

use crate::asked::{Refusal, Reply, in_time};
use crate::feed::Feed;
use crate::mailbox::{Guests, Mailbox};
use crate::outcome::{Asking, Ended};
use crate::services::{Neighbourhood, VisitTold};
use crate::topics;
use crate::visit::{Calling, Host, Visit};

/// Connections that one instance may have open. They cost a task each; a daemon that opens one for each thing it does
/// should keep and use them.
const VISITS_MAX: usize = 1024;
/// Feeds that one instance may have.
const FEEDS_MAX: usize = 4096;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Errands {
    own: Weak<Errands>,
    host: Arc<Host>,
    /// The guests of the daemon itself.
    guests: Arc<Guests>,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    visits: HashMap<u64, Arc<Visit>>,
    /// Those that the host keeps for single calls, by whom they are to.
    kept: HashMap<String, Arc<Visit>>,
    feeds: HashMap<u64, Arc<Feed>>,
}

impl Errands {
    /// Those of one instance.
    pub(crate) fn new(host: Host, guests: Arc<Guests>) -> Arc<Self> {
        Arc::new_cyclic(|own| Errands {
            own: Weak::clone(own),
            host: Arc::new(host),
            guests,
            tables: Mutex::default(),
        })
    }

    fn visit(&self, id: u64) -> Option<Arc<Visit>> {
        lock(&self.tables).visits.get(&id).cloned()
    }

    fn listen(&self, request: &[u8]) -> Result<(), Refused> {
        let (feed, rest) = number(request);
        let (guest, _) = number(rest);
        let feed = self.new_feed(feed)?;
        if let Some(visit) = self.visit(guest) {
            visit.heard.listen(&feed);
        } else if let Some(guest) = self.guests.find(guest) {
            guest.heard.listen(&feed);
        } else {
            return Err(Refused::Gone);
        }
        Ok(())
    }

    fn new_feed(&self, id: u64) -> Result<Arc<Feed>, Refused> {
        let mut tables = lock(&self.tables);
        if tables.feeds.len() >= FEEDS_MAX {
            let text =
                format!("this daemon listens in {FEEDS_MAX} places already, as many as it may");
            return Err(Refused::For(text));
        }
        let feed = Arc::new(Feed::default());
        tables.feeds.insert(id, Arc::clone(&feed));
        Ok(feed)
    }

    fn close_feed(&self, id: u64) {
        if let Some(feed) = lock(&self.tables).feeds.remove(&id) {
            feed.end();
        }
    }

    fn close_guest(&self, id: u64) {
        if let Some(visit) = lock(&self.tables).visits.remove(&id) {
            visit.close();
        } else if let Some(guest) = self.guests.find(id) {
            guest.close();
        }
    }

    fn subscribe(&self, request: &[u8]) -> Result<(), Refused> {
        let (feed, topic) = number(request);
        let topic = checked_topic(topic)?;
        let feed = self.new_feed(feed)?;
        self.host.neighbours.topics.subscribe(topic, &feed);
        Ok(())
    }

    fn watch(&self, request: &[u8]) -> Result<(), Refused> {
        let feed = self.new_feed(number(request).0)?;
        self.host.neighbours.watch(&feed);
        Ok(())
    }

    fn publish(&self, line: &[u8]) -> Result<(), Refused> {
        match read_line(line) {
            Line::Message(message) => {
                checked_topic(message.name.as_bytes())?;
                self.host.neighbours.topics.publish(message.name, line);
                Ok(())
            }
            _ => Err(Refused::For("that is no line".to_owned())),
        }
    }

    fn connect(&self, name: &[u8]) -> Asking {
        let Ok(name) = std::str::from_utf8(name) else {
            return refused(&not_utf8());
        };
        let visit = Visit::open(&self.host, name);
        {
            let mut tables = lock(&self.tables);
            if tables.visits.len() >= VISITS_MAX {
                visit.close();
                let text = format!(
                    "this daemon has {VISITS_MAX} connections open, as many as it may; close those that it doesn't need"
                );
                return refused(&Refusal::new(ErrorCode::Unavailable, text));
            }
            tables.visits.insert(visit.id, Arc::clone(&visit));
        }
        let visiting = Visiting {
            visit,
            errands: Weak::clone(&self.own),
            is_kept: false,
        };
        Asking::Later(Box::pin(async move {
            let mut visiting = visiting;
            let credential = visiting.visit.connected().await;
            match credential {
                Ok(credential) => {
                    visiting.is_kept = true;
                    let mut bytes = visiting.visit.id.to_le_bytes().to_vec();
                    bytes.extend_from_slice(json!(credential).to_string().as_bytes());
                    done(bytes)
                }
                Err(refusal) => failed(&refusal),
            }
        }))
    }

    fn call_guest(&self, request: &[u8]) -> Asking {
        let (id, line) = number(request);
        let Line::Message(message) = read_line(line) else {
            return refused(&not_a_line());
        };
        if let Some(visit) = self.visit(id) {
            return asking(visit.call(message.name, message.arguments));
        }
        match self.guests.find(id) {
            Some(guest) => self.ask_guest(&guest, &message, line),
            None => Asking::Now(Ended {
                status: status::GONE,
                bytes: Vec::new(),
            }),
        }
    }

    /// Asks somebody who has connected to the daemon.
    fn ask_guest(&self, guest: &Mailbox, message: &Message<'_>, line: &[u8]) -> Asking {
        let reply = match guest.ask(message.name, line) {
            Ok(reply) => reply,
            Err(refusal) => return refused(&refusal),
        };
        let (limit, name) = (self.host.limits.command, message.name.to_owned());
        Asking::Later(Box::pin(async move {
            ended(in_time(reply, limit, ("the guest", &name)).await)
        }))
    }

    /// One call, over a connection that is kept for the next.
    fn call_by_name(&self, request: &[u8]) -> Asking {
        let (length, rest) = number(request);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((name, line)) = rest.split_at_checked(length) else {
            return refused(&not_a_line());
        };
        let (Ok(name), Line::Message(message)) = (std::str::from_utf8(name), read_line(line))
        else {
            return refused(&not_a_line());
        };
        let visit = {
            let mut tables = lock(&self.tables);
            match tables.kept.get(name) {
                Some(visit) => Arc::clone(visit),
                None => {
                    let visit = Visit::open(&self.host, name);
                    // Nobody will ever listen.
                    visit.heard.end();
                    tables.kept.insert(name.to_owned(), Arc::clone(&visit));
                    visit
                }
            }
        };
        match visit.call(message.name, message.arguments) {
            Calling::Now(reply) => Asking::Now(ended(reply)),
            Calling::Later(reply) => {
                let errands = Weak::clone(&self.own);
                Asking::Later(Box::pin(async move {
                    let reply = reply.await;
                    if reply.is_err()
                        && !visit.is_open()
                        && let Some(errands) = errands.upgrade()
                    {
                        errands.forget(&visit);
                    }
                    ended(reply)
                }))
            }
        }
    }

    /// A name that nobody has is not looked for any longer.
    fn forget(&self, visit: &Arc<Visit>) {
        let mut tables = lock(&self.tables);
        if tables
            .kept
            .get(&visit.name)
            .is_some_and(|kept| Arc::ptr_eq(kept, visit))
        {
            tables.kept.remove(&visit.name);
        }
        visit.close();
    }

    fn next_lines(&self, request: &[u8]) -> Asking {
        let Some(feed) = lock(&self.tables).feeds.get(&number(request).0).cloned() else {
            return Asking::Now(Ended {
                status: status::GONE,
                bytes: Vec::new(),
            });
        };
        Asking::Later(Box::pin(std::future::poll_fn(move |context| {
            let was_slow = feed.is_slow();
            feed.poll_lines(context).map(|lines| match lines {
                Some(mut lines) => {
                    if was_slow {
                        lines.extend_from_slice(SLOW.as_bytes());
                    }
                    done(lines)
                }
                None => Ended {
                    status: status::GONE,
                    bytes: Vec::new(),
                },
            })
        })))
    }
}

/// What a reader is told who was too slow.
const SLOW: &str = "disconnect [\"slow-guest: too many events waited to be read; no more come\"]\n";

/// A visit that is given up again where nobody waits for it any more.
struct Visiting {
    visit: Arc<Visit>,
    errands: Weak<Errands>,
    is_kept: bool,
}

impl Drop for Visiting {
    fn drop(&mut self) {
        if !self.is_kept {
            self.visit.close();
            if let Some(errands) = self.errands.upgrade() {
                lock(&errands.tables).visits.remove(&self.visit.id);
            }
        }
    }
}

impl Neighbourhood for Errands {
    fn ask(&self, operation: &str, request: &[u8]) -> Ended {
        let result = match operation {
            "guest.listen" => self.listen(request),
            "feed.subscribe" => self.subscribe(request),
            "feed.watch" => self.watch(request),
            "publish" => self.publish(request),
            "feed.close" => {
                self.close_feed(number(request).0);
                Ok(())
            }
            "guest.close" => {
                self.close_guest(number(request).0);
                Ok(())
            }
            _ => Err(Refused::Unknown),
        };
        let (status, text) = match result {
            Ok(()) => (status::NOTHING, String::new()),
            Err(Refused::Gone) => (status::GONE, String::new()),
            Err(Refused::Unknown) => (status::UNKNOWN, String::new()),
            Err(Refused::For(text)) => (status::FAILED, text),
        };
        Ended {
            status,
            bytes: text.into_bytes(),
        }
    }

    fn ask_later(&self, operation: &str, request: &[u8]) -> Asking {
        match operation {
            "call" => self.call_by_name(request),
            "guest.call" => self.call_guest(request),
            "feed.next" => self.next_lines(request),
            "connect" => self.connect(request),
            "list" => Asking::Now(done(
                json!(self.host.neighbours.list()).to_string().into_bytes(),
            )),
            "find" => {
                let name = String::from_utf8_lossy(request);
                Asking::Now(match self.host.neighbours.credential(&name) {
                    Some(credential) => done(json!(credential).to_string().into_bytes()),
                    None => Ended {
                        status: status::NOTHING,
                        bytes: Vec::new(),
                    },
                })
            }
            _ => Asking::Now(Ended {
                status: status::UNKNOWN,
                bytes: Vec::new(),
            }),
        }
    }

    fn emit(&self, guest: u64, line: &[u8]) -> bool {
        if let Some(guest) = self.guests.find(guest) {
            return guest.push(line);
        }
        self.visit(guest).is_some_and(|visit| visit.emit(line))
    }

    fn tell_of_visits(&self, told: VisitTold) {
        // Said once, before the daemon's code begins.
        let _ = self.host.told.set(told);
    }

    fn is_open(&self, guest: u64) -> bool {
        self.guests.find(guest).is_some() || self.visit(guest).is_some_and(|visit| visit.is_open())
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        let tables = self
            .tables
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for visit in tables.visits.values().chain(tables.kept.values()) {
            visit.close();
        }
        for feed in tables.feeds.values() {
            feed.end();
        }
    }
}

/// Why something was not done at once.
enum Refused {
    Gone,
    Unknown,
    For(String),
}

fn checked_topic(topic: &[u8]) -> Result<&str, Refused> {
    let topic = std::str::from_utf8(topic).unwrap_or_default();
    topics::check(topic).map_err(Refused::For)?;
    Ok(topic)
}

fn number(bytes: &[u8]) -> (u64, &[u8]) {
    crate::frame::split_u64(bytes)
}

fn asking(calling: Calling) -> Asking {
    match calling {
        Calling::Now(reply) => Asking::Now(ended(reply)),
        Calling::Later(reply) => Asking::Later(Box::pin(async move { ended(reply.await) })),
    }
}

fn ended(reply: Reply) -> Ended {
    match reply {
        Ok(bytes) => done(bytes),
        Err(refusal) => failed(&refusal),
    }
}

fn done(bytes: Vec<u8>) -> Ended {
    Ended {
        status: status::DONE,
        bytes,
    }
}

fn failed(refusal: &Refusal) -> Ended {
    Ended {
        status: status::FAILED,
        bytes: serde_json::to_vec(refusal).unwrap_or_default(),
    }
}

fn refused(refusal: &Refusal) -> Asking {
    Asking::Now(failed(refusal))
}

fn not_utf8() -> Refusal {
    Refusal::new(ErrorCode::BadArguments, "the name is not UTF-8")
}

fn not_a_line() -> Refusal {
    Refusal::new(
        ErrorCode::BadName,
        "that is no line: a name, a space, and a JSON array",
    )
}

/// No code of others runs under these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
