//! The output side of a connection: the bytes that are ready for the guest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::connection::guest_handle::GuestHandle;
use crate::connection::reply_budget::{GUEST_BYTES_MAX, ReplyBudget};

/// The most reply bytes that wait for a guest before reading from it stops (Common TCP, hostile input).
pub(super) const OUTBOX_BYTES_MAX: usize = GUEST_BYTES_MAX;

/// The output side of a connection.
#[derive(Default)]
pub(super) struct Output {
    pub(super) outbox: Vec<u8>,
    /// The bytes of the outbox that have been written.
    sent: usize,
    /// True while the reply budget counts bytes that wait for this guest.
    pub(super) is_counted: bool,
}

impl Output {
    /// Returns how many bytes wait to be written.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Returns whether everything is written.
    #[inline]
    pub(super) fn is_written(&self) -> bool {
        self.sent == self.outbox.len()
    }

    /// Returns whether more may be made ready.
    #[inline]
    pub(super) fn has_space(&self) -> bool {
        self.waiting() < OUTBOX_BYTES_MAX
    }

    /// Writes what the stream takes. Returns whether it took anything.
    ///
    /// # Errors
    /// The guest has gone.
    pub(super) fn flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut has_written = false;
        while !self.is_written() {
            match Pin::new(&mut *stream).poll_write(context, &self.outbox[self.sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    has_written = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.is_written() {
            self.outbox.clear();
            self.sent = 0;
        } else if self.sent > self.outbox.len() / 2 {
            // Not sooner: moving the rest of a huge reply again and again would take quadratic time.
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(has_written)
    }

    /// Reports the bytes that wait for this guest to the daemon's reply budget, with `held` bytes of replies that are
    /// not in the outbox yet.
    #[inline]
    pub(super) fn count(&mut self, held: usize, budget: &ReplyBudget, guest: &GuestHandle) {
        let waits = self.waiting() + held;
        if waits != 0 || self.is_counted {
            self.is_counted = waits != 0;
            budget.set(guest.id(), waits);
            guest.count_unread(waits);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A stream that takes so many bytes.
    struct Takes(usize);

    impl AsyncWrite for Takes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = bytes.len().min(self.0);
            self.0 -= written;
            match written {
                0 => Poll::Pending,
                written => Poll::Ready(Ok(written)),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_stream_does_not_take_stays_in_its_order() {
        let mut output = Output::default();
        output.outbox.extend_from_slice(b"0123456789");
        let mut context = Context::from_waker(Waker::noop());
        for (takes, has_written, waits) in [
            (0, false, 10),
            (4, true, 6),
            (3, true, 3),
            (0, false, 3),
            (9, true, 0),
        ] {
            let flushed = output.flush(&mut Takes(takes), &mut context).unwrap();
            assert_eq!((flushed, output.waiting()), (has_written, waits));
            assert!(b"0123456789".ends_with(&output.outbox[output.sent..]));
        }
        assert!(output.is_written() && output.outbox.is_empty());
    }
}
