//! What an account admits of requests as they come: their sizes, and whose turn it is.

use bytes::Bytes;

use super::*;
use crate::backend::size::MEDIUM;
use crate::dialect::{CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, Endpoint, Usage, read};

fn limit(unit: &str, amount: u64, per: Option<&str>, models: Option<&str>, source: Source) -> Limit {
    Limit::parse(unit, amount, per, models, false, None, None, source).unwrap()
}

fn account(limits: Vec<Limit>) -> Arc<Capacity> {
    let waiting = Waiting { most: Duration::from_secs(30), queue: 9 };
    Capacity::new(Arc::from("p"), limits, Breaker::new(), waiting, State::nowhere(), &[])
}

fn of(endpoint: &Endpoint, more: &str) -> Size {
    let body = Bytes::from(format!(r#"{{"model":"m",{more}}}"#));
    Size::of(&read(endpoint, body).unwrap())
}

fn chat(more: &str) -> Size {
    of(&CHAT_COMPLETIONS, &format!(r#""messages":[{{"role":"user","content":"x"}}]{more}"#))
}

/// A question about an image of so many bytes.
fn with_image(bytes: usize) -> Size {
    let data = "A".repeat(bytes);
    of(
        &CHAT_COMPLETIONS,
        &format!(
            r#""max_tokens":10,"messages":[{{"role":"user","content":[{{"type":"text","text":"what?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]"#
        ),
    )
}

/// A prompt of so many bytes.
fn prompt(bytes: usize) -> Size {
    let text = "a".repeat(bytes);
    of(&CHAT_COMPLETIONS, &format!(r#""max_tokens":10,"messages":[{{"role":"user","content":"{text}"}}]"#))
}

fn ask<'a>(model: &'a Arc<str>, size: Size, waiter: Option<&'a Arc<Waiter>>) -> Ask<'a> {
    Ask { model, size, client: None, guesses: Guesses::Hold, waiter, generation: None }
}

/// Asks, and if it is admitted, has it answered with this usage.
fn answered(capacity: &Arc<Capacity>, size: Size, input: u64, output: Option<u64>) -> bool {
    let model = Arc::from("m");
    let Ok(lease) = capacity.admit(&ask(&model, size, None)) else { return false };
    lease.sent();
    lease.succeeded();
    lease.used(Usage { input: Some(input), output, ..Usage::default() });
    true
}

fn used(capacity: &Capacity) -> u64 {
    capacity.picture().limits.first().map_or(0, |limit| limit.used)
}

#[test]
fn a_picture_is_not_counted_as_text() {
    let capacity = account(vec![limit("input_tokens", 250_000, Some("minute"), None, Source::Catalogue)]);
    assert!(capacity.outlook("m", with_image(1_200_000)).is_ok_and(|view| view.free));
    let size = with_image(100_000);
    assert!(size.bytes < 200 && size.media == 1, "{size:?}");
    assert!(capacity.lock().need("m", size).input_tokens >= MEDIUM, "nor as nothing");
}

#[test]
fn a_picture_does_not_teach_that_long_prompts_are_short() {
    let capacity = account(vec![limit("tokens", 40_000, Some("hour"), None, Source::Configured)]);
    assert!(answered(&capacity, with_image(100_000), 365, Some(5)));
    let model = Arc::from("m");
    let open: Vec<Lease> =
        (0..12).filter_map(|_| capacity.admit(&ask(&model, prompt(40_000), None)).ok()).collect();
    assert_eq!(open.len(), 3, "of 10,000 tokens each");
}

#[test]
fn what_is_only_guessed_to_be_too_small_does_not_rule_an_account_out() {
    let size = prompt(40_000);
    let guessed = account(vec![limit("tokens", 1_000, Some("minute"), None, Source::Catalogue)]);
    assert!(guessed.outlook("m", size).is_ok_and(|view| !view.free), "it may be tried, after all others");
    let model = Arc::from("m");
    let error = guessed.admit(&ask(&model, size, None)).err().unwrap();
    assert_eq!(error.denial.map(|denial| denial.probe), Some(true));
    let probe = Ask { guesses: Guesses::Probe, ..ask(&model, size, None) };
    assert!(guessed.admit(&probe).is_ok());
    let hard = account(vec![limit("tokens", 1_000, Some("minute"), None, Source::Configured)]);
    assert!(hard.outlook("m", size).is_err());
}

#[test]
fn several_answers_are_not_counted_as_one() {
    let capacity = account(vec![limit("output_tokens", 1_000, Some("hour"), None, Source::Configured)]);
    let model = Arc::from("m");
    let of_n = |n: u64| chat(&format!(r#","n":{n},"max_tokens":500"#));
    assert_eq!(
        capacity.admit(&ask(&model, of_n(20), None)).err().unwrap().kind,
        crate::error::ErrorKind::Unsupported
    );
    let two = capacity.admit(&ask(&model, of_n(2), None)).unwrap();
    assert_eq!(used(&capacity), 1_000);
    drop(two);
    let best = of(&COMPLETIONS, r#""prompt":"x","n":1,"best_of":3,"max_tokens":500"#);
    assert!(capacity.admit(&ask(&model, best, None)).is_err(), "three are written, one is given");
    assert_eq!(of_n(0).answers, 1);
    // What is learned is one answer's length.
    assert!(answered(&capacity, of_n(2), 5, Some(80)));
    assert_eq!(capacity.lock().need("m", chat("")).output_tokens, 40);
}

#[test]
fn embeddings_are_not_charged_for_answers() {
    let capacity = account(vec![limit("tokens", 3_000, Some("hour"), None, Source::Configured)]);
    for round in 1..=20 {
        assert!(answered(&capacity, of(&EMBEDDINGS, r#""input":"five tokens of text""#), 5, None));
        assert_eq!(used(&capacity), round * 5);
    }
}

#[test]
fn one_full_model_does_not_keep_requests_for_another_waiting() {
    let capacity = account(vec![limit("concurrent", 1, None, Some("slow"), Source::Configured)]);
    let (slow, fast): (Arc<str>, Arc<str>) = (Arc::from("slow"), Arc::from("fast"));
    let waiters: Vec<Arc<Waiter>> = (0..2).map(|_| Arc::default()).collect();
    let running = capacity.admit(&ask(&slow, chat(""), None)).unwrap();
    for waiter in &waiters {
        assert!(capacity.admit(&ask(&slow, chat(""), Some(waiter))).is_err());
    }
    assert!(capacity.admit(&ask(&fast, chat(""), None)).is_ok());
    assert!(capacity.admit(&ask(&slow, chat(""), None)).is_err(), "it is behind the others");
    drop(running);
    let _first = waiters[0].take(&capacity.id, &slow).unwrap();
    assert!(waiters[1].take(&capacity.id, &slow).is_none());
}

#[test]
fn a_place_that_one_model_cannot_use_goes_to_who_waits_for_another() {
    let capacity = account(vec![
        limit("concurrent", 1, None, Some("slow"), Source::Configured),
        limit("concurrent", 2, None, None, Source::Configured),
    ]);
    let (slow, fast): (Arc<str>, Arc<str>) = (Arc::from("slow"), Arc::from("fast"));
    let (first, second, third): (Arc<Waiter>, Arc<Waiter>, Arc<Waiter>) = Default::default();
    let _slow_runs = capacity.admit(&ask(&slow, chat(""), None)).unwrap();
    let fast_runs = capacity.admit(&ask(&fast, chat(""), None)).unwrap();
    assert!(capacity.admit(&ask(&slow, chat(""), Some(&first))).is_err());
    assert!(capacity.admit(&ask(&fast, chat(""), Some(&second))).is_err());
    assert!(capacity.admit(&ask(&fast, chat(""), Some(&third))).is_err());
    drop(fast_runs);
    assert!(first.take(&capacity.id, &slow).is_none(), "its model has no place");
    let _second = second.take(&capacity.id, &fast).unwrap();
    assert!(third.take(&capacity.id, &fast).is_none());
}

#[test]
fn nobody_takes_a_place_from_those_who_wait_for_it_under_another_name() {
    let capacity = account(vec![limit("concurrent", 1, None, None, Source::Configured)]);
    let (one, other): (Arc<str>, Arc<str>) = (Arc::from("one"), Arc::from("other"));
    let waiter: Arc<Waiter> = Arc::default();
    let running = capacity.admit(&ask(&one, chat(""), None)).unwrap();
    assert!(capacity.admit(&ask(&one, chat(""), Some(&waiter))).is_err());
    {
        let ledger = &capacity.lock().ledger;
        assert!(ledger.takes_place_of("one", "other") && ledger.takes_place_of("other", "one"));
    }
    drop(running);
    assert!(capacity.admit(&ask(&other, chat(""), None)).is_err());
    assert!(waiter.take(&capacity.id, &one).is_some());
}
