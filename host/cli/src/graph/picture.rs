//! The graph as a picture: in the language of Graphviz, and as SVG, which is laid out from the same text.
//!
//! Daemons of other programs may have any name. A name stands in quotes, without control characters.

use anyhow::{Result, anyhow};
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};

use super::super::exit::Fault;
use super::super::words::latency;
use super::{GUESTS, caller, printed};
use dae_store::call_graph::GraphEdge;

/// The number of edges up to which a picture is laid out here: 200 take some tens of milliseconds, and nobody can read
/// more of them in one picture.
const SVG_EDGES_MAX: usize = 200;

/// Returns the graph in the language of Graphviz. Daemons of other programs are dashed.
pub(super) fn dot(edges: &[GraphEdge]) -> String {
    let mut nodes: Vec<(String, bool)> = Vec::new();
    let mut links = Vec::new();
    for edge in edges {
        let from = node(&mut nodes, caller(edge), false);
        let to = node(&mut nodes, printed(&edge.callee), edge.foreign);
        let label = quoted(&told(edge));
        links.push(format!("  n{from} -> n{to} [label={label}];"));
    }
    let node = |(index, (name, foreign)): (usize, (String, bool))| {
        let shape = if name == GUESTS { "ellipse" } else { "box" };
        let style = if foreign { ", style=dashed" } else { "" };
        format!(
            "  n{index} [label={}, shape={shape}{style}];",
            quoted(&name)
        )
    };
    let opening = ["digraph dae {".to_owned(), "  rankdir=LR;".to_owned()];
    let lines = opening
        .into_iter()
        .chain(nodes.into_iter().enumerate().map(node));
    let lines: Vec<String> = lines.chain(links).chain(["}".to_owned()]).collect();
    lines.join("\n")
}

/// Returns the index of a node, which is added if it is new.
fn node(nodes: &mut Vec<(String, bool)>, name: String, foreign: bool) -> usize {
    if let Some(index) = nodes.iter().position(|(known, _)| *known == name) {
        nodes[index].1 |= foreign;
        return index;
    }
    nodes.push((name, foreign));
    nodes.len() - 1
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// Returns the graph as SVG.
///
/// # Errors
/// There are more than 200 edges, or none.
pub(super) fn svg(edges: &[GraphEdge]) -> Result<String> {
    if edges.is_empty() {
        let text = "there are no calls to draw; --dot prints an empty graph";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    if edges.len() > SVG_EDGES_MAX {
        let text = format!(
            "a picture shows at most {SVG_EDGES_MAX} pairs of a caller and a daemon, and there are {}; \
             name some daemons, or give the output of --dot to Graphviz",
            edges.len()
        );
        return Err(Fault::Usage(text).into());
    }
    let parsed = DotParser::new(&dot(edges)).process();
    let parsed = parsed.map_err(|error| anyhow!("the graph can't be drawn: {error}"))?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&parsed);
    let mut drawing = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut drawing);
    Ok(drawing.finalize())
}

/// Returns what a picture says of an edge: `1204 calls, 2 errors, p50 8.2µ`.
fn told(edge: &GraphEdge) -> String {
    let counted = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let errors = edge.errors.filter(|errors| *errors > 0);
    let parts = [
        Some(counted(edge.calls, "call")),
        errors.map(|errors| counted(errors, "error")),
        edge.p50_us.map(|us| format!("p50 {}", latency(us))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(caller: Option<&str>, callee: &str, foreign: bool) -> GraphEdge {
        GraphEdge {
            caller: caller.map(str::to_owned),
            callee: callee.to_owned(),
            foreign,
            calls: 2,
            errors: Some(1),
            p50_us: Some(8.2),
            p99_us: None,
        }
    }

    #[test]
    fn each_daemon_is_one_node() {
        let edges = [
            edge(None, "Front", false),
            edge(Some("Front"), "Back", false),
            edge(Some("Back"), "Front", false),
            edge(Some("Back"), "Far", true),
        ];
        let expected = r#"digraph dae {
  rankdir=LR;
  n0 [label="(guests)", shape=ellipse];
  n1 [label="Front", shape=box];
  n2 [label="Back", shape=box];
  n3 [label="Far", shape=box, style=dashed];
  n0 -> n1 [label="2 calls, 1 error, p50 8.2µ"];
  n1 -> n2 [label="2 calls, 1 error, p50 8.2µ"];
  n2 -> n1 [label="2 calls, 1 error, p50 8.2µ"];
  n2 -> n3 [label="2 calls, 1 error, p50 8.2µ"];
}"#;
        assert_eq!(dot(&edges), expected);
        let picture = svg(&edges).unwrap();
        for name in ["(guests)", ">Front<", ">Back<", ">Far<"] {
            assert_eq!(picture.matches(name).count(), 1, "{name}: {picture}");
        }
    }

    #[test]
    fn odd_names_stay_text() {
        for name in [
            "a\"b",
            "back\\",
            "</text><script>",
            "new\nline",
            "\\\"",
            "{x|y}",
        ] {
            let edges = [
                edge(Some(name), name, true),
                edge(Some(name), "Back", false),
            ];
            let picture = svg(&edges).unwrap();
            assert!(!picture.contains("<script>"), "{picture}");
            assert_eq!(picture.matches("2 calls").count(), 2, "{name:?}: {picture}");
        }
    }

    #[test]
    fn a_picture_that_nobody_can_read_is_refused() {
        let edges = vec![edge(None, "Front", false); SVG_EDGES_MAX + 1];
        for edges in [&edges[..], &[]] {
            let error = svg(edges).unwrap_err();
            assert!(error.to_string().contains("--dot"), "{error}");
        }
    }
}
