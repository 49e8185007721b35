//! What the fake embedding models answer: deterministic unit vectors, nearer to each other the more words two texts
//! share. Pure. The base64 here is our own, so that the product's encoder is judged by another one.

use serde_json::{Value, json};

use super::parrot::{fingerprint, tokens};

/// The texts of an `input`: a string, strings, or token ids in one or two levels.
pub(super) fn inputs(input: Option<&Value>) -> Vec<String> {
    match input {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.iter().any(Value::is_number) => {
            vec![Value::Array(items.clone()).to_string()]
        }
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// Tokens of all texts together.
pub(super) fn input_tokens(texts: &[String]) -> usize {
    texts.iter().map(|text| tokens(text).max(1)).sum()
}

/// The vector of a text.
pub(super) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; dimensions];
    for word in text.split_whitespace().chain([""]) {
        let mut state = fingerprint(word.to_lowercase().as_bytes()) | 1;
        for value in &mut sum {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let bits = u32::try_from(state >> 40).unwrap_or_default();
            *value += f64::from(bits) / f64::from(1_u32 << 23) - 1.0;
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    sum.iter().map(|value| (value / length) as f32).collect()
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// A list of numbers.
    Float,
    /// Little-endian `f32` in base64.
    Base64,
}

impl Encoding {
    /// What `encoding_format` asks for.
    pub fn of(body: &Value) -> Encoding {
        match body.get("encoding_format").and_then(Value::as_str) {
            Some(format) if format.eq_ignore_ascii_case("base64") => Encoding::Base64,
            _ => Encoding::Float,
        }
    }

    /// A vector, written so.
    pub fn write(self, vector: &[f32]) -> Value {
        match self {
            // Through text, so that the number is the shortest that reads back as the same f32.
            Encoding::Float => {
                vector.iter().map(|value| json!(value.to_string().parse().unwrap_or(0.0_f64))).collect()
            }
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Value::String(base64(&bytes))
            }
        }
    }
}

/// The `data` of an embeddings answer.
pub(super) fn data(texts: &[String], dimensions: usize, encoding: Encoding) -> Value {
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"object": "embedding", "embedding": encoding.write(&vector(text, dimensions)), "index": index})
        })
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = 0_usize;
        for position in 0..3 {
            word = (word << 8) | usize::from(group.get(position).copied().unwrap_or_default());
        }
        for position in 0..4 {
            let letter = ALPHABET.get((word >> (18 - 6 * position)) & 63).copied().map_or('A', char::from);
            text.push(if position > group.len() { '=' } else { letter });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn vectors_are_unit_length_deterministic_and_near_for_like_texts() {
        let cat = vector("the cat sat on the mat", 256);
        assert_eq!(cat, vector("the cat sat on the mat", 256));
        assert!((dot(&cat, &cat) - 1.0).abs() < 1e-4);
        let near = dot(&cat, &vector("the cat sat on a rug", 256));
        let far = dot(&cat, &vector("quarterly fiscal results improved", 256));
        assert!(near > far + 0.2, "{near} {far}");
        assert_eq!(vector("", 3).len(), 3);
    }

    #[test]
    fn base64_agrees_with_the_known_vectors() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(Encoding::Base64.write(&[1.0, -2.5]), json!("AACAPwAAIMA="));
    }

    #[test]
    fn floats_read_back_as_the_same_f32() {
        let vector = vector("abc", 8);
        let written: Vec<f32> = serde_json::from_value(Encoding::Float.write(&vector)).unwrap();
        assert_eq!(written, vector);
    }

    #[test]
    fn every_shape_of_input_is_read() {
        assert_eq!(inputs(Some(&json!("a"))), ["a"]);
        assert_eq!(inputs(Some(&json!(["a", "b"]))), ["a", "b"]);
        assert_eq!(inputs(Some(&json!([1, 2]))), ["[1,2]"]);
        assert_eq!(inputs(Some(&json!([[1], [2]]))), ["[1]", "[2]"]);
        assert_eq!(inputs(None), Vec::<String>::new());
    }
}
