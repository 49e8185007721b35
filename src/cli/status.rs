//! `demuxai status`: what a running daemon says of its providers and clients.

use std::time::{Duration, SystemTime};

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use http::Method;
use serde_json::Value;

use super::daemon::{Failed, ask, daemon};
use super::{ConfigArgs, Exit, answer, complain, say};

/// Options of `status`.
#[derive(Debug, Args, Default)]
pub struct StatusArgs {
    /// Where the configuration comes from, which says where demuxai listens.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Where demuxai is, instead of what the configuration says.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Print what the daemon says as it is.
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds.
    #[arg(long)]
    pub watch: bool,
}

/// Between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(2);

/// Prints what the daemon says.
pub fn run(args: &StatusArgs) -> Exit {
    let (url, _) = match daemon(args.url.as_deref(), &args.files) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    actix_rt::System::new().block_on(async move {
        let mut watches = false;
        loop {
            let text = match ask(&url, Method::GET, "/demuxai/status", None, String::new())
                .await
                .map_err(Failed::told)
            {
                Ok(status) if args.json => status.to_string(),
                Ok(status) => told(&status, SystemTime::now()),
                Err(problem) => match lost(&problem, watches) {
                    Some(text) => text,
                    None => {
                        complain(&problem);
                        return Exit::Failure;
                    }
                },
            };
            watches = args.watch;
            if !args.watch {
                return answer(&text);
            }
            // Clears the terminal and begins at its top.
            say(&format!("\u{1b}[2J\u{1b}[H{text}"));
            tokio::time::sleep(WATCH).await;
        }
    })
}

/// What is shown in place of a status that cannot be had: the daemon that answered before may be restarting. `None`:
/// it never answered.
fn lost(problem: &str, answered_before: bool) -> Option<String> {
    answered_before.then(|| format!("{problem}\nlooking again every {} s", WATCH.as_secs()))
}

/// The status for people: the table, what there is to say of providers, and where the state is.
fn told(status: &Value, now: SystemTime) -> String {
    let mut lines = vec![table(status, now)];
    for provider in list(status, "providers") {
        let said = |key: &str| provider.get(key).and_then(Value::as_str);
        if let (Some(id), Some(remark)) = (said("id"), said("remark")) {
            let named = remark.starts_with(&format!("`{id}`"));
            lines.push(if named { remark.to_owned() } else { format!("`{id}`: {remark}") });
        }
    }
    lines.extend(clients(status, now));
    lines.push(state(status.get("state").unwrap_or(&Value::Null)));
    lines.join("\n")
}

/// Where the counts are kept.
fn state(state: &Value) -> String {
    let said = |key: &str| state.get(key).and_then(Value::as_str);
    match (said("kept"), said("file"), said("error")) {
        (Some("disk"), Some(file), _) => format!("state: kept in {file}"),
        (_, _, Some(why)) => format!("state: in memory only, lost at the end: {why}"),
        _ => "state: in memory only, lost at the end, as configured".to_owned(),
    }
}

/// A line for each provider, and one for each of its limits.
fn table(status: &Value, now: SystemTime) -> String {
    let now = milliseconds(now);
    let mut table = empty(&["provider", "state", "limit", "used", "left", "whole again", "known by"]);
    for provider in list(status, "providers") {
        let (mut id, mut state) = (text(provider, "id"), state_of(provider, now));
        let limits = list(provider, "limits");
        if limits.is_empty() {
            let nothing = String::new;
            table.add_row([id, state, "none known".to_owned(), nothing(), nothing(), nothing(), nothing()]);
            continue;
        }
        for limit in limits {
            let whom = [text(limit, "model"), text(limit, "scope")].into_iter().find(|whom| !whom.is_empty());
            let whom = whom.filter(|whom| whom != "account").map(|whom| format!(" ({whom})"));
            let count = |key: &str| number(limit, key).unwrap_or(0).to_string();
            table.add_row([
                // Of several limits the first one's line is the provider's.
                std::mem::take(&mut id),
                std::mem::take(&mut state),
                format!("{} {}{}", count("limit"), unit_and_window(limit), whom.unwrap_or_default()),
                count("used"),
                count("remaining"),
                whole_again(limit, now),
                text(limit, "source"),
            ]);
        }
    }
    table.to_string()
}

/// How a provider is, what of it is put off, and who is there.
fn state_of(provider: &Value, now: i64) -> String {
    let mut state = text(provider, "health");
    if text(provider, "breaker") == "open" {
        state.push_str(", left alone for a moment");
    }
    for off in list(provider, "put_off") {
        let whom = text(off, "model");
        let whom = if whom.is_empty() { String::new() } else { format!("{whom} ") };
        let wait = number(off, "until_ms").map_or_else(String::new, |until| length(until - now));
        let guessed = if text(off, "source") == "guess" { ", a guess" } else { "" };
        let reason = text(off, "reason").replace('_', " ");
        state.push_str(&format!(", {whom}put off for {wait} ({reason}{guessed})"));
    }
    if let (Some(flight), Some(waiting)) = (number(provider, "in_flight"), number(provider, "waiting"))
        && (flight > 0 || waiting > 0)
    {
        state.push_str(&format!(", {flight} in flight, {waiting} waiting"));
    }
    state
}

/// A line for each limit of a client's, where somebody has used something.
fn clients(status: &Value, now: SystemTime) -> Option<String> {
    let now = milliseconds(now);
    let mut table = empty(&["limits of", "client", "limit", "used", "left", "whole again"]);
    for client in list(status, "clients") {
        let whose = format!("{} {}", text(client, "of"), text(client, "id"));
        for limit in list(client, "limits") {
            let amount = |key: &str| {
                let value = limit.get(key)?;
                value.as_u64().map(|count| count.to_string()).or_else(|| Some(money(value.as_f64()?)))
            };
            let model = text(limit, "model");
            let model = if model.is_empty() { model } else { format!(" ({model})") };
            table.add_row([
                whose.clone(),
                text(client, "client"),
                format!("{} {}{model}", amount("limit").unwrap_or_default(), unit_and_window(limit)),
                amount("used").unwrap_or_default(),
                amount("remaining").unwrap_or_default(),
                whole_again(limit, now),
            ]);
        }
    }
    (table.row_count() > 0).then(|| table.to_string())
}

/// A table of these columns without lines.
fn empty(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_NO_BORDERS).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    table
}

/// `requests per day`.
fn unit_and_window(limit: &Value) -> String {
    let (unit, window) = (text(limit, "unit").replace('_', " "), text(limit, "window"));
    if window.is_empty() { unit } else { format!("{unit} per {window}") }
}

fn whole_again(limit: &Value, now: i64) -> String {
    number(limit, "resets_at_ms").map_or_else(|| "now".to_owned(), |at| format!("in {}", length(at - now)))
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> Option<i64> {
    value.get(key).and_then(Value::as_i64)
}

/// Since the Unix epoch.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Dollars to a millionth, without zeros that say nothing.
fn money(usd: f64) -> String {
    let text = format!("{usd:.6}");
    let whole = text.trim_end_matches('0');
    whole.strip_suffix('.').unwrap_or(whole).to_owned()
}

/// A length of time in its two largest units.
fn length(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000 + i64::from(milliseconds.max(0) % 1000 > 0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_what_is_left_until_when_and_how_it_is_known() {
        let status = json!({"providers": [
            {"id": "groq", "health": "up", "breaker": "closed", "in_flight": 2, "waiting": 1,
             "put_off": [{"model": "m", "until_ms": 90_000, "reason": "no_allowance", "source": "upstream"},
                         {"model": "n", "until_ms": 9_000, "reason": "window", "source": "guess"}],
             "limits": [{"scope": "*", "model": "m", "unit": "requests", "window": "day", "source": "header",
                         "limit": 1000, "used": 40, "remaining": 960, "resets_at_ms": 7_200_000}]},
            {"id": "ollama", "health": "up", "breaker": "closed", "limits": [], "put_off": []},
        ]});
        let text = table(&status, SystemTime::UNIX_EPOCH);
        for part in [
            "groq",
            "1000 requests per day (m)",
            "960",
            "in 2 h 0 min",
            "header",
            "none known",
            "(no allowance)",
            "(window, a guess)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn why_a_provider_cannot_be_used_and_where_the_state_is_are_told() {
        let said = |state: Value| {
            let status = json!({"state": state, "providers": [
                {"id": "box", "health": "unreachable", "limits": [], "put_off": [],
                 "remark": "cannot connect to 127.0.0.1:1: connection refused; is it running?"},
                {"id": "m", "health": "refused", "limits": [], "put_off": [], "remark": "`m` refused the key (401)"},
                {"id": "up", "health": "up", "limits": [], "put_off": [], "remark": null},
            ]});
            told(&status, SystemTime::UNIX_EPOCH)
        };
        let text = said(json!({"kept": "memory", "file": null, "error": null}));
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        assert_eq!(
            lines,
            [
                "state: in memory only, lost at the end, as configured",
                "`m` refused the key (401)",
                "`box`: cannot connect to 127.0.0.1:1: connection refused; is it running?",
            ]
        );
        let text = said(json!({"kept": "memory", "file": "/x/state.db", "error": "no space; free some"}));
        assert!(text.ends_with("state: in memory only, lost at the end: no space; free some"), "{text}");
        let text = said(json!({"kept": "disk", "file": "/x/state.db", "error": null}));
        assert!(text.ends_with("state: kept in /x/state.db"), "{text}");
    }

    #[test]
    fn what_clients_have_used_is_told_in_a_table_of_its_own_money_in_dollars() {
        let status = json!({"clients": [
            {"of": "key", "id": "ide", "client": "ide", "limits": [
                {"unit": "requests", "window": "minute", "limit": 20, "used": 3, "remaining": 17, "resets_at_ms": 61_000}]},
            {"of": "budget", "id": "paid", "client": "all", "limits": [
                {"unit": "usd", "window": "month", "limit": 5.0, "used": 0.0123, "remaining": 4.9877, "resets_at_ms": null}]},
        ]});
        let text = clients(&status, SystemTime::UNIX_EPOCH).unwrap();
        for part in [
            "key ide",
            "20 requests per minute",
            "17",
            "in 1 min 1 s",
            "budget paid",
            "usd per month",
            "0.0123",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(clients(&json!({"clients": []}), SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_daemon_that_restarts_does_not_end_the_watch() {
        let text = lost("no demuxai answers at http://127.0.0.1:1", true).unwrap();
        assert!(text.starts_with("no demuxai answers") && text.contains("again every 2 s"), "{text}");
        assert_eq!(lost("no demuxai answers", false), None, "a wrong address is told at once");
    }

    #[test]
    fn lengths_are_told_in_their_two_largest_units() {
        let told: Vec<String> =
            [-5, 1, 59_000, 61_000, 3_660_000, 90_000_000].into_iter().map(length).collect();
        assert_eq!(told, ["0 s", "1 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
