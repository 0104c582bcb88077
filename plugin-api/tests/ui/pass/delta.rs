//! A hand-over in two phases, with conversions in place of `save` and `start`, and with a `Result` where one may be.

use dae_plugin_api::prelude::*;

struct Count(u64);

impl From<&Count> for u64 {
    fn from(count: &Count) -> Self {
        count.0
    }
}

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Count(count)
    }
}

impl Default for Count {
    fn default() -> Self {
        Count(0)
    }
}

#[daemon(state = u64, delta = Vec<u64>)]
impl Count {
    fn snapshot(&self) -> Result<u64> {
        Ok(self.0)
    }

    fn delta(&self) -> Vec<u64> {
        Vec::new()
    }

    fn apply(&self, delta: Vec<u64>) -> Result<()> {
        drop(delta);
        Ok(())
    }

    #[command]
    fn count(&self) -> u64 {
        self.0
    }
}

fn main() {}
