//! The upstreams of the simulation: the catalogue's tiers with the limits that it guesses as their true ones, and what
//! the catalogue lacks, from the same survey; and the groups over them.

use demuxai::demo::allowance::{Form, Scope, TrueLimit, Unit, Window};
use demuxai::provider::catalogue::Catalogue;
use demuxai::quota::{Limit, Source};
use demuxai::upstream::RateForm;
use globset::GlobBuilder;
use jiff::tz::TimeZone;

use crate::Outcome;

/// Every upstream and every group.
pub struct World {
    pub tiers: Vec<Tier>,
    pub groups: Vec<Group>,
}

/// One account at an upstream.
pub struct Tier {
    pub id: &'static str,
    pub form: Form,
    pub rate_form: RateForm,
    /// What it refuses without saying whom is for all models.
    pub shared: bool,
    pub models: Vec<&'static str>,
    written: Vec<Written>,
    /// Milliseconds to the first token and for each one.
    pub first: i64,
    pub each: i64,
}

/// A failover group.
pub struct Group {
    /// Tier and model.
    pub members: Vec<(usize, &'static str)>,
    /// How long a request waits for capacity, in milliseconds.
    pub wait: i64,
}

/// A limit as configuration and catalogue write it.
#[derive(Clone)]
struct Written {
    unit: String,
    amount: u64,
    per: Option<String>,
    models: Option<String>,
    each_model: bool,
    window: Option<String>,
    time_zone: Option<String>,
    /// Its window begins with the first request.
    from_first: bool,
}

/// What the ledger is told of the limits.
#[derive(Clone, Copy, PartialEq)]
pub enum Knowledge {
    /// Guesses, which are this many times the truth.
    Guesses(f64),
    /// Nothing.
    Nothing,
    /// The user's own limits, which are this many times the truth.
    Configured(f64),
}

impl World {
    pub fn new() -> Outcome<World> {
        use Form::{Cerebras, Fireworks, Gemini, Github, Groq, Mistral, Nvidia, OllamaCloud, Openrouter};
        let flash = vec!["gemini-3.5-flash", "gemini-3.1-flash-lite"];
        let oss = vec!["openai/gpt-oss-120b", "openai/gpt-oss-20b"];
        let small = vec!["mistral-medium-latest", "codestral-latest"];
        let tiers = vec![
            tier("gemini", Gemini, flash, (500, 8))?,
            tier("openrouter", Openrouter, vec!["qwen/qwen3-coder:free"], (900, 20))?,
            tier("groq", Groq, oss, (150, 3))?,
            tier("cerebras", Cerebras, vec!["gpt-oss-120b"], (120, 2))?,
            tier("sambanova", Form::Openai, vec!["gpt-oss-120b"], (300, 5))?,
            tier("github", Github, vec!["openai/gpt-4.1-mini"], (600, 12))?,
            tier("ollama-cloud", OllamaCloud, vec!["gpt-oss:120b"], (800, 12))?,
            tier("cohere", Nvidia, vec!["command-a-03-2025"], (400, 12))?,
            tier("mistral", Mistral, small, (300, 8))?,
            tier("nvidia", Nvidia, vec!["nvidia/nemotron-3-super"], (900, 15))?,
            tier("fireworks", Fireworks, vec!["accounts/fireworks/models/kimi-k2"], (400, 8))?,
            tier("codestral", Mistral, vec!["codestral-latest"], (200, 6))?,
        ];
        let member = |id: &str, model: usize| {
            let at = tiers.iter().position(|tier| tier.id == id).ok_or_else(|| format!("no tier {id}"))?;
            Ok::<_, String>((at, tiers[at].models[model]))
        };
        let chat = vec![
            member("gemini", 0)?,
            member("gemini", 1)?,
            member("openrouter", 0)?,
            member("groq", 0)?,
            member("groq", 1)?,
            member("cerebras", 0)?,
            member("sambanova", 0)?,
            member("github", 0)?,
            member("ollama-cloud", 0)?,
            member("cohere", 0)?,
        ];
        let agents = vec![member("mistral", 0)?, member("nvidia", 0)?, member("fireworks", 0)?];
        let code = vec![member("codestral", 0)?, member("mistral", 1)?];
        let groups = vec![
            Group { members: chat, wait: 30_000 },
            Group { members: agents, wait: 60_000 },
            // What frees within two seconds is waited for by any group.
            Group { members: code, wait: 2_000 },
        ];
        Ok(World { tiers, groups })
    }
}

/// A tier of the catalogue, by its type there.
fn tier(id: &'static str, form: Form, models: Vec<&'static str>, (first, each): (i64, i64)) -> Outcome<Tier> {
    let facts = Catalogue::builtin().facts(id).ok_or_else(|| format!("the catalogue has no `{id}`"))?;
    let mut written: Vec<Written> = facts
        .limits
        .iter()
        .map(|guess| Written {
            unit: guess.limit.unit.clone(),
            amount: guess.limit.amount,
            per: guess.limit.per.clone(),
            models: guess.limit.models.clone(),
            each_model: guess.each_model,
            window: guess.limit.window.clone(),
            time_zone: guess.limit.time_zone.clone(),
            from_first: false,
        })
        .collect();
    written.extend(lacking(id));
    Ok(Tier {
        id,
        form,
        rate_form: facts.rate_headers,
        shared: facts.shared_limits,
        models,
        written,
        first,
        each,
    })
}

/// What the catalogue does not say of a tier: GitHub Models as it was, and Ollama Cloud's windows, as requests.
fn lacking(id: &str) -> Vec<Written> {
    let own = |unit: &str, amount: u64, per: Option<&str>, from_first: bool| Written {
        unit: unit.to_owned(),
        amount,
        per: per.map(str::to_owned),
        models: None,
        each_model: false,
        window: None,
        time_zone: None,
        from_first,
    };
    match id {
        "github" => vec![
            own("requests", 15, Some("minute"), false),
            own("requests", 150, Some("day"), true),
            own("input_tokens", 8_000, Some("request"), false),
            own("concurrent", 5, None, false),
        ],
        "ollama-cloud" => {
            vec![own("requests", 120, Some("5h"), true), own("requests", 700, Some("week"), true)]
        }
        _ => Vec::new(),
    }
}

// === impl Tier ===

impl Tier {
    /// How long an answer takes, in milliseconds to its head and to its end.
    pub fn pace(&self, output_tokens: u64) -> (i64, i64) {
        let tokens = i64::try_from(output_tokens).unwrap_or(i64::MAX / 1000);
        (self.first, self.first + self.each * tokens)
    }

    /// The true limits, times so many.
    pub fn truth(&self, factor: f64) -> Outcome<Vec<TrueLimit>> {
        self.written.iter().map(|written| written.truth(&self.models, factor)).collect()
    }

    /// The same limits as the ledger takes them.
    pub fn told(&self, knowledge: Knowledge) -> Outcome<Vec<Limit>> {
        let (factor, source) = match knowledge {
            Knowledge::Nothing => return Ok(Vec::new()),
            Knowledge::Guesses(factor) => (factor, Source::Catalogue),
            Knowledge::Configured(factor) => (factor, Source::Configured),
        };
        let read = |written: &Written| {
            Limit::parse(
                &written.unit,
                times(written.amount, factor),
                written.per.as_deref(),
                written.models.as_deref(),
                written.each_model,
                if written.from_first { Some("session") } else { written.window.as_deref() },
                written.time_zone.as_deref(),
                source,
            )
        };
        Ok(self.written.iter().map(read).collect::<Result<_, _>>()?)
    }
}

impl Written {
    fn truth(&self, models: &[&'static str], factor: f64) -> Outcome<TrueLimit> {
        let unit = match self.unit.as_str() {
            "requests" => Unit::Requests,
            "input_tokens" => Unit::InputTokens,
            "output_tokens" => Unit::OutputTokens,
            "tokens" => Unit::Tokens,
            _ => Unit::Concurrent,
        };
        let scope = match &self.models {
            None => Scope::Account,
            Some(glob) => {
                let matcher = GlobBuilder::new(glob).empty_alternates(true).build()?.compile_matcher();
                let matching = models.iter().filter(|model| matcher.is_match(model));
                let names = matching.map(|model| (*model).to_owned()).collect();
                if self.each_model { Scope::Each(names) } else { Scope::Shared(names) }
            }
        };
        let window = self.window()?;
        Ok(TrueLimit { unit, amount: times(self.amount, factor), window, scope })
    }

    fn window(&self) -> Outcome<Window> {
        let Some(per) = self.per.as_deref() else { return Ok(Window::Request) };
        let length = match per {
            "request" => return Ok(Window::Request),
            "minute" => 60_000,
            "hour" => 3_600_000,
            "5h" => 18_000_000,
            "day" => 86_400_000,
            "week" => 7 * 86_400_000,
            "month" => 31 * 86_400_000,
            other => return Err(format!("no length of `{other}`").into()),
        };
        if self.from_first {
            return Ok(Window::FromFirst(length));
        }
        Ok(match self.window.as_deref() {
            Some("fixed") => Window::Aligned(length),
            Some("bucket") => Window::Bucket(length),
            Some("calendar") => {
                let zone = TimeZone::get(self.time_zone.as_deref().unwrap_or("UTC"))?;
                if per == "month" { Window::Month(zone) } else { Window::Day(zone) }
            }
            _ => Window::Rolling(length),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "amounts are far below 2^52"
)]
fn times(amount: u64, factor: f64) -> u64 {
    ((amount as f64 * factor).floor() as u64).max(1)
}
