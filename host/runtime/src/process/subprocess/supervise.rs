//! A child's process supervisor: one task that reads what it sends, sees its end, and cleans up behind it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dae_plugin_api::abi::status;
use futures_util::FutureExt as _;
use rustix::process::{Pid, Resource, Signal, getrlimit};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::end::{self, ProcessFd, exited};
use super::group::{GroupRecords, ProcessGroup};
use super::output::{self, Printer};
use super::rate::Rate;
use super::spawn::SpawnedProcess;
use super::{Link, WAITING_BYTES_MAX, lock};
use crate::plugin::completion::{Completion, HostRequest, RunEnd, host_status};
use crate::plugin::host_api::{ClientListener, HostApi as _, LocalHostApi};
use crate::process::hand_off::HandOffState;
use crate::process::ipc::hand_off::HandedBack;
use crate::process::ipc::{
    self, Frame, FrameInbox, FrameKind, LARGE_BYTES_MAX, StartMessage, socket,
};
use crate::threads::fd_limits;
use dae_store::log::Record;
use dae_store::tasks;

/// One read of the socket, in bytes.
const READ_BYTES: usize = 64 << 10;
/// How long a process whose socket has ended may take to end too.
const EXIT_PAUSE: Duration = Duration::from_millis(200);
/// What a child says of its start: that its file is loaded, and that its daemon answers.
const STEPS: usize = 2;
/// How long a killed group may take to go; past it, it is told and left. A process in uninterruptible sleep can hold out.
const GROUP_GONE_MAX: Duration = Duration::from_secs(5);

/// What one child may have asked of its host at a time. Each costs a task.
const ASKING_MAX: usize = 8192;

/// What the process supervisor will tell.
pub(super) struct SupervisionReport {
    /// That the file is loaded, and then that the daemon answers; or why not.
    pub(super) steps: mpsc::Receiver<Result<(), String>>,
    /// How its background work ended, and then how the child did.
    pub(super) ended: watch::Receiver<Option<RunEnd>>,
}

struct ProcessSupervisor {
    link: Arc<Link>,
    process: tokio::process::Child,
    /// Readable once the process has ended, which it then is before it is reaped.
    end: Option<ProcessFd>,
    number: Pid,
    group: Option<ProcessGroup>,
    records: GroupRecords,
    local: Arc<LocalHostApi>,
    name: String,
    steps: mpsc::Sender<Result<(), String>>,
    ended: watch::Sender<Option<RunEnd>>,
    inbox: FrameInbox,
    /// The call that a large reply belongs to, and the part of it that has come.
    part: Option<(u64, Vec<u8>)>,
    /// How much of its log is kept.
    rate: Rate,
    /// What its daemon has asked that is still under way; it ends with the child.
    asking: Arc<Mutex<HashMap<u64, AbortOnDropHandle<()>>>>,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

/// What an process supervisor waits for.
enum ProcessEvent {
    /// It has sent something, or its socket has ended.
    Read(io::Result<usize>),
    Exit,
    Kill,
}

/// Attends a process from its beginning to its end.
pub(super) fn attend(
    spawned: SpawnedProcess,
    (local, on_end): (LocalHostApi, Box<dyn FnOnce() + Send>),
    message: &StartMessage,
) -> Result<(Arc<Link>, SupervisionReport), String> {
    let hand_off_state = hand_off_state_for(&spawned.socket);
    let (group, records) = (spawned.group.clone(), spawned.records.clone());
    let (mut process, stream, number) = opened(spawned)?;
    let (local, name) = (Arc::new(local), &message.name);
    let files_max = message.bounds.files_max.or_else(files_max);
    let link = Arc::new(Link::new((number, stream), hand_off_state, files_max));
    local.neighbourhood.tell_of_clients(clients_told(&link));
    let (steps, taken) = mpsc::channel(STEPS);
    let (ended, has_ended) = watch::channel(None);
    drain_output(&mut process, (&local, name), &has_ended);
    let supervisor = ProcessSupervisor {
        link: Arc::clone(&link),
        process,
        end: end::descriptor_of(number),
        number,
        group,
        records,
        local,
        name: name.to_owned(),
        steps,
        ended,
        inbox: FrameInbox::default(),
        part: None,
        rate: Rate::of("log records"),
        asking: Arc::default(),
        on_end: Some(on_end),
    };
    tokio::spawn(supervisor.attend());
    let attending = SupervisionReport {
        steps: taken,
        ended: has_ended,
    };
    Ok((link, attending))
}

/// Makes the hand-off state of a process and sends it there, ahead of all else. Without one, which a lack of descriptors can cause,
/// the process serves as well: nobody is lent to it, and whether a command has begun isn't known.
fn hand_off_state_for(socket: &std::os::unix::net::UnixStream) -> Option<Arc<HandOffState>> {
    let (hand_off_state, file) = HandOffState::create().ok()?;
    let frame = ipc::whole(FrameKind::Ledger, 0, &[]);
    socket::send_first(socket, &frame, file.as_fd()).ok()?;
    Some(hand_off_state)
}

/// How many descriptors a process of ours may have, if that is known.
fn files_max() -> Option<u64> {
    fd_limits::started_with().or(getrlimit(Resource::Nofile).current)
}

/// A process that can be attended: itself, the socket to it, and its group.
fn opened(spawned: SpawnedProcess) -> Result<(tokio::process::Child, UnixStream, Pid), String> {
    let SpawnedProcess {
        process, socket, ..
    } = spawned;
    let pid = process
        .id()
        .and_then(|pid| Pid::from_raw(pid.cast_signed()));
    match (open(socket), pid) {
        (Ok(stream), Some(group)) => Ok((process, stream, group)),
        // It sees the end of its socket, and ends; tokio reaps it.
        (Err(error), _) => Err(format!("its process can't be attended: {error}")),
        (Ok(_), None) => Err("its process can't be attended: it ended at once".to_owned()),
    }
}

/// A worker answers its daemon by itself whether a connection is there, and so must know.
fn clients_told(link: &Arc<Link>) -> ClientListener {
    let link = Arc::downgrade(link);
    ClientListener(Box::new(move |id, state| {
        if let Some(link) = link.upgrade() {
            lock(&link.outgoing).put(FrameKind::Visit, id, &[&[ipc::client_byte(state)]]);
            link.flush();
        }
    }))
}

fn open(socket: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

fn drain_output(
    process: &mut tokio::process::Child,
    (local, name): (&Arc<LocalHostApi>, &str),
    has_ended: &watch::Receiver<Option<RunEnd>>,
) {
    let has_ended = has_ended.clone();
    let ended = move || {
        let mut has_ended = has_ended.clone();
        async move {
            let is_gone = |end: &Option<RunEnd>| matches!(end, Some(RunEnd::Died(_)));
            // Without an process supervisor there is no child either.
            let _ = has_ended.wait_for(is_gone).await;
        }
    };
    let generation = local.generation;
    let printer = |target| Printer {
        local: Arc::clone(local),
        daemon: name.to_owned(),
        generation,
        target,
    };
    if let Some(stdout) = process.stdout.take() {
        output::keep_draining(stdout, printer("stdout"), ended.clone());
    }
    if let Some(stderr) = process.stderr.take() {
        output::keep_draining(stderr, printer("stderr"), ended);
    }
}

impl ProcessSupervisor {
    async fn attend(mut self) {
        let broken = match AssertUnwindSafe(self.hear()).catch_unwind().await {
            Ok(broken) => broken,
            Err(panic) => {
                let text = tasks::panic_text(&*panic);
                tracing::error!(
                    daemon = self.name,
                    "the task of its process panicked: {text}"
                );
                Some(format!(
                    "was killed by its host, a task of which panicked: {text}"
                ))
            }
        };
        if let Some(on_end) = self.on_end.take() {
            on_end();
        }
        lock(&self.asking).clear();
        let how = self.bury(broken).await;
        self.tell_end(&how);
    }

    /// Takes what it sends until it ends, or has to; why it has to, if so.
    async fn hear(&mut self) -> Option<String> {
        tasks::fault_point("attendant");
        let link = Arc::clone(&self.link);
        // Made once: they are asked at each event, and seldom have anything to say.
        let mut killed = pin!(link.kill.notified());
        let mut writing = pin!(write_rest(&link));
        loop {
            let room = self.inbox.room(READ_BYTES);
            let event = tokio::select! {
                // Whatever comes from it without end, the others have their turn.
                biased;
                () = &mut killed => ProcessEvent::Kill,
                () = exited(self.end.as_ref(), &mut self.process) => ProcessEvent::Exit,
                read = read(&link, room) => ProcessEvent::Read(read),
                never = &mut writing => match never {},
            };
            match event {
                ProcessEvent::Read(Ok(1..)) => {
                    if let Err(text) = self.take_frames() {
                        return Some(text);
                    }
                    link.flush();
                }
                ProcessEvent::Read(end) => return self.end_of_socket(end).await,
                ProcessEvent::Exit => {
                    self.take_last();
                    return None;
                }
                ProcessEvent::Kill => return Some(self.kill_text()),
            }
        }
    }

    fn kill_text(&self) -> String {
        match lock(&self.link.kill_cause).take() {
            Some(cause) => format!("was killed by its host: {cause}"),
            None => "was killed by its host".to_owned(),
        }
    }

    /// The process is ending, most likely; it gets a moment to do so by itself. Where it has left something unread, the
    /// kernel says `reset` in place of the end.
    async fn end_of_socket(&mut self, end: io::Result<usize>) -> Option<String> {
        let exited = exited(self.end.as_ref(), &mut self.process);
        let exited = tokio::time::timeout(EXIT_PAUSE, exited).await;
        exited.is_err().then(|| match end {
            Ok(_) => "closed its end of the socket".to_owned(),
            Err(error) => format!("its socket failed: {error}"),
        })
    }

    /// What it had sent before it ended.
    fn take_last(&mut self) {
        while let Ok(1..) = socket::read_now(&self.link.stream, self.inbox.room(READ_BYTES)) {
            if self.take_frames().is_err() {
                return;
            }
        }
    }

    fn take_frames(&mut self) -> Result<(), String> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let taken = loop {
            match inbox.next() {
                Ok(Some(frame)) if frame.kind == FrameKind::Replies => {
                    if let Err(text) = self.on_replies(&frame) {
                        break Err(text);
                    }
                }
                Ok(Some(frame)) if frame.kind == FrameKind::Part => {
                    if let Err(text) = self.on_part(&frame) {
                        break Err(text);
                    }
                }
                Ok(Some(frame)) if frame.kind == FrameKind::HandBack => {
                    if let Err(text) = self.on_hand_back(&frame) {
                        break Err(text);
                    }
                }
                Ok(Some(frame)) => self.take(&frame),
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault.to_string()),
            }
        };
        self.inbox = inbox;
        taken.map_err(|text| format!("sent nonsense: {text}"))
    }

    fn take(&mut self, frame: &Frame<'_>) {
        let place = || ipc::split_u32(frame.payload).0 as usize;
        match frame.kind {
            FrameKind::SetAside => lock(&self.link.calls).set_aside(frame.id, true),
            FrameKind::Resumed => lock(&self.link.calls).set_aside(frame.id, false),
            FrameKind::Dropped => lock(&self.link.calls).dropped(frame.id, place()),
            FrameKind::Want => self.link.want_reads(frame.payload == [1]),
            FrameKind::Ended => self.on_ended(frame),
            FrameKind::Log => self.on_log(frame.payload),
            FrameKind::Emit => {
                self.local.emit(frame.id, frame.payload);
            }
            FrameKind::Pong => {
                self.link.pongs.fetch_add(1, Ordering::Relaxed);
            }
            FrameKind::Loaded | FrameKind::Started => self.on_step(Ok(())),
            FrameKind::Refused => self.on_step(Err(text(frame.payload))),
            FrameKind::RunEnd => {
                if let Ok(end) = serde_json::from_slice(frame.payload) {
                    self.ended.send_replace(Some(end));
                }
            }
            FrameKind::Stopped => *lock(&self.link.stop_faults) = Some(text(frame.payload)),
            FrameKind::Ask => self.on_ask(frame),
            FrameKind::AskCancel => drop(lock(&self.asking).remove(&frame.id)),
            FrameKind::Tell => self.on_tell(frame.payload),
            // Those that go the other way; from here they mean nothing.
            _ => {}
        }
    }

    fn on_step(&self, result: Result<(), String>) {
        // Whoever waited may have given up; and a step too many is nonsense that hurts nobody.
        let _ = self.steps.try_send(result);
    }

    /// A part of a large reply, of which there is one at a time.
    fn on_part(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let (id, bytes) = self.part.get_or_insert_with(|| (frame.id, Vec::new()));
        if *id != frame.id || bytes.len() + frame.payload.len() > LARGE_BYTES_MAX {
            return Err("parts of a reply that don't belong together".to_owned());
        }
        bytes.extend_from_slice(frame.payload);
        Ok(())
    }

    /// The parts of a reply that is whole now.
    fn take_parts(&mut self, id: u64) -> Option<Vec<u8>> {
        let part = self.part.take_if(|(of, _)| *of == id);
        part.map(|(_, bytes)| bytes)
    }

    fn on_ended(&mut self, frame: &Frame<'_>) {
        let (status, rest) = ipc::split_u32(frame.payload);
        let (guest, bytes) = ipc::split_u64(rest);
        let bytes = self.take_parts(frame.id).unwrap_or_else(|| bytes.to_vec());
        let call = lock(&self.link.calls).by_id.remove(&frame.id);
        let ended = Completion { status, bytes };
        let left = match call {
            Some(call) => call.sender.send(ended).err(),
            // A cancelled call has left the table.
            None => Some(ended),
        };
        if let Some(ended) = left {
            self.link.has_read(guest, ended.bytes.len());
        }
    }

    fn on_replies(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        // As good as a `Pong`, which waits behind them.
        self.link.pongs.fetch_add(1, Ordering::Relaxed);
        let entries = match self.take_parts(frame.id) {
            Some(large) => Cow::Owned(large),
            None => Cow::Borrowed(frame.payload),
        };
        let nobodys = lock(&self.link.calls).batches.answer(frame.id, entries)?;
        if let Some((guest, bytes)) = nobodys {
            self.link.has_read(guest, bytes);
        }
        Ok(())
    }

    fn on_hand_back(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let mut back = HandedBack::read(frame.payload).ok_or("a loan that is cut off")?;
        if let Some(large) = self.take_parts(frame.id) {
            back.last = large;
        }
        let hand_off_state = self.link.hand_off_state.as_deref();
        let nobodys = self
            .link
            .hand_offs
            .on_hand_back((frame.id, back), hand_off_state);
        if let Some((guest, bytes)) = nobodys {
            self.link.has_read(guest, bytes);
        }
        Ok(())
    }

    /// Does what its daemon asks about others, and answers when it is done.
    fn on_ask(&self, frame: &Frame<'_>) {
        let (id, (operation, request)) = (frame.id, ipc::split_text(frame.payload));
        let answer = move |link: &Link, ended: &Completion| {
            let status = ended.status.to_le_bytes();
            lock(&link.outgoing).put(FrameKind::Answered, id, &[&status, &ended.bytes]);
            link.flush();
        };
        if lock(&self.asking).len() >= ASKING_MAX {
            let text = format!(
                r#"{{"code":"unavailable","message":"{ASKING_MAX} things are asked of the host already"}}"#
            );
            return answer(
                &self.link,
                &Completion {
                    status: status::FAILED,
                    bytes: text.into_bytes(),
                },
            );
        }
        let work = match self.local.ask_later(operation, request) {
            HostRequest::Now(ended) => return answer(&self.link, &ended),
            HostRequest::Later(work) => work,
        };
        let (link, asking) = (Arc::clone(&self.link), Arc::clone(&self.asking));
        // Entered before it can end.
        let mut table = lock(&self.asking);
        let task = tokio::spawn(async move {
            let ended = tasks::told("what a daemon has asked", work).await;
            let ended = ended.unwrap_or_else(|| Completion {
                status: status::FAILED,
                bytes: br#"{"code":"unavailable","message":"the host panicked, see its log"}"#
                    .to_vec(),
            });
            lock(&asking).remove(&id);
            answer(&link, &ended);
        });
        table.insert(id, AbortOnDropHandle::new(task));
    }

    /// Does what its daemon tells. Its worker refuses by the same rules, and doesn't wait; what is refused all the same is
    /// logged, so that it isn't lost in silence.
    fn on_tell(&mut self, payload: &[u8]) {
        let (operation, request) = ipc::split_text(payload);
        let ended = self.local.ask(operation, request);
        if matches!(ended.status, status::FAILED | status::UNKNOWN) {
            let why = String::from_utf8_lossy(&ended.bytes);
            let text = format!("the host refused `{operation}` of this daemon: {why}");
            let generation = Some(self.local.generation);
            let (is_kept, left_out) = self.rate.take(text.len());
            self.tell_left_out(left_out);
            if is_kept {
                let record = Record::about(&self.name, generation, "warn", &text);
                self.local.log(record);
            }
        }
    }

    /// A record is the child's word; whose it is, is ours, and so is how much of it is kept.
    fn on_log(&mut self, payload: &[u8]) {
        let (is_kept, left_out) = self.rate.take(payload.len());
        self.tell_left_out(left_out);
        if is_kept && let Ok(mut record) = serde_json::from_slice::<Record>(payload) {
            record.daemon.clone_from(&self.name);
            record.generation = Some(self.local.generation);
            self.local.log(record.bounded());
        }
    }

    fn tell_left_out(&self, left_out: Option<String>) {
        if let Some(text) = left_out {
            let generation = Some(self.local.generation);
            let record = Record::about(&self.name, generation, "warn", &text);
            self.local.log(record);
        }
    }

    /// Ends whatever of it is left; how it ended.
    async fn bury(&mut self, broken: Option<String>) -> String {
        // Before the process is reaped: until then nobody else has the number.
        let _ = rustix::process::kill_process_group(self.number, Signal::KILL);
        let status = self.process.wait().await;
        // Whatever it was ended for, what it has handed back is the host's.
        self.take_last();
        let gone = end::group_gone(self.number, self.group.clone());
        match tokio::time::timeout(GROUP_GONE_MAX, gone).await {
            Ok(()) => self
                .group
                .iter()
                .for_each(|group| self.records.forget(group)),
            Err(_) => self.tell_left(),
        }
        match (broken, status) {
            (Some(text), _) => text,
            (None, Ok(status)) => end::told(status),
            (None, Err(error)) => format!("ended, and can't be asked how: {error}"),
        }
    }

    fn tell_left(&self) {
        let number = self.number.as_raw_nonzero();
        let text = format!("processes of group {number} are left that can't be killed");
        let generation = Some(self.local.generation);
        let record = Record::about(&self.name, generation, "error", &text);
        self.local.log(record);
    }

    fn tell_end(&mut self, how: &str) {
        let left_out = self.rate.left_out();
        self.tell_left_out(left_out);
        let died = || Completion {
            status: host_status::DIED,
            bytes: format!("its process {how}").into_bytes(),
        };
        let (unanswered, mut batches) = {
            let mut calls = lock(&self.link.calls);
            calls.end = Some(how.to_owned());
            (
                std::mem::take(&mut calls.by_id),
                std::mem::take(&mut calls.batches),
            )
        };
        for call in unanswered.into_values() {
            let _ = call.sender.send(died());
        }
        batches.end(died);
        self.link.hand_offs.end(&died());
        self.ended.send_replace(Some(RunEnd::Died(how.to_owned())));
    }
}

/// Reads once; not while too much waits for the child to read it, which may be the answers to what it would send next.
async fn read(link: &Link, room: &mut Vec<u8>) -> io::Result<usize> {
    while lock(&link.outgoing).len() > WAITING_BYTES_MAX {
        link.stream.writable().await?;
        link.flush();
        tokio::task::yield_now().await;
    }
    socket::read(&link.stream, room).await
}

/// Writes what a full socket has left over, whenever there is some.
async fn write_rest(link: &Link) -> std::convert::Infallible {
    loop {
        link.more.notified().await;
        while !lock(&link.outgoing).is_empty() {
            // Its failure is seen by the reader.
            if link.stream.writable().await.is_err() {
                return std::future::pending().await;
            }
            link.flush();
            tokio::task::yield_now().await;
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
