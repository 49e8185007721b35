//! What a provider's usage endpoint tells of the account, by the shape of its answer. Pure, and tolerant: these shapes
//! change often, and what is not understood states nothing. Which provider has such an endpoint is data
//! (`paths.usage` in `config/providers.toml`).

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::quota::{Period, Statement, Unit};

const DAY_SECONDS: u64 = 86_400;
const FIVE_HOURS: Period = Period::Millis(18_000_000);
const WEEK: Period = Period::Millis(604_800_000);
/// Nothing is counted that is larger.
const MOST: f64 = 1e15;

/// One limit, with the model that it is for: empty for the whole account, else one of those that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Stands for all models of its pool.
    pub model: &'static str,
    /// What is stated.
    pub statement: Statement,
}

/// What this answer states; nothing if it is not what it used to be.
pub fn read(body: &[u8], now: SystemTime) -> Vec<Usage> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let of_openrouter = value.get("data").and_then(|data| free_requests(data, now));
    let of_ollama = value.get("included").into_iter().flat_map(|included| {
        let session = share(included.get("session"), FIVE_HOURS, now);
        let weekly = share(included.get("weekly"), WEEK, now);
        [session, weekly, balance(&value, included, now)]
    });
    of_openrouter.into_iter().chain(of_ollama.flatten()).collect()
}

/// Whether any credits are left, where the answer tells (OpenRouter: `data.limit_remaining`, in dollars; `null`: the key
/// has no bound). Money is not counted here.
pub fn has_credit(body: &[u8]) -> Option<bool> {
    let value = serde_json::from_slice::<Value>(body).ok()?;
    match value.get("data")?.get("limit_remaining")? {
        Value::Null => Some(true),
        left => left.as_f64().map(|left| left > 0.0),
    }
}

/// OpenRouter's `GET /v1/key` (openrouter.ai/docs, 2026-10-17): `data.free_model_daily_requests {used, limit, remaining}`,
/// the day being that of UTC. `rate_limit` is a relic (-1).
fn free_requests(data: &Value, now: SystemTime) -> Option<Usage> {
    let free = data.get("free_model_daily_requests")?;
    let amount = count(free.get("limit"))?;
    let left = || Some(amount.saturating_sub(count(free.get("used"))?));
    let of_day = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % DAY_SECONDS;
    let statement = Statement {
        unit: Unit::Requests,
        period: Some(Period::DAY),
        per_model: true,
        amount: Some(amount),
        remaining: count(free.get("remaining")).or_else(left),
        resets_in: Some(Duration::from_secs(DAY_SECONDS - of_day)),
        refills: false,
    };
    // A limit of zero would be none at all, which no document says of this one.
    (amount > 0).then_some(Usage { model: ":free", statement })
}

/// Ollama Cloud's older plans: `{"remaining_percent": 75, "resets_at": "…Z"}` (docs.ollama.com/api/balance, 2026-08).
fn share(window: Option<&Value>, period: Period, now: SystemTime) -> Option<Usage> {
    let window = window?;
    let remaining = window.get("remaining_percent").and_then(Value::as_f64)?;
    percent(remaining, period, until(window.get("resets_at"), now))
}

/// Its present plans: what is left of the month's allowance in dollars. Who bought more goes on when it is used up.
fn balance(value: &Value, included: &Value, now: SystemTime) -> Option<Usage> {
    let dollars = |object: &Value, key: &str| object.get(key).and_then(Value::as_f64);
    let allowance = dollars(included, "allowance_usd").filter(|allowance| *allowance > 0.0)?;
    let left = dollars(included, "balance_usd")? / allowance * 100.0;
    let bought = value.get("purchased").and_then(|purchased| dollars(purchased, "balance_usd"));
    let left = if bought.is_some_and(|bought| bought > 0.0) { left.max(1.0) } else { left };
    percent(left, Period::Month, until(included.pointer("/period/until"), now))
}

fn percent(remaining: f64, period: Period, resets_in: Option<Duration>) -> Option<Usage> {
    if !remaining.is_finite() {
        return None;
    }
    // What is not quite used up is not used up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
    let remaining = remaining.clamp(0.0, 100.0).ceil() as u64;
    let statement = Statement {
        unit: Unit::Percent,
        period: Some(period),
        per_model: false,
        amount: Some(100),
        remaining: Some(remaining),
        resets_in,
        refills: false,
    };
    Some(Usage { model: "", statement })
}

/// How long until a moment that is still to come.
fn until(moment: Option<&Value>, now: SystemTime) -> Option<Duration> {
    let stamp: jiff::Timestamp = moment?.as_str()?.parse().ok()?;
    SystemTime::try_from(stamp).ok()?.duration_since(now).ok()
}

/// A whole number that is not negative, which may be written as a decimal.
fn count(value: Option<&Value>) -> Option<u64> {
    let number = value?.as_f64().filter(|number| (0.0..MOST).contains(number))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in these bounds")]
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-28 06:00:00 UTC.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_845_600)
    }

    #[test]
    fn credits_are_left_or_not_and_nothing_is_made_of_what_does_not_tell() {
        let told = |left: &str| has_credit(format!(r#"{{"data":{{"limit_remaining":{left}}}}}"#).as_bytes());
        assert_eq!([told("1.5"), told("null")], [Some(true); 2]);
        assert_eq!([told("0"), told("-0.25")], [Some(false); 2]);
        assert_eq!(
            [told("\"some\""), has_credit(b"{\"data\":{}}"), has_credit(b"{}"), has_credit(b"x")],
            [None; 4]
        );
    }

    /// Model, unit, amount, what is left, and in how many seconds it is whole again.
    type Brief = (&'static str, Unit, Option<u64>, Option<u64>, Option<u64>);

    fn brief(body: &str) -> Vec<Brief> {
        let found = read(body.as_bytes(), now());
        let brief = found.into_iter().map(|Usage { model, statement }| {
            let wait = statement.resets_in.map(|wait| wait.as_secs());
            (model, statement.unit, statement.amount, statement.remaining, wait)
        });
        brief.collect()
    }

    #[test]
    fn openrouters_free_requests_are_not_overlooked() {
        let body = r#"{"data":{"label":"k","limit":null,"limit_remaining":null,"usage":1.5,"is_free_tier":true,
            "rate_limit":{"requests":-1,"interval":"10s"},"free_model_daily_requests":{"used":12,"limit":50,"remaining":38}}}"#;
        let expected = (":free", Unit::Requests, Some(50), Some(38), Some(64_800));
        assert_eq!(brief(body), [expected]);
        let without = r#"{"data":{"free_model_daily_requests":{"used":12.0,"limit":50,"remaining":-1}}}"#;
        assert_eq!(brief(without), [expected]);
    }

    #[test]
    fn ollamas_balance_is_not_overlooked_in_either_shape() {
        let body = r#"{"included":{"balance_usd":72.5,"allowance_usd":100,"period":
            {"from":"2026-11-01T00:00:00Z","until":"2026-12-01T00:00:00Z"}},"purchased":{"balance_usd":25}}"#;
        let wait = Some(3 * DAY_SECONDS - 21_600);
        assert_eq!(brief(body), [("", Unit::Percent, Some(100), Some(73), wait)]);
        let older = r#"{"included":{"session":{"remaining_percent":75,"resets_at":"2026-11-28T08:00:00Z"},
            "weekly":{"remaining_percent":0.4,"resets_at":"soon"}},"purchased":{"balance_usd":0}}"#;
        assert_eq!(
            brief(older),
            [
                ("", Unit::Percent, Some(100), Some(75), Some(7200)),
                ("", Unit::Percent, Some(100), Some(1), None)
            ]
        );
    }

    #[test]
    fn who_bought_more_is_not_stopped_by_an_allowance_that_is_used_up() {
        let left = |bought: f64| {
            let body = format!(
                r#"{{"included":{{"balance_usd":0,"allowance_usd":100}},"purchased":{{"balance_usd":{bought}}}}}"#
            );
            brief(&body)[0].3
        };
        assert_eq!((left(25.0), left(0.0)), (Some(1), Some(0)));
    }

    #[test]
    fn a_shape_that_changed_states_nothing() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "<html>",
            r#"{"data":[]}"#,
            r#"{"data":{"free_model_daily_requests":50}}"#,
            r#"{"data":{"free_model_daily_requests":{"limit":-1}}}"#,
            r#"{"data":{"free_model_daily_requests":{"limit":0,"remaining":0}}}"#,
            r#"{"data":{"free_model_daily_requests":{"limit":"50"}}}"#,
            r#"{"included":null}"#,
            r#"{"included":{"session":75,"weekly":{"remaining_percent":"75"}}}"#,
            r#"{"included":{"balance_usd":1,"allowance_usd":0}}"#,
            r#"{"included":{"allowance_usd":100}}"#,
        ] {
            assert_eq!(brief(body), [], "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in "\\PC{0,80}", number in any::<f64>()) {
            read(body.as_bytes(), now());
            let body = format!(
                r#"{{"data":{{"free_model_daily_requests":{{"limit":{number},"used":{number}}}}},"included":{{"session":{{"remaining_percent":{number}}},"balance_usd":{number},"allowance_usd":{number}}}}}"#
            );
            for one in read(body.as_bytes(), now()) {
                prop_assert!(one.statement.amount.is_some());
            }
        }
    }
}
