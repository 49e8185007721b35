//! What is left of a limit, in words. Pure.

use crate::backend::explain::moment;
use crate::quota::{LimitView, Unit};

/// "2 of 3 requests per day left, whole again at …"; `amount` writes a number in the limit's unit, and beside money the
/// unit goes without saying.
pub fn left_of(view: &LimitView, amount: impl Fn(u64) -> String) -> String {
    let left = amount(view.amount.saturating_sub(view.used));
    let all = amount(view.amount);
    let unit = match all.starts_with('$') {
        true => String::new(),
        false => format!(" {}", view.unit.word().replace('_', " ")),
    };
    let per = if view.unit == Unit::Concurrent { String::new() } else { format!(" per {}", view.window) };
    let of = match (&view.model, view.scope.as_str()) {
        (Some(model), _) => format!(" of `{model}`"),
        (None, "account") => String::new(),
        (None, glob) => format!(" of `{glob}`"),
    };
    let whole = view.resets_at.map_or_else(String::new, |at| format!(", whole again at {}", moment(at.0)));
    match view.window.as_str() {
        "request" => format!("at most {all}{unit}{per}{of}"),
        _ => format!("{left} of {all}{unit}{per}{of} left{whole}"),
    }
}
