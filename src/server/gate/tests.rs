//! Tests of the gate: each accepted and each refused form, by the rule it follows.

use std::net::SocketAddr;
use std::time::Duration;

use globset::{Glob, GlobSetBuilder};

use super::*;
use crate::config::secret::Secret;

fn listener(hosts: &[&str], origins: &[&str]) -> Listener {
    Listener {
        listed: None,
        id: "local".to_owned(),
        address: SocketAddr::from(([127, 0, 0, 1], 6041)),
        api: true,
        metrics: true,
        admin: true,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        max_body: 1024,
        workers: 1,
        keep_alive: Duration::from_secs(15),
        stalled_reader: Duration::from_secs(60),
        drain: Duration::from_secs(1),
    }
}

fn key(id: &str, value: &str, models: Option<&str>) -> ClientKey {
    let models = models.map(|glob| GlobSetBuilder::new().add(Glob::new(glob).unwrap()).build().unwrap());
    let limits = Vec::new();
    ClientKey { id: id.to_owned(), key: Secret::new(value), models, listed: None, limits }
}

#[test]
fn own_names_and_address_literals_are_served() {
    let listener = listener(&["box.example"], &[]);
    for host in [
        "127.0.0.1:6041",
        "localhost",
        "LOCALHOST:1",
        "[::1]:6041",
        "192.168.1.5:6041",
        "nas.local:6041",
        "host.docker.internal",
        "box.example:6041",
        "localhost.",
    ] {
        assert!(check_host(&listener, Some(host)).is_ok(), "{host}");
    }
    assert!(check_host(&listener, None).is_ok());
}

#[test]
fn a_foreign_host_is_refused_and_the_message_says_where_to_allow_it() {
    let listener = listener(&[], &[]);
    for host in ["evil.example", "evil.example:6041", "127.0.0.1.evil.example", "localhost.evil.example"] {
        let error = check_host(&listener, Some(host)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Forbidden, "{host}");
        assert!(error.message.contains("`hosts` of listener `local`"), "{}", error.message);
    }
}

#[test]
fn editors_and_local_pages_may_call_and_foreign_ones_may_not() {
    let listener = listener(&[], &["https://chat.example"]);
    for origin in [
        "http://localhost:3000",
        "https://127.0.0.1",
        "vscode-webview://abc",
        "https://chat.example",
        "app://obsidian.md",
    ] {
        assert_eq!(check_origin(&listener, Some(origin)), Ok(Origin::Allowed), "{origin}");
    }
    for origin in
        ["https://evil.example", "null", "http://localhost.evil.example", "http://evil.example/localhost"]
    {
        assert!(check_origin(&listener, Some(origin)).is_err(), "{origin}");
    }
    assert_eq!(check_origin(&listener, None), Ok(Origin::None));
}

#[test]
fn without_keys_everyone_is_welcome_with_any_key_or_none() {
    assert!(matches!(authenticate(&[], None), Ok(None)));
    assert!(matches!(authenticate(&[], Some("whatever")), Ok(None)));
}

#[test]
fn with_keys_only_a_listed_one_is() {
    let keys = [key("ide", "secret-1", None), key("agent", "secret-2", None)];
    let found = authenticate(&keys, Some("secret-2")).ok().flatten();
    assert_eq!(found.map(|key| key.id.as_str()), Some("agent"));
    assert!(authenticate(&keys, None).is_err());
    assert!(authenticate(&keys, Some("  ")).is_err());
    let wrong = authenticate(&keys, Some("secret-3")).err().unwrap();
    assert!(!wrong.message.contains("secret-3"));
}

#[test]
fn blank_keys_in_one_header_do_not_hide_a_key_in_another() {
    let blank_bearer = |name: &str| match name {
        "authorization" => Some("Bearer "),
        "x-api-key" => Some("k"),
        _ => None,
    };
    assert_eq!(given_key(blank_bearer), Some("k"));
    assert_eq!(given_key(|name| (name == "authorization").then_some("bearer  abc ")), Some("abc"));
    assert_eq!(given_key(|name| (name == "authorization").then_some("Bearer")), None);
    assert_eq!(given_key(|name| (name == "authorization").then_some("Basic abc")), None);
}

#[test]
fn a_restricted_key_is_held_to_its_models() {
    let ide = key("ide", "k", Some("ollama/*"));
    assert!(check_model(Some(&ide), None, "ollama", "qwen3").is_ok());
    assert!(check_model(Some(&ide), None, "mistral", "large").is_err());
    assert!(check_model(None, None, "mistral", "large").is_ok());
}

#[test]
fn a_restricted_key_hears_no_names_of_other_models() {
    let error = || {
        ProxyError::new(ErrorKind::ModelNotFound, "no model `x`; nearest: `mistral/large`")
            .with_param("model")
    };
    let veiled = veil(error(), &["ollama/x"]);
    assert_eq!((veiled.kind, veiled.param.as_deref()), (ErrorKind::ModelNotFound, Some("model")));
    assert!(!veiled.message.contains("mistral"), "{}", veiled.message);
    assert!(veiled.message.ends_with("; nearest: `ollama/x`"), "{}", veiled.message);
    assert!(!veil(error(), &[]).message.contains("nearest"));
    let here = listener(&[], &[]);
    assert!(!sees_a_part(&here, None) && !sees_a_part(&here, Some(&key("all", "k", None))));
    assert!(sees_a_part(&here, Some(&key("ide", "k", Some("ollama/*")))));
    let listed = key("ide", "k", Some("ollama/*")).models;
    assert!(sees_a_part(&here, Some(&ClientKey { listed: listed.clone(), ..key("all", "k", None) })));
    assert!(sees_a_part(&Listener { listed, ..here }, None));
}
