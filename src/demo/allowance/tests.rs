//! True limits of every kind, alone and together; and that what is told of them is the truth.

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-11-22 12:00:30 UTC, a Sunday.
const NOW: i64 = 1_795_348_830_000;

fn one(unit: Unit, amount: u64, window: Window) -> Allowance {
    Allowance::new(vec![TrueLimit::new(unit, amount, window)])
}

fn admits(allowance: &mut Allowance, now: i64) -> bool {
    allowance.admit(now, "m", 10) == Admission::Admitted
}

/// How many requests are admitted at once, and when the next one would be.
fn filled(allowance: &mut Allowance, now: i64) -> (usize, Option<i64>) {
    for count in 0..1000 {
        if let Admission::Refused(refused) = allowance.admit(now, "m", 10) {
            return (count, refused.frees_at.map(|at| at - now));
        }
    }
    panic!("no end");
}

#[test]
fn a_rolling_window_frees_one_by_one() {
    let mut rolling = one(Unit::Requests, 2, Window::Rolling(MINUTE));
    assert!(admits(&mut rolling, NOW) && admits(&mut rolling, NOW + 10_000));
    assert_eq!(filled(&mut rolling, NOW + 10_000), (0, Some(50_000)));
    assert!(!admits(&mut rolling, NOW + 59_999) && admits(&mut rolling, NOW + 60_000));
    assert!(!admits(&mut rolling, NOW + 69_999) && admits(&mut rolling, NOW + 70_000));
}

#[test]
fn an_aligned_window_ends_with_the_clock_and_one_from_the_first_request_later() {
    let mut aligned = one(Unit::Requests, 3, Window::Aligned(MINUTE));
    assert_eq!(filled(&mut aligned, NOW), (3, Some(30_000)));
    assert_eq!(filled(&mut aligned, NOW + 30_000), (3, Some(60_000)));
    let mut session = one(Unit::Requests, 3, Window::FromFirst(5 * HOUR));
    assert_eq!(filled(&mut session, NOW), (3, Some(5 * HOUR)));
    assert_eq!(filled(&mut session, NOW + 7 * HOUR), (3, Some(5 * HOUR)));
}

#[test]
fn a_day_ends_at_midnight_where_the_provider_is_and_a_month_with_its_last_day() {
    let california = TimeZone::get("America/Los_Angeles").unwrap();
    let mut day = one(Unit::Requests, 1, Window::Day(california));
    // 04:00:30 there.
    assert_eq!(filled(&mut day, NOW), (1, Some(20 * HOUR - 30_000)));
    let mut month = one(Unit::Requests, 1, Window::Month(TimeZone::UTC));
    assert_eq!(filled(&mut month, NOW), (1, Some((8 * 24 + 12) * HOUR - 30_000)));
}

#[test]
fn a_bucket_refills_all_the_time() {
    let mut bucket = one(Unit::Requests, 6, Window::Bucket(MINUTE));
    assert_eq!(filled(&mut bucket, NOW), (6, Some(10_000)));
    assert_eq!(filled(&mut bucket, NOW + 10_000), (1, Some(10_000)));
    assert_eq!(filled(&mut bucket, NOW + HOUR), (6, Some(10_000)));
}

#[test]
fn answers_are_counted_when_they_are_over_and_places_freed() {
    let mut tokens = one(Unit::Tokens, 100, Window::Rolling(MINUTE));
    assert_eq!(tokens.admit(NOW, "m", 60), Admission::Admitted);
    tokens.done(NOW, "m", 50);
    let refused = tokens.check(NOW, "m", 1).unwrap();
    assert_eq!((refused.standing.used, refused.never), (110, false));
    assert!(tokens.check(NOW, "m", 101).unwrap().never);
    let mut places = one(Unit::Concurrent, 1, Window::Request);
    assert_eq!(filled(&mut places, NOW), (1, None));
    places.done(NOW, "m", 5);
    assert_eq!(filled(&mut places, NOW), (1, None));
    let mut answers = one(Unit::OutputTokens, 100, Window::Rolling(MINUTE));
    assert!(admits(&mut answers, NOW));
    answers.done(NOW, "m", 100);
    assert!(!admits(&mut answers, NOW));
}

#[test]
fn a_ceiling_is_for_each_request_alone() {
    let mut ceiling = one(Unit::InputTokens, 8000, Window::Request);
    for _ in 0..100 {
        assert_eq!(ceiling.admit(NOW, "m", 8000), Admission::Admitted);
    }
    assert!(ceiling.check(NOW, "m", 8001).unwrap().never);
}

#[test]
fn models_count_apart_or_together_as_the_scope_says() {
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (scope, admitted) in [
        (Scope::Account, [true, false, false]),
        (Scope::EachModel, [true, true, true]),
        (Scope::Each(names(&["a", "b"])), [true, true, true]),
        (Scope::Shared(names(&["a", "b"])), [true, false, true]),
    ] {
        let limit = TrueLimit::new(Unit::Requests, 1, Window::Rolling(MINUTE)).scoped(scope.clone());
        let mut allowance = Allowance::new(vec![limit]);
        let got = ["a", "b", "c"].map(|model| allowance.admit(NOW, model, 1) == Admission::Admitted);
        assert_eq!(got, admitted, "{scope:?}");
    }
}

#[test]
fn of_several_limits_the_one_that_lasts_longest_is_named_and_nothing_is_counted() {
    let mut both = Allowance::new(vec![
        TrueLimit::new(Unit::Requests, 2, Window::Rolling(24 * HOUR)),
        TrueLimit::new(Unit::Requests, 1, Window::Rolling(MINUTE)),
    ]);
    assert!(admits(&mut both, NOW));
    assert_eq!(filled(&mut both, NOW), (0, Some(MINUTE)));
    assert!(admits(&mut both, NOW + MINUTE));
    let Admission::Refused(refused) = both.admit(NOW + MINUTE, "m", 1) else { panic!("it is full") };
    assert_eq!(refused.standing.limit.amount, 2);
    assert_eq!(refused.frees_at, Some(NOW + 24 * HOUR));
}

/// The head and body of a refusal of a used-up limit.
fn refused(form: Form, frankness: Frankness, limit: TrueLimit) -> String {
    let mut allowance = Allowance::new(vec![limit]);
    for _ in 0..1000 {
        if let Admission::Refused(refused) = allowance.admit(NOW, "m", 10) {
            let standings = allowance.standings(NOW, "m");
            let script = refusal(form, frankness, &refused, &standings, NOW);
            return String::from_utf8(script.wire().to_vec()).unwrap();
        }
    }
    panic!("no end");
}

#[test]
fn refusals_say_in_each_form_what_the_limit_is_and_no_more() {
    let minute = || TrueLimit::new(Unit::Requests, 7, Window::Rolling(MINUTE));
    let day = || TrueLimit::new(Unit::Requests, 70, Window::Day(TimeZone::UTC));
    let tokens = || TrueLimit::new(Unit::Tokens, 75, Window::Bucket(MINUTE));
    let session = || TrueLimit::new(Unit::Requests, 7, Window::FromFirst(5 * HOUR));
    for (form, limit, parts) in [
        (Form::Mistral, minute(), vec!["x-ratelimit-limit-req-minute: 7\r\n", "\"1300\""]),
        (Form::Groq, tokens(), vec!["(TPM): Limit 75, Used 70, Requested 10", "retry-after: 4\r\n"]),
        (Form::Openai, minute(), vec!["x-ratelimit-limit-requests: 7\r\n", "retry-after-ms: 60000"]),
        (Form::Openai, day(), vec!["requests per day (RPD): Limit 70, Used 70, Requested 1"]),
        (Form::Github, minute(), vec!["7 per 60s exceeded for UserByMinute", "Retry-After: 60\r\n"]),
        (Form::Github, day(), vec!["70 per 86400s exceeded for UserByModelByDay", "Retry-After: 43170\r\n"]),
        (Form::Cerebras, tokens(), vec!["Tokens per minute", "retry-after: 60\r\n"]),
        (Form::Openrouter, day(), vec!["free-models-per-day", "X-RateLimit-Reset: 1795392000000\r\n"]),
        (Form::Gemini, day(), vec!["PerDay", "\"quotaValue\":\"70\"", "38.2s"]),
        (Form::Nvidia, minute(), vec!["Too Many Requests\"}"]),
        (Form::OllamaCloud, session(), vec!["session usage limit"]),
        (Form::Fireworks, minute(), vec!["x-ratelimit-remaining-requests: 0\r\n"]),
    ] {
        let told = refused(form, Frankness::Real, limit.clone());
        assert!(told.starts_with("HTTP/1.1 429 "), "{told}");
        for part in parts {
            assert!(told.contains(part), "{part} in {told}");
        }
        let mute = refused(form, Frankness::Bodies, limit.clone()).to_lowercase();
        let (head, _) = mute.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("ratelimit") && !head.contains("retry"), "{mute}");
        assert!(
            refused(form, Frankness::Nothing, limit)
                .ends_with(r#"{"status":429,"title":"Too Many Requests"}"#)
        );
    }
}

#[test]
fn good_answers_say_what_is_left() {
    let mut allowance = Allowance::new(vec![
        TrueLimit::new(Unit::Requests, 60, Window::Aligned(MINUTE)),
        TrueLimit::new(Unit::Requests, 100, Window::Bucket(24 * HOUR)),
        TrueLimit::new(Unit::Tokens, 500, Window::Bucket(MINUTE)),
    ]);
    assert!(admits(&mut allowance, NOW));
    let standings = allowance.standings(NOW, "m");
    let told = |form, streamed| {
        let headers = success(form, Frankness::Real, &standings, streamed);
        headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>()
    };
    assert!(told(Form::Mistral, false).contains("x-ratelimit-remaining-req-minute: 59\n"));
    assert_eq!(told(Form::Mistral, true), "");
    let groq = told(Form::Groq, true);
    for part in ["remaining-requests: 99\n", "reset-requests: 14m24s\n", "reset-tokens: 1.2s\n"] {
        assert!(groq.contains(part), "{part} in {groq}");
    }
    assert!(told(Form::Cerebras, true).contains("x-ratelimit-remaining-tokens-minute: 490\n"));
    assert_eq!(told(Form::Gemini, false), "");
    assert!(success(Form::Groq, Frankness::Bodies, &standings, false).is_empty());
}
