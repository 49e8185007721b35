//! The rules of the event stream format one by one, and that chunk boundaries do not matter.

use proptest::prelude::*;

use super::*;

type Decoded = (Vec<(Option<String>, String)>, bool);

/// All events of the stream cut at `cuts`, and whether it ended in an error.
fn decode_with(limit: usize, chunks: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::with_limit(limit);
    let mut events = Vec::new();
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push((event.name.map(text), text(event.data))),
                Ok(None) => break,
                Err(_) => return (events, true),
            }
        }
    }
    match decoder.finish() {
        Ok(last) => {
            events.extend(last.map(|event| (event.name.map(text), text(event.data))));
            (events, false)
        }
        Err(_) => (events, true),
    }
}

fn data_of(source: &[u8]) -> Vec<String> {
    let (events, failed) = decode_with(1024, &[source]);
    assert!(!failed);
    events.into_iter().map(|(_, data)| data).collect()
}

#[test]
fn every_line_end_is_taken() {
    for source in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
        assert_eq!(data_of(source.as_bytes()), ["a", "b"], "{source:?}");
    }
}

#[test]
fn the_space_after_the_colon_is_optional_and_only_one_is_dropped() {
    assert_eq!(data_of(b"data:a\n\ndata: b\n\ndata:  c\n\n"), ["a", "b", " c"]);
}

#[test]
fn several_data_lines_are_joined() {
    assert_eq!(data_of(b"data: a\ndata\ndata: c\n\n"), ["a\n\nc"]);
}

#[test]
fn comments_ids_retries_and_unknown_fields_are_dropped() {
    assert_eq!(
        data_of(b": hello\n\nid: 1\nretry: 5\nfoo: bar\ndata: a\n: in between\ndata: b\n\n:\n\n"),
        ["a\nb"]
    );
}

#[test]
fn the_name_belongs_to_its_event_alone() {
    let (events, _) = decode_with(1024, &[b"event: error\ndata: a\n\ndata: b\n\nevent: lost\n\ndata: c\n\n"]);
    assert_eq!(events, [(Some("error".into()), "a".into()), (None, "b".into()), (None, "c".into())]);
}

#[test]
fn a_byte_order_mark_is_dropped_at_the_start_only() {
    assert_eq!(data_of(b"\xEF\xBB\xBFdata: a\n\n\xEF\xBB\xBFdata: b\n\n"), ["a"]);
    let (events, _) = decode_with(1024, &[b"\xEF", b"\xBB\xBFda", b"ta: a\n\n"]);
    assert_eq!(events.len(), 1);
}

#[test]
fn an_event_without_data_is_none_but_empty_data_is() {
    assert_eq!(data_of(b"event: x\n\n\n\ndata:\n\n"), [""]);
}

#[test]
fn the_last_event_needs_no_blank_line() {
    assert_eq!(data_of(b"data: a\n\ndata: b\n"), ["a", "b"]);
    assert_eq!(data_of(b"data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
    assert_eq!(data_of(b"data: a\n\nevent: x"), ["a"]);
}

#[test]
fn an_event_in_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b": x\n\ndata: hello\n\ndata: world\n\n");
    let inside = chunk.as_ptr_range();
    let mut decoder = Decoder::default();
    decoder.push(chunk);
    for expected in ["hello", "world"] {
        let event = decoder.next_event().unwrap().unwrap();
        assert_eq!(event.data, expected);
        assert!(inside.contains(&event.data.as_ptr()));
    }
    assert_eq!(decoder.next_event(), Ok(None));
}

#[test]
fn pushing_before_all_was_read_loses_nothing() {
    let mut decoder = Decoder::default();
    decoder.push(Bytes::from_static(b"data: a\n\nda"));
    decoder.push(Bytes::from_static(b"ta: b\n\n"));
    assert_eq!(decoder.next_event().unwrap().unwrap().data, "a");
    assert_eq!(decoder.next_event().unwrap().unwrap().data, "b");
}

#[test]
fn a_line_or_event_over_the_limit_is_an_error_for_ever() {
    for source in ["data: 123456789\n\n", "data: 1234\ndata: 1234\ndata: 1\n\n", ": comment without an end"] {
        let (events, failed) = decode_with(10, &[b"data: ok\n\n", source.as_bytes()]);
        assert_eq!(events.len(), 1, "{source}");
        assert!(failed, "{source}");
    }
    let mut decoder = Decoder::with_limit(4);
    decoder.push(Bytes::from_static(b"data: a\n\n"));
    assert_eq!(decoder.next_event(), Err(EventTooLarge { limit: 4 }));
    decoder.push(Bytes::from_static(b"\n\n"));
    assert_eq!(decoder.next_event(), Err(EventTooLarge { limit: 4 }));
    assert_eq!(decoder.finish(), Err(EventTooLarge { limit: 4 }));
}

#[test]
fn an_endless_line_costs_no_more_than_the_limit() {
    let mut decoder = Decoder::with_limit(64 * 1024);
    let mut refused = false;
    for _ in 0..100 {
        decoder.push(Bytes::from(vec![b'x'; 1000]));
        refused |= decoder.next_event().is_err();
        assert!(decoder.carry.capacity() <= 256 * 1024);
    }
    assert!(refused);
}

proptest! {
    #[test]
    fn chunk_boundaries_do_not_matter(
        lines in prop::collection::vec(
            "(data|event|id|:|foo|)(:| |: )?[a-z:é ]{0,6}(\n|\r|\r\n|\n\n|\r\n\r\n|\r\r)?", 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        bom in any::<bool>(),
    ) {
        let text = format!("{}{}", if bom { "\u{feff}" } else { "" }, lines.concat());
        let source = text.as_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(source.len() + 1)).collect();
        places.extend([0, source.len()]);
        places.sort_unstable();
        let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &source[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = source.chunks(1).collect();
        for limit in [8, 1024] {
            let whole = decode_with(limit, &[source]);
            prop_assert_eq!(&decode_with(limit, &chunks), &whole);
            prop_assert_eq!(&decode_with(limit, &single), &whole);
        }
    }
}
