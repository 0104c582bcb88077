//! Commands that can't send their replies in parts.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn part(&self) {}

    #[command(blocking)]
    fn blocks(&self) -> impl Stream<Item = u8> {
        stream_iter([1])
    }

    #[command]
    fn reports(&self, _progress: Progress<u8>) {}

    #[command(blocking)]
    fn reports_and_blocks(&self, _progress: Progress<u8>) {}

    #[command]
    async fn both(&self, _progress: Progress<u8>) -> Result<impl Stream<Item = u8>> {
        Ok(stream_iter([1]))
    }
}

fn main() {}
