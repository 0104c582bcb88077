//! The number of batches after which a guest is handed off.

/// The number of batches of quick commands in a row that show that a guest is busy. A hand-off and the return cost
/// about as much as these batches.
const BATCHES: u32 = 4;
/// The upper bound of that number for one guest.
const BATCHES_MAX: u32 = 4096;

/// The number of batches of one guest. It doubles after a hand-off that was refused, that the process had no use for,
/// or during which an event came for the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandOffThreshold(u32);

impl Default for HandOffThreshold {
    fn default() -> Self {
        HandOffThreshold(BATCHES)
    }
}

impl HandOffThreshold {
    /// Returns whether that many batches in a row are enough.
    #[inline]
    pub(crate) fn is_reached(self, batches: u32) -> bool {
        batches >= self.0
    }

    /// Doubles the number, up to its bound.
    pub(crate) fn raise(&mut self) {
        self.0 = (2 * self.0).min(BATCHES_MAX);
    }
}
