//! The parts of a daemon's state: the whole, or a snapshot and the changes since.

/// A part of a daemon's state, for which its code is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::FromRepr)]
#[repr(u8)]
pub enum StatePart {
    /// All of it.
    Whole = 0,
    /// All of it, and what changes from then on is noted.
    Snapshot = 1,
    /// The changes since the snapshot.
    Delta = 2,
}

impl StatePart {
    /// Returns the name of the author's method.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            StatePart::Whole => "save",
            StatePart::Snapshot => "snapshot",
            StatePart::Delta => "delta",
        }
    }
}
