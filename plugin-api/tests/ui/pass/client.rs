//! Clients of all kinds of signatures; `main` compiles the calls, which only a host can make.

use std::collections::HashMap;

use dae_plugin_api::prelude::*;

#[derive(Serialize, Deserialize)]
pub struct Point {
    x: f64,
}

/// The counter.
#[daemon_client]
pub trait Counter {
    /// Adds `by`, or 1.
    async fn increment(&self, by: Option<u64>) -> Result<u64>;
}

#[daemon_client(name = "my.shop")]
pub(crate) trait Shop {
    async fn r#move(&self, line: &str, to: &Point, by: (u8, i128)) -> Result<Option<Point>>;
    #[command(name = "set-all")]
    async fn set_all(
        &self,
        /// The first.
        arguments: HashMap<String, Point>,
        name: Option<&str>,
        #[rest] more: Vec<String>,
    ) -> dae_plugin_api::Result<()>;
    async fn raw(&self, of: &[json::Value]) -> Result<json::Value>;
}

async fn calls(eco: &Ecosystem, point: Point) -> Result<u64> {
    let shop = Shop::named(eco, "other").await?;
    let moved = shop.r#move("a", &point, (1, -1)).await?;
    shop.clone()
        .set_all(HashMap::new(), Some("x"), vec!["y".to_owned()])
        .await?;
    shop.raw(&[json::json!(moved.is_some())]).await?;
    shop.guest().emit("seen", (1,))?;
    Counter::at(eco).await?.increment(None).await
}

fn is_spawned<F: Future + Send>(_: impl FnOnce(&'static Ecosystem, Point) -> F) {}

fn main() {
    is_spawned(calls);
}
