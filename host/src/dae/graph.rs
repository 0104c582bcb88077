//! The call graph of this host: its daemons' calls among each other, and those of all other guests.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::Dae;
use dae_runtime::peers::directory::Address;
use dae_store::call_graph::GraphEdge;

impl Dae {
    /// Returns which daemons of this host call which daemons, and how many calls other guests make: since the host
    /// started, the most calls first. For the calls of guests alone there are no times: see the daemon's `stats`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn shown(dae: dae_host::Dae) {
    /// for edge in dae.graph() {
    ///     let caller = edge.caller.as_deref().unwrap_or("guests");
    ///     println!("{caller} -> {}: {} calls", edge.callee, edge.calls);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn graph(&self) -> Vec<GraphEdge> {
        let directory = &self.inner.shared.directory;
        let is_foreign = |name: &str| {
            let address = directory.find(name);
            matches!(address, Some(Address::There(_) | Address::Elsewhere(_)))
        };
        let mut of_daemons: HashMap<String, u64> = HashMap::new();
        let mut edges = Vec::new();
        for (pair, counts) in directory.call_graph.pairs() {
            let calls = counts.calls();
            *of_daemons.entry(pair.callee.clone()).or_default() += calls;
            let latencies = counts.latencies();
            edges.push(GraphEdge {
                foreign: is_foreign(&pair.callee),
                caller: Some(pair.caller),
                callee: pair.callee,
                calls,
                errors: Some(counts.errors()),
                p50_us: latencies.quantile_us(0.5),
                p99_us: latencies.quantile_us(0.99),
            });
        }
        let daemons = self.inner.running.daemons();
        let gates = daemons.iter().map(|daemon| &daemon.gate);
        for gate in gates.chain([&self.inner.endpoint.gate]) {
            let known = of_daemons.get(&gate.name).copied().unwrap_or(0);
            let calls = gate.stats.calls().saturating_sub(known);
            edges.extend(of_guests(gate.name.clone(), calls));
        }
        let order = |edge: &GraphEdge| {
            (
                Reverse(edge.calls),
                edge.caller.clone(),
                edge.callee.clone(),
            )
        };
        edges.sort_by_cached_key(order);
        edges
    }
}

/// Returns the edge for the guests of a daemon that are no daemons of this host; `None` without a call.
fn of_guests(callee: String, calls: u64) -> Option<GraphEdge> {
    (calls > 0).then_some(GraphEdge {
        caller: None,
        callee,
        foreign: false,
        calls,
        errors: None,
        p50_us: None,
        p99_us: None,
    })
}
