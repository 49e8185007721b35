//! Every way of cutting the same bytes gives the same answer, and each rule of the framing holds.

use bytes::BytesMut;
use proptest::prelude::*;

use super::chunk::{MAX_CHUNK_LINE, MAX_TRAILERS};
use super::{Framing, FramingError, MAX_HEAD, MAX_INFORMATIONAL};

/// How an answer came out, apart from its bytes.
#[derive(Debug, PartialEq)]
struct Outcome {
    complete: bool,
    reusable: bool,
    status: u16,
    error: Option<FramingError>,
}

/// Feeds the pieces as a connection would, and then its end if `ends`. The answer comes back as status, headers and
/// body, a line each for the first two.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, ends: bool) -> (Vec<u8>, Outcome) {
    let mut framing = Framing::new();
    let mut wire = BytesMut::new();
    let mut out = Vec::new();
    for piece in pieces {
        wire.extend_from_slice(piece);
        framing.push(&mut wire);
        if let Some((status, headers)) = framing.take_head() {
            out.extend_from_slice(format!("{status}\r\n").as_bytes());
            for (name, value) in &headers {
                out.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
            out.extend_from_slice(b"\r\n");
        }
        if !framing.in_head() {
            out.extend_from_slice(&wire.split());
        }
    }
    if ends {
        framing.end();
    }
    let outcome = Outcome {
        complete: framing.is_complete(),
        reusable: framing.is_reusable(),
        status: framing.status(),
        error: framing.error().cloned(),
    };
    (out, outcome)
}

fn whole(bytes: &[u8]) -> (String, Outcome) {
    let (out, outcome) = feed([bytes], false);
    (String::from_utf8(out).unwrap(), outcome)
}

fn protocol_error(bytes: &[u8]) -> String {
    match whole(bytes) {
        (_, Outcome { error: Some(FramingError::Protocol(what)), complete: false, reusable: false, .. }) => {
            what
        }
        other => panic!("{other:?}"),
    }
}

fn good(status: u16, reusable: bool) -> Outcome {
    Outcome { complete: true, reusable, status, error: None }
}

// === heads ===

#[test]
fn a_head_comes_without_what_concerns_the_connection() {
    let (out, outcome) = whole(
        b"HTTP/1.1 200 Fine\r\nA: 1\r\nConnection: keep-alive\r\nKeep-Alive: x\r\nUpgrade: websocket\r\n\
          content-length: 2\r\nb:2\r\nTE: x\r\nTrailer: x\r\n\r\nok",
    );
    assert_eq!(out, "200\r\na: 1\r\nb: 2\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(outcome, good(200, true));
}

#[test]
fn fields_that_the_connection_field_names_stay_here() {
    let (out, outcome) =
        whole(b"HTTP/1.1 200 OK\r\nX-Hop: 1\r\nA: 1\r\nConnection: X-hop, content-length\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(out, "200\r\na: 1\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(outcome, good(200, true));
}

#[test]
fn lines_may_end_with_lf_alone_and_the_reason_may_be_missing() {
    let (out, outcome) = whole(b"HTTP/1.1 404\ncontent-length: 1\n\nx");
    assert_eq!(out, "404\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(outcome, good(404, true));
}

#[test]
fn one_length_said_more_than_once_is_that_length() {
    for said in [
        "content-length: 2, 2",
        "content-length: 2,2 ,\t2",
        "content-length: 2\r\ncontent-length: 2",
        "content-length: 2, 2\r\nContent-Length: 02",
    ] {
        let (out, outcome) = whole(format!("HTTP/1.1 200 OK\r\na: 1\r\n{said}\r\n\r\nok").as_bytes());
        assert!(
            out.ends_with("\r\n\r\nok") && out.matches("content-length: ").count() == 1,
            "{said:?}: {out}"
        );
        assert!(!out.contains(','), "what is passed on says it once: {out}");
        assert_eq!(outcome, good(200, true), "{said:?}");
    }
}

#[test]
fn a_head_may_have_256_fields_and_not_one_more() {
    for (count, fits) in [(256, true), (257, false)] {
        let fields: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        let head = format!("HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n{fields}\r\n");
        let (_, outcome) = feed([head.as_bytes()], false);
        assert_eq!(outcome.complete, fits, "{count}: {outcome:?}");
        assert_eq!(matches!(outcome.error, Some(FramingError::Protocol(_))), !fits, "{count}");
    }
}

#[test]
fn informational_heads_are_swallowed_up_to_a_bound() {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let bytes = hint.repeat(usize::from(MAX_INFORMATIONAL)) + last;
    assert_eq!(whole(bytes.as_bytes()), ("200\r\ncontent-length: 0\r\n\r\n".to_owned(), good(200, true)));
    let bytes = hint.repeat(usize::from(MAX_INFORMATIONAL) + 1) + last;
    assert!(protocol_error(bytes.as_bytes()).contains("without end"));
}

#[test]
fn a_head_may_have_64_kb_and_not_a_byte_more() {
    let frame = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \r\n\r\n".len();
    for (size, fits) in [(MAX_HEAD, true), (MAX_HEAD + 1, false)] {
        let filler = "a".repeat(size - frame);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {filler}\r\n\r\n");
        for pieces in [vec![head.as_bytes()], head.as_bytes().chunks(1000).collect()] {
            assert_eq!(feed(pieces, false).1.complete, fits);
        }
    }
    let endless = vec![b'a'; MAX_HEAD];
    let pieces = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &endless];
    assert!(matches!(feed(pieces, false).1.error, Some(FramingError::Protocol(_))));
}

#[test]
fn a_head_that_cannot_be_followed_is_refused_with_the_reason() {
    for (bytes, said) in [
        ("SSH-2.0", "HTTP/1.1"),
        ("HTTP/2 200\r\n\r\n", "HTTP/1.1"),
        ("HTTP/1.x 200\r\n\r\n", "HTTP/1.1"),
        ("\u{15}\u{3}\u{3}", "https"),
        ("HTTP/1.1 20\r\n\r\n", "status"),
        ("HTTP/1.1 2000\r\n\r\n", "status"),
        ("HTTP/1.1 099\r\n\r\n", "status"),
        ("HTTP/1.1 2xx\r\n\r\n", "status"),
        ("HTTP/1.1 101 Switching\r\n\r\n", "switches protocols"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded: c\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\n: c\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\na: b\u{1}c\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n", "two content-lengths"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1,\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: ,1\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1 1\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\ncontent-length: 2\r\n\r\n", "two content-lengths"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\n a: b\r\n\r\n", "no header"),
        ("HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n", "content-length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nContent-Length: 2\r\n\r\n", "two content-lengths"),
        ("HTTP/1.1 200 OK\r\ncontent-length : 1\r\ncontent-length: 2\r\n\r\n", "two content-lengths"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "transfer-encoding"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", "may not"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "may not"),
    ] {
        let what = protocol_error(bytes.as_bytes());
        assert!(what.contains(said), "{bytes:?}: {what}");
    }
}

// === bodies ===

#[test]
fn a_chunked_body_loses_its_chunks_extensions_and_trailers() {
    let (out, outcome) = whole(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
          5\r\nhello\r\n00a;a=\"b\"\r\n, my world\r\n1 \r\n!\r\n0\r\nx: y\r\nz: w\r\n\r\n",
    );
    assert_eq!(out, "200\r\n\r\nhello, my world!");
    assert_eq!(outcome, good(200, true));
}

#[test]
fn a_coding_beats_a_length_and_spends_the_connection() {
    let (out, outcome) = whole(
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    assert_eq!(out, "200\r\n\r\nok");
    assert_eq!(outcome, good(200, false));
}

#[test]
fn statuses_without_a_body_are_complete_with_their_head() {
    for (head, out) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "204\r\n\r\n"),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", "304\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "200\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let (written, outcome) = whole(head.as_bytes());
        assert_eq!(written, out);
        assert!(outcome.complete && outcome.reusable);
    }
}

#[test]
fn only_a_body_that_ends_with_the_connection_is_complete_by_its_end() {
    let body = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
    for (bytes, complete) in [
        (body("", "to the end"), true),
        (body("transfer-encoding: identity\r\n", "to the end"), true),
        (body("content-length: 9\r\n", "half"), false),
        (body("transfer-encoding: chunked\r\n", ""), false),
        (body("transfer-encoding: chunked\r\n", "9\r\nhalf"), false),
        (body("transfer-encoding: chunked\r\n", "4\r\nhalf\r\n"), false),
        (body("transfer-encoding: chunked\r\n", "4\r\nhalf\r\n0\r\n"), false),
        (body("transfer-encoding: chunked\r\n", "4\r\nhalf\r\n0\r\n\r"), false),
        ("HTTP/1.1 200 OK\r\n".to_owned(), false),
    ] {
        assert!(!feed([bytes.as_bytes()], false).1.complete, "{bytes:?}");
        let (_, outcome) = feed([bytes.as_bytes()], true);
        assert_eq!(outcome.complete, complete, "{bytes:?}");
        assert_eq!(matches!(outcome.error, Some(FramingError::Truncated(_))), !complete, "{bytes:?}");
        assert!(!outcome.reusable, "{bytes:?}");
    }
}

#[test]
fn bytes_beyond_the_answer_are_dropped_and_spend_the_connection() {
    for head in ["content-length: 2\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}HTTP/1.1 200 OK\r\n\r\nevil");
        let (out, outcome) = whole(bytes.as_bytes());
        assert!(out.ends_with("\r\n\r\nok"), "{out}");
        assert_eq!(outcome, good(200, false));
    }
}

#[test]
fn broken_chunks_are_refused_after_the_good_ones() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    for (rest, said) in [
        ("\r\n", "start with its size"),
        ("x\r\n", "start with its size"),
        ("-1\r\n", "start with its size"),
        ("1x\r\n", "hexadecimal"),
        ("1\n", "hexadecimal"),
        ("1;a\n", "CRLF"),
        ("1\rx", "CRLF"),
        ("ffffffffffffffff0\r\n", "number"),
        ("1\r\nab", "longer"),
        ("1\r\na\rb", "longer"),
        ("0\r\n\rx", "CRLF"),
    ] {
        let bytes = format!("{head}{rest}");
        assert!(protocol_error(bytes.as_bytes()).contains(said), "{rest:?}");
        let (out, _) = whole(bytes.as_bytes());
        assert!(out.starts_with("200\r\n\r\nok"), "{out}");
    }
}

#[test]
fn lines_of_the_chunked_coding_are_bounded() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for rest in [
        "0".repeat(MAX_CHUNK_LINE + 2),
        format!("1;{}", "a".repeat(MAX_CHUNK_LINE)),
        format!("0\r\n{}", "a: b\r\n".repeat(MAX_TRAILERS / 6 + 1)),
        format!("0\r\n{}", "a".repeat(MAX_TRAILERS + 1)),
    ] {
        assert!(protocol_error(format!("{head}{rest}").as_bytes()).contains("too long"));
    }
}

// === any bytes, in any pieces ===

/// Cuts `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn places() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// An answer in one of the framings, and its body.
fn answer() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8);
    (0_u8..3, 0_usize..3, pieces).prop_map(|(kind, hints, pieces)| {
        let body = pieces.concat();
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(hints);
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: x\r\n");
        match kind {
            0 => {
                bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(&body);
            }
            1 => {
                bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for piece in &pieces {
                    bytes.extend_from_slice(format!("{:X};e=1\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            }
            _ => {
                bytes.extend_from_slice(b"\r\n");
                bytes.extend_from_slice(&body);
            }
        }
        (bytes, body)
    })
}

proptest! {
    #[test]
    fn an_answer_gives_its_body_however_it_is_cut((bytes, body) in answer(), places in places()) {
        let (out, outcome) = feed(cut(&bytes, &places), true);
        let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        prop_assert_eq!(&out[end..], &body[..]);
        prop_assert!(outcome.complete, "{:?}", outcome);
    }

    #[test]
    fn a_part_of_an_answer_is_never_complete_before_the_connection_ends(
        (bytes, _) in answer(),
        length in any::<prop::sample::Index>(),
        places in places(),
    ) {
        let part = &bytes[..length.index(bytes.len())];
        let (_, outcome) = feed(cut(part, &places), false);
        prop_assert!(!outcome.complete && outcome.error.is_none(), "{:?}", outcome);
    }

    #[test]
    fn damaged_answers_come_out_the_same_however_they_are_cut(
        (mut bytes, _) in answer(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ends in any::<bool>(),
        places in places(),
    ) {
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(feed(cut(&bytes, &places), ends), feed([bytes.as_slice()], ends));
    }

    #[test]
    fn garbage_neither_panics_nor_depends_on_how_it_is_cut(
        start in prop::sample::select(vec!["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\r\n01:;f ".to_vec())], 0..300),
        ends in any::<bool>(),
        places in places(),
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        prop_assert_eq!(feed(cut(&bytes, &places), ends), feed([bytes.as_slice()], ends));
    }
}
