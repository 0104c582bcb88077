//! The lines of a guest while there is no instance to answer them.
//!
//! A message waits in the inbox, and the connection is not read further while one does. A line that every instance
//! would refuse needs no instance. If no message waits before it, it is answered at once; a connection of another
//! protocol is closed. So such lines get the same replies, in the same order, as with an instance.

use std::sync::Arc;
use std::task::Context;

use dae_common_tcp::{ErrorCode, Front, Inbox, Line};

use super::lines::{is_stray, kept};
use super::{Guest, InboxLook, Stream};
use crate::session::admission;
use crate::threads::counters::BatchCounts;

impl<S: Stream> Guest<S> {
    /// Answers lines that need no instance. Waits for an instance if a message is next.
    pub(super) fn wait_at_gate(&mut self, context: &mut Context<'_>) -> (InboxLook, BatchCounts) {
        if self.has_ended {
            self.inbox.end();
        }
        let mut tally = BatchCounts::default();
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        let taken = self.refuse_at_front(&mut inbox, &mut tally);
        self.inbox = inbox;
        match taken {
            InboxLook::All => self.gate_change = None,
            InboxLook::Some => self.watch_gate(context),
        }
        (taken, tally)
    }

    /// Refuses lines up to the first message. Returns [`InboxLook::Some`] if there is a message or no reply budget.
    fn refuse_at_front(&mut self, inbox: &mut Inbox, tally: &mut BatchCounts) -> InboxLook {
        // A command that waits for a reservation came before all of them, and waits for the instance, too.
        if self.deferred.is_some() {
            return InboxLook::Some;
        }
        while self.has_room() {
            match inbox.front() {
                Front::Message => return InboxLook::Some,
                Front::Nothing => return InboxLook::All,
                Front::Fault(fault) => self.refuse_fault(&fault, tally),
                Front::OtherProtocol(protocol) => {
                    self.refuse_protocol(protocol);
                    return InboxLook::All;
                }
            }
            self.on_lines();
        }
        InboxLook::Some
    }

    /// Has the task woken when an instance may be there.
    fn watch_gate(&mut self, context: &mut Context<'_>) {
        let gate = Arc::clone(&self.gate);
        let change = self
            .gate_change
            .get_or_insert_with(|| Box::pin(gate.changed()));
        if change.as_mut().poll(context).is_ready() {
            self.gate_change = None;
            context.waker().wake_by_ref();
        } else if !self.gate.phase().is_waiting() {
            // The gate changed between the caller's check and the subscription.
            context.waker().wake_by_ref();
        }
    }

    /// Answers the command that waits for a reservation, if there is one, with `unavailable`.
    pub(super) fn refuse_deferred(&mut self, text: &str, tally: &mut BatchCounts) {
        let Some((_, line)) = self.deferred.take() else {
            return;
        };
        if let Some(Line::Message(message)) = kept(&line).next() {
            let of = (message.name, message.tag);
            self.refuse(of, (ErrorCode::Unavailable, text), tally);
        }
    }

    /// Answers all lines that have waited too long for an instance, in their order.
    pub(super) fn give_up_waiting(&mut self) {
        let text = admission::no_instance(&self.gate);
        let mut tally = BatchCounts::default();
        self.refuse_deferred(&text, &mut tally);
        let mut inbox = std::mem::replace(&mut self.inbox, Inbox::new(0));
        for line in inbox.lines() {
            match line {
                Line::Message(message) if self.is_reply(&message) || is_stray(&message) => {}
                Line::Message(message) => {
                    let of = (message.name, message.tag);
                    self.refuse(of, (ErrorCode::Unavailable, &text), &mut tally);
                }
                Line::Fault(fault) => self.refuse_fault(&fault, &mut tally),
                Line::OtherProtocol(protocol) => self.refuse_protocol(protocol),
            }
        }
        self.inbox = inbox;
        self.on_lines();
        // Instance 0: no instance has answered these lines.
        self.gate.count(0, tally, self.gate.limits.instance_wait);
    }
}
