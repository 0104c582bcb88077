//! The spare buffers of a thread, used by the guest that is being polled: ten thousand quiet guests share a few.

use std::cell::RefCell;

use dae_common_tcp::Inbox;

/// The largest buffer that is kept (bytes). One that grew larger for a long line or reply is freed.
const KEPT_BYTES_MAX: usize = 128 << 10;

thread_local! {
    static SPARE: RefCell<SpareBuffers> = const { RefCell::new(SpareBuffers { inbox: Vec::new(), outbox: Vec::new() }) };
}

struct SpareBuffers {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

/// Registers the thread's spare buffers ([`crate::session::thread_start::prepare`]).
pub(super) fn prepare_thread() {
    SPARE.with(|_| ());
}

/// Gives a guest that has none a buffer for each direction.
pub(super) fn hand_off(inbox: &mut Inbox, outbox: &mut Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.inbox.capacity() > 0 {
            inbox.lend(std::mem::take(&mut spare.inbox));
        }
        if outbox.capacity() == 0 {
            *outbox = std::mem::take(&mut spare.outbox);
        }
    });
}

/// Takes back the buffers that are empty.
pub(super) fn reclaim(inbox: &mut Inbox, outbox: &mut Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if let Some(bytes) = inbox.reclaim()
            && bytes.capacity() <= KEPT_BYTES_MAX
        {
            spare.inbox = bytes;
        }
        if outbox.is_empty() && outbox.capacity() > 0 {
            let bytes = std::mem::take(outbox);
            if bytes.capacity() <= KEPT_BYTES_MAX {
                spare.outbox = bytes;
            }
        }
    });
}
