//! Makes `src/language/model.bin`: chooses the features that tell languages apart, and fits a softmax regression over
//! them. Everything is drawn from fixed seeds and added up in one order, so that the same corpus makes the same file.

use std::collections::HashMap;

use demuxai::language::{LANES, Model, PLACES, PROSE, Row, each_feature, mark, place};

use crate::Outcome;
use crate::corpus::{self, Corpus, File};

/// Snippets of each language.
const SNIPPETS: usize = 4000;
const EPOCHS: usize = 14;
/// How much of a sample is not seen each time, so that nothing is trusted alone.
const DROPPED: u8 = 80;
const RATE: f32 = 0.35;
/// How much weights shrink in an epoch, so that what is rare stays small.
const DECAY: f32 = 0.02;
/// Features are of unit length; that times this.
const LENGTH: f32 = 6.0;

/// What people write before code that they ask about, and without any.
const QUESTIONS: &[&str] = &[
    "Why does this not compile?",
    "Please explain the following code.",
    "Can you refactor this so that it is easier to test?",
    "There is a bug here: it returns the wrong value when the list is empty.",
    "Write unit tests for this function.",
    "What does this do?",
    "Add error handling and documentation to the code below.",
    "I get an error when I run this, what is wrong with it?",
    "Optimise this, it is too slow for large inputs.",
    "Translate the comments to English and keep everything else as it is.",
    "Here is what I have so far. How do I finish it?",
    "Fix it.",
    "Review my changes and tell me what could go wrong in production.",
    "How can I make this thread safe without a global lock?",
    "Continue.",
    "I want to add a new option for the user's time zone; where would that go?",
    "Thanks, that works. Now do the same for the other two cases, please.",
    "Could you summarise our discussion and list the open questions?",
    "What is the difference between a process and a thread?",
    "Erkläre mir bitte, was dieser Code macht und wo der Fehler liegt.",
    "Pourquoi cette fonction ne renvoie-t-elle rien ?",
    "¿Cómo puedo mejorar el rendimiento de este programa?",
    "Which of these approaches would you recommend, and why?",
    "Make the tests pass without changing the public interface.",
    "Rename the variables so that they say what they mean.",
];

struct Sample {
    class: usize,
    /// Across all languages.
    package: u32,
    text: String,
}

/// One sample as the places of its features and how often each counts, of unit length.
struct Point {
    class: usize,
    values: Vec<(u16, f32)>,
}

fn class_of(language: &str) -> &str {
    if language == "text" { PROSE } else { language }
}

/// Trains on the corpus; packages for which `left_out` holds are not looked at.
pub fn train(corpus: &Corpus, left_out: impl Fn(usize) -> bool) -> Outcome<Model> {
    let classes: Vec<String> = corpus.keys().map(|language| class_of(language).to_owned()).collect();
    if classes.len() > LANES {
        return Err(format!("{} classes are too many", classes.len()).into());
    }
    let samples = samples(corpus, left_out);
    let mut model = Model {
        classes,
        bias: [0.0; LANES],
        scale: 1.0,
        features: vec![0; PLACES],
        weights: vec![[0; LANES]; PLACES],
    };
    choose(&mut model, &samples);
    let points: Vec<Point> = samples.iter().map(|sample| point(&model, sample)).collect();
    fit(&mut model, &points);
    Ok(model)
}

fn samples(corpus: &Corpus, left_out: impl Fn(usize) -> bool) -> Vec<Sample> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut samples = Vec::new();
    let mut package_id = 0;
    for (class, packages) in corpus.values().enumerate() {
        let kept: Vec<&Vec<File>> =
            packages.values().enumerate().filter(|(at, _)| !left_out(*at)).map(|(_, files)| files).collect();
        let length = |rng: &mut fastrand::Rng| match rng.u8(..100) {
            0..40 => rng.usize(3..9),
            40..80 => rng.usize(9..31),
            _ => rng.usize(31..100),
        };
        let is_prose = corpus.keys().nth(class).is_some_and(|language| language == "text");
        for (package, _, text) in corpus::snippets(&kept, SNIPPETS, length, &mut rng) {
            let question = QUESTIONS[rng.usize(..QUESTIONS.len())];
            let text = match rng.u8(..100) {
                0..12 => format!("{question}\n\n{text}"),
                12..20 => format!("{text}\n\n{question}"),
                20..40 if is_prose => {
                    let more = QUESTIONS[rng.usize(..QUESTIONS.len())];
                    format!("{question} {more}")
                }
                20..45 => dedented(&text),
                _ => text,
            };
            samples.push(Sample { class, package: package_id + u32::try_from(package).unwrap_or(0), text });
        }
        package_id += u32::try_from(kept.len()).unwrap_or(0);
    }
    samples
}

fn dedented(text: &str) -> String {
    let margin = |line: &str| line.len() - line.trim_start().len();
    let least = text.lines().filter(|line| !line.trim().is_empty()).map(margin).min().unwrap_or(0);
    text.lines().map(|line| line.get(least..).unwrap_or("")).collect::<Vec<_>>().join("\n")
}

#[derive(Clone)]
struct Seen {
    by_class: [u16; LANES],
    packages: [u32; 3],
    last: u32,
}

/// Fills the table with the features that say most: those by which the distribution over classes differs most from an
/// even one, times how often they come. One that fewer than three packages have is somebody's own name.
fn choose(model: &mut Model, samples: &[Sample]) {
    let mut seen: HashMap<u32, Seen> = HashMap::new();
    for (number, sample) in samples.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(0);
        each_feature(sample.text.as_bytes(), |feature| {
            let entry = seen.entry(feature).or_insert(Seen {
                by_class: [0; LANES],
                packages: [u32::MAX; 3],
                last: u32::MAX,
            });
            if entry.last != number {
                entry.last = number;
                entry.by_class[sample.class] += 1;
                if !entry.packages.contains(&sample.package)
                    && let Some(free) = entry.packages.iter_mut().find(|package| **package == u32::MAX)
                {
                    *free = sample.package;
                }
            }
        });
    }
    let mut sizes = [1.0_f64; LANES];
    for sample in samples {
        sizes[sample.class] += 1.0;
    }
    let count = model.classes.len() as f64;
    let mut ranked: Vec<(f64, u32)> = seen
        .iter()
        .filter(|(_, entry)| entry.packages[2] != u32::MAX)
        .map(|(feature, entry)| {
            let rates: Vec<f64> =
                entry.by_class.iter().zip(sizes).map(|(times, size)| f64::from(*times) / size).collect();
            let all: f64 = rates.iter().sum();
            let said: f64 =
                rates.iter().filter(|rate| **rate > 0.0).map(|rate| rate * (rate * count / all).ln()).sum();
            (said, *feature)
        })
        .collect();
    ranked.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
    for (_, feature) in ranked {
        let first = place(feature, PLACES);
        let taken = |at: usize| model.features[at];
        if taken(first) == mark(feature) || taken(first ^ 1) == mark(feature) {
            continue;
        }
        if let Some(free) = [first, first ^ 1].into_iter().find(|at| model.features[*at] == 0) {
            model.features[free] = mark(feature);
        }
    }
}

fn point(model: &Model, sample: &Sample) -> Point {
    let mut counted: Vec<(u16, f32)> = Vec::new();
    let mut at_place: HashMap<usize, usize> = HashMap::new();
    model.each_count(sample.text.as_bytes(), |at, _| {
        let index = *at_place.entry(at).or_insert_with(|| {
            counted.push((u16::try_from(at).unwrap_or(0), 0.0));
            counted.len() - 1
        });
        counted[index].1 += 1.0;
    });
    let length = counted.iter().map(|(_, value)| value * value).sum::<f32>().sqrt().max(1.0);
    for (_, value) in &mut counted {
        *value *= LENGTH / length;
    }
    Point { class: sample.class, values: counted }
}

/// Softmax regression by AdaGrad, one sample at a time.
fn fit(model: &mut Model, points: &[Point]) {
    let classes = model.classes.len();
    let mut weights = vec![[0.0_f32; LANES]; PLACES];
    let mut steps = vec![[1e-2_f32; LANES]; PLACES];
    let mut bias = [0.0_f32; LANES];
    let mut order: Vec<usize> = (0..points.len()).collect();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut seen: Vec<(u16, f32)> = Vec::new();
    for epoch in 0..EPOCHS {
        rng.shuffle(&mut order);
        let rate = RATE * (1.0 - epoch as f32 / EPOCHS as f32);
        let mut right = 0;
        for index in &order {
            let point = &points[*index];
            let mut scores = bias;
            seen.clear();
            seen.extend(point.values.iter().filter(|_| rng.u8(..) >= DROPPED));
            for (at, value) in &seen {
                for (score, weight) in scores.iter_mut().zip(&weights[usize::from(*at)]) {
                    *score += weight * value;
                }
            }
            let top = scores[..classes].iter().copied().fold(f32::MIN, f32::max);
            right += usize::from(scores[point.class] == top);
            let mut slope = [0.0_f32; LANES];
            let mut whole = 0.0;
            for (slope, score) in slope[..classes].iter_mut().zip(&scores) {
                *slope = (score - top).exp();
                whole += *slope;
            }
            for slope in &mut slope {
                *slope /= whole;
            }
            slope[point.class] -= 1.0;
            for (bias, slope) in bias.iter_mut().zip(&slope) {
                *bias -= 0.002 * rate * slope;
            }
            for (at, value) in &seen {
                let at = usize::from(*at);
                for ((weight, step), slope) in weights[at].iter_mut().zip(&mut steps[at]).zip(&slope) {
                    let slope = slope * value;
                    *step += slope * slope;
                    *weight -= rate * 0.2 * slope / step.sqrt();
                }
            }
        }
        for weight in weights.iter_mut().flatten() {
            *weight *= 1.0 - DECAY;
        }
        println!(
            "epoch {epoch}: {:.2} % of the training snippets",
            100.0 * right as f64 / points.len() as f64
        );
    }
    let mut sizes: Vec<f32> =
        weights.iter().flatten().map(|weight| weight.abs()).filter(|size| *size > 0.0).collect();
    sizes.sort_by(f32::total_cmp);
    let most = sizes.get(sizes.len() * 9995 / 10000).copied().unwrap_or(1.0);
    let unit = most / 127.0;
    for (row, weights) in model.weights.iter_mut().zip(&weights) {
        let mut small: Row = [0; LANES];
        for (small, weight) in small.iter_mut().zip(weights) {
            #[expect(clippy::cast_possible_truncation, reason = "clamped")]
            let rounded = (weight / unit).round().clamp(-127.0, 127.0) as i8;
            *small = rounded;
        }
        *row = small;
    }
    model.scale = unit * LENGTH;
    model.bias = bias;
}

/// The share of snippets that a model gets right by itself, for choosing how it is trained.
pub fn quick(model: &Model, corpus: &Corpus, taken: impl Fn(usize) -> bool) {
    for length in [5, 20, 80] {
        let mut shares = Vec::new();
        let mut line = String::new();
        for (language, packages) in corpus {
            let kept: Vec<&Vec<File>> =
                packages.values().enumerate().filter(|(at, _)| taken(*at)).map(|(_, files)| files).collect();
            if kept.is_empty() || language == "text" {
                continue;
            }
            let mut rng = fastrand::Rng::with_seed(3);
            let snippets = corpus::snippets(&kept, 400, |_| length, &mut rng);
            let right = snippets
                .iter()
                .filter(|(_, _, text)| {
                    let verdict = model.classify(text.as_bytes());
                    verdict.and_then(|verdict| verdict.language).is_some_and(|found| found.name() == language)
                })
                .count();
            let share = 100.0 * right as f64 / snippets.len().max(1) as f64;
            line += &format!(" {language} {share:.0}");
            shares.push(share);
        }
        println!("{length} lines: {:.2} %{line}", shares.iter().sum::<f64>() / shares.len().max(1) as f64);
    }
}
