//! A tee over a backend that does as it is told: the client gets what it would, and the file what it should.

use serde_json::{Value, json};

use super::super::scene::{Script, Upstream, WHOLE, ask, call, chunk, finish, hello, is_asking, read_piece};
use super::*;
use crate::error::ErrorKind;
use crate::provider::scrub::Scrub;

fn clock() -> Timestamp {
    "2026-11-28T11:22:33Z".parse().unwrap()
}

fn tee(upstream: &Arc<Upstream>, path: &std::path::Path) -> Arc<Tee> {
    beside(upstream, path, &Files::default())
}

/// A tee beside others that write to these files.
fn beside(upstream: &Arc<Upstream>, path: &std::path::Path, files: &Files) -> Arc<Tee> {
    let options = Options {
        path: path.to_owned(),
        max_file: 1 << 20,
        keep_files: 1,
        max_record: 10_000,
        media: Media::Cut,
    };
    let secrets = Arc::new(Secrets::new(Scrub::of(["own-secret-0123456789"].into_iter())));
    Arc::new(Tee::new(upstream.wrapped("tee"), options, secrets, files, clock).unwrap())
}

async fn lines(tee: &Tee, path: &std::path::Path) -> Vec<Value> {
    tee.writer.settle().await;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn records(upstream: &Upstream, outcome: &str) -> u64 {
    upstream.metric(&format!("demuxai_tee_records_total{{backend=\"g\",outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn requests_and_answers_of_all_kinds_are_written_once_and_passed_on_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tee.jsonl");
    let broken = Script::Stream(vec![(Duration::ZERO, chunk("a"))], Some(ErrorKind::Truncated));
    let quick = Script::Stream(vec![(Duration::ZERO, chunk("hello")), (Duration::ZERO, finish())], None);
    let whole = Script::Whole(Duration::ZERO, WHOLE.to_owned());
    let failed = Script::Fail(Duration::ZERO, ErrorKind::Connect);
    let upstream = Upstream::new([whole, quick, broken, failed]);
    let tee = tee(&upstream, &path);
    let stream = || call(r#""messages":[{"role":"user","content":"own-secret-0123456789"}],"stream":true"#);
    let got = ask(&tee, Call { client: Some(Arc::from("ide")), ..call(r#""messages":[]"#) }).await.unwrap();
    assert_eq!((got.text.as_str(), got.reply.headers.len()), (WHOLE, 1));
    let got = ask(&tee, stream()).await.unwrap();
    assert_eq!(got.text, [chunk("hello"), finish()].concat());
    ask(&tee, stream()).await.unwrap();
    assert!(ask(&tee, stream()).await.is_err());
    let lines = lines(&tee, &path).await;
    let told: Vec<_> =
        lines.iter().map(|line| (line["outcome"].clone(), line["answer"]["choices"].clone())).collect();
    let said = |text| json!([{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]);
    let cut_off = json!([{"index": 0, "message": {"content": "a"}, "finish_reason": null}]);
    assert_eq!(
        told,
        [
            (json!("ok"), said("hi")),
            (json!("ok"), said("hello")),
            (json!("truncated"), cut_off),
            (json!("connect"), Value::Null),
        ]
    );
    assert_eq!(
        (&lines[0]["client"], &lines[0]["provider"], &lines[0]["model"]),
        (&json!("ide"), &json!("up"), &json!("m"))
    );
    assert_eq!(
        (&lines[1]["tokens"]["input"], &lines[1]["time"]),
        (&json!(3), &json!("2026-11-28T11:22:33.000Z"))
    );
    assert_eq!(lines[1]["request"]["messages"][0]["content"], "(secret)");
    assert_eq!((records(&upstream, "written"), records(&upstream, "dropped")), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_written_with_what_it_got() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tee.jsonl");
    let upstream = Upstream::new([hello(), Script::Whole(Duration::from_secs(1), WHOLE.to_owned())]);
    let tee = tee(&upstream, &path);
    let mut reply = Arc::clone(&tee).forward(call(r#""messages":[],"stream":true"#)).await.unwrap();
    read_piece(&mut reply).await;
    drop(reply);
    let mut asking = Arc::clone(&tee).forward(call(r#""messages":[]"#));
    assert!(is_asking(&mut asking).await);
    drop(asking);
    assert_eq!(upstream.cancelled(), 2);
    let lines = lines(&tee, &path).await;
    assert_eq!(
        (lines.len(), &lines[0]["outcome"], &lines[1]["outcome"]),
        (2, &json!("cancelled"), &json!("cancelled"))
    );
    assert_eq!(lines[0]["answer"]["choices"][0]["message"]["content"], "hel");
    assert!(lines[1].get("answer").is_none());
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_touches_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("a file");
    std::fs::write(&nowhere, "").unwrap();
    let path = nowhere.join("tee.jsonl");
    let upstream = Upstream::new([Script::Whole(Duration::ZERO, WHOLE.to_owned())]);
    let tee = tee(&upstream, &path);
    for _ in 0..3 {
        assert_eq!(ask(&tee, call(r#""messages":[]"#)).await.unwrap().text, WHOLE);
    }
    tee.writer.settle().await;
    assert_eq!((records(&upstream, "failed"), records(&upstream, "written")), (3, 0));
    std::fs::remove_file(&nowhere).unwrap();
    ask(&tee, call(r#""messages":[]"#)).await.unwrap();
    assert_eq!(lines(&tee, &path).await.len(), 1, "it is written again when it can be");
}

/// A file that is a pipe without a reader: whoever opens it to write waits.
#[cfg(unix)]
#[tokio::test]
async fn a_disk_that_hangs_touches_no_request_and_what_it_does_not_take_is_dropped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tee.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    // Held open for reading and writing, so that opening does not wait but writing does, once the pipe is full.
    let _held = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let long = WHOLE.replace("hi", &"x ".repeat(4000));
    let upstream = Upstream::new([Script::Whole(Duration::ZERO, long.clone())]);
    let tee = tee(&upstream, &path);
    for _ in 0..1000 {
        assert_eq!(ask(&tee, call(r#""messages":[]"#)).await.unwrap().text, long);
    }
    assert!(records(&upstream, "dropped") > 500, "{}", records(&upstream, "dropped"));
}

#[tokio::test]
async fn tees_on_one_file_share_its_thread_and_one_that_follows_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tee.jsonl");
    let upstream = Upstream::new([Script::Whole(Duration::ZERO, WHOLE.to_owned())]);
    let files = Files::default();
    let (one, other) = (beside(&upstream, &path, &files), beside(&upstream, &path, &files));
    ask(&one, call(r#""messages":[],"user":"1""#)).await.unwrap();
    ask(&other, call(r#""messages":[],"user":"2""#)).await.unwrap();
    ask(&one, call(r#""messages":[],"user":"3""#)).await.unwrap();
    let users = |lines: Vec<Value>| -> Vec<Value> {
        lines.iter().map(|line| line["request"]["user"].clone()).collect()
    };
    // What one of them has to wait for is what both wrote.
    assert_eq!(users(lines(&other, &path).await), ["1", "2", "3"]);
    for number in 4..=50 {
        ask(&one, call(&format!(r#""messages":[],"user":"{number}""#))).await.unwrap();
    }
    drop((one, other));
    let next = beside(&upstream, &path, &files);
    ask(&next, call(r#""messages":[],"user":"51""#)).await.unwrap();
    let users = users(lines(&next, &path).await);
    assert_eq!(users, (1..=51).map(|number| json!(number.to_string())).collect::<Vec<_>>());
}
