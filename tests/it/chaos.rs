//! Chaos: upstreams that do anything at random, provider actors that panic, clients that leave, two hundred streams at
//! once. Every client gets a whole answer or an honest error; nothing is duplicated, mixed or invented; nothing leaks.
//! `CHAOS_SEED` plays another game, or the one that failed again.

mod judge;
mod shaky;
mod upstreams;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use demuxai::demo::Fake;
use demuxai::provider::registry::Registry;
use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::proxy::{Proxy, provider};
use crate::support::{client, eventually};
use judge::{Case, KEEP_ALIVE, Target, Verdict, judge};
use shaky::{Dice, Shaky};
use upstreams::{ALL, CLOUD, Cast, Chaos, FIREWORKS, GITHUB, LLAMA, MISTRAL, OLLAMA, Part, STEADY};

const PATH: &str = "/v1/chat/completions";
/// So many clients at once; each of them asks one thing after the other.
const CLIENTS: usize = 200;
/// Those whose actors fall; all of them are in every group but the one that goes on with streams.
const SHAKY: [&Cast; 5] = [&MISTRAL, &GITHUB, &OLLAMA, &FIREWORKS, &CLOUD];

type Tally = BTreeMap<(Target, Verdict), usize>;

/// The most at once, as far as somebody looked.
#[derive(Debug, Clone, Copy, Default)]
struct Most {
    /// Clients that waited for an answer or its end.
    clients: usize,
    /// Calls to upstreams.
    upstream: usize,
}

#[expect(clippy::disallowed_methods, reason = "the game of a test is no setting of the product")]
fn seed() -> u64 {
    std::env::var("CHAOS_SEED").ok().map_or(20_261_128, |text| text.parse().expect("a number"))
}

/// All upstreams, and the configuration of a daemon in front of them.
fn stage(chaos: &Arc<Chaos>) -> (Vec<Fake>, String) {
    let mut text = String::new();
    let mut fakes = Vec::new();
    for cast in ALL {
        let fake = chaos.start(cast);
        text.push_str(&provider(cast.id, cast.kind, &format!("{}{}", fake.url(), cast.base_path())));
        text.push_str("limits = []\n");
        text.push_str(match cast.part {
            Part::Wild => "timeouts = { first_token = \"800ms\", idle = \"800ms\", total = \"1500ms\" }\n",
            Part::Steady => "timeouts = { first_token = \"20s\", idle = \"20s\", total = \"20s\" }\n",
        });
        text.push_str(match cast.id {
            // Some wait for a place, others are crowded.
            "openai" => "max_in_flight = 40\nmax_wait = \"1s\"\nmax_queue = 20\n",
            "mistral" => "max_in_flight = 12\nmax_wait = \"2s\"\ncache_seconds = 1\n",
            "github" => "replicas = 2\ncache_seconds = 1\n",
            _ => "cache_seconds = 1\n",
        });
        fakes.push(fake);
    }
    let member = |cast: &&Cast| format!("\"{}/{}\"", cast.id, cast.model);
    let wild = SHAKY.iter().map(member).collect::<Vec<_>>().join(", ");
    let [steady, mistral, llama] = [&STEADY, &MISTRAL, &LLAMA].map(|cast| member(&cast));
    text.push_str(&format!(
        "[groups.order]\ntype = \"failover\"\nmembers = [{wild}, {steady}]\n\
         [groups.carry]\ntype = \"failover\"\nresume = \"continue\"\nmembers = [{mistral}, {llama}, {steady}]\n\
         [groups.turns]\ntype = \"round-robin\"\nmembers = [{wild}]\n\
         [groups.race]\ntype = \"race\"\ndelay = \"50ms\"\nmembers = [{wild}]\n\
         [listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 2\ndrain = 1\nkeep_alive = \"{}s\"\n\
         [admin]\nkey = \"changes\"\n[state]\npath = \"none\"\n",
        KEEP_ALIVE.as_secs()
    ));
    (fakes, text)
}

fn cases(chaos: &Chaos, client: usize, round: &str, requests: usize) -> Vec<Case> {
    let mut rng = chaos.rng((client, round));
    let case = |number: usize| {
        let target = match rng.u32(..100) {
            0..35 => Target::Order,
            35..55 => Target::Carry,
            55..70 => Target::Turns,
            70..85 => Target::Race,
            _ => Target::Direct,
        };
        let leaves = (rng.u32(..100) < 12).then(|| if rng.bool() { 0 } else { rng.usize(..4000) });
        Case { ask: format!("{round}c{client}r{number}"), target, stream: rng.u32(..100) < 80, leaves }
    };
    (0..requests).map(case).collect()
}

fn body(case: &Case) -> String {
    json!({"model": case.target.model(), "stream": case.stream,
        "messages": [{"role": "user", "content": case.ask}]})
    .to_string()
}

fn ask(address: SocketAddr, case: &Case, chaos: &Chaos) -> Result<Verdict, String> {
    if let Some(bytes) = case.leaves {
        leave_after(address, case, bytes);
        return Ok(Verdict::Left);
    }
    let begun = Instant::now();
    let answer = client::post(address, PATH, &body(case));
    judge(case, &answer, begun.elapsed(), chaos).map_err(|reason| {
        let plays: Vec<String> = chaos
            .plays_for(&case.ask)
            .into_iter()
            .map(|(name, play)| format!("  {name}: {} {:?}", play.name, play.ends))
            .collect();
        let text = String::from_utf8_lossy(&answer.body);
        let hops = answer.header("x-demuxai-attempts").unwrap_or("");
        format!(
            "{} of {:?}: {reason}\nstatus {}, attempts {hops}\n{}\n{text}",
            case.ask,
            case.target,
            answer.status,
            plays.join("\n")
        )
    })
}

/// Reads so many bytes, head included, and hangs up.
fn leave_after(address: SocketAddr, case: &Case, bytes: usize) {
    let body = body(case);
    let mut stream = TcpStream::connect(address).expect("daemon accepts");
    stream.set_read_timeout(Some(client::PATIENCE)).expect("timeout is set");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("request is sent");
    let mut read = 0;
    while read < bytes {
        match stream.read(&mut [0; 512]).expect("an answer comes in time") {
            0 => return,
            more => read += more,
        }
    }
}

/// All clients at once; meanwhile what is learned of limits is forgotten again and again, or soon nobody could be asked.
fn storm(address: SocketAddr, chaos: &Arc<Chaos>, round: &'static str, requests: usize) -> (Tally, Most) {
    let (over, end) = mpsc::channel::<()>();
    let asking = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&asking);
    let hand = thread::spawn(move || {
        let mut most = Most::default();
        while end.recv_timeout(Duration::from_millis(30)) == Err(RecvTimeoutError::Timeout) {
            forget(address);
            most.clients = most.clients.max(now.load(Ordering::SeqCst));
            most.upstream = most.upstream.max(sum(&providers(address), "in_flight"));
        }
        most
    });
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (chaos, start, asking) = (Arc::clone(chaos), Arc::clone(&start), Arc::clone(&asking));
            thread::spawn(move || {
                start.wait();
                cases(&chaos, number, round, requests)
                    .into_iter()
                    .map(|case| {
                        asking.fetch_add(1, Ordering::SeqCst);
                        let seen = ask(address, &case, &chaos);
                        asking.fetch_sub(1, Ordering::SeqCst);
                        Ok((case.target, seen?))
                    })
                    .collect::<Vec<Result<_, String>>>()
            })
        })
        .collect();
    let (mut tally, mut wrong) = (Tally::new(), Vec::new());
    for client in clients {
        match client.join() {
            Ok(seen) => seen.into_iter().for_each(|seen| match seen {
                Ok(seen) => *tally.entry(seen).or_default() += 1,
                Err(reason) => wrong.push(reason),
            }),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map_or("a client fell", String::as_str);
                wrong.push(text.to_owned());
            }
        }
    }
    drop(over);
    let most = hand.join().expect("the hand ends well");
    let shown = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "seed {}: {} requests went wrong:\n{shown}", chaos.seed, wrong.len());
    (tally, most)
}

fn forget(address: SocketAddr) {
    let headers = [("authorization", "Bearer changes")];
    let answer = client::open(address, "POST", "/demuxai/quota/reset", &headers, b"").finish();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn providers(address: SocketAddr) -> Vec<Value> {
    client::get(address, "/demuxai/status").json()["providers"].as_array().expect("providers").clone()
}

#[track_caller]
fn until_up(address: SocketAddr, count: usize) {
    let up = || providers(address).iter().filter(|one| one["health"] == "up").count();
    eventually("all are up", up, |up| *up == count);
}

fn sum(providers: &[Value], key: &str) -> usize {
    providers.iter().map(|one| one[key].as_u64().expect("a number") as usize).sum()
}

/// The sum of all series of a metric that have this label.
fn metric(address: SocketAddr, name: &str, label: &str) -> f64 {
    let text = client::get(address, "/metrics").text();
    let series = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let of_label = text.lines().filter(series).filter(|line| line.contains(label));
    of_label
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a value"))
        .sum()
}

/// The value of one of the process's own metrics.
fn process(address: SocketAddr, name: &str) -> f64 {
    let text = client::get(address, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect("it is there");
    line.parse().expect("a number")
}

/// Nothing is left of any request, neither here nor at the upstreams.
#[track_caller]
fn assert_settled(address: SocketAddr, fakes: &[Fake]) {
    let left = || {
        let all = providers(address);
        let busy = fakes.iter().map(|fake| fake.counts().open_requests).collect::<Vec<_>>();
        (sum(&all, "in_flight"), sum(&all, "waiting"), metric(address, "demuxai_streams_active", ""), busy)
    };
    eventually("nothing is left", left, |(leases, waiting, streams, busy)| {
        *leases == 0 && *waiting == 0 && *streams == 0.0 && busy.iter().all(|count| *count == 0)
    });
}

/// Each request is counted once, and so is each that was given up if it was seen at all.
#[track_caller]
fn assert_counted(address: SocketAddr, tally: &Tally) {
    let all: usize = tally.values().sum();
    let left: usize =
        tally.iter().filter(|((_, verdict), _)| *verdict == Verdict::Left).map(|(_, count)| count).sum();
    let counted = || metric(address, "demuxai_requests_total", "endpoint=\"chat\"");
    eventually("all are counted", counted, |count| ((all - left) as f64..=all as f64).contains(count));
}

/// Once all is calm everybody answers again.
#[track_caller]
fn assert_well(address: SocketAddr, chaos: &Chaos) {
    chaos.calm();
    for cast in ALL {
        let question = json!({"model": format!("{}/{}", cast.id, cast.model),
            "messages": [{"role": "user", "content": format!("are you well, {}?", cast.id)}]});
        let answered = || {
            forget(address);
            let answer = client::post(address, PATH, &question.to_string());
            (answer.status, answer.text())
        };
        eventually("it answers again", answered, |(status, _)| *status == 200);
    }
    until_up(address, ALL.len());
}

#[test]
fn two_hundred_streams_over_upstreams_and_actors_that_fail_at_random() {
    let chaos = Chaos::new(seed());
    let (fakes, text) = stage(&chaos);
    let adapters = SHAKY.map(|cast| (cast, Shaky::around(cast.kind)));
    let registry = adapters
        .iter()
        .fold(Registry::builtin(), |registry, (cast, shaky)| shaky.within(registry, cast.kind));
    let proxy = Proxy::with_registry(&text, registry);
    let address = proxy.address;
    until_up(address, ALL.len());

    for (number, (cast, shaky)) in adapters.iter().enumerate() {
        shaky.let_all_fall(chaos.seed.wrapping_add(number as u64), cast.id == CLOUD.id);
    }
    let begun = Instant::now();
    let (tally, most) = storm(address, &chaos, "", 6);
    adapters.iter().for_each(|(_, shaky)| shaky.calm());
    let fallen: u32 = adapters.iter().map(|(_, shaky)| shaky.fallen()).sum();
    let left = metric(address, "demuxai_failovers_total", "reason=\"provider_down\"");

    for ((target, verdict), count) in &tally {
        println!("{count:>5} {target:?} {verdict:?}");
    }
    println!(
        "seed {}: {most:?} at once, {fallen} falls, {left} left for one, {:?}",
        chaos.seed,
        begun.elapsed()
    );
    for (name, count) in chaos.played() {
        println!("{count:>5} {name}");
    }
    // The game was played: what was to happen happened, and most were answered all the same.
    let crowded = most.clients * 4 >= CLIENTS * 3 && most.upstream * 2 >= CLIENTS;
    assert!(crowded && fallen >= 20 && left >= 1.0, "{most:?} at once, {fallen} falls, {left}");
    assert!(chaos.played().len() > 90, "{} of all that could be played", chaos.played().len());
    let (stayed, whole) = tally.iter().fold((0, 0), |(stayed, whole), ((_, verdict), count)| match verdict {
        Verdict::Left => (stayed, whole),
        Verdict::Whole | Verdict::Continued(_) => (stayed + count, whole + count),
        _ => (stayed + count, whole),
    });
    assert!(whole * 2 > stayed, "only {whole} of {stayed} answers are whole");
    assert_settled(address, &fakes);
    assert_counted(address, &tally);
    assert_well(address, &chaos);
    assert_settled(address, &fakes);
}

#[test]
fn an_actor_or_its_task_that_panics_costs_a_groups_request_nothing_but_a_hop() {
    let chaos = Chaos::new(seed());
    chaos.calm();
    let (mistral, steady) = (chaos.start(&MISTRAL), chaos.start(&STEADY));
    let shaky = Shaky::around(MISTRAL.kind);
    let text = format!(
        "{}{}[groups.order]\ntype = \"failover\"\nmembers = [\"mistral/{}\", \"steady/m\"]\n",
        provider(MISTRAL.id, MISTRAL.kind, &mistral.url()),
        provider(STEADY.id, STEADY.kind, &steady.url()),
        MISTRAL.model
    );
    let proxy = Proxy::with_registry(&text, shaky.within(Registry::builtin(), MISTRAL.kind));
    until_up(proxy.address, 2);
    // The message handler looks for the route first, the exchange task after it.
    for (place, restarts) in [(0, 1), (1, 0)] {
        for stream in [false, true] {
            let before = proxy.status_of(MISTRAL.id)["restarts"].as_u64().expect("restarts");
            shaky.let_calls_fall(Dice::once_after(place));
            let case = Case { ask: format!("p{place}{stream}"), target: Target::Order, stream, leaves: None };
            let answer = client::post(proxy.address, PATH, &body(&case));
            assert_eq!(
                judge(&case, &answer, Duration::ZERO, &chaos),
                Ok(Verdict::Whole),
                "{}",
                answer.text()
            );
            let hops = "mistral/mistral-small-latest provider_down, steady ok";
            assert_eq!(answer.header("x-demuxai-attempts"), Some(hops));
            let now = || proxy.status_of(MISTRAL.id)["restarts"].as_u64().expect("restarts");
            eventually("the actor is restarted", now, |now| *now == before + restarts);
        }
    }
    assert_eq!(shaky.fallen(), 4);
    assert_settled(proxy.address, &[mistral, steady]);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_what_it_was_after_the_storm() {
    let chaos = Chaos::new(seed() ^ 1);
    let (fakes, text) = stage(&chaos);
    let program = Program::serve(&text);
    let address = program.address();
    until_up(address, ALL.len());
    let descriptors = || {
        let upstream: u64 = fakes.iter().map(|fake| fake.counts().open_connections).sum();
        process(address, "process_open_fds") - upstream as f64
    };
    let open = descriptors();
    // Once through, so that what is there for good is there. What is free yet not given back varies.
    let storms = |rounds: &[&'static str]| {
        let most = rounds.iter().map(|round| {
            storm(address, &chaos, round, 2);
            assert_settled(address, &fakes);
            program.resident_bytes()
        });
        most.max().expect("a round")
    };
    let before = storms(&["a", "b"]);
    let after = storms(&["c", "d"]);
    println!("seed {}: {} KB, then {} KB", chaos.seed, before / 1024, after / 1024);
    // Those to upstreams that are kept for later apart.
    eventually("no connection is kept", descriptors, |now| *now <= open + 2.0);
    // What was freed goes back to the system at once or soon.
    let most = before + 32 * 1024 * 1024;
    eventually("memory is what it was", || program.resident_bytes(), |now| *now <= most);
}
