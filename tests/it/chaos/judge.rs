//! What a client may see in the chaos: a whole answer of one upstream (or of several, where the group goes on with what
//! broke off), a JSON error with a status before any word, or an error event and a cut connection after some.

use std::time::Duration;

use serde_json::Value;

use super::upstreams::{ALL, Chaos, Ends, Part};
use crate::support::client::Answer;

/// A client that waits longer is sent a status and comments.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Clone)]
pub struct Case {
    /// The question, which no other request has.
    pub ask: String,
    pub target: Target,
    pub stream: bool,
    /// The client leaves after so many bytes.
    pub leaves: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// A failover group whose last member is steady.
    Order,
    /// A failover group with a steady last member, that goes on with what broke off.
    Carry,
    /// A round-robin group.
    Turns,
    /// A race.
    Race,
    /// A provider of its own.
    Direct,
}

impl Target {
    pub fn model(self) -> &'static str {
        match self {
            Target::Order => "order",
            Target::Carry => "carry",
            Target::Turns => "turns",
            Target::Race => "race",
            Target::Direct => "openai/gpt-4.1-mini",
        }
    }

    /// Somebody in there can always answer.
    fn is_safe(self) -> bool {
        matches!(self, Target::Order | Target::Carry)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Whole,
    /// By so many upstreams, one after the other.
    Continued(usize),
    /// A status before any word.
    Refused(u16),
    /// An error event with this code, before any word: the client had to wait, so that the status was out.
    LateRefused(String),
    /// The same after some words.
    Broken(String),
    /// The client left.
    Left,
}

/// The answer as the client should take it, or what is wrong with it.
pub fn judge(case: &Case, answer: &Answer, took: Duration, chaos: &Chaos) -> Result<Verdict, String> {
    match (answer.status, case.stream) {
        (200, true) => streamed(case, answer, took, chaos),
        (200, false) => plain(case, answer, chaos),
        _ => refused(case, answer),
    }
}

fn refused(case: &Case, answer: &Answer) -> Result<Verdict, String> {
    let status = answer.status;
    must(answer.complete, "the body of the error is cut")?;
    // The upstreams' own ones, and 400 where what they said of limits lets no request of this size through.
    must(
        matches!(status, 400 | 402 | 403 | 412 | 413 | 429 | 500 | 502 | 503 | 504),
        "a status that nobody documents",
    )?;
    must(answer.header("content-type") == Some("application/json"), "the error is no JSON by its type")?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    let code = error_object(&body)?;
    must(status != 400 || code == "unsupported", "the request itself was good")?;
    must(!answer.text().contains(&case.ask), "an error that speaks of the question")?;
    must(answer.header("x-demuxai-attempts").is_some(), "nobody says who was asked")?;
    must(!case.target.is_safe(), "refused, though a steady member was there")?;
    Ok(Verdict::Refused(status))
}

fn error_object(body: &Value) -> Result<String, String> {
    let error = &body["error"];
    let message = error["message"].as_str().unwrap_or("");
    must(!message.is_empty(), "no message in the error")?;
    must(body["choices"].is_null(), "an error with choices")?;
    Ok(error["code"].as_str().map_or_else(|| error["code"].to_string(), str::to_owned))
}

fn plain(case: &Case, answer: &Answer, chaos: &Chaos) -> Result<Verdict, String> {
    must(answer.complete, "a plain answer is cut")?;
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    let choice = &body["choices"][0];
    must(choice["finish_reason"] == "stop", "the finish reason is another one")?;
    let mut said = Said::default();
    said.hear(choice["message"]["content"].as_str().ok_or("no content")?)?;
    said.bears(&body)?;
    said.whole(case, chaos, 1)
}

fn streamed(case: &Case, answer: &Answer, took: Duration, chaos: &Chaos) -> Result<Verdict, String> {
    let text = answer.text();
    let mut said = Said::default();
    let (mut done, mut error, mut finishes) = (false, None, 0);
    for data in events(&text)? {
        must(!done && error.is_none(), "something behind the end")?;
        if data == "[DONE]" {
            done = true;
            continue;
        }
        let event: Value = serde_json::from_str(&data).map_err(|error| format!("no JSON: {error}"))?;
        if !event["error"].is_null() {
            error = Some(error_object(&event)?);
            continue;
        }
        let choice = &event["choices"][0];
        said.hear(choice["delta"]["content"].as_str().unwrap_or(""))?;
        said.bears(&event)?;
        if !choice["finish_reason"].is_null() {
            must(choice["finish_reason"] == "stop", "an invented finish reason")?;
            finishes += 1;
        }
    }
    match (done, error) {
        (true, None) => {
            must(answer.complete, "a whole stream whose connection is cut")?;
            said.whole(case, chaos, finishes)
        }
        (false, Some(code)) => {
            must(!answer.complete, "a broken stream that ends as if it were whole")?;
            said.broken(case, chaos, finishes, code, took >= KEEP_ALIVE)
        }
        (true, Some(_)) => Err("an error and [DONE]".to_owned()),
        (false, None) => Err("neither [DONE] nor an error".to_owned()),
    }
}

/// The payloads of an event stream, which has nothing else in it but comments that keep the client waiting.
fn events(text: &str) -> Result<Vec<String>, String> {
    let mut events = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if let Some(data) = line.strip_prefix("data: ") {
            open = Some(open.map_or_else(|| data.to_owned(), |begun| format!("{begun}\n{data}")));
        } else if line.is_empty() {
            events.extend(open.take());
        } else {
            must(line == ": keep-alive", &format!("a line of another kind: {line:?}"))?;
        }
    }
    must(open.is_none(), "an event without an end")?;
    Ok(events)
}

/// The words of an answer, and whose they are.
#[derive(Default)]
struct Said {
    /// The names of those who spoke, one after the other.
    by: Vec<String>,
    words: usize,
    /// Whose names the events bore, one after the other.
    named: Vec<String>,
    /// How often an event said that it goes on with what somebody else began.
    continued: usize,
}

impl Said {
    fn hear(&mut self, content: &str) -> Result<(), String> {
        for word in content.split_terminator(' ') {
            let (name, place) = word.rsplit_once('#').ok_or_else(|| format!("an invented word: {word:?}"))?;
            must(place.parse() == Ok(self.words), &format!("{word} comes after {} words", self.words))?;
            self.words += 1;
            if self.by.last().is_none_or(|last| last != name) {
                self.by.push(name.to_owned());
            }
        }
        Ok(())
    }

    /// The id and the model that an event or a document bears: those of whoever speaks.
    fn bears(&mut self, event: &Value) -> Result<(), String> {
        let id = event["id"].as_str().ok_or("no id")?;
        let (name, provider) = id
            .strip_prefix("chatcmpl-")
            .and_then(|id| id.rsplit_once('@'))
            .ok_or_else(|| format!("an invented id: {id}"))?;
        let cast = ALL.iter().find(|cast| cast.id == provider).ok_or("an invented provider")?;
        must(name.split('.').next() == Some(provider), &format!("{id} names another provider"))?;
        must(event["model"] == format!("{provider}/{}", cast.model), "the model is another one")?;
        let continued = &event["x_demuxai"]["continued_by"];
        if !continued.is_null() {
            must(*continued == event["model"], "another one goes on than it says")?;
            self.continued += 1;
        }
        if self.named.last().is_none_or(|last| last != name) {
            self.named.push(name.to_owned());
        }
        Ok(())
    }

    /// The last one who spoke, after checks of all of them.
    fn last(&self, case: &Case, chaos: &Chaos) -> Result<Ends, String> {
        let last = self.by.last().ok_or("no word")?;
        must(self.by.len() == 1 || case.target == Target::Carry, "words of several upstreams")?;
        let mut named = self.named.iter();
        let is_theirs = self.by.iter().all(|name| named.any(|other| other == name));
        must(is_theirs, &format!("{:?} spoke as {:?}", self.by, self.named))?;
        must(self.named.len() == 1 || case.target == Target::Carry, "events of several upstreams")?;
        must(self.continued + 1 == self.named.len(), "nobody says that another one goes on")?;
        for name in &self.by {
            let play = chaos.play(name).ok_or_else(|| format!("nobody said {name}"))?;
            must(play.ask == case.ask, "the answer to another question")?;
        }
        let play = chaos.play(last).ok_or("nobody said the last word")?;
        if matches!(play.ends, Ends::Whole { .. }) {
            must(self.words <= play.words, "more words than were said")?;
        }
        Ok(play.ends)
    }

    fn whole(&self, case: &Case, chaos: &Chaos, finishes: usize) -> Result<Verdict, String> {
        if self.by.is_empty() {
            let bare = chaos.plays_for(&case.ask).iter().any(|(_, play)| play.ends == Ends::Bare);
            must(bare && finishes == 0, "an empty answer that nobody gave")?;
            return Ok(Verdict::Whole);
        }
        let Ends::Whole { finish } = self.last(case, chaos)? else {
            return Err("passed off as whole".to_owned());
        };
        must(finishes == usize::from(finish), &format!("{finishes} finish reasons"))?;
        let words = self.by.last().and_then(|name| chaos.play(name)).map(|play| play.words);
        must(words == Some(self.words), &format!("{} words of {words:?}", self.words))?;
        Ok(if self.by.len() > 1 { Verdict::Continued(self.by.len()) } else { Verdict::Whole })
    }

    fn broken(
        &self,
        case: &Case,
        chaos: &Chaos,
        finishes: usize,
        code: String,
        kept_waiting: bool,
    ) -> Result<Verdict, String> {
        // An arbiter may die between an upstream's finish reason and its end.
        must(finishes == 0 || code == "provider_down", "a finish reason and an error")?;
        must(case.target != Target::Carry, "broken, though a steady member was there to go on")?;
        if self.by.is_empty() {
            must(kept_waiting && self.named.is_empty(), "an error event without a word before it")?;
            must(!case.target.is_safe(), "refused, though a steady member was there")?;
            return Ok(Verdict::LateRefused(code));
        }
        let ends = self.last(case, chaos)?;
        must(finishes == 0 || ends == Ends::Whole { finish: true }, "an invented finish reason")?;
        let good = matches!(ends, Ends::Whole { .. } | Ends::Bare);
        let steady = self.by.iter().any(|name| {
            ALL.iter().any(|cast| cast.part == Part::Steady && name.split('.').next() == Some(cast.id))
        });
        must(!steady, "a steady stream is broken")?;
        // Nobody but a slow machine and the end of a provider's arbiter breaks a good stream.
        must(
            !good || matches!(&*code, "timeout" | "provider_down"),
            &format!("a good stream is broken: {code}"),
        )?;
        Ok(Verdict::Broken(code))
    }
}

fn must(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
