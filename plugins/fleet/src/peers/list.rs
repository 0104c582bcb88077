//! The lists of daemons: asked for in pages when a heartbeat names a new version, and provided.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dae_plugin_api::prelude::*;
use futures_util::StreamExt as _;

use super::{Boot, Peers, withdraw};
use crate::{Shared, ended, lock, until_ending};

/// The daemons on one page of a list. One with all that a credential has takes some 300 bytes.
const PAGE: usize = 500;
/// The longest wait for a page.
const PAGE_MAX: Duration = Duration::from_secs(2);
/// The pages of the longest list: a host takes 10,000 daemons of others.
const PAGES_MAX: usize = 20;
/// A page of the list of daemons.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    boot: Boot,
    version: u64,
    total: usize,
    daemons: Vec<Credential>,
}

impl Peers {
    /// Takes up the list of a host that was asked for. Returns it if it is to be provided.
    fn take_list(&self, host: &str, list: Result<Page>) -> Option<Page> {
        let mut table = lock(&self.table);
        let peer = table.get_mut(host)?;
        peer.is_asked = false;
        match list {
            Ok(list) if list.boot == peer.boot => {
                peer.listed = Some(list.version);
                Some(list)
            }
            // The next heartbeat leads to the list again.
            Ok(_) => None,
            Err(fault) => {
                tracing::warn!("the daemons of the host {host} are not known: {fault}");
                None
            }
        }
    }

    /// Notes the names that are provided of a host, and returns those that are to be withdrawn.
    fn set_names(&self, host: &str, names: BTreeSet<String>) -> BTreeSet<String> {
        match lock(&self.table).get_mut(host) {
            Some(peer) => {
                let gone = peer.names.difference(&names).cloned().collect();
                peer.names = names;
                gone
            }
            // It was lost meanwhile.
            None => names,
        }
    }
}

/// Fetches the list of a host, and provides what is on it.
pub(super) async fn fetch(shared: &Shared, host: &str) {
    let list = fetched(shared, host).await;
    let Some(list) = shared.peers.take_list(host, list) else {
        return;
    };
    let mut names = BTreeSet::new();
    for mut credential in list.daemons {
        credential.host = Some(host.to_owned());
        match shared.eco.provide(&credential).await {
            Ok(provided) => drop(names.insert(provided.name().to_owned())),
            Err(fault) => tracing::warn!(
                "{} of the host {host} can't be provided: {fault}",
                credential.name
            ),
        }
    }
    let gone = shared.peers.set_names(host, names);
    withdraw(shared, gone).await;
}

async fn fetched(shared: &Shared, host: &str) -> Result<Page> {
    let subject = shared.link.subjects.list(host);
    let mut whole: Option<Page> = None;
    for _ in 0..PAGES_MAX {
        let from = whole.as_ref().map_or(0, |list| list.daemons.len());
        let asked = shared
            .link
            .client
            .request(subject.clone(), from.to_string().into());
        let answer = tokio::time::timeout(PAGE_MAX, asked)
            .await
            .map_err(|_| Error::new("it doesn't answer"))??;
        let page: Page = json::from_slice(&answer.payload)?;
        let is_same = whole
            .as_ref()
            .is_none_or(|list| (&list.boot, list.version) == (&page.boot, page.version));
        let is_last = page.daemons.is_empty();
        match &mut whole {
            Some(list) if is_same => list.daemons.extend(page.daemons),
            // It has changed meanwhile: from the start.
            Some(_) => whole = None,
            None if from == 0 => whole = Some(page),
            None => {}
        }
        if let Some(list) = &whole
            && (list.daemons.len() >= list.total || is_last)
        {
            return whole.ok_or_else(|| Error::new("no list"));
        }
    }
    Err(Error::new(format!(
        "its list has more than {} daemons, or changes all the time",
        PAGES_MAX * PAGE
    )))
}

/// Answers the other hosts that ask for the daemons of this one.
pub(crate) async fn answer(shared: Arc<Shared>) -> Result<()> {
    let subject = shared.link.subjects.list(&shared.host);
    let mut asked = shared.link.subscribe(subject, true).await?;
    while let Some(message) = until_ending(&shared, asked.next()).await {
        let from = std::str::from_utf8(&message.payload)
            .ok()
            .and_then(|from| from.parse().ok());
        let (Some(reply), Some(from)) = (message.reply, from) else {
            continue;
        };
        let (version, total, daemons) = shared.local.page(from, PAGE);
        let page = Page {
            boot: shared.peers.boot.clone(),
            version,
            total,
            daemons,
        };
        let page = json::to_vec(&page)?;
        let _ = shared.link.client.publish(reply, page.into()).await;
    }
    ended(&shared, "the subscription of lists has ended")
}
