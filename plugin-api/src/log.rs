//! The log of a plugin: a `tracing` subscriber that forwards every event to the host.
//!
//! Each library has its own statics, so the host's subscriber never receives a plugin's `tracing::info!`. This
//! subscriber does, and adds the daemon that was running. A thread-local names it while the daemon's code runs, and on
//! the threads of the daemon's tokio runtime. On the plugin's own threads, it is the daemon that started last in this
//! library.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError, RwLock};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::abi::HostV1;

thread_local! {
    static CURRENT: Cell<Option<HostV1>> = const { Cell::new(None) };
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The daemon for threads that aren't known to run a daemon.
static LATEST: RwLock<Option<HostV1>> = RwLock::new(None);

/// True if this library is part of a program that runs its daemons. The program's own threads then run no daemon.
static IS_BUILT_IN: AtomicBool = AtomicBool::new(false);

/// Notes that this library is part of a program, which has threads, panics and log records of its own.
pub fn be_built_in() {
    IS_BUILT_IN.store(true, Ordering::Relaxed);
}

/// Returns whether this thread runs code of the program that is no daemon's.
pub fn is_program() -> bool {
    IS_BUILT_IN.load(Ordering::Relaxed) && current().is_none()
}

/// A mark on a thread that runs a daemon's code, until it is dropped.
pub struct Scope(Option<HostV1>);

impl Scope {
    /// Attributes this thread's log to that daemon until the scope is dropped.
    #[inline]
    #[must_use]
    pub fn enter(host: HostV1) -> Self {
        Scope(CURRENT.replace(Some(host)))
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Installs the subscriber, once for each library, and makes `host` the one for the plugin's own threads. If the plugin
/// has already set a global subscriber, that one stays.
pub fn install_subscriber(host: HostV1) {
    static ONCE: Once = Once::new();
    *LATEST.write().unwrap_or_else(PoisonError::into_inner) = Some(host);
    ONCE.call_once(|| {
        let _ = tracing::subscriber::set_global_default(Forward::default());
    });
}

/// Logs an error without `tracing`, for the panic hook.
pub fn error(target: &str, message: &str) {
    if let Some(host) = current() {
        host.log(1, target, message, "");
    }
}

/// Returns the daemon whose code this thread runs.
#[cfg(feature = "tokio")]
pub fn here() -> Option<HostV1> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// Attributes the log of this thread to a daemon for good.
#[cfg(feature = "tokio")]
pub fn adopt(host: HostV1) {
    let _ = CURRENT.try_with(|current| current.set(Some(host)));
}

fn current() -> Option<HostV1> {
    let here = CURRENT.try_with(Cell::get).ok().flatten();
    here.or_else(|| match IS_BUILT_IN.load(Ordering::Relaxed) {
        true => None,
        false => *LATEST.read().unwrap_or_else(PoisonError::into_inner),
    })
}

/// The subscriber. It keeps each span as the text to log with an event.
#[derive(Default)]
struct Forward {
    last_id: AtomicU64,
    spans: Mutex<HashMap<u64, OpenSpan>>,
}

struct OpenSpan {
    text: String,
    handles: usize,
}

impl Forward {
    fn with_span<T>(&self, id: u64, act: impl FnOnce(&mut OpenSpan) -> T) -> Option<T> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.get_mut(&id).map(act)
    }

    /// Returns the spans that this thread is in, outermost first: `outer{a=1}:inner`.
    fn path(&self) -> Option<String> {
        let entered = ENTERED.try_with(|entered| entered.borrow().clone()).ok()?;
        let texts: Vec<String> = entered
            .iter()
            .filter_map(|id| self.with_span(*id, |span| span.text.clone()))
            .collect();
        (!texts.is_empty()).then(|| texts.join(":"))
    }
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Each trace of an author's libraries would cross the boundary, so levels below DEBUG stay here.
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut text = attributes.metadata().name().to_owned();
        if !fields.0.is_empty() {
            let _ = write!(text, "{}", Value::Object(fields.0));
        }
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.insert(id, OpenSpan { text, handles: 1 });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.with_span(id.into_u64(), |span| {
            let _ = write!(span.text, "{}", Value::Object(fields.0));
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(host) = current() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        if let Some(path) = self.path() {
            fields.0.insert("span".to_owned(), Value::String(path));
        }
        let fields = match fields.0.is_empty() {
            true => String::new(),
            false => Value::Object(fields.0).to_string(),
        };
        let metadata = event.metadata();
        host.log(
            level_number(*metadata.level()),
            metadata.target(),
            &message,
            &fields,
        );
    }

    fn enter(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        let id = id.into_u64();
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            if let Some(at) = entered.iter().rposition(|one| *one == id) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.with_span(id.into_u64(), |span| span.handles += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let id = id.into_u64();
        let last = self.with_span(id, |span| {
            span.handles -= 1;
            span.handles == 0
        });
        if last == Some(true) {
            let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            spans.remove(&id);
        }
        last == Some(true)
    }
}

fn level_number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// An event's fields as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.put(field, value),
            // JSON has no such number.
            false => self.put(field, value.to_string()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}
