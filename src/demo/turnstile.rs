//! The true limits of a running fake upstream: what it lets through, and what it says to the rest. The limits are
//! `allowance.rs`; here is the clock, the lock, and what of a request and its answer they count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::Value;

use super::allowance::{Admission, Allowance, Form, Frankness, refusal, success, with_headers};
use super::request::Received;
use super::script::{Script, Step};

/// True limits, and how they are told.
#[derive(Debug)]
pub struct Turnstile {
    form: Form,
    frankness: Frankness,
    allowance: Mutex<Allowance>,
}

/// A request that was let through; it is over when this is dropped.
pub(super) struct Pass {
    turnstile: Arc<Turnstile>,
    model: String,
    output_tokens: u64,
}

/// What is done with a request.
pub(super) enum Turn {
    /// It is not about tokens, or was no good: the answer as it is.
    Free(Script),
    /// It is let through, and its answer says what is left.
    Passed(Script, Pass),
    /// It is refused.
    Refused(Script),
}

// === impl Turnstile ===

impl Turnstile {
    /// One that keeps this allowance, and tells of it in this manner.
    pub fn new(form: Form, frankness: Frankness, allowance: Allowance) -> Self {
        Turnstile { form, frankness, allowance: Mutex::new(allowance) }
    }

    /// Lets a request through that is answered by this script, or refuses it.
    pub(super) fn turn(self: &Arc<Self>, received: &Received, script: Script) -> Turn {
        let body = received.json();
        let model = body.get("model").and_then(Value::as_str);
        let Some(model) = model.filter(|_| received.method == "POST" && is_good(&script)) else {
            return Turn::Free(script);
        };
        let wire = script.wire();
        let (input, output) = (last_number(&wire, "prompt_tokens"), last_number(&wire, "completion_tokens"));
        let now = moment();
        let mut allowance = self.allowance();
        let admission = allowance.admit(now, model, input.unwrap_or(1));
        let standings = allowance.standings(now, model);
        drop(allowance);
        match admission {
            Admission::Refused(refused) => {
                Turn::Refused(refusal(self.form, self.frankness, &refused, &standings, now))
            }
            Admission::Admitted => {
                let streamed = body.get("stream").and_then(Value::as_bool).unwrap_or_default();
                let headers = success(self.form, self.frankness, &standings, streamed);
                let pass = Pass {
                    turnstile: Arc::clone(self),
                    model: model.to_owned(),
                    output_tokens: output.unwrap_or_default(),
                };
                Turn::Passed(with_headers(script, &headers), pass)
            }
        }
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turnstile.allowance().done(moment(), &self.model, self.output_tokens);
    }
}

/// Whether the answer is a success.
fn is_good(script: &Script) -> bool {
    let head = script.steps().iter().find_map(|step| match step {
        Step::Write(bytes) => Some(bytes),
        _ => None,
    });
    head.is_some_and(|head| head.starts_with(b"HTTP/1.1 2"))
}

/// The number behind the last mention of this name in JSON.
fn last_number(wire: &[u8], name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(wire);
    let (_, after) = text.rsplit_once(&format!("\"{name}\":"))?;
    let digits = after.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

fn moment() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
