//! The possible counts of each daemon: in the running instance, in the host's memory, on the disk, and in the archive.
//!
//! The fixture's state is one number, so that a lost or repeated command is detected at once. A count that is known
//! exactly has equal bounds. No state and a count of 0 are the same.

/// The bounds of a count, both inclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub low: u64,
    pub high: u64,
}

impl Range {
    pub fn exactly(count: u64) -> Self {
        Range {
            low: count,
            high: count,
        }
    }

    pub fn has(self, count: u64) -> bool {
        (self.low..=self.high).contains(&count)
    }
}

/// The counts of one name.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The count of the running instance.
    pub live: Option<Range>,
    /// The count from which the host would start the next instance.
    pub held: Range,
    /// The count that the next host would find after this one is killed.
    pub durable: Range,
    /// The count that was archived at the last uninstall.
    pub departed: Range,
    /// The state is also saved every second.
    pub has_checkpoints: bool,
}

impl Ledger {
    /// Returns the count from which the next instance starts if this one is killed now.
    pub fn after_crash(&self, reached: u64) -> Range {
        self.with_checkpoint(self.held, reached)
    }

    fn with_checkpoint(&self, kept: Range, reached: u64) -> Range {
        let high = match self.has_checkpoints {
            true => kept.high.max(reached),
            false => kept.high,
        };
        Range { high, ..kept }
    }

    /// Records that an instance starts from the host's state.
    pub fn start(&mut self) {
        self.live.get_or_insert(self.held);
    }

    /// Records the exact count that the daemon has returned.
    #[track_caller]
    pub fn pin(&mut self, count: u64) {
        let live = self.live.expect("it runs");
        assert!(live.has(count), "its count is {count}, and not in {live:?}");
        self.live = Some(Range::exactly(count));
    }

    /// Returns the exact count of the running instance.
    #[track_caller]
    pub fn count(&self) -> u64 {
        let live = self.live.expect("it runs");
        assert_eq!(live.low, live.high, "it was asked for after the last step");
        live.low
    }

    /// Records that the state was handed over at some time since the count was `before`. A full disk may not have
    /// stored it.
    pub fn hand_over(&mut self, before: u64, is_full: bool) {
        let live = self.live.expect("it runs");
        let handed = Range {
            low: before.min(live.low),
            high: live.high,
        };
        self.held = handed;
        self.durable = match is_full {
            true => self.maybe(handed),
            false => handed,
        };
    }

    /// Records that the state may have been handed over, as in [`Ledger::hand_over`].
    pub fn maybe_hand_over(&mut self) {
        let live = self.live.expect("it runs");
        self.held = Range {
            low: self.held.low.min(live.low),
            high: self.held.high.max(live.high),
        };
        self.durable = self.maybe(live);
    }

    fn maybe(&self, handed: Range) -> Range {
        Range {
            low: self.durable.low.min(handed.low),
            high: self.durable.high.max(handed.high),
        }
    }

    /// Records that the daemon was stopped in order, with its current count.
    pub fn stop(&mut self, is_full: bool) {
        if let Some(live) = self.live {
            self.hand_over(live.low, is_full);
            self.live = None;
        }
    }

    /// Records that the host was killed.
    pub fn lose_host(&mut self) {
        let reached = self.live.map_or(0, |live| live.high);
        self.durable = self.with_checkpoint(self.durable, reached);
        self.end_host();
    }

    /// Records that the host has ended: only the state on the disk remains.
    pub fn end_host(&mut self) {
        self.held = self.durable;
        self.live = None;
    }

    /// Records that the daemon is uninstalled.
    pub fn uninstall(&mut self) {
        self.stop(false);
        self.departed = self.held;
        (self.held, self.durable) = Default::default();
    }

    /// Records that the daemon is installed, with the archived state or without one.
    pub fn install(&mut self, resumes: bool) {
        self.held = match resumes {
            true => self.departed,
            false => Range::default(),
        };
        self.durable = self.held;
    }
}
