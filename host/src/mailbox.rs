//! What others push to a guest, and who the guests of a daemon are.
//!
//! A connection's task owns its socket. Whoever else has something for the guest (an event of its daemon, the end of the
//! daemon) leaves it here and wakes the task. Ids are never used twice, so a daemon may keep one for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// Events that wait for a guest who doesn't read, in bytes (Common TCP, hostile input). Past that it is closed.
pub const PUSHED_BYTES_MAX: usize = 4 << 20;

/// One guest, as others see it.
#[derive(Debug)]
pub struct Mailbox {
    id: u64,
    pushed: Mutex<Vec<u8>>,
    /// Whether there is anything in `pushed`, so that a guest nobody pushes to takes no lock.
    has_mail: AtomicBool,
    is_slow: AtomicBool,
    is_closing: AtomicBool,
    has_left: AtomicBool,
    task: AtomicWaker,
}

impl Mailbox {
    /// The guest's number.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Leaves one line, without its LF, for the guest. False once it has too many, or has gone.
    pub fn push(&self, line: &[u8]) -> bool {
        if self.has_left.load(Ordering::Acquire) {
            return false;
        }
        let mut pushed = lock(&self.pushed);
        if self.is_slow() || pushed.len() + line.len() > PUSHED_BYTES_MAX {
            self.is_slow.store(true, Ordering::Release);
        } else {
            pushed.extend_from_slice(line);
            pushed.push(b'\n');
            self.has_mail.store(true, Ordering::Release);
        }
        drop(pushed);
        self.task.wake();
        !self.is_slow()
    }

    /// Whether anything was pushed since it was last taken.
    #[inline]
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Appends what was pushed.
    #[inline]
    pub fn take_into(&self, outbox: &mut Vec<u8>) {
        if !self.has_mail() {
            return;
        }
        let mut pushed = lock(&self.pushed);
        self.has_mail.store(false, Ordering::Release);
        match outbox.is_empty() {
            true => std::mem::swap(&mut *pushed, outbox),
            false => outbox.append(&mut pushed),
        }
    }

    /// Whether more was pushed than it may have waiting.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Acquire)
    }

    /// Asks the connection to end once its running commands have.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// The connection's task is woken by what comes from now on. Look for what came before after this.
    pub fn watch(&self, context: &Context<'_>) {
        self.task.register(context.waker());
    }
}

/// The guests of one daemon. They outlive its instances.
#[derive(Debug, Default)]
pub struct Guests {
    by_id: Mutex<HashMap<u64, Arc<Mailbox>>>,
}

impl Guests {
    /// A new guest.
    #[must_use]
    pub fn enter(&self) -> Arc<Mailbox> {
        // 0 is nobody.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let mailbox = Arc::new(Mailbox {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            pushed: Mutex::default(),
            has_mail: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        lock(&self.by_id).insert(mailbox.id, Arc::clone(&mailbox));
        mailbox
    }

    /// It has gone.
    pub fn leave(&self, id: u64) {
        if let Some(mailbox) = lock(&self.by_id).remove(&id) {
            mailbox.has_left.store(true, Ordering::Release);
        }
    }

    /// The guest of that number, if it is still here.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<Mailbox>> {
        lock(&self.by_id).get(&id).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.by_id).len()
    }

    /// Asks every one to end.
    pub fn close_all(&self) {
        for mailbox in lock(&self.by_id).values() {
            mailbox.close();
        }
    }
}

/// No code of others runs under these locks, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
