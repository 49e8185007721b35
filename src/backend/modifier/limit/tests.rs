//! How a limit stands towards those above it, whose bucket a call is counted in, and what an overflow says of the way.

use std::time::Duration;

use super::super::scene::{Script, Upstream, WHOLE, ask, call, with_header};
use super::*;
use crate::backend::tally::Tallies;
use crate::config::settings;
use crate::error::ErrorKind;

fn upstream() -> Arc<Upstream> {
    Upstream::new([Script::Whole(Duration::ZERO, WHOLE.to_owned())])
}

fn member(upstream: &Arc<Upstream>) -> Member {
    upstream.wrapped("limit").inner
}

/// So many of this unit a day, for all together.
fn limited(upstream: &Arc<Upstream>, unit: &str, amount: u64, overflow: Option<Member>) -> Arc<Limited> {
    let limit = settings::Limit {
        unit: unit.to_owned(),
        amount,
        per: Some("day".to_owned()),
        models: None,
        window: None,
        time_zone: None,
    };
    let tally = Tallies::nowhere().of("limit:g", &[limit]).unwrap();
    Arc::new(Limited { wrapped: upstream.wrapped("limit"), overflow, by: By::Group, tally })
}

fn plain() -> Call {
    call(r#""messages":[],"max_tokens":5"#)
}

#[tokio::test]
async fn a_limit_is_as_full_as_what_is_scarcer_of_it_and_of_what_is_below() {
    let upstream = upstream();
    let limited = limited(&upstream, "requests", 4, None);
    let shares =
        || (limited.outlook(&plain()).unwrap().share_left, limited.standing(&plain()).unwrap().share_left);
    assert_eq!(shares(), (0.5, 0.5), "what is below has half left");
    for _ in 0..3 {
        ask(&limited, plain()).await.unwrap();
    }
    assert_eq!(shares(), (0.25, 0.25));
    ask(&limited, plain()).await.unwrap();
    let until = |outlook: Outlook| match outlook.availability {
        Availability::At(Some(until)) => until,
        other => panic!("{other:?}"),
    };
    let own = until(limited.outlook(&plain()).unwrap());
    assert_eq!(until(limited.standing(&plain()).unwrap()), own);
    *upstream.availability.lock().unwrap() = Availability::At(Some(own + 1000));
    assert_eq!(until(limited.outlook(&plain()).unwrap()), own + 1000, "it waits for both");
    *upstream.availability.lock().unwrap() = Availability::At(Some(own - 1000));
    assert_eq!(until(limited.outlook(&plain()).unwrap()), own);
    *upstream.availability.lock().unwrap() = Availability::Never;
    assert_eq!(limited.outlook(&plain()).unwrap().availability, Availability::Never);
}

#[test]
fn what_can_never_fit_goes_elsewhere_and_an_overflow_stands_for_what_is_beyond() {
    let (upstream, spare) = (upstream(), upstream());
    let large = call(r#""messages":[],"max_tokens":5000"#);
    let alone = limited(&upstream, "tokens", 1000, None);
    assert!(alone.outlook(&large).unwrap_err().contains("is too large for 1000 tokens per day"));
    assert!(alone.outlook(&plain()).is_ok());
    let covered = limited(&upstream, "tokens", 1000, Some(member(&spare)));
    assert_eq!(covered.outlook(&large).unwrap().availability, Availability::Now);
    *spare.availability.lock().unwrap() = Availability::Never;
    assert_eq!(covered.outlook(&large).unwrap().availability, Availability::Never);
    assert_eq!((alone.below("").len(), covered.below("").len()), (1, 2));
}

#[tokio::test]
async fn the_way_over_an_overflow_names_the_limit_whatever_comes_of_it() {
    let upstream = upstream();
    let spare = Upstream::new([
        Script::Whole(Duration::ZERO, WHOLE.to_owned()),
        Script::Fail(Duration::ZERO, ErrorKind::Connect),
    ]);
    let limited = limited(&upstream, "requests", 1, Some(member(&spare)));
    ask(&limited, plain()).await.unwrap();
    let first = |attempts: &[Attempt]| (attempts[0].backend.to_string(), attempts[0].label);
    let over = ask(&limited, plain()).await.unwrap();
    let expected = ("g".to_owned(), "quota_exhausted");
    assert_eq!(first(&over.reply.served.attempts), expected);
    assert_eq!(first(&ask(&limited, plain()).await.err().unwrap().attempts), expected);
    assert_eq!(
        ["passed", "overflowed"].map(|outcome| upstream.outcomes("limit", outcome)),
        [1, 2],
        "it is counted what it did"
    );
}

#[test]
fn who_sends_no_header_shares_one_bucket_with_those_whose_says_nothing() {
    let by = By::Header(HeaderName::from_static("x-team"));
    assert_eq!(by.bucket(&with_header(plain(), "x-team", " red ")), "red");
    for nobody in [plain(), with_header(plain(), "x-team", " "), with_header(plain(), "x-other", "red")] {
        assert_eq!(by.bucket(&nobody), NOBODY);
    }
    assert!(by.reads_arrival() && !By::Client.reads_arrival() && !By::Group.reads_arrival());
    let of = |client: Option<&str>| Call { client: client.map(Arc::from), ..plain() };
    assert_eq!((By::Client.bucket(&of(Some("ide"))), By::Client.bucket(&of(None))), ("ide", NOBODY));
    assert_eq!(By::Group.bucket(&of(Some("ide"))), EVERYBODY);
}
