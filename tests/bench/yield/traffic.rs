//! What is asked for: chats of all sizes, the bursts of an editor's completions, and agents that work side by side. The
//! same every time.

use fastrand::Rng;

use crate::account::Size;

/// The groups of `tiers.rs`.
const CHAT: usize = 0;
const AGENTS: usize = 1;
const CODE: usize = 2;

/// 2026-11-01 00:00 UTC, the day on which California's clocks go back.
pub const BEGIN: i64 = 1_793_491_200_000;
pub const DAY: i64 = 86_400_000;
const SEED: u64 = 20_261_128;
/// Bytes to ten tokens, at least and at most.
const DENSEST: u64 = 34;
const SPARSEST: u64 = 46;

/// How long answers are: the middle, and within which factor.
const CHAT_ANSWER: (u64, f64) = (300, 4.0);
const AGENT_ANSWER: (u64, f64) = (200, 3.0);
const COMPLETION: (u64, f64) = (25, 2.5);

/// One request.
#[derive(Clone)]
pub struct Request {
    pub at: i64,
    pub group: usize,
    pub bytes: usize,
    pub input: u64,
    pub output: u64,
    pub max_tokens: Option<u64>,
    pub stream: bool,
    /// No answer of its kind is longer.
    pub longest: u64,
}

impl Request {
    /// What the daemon knows of its size.
    pub fn size(&self) -> Size {
        Size { bytes: self.bytes, max_tokens: self.max_tokens, stream: self.stream }
    }

    /// By how many tokens it might be larger, by what is known before it is answered: its text as dense as any, its
    /// answer as long as it allows, or as any where it allows any.
    pub fn more(&self) -> u64 {
        let densest = (self.bytes as u64 * 10).div_ceil(DENSEST);
        let longest = self.max_tokens.unwrap_or(self.longest);
        densest.saturating_sub(self.input) + longest.saturating_sub(self.output)
    }
}

/// All requests of so many days, in order.
pub fn requests(days: u32) -> Vec<Request> {
    let mut rng = Rng::with_seed(SEED);
    let mut all = Vec::new();
    for day in 0..i64::from(days) {
        let begin = BEGIN + day * DAY;
        chats(&mut rng, begin, &mut all);
        agents(&mut rng, begin, &mut all);
        completions(&mut rng, begin, &mut all);
    }
    all.sort_by_key(|request| request.at);
    all
}

/// A moment of a working day: mornings, afternoons, some evenings.
fn moment(rng: &mut Rng, begin: i64) -> i64 {
    const HOURS: [u32; 24] = [2, 1, 1, 0, 0, 1, 2, 5, 9, 12, 12, 10, 7, 9, 12, 13, 12, 10, 7, 6, 7, 8, 6, 4];
    let mut ticket = rng.u32(0..HOURS.iter().sum());
    let mut hour = 0;
    for weight in HOURS {
        if ticket < weight {
            break;
        }
        ticket -= weight;
        hour += 1;
    }
    begin + hour * 3_600_000 + rng.i64(0..3_600_000)
}

fn chats(rng: &mut Rng, begin: i64, all: &mut Vec<Request>) {
    for _ in 0..3_200 {
        let at = moment(rng, begin);
        let input = spread(rng, 900, 5.0);
        let output = around(rng, CHAT_ANSWER);
        let max_tokens = (rng.u32(0..4) == 0).then(|| output.max(1_000));
        let stream = rng.u32(0..10) < 6;
        all.push(request(rng, at, CHAT, (input, output), max_tokens, stream));
    }
}

fn agents(rng: &mut Rng, begin: i64, all: &mut Vec<Request>) {
    for _ in 0..60 {
        let session = moment(rng, begin);
        for _ in 0..rng.u32(1..=12) {
            let mut at = session + rng.i64(0..5_000);
            let mut context = spread(rng, 2_000, 2.0);
            for _ in 0..rng.u32(20..60) {
                let output = around(rng, AGENT_ANSWER);
                all.push(request(rng, at, AGENTS, (context, output), None, false));
                context += output + rng.u64(50..400);
                at += 2_000 + rng.i64(0..6_000);
            }
        }
    }
}

fn completions(rng: &mut Rng, begin: i64, all: &mut Vec<Request>) {
    for _ in 0..160 {
        let mut at = moment(rng, begin);
        for _ in 0..rng.u32(10..70) {
            let input = spread(rng, 900, 2.0);
            let output = around(rng, COMPLETION);
            let stream = rng.bool();
            all.push(request(rng, at, CODE, (input, output), Some(128), stream));
            at += rng.i64(200..1_500);
        }
    }
}

fn request(
    rng: &mut Rng,
    at: i64,
    group: usize,
    (input, output): (u64, u64),
    max_tokens: Option<u64>,
    stream: bool,
) -> Request {
    // Text of all kinds: code has fewer bytes to a token than prose.
    let density = rng.u64(DENSEST..SPARSEST);
    let bytes = usize::try_from(input * density / 10).unwrap_or_default() + 120;
    let longest = match group {
        CHAT => furthest(CHAT_ANSWER),
        AGENTS => furthest(AGENT_ANSWER),
        _ => furthest(COMPLETION),
    };
    Request { at, group, bytes, input, output, max_tokens, stream, longest }
}

fn around(rng: &mut Rng, (middle, factor): (u64, f64)) -> u64 {
    spread(rng, middle, factor)
}

/// The largest that is within a factor.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
fn furthest((middle, factor): (u64, f64)) -> u64 {
    (middle as f64 * factor) as u64
}

/// Around this, mostly within a factor.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
fn spread(rng: &mut Rng, middle: u64, factor: f64) -> u64 {
    // The mean of three is bell-shaped.
    let bell = (rng.f64() + rng.f64() + rng.f64()) / 1.5 - 1.0;
    ((middle as f64 * factor.powf(bell)) as u64).max(1)
}
