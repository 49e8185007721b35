//! What the classifier sees of a text: its words, what stands beside what, and the shapes of three or four tokens in a
//! row. Whoever trains the classifier takes them from here too, so that both see the same.

/// The features of a text, each as a hash, in the order they come; what repeats comes again. At most five to a token;
/// it takes one pass and no memory.
pub fn each(text: &[u8], mut take: impl FnMut(u32)) {
    let mut tokens = Tokens { text, at: 0 };
    let mut before = [Token { exact: START, shape: b'^' }; 3];
    while let Some(token) = tokens.next() {
        let [far, middle, near] = before;
        let shapes = (u64::from(near.shape) << 8) | u64::from(token.shape);
        if token.is_word() {
            take(mixed(token.exact));
        }
        take(mixed(near.exact.rotate_left(23) ^ token.exact ^ BIGRAM));
        if middle.is_word() {
            take(mixed(middle.exact.rotate_left(17) ^ shapes ^ WORD_AND_SHAPES));
        }
        let three = (u64::from(middle.shape) << 16) | shapes;
        take(mixed(three ^ SHAPES));
        take(mixed((u64::from(far.shape) << 24) | three | FOUR_SHAPES));
        before = [middle, near, token];
    }
}

const START: u64 = 0x51;
const BIGRAM: u64 = 0x9E37_79B9_0000_0000;
const WORD_AND_SHAPES: u64 = 0x85EB_CA6B_0000_0000;
const SHAPES: u64 = 0xC2B2_AE35_0000_0000;
const FOUR_SHAPES: u64 = 0x27D4_EB2F_0000_0000;

/// Spreads what differs in a few bits over all of them.
fn mixed(value: u64) -> u32 {
    let mut hash = value.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    u32::try_from(hash >> 32).unwrap_or_default()
}

/// One token: what it is, and what it looks like.
#[derive(Clone, Copy)]
struct Token {
    exact: u64,
    shape: u8,
}

/// Set in a shape when there is space before the token.
const SPACED: u8 = 0x80;

impl Token {
    fn is_word(self) -> bool {
        matches!(self.shape & !SPACED, b'a' | b'A' | b'X' | b'c' | b'_')
    }
}

struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token> {
        let mut spaced = 0;
        let mut line = false;
        let mut indent = b'\n';
        loop {
            match self.peek() {
                Some(b'\n') => (line, spaced, indent) = (true, 0, b'\n'),
                Some(b'\t') if line && indent == b'\n' => indent = b'T',
                Some(b' ') if line && indent == b'\n' => indent = b'S',
                Some(b' ' | b'\t' | b'\r' | 0x0C) => spaced = SPACED,
                _ => break,
            }
            self.at += 1;
        }
        if line {
            return Some(Token { exact: u64::from(indent), shape: indent });
        }
        let byte = self.peek()?;
        if byte.is_ascii_digit() {
            self.skip(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
            return Some(Token { exact: u64::from(b'0'), shape: b'0' | spaced });
        }
        if !is_letter(byte) {
            self.at += 1;
            return Some(Token { exact: u64::from(byte) | (u64::from(spaced) << 1), shape: byte | spaced });
        }
        let start = self.at;
        self.skip(|byte| is_letter(byte) || byte.is_ascii_digit());
        let word = self.text.get(start..self.at).unwrap_or_default();
        Some(Token { exact: word_hash(word), shape: word_shape(word) | spaced })
    }

    fn skip(&mut self, part: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|byte| !part(*byte)).unwrap_or(rest.len());
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn word_hash(word: &[u8]) -> u64 {
    // FNV-1a: words are short.
    word.iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

fn word_shape(word: &[u8]) -> u8 {
    let (mut upper, mut lower, mut score) = (false, false, false);
    for byte in word {
        upper |= byte.is_ascii_uppercase();
        lower |= byte.is_ascii_lowercase();
        score |= *byte == b'_';
    }
    match (upper, lower) {
        (true, false) => b'X',
        (true, true) if word.first().is_some_and(u8::is_ascii_uppercase) => b'A',
        (true, true) => b'c',
        _ if score => b'_',
        _ => b'a',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<u32> {
        let mut features = Vec::new();
        each(text.as_bytes(), |feature| features.push(feature));
        features
    }

    #[test]
    fn names_differ_and_shapes_do_not() {
        let (one, two) = (of("fn first(a: u8)"), of("fn other(b: u8)"));
        assert_eq!(one.len(), two.len());
        let same = one.iter().zip(&two).filter(|(left, right)| left == right).count();
        assert!(same > one.len() / 2 && same < one.len(), "{same} of {}", one.len());
    }

    #[test]
    fn blank_lines_and_carriage_returns_make_no_difference() {
        assert_eq!(of("a = 1\r\n\r\n\r\nb = 2"), of("a = 1\nb = 2"));
        assert_ne!(of("a\n\tb"), of("a\n  b"));
    }

    #[test]
    fn nothing_comes_of_nothing_and_no_more_than_five_of_a_byte() {
        assert!(of("").is_empty() && of(" \t ").is_empty());
        let every: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let mut count = 0;
        each(&every, |_| count += 1);
        assert!(count <= 5 * every.len());
    }
}
