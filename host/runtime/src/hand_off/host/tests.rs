//! The returns of handed-off guests, over a link that only records what it is told.

use std::net::TcpListener;
use std::sync::atomic::AtomicU64;
use std::task::Waker;

use super::*;

/// A message to the subprocess, or to its host's other parts.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Reclaim(u64),
    CancelBegun(u64, u64),
    Read(u64, usize),
    Kill,
}

struct RecordingLink {
    hand_offs: HostHandOffs,
    hand_off_state: Arc<HandOffState>,
    last_id: AtomicU64,
    told: Mutex<Vec<Told>>,
}

impl RecordingLink {
    fn tell(&self, told: Told) {
        lock(&self.told).push(told);
    }

    fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut *lock(&self.told))
    }
}

impl WorkerLink for RecordingLink {
    fn hand_offs(&self) -> &HostHandOffs {
        &self.hand_offs
    }

    fn hand_off_state(&self) -> Option<&Arc<HandOffState>> {
        Some(&self.hand_off_state)
    }

    fn next_id(&self) -> u64 {
        self.last_id
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            + 1
    }

    fn send_guest(&self, _: u64, _: &Terms, _: BorrowedDescriptor<'_>) -> io::Result<()> {
        Ok(())
    }

    fn send_reclaim(&self, id: u64) {
        self.tell(Told::Reclaim(id));
    }

    fn cancel_begun(&self, id: u64, guest: u64) {
        self.tell(Told::CancelBegun(id, guest));
    }

    fn note_read(&self, guest: u64, bytes: usize) {
        self.tell(Told::Read(guest, bytes));
    }

    fn kill(&self, _: &str) {
        self.tell(Told::Kill);
    }
}

const GUEST: u64 = 7;

/// Hands a guest off. Returns the other end of its socket too.
fn handed_off() -> (Arc<RecordingLink>, HandOff, TcpStream) {
    let (hand_off_state, _) = HandOffState::create().expect("shared memory");
    let link = Arc::new(RecordingLink {
        hand_offs: HostHandOffs::new(None),
        hand_off_state,
        last_id: AtomicU64::new(0),
        told: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    let (socket, _) = listener.accept().expect("a guest");
    let limits = (1024, Duration::from_secs(1));
    let hand_off = HandOff::begin(Arc::clone(&link) as _, GUEST, socket, limits);
    (link, hand_off.expect("it is handed off"), other)
}

fn back(waiting: &[u8]) -> HandedBack {
    HandedBack {
        replies: b"three".to_vec(),
        waiting: waiting.to_vec(),
        ..HandedBack::default()
    }
}

/// Passes a return on. Returns whether it was taken, and who nobody waits for.
fn return_guest(
    link: &RecordingLink,
    (id, back): (u64, HandedBack),
) -> (bool, Result<Option<(u64, usize)>, String>) {
    let mut is_taken = false;
    let returned = link
        .hand_offs
        .on_hand_back((id, back), Some(&link.hand_off_state), || is_taken = true);
    (is_taken, returned)
}

fn poll(hand_off: &mut HandOff) -> Option<Returned> {
    match hand_off.poll_back(None, &Context::from_waker(Waker::noop())) {
        Poll::Ready((_, returned)) => Some(returned),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_guest_is_returned_once_and_only_while_it_is_handed_off() {
    let (link, mut hand_off, _other) = handed_off();
    let id = hand_off.entry.place.id;
    assert!(poll(&mut hand_off).is_none());
    assert_eq!(
        return_guest(&link, (id + 1, back(b"slow\n"))),
        (false, Ok(None))
    );
    assert_eq!(return_guest(&link, (id, back(b"slow\n"))), (true, Ok(None)));
    let (is_taken, again) = return_guest(&link, (id, back(b"")));
    assert!(!is_taken && again.is_err(), "{again:?}");
    let returned = poll(&mut hand_off).expect("it is back");
    assert_eq!((returned.id, returned.handed), (id, back(b"slow\n")));
    assert!(returned.is_unwanted);
    // The command goes on, and is the guest's task's from here on.
    assert_eq!(link.take_told(), []);
    drop(hand_off);
    assert_eq!(link.take_told(), []);
    assert_eq!(
        return_guest(&link, (id, back(b"slow\n"))),
        (false, Ok(None))
    );
}

#[tokio::test]
async fn a_return_without_a_command_leaves_none_behind() {
    let (link, mut hand_off, _other) = handed_off();
    let id = hand_off.entry.place.id;
    assert_eq!(return_guest(&link, (id, back(b""))), (true, Ok(None)));
    assert!(poll(&mut hand_off).is_some());
    assert_eq!(link.take_told(), [Told::CancelBegun(id, GUEST)]);
}

#[tokio::test]
async fn a_guest_that_leaves_with_its_return_takes_its_command_and_its_replies_along() {
    let (link, hand_off, _other) = handed_off();
    let id = hand_off.entry.place.id;
    assert_eq!(return_guest(&link, (id, back(b"slow\n"))), (true, Ok(None)));
    drop(hand_off);
    let expected = [
        Told::CancelBegun(id, GUEST),
        Told::Read(GUEST, 5),
        Told::Reclaim(id),
    ];
    assert_eq!(link.take_told(), expected);
}

#[tokio::test]
async fn a_return_to_nobody_is_not_taken_and_its_replies_count_as_read() {
    let (link, hand_off, _other) = handed_off();
    let place = hand_off.entry.place;
    // The worker has picked the guest up, so that the host can't take it at once.
    assert!(link.hand_off_state.slot(place).pick_up(place));
    drop(hand_off);
    assert_eq!(link.take_told(), []);
    let nobody = (false, Ok(Some((GUEST, 5))));
    assert_eq!(return_guest(&link, (place.id, back(b"slow\n"))), nobody);
}
