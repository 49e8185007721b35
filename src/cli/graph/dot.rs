//! The graph in Graphviz's language (graphviz.org/doc/info/lang.html, 2026-11).

use super::Picture;

/// Draws it.
pub(super) fn drawn(picture: &Picture) -> String {
    let mut text = "digraph demuxai {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", shape=box];\n  edge [fontname=\"sans-serif\", fontsize=10];\n".to_owned();
    for node in &picture.nodes {
        let shape = match node.section {
            "router" => "diamond",
            "group" => "box",
            "alias" => "plaintext",
            _ => "cylinder",
        };
        let lines = [vec![format!("{} ({})", node.id, node.kind)], node.details.clone()].concat();
        text.push_str(&format!(
            "  {} [shape={shape}, label={}];\n",
            quoted(std::slice::from_ref(&node.id)),
            quoted(&lines)
        ));
    }
    for edge in &picture.edges {
        let style = if edge.order == 0 { "dashed" } else { "solid" };
        text.push_str(&format!(
            "  {} -> {} [style={style}, label={}];\n",
            quoted(std::slice::from_ref(&edge.from)),
            quoted(std::slice::from_ref(&edge.to)),
            quoted(&edge.label())
        ));
    }
    text.push_str("}\n");
    text
}

/// A text in quotes; the lines of it one below the other.
fn quoted(lines: &[String]) -> String {
    let escaped = |line: &String| -> String {
        let mut text = String::with_capacity(line.len());
        for c in line.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        text
    };
    let lines: Vec<String> = lines.iter().map(escaped).collect();
    format!("\"{}\"", lines.join("\\n"))
}
