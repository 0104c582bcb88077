//! Commands that send their replies in parts, and their entries in the manifest.

use std::pin::Pin;
use std::task::{Context, Poll};

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;

struct Sample {
    items: Vec<u8>,
}

/// A stream of an author's own.
struct Own(u8);

impl Stream for Own {
    type Item = Result<(), String>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0 -= 1;
        Poll::Ready((self.0 > 0).then_some(Ok(())))
    }
}

/// A type with a name that the macro knows, and no report.
#[derive(Deserialize)]
struct Progress {
    done: u8,
}

#[daemon(name = "Sample")]
impl Sample {
    #[command]
    fn borrows(&self) -> impl Stream<Item = u8> {
        stream_iter(self.items.iter().copied())
    }

    #[command]
    async fn waits(&self, text: &str) -> Result<impl Stream<Item = String> + use<>, String> {
        Ok(stream_iter([text.to_owned()]))
    }

    #[command(timeout_s = 5)]
    fn own(&self) -> impl Stream<Item = Result<(), String>> + Send + use<> {
        Own(3)
    }

    #[command(saves)]
    fn keeps(&self, guest: &Guest, eco: Ecosystem) -> impl Stream<Item = u64> + use<> {
        let _ = (guest, eco);
        stream_iter([1])
    }

    #[command]
    async fn reports(&self, report: dae_plugin_api::Progress<&'static str>, n: u8) -> Result<u8> {
        report.send(&"half").await?;
        Ok(n)
    }

    #[command]
    fn argument(&self, progress: Progress) -> u8 {
        progress.done
    }

    fn start(state: Option<u8>) -> Self {
        let items = state.into_iter().collect();
        Sample { items }
    }

    fn save(&self) -> u8 {
        0
    }
}

fn main() {
    let manifest: json::Value = json::from_str(Sample::manifest()).expect("JSON");
    let of = |n: usize| {
        let command = &manifest["commands"][n];
        let arguments = command["arguments"].as_array().expect("a list").len();
        (command["kind"].clone(), command["parts"].clone(), arguments)
    };
    assert_eq!(of(0), ("async".into(), "items".into(), 0));
    assert_eq!(of(1), ("async".into(), "items".into(), 1));
    assert_eq!(of(2), ("async".into(), "items".into(), 0));
    assert_eq!(of(3), ("async".into(), "items".into(), 0));
    assert_eq!(of(4), ("async".into(), "progress".into(), 1));
    assert_eq!(of(5), ("sync".into(), json::Value::Null, 1));
}
