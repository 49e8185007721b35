//! Fills in `${VAR}` in all texts of the merged tree and reports every variable that is not set.
//! Runs after merging, so that a text that another layer replaced asks for nothing.

use config::{Value, ValueKind};

use super::interpolate::{Fault, expand};
use super::place::{KeyPath, Tree, index_step};
use super::validate::Check;

/// Fills in a whole configuration.
pub(crate) fn fill(check: &mut Check<'_>, tree: &mut Tree) {
    tree.retain(|key, value| filled(check, value, &mut vec![key.clone()]));
}

/// Whether the value may stay.
fn filled(check: &mut Check<'_>, value: &mut Value, path: &mut KeyPath) -> bool {
    match &mut value.kind {
        ValueKind::String(text) => match expand(text, check.env) {
            None => true,
            Some(Ok(expanded)) => {
                *text = expanded.text;
                check.filled.insert(path.clone(), expanded.variables);
                true
            }
            Some(Err(fault)) => {
                refuse(check, path, fault);
                false
            }
        },
        ValueKind::Table(table) => {
            table.retain(|key, inner| {
                path.push(key.clone());
                let keep = filled(check, inner, path);
                path.pop();
                keep
            });
            true
        }
        ValueKind::Array(items) => {
            let mut all = true;
            for (index, item) in items.iter_mut().enumerate() {
                path.push(index_step(index));
                all &= filled(check, item, path);
                path.pop();
            }
            if !all {
                check.removed.insert(path.clone());
            }
            all
        }
        _ => true,
    }
}

fn refuse(check: &mut Check<'_>, path: &KeyPath, fault: Fault) {
    let steps: Vec<&str> = path.iter().map(String::as_str).collect();
    let message = match fault {
        // Whether a provider can do without its key, its kind decides.
        Fault::Unset(names) if matches!(steps.as_slice(), ["providers", _, "api_key"]) => {
            check.unset.insert(path.clone(), names);
            return;
        }
        Fault::Unset(names) if names.len() == 1 => format!("variable {} is not set", names.join("")),
        Fault::Unset(names) => format!("variables {} are not set", names.join(", ")),
        Fault::Malformed => "`${` must be followed by the name of a variable and `}`; \
                             write `$${` for a plain `${`"
            .to_owned(),
        Fault::TooLong => "is too long with its variables filled in".to_owned(),
    };
    check.problem(&steps, message);
    check.removed.insert(path.clone());
}
