//! What each daemon's count may be: where it runs, in the host's memory, on the disk, and where it was uninstalled.
//!
//! The fixture's state is one number, so that a lost or a doubled command shows at once. A count that is known exactly has
//! equal bounds. No state and a count of 0 are the same.

/// Bounds of a count, both included.
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
    /// What the instance that runs has.
    pub live: Option<Range>,
    /// What the host would start the next one from.
    pub held: Range,
    /// What a host would find that comes after a killed one.
    pub durable: Range,
    /// What was kept at the last uninstall.
    pub departed: Range,
    /// Its state is kept every second, too.
    pub has_checkpoints: bool,
}

impl Ledger {
    /// What the next instance starts from if this one is killed now.
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

    /// An instance starts from what was kept.
    pub fn start(&mut self) {
        self.live.get_or_insert(self.held);
    }

    /// The count is this one: it was asked for.
    #[track_caller]
    pub fn pin(&mut self, count: u64) {
        let live = self.live.expect("it runs");
        assert!(live.has(count), "its count is {count}, and not in {live:?}");
        self.live = Some(Range::exactly(count));
    }

    /// The exact count of what runs.
    #[track_caller]
    pub fn count(&self) -> u64 {
        let live = self.live.expect("it runs");
        assert_eq!(live.low, live.high, "it was asked for after the last step");
        live.low
    }

    /// The state was handed over at some moment since it was `before`, and maybe the disk did not take it.
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

    /// As [`Ledger::hand_over`], where it isn't sure that there was any hand-over.
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

    /// It was stopped in order, as it is now.
    pub fn stop(&mut self, is_full: bool) {
        if let Some(live) = self.live {
            self.hand_over(live.low, is_full);
            self.live = None;
        }
    }

    /// Its host was killed.
    pub fn lose_host(&mut self) {
        let reached = self.live.map_or(0, |live| live.high);
        self.durable = self.with_checkpoint(self.durable, reached);
        self.end_host();
    }

    /// Its host has ended: what the disk has is all there is.
    pub fn end_host(&mut self) {
        self.held = self.durable;
        self.live = None;
    }

    /// It is uninstalled.
    pub fn uninstall(&mut self) {
        self.stop(false);
        self.departed = self.held;
        (self.held, self.durable) = Default::default();
    }

    /// It is installed, from what was kept at the last uninstall or from nothing.
    pub fn install(&mut self, resumes: bool) {
        self.held = match resumes {
            true => self.departed,
            false => Range::default(),
        };
        self.durable = self.held;
    }
}
