//! Listeners: addresses, what they serve, and that nothing is open to a network without keys.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::place::index_step;
use super::super::quantity;
use super::super::settings::Listener;
use super::super::spec::{ListenerSpec, Service, Size, Spec};
use super::Check;

/// Where a listener listens that does not say so.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6041);
/// Stands for an address that was wrong: it is in nobody's way.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The largest request body, unless the listener says otherwise.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The bounds of `max_body`.
const MAX_BODY_BOUNDS: std::ops::RangeInclusive<u64> = 1024..=2 * 1024 * 1024 * 1024;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// All listeners; one on loopback when none is configured.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut entries = check.entries::<ListenerSpec>("listeners", &spec.listeners);
    if spec.listeners.is_empty() {
        let tables = [&spec.providers, &spec.groups, &spec.routers];
        let id = free_id(|id| tables.iter().any(|table| table.contains_key(id)));
        entries.push((id.to_owned(), ListenerSpec::default()));
    }
    // Keys that were taken out as wrong are meant to be there.
    let keys_in_doubt =
        check.removed.iter().any(|path| path.first().is_some_and(|section| section == "keys"));
    for (id, entry) in entries {
        let listener = one(check, id, &entry);
        let path = ["listeners", listener.id.as_str(), "address"];
        if let Some(other) = listeners.iter().find(|other| overlap(other.address, listener.address)) {
            let message =
                format!("{} is taken by listeners.{}; choose another port", listener.address, other.id);
            check.problem(&path, message);
        }
        let open = !listener.address.ip().to_canonical().is_loopback();
        if open && spec.keys.is_empty() && !keys_in_doubt {
            let remedy =
                "add a client's key, such as [keys.me] key = \"${DEMUXAI_KEY}\", or listen on 127.0.0.1";
            check.problem(&path, format!("others could use your accounts: {remedy}"));
        }
        listeners.push(listener);
    }
    if !listeners.iter().any(|listener| listener.api) && check.findings.is_empty() {
        let text =
            "no listener serves the api, so that clients cannot connect; add \"api\" to `serves` of one";
        check.warn(&["listeners"], text);
    }
    listeners
}

/// The id of the listener that nobody named: `local`, unless a provider or another thing has that id.
pub(crate) fn free_id(taken: impl Fn(&str) -> bool) -> &'static str {
    let candidates = ["local", "listener", "default-listener"];
    candidates.into_iter().find(|id| !taken(id)).unwrap_or("local")
}

fn one(check: &mut Check<'_>, id: String, entry: &ListenerSpec) -> Listener {
    let at = |key: &'static str| ["listeners", id.as_str(), key];
    let address = match entry.address.as_deref().map(address) {
        None if check.was_removed(&at("address")) => NOWHERE,
        None => ADDRESS,
        Some(Ok(address)) => address,
        Some(Err(why)) => {
            check.problem(&at("address"), why);
            NOWHERE
        }
    };
    let serves = |service: Service| entry.serves.as_ref().is_none_or(|services| services.contains(&service));
    if entry.serves.as_ref().is_some_and(Vec::is_empty) {
        check.problem(&at("serves"), "serves nothing; name some of \"api\", \"metrics\", \"admin\"");
    }
    let max_body = max_body(check, &at("max_body"), entry.max_body.as_ref());
    let workers = entry.workers.unwrap_or_else(default_workers);
    let seconds = Duration::from_secs;
    Listener {
        address,
        api: serves(Service::Api),
        metrics: serves(Service::Metrics),
        admin: serves(Service::Admin),
        hosts: words(check, &at("hosts"), &entry.hosts, host),
        origins: words(check, &at("origins"), &entry.origins, origin),
        listed: check.globs(&at("listed_models"), entry.listed_models.as_ref()),
        max_body,
        workers: usize::try_from(workers).unwrap_or(1),
        keep_alive: check.span(&at("keep_alive"), entry.keep_alive.as_ref(), seconds(15), MILLISECOND, HOUR),
        stalled_reader: check.span(
            &at("stalled_reader"),
            entry.stalled_reader.as_ref(),
            seconds(60),
            MILLISECOND,
            DAY,
        ),
        drain: check.span(&at("drain"), entry.drain.as_ref(), seconds(120), Duration::ZERO, DAY),
        id: id.clone(),
    }
}

fn default_workers() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4) as u64)
}

fn max_body(check: &mut Check<'_>, path: &[&str], written: Option<&Size>) -> usize {
    let Some(written) = written else { return MAX_BODY };
    match quantity::size(written) {
        Ok(bytes) if MAX_BODY_BOUNDS.contains(&bytes) => return usize::try_from(bytes).unwrap_or(MAX_BODY),
        Ok(_) => check.problem(path, "must be \"1KB\" to \"2GB\""),
        Err(why) => check.problem(path, why),
    }
    MAX_BODY
}

/// An address to listen on.
///
/// # Errors
/// A sentence when it is no IP address (or `localhost`) with a port.
fn address(written: &str) -> Result<SocketAddr, String> {
    let numeric = written.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    if let Ok(address) = numeric.as_deref().unwrap_or(written).parse() {
        return Ok(address);
    }
    let example = "write it like \"127.0.0.1:6041\" or \"[::1]:6041\"";
    if written.parse::<IpAddr>().is_ok() || written == "localhost" {
        return Err(format!("has no port; {example}"));
    }
    if written.contains("://") {
        return Err(format!("is a URL; {example}"));
    }
    Err(format!("not an IP address and a port; {example}"))
}

/// Whether both cannot be listened on. Port 0 is a different one each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard =
        one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified());
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || wildcard)
}

fn words(
    check: &mut Check<'_>,
    path: &[&str],
    written: &[String],
    parse: fn(&str) -> Result<String, &'static str>,
) -> Vec<String> {
    let mut valid = Vec::new();
    for (index, word) in written.iter().enumerate() {
        match parse(word) {
            Ok(word) => valid.push(word),
            Err(why) => {
                let step = index_step(index);
                let element = [path, &[step.as_str()]].concat();
                check.problem(&element, why);
            }
        }
    }
    valid
}

fn host(written: &str) -> Result<String, &'static str> {
    let lower = written.trim_end_matches('.').to_ascii_lowercase();
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if lower.is_empty() || lower.len() > 253 || !lower.chars().all(inner) {
        return Err("not a host name; write it like \"demuxai.example.com\", without scheme, port or *");
    }
    Ok(lower)
}

fn origin(written: &str) -> Result<String, &'static str> {
    let wrong = "not an origin; write \"*\" or one like \"https://chat.example.com\", without a path";
    let lower = written.trim_end_matches('/').to_ascii_lowercase();
    if lower == "*" || lower == "null" {
        return Ok(lower);
    }
    let (scheme, authority) = lower.split_once("://").ok_or(wrong)?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '?' | '#' | '@' | '*' | '"' | '\\' | ',');
    if !scheme_fits || authority.is_empty() || authority.len() > 300 || authority.chars().any(odd) {
        return Err(wrong);
    }
    Ok(lower)
}
