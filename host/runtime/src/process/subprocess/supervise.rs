//! The process supervisor of a subprocess: one task that reads what it sends, detects its end, and cleans up after it.

use std::borrow::Cow;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dae_plugin_api::abi::status;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::output::{self, Printer};
use super::rate::Rate;
use super::requests::RequestsInProgress;
use super::reserve::ProcessReserve;
use super::spawn::SpawnedProcess;
use super::write::write_rest;
use super::{Link, WAITING_BYTES_MAX, lock};
use crate::hand_off::{HandOffState, HandedBack};
use crate::os::descriptors;
use crate::os::worker_process::{self, WorkerProcess};
use crate::os::worker_stream::{self, HostEnd};
use crate::plugin::completion::{Completion, HostAnswer, RunEnd, host_status};
use crate::plugin::host_api::{ClientListener, HostApi as _, LocalHostApi};
use crate::plugin::host_request::{DeferredRequest, Instruction};
use crate::plugin::libraries::Schemas;
use crate::plugin::start_fault::{StartFault, StartFaultKind};
use crate::process::ipc::{self, Frame, FrameInbox, FrameKind, LARGE_BYTES_MAX, StartMessage};
use crate::threads::fd_limits;
use crate::threads::trace::{self, TraceSpan};
use dae_store::log::Record;
use dae_store::manifest::SCHEMAS_BYTES_MAX;
use dae_store::tasks;

/// The size of one read of the socket (bytes).
const READ_BYTES: usize = 64 << 10;
/// The time within which a process must end after its socket has ended.
const EXIT_PAUSE: Duration = Duration::from_millis(200);
/// The number of reports about a start: that the file is loaded, that its schemas are made, and that the daemon answers.
const STEPS: usize = 3;
/// The limit for a killed group to go. After that it is logged and left: a process in uninterruptible sleep can last.
const GROUP_GONE_MAX: Duration = Duration::from_secs(5);

/// The reports of a process supervisor.
pub(super) struct SupervisionReport {
    /// The results of loading the file, of making its schemas, and of starting the daemon.
    pub(super) steps: mpsc::Receiver<Result<Schemas, StartFault>>,
    /// The end of the background work, and then that of the subprocess.
    pub(super) ended: watch::Receiver<Option<RunEnd>>,
}

struct ProcessSupervisor {
    link: Arc<Link>,
    process: WorkerProcess,
    local: Arc<LocalHostApi>,
    steps: mpsc::Sender<Result<Schemas, StartFault>>,
    ended: watch::Sender<Option<RunEnd>>,
    inbox: FrameInbox,
    /// The part of a large reply that has come, and the id of the frame that will end the reply.
    part: Option<(u64, Vec<u8>)>,
    /// The answers among the frames that came with the last read.
    answers: usize,
    /// The span that the daemon's next request works for, if it has named one.
    span: Option<TraceSpan>,
    /// The limit on the log records that are kept.
    rate: Rate,
    /// The daemon's requests in progress, which end with the subprocess.
    requests: RequestsInProgress,
    on_end: Option<Box<dyn FnOnce() + Send>>,
    /// The reserve that its successor will come from; `None` for a preflight, which has none.
    reserve: Option<ProcessReserve>,
}

/// An event that a process supervisor waits for.
enum ProcessEvent {
    /// The subprocess has sent something, or its socket has ended.
    Read(io::Result<usize>),
    Exit,
    Kill,
}

/// Supervises a process from its start to its end.
pub(super) fn attend(
    spawned: SpawnedProcess,
    (local, on_end): (LocalHostApi, Box<dyn FnOnce() + Send>),
    message: &StartMessage,
    reserve: &ProcessReserve,
) -> Result<(Arc<Link>, SupervisionReport), String> {
    let SpawnedProcess {
        mut process,
        socket,
    } = spawned;
    let local = Arc::new(local);
    let link = Arc::new(link_with(process.pid(), socket, message)?);
    local.peers.tell_of_clients(client_listener(&link));
    let (steps, taken) = mpsc::channel(STEPS);
    let (ended, has_ended) = watch::channel(None);
    drain_output(&mut process, (&local, &link), &has_ended);
    let supervisor = ProcessSupervisor {
        link: Arc::clone(&link),
        process,
        local,
        steps,
        ended,
        inbox: FrameInbox::default(),
        part: None,
        answers: 0,
        span: None,
        rate: Rate::of("log records"),
        requests: RequestsInProgress::default(),
        on_end: Some(on_end),
        reserve: message.preflight.is_none().then(|| reserve.clone()),
    };
    tokio::spawn(supervisor.attend());
    let attending = SupervisionReport {
        steps: taken,
        ended: has_ended,
    };
    Ok((link, attending))
}

/// Opens the host's end of the stream to a process.
fn link_with(pid: u32, socket: HostEnd, message: &StartMessage) -> Result<Link, String> {
    let hand_off_state = hand_off_state_for(&socket);
    // If this fails, the process sees the end of its socket, and ends; tokio reaps it.
    let stream = socket
        .open()
        .map_err(|error| format!("its process can't be attended: {error}"))?;
    let files_max = message.bounds.files_max.or_else(files_max);
    let link = Link::new((pid, stream), hand_off_state, files_max);
    link.serves(&message.name);
    Ok(link)
}

/// Creates the hand-off state of a process and sends it there, ahead of all else. A lack of descriptors can prevent
/// this. Then the process serves without it: no guest is handed off, and it is not known whether a command has begun.
fn hand_off_state_for(socket: &HostEnd) -> Option<Arc<HandOffState>> {
    let (hand_off_state, file) = HandOffState::create().ok()?;
    let frame = ipc::whole(FrameKind::SharedMemory, 0, &[]);
    socket.send_first(&frame, descriptors::of(&file)).ok()?;
    Some(hand_off_state)
}

/// Returns how many descriptors a worker may have, if that is known.
fn files_max() -> Option<u64> {
    fd_limits::started_with().or(descriptors::limit())
}

/// Returns the listener that reports the states of clients to the worker, which answers its daemon's questions about
/// them.
fn client_listener(link: &Arc<Link>) -> ClientListener {
    let link = Arc::downgrade(link);
    ClientListener(Box::new(move |id, state| {
        if let Some(link) = link.upgrade() {
            lock(&link.outgoing).put(FrameKind::ClientState, id, &[&[state as u8]]);
            link.flush();
        }
    }))
}

fn drain_output(
    process: &mut WorkerProcess,
    (local, link): (&Arc<LocalHostApi>, &Arc<Link>),
    has_ended: &watch::Receiver<Option<RunEnd>>,
) {
    let has_ended = has_ended.clone();
    let ended = move || {
        let mut has_ended = has_ended.clone();
        async move {
            let is_gone = |end: &Option<RunEnd>| matches!(end, Some(RunEnd::Died(_)));
            // Without a process supervisor there is no subprocess either.
            let _ = has_ended.wait_for(is_gone).await;
        }
    };
    let (generation, local, of) = (local.generation, Arc::clone(local), Arc::clone(link));
    let log: Arc<dyn Fn(Record) + Send + Sync> = Arc::new(move |mut record: Record| {
        record.daemon = of.daemon();
        local.log(record);
    });
    let printer = |target| Printer {
        log: Arc::clone(&log),
        daemon: link.daemon(),
        generation: Some(generation),
        target,
    };
    let (stdout, stderr) = process.take_output();
    if let Some(stdout) = stdout {
        output::keep_draining(stdout, printer("stdout"), ended.clone());
    }
    if let Some(stderr) = stderr {
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
                    daemon = self.link.daemon(),
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
        let was_stopped = self.link.was_stopped.load(Ordering::Relaxed);
        if let Some(reserve) = self.reserve.take_if(|_| !was_stopped) {
            reserve.expect();
        }
        self.requests.clear();
        let how = self.bury(broken).await;
        self.tell_end(&how);
    }

    /// Reads until the subprocess has ended, or must be ended. Returns the reason if it must.
    async fn hear(&mut self) -> Option<String> {
        tasks::fault_point("process supervisor");
        let link = Arc::clone(&self.link);
        // Created once, because they are polled at each event, and seldom are ready.
        let mut killed = pin!(link.kill.notified());
        let mut writing = pin!(write_rest(&link));
        loop {
            let room = self.inbox.room(READ_BYTES);
            let event = tokio::select! {
                // In this order, so that a subprocess that sends without end does not keep the other events waiting.
                biased;
                () = &mut killed => ProcessEvent::Kill,
                () = self.process.exited() => ProcessEvent::Exit,
                read = read(&link, room) => ProcessEvent::Read(read),
                never = &mut writing => match never {},
            };
            match event {
                ProcessEvent::Read(Ok(1..)) => {
                    link.hold_back();
                    let taken = self.take_frames();
                    link.write_together(std::mem::take(&mut self.answers)).await;
                    if let Err(text) = taken {
                        return Some(text);
                    }
                }
                ProcessEvent::Read(end) => return self.end_of_socket(end).await,
                ProcessEvent::Exit => {
                    self.take_last().await;
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

    /// Waits a moment for the process, which is most likely ending by itself. Returns a fault if it does not end. If
    /// the process has left something unread, the kernel reports a reset in place of the end.
    async fn end_of_socket(&mut self, end: io::Result<usize>) -> Option<String> {
        let exited = tokio::time::timeout(EXIT_PAUSE, self.process.exited()).await;
        exited.is_err().then(|| match end {
            Ok(_) => "closed its end of the socket".to_owned(),
            Err(error) => format!("its socket failed: {error}"),
        })
    }

    /// Reads what the process had sent before it ended.
    async fn take_last(&mut self) {
        let link = Arc::clone(&self.link);
        while let Ok(1..) =
            worker_stream::read_rest(&link.stream, self.inbox.room(READ_BYTES)).await
        {
            if self.take_frames().is_err() {
                return;
            }
        }
    }

    fn take_frames(&mut self) -> Result<(), String> {
        let mut inbox = std::mem::take(&mut self.inbox);
        let taken = loop {
            match inbox.next() {
                Ok(Some(frame)) => {
                    if let Err(text) = self.take(&frame) {
                        break Err(text);
                    }
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault.to_string()),
            }
        };
        self.inbox = inbox;
        taken.map_err(|text| format!("sent nonsense: {text}"))
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let place = || ipc::split_u32(frame.payload).0 as usize;
        match frame.kind {
            FrameKind::Replies => self.on_replies(frame)?,
            FrameKind::Part => self.on_part(frame)?,
            FrameKind::HandBack => self.on_hand_back(frame)?,
            FrameKind::StateReady => self.link.lend_file(frame)?,
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
            FrameKind::Describing | FrameKind::Loaded | FrameKind::Started => {
                self.on_step(Ok(schemas(frame)));
            }
            FrameKind::Refused => self.on_step(Err(StartFault {
                text: text(frame.payload),
                kind: StartFaultKind::of_number(frame.id),
            })),
            FrameKind::RunEnd => {
                if let Ok(end) = serde_json::from_slice(frame.payload) {
                    self.ended.send_replace(Some(end));
                }
            }
            FrameKind::Stopped => *lock(&self.link.stop_faults) = Some(text(frame.payload)),
            FrameKind::Trace => self.span = TraceSpan::read(frame.payload),
            FrameKind::Ask | FrameKind::Tell => self.on_request(frame),
            FrameKind::AskCancel => self.requests.cancel(frame.id),
            // Kinds that go to the worker mean nothing here.
            _ => {}
        }
        Ok(())
    }

    fn on_step(&self, result: Result<Schemas, StartFault>) {
        // The caller may have given up. A surplus report breaks the protocol, but does no harm.
        let _ = self.steps.try_send(result);
    }

    /// Takes a part of a large reply, of which there is one at a time.
    fn on_part(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let (id, bytes) = self.part.get_or_insert_with(|| (frame.id, Vec::new()));
        if *id != frame.id || bytes.len() + frame.payload.len() > LARGE_BYTES_MAX {
            return Err("parts of a reply that don't belong together".to_owned());
        }
        bytes.extend_from_slice(frame.payload);
        Ok(())
    }

    /// Returns the parts of a reply that is now complete.
    fn take_parts(&mut self, id: u64) -> Option<Vec<u8>> {
        let part = self.part.take_if(|(of, _)| *of == id);
        part.map(|(_, bytes)| bytes)
    }

    fn on_ended(&mut self, frame: &Frame<'_>) {
        self.answers += 1;
        let parts = self.take_parts(frame.id);
        self.link.on_ended(frame, parts);
    }

    fn on_replies(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        self.answers += 1;
        // Replies count as a `Pong`, which would wait behind them.
        self.link.pongs.fetch_add(1, Ordering::Relaxed);
        let entries = match self.take_parts(frame.id) {
            Some(_) if !frame.payload.is_empty() => {
                return Err("replies between the parts of a large one".to_owned());
            }
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
        let mut back = HandedBack::read(frame.payload).ok_or("a hand-off that is cut off")?;
        if let Some(large) = self.take_parts(frame.id) {
            back.last = large;
        }
        let hand_off_state = self.link.hand_off_state.as_deref();
        let is_begun = !back.waiting.is_empty();
        // Before the guest's task knows of the return: it asks for the call at once.
        let is_taken = || {
            if is_begun {
                lock(&self.link.calls).add_begun(frame.id);
            }
        };
        let returned = (frame.id, back);
        let hand_offs = &self.link.hand_offs;
        let nobodys = hand_offs.on_hand_back(returned, hand_off_state, is_taken)?;
        if nobodys.is_some() && is_begun {
            lock(&self.link.outgoing).put(FrameKind::Cancel, frame.id, &[]);
            self.link.flush();
        }
        if let Some((guest, bytes)) = nobodys {
            self.link.has_read(guest, bytes);
        }
        Ok(())
    }

    /// Carries out what the daemon asks of the host, in the span that it works for.
    fn on_request(&mut self, frame: &Frame<'_>) {
        trace::during(self.span.take(), || match frame.kind {
            FrameKind::Ask => self.on_ask(frame),
            _ => self.on_tell(frame.payload),
        });
    }

    /// Carries out a host API request of the daemon, and answers when it is done.
    fn on_ask(&self, frame: &Frame<'_>) {
        let (id, bytes) = (frame.id, ipc::request(frame.payload));
        let answer = move |link: &Link, ended: &Completion| {
            let status = ended.status.to_le_bytes();
            lock(&link.outgoing).put(FrameKind::Answered, id, &[&status, &ended.bytes]);
            link.flush();
        };
        let (running, most) = self.requests.of(bytes.operation);
        if lock(running).len() >= most {
            let text = format!(
                r#"{{"code":"unavailable","message":"{most} things are asked of the host already"}}"#
            );
            return answer(&self.link, &Completion::failed(text));
        }
        let asked = DeferredRequest::read(bytes);
        let work = match asked.map(|request| self.local.ask_later(bytes, request)) {
            Ok(HostAnswer::Later(work)) => work,
            Ok(HostAnswer::Now(ended)) | Err(ended) => return answer(&self.link, &ended),
        };
        let (link, own_table) = (Arc::clone(&self.link), Arc::clone(running));
        // The lock is held until the task is in the table, so that the task cannot remove itself before that.
        let mut table = lock(running);
        let task = tokio::spawn(async move {
            let ended = tasks::logged("what a daemon has asked", work).await;
            let ended = ended.unwrap_or_else(|| {
                let text = r#"{"code":"unavailable","message":"the host panicked, see its log"}"#;
                Completion::failed(text.to_owned())
            });
            lock(&own_table).remove(&id);
            answer(&link, &ended);
        });
        table.insert(id, AbortOnDropHandle::new(task));
    }

    /// Carries out an instruction, which gets no answer. The worker refuses by the same rules and does not wait. If the
    /// host refuses all the same, the refusal is logged, so that it does not go unnoticed.
    fn on_tell(&mut self, payload: &[u8]) {
        let bytes = ipc::request(payload);
        let ended = match Instruction::read(bytes) {
            Ok(instruction) => self.local.instruct(bytes, instruction),
            Err(refusal) => refusal,
        };
        if matches!(ended.status, status::FAILED | status::UNKNOWN) {
            let why = String::from_utf8_lossy(&ended.bytes);
            let operation = bytes.operation;
            let text = format!("the host refused `{operation}` of this daemon: {why}");
            let generation = Some(self.local.generation);
            let (is_kept, left_out) = self.rate.take(text.len());
            self.tell_left_out(left_out);
            if is_kept {
                let record = Record::about(&self.link.daemon(), generation, "warn", &text);
                self.local.log(record);
            }
        }
    }

    /// Logs a record of the subprocess. The host sets its daemon and generation, and limits how many records are kept.
    fn on_log(&mut self, payload: &[u8]) {
        let (is_kept, left_out) = self.rate.take(payload.len());
        self.tell_left_out(left_out);
        if is_kept && let Ok(mut record) = serde_json::from_slice::<Record>(payload) {
            record.daemon = self.link.daemon();
            record.generation = Some(self.local.generation);
            self.local.log(record.bounded());
        }
    }

    fn tell_left_out(&self, left_out: Option<String>) {
        if let Some(text) = left_out {
            let generation = Some(self.local.generation);
            let record = Record::about(&self.link.daemon(), generation, "warn", &text);
            self.local.log(record);
        }
    }

    /// Ends what is left of the subprocess, and returns how it ended.
    async fn bury(&mut self, broken: Option<String>) -> String {
        let status = self.process.kill().await;
        // Whatever the reason for the end, the host takes what the subprocess has handed back.
        self.take_last().await;
        match tokio::time::timeout(GROUP_GONE_MAX, self.process.all_gone()).await {
            Ok(()) => self.process.forget(),
            Err(_) => self.tell_left(),
        }
        match (broken, status) {
            (Some(text), _) => text,
            (None, Ok(status)) => worker_process::in_words(status),
            (None, Err(error)) => format!("ended, and can't be asked how: {error}"),
        }
    }

    fn tell_left(&self) {
        let number = self.process.pid();
        let text = format!("processes of group {number} are left that can't be killed");
        let generation = Some(self.local.generation);
        let record = Record::about(&self.link.daemon(), generation, "error", &text);
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
            let _ = call.sender.send(died().into());
        }
        batches.end(died);
        self.link.hand_offs.end(&died());
        self.ended.send_replace(Some(RunEnd::Died(how.to_owned())));
    }
}

/// Reads once, but not while too many bytes wait for the subprocess to read: its next frames may cause still more
/// answers.
async fn read(link: &Link, room: &mut Vec<u8>) -> io::Result<usize> {
    while lock(&link.outgoing).len() > WAITING_BYTES_MAX {
        link.stream.writable().await?;
        link.flush();
        tokio::task::yield_now().await;
    }
    worker_stream::read(&link.stream, room).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the schemas in a frame of a step; only [`FrameKind::Loaded`] has some.
fn schemas(frame: &Frame<'_>) -> Schemas {
    match (frame.id, frame.payload) {
        (0, []) => Ok(None),
        (0, schemas) if schemas.len() > SCHEMAS_BYTES_MAX => Err(format!(
            "they have {} bytes, and a host takes {SCHEMAS_BYTES_MAX}",
            schemas.len()
        )),
        (0, schemas) => Ok(Some(text(schemas).into())),
        (_, reason) => Err(text(reason)),
    }
}
