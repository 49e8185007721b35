//! What modifiers cost a request that has nothing of them: its answer is in no cache, nobody shares its call. One
//! connection asks one thing again and again; each way is measured in turns, and told as a ratio to the bare model.

use std::sync::Arc;
use std::time::Duration;

use crate::Outcome;
use crate::load::{self, Target, request_with};
use crate::process::{Launcher, Subject};
use crate::report::percentile;

/// How long each way is measured in each round.
const LENGTH: Duration = Duration::from_millis(1500);

/// Over the model that is measured bare, too.
const GROUPS: &str = r#"
[groups.plain]
type = "failover"
members = ["up/bench"]

[groups.bypassed]
type = "cache"
to = "up/bench"

[groups.missed]
type = "cache"
to = "up/bench"
all = true

[groups.led]
type = "dedupe"
to = "up/bench"

[groups.written]
type = "tee"
to = "up/bench"
path = "tee.jsonl"
max_file = "1GB"

[groups.limited]
type = "limit"
to = "up/bench"
limits = [{ requests = 100000000, per = "day" }]
"#;

/// What is asked for, with which header, in words; the first two of a daemon of their own each.
const WAYS: [(&str, &str, &str); 8] = [
    ("up/bench", "", "the bare model, no groups configured"),
    ("up/bench", "", "the bare model, these groups configured beside it"),
    ("plain", "", "failover with one member"),
    ("bypassed", "", "cache, of no use to the request"),
    ("missed", "Cache-Control: no-cache\r\n", "cache, missed and kept"),
    ("led", "", "dedupe, alone"),
    ("written", "", "tee"),
    ("limited", "", "limit"),
];

/// Measures all ways in turns, and prints the medians.
pub async fn measure(launcher: &Launcher, rounds: usize) -> Outcome<String> {
    let ask =
        |way: &(&str, &str, &str)| request_with(way.0, way.1, "plain", false, "Say something about a cat.");
    let bare = launcher.start(Subject::Demuxai, &ask(&WAYS[0]))?;
    let grouped =
        Launcher { groups: GROUPS, directory: launcher.directory.join("groups"), ..launcher.clone() };
    let grouped = grouped.start(Subject::Demuxai, &ask(&WAYS[0]))?;
    let mut costs = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        for turn in 0..WAYS.len() {
            let index = (round + turn) % WAYS.len();
            let (Some(way), Some(costs)) = (WAYS.get(index), costs.get_mut(index)) else { continue };
            let proxy = if index == 0 { &bare } else { &grouped };
            let target = Target { address: proxy.address, proxy: Some(proxy) };
            let answers = load::closed(target, 1, Arc::clone(&ask(way)), LENGTH).await?;
            costs.push(answers.cpu_us);
        }
    }
    let medians: Vec<f64> = costs
        .iter_mut()
        .map(|values| {
            values.sort_by(f64::total_cmp);
            percentile(values, 50.0)
        })
        .collect();
    let base = medians.first().copied().unwrap_or(f64::NAN);
    let mut table = "| CPU per request | µs | ratio |\n|---|--:|--:|\n".to_owned();
    for ((_, _, words), cost) in WAYS.iter().zip(medians) {
        table.push_str(&format!("| {words} | {cost:.1} | {:.2} |\n", cost / base));
    }
    Ok(table)
}
