//! Who may ask after a reload, what is shown to whom, and what a reload must not open.

use super::*;

fn ids(live: &Live, key: &str) -> Vec<String> {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    let list = client::open(live.proxy.address, "GET", "/v1/models", &headers, b"").finish().json();
    let entries = list["data"].as_array().expect("data").iter();
    entries.map(|entry| entry["id"].as_str().expect("id").to_owned()).collect()
}

#[test]
fn aliases_and_what_is_listed_for_whom_follow_a_reload() {
    let up = fake("up");
    let provider = provider("up", "openai", &up.url());
    let group = "[groups.g]\ntype = \"failover\"\nmembers = [\"up/m\"]\n";
    let keys = |listed: &str| format!("[keys.a]\nkey = \"k-a\"\n[keys.b]\nkey = \"k-b\"\n{listed}");
    let live = Live::start(&format!("{provider}{group}{}[aliases]\ngpt = \"up/m\"\n", keys("")));
    live.until_up("up");
    assert_eq!(ids(&live, "k-a"), ["up/m", "g", "gpt"]);
    let ask = |model: &str| {
        let headers = [("authorization", "Bearer k-a"), ("content-type", "application/json")];
        client::open(live.proxy.address, "POST", PATH, &headers, chat(model, "").as_bytes()).finish()
    };
    assert_eq!(content(&ask("gpt")), "up");
    let hidden = format!("{provider}hidden = true\n{group}hidden = true\n");
    live.reload(&format!("{hidden}{}[aliases]\nother = \"g\"\n", keys("")));
    assert_eq!(ids(&live, "k-a"), ["other"]);
    assert_eq!(ask("gpt").status, 404);
    for model in ["other", "g", "up/m"] {
        assert_eq!(content(&ask(model)), "up", "{model} is not listed, or is, and answers");
    }
    let listed = keys("listed_models = [\"g\"]\n");
    live.reload(&format!("{provider}{group}{listed}[aliases]\nother = {{ to = \"g\", hidden = true }}\n"));
    assert_eq!(
        (ids(&live, "k-a"), ids(&live, "k-b")),
        (vec!["up/m".to_owned(), "g".to_owned()], vec!["g".to_owned()])
    );
    let here = format!("{LISTENER}listed_models = [\"up/*\"]\n");
    assert_eq!(live.try_reload_with(&format!("{provider}{group}{}", keys("")), &here).status, 200);
    assert_eq!(ids(&live, "k-a"), ["up/m"]);
    assert_eq!(ask("other").status, 404);
}

#[test]
fn the_key_for_changes_changes_with_a_reload() {
    let live = Live::start("");
    let text = |key: &str| *live.text.lock().unwrap() = format!("{LISTENER}{COMMON}").replace("changes", key);
    text("rotated");
    assert_eq!(live.change("/demuxai/reload", "changes").status, 200);
    assert_eq!(live.change("/demuxai/reload", "changes").status, 401);
    assert_eq!(live.change("/demuxai/reload", "rotated").status, 200);
}

#[test]
fn a_listener_that_is_taken_out_goes_on_as_it_was_then() {
    let live = Live::start("");
    let host = || {
        let head = "GET /v1/models HTTP/1.1\r\nhost: box.example\r\n\r\n";
        client::exchange(live.proxy.address, head.as_bytes()).finish().status
    };
    let other = "[listeners.other]\naddress = \"127.0.0.1:0\"\n";
    let more = format!("{LISTENER}hosts = [\"box.example\"]\n");
    assert_eq!(host(), 403);
    assert_eq!(live.try_reload_with("", &more).status, 200);
    assert_eq!(host(), 200);
    let said = live.try_reload_with("", other).json();
    assert_eq!(said["needs_restart"], serde_json::json!(["listeners.other", "listeners.test"]), "{said}");
    assert_eq!(host(), 200, "as it was last, not as it was at start");
    assert_eq!(live.try_reload_with("[keys.k]\nkey = \"k\"\n", other).status, 200);
    assert_eq!(host(), 401, "keys are everybody's");
    assert_eq!(live.try_reload_with("", LISTENER).status, 200);
    assert_eq!(host(), 403);
}

#[test]
fn what_a_reload_would_refuse_for_the_daemon_that_runs_is_told_by_diff_too() {
    let live = Live::start("");
    let itself = provider("self", "openai", &format!("http://{}", live.proxy.address));
    let at = live.proxy.metric("demuxai_config_reload_success_timestamp_seconds");
    *live.text.lock().unwrap() = format!("{itself}{LISTENER}{COMMON}");
    for path in ["/demuxai/diff", "/demuxai/reload"] {
        let said = live.change(path, "changes");
        assert_eq!(said.status, 400, "{path}: {}", said.text());
        assert!(said.error().contains("providers.self.url: is demuxai itself"), "{}", said.error());
        assert_eq!(said.json()["error"]["code"], "configuration_refused");
    }
    assert_eq!(live.proxy.metric("demuxai_config_reload_success_timestamp_seconds"), at);
}

#[test]
fn a_provider_that_cannot_be_made_is_a_reason_to_refuse_the_whole() {
    let (up, folder) = (fake("up"), tempfile::tempdir().unwrap());
    let certificate = folder.path().join("ca.pem");
    std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n").unwrap();
    let text = provider("up", "openai", &up.url());
    let live = Live::start(&text);
    live.until_up("up");
    let odd = format!(
        "{}ca_file = {:?}\n",
        provider("odd", "openai", "https://127.0.0.1:1"),
        certificate.display().to_string()
    );
    for text in [format!("{text}{odd}"), odd] {
        let said = live.try_reload(&text);
        assert_eq!(said.status, 400, "{}", said.text());
        assert!(said.error().contains("odd"), "{}", said.error());
        assert_eq!(content(&live.ask("up/m")), "up", "what serves serves on");
        assert_eq!(live.ask("odd/m").status, 404);
    }
    assert_eq!(live.proxy.metric("demuxai_config_reload_success"), 0.0);
}
