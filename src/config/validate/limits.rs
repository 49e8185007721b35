//! Limits of providers and clients: checked thoroughly here, enforced by the quota ledger.

use super::super::place::{index_step, show};
use super::super::quantity;
use super::super::report::did_you_mean;
use super::super::settings::Limit;
use super::super::spec::{LimitSpec, Window};
use super::super::zone;
use super::{Check, glob};

/// The words for windows.
const WINDOWS: [&str; 5] = ["minute", "hour", "day", "week", "month"];

/// Checks the limits at a path and gives those that are valid.
pub(super) fn all(check: &mut Check<'_>, path: &[&str], written: &[LimitSpec]) -> Vec<Limit> {
    // Each with its place in the list: what is wrong is not among them.
    let mut limits: Vec<(usize, Limit)> = Vec::new();
    for (index, spec) in written.iter().enumerate() {
        let step = index_step(index);
        let mut place = path.to_vec();
        place.push(&step);
        let Some(limit) = one(check, &place, spec) else { continue };
        let same = |known: &&Limit| {
            (&known.unit, &known.per, &known.models) == (&limit.unit, &limit.per, &limit.models)
        };
        match limits.iter().find(|(_, known)| same(&known)) {
            Some((first, _)) => check.problem(
                &place,
                format!(
                    "the same window of {} is limited in {} already",
                    limit.unit,
                    show_step(path, *first)
                ),
            ),
            None => limits.push((index, limit)),
        }
    }
    limits.into_iter().map(|(_, limit)| limit).collect()
}

fn one(check: &mut Check<'_>, place: &[&str], spec: &LimitSpec) -> Option<Limit> {
    let units = [
        ("requests", spec.requests),
        ("input_tokens", spec.input_tokens),
        ("output_tokens", spec.output_tokens),
        ("tokens", spec.tokens),
        ("concurrent", spec.concurrent),
    ];
    let mut given = units.iter().filter_map(|(unit, amount)| amount.map(|amount| (*unit, amount)));
    let counted = match (given.next(), given.next()) {
        (Some(counted), None) => Some(counted),
        _ => {
            let forms = "requests, input_tokens, output_tokens, tokens, concurrent";
            let text = format!("needs exactly one of {forms}, such as {{ requests = 60, per = \"minute\" }}");
            check.missing(place, text);
            None
        }
    };
    // What else is wrong with it is told at the same time.
    let at = |key: &'static str| [place, &[key]].concat();
    let mut valid = true;
    let mut fault = |check: &mut Check<'_>, key: &'static str, message: String| {
        check.problem(&at(key), message);
        valid = false;
    };
    if counted.is_some_and(|(unit, _)| unit == "concurrent") {
        let superfluous = [
            ("per", spec.per.is_some()),
            ("window", spec.window.is_some()),
            ("time_zone", spec.time_zone.is_some()),
        ];
        for (key, _) in superfluous.iter().filter(|(_, present)| *present) {
            fault(check, key, "has no meaning for concurrent; leave it out".to_owned());
        }
    } else if counted.is_some() || spec.per.is_some() {
        window(check, spec, &at("per"), &mut fault);
    }
    if let Some(pattern) = &spec.models
        && let Err(why) = glob(pattern)
    {
        fault(check, "models", format!("not a glob: {why}"));
    }
    counted.filter(|_| valid).map(|(unit, amount)| Limit {
        unit: unit.to_owned(),
        amount,
        per: spec.per.clone(),
        models: spec.models.clone(),
        window: spec.window.map(|window| window_name(window).to_owned()),
        time_zone: spec.time_zone.clone(),
    })
}

fn window(
    check: &mut Check<'_>,
    spec: &LimitSpec,
    per_path: &[&str],
    fault: &mut impl FnMut(&mut Check<'_>, &'static str, String),
) {
    let forms =
        "\"minute\", \"hour\", \"day\", \"week\", \"month\", or a length such as \"5h\" (1 s to 366 days)";
    match spec.per.as_deref() {
        None => check.missing(per_path, format!("is missing: write {forms}")),
        Some("request") => ceiling(check, spec, fault),
        Some(per) if !quantity::is_window(per) => {
            let hint = did_you_mean(per.trim(), WINDOWS);
            fault(check, "per", format!("not a window; write {forms}{hint}"));
        }
        Some(per) => {
            let calendar = spec.window == Some(Window::Calendar);
            if calendar && !["hour", "day", "week", "month"].contains(&per) {
                fault(
                    check,
                    "per",
                    "a calendar window is an \"hour\", a \"day\", a \"week\" or a \"month\"".to_owned(),
                );
            }
            if per == "month" && spec.window == Some(Window::Bucket) {
                fault(check, "per", "a bucket needs a window of one length; write \"30d\"".to_owned());
            }
        }
    }
    if let Some(name) = &spec.time_zone {
        if spec.window != Some(Window::Calendar) {
            fault(check, "time_zone", "needs window = \"calendar\"".to_owned());
        } else if let Err(why) = zone(name) {
            fault(check, "time_zone", why);
        }
    }
}

/// A ceiling on the size of one request: it counts tokens, and has no window.
fn ceiling(
    check: &mut Check<'_>,
    spec: &LimitSpec,
    fault: &mut impl FnMut(&mut Check<'_>, &'static str, String),
) {
    if spec.requests.is_some() {
        let text = "one request is always one request: write per = \"minute\" or the like; a ceiling on its size is \
                    of input_tokens, output_tokens or tokens";
        fault(check, "per", text.to_owned());
    }
    if spec.window.is_some() {
        fault(check, "window", "has no meaning for one request; leave it out".to_owned());
    }
}

/// An entry of the list as the paths of other problems name it: `limits[0]`.
fn show_step(path: &[&str], index: usize) -> String {
    show(&[path.last().copied().unwrap_or_default(), &index_step(index)])
}

fn window_name(window: Window) -> &'static str {
    match window {
        Window::Rolling => "rolling",
        Window::Fixed => "fixed",
        Window::Calendar => "calendar",
        Window::Bucket => "bucket",
        Window::Session => "session",
    }
}
