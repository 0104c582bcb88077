//! `graph`: who calls whom, as a table, for Graphviz, or as a picture.
//!
//! The host counts the calls ([`dae_host::Dae::graph`]). A picture is laid out here, and stays readable for few calls
//! alone; more are left to Graphviz.

mod picture;

use anyhow::Result;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use super::names;
use super::words::latency;
use dae_runtime::os::control_client::ControlClient;
use dae_store::call_graph::GraphEdge;
use dae_store::printable::one_line;
use dae_store::report::Status;

/// The caller in tables and pictures for all guests that are no daemons.
const GUESTS: &str = "(guests)";

/// The arguments of `graph`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the calls by and to these daemons; patterns with * and ? are allowed
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print the graph in the language of Graphviz
    #[arg(long, conflicts_with = "svg")]
    dot: bool,
    /// Print the graph as a picture (SVG)
    #[arg(long)]
    svg: bool,
}

/// Shows the graph.
pub(super) fn graph(session: &Session, args: &Args) -> Result<()> {
    if session.out.json && (args.dot || args.svg) {
        let text = "--json prints the graph as JSON; leave out --dot and --svg";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    let mut host = Client::control(session)?;
    let all: Vec<GraphEdge> = host.ask("graph", &json!([]))?;
    let edges = chosen(&mut host, all, &args.names)?;
    if session.out.json {
        return session.out.document(&edges);
    }
    if args.dot {
        return session.out.line(&picture::dot(&edges));
    }
    if args.svg {
        return session.out.line(&picture::svg(&edges)?);
    }
    if edges.is_empty() {
        session.out.note(match args.names.is_empty() {
            true => "nobody has called a daemon since the host started",
            false => "no calls by or to these daemons since the host started",
        });
        return Ok(());
    }
    session.out.line(&session.out.texts(&rows(&edges)))
}

/// Returns the calls by and to the named daemons; without names all of them.
///
/// # Errors
/// The host knows no daemon of that name, or a pattern can't be read.
fn chosen(
    host: &mut Client<ControlClient>,
    all: Vec<GraphEdge>,
    words: &[String],
) -> Result<Vec<GraphEdge>> {
    let patterns: Vec<_> = words
        .iter()
        .map(|word| names::pattern(word))
        .collect::<Result<_, _>>()?;
    for (word, pattern) in words.iter().zip(&patterns) {
        let is_known = all
            .iter()
            .any(|edge| touches(edge, |name| pattern.matches(name)));
        if !is_known {
            // The host says which names are near.
            let _: Status = host.ask("status", &[word])?;
        }
    }
    let is_chosen = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
    let edges = all.into_iter();
    Ok(edges
        .filter(|edge| patterns.is_empty() || touches(edge, is_chosen))
        .collect())
}

fn touches(edge: &GraphEdge, is_meant: impl Fn(&str) -> bool) -> bool {
    is_meant(&edge.callee) || edge.caller.as_deref().is_some_and(is_meant)
}

/// Returns the table: no cell holds a blank, so that a pipe can split it.
fn rows(edges: &[GraphEdge]) -> Vec<Vec<String>> {
    let heading = ["CALLER", "CALLED", "CALLS", "ERRORS", "P50", "P99"];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |edge: &GraphEdge| {
        vec![
            caller(edge),
            printed(&edge.callee),
            edge.calls.to_string(),
            or_dash(edge.errors.map(|errors| errors.to_string())),
            or_dash(edge.p50_us.map(latency)),
            or_dash(edge.p99_us.map(latency)),
        ]
    };
    let heading = heading.map(str::to_owned).to_vec();
    std::iter::once(heading)
        .chain(edges.iter().map(row))
        .collect()
}

fn caller(edge: &GraphEdge) -> String {
    edge.caller
        .as_deref()
        .map_or_else(|| GUESTS.to_owned(), printed)
}

/// Returns a name in one word of harmless characters. A foreign daemon may call itself anything.
fn printed(name: &str) -> String {
    one_line(name).replace(char::is_whitespace, "_")
}
