//! `demuxai graph`: how providers, groups and routers hang together, from the files alone. Here the picture is made, as
//! nodes and edges; each form of it is a file beside this one.

mod dot;
mod mermaid;
mod tree;

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{ConfigArgs, Exit, answer, complain, load};
use crate::config::settings::{Config, GroupConfig, Limit, MemberConfig, ProviderConfig, RouterConfig};

/// Options of `graph`.
#[derive(Debug, Args, Default)]
pub struct GraphArgs {
    /// Only what is below this provider, group or router.
    pub id: Option<String>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// For Graphviz: `demuxai graph --dot | dot -Tsvg`.
    #[arg(long, group = "form")]
    pub dot: bool,
    /// For Mermaid, as Markdown renderers draw it.
    #[arg(long, group = "form")]
    pub mermaid: bool,
    /// As JSON: nodes and edges.
    #[arg(long, group = "form")]
    pub json: bool,
}

/// The longest label of one option, in characters.
const LONGEST: usize = 60;

/// The graph, members after those that name them.
#[derive(Debug, Serialize)]
struct Picture {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A provider, group or router.
#[derive(Debug, Serialize)]
struct Node {
    id: String,
    /// `provider`, `group`, `router` or `alias`.
    section: &'static str,
    #[serde(rename = "type")]
    kind: String,
    /// What is special about it.
    details: Vec<String>,
}

/// From one that names another to it.
#[derive(Debug, Serialize)]
struct Edge {
    from: String,
    to: String,
    /// The model there; none: the one that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Which of those that `from` names it is, counted from 1; 0: it only looks at how `to` stands.
    order: usize,
    /// What is special about it: conditions, a weight.
    details: Vec<String>,
}

// === impl Edge ===

impl Edge {
    /// What is written beside it, line by line; what only looks at the other has no number.
    fn label(&self) -> Vec<String> {
        let number = (self.order > 0).then(|| match &self.model {
            Some(model) => format!("{}. {model}", self.order),
            None => format!("{}.", self.order),
        });
        number.into_iter().chain(self.details.iter().cloned()).collect()
    }
}

/// Prints the graph.
pub fn run(args: &GraphArgs) -> Exit {
    let config = match load::load(&args.files, None) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let mut picture = Picture::of(&config);
    if let Some(id) = &args.id {
        if !picture.nodes.iter().any(|node| node.id == *id) {
            let known: Vec<&str> = picture.nodes.iter().map(|node| node.id.as_str()).collect();
            complain(&format!(
                "no provider, group or router has the id `{id}` (known: {})",
                known.join(", ")
            ));
            return Exit::Configuration;
        }
        picture = picture.below(id);
    }
    if args.dot {
        return answer(dot::drawn(&picture).trim_end());
    }
    if args.mermaid {
        return answer(mermaid::drawn(&picture).trim_end());
    }
    if args.json {
        return match serde_json::to_string_pretty(&picture) {
            Ok(text) => answer(&text),
            Err(error) => {
                complain(&format!("the graph cannot be written: {error}"));
                Exit::Failure
            }
        };
    }
    answer(tree::drawn(&picture).trim_end())
}

// === impl Picture ===

impl Picture {
    /// Of everything that is configured.
    fn of(config: &Config) -> Picture {
        let mut picture = Picture { nodes: Vec::new(), edges: Vec::new() };
        for alias in &config.aliases {
            let (to, model) =
                alias.to.split_once('/').map_or((&*alias.to, None), |(to, model)| (to, Some(model)));
            let (id, kind) = (alias.id.clone(), "alias".to_owned());
            picture.edges.push(Edge {
                from: id.clone(),
                to: to.to_owned(),
                model: model.map(str::to_owned),
                order: 1,
                details: Vec::new(),
            });
            picture.nodes.push(Node {
                id,
                section: "alias",
                kind,
                details: alias.name.iter().cloned().collect(),
            });
        }
        // The configuration has members first.
        for router in config.routers.iter().rev() {
            picture.router(router);
        }
        for group in config.groups.iter().rev() {
            picture.group(group);
        }
        for provider in &config.providers {
            picture.nodes.push(Node {
                id: provider.id.clone(),
                section: "provider",
                kind: provider.kind.clone(),
                details: of_provider(provider),
            });
        }
        picture
    }

    fn router(&mut self, router: &RouterConfig) {
        self.nodes.push(Node {
            id: router.id.clone(),
            section: "router",
            kind: "router".to_owned(),
            details: router.name.iter().cloned().collect(),
        });
        let mut watched = BTreeSet::new();
        for (index, route) in router.routes.iter().enumerate() {
            watched.extend(route.conditions.backends());
            let mut details = route.conditions.in_words();
            if details.is_empty() {
                details.push("the rest".to_owned());
            }
            self.edges.push(Edge {
                from: router.id.clone(),
                to: route.backend.clone(),
                model: route.model.clone(),
                order: index + 1,
                details,
            });
        }
        for name in watched {
            let (to, model) = name.split_once('/').map_or((name, None), |(to, model)| (to, Some(model)));
            self.edges.push(Edge {
                from: router.id.clone(),
                to: to.to_owned(),
                model: model.map(str::to_owned),
                order: 0,
                details: vec!["looks at its quota".to_owned()],
            });
        }
    }

    fn group(&mut self, group: &GroupConfig) {
        self.nodes.push(Node {
            id: group.id.clone(),
            section: "group",
            kind: group.kind.to_owned(),
            details: of_group(group),
        });
        for (index, member) in group.members.iter().enumerate() {
            self.edges.push(Edge {
                from: group.id.clone(),
                to: member.backend.clone(),
                model: member.model.clone(),
                order: index + 1,
                details: of_member(member),
            });
        }
    }

    /// What is below one of them, and itself.
    fn below(mut self, id: &str) -> Picture {
        let mut kept = BTreeSet::from([id.to_owned()]);
        loop {
            let named =
                self.edges.iter().filter(|edge| kept.contains(&edge.from)).map(|edge| edge.to.clone());
            let more: Vec<String> = named.filter(|to| !kept.contains(to)).collect();
            if more.is_empty() {
                break;
            }
            kept.extend(more);
        }
        self.nodes.retain(|node| kept.contains(&node.id));
        self.edges.retain(|edge| kept.contains(&edge.from));
        self
    }

    /// Those that one names.
    fn edges_of<'p>(&'p self, id: &'p str) -> impl Iterator<Item = &'p Edge> {
        self.edges.iter().filter(move |edge| edge.from == id)
    }

    /// Those that nobody sends requests to but clients.
    fn roots(&self) -> impl Iterator<Item = &Node> {
        let named = |id: &str| self.edges.iter().any(|edge| edge.order > 0 && edge.to == id);
        self.nodes.iter().filter(move |node| !named(&node.id))
    }
}

// === impl Edge ===

impl Edge {
    /// What it leads to, as it is written.
    fn target(&self) -> String {
        match &self.model {
            Some(model) => format!("{}/{model}", self.to),
            None => self.to.clone(),
        }
    }
}

fn of_provider(provider: &ProviderConfig) -> Vec<String> {
    let mut details: Vec<String> = provider.name.iter().cloned().collect();
    match &provider.limits {
        Some(limits) => details.extend(limits.iter().map(of_limit)),
        None if provider.local => details.push("no limits: it is local".to_owned()),
        None => details.push("limits: the catalogue's guesses".to_owned()),
    }
    if let Some(most) = provider.max_in_flight {
        details.push(format!("{most} at once"));
    }
    details
}

fn of_limit(limit: &Limit) -> String {
    let unit = limit.unit.replace('_', " ");
    let per = limit.per.as_ref().map_or_else(String::new, |per| format!(" per {per}"));
    let models = limit.models.as_ref().map_or_else(String::new, |glob| format!(" for {glob}"));
    format!("{} {unit}{per}{models}", limit.amount)
}

/// The options of a group that are no members of it.
fn of_group(group: &GroupConfig) -> Vec<String> {
    let labels: Vec<String> = group.members.iter().map(MemberConfig::label).collect();
    let named = |value: &Value| names_member(value, &labels);
    let options = group.options.iter().filter(|(_, value)| !named(value));
    let told = options.map(|(key, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let short: String = text.chars().take(LONGEST).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        format!("{key} = {short}{more}")
    });
    group.name.iter().cloned().chain(told).collect()
}

fn names_member(value: &Value, labels: &[String]) -> bool {
    match value {
        Value::String(text) => labels.contains(text),
        Value::Array(values) => values.iter().any(|value| names_member(value, labels)),
        Value::Object(table) => table.get("to").is_some_and(|to| names_member(to, labels)),
        _ => false,
    }
}

fn of_member(member: &MemberConfig) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(key) = member.place.first().filter(|key| *key != "members") {
        details.push(key.clone());
    }
    if member.weight != 1 {
        details.push(format!("weight {}", member.weight));
    }
    if !member.set.is_empty() {
        let fields: Vec<&str> = member.set.iter().map(|(key, _)| key.as_str()).collect();
        details.push(format!("sets {}", fields.join(", ")));
    }
    details
}

#[cfg(test)]
mod tests;
