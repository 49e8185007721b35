//! What becomes of groups and routers: what they keep over a reload, what they write down, and the end of their series.

use super::*;

/// A chat whose answer a cache keeps.
fn the_same(live: &Live, model: &str) -> Answer {
    live.proxy.post(PATH, &chat(model, r#""temperature":0,"#))
}

#[test]
fn an_unchanged_cache_and_a_shared_call_go_on_while_what_is_below_them_is_replaced() {
    let up = fake("up");
    let text = |name: &str, replay: &str| {
        format!(
            "{}name = \"{name}\"\n[groups.kept]\ntype = \"cache\"\nto = \"auto\"\n{replay}[groups.once]\ntype = \"dedupe\"\nto = \"auto\"\n[routers.auto]\nroutes = [{{ to = \"up/m\" }}]\n",
            provider("up", "openai", &up.url())
        )
    };
    let live = Live::start(&text("a", ""));
    live.until_up("up");
    assert_eq!(the_same(&live, "kept").header("x-demuxai-cache"), Some("miss"));
    let first = live.stream("once");
    assert_eq!(first.header("x-demuxai-dedupe"), Some("leader"));
    let before = asked(&up);
    live.reload(&text("b", ""));
    assert_eq!(the_same(&live, "kept").header("x-demuxai-cache"), Some("hit"));
    assert_eq!(live.proxy.metric("demuxai_cache_entries{backend=\"kept\"}"), 1.0);
    let second = live.stream("once");
    assert_eq!(second.header("x-demuxai-dedupe"), Some("follower"));
    assert_eq!(asked(&up), before, "neither reached the upstream");
    up.open_gate("end");
    let (first, second) = (first.finish(), second.finish());
    assert!(first.complete && first.body == second.body, "{}", second.text());
    live.reload(&text("b", "replay = \"original\"\n"));
    assert_eq!(live.proxy.metric("demuxai_cache_entries{backend=\"kept\"}"), 0.0);
    assert_eq!(the_same(&live, "kept").header("x-demuxai-cache"), Some("miss"), "a changed one begins anew");
}

#[test]
fn a_tee_that_stays_as_it_is_takes_out_the_keys_that_a_reload_brought() {
    let up = fake("up");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jsonl");
    let text = |key: &str| {
        format!(
            "{}[keys.ide]\nkey = \"{key}\"\n[groups.written]\ntype = \"tee\"\nto = \"up/m\"\npath = {:?}\n",
            provider("up", "openai", &up.url()),
            path.display().to_string()
        )
    };
    let live = Live::start(&text("the-first-key-42"));
    live.until_up("up");
    let says = |key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = chat("written", r#""user":"the-first-key-42 the-second-key-42 the-third-key-42","#);
        let said = client::open(live.proxy.address, "POST", PATH, &headers, body.as_bytes()).finish();
        assert_eq!(said.status, 200, "{}", said.text());
    };
    let users = |count: usize| -> Vec<String> {
        let text = || std::fs::read_to_string(&path).unwrap_or_default();
        let text = eventually("it is written", text, |text| text.lines().count() == count);
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        text.lines().map(|one| line(one)["request"]["user"].as_str().unwrap().to_owned()).collect()
    };
    says("the-first-key-42");
    assert_eq!(users(1)[0], "(secret) the-second-key-42 the-third-key-42");
    let said = live.reload(&text("the-second-key-42"));
    let tee = said["changes"].as_array().unwrap().iter().find(|thing| thing["id"] == "written").unwrap();
    assert_eq!(tee["change"], "unchanged");
    says("the-second-key-42");
    assert_eq!(users(2)[1], "(secret) (secret) the-third-key-42");
}

#[test]
fn series_of_groups_and_routers_that_are_gone_end_once_nobody_is_served_by_them() {
    let (up, other) = (fake("up"), upstream(|_| Plain::json(500).body("{}")));
    let providers = provider("up", "openai", &up.url());
    let rest = provider("other", "openai", &other.url());
    let groups = "[groups.gone-any]\ntype = \"failover\"\nmembers = [\"other/m\", \"gone-kept\"]\n[groups.gone-kept]\ntype = \"cache\"\nto = \"up/m\"\n[groups.other-kind]\ntype = \"cache\"\nto = \"up/m\"\n[routers.gone-auto]\nroutes = [{ to = \"gone-any\" }]\n[groups.gone-panel]\ntype = \"consensus\"\nmembers = [\"up/m\", \"other/m\"]\nquorum = 1\ncombine = \"first\"\n";
    let stays = |kind: &str| format!("[groups.other-kind]\ntype = \"{kind}\"\nto = \"up/m\"\n");
    let live = Live::start(&format!("{providers}{rest}{groups}"));
    ["up", "other"].iter().for_each(|id| live.until_up(id));
    // A panel has its members stream.
    up.open_gate("end");
    for model in ["gone-kept", "gone-kept", "gone-any", "gone-auto", "gone-panel", "other-kind"] {
        assert_eq!(the_same(&live, model).status, 200, "{model}");
    }
    up.close_gate("end");
    let stream = live.stream("gone-auto");
    for series in [
        "demuxai_requests_total{backend=\"gone-auto\"",
        "demuxai_failovers_total{backend=\"gone-any\",from=\"other/m\"",
        "demuxai_routed_requests_total{route=\"1\",router=\"gone-auto\"",
        "demuxai_modified_requests_total{backend=\"gone-kept\"",
        "demuxai_cache_entries{backend=\"other-kind\"}",
        "demuxai_consensus_members_total{group=\"gone-panel\"",
    ] {
        assert!(live.has_series(series), "{series}");
    }
    live.reload(&format!("{providers}{}", stays("dedupe")));
    assert!(live.has_series("=\"gone-auto\""), "it still serves one");
    up.open_gate("end");
    assert!(stream.finish().complete);
    let text = || live.proxy.get("/metrics").text();
    let told = |text: &String| text.contains("\"gone-") || text.contains("\"other/m\"");
    eventually("their series end", text, |text| !told(text));
    eventually("and those of the type that it had", text, |text| {
        !text.contains("demuxai_cache_entries{backend=\"other-kind\"}")
    });
    assert_eq!(the_same(&live, "other-kind").status, 200);
    assert!(live.has_series("demuxai_requests_total{backend=\"other-kind\""), "the id goes on");
    assert!(live.has_series("demuxai_dedupe_bytes{backend=\"other-kind\"}"));
    live.reload(&format!("{providers}{rest}{groups}"));
    live.until_up("other");
    assert_eq!(the_same(&live, "gone-kept").status, 200);
    assert!(live.has_series("demuxai_requests_total{backend=\"gone-kept\""), "it is counted again");
}

#[test]
fn a_clients_counts_are_shown_as_long_as_it_has_limits_and_are_there_when_it_comes_back() {
    let up = fake("up");
    let text = |more: &str| format!("{}{more}", provider("up", "openai", &up.url()));
    let key = "[keys.ide]\nkey = \"ide-key\"\nlimits = [{ requests = 2, per = \"day\" }]\n";
    let group = "[groups.few]\ntype = \"limit\"\nto = \"up/m\"\nlimits = [{ requests = 9, per = \"day\" }]\n";
    let live = Live::start(&text(&format!("{key}{group}")));
    live.until_up("up");
    let ask = || {
        let headers = [("authorization", "Bearer ide-key"), ("content-type", "application/json")];
        let body = chat("few", "");
        client::open(live.proxy.address, "POST", PATH, &headers, body.as_bytes()).finish().status
    };
    let shown = || -> Vec<String> {
        let status = live.proxy.get("/demuxai/status").json();
        let clients = status["clients"].as_array().unwrap().iter();
        clients.map(|client| format!("{}:{}", client["of"], client["id"]).replace('"', "")).collect()
    };
    assert_eq!([ask(), ask()], [200, 200]);
    assert_eq!(shown(), ["key:ide", "limit:few"]);
    live.reload(&text(group));
    assert_eq!(shown(), ["limit:few"]);
    live.reload(&text("[keys.ide]\nkey = \"ide-key\"\n"));
    assert_eq!(shown(), Vec::<String>::new());
    live.reload(&text(&format!("{key}{group}")));
    assert_eq!(shown(), ["key:ide", "limit:few"]);
    assert_eq!(ask(), 429, "what was used stays used");
}

#[test]
fn status_tells_the_limits_that_are_configured_now() {
    let up = fake("up");
    up.open_gate("end");
    let text = |amount: u32, header: &str| {
        format!(
            "{}[keys.ide]\nkey = \"k-ide\"\nlimits = [{{ requests = {amount}, per = \"day\" }}]\n[groups.teams]\ntype = \"limit\"\nto = \"up/m\"\nby = \"header:{header}\"\nlimits = [{{ requests = 9, per = \"day\" }}]\n",
            provider("up", "openai", &up.url())
        )
    };
    let live = Live::start(&text(5, "x-team"));
    live.until_up("up");
    let told = || {
        let status = live.proxy.get("/demuxai/status").json();
        let clients = status["clients"].as_array().expect("clients").iter();
        let of = |entry: &Value| {
            let limit = &entry["limits"][0];
            format!("{} {}: {} of {}", entry["id"], entry["client"], limit["used"], limit["limit"])
        };
        clients.map(of).collect::<Vec<_>>()
    };
    assert_eq!(told(), [r#""ide" "ide": 0 of 5"#], "nothing was used yet");
    let headers =
        [("authorization", "Bearer k-ide"), ("content-type", "application/json"), ("x-team", "red")];
    let body = chat("teams", "");
    let said = client::open(live.proxy.address, "POST", PATH, &headers, body.as_bytes()).finish();
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(told(), [r#""ide" "ide": 1 of 5"#, r#""teams" "red": 1 of 9"#]);
    live.reload(&text(50, "x-squad"));
    assert_eq!(told(), [r#""ide" "ide": 1 of 50"#], "no team is a squad");
}
