//! The graph in Mermaid's language (mermaid.js.org/syntax/flowchart.html, 2026-11). Nodes are numbered: an id of ours may
//! be a word of its own, such as `end`.

use super::Picture;

/// Draws it.
pub(super) fn drawn(picture: &Picture) -> String {
    let number = |id: &str| picture.nodes.iter().position(|node| node.id == id);
    let mut text = "flowchart LR\n".to_owned();
    for (index, node) in picture.nodes.iter().enumerate() {
        let (open, close) = match node.section {
            "router" => ("{", "}"),
            "group" => ("[", "]"),
            "alias" => ("([", "])"),
            _ => ("[(", ")]"),
        };
        let lines = [vec![format!("{} ({})", node.id, node.kind)], node.details.clone()].concat();
        text.push_str(&format!("  n{index}{open}{}{close}\n", quoted(&lines)));
    }
    for edge in &picture.edges {
        let (Some(from), Some(to)) = (number(&edge.from), number(&edge.to)) else { continue };
        let arrow = if edge.order == 0 { "-.->" } else { "-->" };
        text.push_str(&format!("  n{from} {arrow}|{}| n{to}\n", quoted(&edge.label())));
    }
    text
}

/// A text in quotes; the lines of it one below the other. What means something to Mermaid or to HTML is written by its
/// number.
fn quoted(lines: &[String]) -> String {
    let escaped = |line: &String| -> String {
        let mut text = String::with_capacity(line.len());
        for c in line.chars() {
            match c {
                '"' | '#' | '<' | '>' | '&' | '`' | '\\' | ';' => {
                    text.push_str(&format!("#{};", u32::from(c)));
                }
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        text
    };
    let lines: Vec<String> = lines.iter().map(escaped).collect();
    format!("\"{}\"", lines.join("<br/>"))
}
