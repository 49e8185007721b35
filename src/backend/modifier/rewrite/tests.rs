//! What is changed in a request, and that all else keeps its bytes.

use super::super::scene::{Script, Upstream, WHOLE, ask, call};
use super::*;
use crate::backend::strategy::Availability;
use crate::dialect::{CHAT_COMPLETIONS, EMBEDDINGS, read};

fn fields(fields: &[(&str, &str)]) -> Vec<(String, Bytes)> {
    fields.iter().map(|(key, raw)| ((*key).to_owned(), Bytes::copy_from_slice(raw.as_bytes()))).collect()
}

fn cap(key: &str, most: f64) -> (String, f64, Bytes) {
    (key.to_owned(), most, Bytes::from(most.to_string()))
}

/// The members behind `messages`, and what is told of the changes.
fn applied(changes: &Changes, more: &str) -> Option<(String, Vec<String>)> {
    const HEAD: &str = r#"{"model":"m","messages":[]"#;
    let request = read(&CHAT_COMPLETIONS, Bytes::from(format!("{HEAD}{more}}}"))).unwrap();
    let (changed, told) = changes.apply(&request)?;
    let body = String::from_utf8(changed.body.to_vec()).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap();
    Some((body.strip_prefix(HEAD)?.strip_suffix('}')?.to_owned(), told))
}

#[test]
fn what_is_set_takes_the_place_of_what_was_there_and_is_told_only_if_it_is_another() {
    let changes = Changes { set: fields(&[("temperature", "0.2")]), ..Changes::default() };
    let (body, told) = applied(&changes, r#", "temperature" : 1, "x":{"a" : 1e3}"#).unwrap();
    assert_eq!(body, r#", "temperature" : 0.2, "x":{"a" : 1e3}"#);
    assert_eq!(told, ["set:temperature"]);
    assert_eq!(applied(&changes, r#","temperature":0.2"#), None);
    assert_eq!(applied(&changes, "").unwrap().0, r#","temperature":0.2"#);
}

#[test]
fn a_default_is_for_what_is_absent_or_null_by_either_of_its_words() {
    let changes = Changes { default: fields(&[("max_tokens", "100")]), ..Changes::default() };
    assert_eq!(
        applied(&changes, "").unwrap(),
        (r#","max_tokens":100"#.into(), vec!["default:max_tokens".into()])
    );
    assert_eq!(applied(&changes, r#","max_tokens":null"#).unwrap().0, r#","max_tokens":100"#);
    assert_eq!(applied(&changes, r#","max_tokens":5"#), None);
    assert_eq!(applied(&changes, r#","max_completion_tokens":5"#), None);
}

#[test]
fn a_cap_lowers_numbers_by_either_word_and_holds_for_what_was_set_and_for_defaults() {
    let changes =
        Changes { cap: vec![cap("max_tokens", 64.0), cap("temperature", 0.5)], ..Changes::default() };
    let (body, told) = applied(&changes, r#","max_completion_tokens":4096,"temperature":0.5"#).unwrap();
    assert_eq!(
        (body.as_str(), told),
        (r#","max_completion_tokens":64,"temperature":0.5"#, vec!["cap:max_completion_tokens".into()])
    );
    assert_eq!(applied(&changes, r#","max_tokens":64,"temperature":null"#), None);
    assert_eq!(applied(&changes, ""), None, "what is absent stays so");
    for changes in [
        Changes { set: fields(&[("max_tokens", "999")]), ..changes.clone() },
        Changes { default: fields(&[("max_tokens", "999")]), ..changes },
    ] {
        assert_eq!(applied(&changes, "").unwrap().0, r#","max_tokens":64"#);
    }
}

#[test]
fn what_is_not_known_to_be_within_a_cap_is_capped() {
    let caps = vec![cap("max_tokens", 64.0), cap("frequency_penalty", 1.0)];
    let changes = Changes { cap: caps, ..Changes::default() };
    for unbounded in ["-1", "\"100\"", "1e9", "[1]", "{}", "true"] {
        let body = applied(&changes, &format!(r#","max_tokens":{unbounded}"#)).unwrap().0;
        assert_eq!(body, r#","max_tokens":64"#, "{unbounded}");
    }
    assert_eq!(applied(&changes, r#","frequency_penalty":-2"#), None, "that is a number like any other");
}

#[test]
fn what_is_said_of_answers_is_not_said_to_embeddings() {
    let changes = Changes {
        set: fields(&[("temperature", "0.2"), ("dimensions", "64")]),
        default: fields(&[("max_tokens", "100")]),
        ..Changes::default()
    };
    let request = read(&EMBEDDINGS, Bytes::from(r#"{"model":"m","input":"x"}"#)).unwrap();
    let (changed, told) = changes.apply(&request).unwrap();
    assert_eq!(changed.body, r#"{"model":"m","input":"x","dimensions":64}"#);
    assert_eq!(told, ["set:dimensions"]);
}

#[test]
fn a_value_that_is_set_has_no_other_word_for_it_beside_it() {
    let changes = Changes { set: fields(&[("max_tokens", "50")]), ..Changes::default() };
    let (body, told) = applied(&changes, r#","max_completion_tokens":4096,"x":1"#).unwrap();
    assert_eq!(body, r#","x":1,"max_tokens":50"#);
    assert_eq!(told, ["set:max_tokens", "drop:max_completion_tokens"]);
    let capped = Changes { cap: vec![cap("max_completion_tokens", 20.0)], ..changes };
    assert_eq!(applied(&capped, r#","max_completion_tokens":4096"#).unwrap().0, r#","max_tokens":20"#);
}

#[test]
fn what_is_written_twice_slips_past_no_cap_and_no_value_that_is_set() {
    let changes = Changes {
        cap: vec![cap("max_tokens", 64.0)],
        set: fields(&[("temperature", "0.2")]),
        ..Changes::default()
    };
    let twice = r#","max_tokens":1,"temperature":0.2,"max_tokens":9999,"temperature":2"#;
    let (body, _) = applied(&changes, twice).unwrap();
    assert_eq!((body.matches("max_tokens").count(), body.matches("temperature").count()), (1, 1), "{body}");
    assert!(body.contains(r#""max_tokens":64"#) && body.contains(r#""temperature":0.2"#), "{body}");
}

#[test]
fn what_is_removed_is_gone_and_may_get_a_default() {
    let changes = Changes { remove: vec!["seed".into(), "user".into()], ..Changes::default() };
    let (body, told) = applied(&changes, r#","seed":1,"top_p":1,"user":"u""#).unwrap();
    assert_eq!((body.as_str(), told), (r#","top_p":1"#, vec!["drop:seed".to_owned(), "drop:user".into()]));
    assert_eq!(applied(&changes, r#","top_p":1"#), None);
    let changes = Changes { default: fields(&[("seed", "7")]), ..changes };
    assert_eq!(applied(&changes, r#","seed":1"#).unwrap().0, r#","seed":7"#);
}

/// A rewrite over one backend that has another name for others' models.
fn renaming(upstream: &Arc<Upstream>, other: &Arc<Upstream>) -> Arc<Rewriting> {
    let to = Member { model: None, ..other.wrapped("rewrite").inner };
    let names = Glob::parse("gpt-*").unwrap();
    let own = Member { model: None, ..upstream.wrapped("rewrite").inner };
    let wrapped = Wrapped { inner: own, ..upstream.wrapped("rewrite") };
    let changes = Changes { set: fields(&[("seed", "1")]), ..Changes::default() };
    Arc::new(Rewriting { wrapped, changes, renamed: vec![Renamed { names, to }] })
}

fn asking_for(model: &str) -> Call {
    Call { model: Arc::from(model), edits: Arc::new(vec!["before".to_owned()]), ..call(r#""messages":[]"#) }
}

#[tokio::test]
async fn a_model_by_another_name_goes_to_whoever_is_meant_with_all_changes_named() {
    let (own, other) = (answering(), answering());
    let rewriting = renaming(&own, &other);
    ask(&rewriting, asking_for("gpt-4o")).await.unwrap();
    ask(&rewriting, asking_for("qwen")).await.unwrap();
    let asked = |upstream: &Upstream| {
        let asked = upstream.asked.lock().unwrap();
        let all = asked.iter().map(|call| (call.model.to_string(), call.edits.join(" ")));
        all.collect::<Vec<_>>()
    };
    assert_eq!(asked(&other), [(String::new(), "before rename:model set:seed".to_owned())]);
    assert_eq!(asked(&own), [("qwen".to_owned(), "before set:seed".to_owned())]);
}

#[test]
fn a_rewrite_stands_as_whoever_is_meant_and_all_of_them_are_below() {
    let (own, other) = (answering(), answering());
    let rewriting = renaming(&own, &other);
    *other.availability.lock().unwrap() = Availability::Never;
    for (model, stands) in
        [("gpt-4o", Availability::Never), ("qwen", Availability::Now), ("", Availability::Now)]
    {
        let call = asking_for(model);
        assert_eq!(rewriting.outlook(&call).unwrap().availability, stands, "{model}");
        assert_eq!(rewriting.standing(&call).unwrap().availability, stands, "{model}");
    }
    assert_eq!(&*rewriting.outlook(&asking_for("gpt-4o")).unwrap().model, "", "it is asked for no model");
    assert_eq!(&*rewriting.standing(&asking_for("gpt-4o")).unwrap().model, "");
    assert_eq!(rewriting.below("").len(), 2, "nobody said yet who is meant");
    let below = |asked: &str| {
        rewriting.below(asked).iter().map(|one| (one.model.map(str::to_owned), one.takes)).collect::<Vec<_>>()
    };
    assert_eq!(below("gpt-4o"), [(Some(String::new()), true)]);
    assert_eq!(below("qwen"), [(None, true)]);
    let to = other.wrapped("rewrite").inner;
    let named = Rewriting {
        wrapped: own.wrapped("rewrite"),
        changes: Changes::default(),
        renamed: vec![Renamed { names: Glob::parse("gpt-*").unwrap(), to }],
    };
    let below = named.below("gpt-4o");
    assert_eq!((below[0].model, below[0].takes), (Some("m"), true), "whatever its own name");
}

fn answering() -> Arc<Upstream> {
    Upstream::new([Script::Whole(std::time::Duration::ZERO, WHOLE.to_owned())])
}
