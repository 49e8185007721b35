//! Every form, and that nonsense means nothing.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_600_000)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

#[test]
fn every_form_of_a_moment_is_read() {
    let millis = |text: &str| wait(text, now()).map(|wait| wait.as_millis());
    assert_eq!(millis("2m59.56s"), Some(179_560));
    assert_eq!(millis("825ms"), Some(825));
    assert_eq!(millis("6m0s"), Some(360_000));
    assert_eq!(millis("5h"), Some(18_000_000));
    assert_eq!(millis("57"), Some(57_000));
    assert_eq!(millis("11726.2840924263"), Some(11_726_284));
    assert_eq!(millis("1785600060"), Some(60_000));
    assert_eq!(millis("1785600060000"), Some(60_000));
    assert_eq!(millis("1785500000"), Some(0), "past");
    assert_eq!(millis("2026-08-01T16:01:00Z"), Some(60_000));
    assert_eq!(millis("Sat, 01 Aug 2026 16:01:00 GMT"), Some(60_000));
    assert_eq!(millis("3000000"), Some(LONGEST.as_millis()), "capped");
    for nonsense in ["", "-5", "soon", "5x", "1m2", "NaN", "inf"] {
        assert_eq!(millis(nonsense), None, "{nonsense}");
    }
}

#[test]
fn groqs_requests_are_of_the_day_and_its_tokens_of_the_minute() {
    let stated = headers(&[
        ("x-ratelimit-limit-requests", "1000"),
        ("x-ratelimit-remaining-requests", "999"),
        ("x-ratelimit-reset-requests", "1m26.4s"),
        ("x-ratelimit-limit-tokens", "8000"),
        ("x-ratelimit-remaining-tokens", "7890"),
        ("x-ratelimit-reset-tokens", "825ms"),
    ]);
    let found = statements(&stated, RateForm::Groq, now());
    let brief: Vec<_> = found
        .iter()
        .map(|one| (one.unit, one.period, one.amount, one.remaining, one.refills, one.per_model))
        .collect();
    assert_eq!(
        brief,
        [
            (Unit::Requests, Some(Period::DAY), Some(1000), Some(999), true, true),
            (Unit::Tokens, Some(Period::MINUTE), Some(8000), Some(7890), true, true),
        ]
    );
}

#[test]
fn mistrals_zero_stays_a_zero_and_a_negative_remainder_means_nothing() {
    let stated = headers(&[("x-ratelimit-limit-req-minute", "0"), ("x-ratelimit-remaining-req-minute", "0")]);
    assert_eq!(statements(&stated, RateForm::Mistral, now())[0].amount, Some(0));
    let odd = headers(&[("x-ratelimit-limit", "-1"), ("x-ratelimit-remaining", "-1")]);
    assert!(statements(&odd, RateForm::Openrouter, now()).is_empty());
}

#[test]
fn a_provider_that_states_nothing_that_binds_is_not_believed() {
    let stated =
        headers(&[("x-ratelimit-limit-requests", "20000"), ("x-ratelimit-remaining-requests", "19999")]);
    assert!(statements(&stated, RateForm::None, now()).is_empty());
}

proptest! {
    #[test]
    fn nonsense_never_panics_and_never_parks_anybody(text in "\\PC{0,40}") {
        if let Some(found) = wait(&text, now()) {
            prop_assert!(found <= LONGEST);
        }
        if let Ok(value) = HeaderValue::from_str(&text) {
            let mut map = HeaderMap::new();
            for row in FORMS.iter() {
                map.insert(HeaderName::from_static(row.amount), value.clone());
                if !row.reset.is_empty() {
                    map.insert(HeaderName::from_static(row.reset), value.clone());
                }
            }
            for form in [RateForm::Openai, RateForm::Groq, RateForm::Cerebras, RateForm::Mistral, RateForm::Anthropic] {
                statements(&map, form, now());
            }
        }
    }
}

#[test]
fn openrouters_minute_is_not_taken_for_its_day_nor_the_day_for_a_minute() {
    // 2026-11-28 00:00:00 UTC.
    let midnight = 1_795_824_000;
    let period = |amount: &str, reset: Option<u64>, at: u64| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let mut stated = headers(&[("x-ratelimit-limit", amount), ("x-ratelimit-remaining", "0")]);
        if let Some(reset) = reset {
            let value = HeaderValue::from_str(&format!("{}", reset * 1000)).unwrap();
            stated.insert("x-ratelimit-reset", value);
        }
        let found = statements(&stated, RateForm::Openrouter, now).pop();
        found.and_then(|statement| statement.period)
    };
    let noon = midnight - 43_200;
    let (minute, day) = (Some(Period::MINUTE), Some(Period::DAY));
    assert_eq!(period("20", Some(noon + 40), noon), minute);
    assert_eq!(period("50", Some(midnight), noon), day);
    assert_eq!(period("1000", Some(midnight), noon), day);
    // The last minute of the day.
    assert_eq!(period("50", Some(midnight), midnight - 30), day);
    assert_eq!(period("20", Some(midnight), midnight - 30), minute);
    // Should the minute's limit be raised, its reset still tells.
    assert_eq!(period("60", Some(noon + 40), noon), minute);
    // Without a reset, or with one of yesterday, the amount tells.
    assert_eq!((period("20", None, noon), period("50", None, noon)), (minute, day));
    assert_eq!(period("50", Some(noon - 9), noon), day);
}

#[test]
fn a_paid_model_is_not_counted_among_the_free_ones() {
    let stated = headers(&[("x-ratelimit-limit", "50"), ("x-ratelimit-remaining", "0")]);
    let found = statements(&stated, RateForm::Openrouter, now());
    assert!(found.iter().all(|statement| statement.per_model));
}

#[test]
fn a_moment_since_the_epoch_is_not_waited_for_as_so_many_seconds() {
    for (name, value) in [
        ("retry-after", "1785600060"),
        ("retry-after", "1785600060000"),
        ("retry-after", "2026-08-01T16:01:00Z"),
        ("retry-after", "Sat, 01 Aug 2026 16:01:00 GMT"),
        ("retry-after", "1m0s"),
        ("retry-after", "60"),
        ("retry-after", " 60.0 "),
        ("retry-after-ms", "60000"),
        ("retry-after-ms", "1785600060000"),
    ] {
        let found = retry_after(&headers(&[(name, value)]), now());
        assert_eq!(found, Some(Duration::from_secs(60)), "{name}: {value}");
    }
}

#[test]
fn what_is_no_wait_is_not_taken_for_one() {
    for value in ["-1", "1e3", "inf", "NaN", "..", "", "soon"] {
        assert_eq!(retry_after(&headers(&[("retry-after", value)]), now()), None, "{value}");
    }
    assert_eq!(retry_after(&headers(&[]), now()), None);
    let past = headers(&[("retry-after", "Sat, 25 Jul 2026 00:00:00 GMT")]);
    assert_eq!(retry_after(&past, now()), Some(Duration::ZERO));
    let both = headers(&[("retry-after-ms", "250"), ("retry-after", "9")]);
    assert_eq!(retry_after(&both, now()), Some(Duration::from_millis(250)));
    let odd = headers(&[("retry-after-ms", "soon"), ("retry-after", "9")]);
    assert_eq!(retry_after(&odd, now()), Some(Duration::from_secs(9)));
}

#[test]
fn nobody_parks_us_for_more_than_30_days() {
    for value in ["2592001", "31536000", "8000h", "Sat, 01 May 2027 00:00:00 GMT"] {
        let found = retry_after(&headers(&[("retry-after", value)]), now());
        assert_eq!(found, Some(LONGEST), "{value}");
    }
}

#[test]
fn an_absurd_wait_does_not_put_anybody_off() {
    for value in [
        "999999999",
        "100000000000000000000",
        "99999999999999999999999999h",
        "9000h",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "9999-12-31T23:59:59Z",
    ] {
        assert_eq!(retry_after(&headers(&[("retry-after", value)]), now()), None, "{value}");
    }
    let absurd = headers(&[("retry-after-ms", "100000000000000000000"), ("retry-after", "9")]);
    assert_eq!(retry_after(&absurd, now()), None);
}
