//! The graph as a tree of text. What several name is told in full once.

use std::collections::BTreeSet;

use super::{Edge, Node, Picture};

/// Draws it.
pub(super) fn drawn(picture: &Picture) -> String {
    let mut drawing = Drawing { picture, told: BTreeSet::new(), text: String::new() };
    for root in picture.roots() {
        drawing.text.push_str(&named(root));
        drawing.text.push('\n');
        drawing.below(&root.id, "");
    }
    drawing.text
}

struct Drawing<'p> {
    picture: &'p Picture,
    /// Those whose members were told.
    told: BTreeSet<&'p str>,
    text: String,
}

fn named(node: &Node) -> String {
    let kind = if node.kind == node.section { String::new() } else { format!(" ({})", node.kind) };
    let details =
        if node.details.is_empty() { String::new() } else { format!(": {}", node.details.join(", ")) };
    format!("{} {}{kind}{details}", node.section, node.id)
}

// === impl Drawing ===

impl<'p> Drawing<'p> {
    fn below(&mut self, id: &'p str, indent: &str) {
        self.told.insert(id);
        let picture = self.picture;
        let edges: Vec<&Edge> = picture.edges_of(id).filter(|edge| edge.order > 0).collect();
        let last = edges.len().saturating_sub(1);
        for (index, edge) in edges.into_iter().enumerate() {
            let (corner, down) =
                if index == last { ("└── ", "    ") } else { ("├── ", "│   ") };
            let details = match edge.details.as_slice() {
                [] => String::new(),
                some => format!(" [{}]", some.join("; ")),
            };
            self.text.push_str(&format!("{indent}{corner}{}. {}{details}", edge.order, edge.target()));
            let Some(node) = picture.nodes.iter().find(|node| node.id == edge.to) else {
                self.text.push('\n');
                continue;
            };
            let is_leaf = picture.edges_of(&node.id).next().is_none();
            let again = !is_leaf && self.told.contains(node.id.as_str());
            let again = if again { ", as above" } else { "" };
            self.text.push_str(&format!(" -> {} ({}){again}\n", node.section, node.kind));
            if !is_leaf && again.is_empty() {
                self.below(&node.id, &format!("{indent}{down}"));
            }
        }
    }
}
