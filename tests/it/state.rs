//! State on disk: it outlives `kill -9`, and a file that cannot be used costs nothing but its memory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demuxai::config::settings::StateConfig;
use demuxai::metrics::Metrics;
use demuxai::quota::Moment;
use demuxai::state::{Asked, Row, Spent, State};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::eventually;
use crate::support::program::{Home, Phoenix, Program};
use crate::support::proxy::Proxy;
use crate::support::{client, edge, nowhere, proxy};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn config(file: &Path) -> StateConfig {
    StateConfig { file: Some(file.to_owned()), homeless: false }
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Moment(i64::try_from(since.as_millis()).expect("before 292 million years"))
}

fn provider() -> String {
    format!("[providers.up]\ntype = \"openai\"\nurl = \"{}\"\napi_key = \"k\"\n", nowhere())
}

fn state_of(program: &Program) -> Value {
    client::get(program.address(), "/demuxai/status").json()["state"].clone()
}

fn metric(program: &Program, series: &str) -> Option<String> {
    let text = client::get(program.address(), "/metrics").text();
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next().map(str::to_owned)
}

/// What a daemon counts in its place: not a test, but what the next one starts as a process of its own and kills. It
/// goes on where the file says that it was, and says each number that it has handed over.
#[test]
fn counts_until_it_is_killed() {
    let marker = Path::new("count-in-this-directory");
    if !marker.exists() {
        return;
    }
    actix_rt::System::new().block_on(async {
        let (state, saved) = State::open(&config(Path::new("state.db")), &Metrics::new().expect("metrics"));
        assert_eq!(state.status().trouble, None);
        let mut number: u64 = saved.ledger.first().map_or(0, |row| row.json.parse().expect("a number"));
        loop {
            number += 1;
            state.save("p", vec![Row { key: "count".to_owned(), json: number.to_string() }]);
            state.count_usage(now(), "p", "m", Spent { requests: 1, ..Spent::default() });
            println!("counted {number} {}", now().0);
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    });
}

/// Starts the above, kills it after so many numbers, and gives the numbers with their times.
fn counted_and_killed(directory: &Path, numbers: usize) -> Vec<(u64, i64)> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "state::counts_until_it_is_killed", "--nocapture"])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let mut said = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let counted = |line: String| {
        let (_, counted) = line.split_once("counted ")?;
        let (number, at) = counted.trim().split_once(' ')?;
        Some((number.parse().ok()?, at.parse().ok()?))
    };
    while said.len() < numbers {
        said.extend(counted(lines.next().expect("it goes on").expect("a line")));
    }
    child.kill().expect("it is killed");
    // What it said before it died, and is still in the pipe.
    said.extend(lines.map_while(Result::ok).filter_map(counted));
    child.wait().expect("it ends");
    said
}

#[test]
fn kill_9_costs_a_tenth_of_a_second_of_counting_and_never_doubles_any() {
    const ROUNDS: usize = 12;
    let directory = TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("count-in-this-directory"), "").expect("a marker");
    let file = directory.path().join("state.db");
    let (mut in_time, mut before) = (0, 0);
    for round in 0..ROUNDS {
        let said = counted_and_killed(directory.path(), 100 + 37 * round);
        let (last, last_at) = *said.last().expect("numbers");
        assert_eq!(said[0].0, before + 1, "it went on where the file said");
        let (kept, used) = actix_rt::System::new().block_on(async {
            let (state, saved) = State::open(&config(&file), &Metrics::new().expect("metrics"));
            assert_eq!(state.status().trouble, None, "round {round}");
            let asked = Asked { from: Moment(0), until: Moment(i64::MAX), provider: None };
            let rows = state.history(asked).await.expect("a history");
            let used: u64 = rows.iter().map(|row| row.spent.requests).sum();
            state.drain(LONG).await;
            (saved.ledger[0].json.parse::<u64>().expect("a number"), used)
        });
        assert!(kept <= last + 1, "nothing is invented: {kept} of {last}");
        // A batch may be taken between the two halves of one number.
        assert!(used + 1 >= kept.saturating_sub(round as u64) && used <= kept, "{used} of {kept}");
        let lost_ms = said.iter().find(|(number, _)| *number > kept).map_or(0, |(_, at)| last_at - at);
        // A machine that is busy with other things may stop any thread for a while, but not always.
        assert!(lost_ms < 1000, "round {round} lost {lost_ms} ms");
        in_time += usize::from(lost_ms <= 100);
        before = kept;
    }
    assert!(in_time * 4 >= ROUNDS * 3, "only {in_time} of {ROUNDS} lost at most 100 ms");
}

#[test]
fn a_daemon_s_state_file_survives_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("sub/state.db");
    let text = format!("{}[state]\npath = \"{}\"\n", provider(), file.display());
    let first = Proxy::start(&text);
    let status = first.get("/demuxai/status").json()["state"].clone();
    assert_eq!(status["kept"], "disk", "{status}");
    assert_eq!(status["file"], file.to_str().expect("text"));
    first.handle.state().save("up", vec![Row { key: "a".to_owned(), json: "{\"used\":7}".to_owned() }]);
    drop(first);
    let (_, saved) = actix_rt::System::new()
        .block_on(async { State::open(&config(&file), &Metrics::new().expect("metrics")) });
    assert_eq!(saved.ledger.len(), 1);
    assert_eq!((saved.ledger[0].key.as_str(), saved.ledger[0].json.as_str()), ("a", "{\"used\":7}"));
}

#[cfg(unix)]
#[test]
fn the_program_keeps_its_state_where_it_is_told_for_its_owner_alone_and_closes_it_well() {
    use std::os::unix::fs::PermissionsExt;
    let mut phoenix = Phoenix::start(&provider());
    let file = phoenix.state_file();
    assert_eq!(state_of(phoenix.program())["kept"], "disk");
    assert_eq!(metric(phoenix.program(), "demuxai_state_up").as_deref(), Some("1"));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a directory"))), (0o600, 0o700));
    let ended = phoenix.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(complaints(&ended.stderr).is_empty(), "{}", ended.stderr);
    let wal = file.with_file_name("state.db-wal");
    assert!(!wal.exists(), "an orderly end leaves one file");
}

#[test]
fn killed_again_and_again_it_comes_back_on_the_same_file() {
    let mut phoenix = Phoenix::start(&provider());
    let healthy = |program: &Program| {
        let state = state_of(program);
        assert_eq!((&state["kept"], &state["error"]), (&"disk".into(), &Value::Null), "{state}");
    };
    phoenix.die_and_rise(5, |_round, program| healthy(program), |_round, program| healthy(program));
    // Or in the middle of its start.
    phoenix.kill_when(|_program| true);
    phoenix.rise();
    healthy(phoenix.program());
}

#[test]
fn without_a_configuration_the_state_is_in_the_platform_s_directory_and_check_says_so() {
    let home = Home::new();
    let file = home.path().join(".local/state/demuxai/state.db");
    let ended = home.run(&["check"]);
    #[cfg(target_os = "linux")]
    assert!(ended.stdout.contains(&format!("state    {}", file.display())), "{}", ended.stdout);
    assert!(!file.exists(), "checking touches nothing");
    let ended = home.with("DEMUXAI__STATE__PATH", "none").run(&["check"]);
    assert!(ended.stdout.contains("state    in memory only"), "{}", ended.stdout);
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let home = Home::new();
    let mut command = home.command(&["demo", "--listen", "127.0.0.1:0"]);
    command.env_remove("HOME");
    let program = Program::spawn(command);
    let state = state_of(&program);
    assert!(!program.stderr().contains("WARN"), "{}", program.stderr());
    assert_eq!((&state["kept"], &state["file"]), (&"memory".into(), &Value::Null), "{state}");
    assert_eq!(metric(&program, "demuxai_state_up"), None);
    program.signal("TERM");
    assert_eq!(program.ended().code, 0);
    assert_eq!(home.path().read_dir().expect("a home").count(), 0);
}

/// How often the log says that state is not kept on disk.
fn complaints(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains("state cannot be kept on disk")).collect()
}

#[test]
fn a_corrupt_file_is_moved_aside_and_said_loudly() {
    let mut phoenix = Phoenix::ready(&provider());
    let file = phoenix.state_file();
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("it is made");
    std::fs::write(&file, "no database ".repeat(1000)).expect("it is written");
    phoenix.rise();
    assert_eq!(state_of(phoenix.program())["kept"], "disk");
    let stderr = phoenix.end().stderr;
    let line = stderr.lines().find(|line| line.contains("corrupt")).unwrap_or_else(|| panic!("{stderr}"));
    let aside: PathBuf = file
        .parent()
        .and_then(|directory| directory.read_dir().ok())
        .and_then(|entries| {
            let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            paths.find(|path| path.to_string_lossy().contains(".corrupt-"))
        })
        .expect("it was kept");
    for part in ["WARN", &file.display().to_string(), &aside.display().to_string()] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_said_once_and_the_daemon_serves_on_until_it_can() {
    let mut phoenix = Phoenix::ready(&provider());
    let directory = phoenix.state_file().parent().expect("a directory").to_owned();
    std::fs::write(&directory, "in the way").expect("it is written");
    phoenix.rise();
    let state = state_of(phoenix.program());
    assert_eq!(state["kept"], "memory", "{state}");
    assert!(
        state["error"].as_str().is_some_and(|error| error.contains("cannot make the directory")),
        "{state}"
    );
    assert_eq!(metric(phoenix.program(), "demuxai_state_up").as_deref(), Some("0"));
    assert_eq!(client::get(phoenix.program().address(), "/v1/models").status, 200);
    let failed = "demuxai_state_writes_total{outcome=\"error\"}";
    eventually(
        "it is tried again",
        || metric(phoenix.program(), failed),
        |count| count.as_deref().is_some_and(|count| count.parse::<u32>().unwrap() >= 2),
    );
    assert_eq!(complaints(&phoenix.program().stderr()).len(), 1, "{}", phoenix.program().stderr());
    std::fs::remove_file(&directory).expect("it is removed");
    eventually("it is kept on disk", || state_of(phoenix.program()), |state| state["kept"] == "disk");
    assert_eq!(phoenix.end().code, 0);
    assert!(directory.join("state.db").exists());
}

#[test]
fn a_database_that_another_program_holds_does_not_keep_the_daemon_from_serving() {
    let fake = edge::upstream();
    let mut phoenix = Phoenix::start(&proxy::provider("up", "openai", &fake.url()));
    let file = phoenix.state_file();
    assert_eq!(phoenix.end().code, 0);
    let other = rusqlite::Connection::open(&file).expect("a database");
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").expect("it is held");
    phoenix.rise();
    let state = state_of(phoenix.program());
    assert_eq!(state["kept"], "memory", "{state}");
    let error = state["error"].as_str().expect("a reason");
    assert!(error.contains("locked; another program holds it"), "{error}");
    assert_eq!(metric(phoenix.program(), "demuxai_state_up").as_deref(), Some("0"));
    phoenix.program().until_ready();
    let address = phoenix.program().address();
    assert_eq!(client::post(address, "/v1/chat/completions", edge::CHAT).status, 200);
    drop(other);
    eventually("it is kept on disk", || state_of(phoenix.program()), |state| state["kept"] == "disk");
    let all_written = || metric(phoenix.program(), "demuxai_state_journal_rows");
    eventually("nothing is left to write", all_written, |rows| rows.as_deref() == Some("0"));
    let ended = phoenix.end();
    assert_eq!((ended.code, complaints(&ended.stderr).len()), (0, 1), "{}", ended.stderr);
    let requests: i64 = rusqlite::Connection::open(&file)
        .and_then(|file| file.query_row("SELECT sum(requests) FROM usage", [], |row| row.get(0)))
        .expect("its history");
    assert_eq!(requests, 1, "what was counted in memory came to disk");
}

#[test]
fn a_second_daemon_on_the_same_file_counts_in_memory_until_the_first_one_is_gone() {
    let mut phoenix = Phoenix::start(&provider());
    let second = phoenix.twin();
    let state = state_of(&second);
    assert_eq!(state["kept"], "memory", "{state}");
    let error = state["error"].as_str().expect("a reason").to_owned();
    assert!(error.contains("in use by another demuxai (process "), "{error}");
    assert!(complaints(&second.stderr()).len() == 1, "{}", second.stderr());
    assert_eq!(state_of(phoenix.program())["kept"], "disk", "the first one does not notice");
    phoenix.kill();
    eventually("the second one takes over", || state_of(&second), |state| state["kept"] == "disk");
}

#[test]
fn a_successor_counts_what_the_one_before_sent_at_its_end() {
    let fake = edge::upstream();
    let limits = "limits = [{ requests = 100, per = \"day\", window = \"rolling\" }]\n";
    let mut old = Phoenix::start(&format!("{}{limits}", proxy::provider("up", "openai", &fake.url())));
    old.program().until_ready();
    let chat = |program: &Program, times: usize| {
        for _ in 0..times {
            assert_eq!(client::post(program.address(), "/v1/chat/completions", edge::CHAT).status, 200);
        }
    };
    let used = |program: &Program| {
        let status = client::get(program.address(), "/demuxai/status").json();
        status["providers"][0]["limits"][0]["used"].as_u64()
    };
    chat(old.program(), 2);
    let written = || metric(old.program(), "demuxai_state_journal_rows");
    eventually("it is written", written, |rows| rows.as_deref() == Some("0"));
    let new = old.twin();
    new.until_ready();
    assert_eq!(used(&new), Some(2), "it begins with what the old one had counted");
    chat(old.program(), 3);
    chat(&new, 1);
    assert_eq!(old.end().code, 0);
    eventually("it takes over", || state_of(&new), |state| state["kept"] == "disk");
    assert_eq!(used(&new), Some(6));
    let said = "what another demuxai counted on this file meanwhile counts here, too";
    eventually("it says so", || new.stderr(), |log| log.contains(said));
    new.signal("TERM");
    assert_eq!(new.ended().code, 0);
    let third = old.twin();
    assert_eq!(used(&third), Some(6), "and it was written");
}

#[cfg(unix)]
#[test]
fn a_file_that_is_deleted_while_the_daemon_runs_is_no_matter() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("state.db");
    let proxy = Proxy::start(&format!("{}[state]\npath = \"{}\"\n", provider(), file.display()));
    let row = |key: &str| Row { key: key.to_owned(), json: "1".to_owned() };
    proxy.handle.state().save("up", vec![row("a")]);
    eventually("it is written", || proxy.handle.state().status().waiting, |waiting| *waiting == 0);
    std::fs::remove_file(&file).expect("it is deleted");
    proxy.handle.state().save("up", vec![row("b")]);
    eventually("there is a fresh one", || file.exists(), |there| *there);
    eventually("all is written", || proxy.handle.state().status().waiting, |waiting| *waiting == 0);
    assert_eq!(proxy.get("/demuxai/status").json()["state"]["error"], Value::Null);
}
