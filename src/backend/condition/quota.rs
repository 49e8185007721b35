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

/// Reads a table.
pub(super) fn read(value: &Value, names: &Names<'_>) -> Result<Box<dyn Condition>, Fault> {
    let of = match value.get("of") {
        Some(of) => reading::text(of).map_err(|fault| fault.below("of"))?,
        None => return Err(Fault::from("is missing: the backend whose quota is meant").below("of")),
    };
    let backend = of.split_once('/').map_or(of, |(backend, _)| backend);
    if !names.backends.contains(backend) {
        return Err(
            Fault::from(reading::unknown("provider, group or router", backend, &names.backends)).below("of")
        );
    }
    let left = value.get("left").map(left).transpose().map_err(|fault| fault.below("left"))?;
    let available = value.get("state").map(|state| reading::word(state, &STATES)).transpose();
    let available = available.map_err(|fault| fault.below("state"))?;
    if left.is_none() && available.is_none() {
        return Err(Fault::from(
            "says nothing: add left = \"<20%\", or state = \"exhausted\" or \"available\"",
        ));
    }
    Ok(Box::new(Quota { of: of.to_owned(), left, available }))
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
