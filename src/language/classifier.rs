//! Which language a text is written in, by what it looks like: a linear model over the features of `features.rs`.
//!
//! The model is the file `model.bin`, made by `cargo bench --bench language -- --train` and compiled in: a table of
//! features, and for each of them a weight to every class, one byte each. What is not in the table says nothing, so that
//! names which nobody has seen before do no harm.

use std::sync::OnceLock;

use super::features;
use super::names::Language;
use super::shared;

/// How much of a text is looked at; of a longer one its begin and, mostly, its end.
pub const MOST: usize = 4 * 1024;
/// Classes in a row of weights, used or not.
pub const LANES: usize = 32;
/// The class of what is no language of a program: prose.
pub const PROSE: &str = "prose";

const MAGIC: &[u8] = b"demuxai language model 1\n";

/// The weights of one feature.
pub type Row = [i8; LANES];

/// A trained model; see [`Model::write`] for the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What each lane stands for: names of languages, and [`PROSE`].
    pub classes: Vec<String>,
    /// Added to the score of each class.
    pub bias: [f32; LANES],
    /// What a weight of 1 counts.
    pub scale: f32,
    /// For each place in the table the feature that is there, by its upper half. The number of places is a power of two,
    /// and a feature is at [`place`] or beside it.
    pub features: Vec<u16>,
    /// The weights of the feature at that place.
    pub weights: Vec<Row>,
}

/// What was found in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// `None` for prose.
    pub language: Option<Language>,
    /// How probable that is to the model, from 0 to 1.
    pub probability: f32,
    /// How probable prose is.
    pub prose: f32,
    /// How probable the language is of which that is nearly a part, or the other way round: C and C++, and the like.
    pub kin: f32,
}

/// Where a feature is looked for first in a table with so many places; the second place is beside it.
pub fn place(feature: u32, places: usize) -> usize {
    usize::try_from(feature).unwrap_or_default() & places.wrapping_sub(1)
}

/// The part of a feature that is compared. Zero marks a place without one.
pub fn mark(feature: u32) -> u16 {
    u16::try_from(feature >> 16).unwrap_or_default().max(1)
}

/// How often a feature must have come for it to count once more: its first time, its second, its fourth …
fn counts(times: u8) -> bool {
    times.is_power_of_two()
}

// === impl Model ===

impl Model {
    /// The one that is compiled in. `None` if the file is none, which a test rules out.
    pub fn built_in() -> Option<&'static Model> {
        static MODEL: OnceLock<Option<Model>> = OnceLock::new();
        MODEL.get_or_init(|| Model::read(include_bytes!("model.bin"))).as_ref()
    }

    /// The place of a feature, if it is in the table.
    pub fn find(&self, feature: u32) -> Option<usize> {
        let first = place(feature, self.features.len());
        let mark = mark(feature);
        [first, first ^ 1].into_iter().find(|at| self.features.get(*at) == Some(&mark))
    }

    /// The scores of all classes, before they become probabilities.
    pub fn scores(&self, text: &[u8]) -> [f32; LANES] {
        let mut sums = [0_i32; LANES];
        let mut length = 0_u32;
        self.each_count(text, |at, times| {
            let Some(row) = self.weights.get(at) else { return };
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += i32::from(*weight);
            }
            // Squares of how often each counted, added up: (n + 1)² − n².
            length += 2 * times.trailing_zeros() + 1;
        });
        let mut scores = self.bias;
        #[expect(clippy::cast_precision_loss, reason = "sums of a few thousand small numbers")]
        for (score, sum) in scores.iter_mut().zip(sums) {
            *score += sum as f32 * self.scale / (length.max(1) as f32).sqrt();
        }
        scores
    }

    /// Calls for each time that a feature of the table counts, with its place and how often it has come.
    pub fn each_count(&self, text: &[u8], mut call: impl FnMut(usize, u8)) {
        let mut times = [0_u8; PLACES];
        features::each(text, |feature| {
            let Some(at) = self.find(feature) else { return };
            let Some(time) = times.get_mut(at) else { return };
            *time = time.saturating_add(1);
            if counts(*time) {
                call(at, *time);
            }
        });
    }

    /// What a text is written in; of a longer one than [`MOST`] only that much is looked at.
    pub fn classify(&self, text: &[u8]) -> Option<Verdict> {
        let scores = self.scores(text.get(..MOST).unwrap_or(text));
        let known = scores.get(..self.classes.len())?;
        let (best, top) = known.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1))?;
        let whole: f32 = known.iter().map(|score| (score - top).exp()).sum();
        let language = Language::named(self.classes.get(best)?);
        let of = |name: &str| {
            let score = self.classes.iter().zip(known).find(|(class, _)| class.as_str() == name);
            score.map_or(0.0, |(_, score)| (score - top).exp() / whole)
        };
        let kin = language.and_then(shared::other_of).map_or(0.0, |other| of(other.name()));
        Some(Verdict { language, probability: 1.0 / whole, prose: of(PROSE), kin })
    }

    /// By how much one language scores above another.
    pub fn lead(&self, text: &[u8], one: Language, other: Language) -> f32 {
        let scores = self.scores(text.get(..MOST).unwrap_or(text));
        let score = |language: Language| {
            let at = self.classes.iter().position(|class| class == language.name())?;
            scores.get(at).copied()
        };
        score(one).zip(score(other)).map_or(0.0, |(one, other)| one - other)
    }

    /// The file: a line that says what it is, then all numbers little-endian: classes (u8, each a length in u8 and the
    /// name), the biases (f32), the scale (f32), the number of places as a power of two (u8), the
    /// features, the weights (i8, to each class).
    pub fn write(&self) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        file.push(small(self.classes.len()));
        for class in &self.classes {
            file.push(small(class.len()));
            file.extend_from_slice(class.as_bytes());
        }
        for number in self.bias.iter().chain([&self.scale]) {
            file.extend_from_slice(&number.to_le_bytes());
        }
        file.push(u8::try_from(self.features.len().trailing_zeros()).unwrap_or(u8::MAX));
        for feature in &self.features {
            file.extend_from_slice(&feature.to_le_bytes());
        }
        for row in &self.weights {
            file.extend(row.iter().take(self.classes.len()).flat_map(|weight| weight.to_le_bytes()));
        }
        file
    }

    /// Reads a file of [`Model::write`]; `None` if it is none.
    pub fn read(file: &[u8]) -> Option<Model> {
        let mut rest = file.strip_prefix(MAGIC)?;
        let mut take = |length: usize| {
            let (part, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(part)
        };
        let byte = |part: &[u8]| part.first().copied().map(usize::from);
        let mut classes = Vec::new();
        for _ in 0..byte(take(1)?)? {
            let length = byte(take(1)?)?;
            classes.push(std::str::from_utf8(take(length)?).ok()?.to_owned());
        }
        let mut bias = [0.0; LANES];
        for number in &mut bias {
            *number = f32::from_le_bytes(take(4)?.try_into().ok()?);
        }
        let scale = f32::from_le_bytes(take(4)?.try_into().ok()?);
        let places = 1_usize.checked_shl(u32::try_from(byte(take(1)?)?).ok()?)?;
        let features: Vec<u16> = take(places.checked_mul(2)?)?
            .chunks_exact(2)
            .map(|two| two.iter().rev().fold(0, |sum, byte| (sum << 8) | u16::from(*byte)))
            .collect();
        let mut weights = Vec::with_capacity(places.min(PLACES));
        for _ in 0..places {
            let mut row = [0; LANES];
            for (weight, byte) in row.iter_mut().zip(take(classes.len())?) {
                *weight = i8::from_le_bytes([*byte]);
            }
            weights.push(row);
        }
        let sound = places <= PLACES && classes.len() <= LANES && rest.is_empty();
        sound.then_some(Model { classes, bias, scale, features, weights })
    }
}

/// Places in the table at most.
pub const PLACES: usize = 16 * 1024;
