//! Tests of the table of pending calls: which call a line answers after refusals, timeouts and the end.

use std::sync::Barrier;

use super::*;

impl ReplyFuture {
    /// Returns the reply, if it has come.
    fn look(&mut self) -> Option<CallReply> {
        self.reply.try_recv().ok()
    }

    /// Stops waiting, with a time stamp from long ago.
    fn abandon_long_ago(self) {
        let long_ago = Instant::now().checked_sub(GIVEN_UP_AFTER + Duration::from_secs(1));
        self.abandoned
            .set(long_ago.expect("a machine that has run for a minute"))
            .expect("nobody has abandoned it before");
    }
}

fn message<'a>(name: &'a str, arguments: &'a str) -> Message<'a> {
    Message {
        name,
        tag: None,
        arguments,
    }
}

fn refused() -> Result<(), CallError> {
    Err(CallError::new(ErrorCode::Unavailable, "there is no space"))
}

fn call(asked: &PendingCalls, name: &str) -> ReplyFuture {
    asked.ask(name, None, || Ok(())).unwrap()
}

#[test]
fn replies_go_to_the_oldest_call_of_their_name() {
    let asked = PendingCalls::default();
    let (mut first, mut second) = (call(&asked, "add"), call(&asked, "add"));
    let mut other = call(&asked, "slow");
    assert_eq!(asked.answer(&message("tick", "[1]")), LineMatch::NotOurs);
    assert_eq!(asked.answer(&message("add", "[3]")), LineMatch::Ours);
    assert_eq!(asked.answer(&message("add", "4")), LineMatch::Ours);
    let refused = r#"[{"command":"slow","code":"timeout","message":"late"}]"#;
    assert_eq!(asked.answer(&message("error", refused)), LineMatch::Ours);
    assert_eq!(first.look().unwrap().unwrap(), b"[3]");
    assert_eq!(second.look().unwrap().unwrap(), b"[4]");
    assert_eq!(other.look().unwrap().unwrap_err().code, "timeout");
    assert!(!asked.is_any());
}

/// Each thread sends its own number. The lines are answered in the order in which they were queued.
#[test]
fn calls_of_many_threads_are_entered_in_the_order_of_their_lines() {
    const THREADS: usize = 4;
    const CALLS: usize = 200;
    let (asked, lines, start) = (
        PendingCalls::default(),
        Mutex::new(Vec::new()),
        Barrier::new(THREADS),
    );
    let calls = |thread: usize| {
        start.wait();
        let all = (0..CALLS).map(|n| {
            let number = thread * CALLS + n;
            let send = || {
                lock(&lines).push(number);
                Ok(())
            };
            (number, asked.ask("echo", None, send).unwrap())
        });
        all.collect::<Vec<_>>()
    };
    let calls = &calls;
    let mut all: Vec<(usize, ReplyFuture)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || calls(thread)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap());
        ended.flatten().collect()
    });
    for number in lines.into_inner().unwrap() {
        asked.answer(&message("echo", &format!("[{number}]")));
    }
    for (number, awaited) in &mut all {
        let reply = awaited.look().unwrap().unwrap();
        assert_eq!(reply, format!("[{number}]").into_bytes());
    }
}

#[test]
fn a_line_that_is_refused_leaves_no_call_and_no_event() {
    let asked = PendingCalls::default();
    asked.ask("add", None, refused).unwrap_err();
    asked.expect("add", None, refused).unwrap_err();
    assert!(!asked.is_any());
    let mut next = call(&asked, "add");
    asked.ask("add", None, refused).unwrap_err();
    assert!(asked.is_any());
    asked.answer(&message("add", "[2]"));
    assert_eq!(next.look().unwrap().unwrap(), b"[2]");
}

#[test]
fn a_late_reply_is_not_taken_for_the_next_ones() {
    for errors in [false, true] {
        let asked = PendingCalls::default();
        drop(call(&asked, "add"));
        let mut second = call(&asked, "add");
        let late = match errors {
            true => message(
                "error",
                r#"[{"command":"add","code":"failed","message":""}]"#,
            ),
            false => message("add", "[\"late\"]"),
        };
        assert_eq!(asked.answer(&late), LineMatch::Ours);
        assert!(second.look().is_none());
        assert_eq!(asked.answer(&message("add", "[2]")), LineMatch::Ours);
        assert_eq!(second.look().unwrap().unwrap(), b"[2]");
    }
}

#[test]
fn an_error_line_that_lacks_something_answers_its_call_all_the_same() {
    for (arguments, code) in [
        (r#"[{"command":"add"}]"#, "failed"),
        (r#"{"command":"add","message":5}"#, "failed"),
        (
            r#"[{"command":"add","code":"odd","message":null}, 7]"#,
            "odd",
        ),
        ("{command: 'add', code: 'json5'}", "json5"),
    ] {
        let asked = PendingCalls::default();
        let (mut first, mut second) = (call(&asked, "add"), call(&asked, "add"));
        assert_eq!(asked.answer(&message("error", arguments)), LineMatch::Ours);
        let refusal = first.look().unwrap().unwrap_err();
        assert_eq!(refusal.code, code, "{arguments}");
        assert!(!refusal.message.is_empty(), "{arguments}");
        asked.answer(&message("add", "[2]"));
        assert_eq!(second.look().unwrap().unwrap(), b"[2]", "{arguments}");
    }
    let asked = PendingCalls::default();
    let _call = call(&asked, "add");
    let nameless = message("error", r#"[{"code":"too-many-guests"}]"#);
    assert_eq!(asked.answer(&nameless), LineMatch::NotOurs);
}

#[test]
fn the_data_of_an_error_line_come_as_they_were_written() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for data in [
        r#"{"b":0.10,"a":340282366920938463463374607431768211455}"#,
        "1e400",
        &deep,
    ] {
        let asked = PendingCalls::default();
        let mut waiting = call(&asked, "get");
        let line = format!(r#"[{{"command":"get","code":"full","message":"no","data":{data}}}]"#);
        assert_eq!(asked.answer(&message("error", &line)), LineMatch::Ours);
        let refusal = waiting.look().unwrap().unwrap_err();
        assert_eq!(refusal.data.as_ref().map(RawData::get), Some(data));
        let mut written = Vec::new();
        refusal.write_line(&mut written, "get", None);
        assert_eq!(written, format!("error {line}\n").into_bytes());
    }
    for (without, code) in [(r#""data":null"#, "a"), (r#""other":1"#, "b")] {
        let asked = PendingCalls::default();
        let mut waiting = call(&asked, "get");
        let line = format!(r#"[{{"command":"get","code":"{code}",{without}}}]"#);
        asked.answer(&message("error", &line));
        let refusal = waiting.look().unwrap().unwrap_err();
        assert_eq!((refusal.code.as_str(), refusal.data), (code, None));
    }
}

#[test]
fn a_call_that_was_given_up_is_known_and_makes_room_for_the_next() {
    let asked = PendingCalls::default();
    call(&asked, "dae").abandon_long_ago();
    assert!(asked.is_out_of_step("dae") && !asked.is_out_of_step("add"));
    // Until the next call of that name, its reply may still come.
    assert_eq!(asked.answer(&message("dae", "[{}]")), LineMatch::Ours);
    call(&asked, "dae").abandon_long_ago();
    let mut next = call(&asked, "dae");
    assert!(!asked.is_out_of_step("dae"));
    asked.answer(&message("dae", "[2]"));
    assert_eq!(next.look().unwrap().unwrap(), b"[2]");
    let waiting = call(&asked, "add");
    drop(call(&asked, "add"));
    assert!(!asked.is_out_of_step("add"), "neither is old");
    drop(waiting);
}

#[test]
fn too_many_are_refused_and_an_end_answers_all_and_those_that_come_later() {
    let asked = PendingCalls::default();
    let mut all: Vec<_> = (0..ASKED_MAX).map(|_| call(&asked, "a")).collect();
    let full = asked.ask("a", None, || unreachable!("it isn't sent"));
    assert_eq!(full.unwrap_err().code, "unavailable");
    let gone = CallError::new(ErrorCode::Crashed, "it has gone");
    asked.end(&gone);
    assert_eq!(all[7].look().unwrap().unwrap_err(), gone);
    let later = asked.ask("a", None, || unreachable!("it isn't sent"));
    assert_eq!(later.unwrap_err(), gone);
    assert_eq!(asked.expect("a", None, || Ok(())).unwrap_err(), gone);
    assert!(!asked.is_any());
}

#[test]
fn events_that_nobody_answers_refuse_nothing_and_cost_a_bounded_amount() {
    let asked = PendingCalls::default();
    for n in 0..2 * EVENTS_MAX {
        asked.expect("tick", None, || Ok(())).unwrap();
        asked
            .expect("told", Some(n.to_string()), || Ok(()))
            .unwrap();
    }
    let mut add = call(&asked, "add");
    assert!(lock(&asked.calls).unanswered.len() <= EVENTS_MAX + 1);
    assert_eq!(asked.answer(&message("add", "[3]")), LineMatch::Ours);
    assert_eq!(add.look().unwrap().unwrap(), b"[3]");
}

#[test]
fn a_call_behind_many_events_of_its_name_gets_its_own_reply() {
    const EVENTS: usize = 3 * EVENTS_MAX;
    let asked = PendingCalls::default();
    for _ in 0..EVENTS {
        asked.expect("echo", None, || Ok(())).unwrap();
    }
    let mut echo = call(&asked, "echo");
    for _ in 0..EVENTS {
        assert_eq!(asked.answer(&message("echo", "[0]")), LineMatch::Ours);
    }
    assert!(echo.look().is_none());
    asked.answer(&message("echo", "[1]"));
    assert_eq!(echo.look().unwrap().unwrap(), b"[1]");
    assert!(!asked.is_any());
}

#[test]
fn what_comes_is_handed_on_as_an_array() {
    for (came, handed_on) in [
        ("", "[]"),
        ("[1, 2]", "[1, 2]"),
        ("5", "[5]"),
        ("['x']", r#"["x"]"#),
        ("{a: 1}", r#"[{"a":1}]"#),
        ("hello there", r#"["hello there"]"#),
    ] {
        let array = String::from_utf8(as_array(came)).unwrap();
        assert_eq!(array, handed_on, "{came}");
    }
}
