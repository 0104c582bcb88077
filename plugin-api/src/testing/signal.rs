//! A value under a lock that tasks wait for: the one means by which the tasks of a test host wake each other.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Locks a mutex. A panic of a test must not hide the state from the rest of the test.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value, and the tasks that wait for it to change.
#[derive(Default)]
pub struct Signal<T>(Mutex<Watched<T>>);

#[derive(Default)]
struct Watched<T> {
    value: T,
    wakers: Vec<Waker>,
}

impl<T> Signal<T> {
    pub fn new(value: T) -> Self {
        Signal(Mutex::new(Watched {
            value,
            wakers: Vec::new(),
        }))
    }

    /// Looks at the value, or changes it without a word to those who wait.
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut lock(&self.0).value)
    }

    /// Changes the value, and wakes all tasks that wait.
    pub fn change<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut watched = lock(&self.0);
        let result = act(&mut watched.value);
        let wakers = std::mem::take(&mut watched.wakers);
        // A waker may run code that comes back here.
        drop(watched);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until `look` returns something.
    pub async fn until<R>(&self, mut look: impl FnMut(&mut T) -> Option<R>) -> R {
        poll_fn(|context| {
            let mut watched = lock(&self.0);
            if let Some(found) = look(&mut watched.value) {
                return Poll::Ready(found);
            }
            let waker = context.waker();
            if !watched.wakers.iter().any(|one| one.will_wake(waker)) {
                watched.wakers.push(waker.clone());
            }
            Poll::Pending
        })
        .await
    }
}
