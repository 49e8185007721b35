//! Measures what finding the language costs: prompts of 8 KB, long bodies, and bodies made to be slow. Beside each, a
//! pass of memchr over the same body in the same run, as a measure of the machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use demuxai::dialect::{CHAT_COMPLETIONS, COMPLETIONS, Endpoint, Request, read};
use demuxai::language;
use serde_json::json;

use crate::corpus::Corpus;

const PROMPT: Duration = Duration::from_micros(200);
const ANY: Duration = Duration::from_millis(1);
const TIMES: usize = 101;

/// The median time of what is run on what is made for each round.
pub fn median<T>(make: impl Fn() -> T, mut run: impl FnMut(&T)) -> Duration {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let made = make();
            let start = Instant::now();
            run(&made);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[TIMES / 2]
}

pub fn in_micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn parsed(endpoint: &Endpoint, body: String) -> Request {
    read(endpoint, Bytes::from(body)).expect("a request")
}

fn chat(content: &str) -> Request {
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": content }] });
    parsed(&CHAT_COMPLETIONS, body.to_string())
}

/// A body whose messages are this, as written.
fn raw(messages: &str) -> Request {
    parsed(&CHAT_COMPLETIONS, format!(r#"{{"model":"m","messages":{messages}}}"#))
}

fn cases(eval: &Corpus) -> Vec<(String, Request, Duration)> {
    let mut cases = Vec::new();
    for (language, packages) in eval {
        let lines = packages.values().flatten().flat_map(|file| &file.lines);
        let mut code = String::new();
        for line in lines {
            if code.len() + line.len() + 1 > 8 * 1024 {
                break;
            }
            code += line;
            code.push('\n');
        }
        cases.push((format!("8 KB of {language}"), chat(&code), PROMPT));
    }
    let long: String = eval["python"]
        .values()
        .flatten()
        .flat_map(|file| &file.lines)
        .fold(String::new(), |text, line| text + line + "\n");
    let long =
        &long[..(0..=long.len().min(4_000_000)).rev().find(|at| long.is_char_boundary(*at)).unwrap_or(0)];
    let mut any = |name: &str, request: Request| cases.push((name.to_owned(), request, ANY));
    any("4 MB of code in a message", chat(long));
    any("10 MB in a message", chat(&long.repeat(10_000_000_usize.div_ceil(long.len().max(1)))));
    any(
        "4 MB of code as a prompt",
        parsed(&COMPLETIONS, json!({ "model": "m", "prompt": long }).to_string()),
    );
    let turn = format!(
        r#"{{"role":"assistant","content":{}}},{{"role":"tool","content":"ok: 1"}}"#,
        json!(&long[..6000.min(long.len())])
    );
    any(
        "1,000 turns",
        raw(&format!(r#"[{{"role":"user","content":"go on"}},{}]"#, vec![turn; 500].join(","))),
    );
    let image = "A".repeat(6_000_000);
    any(
        "an image of 6 MB behind the text",
        raw(&format!(
            r#"[{{"role":"user","content":[{{"type":"text","text":"what?"}},{{"type":"image_url","image_url":{{"url":"data:{image}"}}}}]}}]"#
        )),
    );
    any("2 MB of escaped quotes", chat(&"\"".repeat(1_000_000)));
    any("2 MB of backslashes", chat(&"\\".repeat(1_000_000)));
    any("4 MB of newlines", chat(&"\n".repeat(2_000_000)));
    any("3 MB of escapes", raw(&format!(r#"[{{"role":"user","content":"{}"}}]"#, "\\u0041".repeat(500_000))));
    any("1 MB of brackets", raw(&format!("[{}1]", "[],".repeat(330_000))));
    any("1 MB of empty messages", raw(&format!("[{}1]", "{},".repeat(330_000))));
    any("1 MB of white space", raw(&format!("[{}]", " ".repeat(1_000_000))));
    any("1 MB in one word", chat(&"x".repeat(1_000_000)));
    any("fences alone", chat(&"```\n".repeat(100_000)));
    any("paths alone", chat(&"src/main.rs:12:\n".repeat(100_000)));
    any("sentences with paths", chat(&"fix src/main.rs and src/lib.rs please\n".repeat(100_000)));
    any("attributes alone", chat(&"<a b=\"c\" ".repeat(100_000)));
    any("fields alone", chat(&"{\"a\":\"b\",".repeat(100_000)));
    any("8,000 keys in a message", raw(&format!(r#"[{{{}"role":"user"}}]"#, r#""a":1,"#.repeat(8_000))));
    any("Chinese", chat(&"这个函数为什么不返回任何东西。".repeat(10_000)));
    let dense: String =
        (0..300_000).map(|at| if at % 3 == 0 { '\n' } else { ['(', '{', '=', 'a', ';'][at % 5] }).collect();
    any("dense punctuation", chat(&dense));
    cases
}

/// Prints the medians; whether all bounds hold.
pub fn measure(eval: &Corpus) -> bool {
    println!(
        "\nmedians of {TIMES}, in microseconds: the language of the content, of the prose, memchr over the body"
    );
    let mut held = true;
    for (name, request, bound) in cases(eval) {
        let content = median(|| (), |()| drop(black_box(language::of(black_box(&request)))));
        let prose = median(
            || (),
            |()| {
                black_box(language::natural(black_box(&request)));
            },
        );
        let pass = median(
            || (),
            |()| {
                black_box(memchr::memchr_iter(b'\\', black_box(&request.body)).count());
            },
        );
        let found = language::of(&request).map_or("none".to_owned(), |found| format!("{found:?}"));
        let over = content > bound || prose > bound;
        held &= !over;
        println!(
            "{name:<34} {:>8.1} {:>8.1} {:>8.1}  ratio {:>7.2}{}  {}",
            in_micros(content),
            in_micros(prose),
            in_micros(pass),
            in_micros(content) / in_micros(pass).max(0.001),
            if over { "  OVER" } else { "" },
            &found[..(0..=found.len().min(90)).rev().find(|at| found.is_char_boundary(*at)).unwrap_or(0)],
        );
    }
    println!(
        "bounds: {PROMPT:?} for a prompt of 8 KB, {ANY:?} for any: {}",
        if held { "held" } else { "MISSED" }
    );
    held
}
