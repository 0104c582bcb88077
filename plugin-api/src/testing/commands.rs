//! Commands and hooks: code of a daemon that runs for a guest, under a lease of the instance and with a time limit.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::Level;

use super::core::{self, Core, ThreadCount};
use super::executor::run_here;
use super::instance::{Outcome, Sent, text_of};
use super::late_schemas::LateCommand;
use super::log_line::LogLine;
use super::route::Line;
use super::signal::{Signal, lock};
use super::slot::{COMMAND_MAX, CommandInfo, Lease, Revoked, Slot};
use super::world::{Greeted, MemberKind, Refusal, Reply};
use crate::abi::{status, verb};
use crate::coded::CodedError;
use crate::wire;

/// Runs a line of a guest: a command of the daemon, a command that every daemon has, or an event for its handlers.
pub async fn run(core: Arc<Core>, slot: Arc<Slot>, line: Line) -> Reply {
    let lease = slot.admitted().await.map_err(Refusal::unavailable)?;
    greeted(&core, &slot, &lease, line.guest).await?;
    let commands = &slot.manifest.commands;
    if let Some(index) = commands.iter().position(|one| one.name == line.name) {
        let reply = run_own(&core, &slot, &lease, (index, line)).await;
        count(&slot, &reply);
        return reply;
    }
    if let Some(answer) = of_host(&core, &slot, &line) {
        let reply = answer.map(|answer| format!("[{answer}]").into_bytes());
        count(&slot, &reply);
        return reply;
    }
    let Line {
        guest,
        name,
        arguments,
        is_call,
    } = line;
    let event = format!("{name} {arguments}");
    if is_call {
        // The call needs nothing of this instance: its successor may answer as well.
        drop(lease);
        return ask_handlers(&core, &slot, guest, &event).await;
    }
    let is_heard = lock(&core.world).push_to_acceptor(guest, &event);
    // Nobody answers an error with an error.
    match is_heard || name == "error" {
        true => Ok(b"[]".to_vec()),
        false => Err(unknown(&name)),
    }
}

/// Hands a call to the daemon's event handlers, which answer it by an event of the same name.
async fn ask_handlers(core: &Core, slot: &Slot, guest: u64, event: &str) -> Reply {
    let name = wire::parted(event).0;
    let reply = {
        let mut world = lock(&core.world);
        if !world.push_to_acceptor(guest, event) {
            return Err(unknown(name));
        }
        let connection = world.connections.get_mut(&guest);
        connection.map(|one| one.handled.add(name))
    };
    let Some(reply) = reply else {
        return Err(unknown(name));
    };
    let limit = core.sleep(COMMAND_MAX);
    first(reply.until(Option::take), limit)
        .await
        .unwrap_or_else(|()| {
            if let Some(connection) = lock(&core.world).connections.get_mut(&guest) {
                connection.handled.forget(&reply);
            }
            let text = format!("{} did not answer {name} within {COMMAND_MAX:?}", slot.name);
            Err(Refusal::new("timeout", text))
        })
}

fn unknown(name: &str) -> Refusal {
    let text = format!("there is no command {name}; `options` lists all");
    Refusal::new("unknown-command", text)
}

fn count(slot: &Slot, reply: &Reply) {
    let mut counts = lock(&slot.counts);
    counts.calls += 1;
    if let Err(refusal) = reply {
        counts.errors += 1;
        counts.panics += u64::from(refusal.code == "crashed");
    }
}

/// Answers a command that the host answers for every daemon.
fn of_host(core: &Core, slot: &Arc<Slot>, line: &Line) -> Option<Result<Value, Refusal>> {
    Some(Ok(match line.name.as_str() {
        "dae" => json!(lock(&core.world).credential(&slot.name)),
        "options" => core::options(&MemberKind::Daemon(Arc::clone(slot))),
        "help" => return Some(help(slot, &line.arguments)),
        "stats" => {
            let counts = lock(&slot.counts);
            json!({"calls": counts.calls, "errors": counts.errors, "panics": counts.panics})
        }
        _ => return None,
    }))
}

/// The commands that the host answers for every daemon, with their text in `help`.
const HOST_COMMANDS: [(&str, &str); 4] = [
    ("dae", "Who this daemon is."),
    ("options", "Each command's name and number of arguments."),
    ("help", "Each command's signature and what it does."),
    ("stats", "Calls, errors and latencies of this daemon."),
];

/// The argument of `help`, in each form that an argument may have.
#[derive(Deserialize)]
#[serde(untagged)]
enum AskedHelp {
    Listed([String; 1]),
    Alone(String),
    Named { command: String },
}

/// Describes the command that the arguments name, or all of them if they name none.
fn help(slot: &Slot, arguments: &str) -> Result<Value, Refusal> {
    let mut all = help_of_all(slot);
    let Ok(asked) = serde_json::from_str(arguments) else {
        return Ok(all.into());
    };
    let (AskedHelp::Listed([name]) | AskedHelp::Alone(name) | AskedHelp::Named { command: name }) =
        asked;
    let of_one = all.remove_entry(&name).ok_or_else(|| unknown(&name))?;
    Ok(Map::from_iter([of_one]).into())
}

fn help_of_all(slot: &Slot) -> Map<String, Value> {
    let of_host = HOST_COMMANDS.iter().map(|(name, doc)| {
        let argument = json!({
            "name": "command", "optional": true, "schema": {"type": ["string", "null"]},
        });
        let (signature, arguments) = match *name {
            "help" => ("help(command?: string)".to_owned(), vec![argument]),
            name => (format!("{name}()"), Vec::new()),
        };
        let schema =
            json!({"arguments": arguments, "read_only": true, "result": {"type": "object"}});
        let help = json!({"signature": signature, "doc": doc, "schema": schema});
        ((*name).to_owned(), help)
    });
    let own = slot.manifest.commands.iter().enumerate();
    let own = own.map(|(index, one)| {
        let schema = schema_of(one, slot.late(index));
        let mut help = json!({"signature": one.signature(), "doc": one.doc, "schema": schema});
        if let Some(ms) = one.timeout_ms {
            help["timeout_ms"] = ms.into();
        }
        if let Some(parts) = &one.parts {
            help["parts"] = parts.as_str().into();
        }
        (one.name.clone(), help)
    });
    of_host.chain(own).collect()
}

/// Returns the schema of a command as `help` of a real host has it: a mark that is false, and a text that is empty, are
/// left out.
fn schema_of(command: &CommandInfo, late: Option<&LateCommand>) -> Value {
    let arguments = command.arguments.iter().enumerate().map(|(index, one)| {
        let late = late.and_then(|late| late.arguments.get(index)?.as_ref());
        let schema = known(&one.schema, late);
        let mut argument = json!({"name": one.name, "schema": schema});
        mark(
            &mut argument,
            &[("optional", one.optional), ("rest", one.rest)],
        );
        if !one.description.is_empty() {
            argument["description"] = one.description.as_str().into();
        }
        argument
    });
    let arguments: Vec<Value> = arguments.collect();
    let result = known(&command.result, late.and_then(|late| late.result.as_ref()));
    let mut schema = json!({"arguments": arguments, "result": result});
    mark(
        &mut schema,
        &[
            ("read_only", command.read_only),
            ("destructive", command.destructive),
            ("idempotent", command.idempotent),
        ],
    );
    schema
}

/// Returns the schema of the manifest, or that of run time if the manifest has none.
fn known<'s>(constant: &'s Value, late: Option<&'s Value>) -> &'s Value {
    late.filter(|_| *constant == Value::Bool(true))
        .unwrap_or(constant)
}

fn mark(object: &mut Value, marks: &[(&str, bool)]) {
    for (name, is_so) in marks.iter().filter(|(_, is_so)| *is_so) {
        object[*name] = (*is_so).into();
    }
}

async fn run_own(
    core: &Arc<Core>,
    slot: &Slot,
    lease: &Lease,
    (index, line): (usize, Line),
) -> Reply {
    let info = &slot.manifest.commands[index];
    let revoked = lease.0.revoked.with(|revoked| *revoked);
    let code = match (lease.0.code(), revoked) {
        (Some(code), None) => code,
        (_, revoked) => return Err(let_go(info, revoked.unwrap_or(Revoked::Ends))),
    };
    let sent = Sent {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        guest: line.guest,
        arguments: line.arguments,
    };
    // A `fn` with a time limit of its own runs on a thread, so that it can be given up.
    let is_on_a_thread = match info.kind.as_str() {
        "async" => false,
        "blocking" => true,
        _ => info.timeout_ms.is_some(),
    };
    let outcome = match is_on_a_thread {
        true => {
            let result = on_a_thread(async move { code.call(sent).await })?;
            // A thread that is given up goes on, but nothing waits for it.
            let _counted = ThreadCount::new(core);
            within(core, lease, info, async move {
                result.until(Option::take).await
            })
            .await?
        }
        false => within(core, lease, info, code.call(sent)).await?,
    };
    reply_of(info, outcome)
}

/// Runs work on a thread of its own, which may block.
fn on_a_thread(
    work: impl Future<Output = Outcome> + Send + 'static,
) -> Result<Arc<Signal<Option<Outcome>>>, Refusal> {
    let result = Arc::new(Signal::new(None));
    let place = Arc::clone(&result);
    let spawned = thread::Builder::new().spawn(move || {
        let outcome = run_here(work);
        place.change(|result| *result = Some(outcome));
    });
    match spawned {
        Ok(_) => Ok(result),
        Err(error) => Err(Refusal::new("failed", format!("it has no thread: {error}"))),
    }
}

/// Runs work of an instance until its end, its time limit, or the end of the instance.
async fn within(
    core: &Core,
    lease: &Lease,
    info: &CommandInfo,
    work: impl Future<Output = Outcome>,
) -> Result<Outcome, Refusal> {
    let limit = core.sleep(info.limit());
    let revoked = lease.0.revoked.until(|revoked| *revoked);
    match first(first(work, limit), revoked).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(())) => Err(too_long(info)),
        Err(why) => Err(let_go(info, why)),
    }
}

/// Returns the result of `work`, or an error if `end` comes first.
pub async fn first<T, E>(
    work: impl Future<Output = T>,
    end: impl Future<Output = E>,
) -> Result<T, E> {
    let (mut work, mut end) = (pin!(work), pin!(end));
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        end.as_mut().poll(context).map(Err)
    })
    .await
}

fn too_long(info: &CommandInfo) -> Refusal {
    let (name, limit) = (&info.name, info.limit());
    let text = match info.kind.as_str() {
        "async" => format!("{name} ran past its limit and was cancelled; the limit is {limit:?}"),
        _ => format!(
            "{name} ran past its limit and goes on; the limit is {limit:?}, and its result will not be sent"
        ),
    };
    Refusal::new("timeout", text)
}

fn let_go(info: &CommandInfo, why: Revoked) -> Refusal {
    if why == Revoked::Crashed {
        let text = format!("its daemon crashed while {} ran", info.name);
        return Refusal::new("crashed", text);
    }
    let what = match info.kind.as_str() {
        "async" => "it was cancelled",
        _ => "it may have been carried out, and its result will not be sent",
    };
    let name = &info.name;
    let text = format!("{name} still ran when its daemon was replaced or stopped; {what}");
    Refusal::unavailable(text)
}

/// Returns the reply to a command that has ended.
fn reply_of(info: &CommandInfo, (status, bytes): Outcome) -> Reply {
    let code = match status {
        status::DONE => return Ok([b"[", &bytes[..], b"]"].concat()),
        status::NOTHING => return Ok(b"[]".to_vec()),
        status::CODED => return Err(Refusal::of_command(CodedError::read(&bytes))),
        status::BAD_ARGUMENTS | status::NOT_JSON => "bad-arguments",
        status::CRASHED => "crashed",
        status::UNKNOWN => "unknown-command",
        status::GONE => "unavailable",
        _ => "failed",
    };
    let text = match text_of(&bytes) {
        text if text.is_empty() => format!("{} gave no reason", info.name),
        text => text,
    };
    Err(Refusal::new(code, text))
}

/// Waits until the connect hook has ended for a guest, and starts it if it is due. Fails if the guest has gone: its
/// connect hook has ended with it, and its commands never begin.
async fn greeted(
    core: &Arc<Core>,
    slot: &Arc<Slot>,
    lease: &Lease,
    guest: u64,
) -> Result<(), Refusal> {
    if slot.manifest.connect.is_none() {
        return Ok(());
    }
    announce(core, slot, Lease::again(lease), guest);
    let greeted = {
        let world = lock(&core.world);
        let connection = world.connections.get(&guest);
        connection.map(|one| Arc::clone(&one.greeted))
    };
    let id = lease.0.id();
    if let Some(greeted) = greeted {
        let has_ended = |greeted: &mut Greeted| greeted.known_to == id || greeted.by != id;
        greeted.until(|one| has_ended(one).then_some(())).await;
    }
    match lock(&core.world).connections.contains_key(&guest) {
        true => Ok(()),
        false => Err(Refusal::unavailable("the guest has gone")),
    }
}

/// Cancels the connect hooks of a guest that has gone. They must not end after its disconnect hook.
pub fn end_hooks(core: &Core, greeted: &Signal<Greeted>) {
    for hook in greeted.with(|greeted| std::mem::take(&mut greeted.hooks)) {
        core.executor.cancel(hook);
    }
    greeted.change(|greeted| greeted.known_to = greeted.by);
}

/// Starts the connect hook for a guest, unless it has been started in this instance.
pub fn announce(core: &Arc<Core>, slot: &Arc<Slot>, lease: Lease, guest: u64) {
    if slot.manifest.connect.is_none() {
        return;
    }
    let greeted = {
        let world = lock(&core.world);
        let connection = world.connections.get(&guest);
        connection.map(|one| Arc::clone(&one.greeted))
    };
    let id = lease.0.id();
    let is_first = |greeted: &mut Greeted| std::mem::replace(&mut greeted.by, id) != id;
    let Some(greeted) = greeted.filter(|greeted| greeted.with(is_first)) else {
        return;
    };
    let (own, slot) = (Arc::clone(core), Arc::clone(slot));
    let label = format!("on(connect) of {}", slot.name);
    let place = Arc::clone(&greeted);
    let hook = core.executor.spawn(0, &label, async move {
        run_hook(
            &own,
            &slot,
            &lease,
            ("on(connect)", verb::GUEST_CAME, guest),
        )
        .await;
        place.change(|greeted| greeted.known_to = id);
    });
    greeted.with(|greeted| greeted.hooks.push(hook));
}

/// Starts the disconnect hook for a guest that has gone.
pub fn say_goodbye(core: &Arc<Core>, slot: &Arc<Slot>, guest: u64, greeted: &Signal<Greeted>) {
    let Some(lease) = slot.lease() else { return };
    let was_greeted = greeted.with(|greeted| greeted.by == lease.0.id());
    if slot.manifest.disconnect.is_none() || (slot.manifest.connect.is_some() && !was_greeted) {
        return;
    }
    let (own, slot) = (Arc::clone(core), Arc::clone(slot));
    let label = format!("on(disconnect) of {}", slot.name);
    core.executor.spawn(0, &label, async move {
        run_hook(
            &own,
            &slot,
            &lease,
            ("on(disconnect)", verb::GUEST_GONE, guest),
        )
        .await;
    });
}

async fn run_hook(core: &Core, slot: &Slot, lease: &Lease, (name, verb, guest): (&str, u32, u64)) {
    let Some(code) = lease.0.code() else { return };
    let info = CommandInfo {
        name: name.to_owned(),
        kind: "async".to_owned(),
        ..CommandInfo::default()
    };
    let hook = code.act(verb, guest.to_le_bytes().to_vec());
    let text = match within(core, lease, &info, hook).await {
        Ok((status::DONE | status::NOTHING, _)) => return,
        Ok((_, bytes)) => text_of(&bytes),
        Err(refusal) => refusal.message,
    };
    slot.log(LogLine::of_host(
        Level::WARN,
        format!("{name} failed: {text}"),
    ));
}
