//! The command line of the real program: its words, its exit codes, and where it looks for its configuration.
#![cfg(unix)]

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use demuxai::demo::upstream::{Setup, Upstream};
use serde_json::Value;

use crate::support::client;
use crate::support::edge::{self, CHAT};
use crate::support::program::{Ended, Home, Program};
use crate::support::proxy::provider;
use crate::support::{eventually, nowhere};

/// A configuration in front of nobody, on a free port.
const PLAIN: &str = "[listeners.local]\naddress = \"127.0.0.1:0\"\n[providers.box]\ntype = \"openai\"\nurl = \"http://127.0.0.1:1\"\n";

#[track_caller]
fn exits(ended: &Ended, code: i32) {
    assert_eq!(ended.code, code, "stdout: {}\nstderr: {}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

fn check(home: &Home, text: &str) -> Ended {
    let path = home.write("checked.toml", text);
    home.run(&["check", "--config", path.to_str().unwrap()])
}

// --- words and codes -----------------------------------------------------------------------------------------------

#[test]
fn help_names_all_commands_and_documents_the_exit_codes() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["help"]] {
        let ended = home.run(arguments);
        exits(&ended, 0);
        for word in ["serve", "check", "models", "demo", "init", "completions", "--config", "--listen"] {
            assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
        }
        let codes = ended.stdout.split("Exit codes").nth(1).expect("exit codes");
        for code in ["0 ", "1 ", "2 ", "3 ", "130 "] {
            assert!(codes.contains(code), "{code}: {codes}");
        }
        assert_eq!(ended.stderr, "");
    }
    let version = home.run(&["--version"]);
    assert_eq!(version.stdout, format!("demuxai {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_option_command_or_address_is_exit_2_and_says_what_there_is() {
    let home = Home::new();
    for (arguments, word) in [
        (&["--lissen", "127.0.0.1:0"][..], "--listen"),
        (&["serv"], "serve"),
        (&["--listen", "6041"], "socket address"),
        (&["completions", "tcsh"], "bash"),
        (&["demo", "--config", "x"], "--config"),
        (&["check", "--config", "x", "y"], "-c FILE -c y"),
    ] {
        let ended = home.run(arguments);
        exits(&ended, 2);
        assert!(ended.stderr.contains(word), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn completions_are_scripts_for_the_shells() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let ended = home.run(&["completions", shell]);
        exits(&ended, 0);
        assert!(ended.stdout.contains("demuxai") && ended.stdout.contains("listen"), "{shell}");
    }
    let script = home.write("completions.bash", &home.run(&["completions", "bash"]).stdout);
    let read = Command::new("bash").arg("-n").arg(script).status().expect("bash is there");
    assert!(read.success());
}

/// `demuxai models | head -1`: the reader goes away, and that is no fault of the program's.
#[test]
fn output_that_nobody_reads_is_no_reason_to_fall() {
    let home = Home::new();
    let path = home.write("c.toml", PLAIN);
    let config = path.to_str().unwrap();
    for arguments in
        [&["completions", "zsh"][..], &["check", "--config", config], &["init", "--output", "-"], &["--help"]]
    {
        let mut child =
            home.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && said.is_empty(), "{arguments:?}: {status} {said}");
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_daemon() {
    let fake = edge::upstream();
    let home = Home::new();
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let path = home.write("c.toml", &provider("up", "openai", &fake.url()));
    let mut command =
        home.command(&["serve", "--config", path.to_str().unwrap(), "--listen", &address.to_string()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let ready =
        || std::net::TcpStream::connect(address).is_ok() && client::get(address, "/readyz").status == 200;
    eventually("it is ready", ready, |ready| *ready);
    for _ in 0..5 {
        assert_eq!(client::post(address, "/v1/chat/completions", CHAT).status, 200);
        assert_eq!(client::post(address, "/v1/chat/completions", "{}").status, 400);
    }
    assert!(child.try_wait().unwrap().is_none(), "it still runs");
    child.kill().unwrap();
    child.wait().unwrap();
}

// --- check ---------------------------------------------------------------------------------------------------------

#[test]
fn check_says_on_stdout_what_would_be_served() {
    let home = Home::new();
    let ended = check(
        &home,
        &format!("{PLAIN}api_key = \"very-secret-key\"\n[keys.ide]\nkey = \"client-secret-key\"\n"),
    );
    exits(&ended, 0);
    assert_eq!(ended.stderr, "");
    for part in [
        "configuration is good",
        "local",
        "127.0.0.1:0 (api, metrics, admin)",
        "ide",
        "box",
        "openai at http://127.0.0.1:1 with a key",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
}

#[test]
fn check_says_all_problems_at_once_on_stderr() {
    let home = Home::new();
    let ended = check(
        &home,
        "[listeners.local]\nadress = \"127.0.0.1:0\"\n[listeners.open]\naddress = \"0.0.0.0:7000\"\n\
         [providers.a]\ntype = \"mistrall\"\n[providers.b]\ntype = \"mistral\"\napi_key = \"${NOT_SET}\"\n\
         [providers.c]\ntype = \"openai\"\n[providers.d]\ntype = \"openai\"\nurl = \"https://localhost\"\nca_file = \"gone.pem\"\n",
    );
    exits(&ended, 2);
    assert_eq!(ended.stdout, "");
    for part in [
        "adress",
        "did you mean `address`?",
        "others could use your accounts",
        "mistrall",
        "NOT_SET",
        "providers.c.url",
        "gone.pem",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    // The same start-up, the same words.
    let path = home.path().join("checked.toml");
    let served = home.run(&["serve", "--config", path.to_str().unwrap()]);
    assert_eq!((served.code, served.stderr), (2, ended.stderr));
}

#[test]
fn check_finds_what_only_tls_would() {
    let home = Home::new();
    home.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    home.write("garbage.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n");
    let of = |id: &str, file: &str| {
        format!("[providers.{id}]\ntype = \"openai\"\nurl = \"https://localhost:1\"\nca_file = \"{file}\"\n")
    };
    let ended = check(&home, &format!("{}{}", of("one", "broken.pem"), of("two", "garbage.pem")));
    exits(&ended, 2);
    for part in ["provider `one`: ca_file", "broken.pem", "provider `two`: ca_file", "garbage.pem"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let home = Home::new();
    for arguments in [
        &["check", "--config", "nowhere.toml"][..],
        &["serve", "-c", "nowhere.toml"],
        &["models", "-c", "nowhere.toml"],
    ] {
        let ended = home.run(arguments);
        exits(&ended, 2);
        assert!(ended.stderr.contains("nowhere.toml"), "{}", ended.stderr);
    }
}

#[test]
fn an_address_for_everyone_without_keys_is_refused() {
    let home = Home::new();
    let path = home.write("c.toml", PLAIN);
    let ended = home.run(&["--config", path.to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    exits(&ended, 2);
    assert!(ended.stderr.contains("[keys") && ended.stderr.contains("command line"), "{}", ended.stderr);
}

// --- serve ---------------------------------------------------------------------------------------------------------

#[test]
fn a_port_in_use_is_exit_3_and_names_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let path = home.write("c.toml", PLAIN);
    for arguments in [
        &["serve", "--config", path.to_str().unwrap(), "--listen", &address][..],
        &["demo", "--listen", &address],
    ] {
        let ended = home.run(arguments);
        exits(&ended, 3);
        assert!(
            ended.stderr.contains(&address) && ended.stderr.contains("--listen 127.0.0.1:"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "");
    }
    // An address that is not this machine's.
    let ended = home.run(&["demo", "--listen", "[2001:db8::1]:6041"]);
    assert!(ended.code == 2 || ended.code == 3, "{}: {}", ended.code, ended.stderr);
}

#[test]
fn logs_go_to_stderr_and_stdout_stays_empty() {
    let fake = edge::upstream();
    let program = Program::serve(&provider("up", "openai", &fake.url()));
    program.until_ready();
    assert_eq!(client::post(program.address(), "/v1/chat/completions", CHAT).status, 200);
    program.signal("TERM");
    let ended = program.ended();
    exits(&ended, 0);
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr.matches("request_id=").count(), 1, "one line a request: {}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}'), "no colours where there is no terminal");
}

#[test]
fn json_logs_are_json_line_by_line() {
    let fake = edge::upstream();
    let home = Home::new().with("DEMUXAI__LOG__FORMAT", "json").with("DEMUXAI__LOG__LEVEL", "debug");
    let program = Program::serve_in(home, &provider("up", "openai", &fake.url()), &[]);
    program.until_ready();
    let odd = CHAT.replace("up/m", "\\u0000\\n\\\"{}\\u2028");
    assert_eq!(client::post(program.address(), "/v1/chat/completions", CHAT).status, 200);
    assert_eq!(client::post(program.address(), "/v1/chat/completions", &odd).status, 404);
    program.signal("TERM");
    let ended = program.ended();
    exits(&ended, 0);
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), 2, "{}", ended.stderr);
    assert_eq!((&requests[0]["status"], &requests[0]["provider"]), (&200.into(), &"up".into()));
    assert!(requests[0]["duration_ms"].is_number() && requests[0]["timestamp"].is_string());
    assert_eq!(requests[1]["outcome"], "model_not_found");
}

#[test]
fn the_working_directory_is_never_read() {
    let home = Home::new();
    let bad = "this is no configuration";
    for name in [
        "config.toml",
        "demuxai.toml",
        "conf.d/a.toml",
        "demuxai/config.toml",
        ".env",
        "config.yml",
        "providers.toml",
    ] {
        home.write(name, bad);
    }
    let ended = home.run(&["check"]);
    exits(&ended, 0);
    assert!(ended.stdout.contains("no configuration file"), "{}", ended.stdout);
}

#[test]
fn the_platform_s_directory_the_variable_and_the_option_are_read_in_this_order_of_weight() {
    let of = |id: &str| format!("[providers.{id}]\ntype = \"openai\"\nurl = \"http://127.0.0.1:1\"\n");
    let home = Home::new();
    home.write(".config/demuxai/config.toml", &of("from-home"));
    home.write(".config/demuxai/conf.d/more.toml", &of("from-conf-d"));
    let variable = home.write("variable.toml", &of("from-variable"));
    let option = home.write("option.toml", &of("from-option"));
    let served = |ended: Ended| {
        exits(&ended, 0);
        let of = |line: &str| {
            line.trim().strip_prefix("provider ").map(|rest| rest.split(' ').next().unwrap().to_owned())
        };
        ended.stdout.lines().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(served(home.run(&["check"])), ["from-home", "from-conf-d"]);
    let home = home.with("DEMUXAI_CONFIG_FILE", variable.to_str().unwrap());
    assert_eq!(served(home.run(&["check"])), ["from-variable"]);
    assert_eq!(served(home.run(&["check", "--config", option.to_str().unwrap()])), ["from-option"]);
    let (first, second) = (option.to_str().unwrap(), variable.to_str().unwrap());
    for both in [["check", "-c", first, "-c", second], ["-c", first, "check", "-c", second]] {
        assert_eq!(served(home.run(&both)), ["from-option", "from-variable"]);
    }
}

#[test]
fn variables_change_any_option() {
    let fake = edge::upstream();
    let home = Home::new()
        .with("DEMUXAI__LISTENERS__LOCAL__ADDRESS", "127.0.0.1:0")
        .with("DEMUXAI__PROVIDERS__MY_BOX__TYPE", "openai")
        .with("DEMUXAI__PROVIDERS__MY_BOX__URL", &fake.url())
        .with("DEMUXAI__PROVIDERS__MY_BOX__EXCLUDE_MODELS", "[\"other-*\"]");
    let program = home.start(&[]);
    program.until_ready();
    let list = client::get(program.address(), "/v1/models").json();
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
    assert_eq!(ids, ["my_box/m"]);
}

// --- discovery, models, init ---------------------------------------------------------------------------------------

#[test]
fn without_a_file_what_is_there_is_served_and_said() {
    let mistral =
        Upstream::Mistral.start(Setup { key: Some("m-key".to_owned()), ..Setup::default() }).unwrap();
    let ollama = Upstream::Ollama.start(Setup::default()).unwrap();
    let home = Home::new()
        .with("MISTRAL_API_KEY", "m-key")
        .with("GITHUB_TOKEN", "not a reason")
        .with("DEMUXAI__PROVIDERS__MISTRAL__URL", &mistral.url())
        .with("OLLAMA_HOST", &ollama.address().to_string());
    let program = home.start(&["--listen", "127.0.0.1:0"]);
    program.until_ready();
    let address = program.address();
    for model in ["mistral/mistral-small-latest", "ollama/qwen3:8b"] {
        let id = model.split('/').next().unwrap();
        eventually(
            "it is up",
            || client::get(address, "/demuxai/status").text(),
            |status| {
                let status: Value = serde_json::from_str(status).unwrap();
                status["providers"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|entry| entry["id"] == id && entry["usable"] == true)
            },
        );
        let answer = client::post(address, "/v1/chat/completions", &CHAT.replace("up/m", model));
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    }
    let log = program.stderr();
    for part in [
        "no configuration file",
        "MISTRAL_API_KEY is set",
        &format!("Ollama answers at {} (OLLAMA_HOST)", ollama.url()),
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("m-key") && !log.to_lowercase().contains("github"), "{log}");
}

#[test]
fn with_nothing_to_serve_it_says_what_to_do() {
    let home = Home::new();
    let program = home.start(&["--listen", "127.0.0.1:0"]);
    let address = program.address();
    let log = program.stderr();
    assert!(log.contains("nothing to serve was found") && log.contains("MISTRAL_API_KEY"), "{log}");
    assert_eq!(client::get(address, "/healthz").status, 200);
    assert_eq!(client::get(address, "/readyz").status, 503);
    let answer = client::post(address, "/v1/chat/completions", CHAT);
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("no provider is configured"), "{}", answer.text());
    let models = home.run(&["models"]);
    exits(&models, 2);
    assert!(models.stderr.contains("nothing to serve was found"), "{}", models.stderr);
}

#[test]
fn models_prints_ids_and_names_who_did_not_answer() {
    let mistral = Upstream::Mistral.start(Setup::default()).unwrap();
    let home = Home::new();
    let dead = provider("dead", "openai", &nowhere());
    let path = home.write("c.toml", &format!("{}{dead}", provider("mistral", "mistral", &mistral.url())));
    let ended = home.run(&["models", "--config", path.to_str().unwrap()]);
    exits(&ended, 0);
    let first_words: Vec<&str> =
        ended.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(first_words.contains(&"mistral/mistral-small-latest"), "{}", ended.stdout);
    assert!(first_words.iter().all(|id| id.starts_with("mistral/")), "{}", ended.stdout);
    assert!(ended.stderr.contains("dead: unreachable"), "{}", ended.stderr);

    let path = home.write("c.toml", &dead);
    let ended = home.run(&["models", "--config", path.to_str().unwrap()]);
    exits(&ended, 1);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_wrong_key_is_said_by_models_without_repeating_it() {
    let mistral =
        Upstream::Mistral.start(Setup { key: Some("right".to_owned()), ..Setup::default() }).unwrap();
    let home = Home::new();
    let path = home.write("c.toml", &provider("mistral", "mistral", &mistral.url()));
    let ended = home.run(&["models", "--config", path.to_str().unwrap()]);
    exits(&ended, 1);
    assert!(
        ended.stderr.contains("mistral: refused") && ended.stderr.contains("api_key"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("test-key-mistral"), "{}", ended.stderr);
}

#[test]
fn init_writes_a_file_that_check_accepts_and_never_over_another() {
    let ollama = Upstream::Ollama.start(Setup::default()).unwrap();
    let home =
        Home::new().with("OLLAMA_HOST", &ollama.address().to_string()).with("MISTRAL_API_KEY", "m-key");
    let path = home.path().join("deep/new.toml");
    let file = path.to_str().unwrap();
    let ended = home.run(&["init", "--output", file]);
    exits(&ended, 0);
    assert!(ended.stdout.contains(file) && ended.stdout.contains("demuxai check"), "{}", ended.stdout);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.contains("[providers.mistral]") && written.contains("[providers.ollama]"), "{written}");
    assert!(!written.contains("m-key"), "{written}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    exits(&home.run(&["check", "--config", file]), 0);

    let again = home.run(&["init", "--output", file]);
    exits(&again, 1);
    assert!(again.stderr.contains(file) && again.stderr.contains("--force"), "{}", again.stderr);
    std::fs::write(&path, "# mine\n").unwrap();
    home.run(&["init", "--output", file]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\n");
    exits(&home.run(&["init", "--output", file, "--force"]), 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let printed = home.run(&["init", "--output", "-"]);
    assert_eq!(printed.stdout.trim_end(), written.trim_end());
}

#[test]
fn init_without_a_place_writes_where_serve_looks() {
    let home = Home::new().with("CODESTRAL_API_KEY", "c-key");
    let ended = home.run(&["init"]);
    exits(&ended, 0);
    let path = home.path().join(".config/demuxai/config.toml");
    assert!(path.is_file(), "{}", ended.stdout);
    let checked = home.run(&["check"]);
    exits(&checked, 0);
    assert!(
        checked.stdout.contains("codestral") && !checked.stdout.contains("no configuration file"),
        "{}",
        checked.stdout
    );
    // Where nothing can be written, it is said.
    let nowhere = home.run(&["init", "--output", "/proc/nowhere/config.toml"]);
    exits(&nowhere, 1);
    assert!(nowhere.stderr.contains("cannot write /proc/nowhere/config.toml"), "{}", nowhere.stderr);
}

#[test]
fn init_where_nothing_is_found_writes_a_file_that_check_accepts_too() {
    let home = Home::new();
    exits(&home.run(&["init"]), 0);
    let checked = home.run(&["check"]);
    exits(&checked, 0);
    assert!(checked.stdout.contains("no provider"), "{}", checked.stdout);
}

// --- demo ----------------------------------------------------------------------------------------------------------

#[test]
fn demo_streams_a_chat_within_ten_seconds_with_nothing_around_it() {
    let home = Home::new();
    let before = Instant::now();
    let program = home.start(&["demo", "--listen", "127.0.0.1:0"]);
    let address = program.address();
    program.until_ready();
    let said = eventually("it says where", || program.stdout(), |said| said.contains("Ctrl-C"));
    assert!(said.contains(&format!("http://{address}/v1")), "{said}");
    // The very body that the welcome suggests.
    let body = said.split("-d '").nth(1).and_then(|rest| rest.split('\'').next()).expect("an example");
    let answer = client::post(address, "/v1/chat/completions", body);
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    let kinds = ["ollama/", "ollama-cloud/", "mistral/", "codestral/", "fireworks/", "github/"];
    eventually(
        "all six list their models",
        || client::get(address, "/v1/models").text(),
        |list| kinds.iter().all(|kind| list.contains(&format!("\"id\":\"{kind}"))),
    );
    program.signal("INT");
    exits(&program.ended(), 0);
}

/// `demuxai init -o - > config.toml` on a full disk must not end with success.
#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_written_to_stdout_is_a_failure_and_a_reader_that_left_is_none() {
    let (fake, home) = (edge::upstream(), Home::new());
    let path = home.write("config.toml", &provider("up", "openai", &fake.url()));
    let config = path.to_str().expect("a path in UTF-8");
    for arguments in [
        ["init", "--output", "-"].as_slice(),
        &["check", "--config", config],
        &["models", "--config", config],
        &["completions", "bash"],
    ] {
        let ended = |stdout: Stdio| {
            Command::new(env!("CARGO_BIN_EXE_demuxai"))
                .args(arguments)
                .env_clear()
                .stdout(stdout)
                .output()
                .expect("demuxai runs")
        };
        let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = ended(full.into());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to stdout"), "{arguments:?}: {said}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(ended(writer.into()).status.code(), Some(0), "{arguments:?}");
    }
}
