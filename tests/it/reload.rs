//! The configuration changes while the daemon serves: what is unchanged stays, what changed is replaced, what is gone
//! ends what it has in flight, a bad file changes nothing, and no stream is cut.

mod access;
mod accounts;
mod draining;
mod groups;
mod whole;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use demuxai::demo::{Answer as Plain, Fake, Received, Script};
use demuxai::reload::{Cause, Refusal, What};
use serde_json::Value;

use super::support::client::{self, Answer, Reading};
use super::support::proxy::{Proxy, provider};
use super::support::stage::{PATH, chunk, finish, upstream};
use super::support::{asked, content, eventually};

/// A daemon and the text that it reads when it is told to.
struct Live {
    proxy: Proxy,
    text: Arc<Mutex<String>>,
}

/// What every configuration here has.
const COMMON: &str = "[admin]\nkey = \"changes\"\n[state]\npath = \"none\"\n";
const LISTENER: &str = "[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\ndrain = 1\n";

impl Live {
    fn start(text: &str) -> Live {
        Live::start_with(text, LISTENER)
    }

    fn start_with(text: &str, listener: &str) -> Live {
        let text = Arc::new(Mutex::new(format!("{text}{listener}{COMMON}")));
        Live { proxy: Proxy::reading(&text), text }
    }

    /// Changes the text and reloads it, and gives what the daemon says.
    fn try_reload(&self, text: &str) -> Answer {
        self.try_reload_with(text, LISTENER)
    }

    fn try_reload_with(&self, text: &str, listener: &str) -> Answer {
        *self.text.lock().unwrap() = format!("{text}{listener}{COMMON}");
        self.change("/demuxai/reload", "changes")
    }

    fn change(&self, path: &str, key: &str) -> Answer {
        let bearer = format!("Bearer {key}");
        client::open(self.proxy.address, "POST", path, &[("authorization", &bearer)], b"").finish()
    }

    #[track_caller]
    fn reload(&self, text: &str) -> Value {
        let answer = self.try_reload(text);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    fn until_up(&self, id: &str) {
        eventually("it is up", || self.proxy.status_of(id), |status| status["health"] == "up");
    }

    fn ask(&self, model: &str) -> Answer {
        self.proxy.post(PATH, &chat(model, ""))
    }

    /// Opens a stream and reads its first event.
    fn stream(&self, model: &str) -> Reading {
        let mut stream = self.proxy.open(PATH, &chat(model, r#""stream":true,"#));
        assert_eq!(stream.status, 200);
        stream.until("one");
        stream
    }

    fn used(&self, id: &str) -> u64 {
        self.proxy.status_of(id)["limits"][0]["used"].as_u64().expect("a limit")
    }

    fn has_series(&self, label: &str) -> bool {
        self.proxy.get("/metrics").text().contains(label)
    }
}

fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}",{more}"messages":[{{"role":"user","content":"hi"}}]}}"#)
}

fn is_stream(received: &Received) -> bool {
    String::from_utf8_lossy(&received.body).contains("\"stream\":true")
}

fn words(text: &str) -> Script {
    Plain::json(200).body(format!(
        r#"{{"id":"c1","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}}}"#
    ))
}

/// Answers with its name; streams wait at the gate `end` after their first event.
fn fake(name: &'static str) -> Fake {
    upstream(move |received| {
        if !is_stream(received) {
            return words(name);
        }
        let events = Plain::events().chunked().event(chunk("one")).gate("end").event(chunk(name));
        events.event(finish()).event("[DONE]").last_chunk()
    })
}

/// How often an upstream was asked for its models.
fn lists(fake: &Fake) -> usize {
    fake.received().iter().filter(|received| received.method == "GET").count()
}

#[test]
fn two_hundred_streams_over_fifty_reloads_all_complete_byte_for_byte() {
    let (kept, changing, other, going) = (fake("kept"), fake("changing"), fake("changing"), fake("going"));
    let text = |round: usize| {
        let url = if round % 7 == 6 { other.url() } else { changing.url() };
        let going =
            if round.is_multiple_of(2) { provider("going", "openai", &going.url()) } else { String::new() };
        let key = if round % 10 < 5 { "one" } else { "two" };
        format!(
            "{}[providers.changing]\ntype = \"openai\"\nurl = \"{url}\"\napi_key = \"key-{key}\"\ntimeouts = {{ idle = {} }}\n{going}[groups.any]\ntype = \"failover\"\nmembers = [\"changing/m\", \"kept/m\"]\nattempts = {}\n",
            provider("kept", "openai", &kept.url()),
            60 + round,
            2 + round / 3
        )
    };
    let live = Live::start(&text(0));
    let fakes = [&kept, &changing, &other, &going];
    ["kept", "changing", "going"].iter().for_each(|id| live.until_up(id));
    // What each provider's stream is when nothing happens.
    fakes.iter().for_each(|fake| fake.open_gate("end"));
    let undisturbed: BTreeMap<&str, Vec<u8>> = ["kept", "changing", "going"]
        .into_iter()
        .map(|id| (id, live.stream(&format!("{id}/m")).finish().body))
        .collect();
    fakes.iter().for_each(|fake| fake.close_gate("end"));
    let threads = || live.proxy.find_metric("process_threads").unwrap_or(0.0);
    let before = threads();
    let mut streams = Vec::new();
    for round in 1..=50 {
        let has_going = (round - 1) % 2 == 0;
        let models = ["kept/m", "changing/m", "any", if has_going { "going/m" } else { "changing/m" }];
        streams.extend(models.map(|model| live.stream(model)));
        let said = live.reload(&text(round));
        assert!(said["unchanged"].as_u64().unwrap() >= 4, "{said}");
    }
    assert_eq!(streams.len(), 200);
    // The first hundred end in the order of their opening, the others while it is reloaded once more.
    fakes.iter().for_each(|fake| fake.open_gate("end"));
    live.reload(&text(51));
    for (index, stream) in streams.into_iter().enumerate() {
        let id = stream.header("x-demuxai-provider").expect("who serves it").to_owned();
        let answer = stream.finish();
        assert!(answer.complete, "stream {index} by {id} was cut: {}", answer.text());
        assert_eq!(answer.body, undisturbed[id.as_str()], "stream {index} by {id}: {}", answer.text());
    }
    for id in ["kept", "changing"] {
        eventually("no seat is taken", || live.proxy.status_of(id)["in_flight"].clone(), |seats| *seats == 0);
        let active = format!("demuxai_streams_active{{provider=\"{id}\"}}");
        eventually("no stream is active", || live.proxy.find_metric(&active), |count| *count == Some(0.0));
    }
    // Each actor that was replaced has a thread of its own, until it has ended what it had.
    eventually("old actors have ended", threads, |now| *now <= before + 4.0);
    assert_eq!(live.proxy.metric("demuxai_config_reload_success"), 1.0);
}

#[test]
fn an_unchanged_provider_keeps_its_connections_its_list_and_its_counts() {
    let (kept, other) = (fake("kept"), fake("other"));
    let limits = "limits = [{ requests = 10, per = \"day\" }]\n";
    let text = |name: &str| {
        format!(
            "{}{limits}{}name = \"{name}\"\n",
            provider("kept", "openai", &kept.url()),
            provider("other", "openai", &other.url())
        )
    };
    let live = Live::start(&text("a"));
    ["kept", "other"].iter().for_each(|id| live.until_up(id));
    assert_eq!(content(&live.ask("kept/m")), "kept");
    let (connections, fetched) = (kept.counts().connections, lists(&kept));
    for name in ["b", "c", "d"] {
        let said = live.reload(&text(name));
        assert_eq!(said["needs_restart"], serde_json::json!([]));
        let changed: Vec<&Value> = said["changes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|thing| thing["change"] != "unchanged")
            .collect();
        assert_eq!((changed.len(), &changed[0]["id"]), (1, &Value::from("other")), "{said}");
        assert_eq!(content(&live.ask("kept/m")), "kept");
    }
    assert_eq!((kept.counts().connections, lists(&kept)), (connections, fetched), "one connection, one list");
    assert_eq!(live.used("kept"), 4);
    eventually("the other one's new actor asks for its list", || lists(&other), |count| *count >= 4);
    assert_eq!(live.proxy.status_of("kept")["restarts"], 0);
}

#[test]
fn what_was_used_of_an_account_stays_used_when_its_limits_change() {
    let up = fake("up");
    let text = |more: &str| format!("{}{more}\n", provider("up", "openai", &up.url()));
    let live = Live::start(&text("limits = [{ requests = 10, per = \"day\" }]"));
    live.until_up("up");
    for _ in 0..2 {
        assert_eq!(live.ask("up/m").status, 200);
    }
    live.reload(&text("limits = [{ requests = 3, per = \"day\" }]\nname = \"Up\""));
    assert_eq!(live.used("up"), 2);
    assert_eq!(live.proxy.status_of("up")["name"], "Up");
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
    live.reload(&text("limits = []"));
    assert_eq!(live.ask("up/m").status, 200);
    live.reload(&text("limits = [{ requests = 3, per = \"day\" }]"));
    assert_eq!(live.ask("up/m").status, 429, "it comes back with what it had counted");
    live.reload("");
    assert_eq!(live.ask("up/m").status, 404);
    live.reload(&text("limits = [{ requests = 3, per = \"day\" }]"));
    live.until_up("up");
    assert_eq!(live.ask("up/m").status, 429, "so does the account");
}

#[test]
fn another_upstream_under_the_same_id_begins_anew_and_the_first_is_remembered() {
    let (one, two) = (fake("one"), fake("two"));
    let text = |fake: &Fake| {
        format!("{}limits = [{{ requests = 1, per = \"day\" }}]\n", provider("up", "openai", &fake.url()))
    };
    let live = Live::start(&text(&one));
    live.until_up("up");
    assert_eq!([live.ask("up/m").status, live.ask("up/m").status], [200, 429]);
    live.reload(&text(&two));
    live.until_up("up");
    assert_eq!(content(&live.ask("up/m")), "two");
    live.reload(&text(&one));
    assert_eq!(live.ask("up/m").status, 429);
}

#[test]
fn a_new_key_keeps_the_counts_and_forgets_what_was_said_to_the_old_one() {
    let up = upstream(|received| {
        let is_old = received.header("authorization").is_some_and(|key| key.ends_with("old"));
        if is_old && !received.path().ends_with("/models") {
            return Plain::json(429)
                .header("retry-after", "3000")
                .body(r#"{"error":{"message":"slow down"}}"#);
        }
        words("up")
    });
    let text = |key: &str| {
        format!(
            "[providers.up]\ntype = \"openai\"\nurl = \"{}\"\napi_key = \"{key}\"\nlimits = [{{ requests = 9, per = \"day\" }}]\n",
            up.url()
        )
    };
    let live = Live::start(&text("old"));
    live.until_up("up");
    live.ask("up/m");
    assert_eq!(live.proxy.status_of("up")["put_off"].as_array().unwrap().len(), 1);
    let used = live.used("up");
    assert!(used >= 1);
    let said = live.reload(&text("new"));
    assert!(!said.to_string().contains("old") && said.to_string().contains("\"secret\":true"), "{said}");
    assert_eq!(live.proxy.status_of("up")["put_off"], serde_json::json!([]));
    assert_eq!(content(&live.ask("up/m")), "up");
    assert_eq!(live.used("up"), used + 1);
}

#[test]
fn what_is_in_flight_at_the_old_actor_holds_its_place_and_settles_once() {
    let up = fake("up");
    let text = |name: &str| {
        format!("{}name = \"{name}\"\nmax_in_flight = 1\nmax_wait = 0\n", provider("up", "openai", &up.url()))
    };
    let live = Live::start(&text("a"));
    live.until_up("up");
    let stream = live.stream("up/m");
    for name in ["b", "c"] {
        live.reload(&text(name));
        assert_eq!(live.proxy.status_of("up")["in_flight"], 1);
        assert_eq!(live.ask("up/m").status, 429, "the place is taken");
    }
    up.open_gate("end");
    let answer = stream.finish();
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    eventually("the place is free", || live.proxy.status_of("up")["in_flight"].clone(), |seats| *seats == 0);
    assert_eq!(content(&live.ask("up/m")), "up");
}

#[test]
fn a_provider_that_is_taken_out_ends_its_streams_and_then_its_series() {
    let (kept, gone) = (fake("kept"), fake("gone"));
    let rest = provider("kept", "openai", &kept.url());
    let live = Live::start(&format!("{rest}{}", provider("gone", "openai", &gone.url())));
    ["kept", "gone"].iter().for_each(|id| live.until_up(id));
    let stream = live.stream("gone/m");
    assert!(live.has_series("demuxai_provider_up{provider=\"gone\"} 1"));
    live.reload(&rest);
    assert_eq!(live.ask("gone/m").status, 404);
    assert!(!live.has_series("demuxai_provider_up{provider=\"gone\"}"), "neither up nor down");
    assert!(!live.proxy.get("/v1/models").text().contains("gone/"));
    assert!(live.has_series("demuxai_streams_active{provider=\"gone\"} 1"), "it is still being served");
    gone.open_gate("end");
    let answer = stream.finish();
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    eventually("its series end", || live.has_series("provider=\"gone\""), |has| !has);
    live.reload(&format!("{rest}{}", provider("gone", "openai", &gone.url())));
    live.until_up("gone");
    assert!(live.has_series("demuxai_provider_up{provider=\"gone\"} 1"));
    assert_eq!(content(&live.ask("gone/m")), "gone");
}

#[test]
fn an_unchanged_group_knows_where_it_was_and_a_changed_one_begins_anew() {
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let a = upstream(move |_| {
        if fails.load(std::sync::atomic::Ordering::Relaxed) {
            Plain::json(500).body("{}")
        } else {
            words("a")
        }
    });
    let b = fake("b");
    let text = |name: &str, group: &str| {
        format!(
            "{}{}name = \"{name}\"\n[groups.g]\ntype = \"rotate\"\nmembers = [\"a/m\", \"b/m\"]\n{group}",
            provider("a", "openai", &a.url()),
            provider("b", "openai", &b.url())
        )
    };
    let live = Live::start(&text("x", ""));
    ["a", "b"].iter().for_each(|id| live.until_up(id));
    assert_eq!(content(&live.ask("g")), "b");
    failing.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(content(&live.ask("g")), "b", "it stays where it works");
    live.reload(&text("y", ""));
    assert_eq!(content(&live.ask("g")), "b", "although that member has a new actor");
    live.reload(&text("y", "attempts = 2\n"));
    assert_eq!(content(&live.ask("g")), "a");
}

#[test]
fn how_fast_members_were_is_known_over_a_reload() {
    let slow = upstream(|_| Script::new().pause(Duration::from_secs(2)).then(words("slow")));
    let fast = upstream(|_| words("fast"));
    let text = |round: u32| {
        format!(
            "{}{}name = \"{round}\"\n[groups.g]\ntype = \"least-latency\"\nmembers = [\"a/m\", \"b/m\"]\n",
            provider("a", "openai", &slow.url()),
            provider("b", "openai", &fast.url())
        )
    };
    let live = Live::start(&text(0));
    ["a", "b"].iter().for_each(|id| live.until_up(id));
    let mut first: Vec<String> = (0..2).map(|_| content(&live.ask("g"))).collect();
    first.sort();
    assert_eq!(first, ["fast", "slow"], "each is measured once");
    // Who knew nothing would begin with the slow one each time; who knows tries it one time in twenty.
    let mut rounds = 1..=4;
    assert!(rounds.any(|round| {
        live.reload(&text(round));
        content(&live.ask("g")) == "fast"
    }));
}

#[test]
fn a_conversation_stays_where_it_is_over_a_reload() {
    let (a, b) = (fake("a"), fake("b"));
    let text = |name: &str| {
        format!(
            "{}{}name = \"{name}\"\n[groups.g]\ntype = \"round-robin\"\nsticky = {{ by = \"session\" }}\n\
             members = [\"a/m\", \"b/m\"]\n",
            provider("a", "openai", &a.url()),
            provider("b", "openai", &b.url())
        )
    };
    let live = Live::start(&text("x"));
    ["a", "b"].iter().for_each(|id| live.until_up(id));
    let said = |session: &str| {
        let headers = [("x-demuxai-session", session), ("content-type", "application/json")];
        let body = chat("g", "");
        content(&client::open(live.proxy.address, "POST", PATH, &headers, body.as_bytes()).finish())
    };
    let sessions = ["s1", "s2", "s3", "s4", "s5"];
    let before = sessions.map(said);
    assert!(before.contains(&"a".to_owned()) && before.contains(&"b".to_owned()), "{before:?}");
    live.reload(&text("y"));
    // Asked in another order, so that whose turn it is would give others.
    let mut after = sessions.map(|session| (session, String::new()));
    after.iter_mut().rev().for_each(|(session, answer)| *answer = said(session));
    assert_eq!(after.map(|(_, answer)| answer), before);
}

#[test]
fn keys_and_options_of_listeners_hold_for_new_requests_at_once() {
    let up = fake("up");
    let table = provider("up", "openai", &up.url());
    let live = Live::start(&table);
    live.until_up("up");
    let with_key = |key: &str, body: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        client::open(live.proxy.address, "POST", PATH, &headers, body.as_bytes()).finish().status
    };
    let open = live.stream("up/m");
    live.reload(&format!("{table}[keys.ide]\nkey = \"ide-key\"\n"));
    assert_eq!(live.ask("up/m").status, 401);
    assert_eq!(with_key("ide-key", &chat("up/m", "")), 200);
    live.reload(&format!("{table}[keys.ide]\nkey = \"ide-key\"\nmodels = [\"other/*\"]\n"));
    assert_eq!(with_key("ide-key", &chat("up/m", "")), 403);
    live.reload(&format!("{table}[keys.ide]\nkey = \"another\"\n"));
    assert_eq!([with_key("ide-key", &chat("up/m", "")), with_key("another", &chat("up/m", ""))], [401, 200]);
    live.reload(&table);
    assert_eq!(live.ask("up/m").status, 200);
    let host = |name: &str, origin: &str| {
        let head = format!("GET /v1/models HTTP/1.1\r\nhost: {name}\r\norigin: {origin}\r\n\r\n");
        client::exchange(live.proxy.address, head.as_bytes()).finish().status
    };
    assert_eq!(host("box.example", "https://page.example"), 403);
    let more = format!(
        "{LISTENER}hosts = [\"box.example\"]\norigins = [\"https://page.example\"]\nmax_body = \"1KB\"\nkeep_alive = 3\n"
    );
    let said = live.try_reload_with(&table, &more);
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(host("box.example", "https://page.example"), 200);
    assert_eq!(
        live.proxy.post(PATH, &chat("up/m", &format!(r#""user":"{}","#, "x".repeat(1100)))).status,
        413
    );
    assert_eq!(live.change("/demuxai/reload", "wrong").status, 401);
    up.open_gate("end");
    assert!(open.finish().complete, "who was let in is not thrown out");
}

#[test]
fn a_bad_configuration_changes_nothing_and_all_that_is_wrong_is_told() {
    let up = fake("up");
    let table = provider("up", "openai", &up.url());
    let live = Live::start(&table);
    live.until_up("up");
    let at = live.proxy.metric("demuxai_config_reload_success_timestamp_seconds");
    assert!(at > 1.7e9);
    let bad = format!(
        "{table}exlude_models = [\"x\"]\n[providers.new]\ntype = \"nothing\"\n[groups.g]\ntype = \"failover\"\nmembers = [\"up/m\", \"absent/m\"]\n[keys.k]\nkey = \"would-lock-everybody-out\"\n"
    );
    let said = live.try_reload(&bad);
    assert_eq!(said.status, 400);
    for part in ["exclude_models", "providers.new.type", "absent", "problems"] {
        assert!(said.error().contains(part), "{part}: {}", said.error());
    }
    assert_eq!(said.json()["error"]["code"], "configuration_refused");
    assert_eq!(live.proxy.metric("demuxai_config_reload_success"), 0.0);
    assert_eq!(content(&live.ask("up/m")), "up", "it serves on, without a key");
    let status = live.proxy.get("/demuxai/status").json();
    assert_eq!(status["providers"].as_array().unwrap().len(), 1, "nothing of it is in force");
    let odd = table.replace("[providers.up]", "[providers.up]\nca_file = \"/dev/null\"");
    assert_eq!(live.try_reload(&odd).status, 400);
    assert_eq!(live.try_reload("not toml at all").status, 400);
    live.reload(&table);
    assert_eq!(live.proxy.metric("demuxai_config_reload_success"), 1.0);
    assert!(live.proxy.metric("demuxai_config_reload_success_timestamp_seconds") >= at);
}

#[test]
fn a_reload_never_opens_what_goes_on_listening_elsewhere() {
    let open = "[listeners.test]\naddress = \"0.0.0.0:0\"\nworkers = 1\ndrain = 1\n";
    let keys = "[keys.k]\nkey = \"secret-k\"\n";
    let live = Live::start_with(keys, open);
    let said = live.try_reload_with("", LISTENER);
    assert_eq!(said.status, 400, "good by itself, but not for a daemon that listens everywhere");
    assert!(said.error().contains("listeners.test") && said.error().contains("0.0.0.0"), "{}", said.error());
    let said = live.try_reload_with(keys, LISTENER);
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(said.json()["needs_restart"], serde_json::json!(["listeners.test.address"]));
    let again = live.change("/demuxai/diff", "changes").json();
    assert_eq!(
        again["needs_restart"],
        serde_json::json!(["listeners.test.address"]),
        "it still waits for it"
    );
}

#[test]
fn what_would_change_is_told_without_changing_it_and_without_secrets() {
    let up = fake("up");
    let live = Live::start(&provider("up", "openai", &up.url()));
    live.until_up("up");
    let new = format!(
        "{}[providers.box]\ntype = \"ollama\"\nurl = \"http://127.0.0.1:1\"\n",
        provider("up", "openai", &up.url()).replace("test-key-up", "rotated-key")
    );
    *live.text.lock().unwrap() = format!("{new}{LISTENER}{COMMON}");
    let said = live.change("/demuxai/diff", "changes");
    assert_eq!(said.status, 200, "{}", said.text());
    let things: BTreeMap<String, Value> = said.json()["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|thing| {
            (
                format!("{} {}", thing["kind"].as_str().unwrap(), thing["id"].as_str().unwrap_or("")),
                thing["change"].clone(),
            )
        })
        .collect();
    assert_eq!(things["provider up"], "changed");
    assert_eq!(things["provider box"], "added");
    assert_eq!(things["listener test"], "unchanged");
    assert!(
        said.text().contains("providers.up.api_key") && !said.text().contains("key-up"),
        "{}",
        said.text()
    );
    assert!(!said.text().contains("rotated"), "{}", said.text());
    let status = live.proxy.get("/demuxai/status").json();
    assert_eq!(status["providers"].as_array().unwrap().len(), 1, "nothing changed");
    assert!(!live.has_series("provider=\"box\""), "nor does it show anywhere");
    assert_eq!(live.change("/demuxai/diff?file=relative.toml", "changes").status, 400);
    assert_eq!(live.change("/demuxai/diff?fiel=/x", "changes").status, 400);
    let many = "file=/x&".repeat(101);
    assert_eq!(live.change(&format!("/demuxai/diff?{}", many.trim_end_matches('&')), "changes").status, 400);
}

#[test]
fn only_who_may_change_things_may_reload_and_never_a_web_page() {
    let live = Live::start("");
    let try_with = |method: &str, path: &str, headers: &[(&str, &str)]| {
        client::open(live.proxy.address, method, path, headers, b"").finish().status
    };
    let good = ("authorization", "Bearer changes");
    for path in ["/demuxai/reload", "/demuxai/diff"] {
        assert_eq!(try_with("POST", path, &[]), 401);
        assert_eq!(try_with("POST", path, &[("authorization", "Bearer wrong")]), 401);
        assert_eq!(try_with("POST", path, &[good, ("origin", "http://localhost:3000")]), 403);
        assert_eq!(try_with("GET", path, &[good]), 405);
        assert_eq!(try_with("POST", path, &[good]), 200);
    }
}

#[test]
fn reloads_at_the_same_time_come_one_after_another() {
    let up = fake("up");
    let live = Live::start(&provider("up", "openai", &up.url()));
    live.until_up("up");
    let before = asked(&up);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (live, up) = (&live, &up);
            scope.spawn(move || {
                let text = format!("{}name = \"n{number}\"\n", provider("up", "openai", &up.url()));
                let said = live.try_reload(&text);
                assert_eq!(said.status, 200, "{}", said.text());
                assert_eq!(content(&live.ask("up/m")), "up");
            });
        }
    });
    assert_eq!(asked(&up), before + 8);
    let name = live.proxy.status_of("up")["name"].as_str().unwrap().to_owned();
    live.change("/demuxai/reload", "changes");
    let last = live.text.lock().unwrap().clone();
    let now = live.proxy.status_of("up")["name"].as_str().unwrap().to_owned();
    assert!(
        last.contains(&format!("\"{now}\"")),
        "{now} after {name}: what is in force is what was read last"
    );
    assert_eq!(live.change("/demuxai/diff", "changes").json()["unchanged"], 5);
}

#[test]
fn a_daemon_that_ends_takes_over_nothing_and_finds_no_fault_with_the_configuration() {
    let up = fake("up");
    let live = Live::start(&provider("up", "openai", &up.url()));
    live.until_up("up");
    let stream = live.stream("up/m");
    let handle = live.proxy.handle.clone();
    let said = actix_rt::System::new().block_on(async {
        let mut draining = std::pin::pin!(handle.drain());
        tokio::select! {
            biased;
            () = &mut draining => panic!("a stream is in flight"),
            () = std::future::ready(()) => {}
        }
        handle.reloads().ask(What::Reload(Cause::Signal)).await
    });
    assert_eq!(said.err(), Some(Refusal::NotNow("demuxai is shutting down".to_owned())));
    let metrics = String::from_utf8(live.proxy.handle.metrics().encode().unwrap()).unwrap();
    assert!(metrics.contains("\ndemuxai_config_reload_success 1\n"), "{metrics}");
    up.open_gate("end");
    assert!(stream.finish().complete);
}
