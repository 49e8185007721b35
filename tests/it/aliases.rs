//! Other names for models, and what the model list shows to whom: what is not listed can still be asked for.

use demuxai::demo::server::Fake;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::proxy::{Proxy, provider};
use crate::support::upstreams::{chat, heard, ids, ids_of, last_call, listing, ok_chat};
use crate::support::{eventually, nowhere};

const PATH: &str = "/v1/chat/completions";

fn upstream() -> Fake {
    let entries = json!([
        {"id": "large-2411", "object": "model", "aliases": ["large-latest"], "max_context_length": 131_072},
        {"id": "large-latest", "object": "model", "aliases": ["large-2411"], "max_context_length": 131_072},
        {"id": "embed", "object": "model"}
    ]);
    listing(entries, |received| {
        if !String::from_utf8_lossy(&received.body).contains("\"stream\":true") {
            return ok_chat();
        }
        let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
        demuxai::demo::Answer::events().chunked().event(chunk).event("[DONE]").last_chunk()
    })
}

/// The daemon in front of one upstream `up`, with more lines for it and after it.
fn daemon(fake: &Fake, more: &str, after: &str) -> Proxy {
    heard(&format!("{}{more}\n{after}", provider("up", "mistral", &fake.url())))
}

/// The ids that the model list shows to a client with this key.
fn listed_for(proxy: &Proxy, key: &str) -> Vec<String> {
    ids_of(&proxy.get_as(key, "/v1/models").json())
}

fn chat_with(proxy: &Proxy, key: &str, model: &str) -> Answer {
    proxy.post_as(key, PATH, &chat(model))
}

fn one(proxy: &Proxy, id: &str) -> Value {
    let answer = proxy.get(&format!("/v1/models/{id}"));
    assert_eq!(answer.status, 200, "{id}: {}", answer.text());
    answer.json()
}

#[test]
fn an_alias_is_what_it_stands_for_under_its_own_name() {
    let fake = upstream();
    let proxy = daemon(
        &fake,
        "",
        r#"
[groups.coder]
type = "failover"
name = "Coder"
members = ["up/large-2411"]
[aliases]
"gpt-4o" = "up/large-latest"
"openai/gpt-4.1" = { to = "coder", description = "In truth a group" }
"#,
    );
    for (alias, sent) in [("gpt-4o", "large-latest"), ("openai/gpt-4.1", "large-2411")] {
        let answer = proxy.post(PATH, &chat(alias));
        assert_eq!(answer.status, 200, "{alias}: {}", answer.text());
        assert_eq!(last_call(&fake).json()["model"], sent);
        assert_eq!(answer.json()["model"], "up/m", "the answer says which model it was");
        assert_eq!(answer.header("x-demuxai-model"), Some(sent));
    }
    let plain = one(&proxy, "gpt-4o");
    assert_eq!(plain["alias_of"], "up/large-latest");
    assert_eq!(plain["context_length"], 131_072);
    let group = one(&proxy, "openai/gpt-4.1");
    assert_eq!(
        (&group["display_name"], &group["description"]),
        (&json!("Coder"), &json!("In truth a group"))
    );
    assert_eq!(&ids(&proxy)[4..], ["gpt-4o", "openai/gpt-4.1"], "after providers and groups");
}

#[test]
fn an_alias_of_nothing_is_not_listed_and_says_what_it_stands_for() {
    let fake = upstream();
    let proxy = daemon(&fake, "", "[aliases]\n\"gpt-4o\" = \"up/gone\"\n");
    // A list that was fetched a moment ago is what denies a model.
    let list = eventually(
        "the list says that the alias is dead",
        || {
            let list = proxy.get("/v1/models").json();
            let _ = proxy.post(PATH, &chat("gpt-4o"));
            list
        },
        |list| list["notices"][0]["alias"] == "gpt-4o",
    );
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    assert_eq!(list["notices"][0]["message"], "not listed: there is no `up/gone`, which it stands for");
    let answer = proxy.post(PATH, &chat("gpt-4o"));
    assert_eq!(answer.status, 404);
    assert!(
        answer.error().starts_with("`gpt-4o` stands for `up/gone`: no model `up/gone`"),
        "{}",
        answer.error()
    );
}

#[test]
fn what_is_hidden_is_not_listed_but_answers() {
    let fake = upstream();
    let proxy = daemon(
        &fake,
        "hidden = [\"embed\", \"*-2411\"]\n",
        r#"
[groups.coder]
type = "failover"
members = ["up/large-2411"]
hidden = true
[routers.auto]
routes = [{ to = "coder" }]
hidden = true
[aliases]
"gpt-4o" = { to = "auto", hidden = true }
"#,
    );
    assert_eq!(ids(&proxy), ["up/large-latest"]);
    for hidden in ["up/embed", "up/large-2411", "coder", "auto", "gpt-4o"] {
        let answer = proxy.post(PATH, &chat(hidden));
        assert_eq!(answer.status, 200, "{hidden}: {}", answer.text());
        assert_eq!(one(&proxy, hidden)["id"], hidden);
    }
}

#[test]
fn a_provider_can_be_hidden_as_a_whole() {
    let fake = upstream();
    let proxy = daemon(&fake, "hidden = true\n", "");
    assert_eq!(ids(&proxy), Vec::<String>::new());
    assert_eq!(proxy.post(PATH, &chat("up/embed")).status, 200);
}

#[test]
fn a_model_under_several_names_can_be_listed_once_and_asked_for_by_each() {
    let fake = upstream();
    let proxy = daemon(&fake, "list_aliases = false\n", "");
    assert_eq!(ids(&proxy), ["up/large-latest", "up/embed"]);
    let list = proxy.get("/v1/models").json();
    assert_eq!(list["data"][0]["aliases"], json!(["large-2411"]));
    for name in ["up/large-2411", "up/large-latest"] {
        assert_eq!(proxy.post(PATH, &chat(name)).status, 200);
        assert_eq!(last_call(&fake).json()["model"], name[3..]);
    }
    let folded = daemon(&fake, "list_aliases = false\nhidden = [\"*-latest\"]\n", "");
    assert_eq!(ids(&folded), ["up/large-2411", "up/embed"], "a hidden name does not take the model with it");
}

#[test]
fn the_list_is_what_this_client_is_to_see_here() {
    let fake = upstream();
    let proxy = daemon(
        &fake,
        "",
        r#"
[keys.ide]
key = "of-the-ide"
listed_models = ["gpt-4o", "up/*"]
[keys.phone]
key = "of-the-phone"
models = ["gpt-4o"]
[keys.all]
key = "of-all"
[aliases]
"gpt-4o" = "up/large-latest"
"other" = "up/embed"
[listeners.local]
address = "127.0.0.1:0"
listed_models = ["*-latest", "*-4o", "other"]
"#,
    );
    assert_eq!(listed_for(&proxy, "of-the-ide"), ["up/large-latest", "gpt-4o"]);
    assert_eq!(listed_for(&proxy, "of-the-phone"), ["gpt-4o"]);
    assert_eq!(listed_for(&proxy, "of-all"), ["up/large-latest", "gpt-4o", "other"]);
    for model in ["other", "up/embed"] {
        assert_eq!(chat_with(&proxy, "of-the-ide", model).status, 200, "listed_models forbids nothing");
        assert_eq!(chat_with(&proxy, "of-the-phone", model).status, 403, "models does");
    }
    assert_eq!(
        chat_with(&proxy, "of-the-phone", "gpt-4o").status,
        200,
        "an alias may be all that a key may use"
    );
    assert_eq!(chat_with(&proxy, "of-the-phone", "up/large-latest").status, 403);
}

#[test]
fn neither_a_group_nor_an_alias_is_shown_to_a_key_that_may_not_use_it() {
    let fake = upstream();
    let proxy = daemon(
        &fake,
        "",
        r#"
[keys.phone]
key = "of-the-phone"
models = ["gpt-4o", "mine"]
[keys.search]
key = "of-the-search"
models = ["up/embed"]
[groups.mine]
type = "failover"
members = ["up/large-2411"]
[groups.theirs]
type = "failover"
members = ["up/large-2411"]
[aliases]
"gpt-4o" = "up/large-latest"
"other" = "up/embed"
"#,
    );
    assert_eq!(listed_for(&proxy, "of-the-phone"), ["mine", "gpt-4o"]);
    assert_eq!(
        listed_for(&proxy, "of-the-search"),
        ["up/embed", "other"],
        "it may use what the alias stands for"
    );
    let looked_at = |key: &str, id: &str| proxy.get_as(key, &format!("/v1/models/{id}")).status;
    for (id, phone, search) in
        [("mine", 200, 404), ("theirs", 404, 404), ("gpt-4o", 200, 404), ("other", 404, 200)]
    {
        assert_eq!((looked_at("of-the-phone", id), looked_at("of-the-search", id)), (phone, search), "{id}");
    }
}

#[test]
fn an_error_names_no_model_that_a_client_is_not_to_see_and_the_nearest_that_it_is() {
    let fake = upstream();
    let more = r#"
[keys.phone]
key = "of-the-phone"
models = ["gpt-4o", "up/embed"]
[keys.ide]
key = "of-the-ide"
listed_models = ["up/large-2411"]
[keys.all]
key = "of-all"
[groups.large-group]
type = "failover"
members = ["up"]
hidden = true
[aliases]
"gpt-4o" = "up/large-latest"
"large-alias" = { to = "up/large-latest", hidden = true }
"#;
    let proxy = daemon(&fake, "hidden = [\"*-latest\"]", more);
    let said = |key: &str, model: &str| {
        let answer = chat_with(&proxy, key, model);
        assert_eq!(answer.status, 404, "{}", answer.text());
        answer.error()
    };
    for (key, model, near) in [
        ("of-the-phone", "up/embedd", "`up/embed`"),
        ("of-the-phone", "gpt-4", "`gpt-4o`"),
        ("of-the-ide", "up/large-24", "`up/large-2411`"),
    ] {
        let error = said(key, model);
        assert!(error.ends_with(&format!("nearest: {near}")), "{key} {model}: {error}");
    }
    let error = said("of-the-phone", "up/large-24");
    assert!(!error.contains("large-2411") && !error.contains("latest"), "{error}");
    for model in ["large-alia", "large-grou", "up/large-lates", "large-group/large-lates"] {
        let error = said("of-all", model);
        let error = error.split_once(';').map_or("", |(_, rest)| rest);
        for hidden in ["`large-alias`", "`large-group`", "-latest`"] {
            assert!(!error.contains(hidden), "{hidden} is hidden; {model}: {error}");
        }
    }
    assert!(said("of-all", "up/large-241").contains("`up/large-2411`"));
}

#[test]
fn one_model_of_a_group_can_be_looked_at_by_the_id_that_it_is_asked_for_with() {
    let fake = upstream();
    let proxy = daemon(
        &fake,
        "",
        "[groups.free]\ntype = \"failover\"\nmembers = [\"up\"]\n[keys.ide]\nkey = \"k1\"\nmodels = [\"free/large-*\"]\n[keys.all]\nkey = \"k2\"\n",
    );
    let look = |key: &str, id: &str| proxy.get_as(key, &format!("/v1/models/{id}"));
    let found = look("k2", "free/large-2411");
    assert_eq!(found.status, 200, "{}", found.text());
    let found = found.json();
    assert_eq!((&found["id"], &found["context_length"]), (&json!("free/large-2411"), &json!(131_072)));
    assert_eq!(found["members"], json!(["up"]));
    assert_eq!([look("k1", "free/large-2411").status, look("k1", "free/embed").status], [200, 404]);
    assert_eq!(chat_with(&proxy, "k1", "free/large-2411").status, 200, "as it can be asked for");
}

#[test]
fn a_key_that_may_use_a_part_hears_nothing_of_providers_beyond_it() {
    let fake = upstream();
    let absent = nowhere();
    let more = format!(
        "[keys.phone]\nkey = \"of-the-phone\"\nmodels = [\"up/embed\"]\n[keys.all]\nkey = \"of-all\"\n{}",
        provider("absent", "openai", &absent)
    );
    let proxy = heard(&format!("{}{more}", provider("up", "mistral", &fake.url())));
    let list = |key: &str| proxy.get_as(key, "/v1/models").text();
    eventually("all hear that it is not there", || list("of-all"), |text| text.contains("\"absent\""));
    assert!(!list("of-the-phone").contains("absent"), "{}", list("of-the-phone"));
    assert_eq!(listed_for(&proxy, "of-the-phone"), ["up/embed"]);
}

#[test]
fn who_answers_behind_a_group_is_told_to_those_alone_who_may_read_of_it() {
    let fakes = [(); 2].map(|()| upstream());
    let [secret, open] = &fakes;
    let entries = json!([{"id": "large-latest", "object": "model"}]);
    let broken = listing(entries, |_| demuxai::demo::Answer::json(500).body("{}"));
    let proxy = Proxy::start(&format!(
        "{}limits = [{{ requests = 2, per = \"day\" }}]\n{}{}{}",
        provider("secret", "openai", &secret.url()),
        provider("open", "openai", &open.url()),
        provider("secret-too", "openai", &broken.url()),
        r#"
[groups.both]
type = "failover"
members = ["secret-too/large-latest", "open/large-latest"]
[groups.hushed]
type = "failover"
members = ["secret/large-latest"]
[routers.ways]
routes = [{ to = "hushed" }]
[routers.door]
routes = [{ to = "ways" }]
[keys.phone]
key = "of-the-phone"
models = ["both", "hushed", "door", "open/*"]
[keys.ide]
key = "of-the-ide"
listed_models = ["both", "hushed", "door", "open/*"]
[keys.all]
key = "of-all"
[state]
path = "none"
"#
    ));
    for id in ["secret", "open", "secret-too"] {
        proxy.until_up(id);
    }
    let headers =
        |answer: &Answer| answer.headers.iter().map(|(_, value)| format!("{value}\n")).collect::<String>();
    let stream = |key: &str, model: &str| {
        let body = chat(model).replacen('{', r#"{"stream":true,"#, 1);
        proxy.post_as(key, PATH, &body)
    };
    let all = chat_with(&proxy, "of-all", "both");
    assert_eq!(all.header("x-demuxai-attempts"), Some("secret-too/large-latest upstream_status, open ok"));
    // As long as it answers, and once it has nothing left.
    for (key, answer) in [
        ("of-the-phone", chat_with(&proxy, "of-the-phone", "door")),
        ("of-the-ide", stream("of-the-ide", "hushed")),
        ("of-the-phone", chat_with(&proxy, "of-the-phone", "both")),
        ("of-the-ide", stream("of-the-ide", "both")),
        ("of-the-phone", chat_with(&proxy, "of-the-phone", "hushed")),
        ("of-the-ide", chat_with(&proxy, "of-the-ide", "door")),
        ("of-the-ide", stream("of-the-ide", "hushed")),
    ] {
        let told = format!("{}{}", headers(&answer), answer.text());
        assert!(!told.contains("secret") && !told.contains("ways"), "{key}: {told}");
        if answer.header("x-demuxai-provider") != Some("open") {
            assert!(!told.contains("large-latest"), "{key}: {told}");
        }
    }
    let refused = chat_with(&proxy, "of-the-phone", "hushed");
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
    assert_eq!(refused.error(), "`hushed` has no capacity now (exhausted)");
    let all = chat_with(&proxy, "of-all", "hushed");
    assert!(all.error().contains("`secret`") && headers(&all).contains("secret"), "{}", all.text());
    let other = chat_with(&proxy, "of-the-phone", "both");
    assert_eq!(
        (other.header("x-demuxai-provider"), other.header("x-demuxai-attempts")),
        (Some("open"), Some("open ok"))
    );
    let look = |key: &str| proxy.get_as(key, "/v1/models/both").json();
    assert_eq!(look("of-the-ide")["members"], json!(["open/large-latest"]));
    assert_eq!(look("of-all")["members"], json!(["secret-too/large-latest", "open/large-latest"]));
}
