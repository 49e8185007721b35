//! `quota`: how a named backend stands. Without a model that of a provider's account; where nothing can be said, because
//! the backend cannot serve the request at all, it does not hold.

use serde_json::Value;

use super::comparison::Comparison;
use super::reading::{self, Fault};
use super::{Condition, Facts, Names};

/// The words of `state`, and whether that is to be available.
const STATES: [(&str, bool); 2] = [("available", true), ("exhausted", false)];

struct Quota {
    of: String,
    left: Option<Comparison>,
    available: Option<bool>,
}

/// Reads a table; all that is wrong in it is told.
pub(super) fn read(value: &Value, names: &Names<'_>) -> Result<Box<dyn Condition>, Vec<Fault>> {
    let mut faults = Vec::new();
    let of = reading::kept(of(value, names), "of", &mut faults);
    let share = reading::kept(value.get("left").map(left).transpose(), "left", &mut faults);
    let state = value.get("state").map(|state| reading::word(state, &STATES)).transpose();
    let state = reading::kept(state, "state", &mut faults);
    let (Some(of), Some(left), Some(available)) = (of, share, state) else { return Err(faults) };
    if left.is_none() && available.is_none() {
        let text = "says nothing: add left = \"<20%\", or state = \"exhausted\" or \"available\"";
        return Err(vec![Fault::from(text)]);
    }
    Ok(Box::new(Quota { of, left, available }))
}

fn of(value: &Value, names: &Names<'_>) -> Result<String, Fault> {
    let Some(of) = value.get("of") else {
        return Err(Fault::from("is missing: the backend whose quota is meant, such as of = \"mistral\""));
    };
    let of = reading::text(of)?;
    let backend = of.split_once('/').map_or(of, |(backend, _)| backend);
    if !names.backends.contains(backend) {
        return Err(Fault::from(reading::unknown("provider, group or router", backend, &names.backends)));
    }
    Ok(of.to_owned())
}

/// Whether one says of the same backend no more than the other: its share is within the other's, and so is its state.
pub(super) fn within(wide: &Value, narrow: &Value) -> bool {
    let share = |value: &Value| value.get("left").map(|written| left(written).ok());
    let shares = match (share(narrow), share(wide)) {
        (_, None) => true,
        (Some(Some(narrow)), Some(Some(wide))) => narrow.is_within(wide),
        _ => false,
    };
    let same = |key: &str| narrow.get(key) == wide.get(key);
    shares && same("of") && (wide.get("state").is_none() || same("state"))
}

/// A share, as `20%` or `0.2`.
fn left(value: &Value) -> Result<Comparison, Fault> {
    let number = |text: &str| {
        let (digits, unit) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits.trim_end(), 100.0));
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        digits.parse::<f64>().ok().filter(|_| plain).map(|share| share / unit)
    };
    let forms = "write a comparison such as \"<20%\", \">=0.5\" or \"10%-50%\"";
    let comparison = Comparison::read(reading::text(value)?, number)
        .ok_or_else(|| Fault::from(format!("is no share; {forms}")))?;
    if comparison.is_impossible(0.0, 1.0) {
        return Err(Fault::from(format!("can never be: a share is 0 % to 100 %; {forms}")));
    }
    Ok(comparison)
}

impl Condition for Quota {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        let Some(standing) = (facts.standing)(&self.of) else { return false };
        self.left.is_none_or(|left| left.holds(standing.share_left))
            && self.available.is_none_or(|available| available == standing.available)
    }

    fn backends(&self) -> Vec<&str> {
        vec![&self.of]
    }

    fn seen(&self, facts: &Facts<'_>) -> Option<String> {
        let Some(standing) = (facts.standing)(&self.of) else {
            return Some(format!("nothing can be said of `{}`", self.of));
        };
        let state = if standing.available { "available" } else { "exhausted" };
        Some(format!("`{}` is {state}, {:.0} % left", self.of, standing.share_left * 100.0))
    }
}
