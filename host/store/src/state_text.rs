//! The text of a state: written once by the author's code, and shared from then on.
//!
//! A state may have hundreds of megabytes. So its bytes lie in one place, which may be memory of this process or a file in
//! memory that several processes see, and every owner has a reference to it. Whether they are JSON is checked once.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The place where the bytes of a state lie. They never change.
pub trait StateMemory: Any + Send + Sync {
    /// Returns the bytes.
    fn bytes(&self) -> &[u8];
}

impl StateMemory for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// The text of a state, in the ABI's form. Clones share it.
#[derive(Clone)]
pub struct StateText(Arc<SharedState>);

struct SharedState {
    /// The part of the memory that is the text.
    range: Range<usize>,
    /// True once it was found to be JSON.
    is_checked: AtomicBool,
    memory: Box<dyn StateMemory>,
}

impl StateText {
    /// Returns a text that fills its memory.
    pub fn of(memory: impl StateMemory) -> Self {
        let range = 0..memory.bytes().len();
        StateText::part_of(memory, range, false)
    }

    /// Returns a part of a text that was read as JSON.
    pub(crate) fn read_in(memory: Vec<u8>, range: Range<usize>) -> Self {
        StateText::part_of(memory, range, true)
    }

    fn part_of(memory: impl StateMemory, range: Range<usize>, is_checked: bool) -> Self {
        StateText(Arc::new(SharedState {
            range,
            is_checked: AtomicBool::new(is_checked),
            memory: Box::new(memory),
        }))
    }

    /// Returns the bytes. They are a text in JSON once [`StateText::check`] has succeeded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let all = self.0.memory.bytes();
        all.get(self.0.range.clone()).unwrap_or_default()
    }

    /// Returns the place of the bytes, if the text fills it and it is of that type.
    #[must_use]
    pub fn memory<M: StateMemory>(&self) -> Option<&M> {
        let memory: &dyn Any = &*self.0.memory;
        let memory = memory.downcast_ref::<M>()?;
        (self.0.range == (0..memory.bytes().len())).then_some(memory)
    }

    /// Returns whether it was found to be JSON.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.0.is_checked.load(Ordering::Relaxed)
    }

    /// Checks that it is JSON. Once it was found to be, this takes no time.
    ///
    /// # Errors
    /// It is not; the text has the place.
    pub fn check(&self) -> Result<(), String> {
        if self.is_checked() {
            return Ok(());
        }
        let wrong = |error: &dyn fmt::Display| format!("its state is not JSON: {error}");
        let text = std::str::from_utf8(self.bytes()).map_err(|error| wrong(&error))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| wrong(&error))?;
        self.0.is_checked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns a copy as a JSON value.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn to_raw(&self) -> serde_json::Result<Box<RawValue>> {
        serde_json::from_slice(self.bytes())
    }
}

impl From<Vec<u8>> for StateText {
    fn from(bytes: Vec<u8>) -> Self {
        StateText::of(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for StateText {
    fn from(bytes: &[u8; N]) -> Self {
        StateText::of(bytes.to_vec())
    }
}

impl From<&[u8]> for StateText {
    fn from(bytes: &[u8]) -> Self {
        StateText::of(bytes.to_vec())
    }
}

impl PartialEq for StateText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.bytes() == other.bytes()
    }
}

impl Eq for StateText {}

impl fmt::Debug for StateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateText({} bytes)", self.bytes().len())
    }
}

impl Serialize for StateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = serde_json::from_slice::<&RawValue>(self.bytes());
        raw.map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text: Box<str> = raw.into();
        let bytes = String::from(text).into_bytes();
        let range = 0..bytes.len();
        Ok(StateText::read_in(bytes, range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_once_and_clones_know_it() {
        let text = StateText::from(br#"{"version":1,"data":[1]}"#);
        let clone = text.clone();
        assert!(!clone.is_checked());
        text.check().unwrap();
        assert!(clone.is_checked());
        for wrong in [&b"[1,"[..], b"\xff", b"", b"1 2"] {
            let wrong = StateText::from(wrong);
            let error = wrong.check().unwrap_err();
            assert!(error.starts_with("its state is not JSON: "), "{error}");
            assert!(!wrong.is_checked());
        }
    }

    #[test]
    fn a_part_of_a_memory_is_not_the_memory() {
        let part = StateText::read_in(b" [1] ".to_vec(), 1..4);
        assert_eq!((part.bytes(), part.is_checked()), (&b"[1]"[..], true));
        assert!(part.memory::<Vec<u8>>().is_none());
        let whole = StateText::of(b"[1]".to_vec());
        assert_eq!(whole.memory::<Vec<u8>>(), Some(&b"[1]".to_vec()));
        assert_eq!(whole, part);
    }
}
