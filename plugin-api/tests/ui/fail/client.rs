//! Traits that are no clients.

use dae_plugin_api::prelude::*;

struct Unreadable;

#[daemon_client(title = "Counter")]
trait WrongOption {
    async fn count(&self) -> Result<u64>;
}

#[daemon_client]
struct NoTrait;

#[daemon_client]
trait Empty {}

#[daemon_client(name = "two words")]
trait WrongForm<T>: Clone {
    const LIMIT: u8;
    fn plain(&self) -> Result<u64>;
    async fn no_self() -> Result<u64>;
    async fn no_result(&self);
    async fn no_error(&self) -> u64;
    async fn own_error(&self) -> Result<u64, String>;
    async fn with_body(&self) -> Result<u64> {
        Ok(1)
    }
    async fn at(&self) -> Result<u64>;
    async fn help(&self) -> Result<u64>;
    async fn given(&self, guest: Guest) -> Result<u64>;
    async fn any(&self, of: impl Serialize) -> Result<u64>;
    async fn early(&self, #[rest] more: Vec<u8>, last: u8) -> Result<u64>;
    async fn no_list(&self, #[rest] more: u8) -> Result<u64>;
    #[command(blocking)]
    async fn option(&self) -> Result<u64>;
    #[command(name = "same")]
    async fn one(&self) -> Result<u64>;
    #[command(name = "same")]
    async fn other(&self) -> Result<u64>;
    async fn any_inside(&self, of: Option<Vec<impl Serialize>>, #[rest] more: Vec<impl Serialize>) -> Result<u64>;
    #[cfg(debug_assertions)]
    async fn only_in_some_builds(&self) -> Result<u64>;
    async fn argument_in_some_builds(
        &self,
        #[allow(unused)] whole: u8,
        #[cfg(debug_assertions)] part: u8,
    ) -> Result<u64>;
}

#[daemon_client]
trait WrongTypes {
    async fn sent(&self, of: Unreadable) -> Result<u64>;
    async fn received(&self) -> Result<Unreadable>;
}

fn main() {}
