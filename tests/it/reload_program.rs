//! The real program reads its configuration anew: by SIGHUP, by `demuxai reload`, because a file changed.

use std::path::PathBuf;

use demuxai::demo::Fake;
use serde_json::Value;

use super::support::edge::{CHAT, upstream};
use super::support::program::{Ended, Home, Phoenix, Program};
use super::support::proxy::provider;
use super::support::{client, content, eventually};

const LISTENER: &str = "[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\n";

/// A program that serves this file of its home.
struct Scene {
    home: Home,
    file: PathBuf,
    program: Program,
}

impl Scene {
    fn start(text: &str, more: &[&str]) -> Scene {
        let home = Home::new();
        let file = home.write("served.toml", &format!("{text}{LISTENER}"));
        let arguments = [&["serve", "--config", file.to_str().unwrap()][..], more].concat();
        let program = home.start(&arguments);
        program.address();
        Scene { home, file, program }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, format!("{text}{LISTENER}")).unwrap();
    }

    /// Runs a command for this daemon.
    fn run(&self, arguments: &[&str]) -> Ended {
        let url = format!("http://{}", self.program.address());
        self.home.run(&[arguments, &["--url", &url]].concat())
    }

    fn providers(&self) -> Vec<String> {
        let status = client::get(self.program.address(), "/demuxai/status").json();
        let all = status["providers"].as_array().expect("providers");
        all.iter().map(|entry| entry["id"].as_str().expect("an id").to_owned()).collect()
    }

    fn metric(&self, name: &str) -> String {
        let text = client::get(self.program.address(), "/metrics").text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect("the metric");
        line.rsplit(' ').next().unwrap().to_owned()
    }

    #[track_caller]
    fn until_it_serves(&self, ids: &[&str]) {
        eventually("it serves them", || self.providers(), |now| now == ids);
    }
}

fn one() -> String {
    provider("one", "openai", "http://127.0.0.1:1")
}

fn both() -> String {
    format!("{}{}", one(), provider("two", "openai", "http://127.0.0.1:2"))
}

#[cfg(unix)]
#[test]
fn a_hangup_reads_the_file_anew_and_a_bad_one_is_told_and_changes_nothing() {
    let scene = Scene::start(&one(), &[]);
    assert_eq!(scene.metric("demuxai_config_reload_success"), "1");
    scene.write(&both());
    scene.program.signal("HUP");
    scene.until_it_serves(&["one", "two"]);
    let log =
        eventually("it is told", || scene.program.stderr(), |log| log.contains("configuration reloaded"));
    assert!(log.contains("added=1") && log.contains("cause=\"signal\""), "{log}");
    scene.write("[providers.one]\ntyp = 'openai'\n[groups.g]\ntype = 'failover'\nmembers = ['absent/m']\n");
    scene.program.signal("HUP");
    eventually("it is refused", || scene.metric("demuxai_config_reload_success"), |value| value == "0");
    let log =
        eventually("it is told", || scene.program.stderr(), |log| log.contains("configuration refused"));
    for part in ["providers.one.typ", "absent", "served.toml"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(scene.providers(), ["one", "two"]);
    scene.write(&one());
    scene.program.signal("HUP");
    scene.until_it_serves(&["one"]);
    assert_eq!(scene.metric("demuxai_config_reload_success"), "1");
    scene.program.signal("TERM");
    assert_eq!(scene.program.ended().code, 0);
}

#[test]
fn reload_and_diff_say_what_they_do_and_by_their_exit_code_whether_they_did() {
    let scene = Scene::start(&one(), &[]);
    let config = scene.file.to_str().unwrap().to_owned();
    let told = scene.run(&["diff"]);
    assert!(told.code == 0 && told.stdout.starts_with("nothing changes"), "{told:?}");
    scene.write(
        &format!("{}[log]\nformat = \"json\"\nlevel = \"warn\"\n", both()).replace("test-key-one", "new-key"),
    );
    for arguments in [&["diff"][..], &["diff", "-c", &config]] {
        let told = scene.run(arguments);
        assert_eq!(told.code, 0, "{told:?}");
        for line in [
            "+ providers.two",
            "~ providers.one",
            "    providers.one.api_key: the secret changed (not shown)",
            "    log.format: \"text\" → \"json\"  (needs a restart)",
            "1 added, 2 changed, 0 removed,",
        ] {
            assert!(told.stdout.contains(line), "{line}: {told:?}");
        }
        assert!(!told.stdout.contains("key-one") && !told.stdout.contains("new-key"), "{told:?}");
    }
    assert_eq!(scene.providers(), ["one"], "nothing changed yet");
    let told = scene.run(&["reload"]);
    assert!(told.code == 0 && told.stdout.starts_with("reloaded\n"), "{told:?}");
    assert!(told.stdout.contains("what needs a restart stays as it was"), "{told:?}");
    assert_eq!(scene.providers(), ["one", "two"]);
    let told = scene.run(&["diff", "--json"]);
    let json: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(json["needs_restart"], serde_json::json!(["log.format"]), "{told:?}");
    let doubtful = "[groups.g]\ntype = \"failover\"\nmembers = [\"one/x\", \"one/x\"]\n[groups.t]\ntype = \"tee\"\nto = \"one/x\"\npath = \"new/t.jsonl\"\n";
    scene.write(&format!("{}{doubtful}", both()));
    // The second reload is told as loud as the first one says.
    for command in ["diff", "reload", "reload"] {
        let told = scene.run(&[command]);
        let warning = told.stdout.lines().find(|line| line.starts_with("warning: ")).unwrap_or_default();
        assert!(warning.contains("groups.g.members[1]: is the same as members[0]"), "{told:?}");
        assert!(told.stdout.contains("note: groups.t.path: its directory is not there"), "{told:?}");
    }
    let told = |log: &String| {
        let restart = "needs a restart: it stays as it was key=\"log.format\"";
        [
            restart,
            "groups.g.members[1]: is the same as members[0]",
            "groups.t.path: its directory is not there",
        ]
        .iter()
        .all(|line| log.contains(line))
    };
    eventually("the log tells it", || scene.program.stderr(), told);
    // A file with which nobody can be found any more, and a daemon that goes on.
    scene.write("[providers.one]\ntyp = 'openai'\n");
    let check = scene.home.run(&["check", "--config", &config]);
    for arguments in [&["reload", "--config", &config][..], &["diff", "--config", &config]] {
        let told = scene.run(arguments);
        assert_eq!((told.code, &told.stdout[..]), (2, ""), "{told:?}");
        assert_eq!(told.stderr, check.stderr, "as check says it");
    }
    assert_eq!(scene.providers(), ["one", "two"]);
    scene.write("this is no toml");
    assert_eq!(scene.run(&["reload", "--config", &config]).code, 2);
    let nobody = scene.home.run(&["reload", "--url", "http://127.0.0.1:1"]);
    assert!(nobody.code == 1 && nobody.stderr.contains("no demuxai answers"), "{nobody:?}");
}

#[test]
fn a_file_that_is_not_there_is_told_where_its_key_would_be_needed() {
    let place = Home::new();
    let state = place.path().join("elsewhere.db").display().to_string();
    let scene = Scene::start(&format!("{}[state]\npath = {state:?}\n", one()), &[]);
    let absent = scene.home.path().join("absent.toml").display().to_string();
    let told = scene.run(&["reload", "--config", &absent]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.stderr.contains("401") && told.stderr.contains(&absent), "{told:?}");
    assert!(!told.stderr.contains("SIGHUP"), "the key was not changed: {told:?}");
    assert_eq!(scene.run(&["reload", "--config", scene.file.to_str().unwrap()]).code, 0);
}

#[test]
fn the_daemons_own_file_is_its_own_however_it_is_written() {
    let text = one().replace("\"test-key-one\"", "{ command = [\"echo\", \"sk-0123456789\"] }");
    let scene = Scene::start(&text, &[]);
    let spelled = scene.home.path().join("./nothing/../served.toml");
    scene.home.write("nothing/x", "");
    let told = scene.run(&["diff", "--config", spelled.to_str().unwrap()]);
    assert!(told.code == 0 && told.stdout.starts_with("nothing changes"), "{told:?}");
}

#[test]
fn other_files_can_be_compared_with_but_run_no_program() {
    let scene = Scene::start(&one(), &[]);
    let candidate = scene.home.write("candidate.toml", &format!("{}{LISTENER}", both()));
    let told = scene.run(&["diff", "--config", candidate.to_str().unwrap()]);
    assert!(told.code == 0 && told.stdout.contains("+ providers.two"), "{told:?}");
    let witness = scene.home.path().join("witness");
    let text = format!(
        "[providers.one]\ntype = \"openai\"\nurl = \"http://127.0.0.1:1\"\napi_key = {{ command = [\"touch\", \"{}\"] }}\n{LISTENER}",
        witness.display()
    );
    let other = scene.home.write("other.toml", &text);
    let url = format!("http://{}", scene.program.address());
    let token = scene.home.path().join(".local/state/demuxai/admin-token");
    let bearer = format!("Bearer {}", std::fs::read_to_string(token).unwrap());
    let path = format!("/demuxai/diff?file={}", other.display());
    let said =
        client::open(scene.program.address(), "POST", &path, &[("authorization", &bearer)], b"").finish();
    assert_eq!(said.status, 400, "{url}: {}", said.text());
    assert!(said.error().contains("providers.one.api_key: wants a program to be run"), "{}", said.error());
    assert!(!witness.exists(), "the daemon ran it");
}

#[test]
fn watched_files_are_read_anew_when_they_are_replaced_and_a_part_is_added() {
    let home = Home::new();
    let main = home.write(".config/demuxai/config.toml", &format!("{}{LISTENER}", one()));
    let program = home.start(&["serve", "--watch"]);
    program.address();
    let scene = Scene { home, file: main, program };
    scene.until_it_serves(&["one"]);
    let fresh = scene.home.write("fresh", &format!("{}{LISTENER}", both()));
    std::fs::rename(fresh, &scene.file).unwrap();
    scene.until_it_serves(&["one", "two"]);
    scene.home.write(
        ".config/demuxai/conf.d/3.toml",
        "[providers.three]\ntype = \"openai\"\nurl = \"http://127.0.0.1:3\"\napi_key = { file = \"key\" }\n",
    );
    eventually("a key is missing", || scene.metric("demuxai_config_reload_success"), |value| value == "0");
    assert_eq!(scene.providers(), ["one", "two"]);
    // The file that was missed is enough: the one that names it need not be touched.
    scene.home.write(".config/demuxai/conf.d/key", "sk-1");
    eventually("it serves three", || scene.providers().len(), |count| *count == 3);
    let changes = |log: &String| log.matches("changed=1").count();
    let before = changes(&scene.program.stderr());
    scene.home.write(".config/demuxai/conf.d/key", "sk-rotated");
    eventually("the secret is read anew", || changes(&scene.program.stderr()), |count| *count > before);
    assert!(!scene.program.stderr().contains("sk-"), "{}", scene.program.stderr());
}

#[cfg(unix)]
#[test]
fn a_configuration_that_is_gone_or_empty_for_a_moment_is_refused_and_opens_nothing() {
    let home = Home::new();
    let keys = "[keys.ide]\nkey = \"of-the-ide\"\n";
    let text = format!("{}{keys}{LISTENER}", one());
    let main = home.write(".config/demuxai/config.toml", &text);
    let program = home.start(&["serve"]);
    program.address();
    let scene = Scene { home, file: main, program };
    let hangs_up = |why: &str| {
        let before = scene.program.stderr().matches("configuration refused").count();
        scene.program.signal("HUP");
        let log = eventually(
            "it is refused",
            || scene.program.stderr(),
            |log| log.matches("configuration refused").count() > before,
        );
        assert!(log.contains(why), "{log}");
        assert_eq!(scene.metric("demuxai_config_reload_success"), "0");
        assert_eq!(scene.providers(), ["one"]);
        let status = client::get(scene.program.address(), "/v1/models").status;
        assert_eq!(status, 401, "nobody is let in who was not before");
    };
    std::fs::remove_file(&scene.file).unwrap();
    hangs_up("config.toml\n  is there no more: perhaps it is being written; put it back");
    std::fs::write(&scene.file, "").unwrap();
    hangs_up("config.toml\n  is empty: perhaps it is being written; put it back");
    std::fs::write(&scene.file, format!("{}{keys}{LISTENER}", both())).unwrap();
    scene.program.signal("HUP");
    scene.until_it_serves(&["one", "two"]);
    assert_eq!(scene.metric("demuxai_config_reload_success"), "1");
}

#[cfg(unix)]
#[test]
fn a_main_file_that_is_gone_or_empty_for_a_moment_opens_nothing_though_there_are_parts() {
    let home = Home::new();
    let keys = "[keys.ide]\nkey = \"of-the-ide\"\n";
    let main = home.write(".config/demuxai/config.toml", &format!("{keys}{LISTENER}"));
    let part = home.write(".config/demuxai/conf.d/1.toml", &one());
    let more = home.write(".config/demuxai/conf.d/2.toml", &both().replace(&one(), ""));
    let program = home.start(&["serve"]);
    program.address();
    let scene = Scene { home, file: main, program };
    let refused = |why: &str| {
        let before = scene.program.stderr().matches("configuration refused").count();
        scene.program.signal("HUP");
        let told = |log: &String| log.matches("configuration refused").count() > before;
        let log = eventually("it is refused", || scene.program.stderr(), told);
        assert!(log.contains(why), "{why}: {log}");
        let status = client::get(scene.program.address(), "/v1/models").status;
        assert_eq!(status, 401, "nobody is let in who was not before");
    };
    std::fs::remove_file(&scene.file).unwrap();
    refused("config.toml\n  is there no more: perhaps it is being written");
    std::fs::write(&scene.file, "").unwrap();
    refused("config.toml\n  is empty: perhaps it is being written");
    std::fs::write(&scene.file, format!("{keys}{LISTENER}")).unwrap();
    std::fs::write(&part, "").unwrap();
    refused("1.toml\n  is empty: perhaps it is being written");
    std::fs::write(&part, one()).unwrap();
    // A part is a part: whoever takes it away means that.
    std::fs::remove_file(more).unwrap();
    scene.program.signal("HUP");
    scene.until_it_serves(&["one"]);
    let folder = part.parent().unwrap();
    std::fs::remove_file(&part).unwrap();
    std::fs::remove_dir(folder).unwrap();
    std::fs::write(folder, "").unwrap();
    refused("conf.d\n  cannot be listed");
}

#[cfg(unix)]
#[test]
fn a_hangup_while_it_starts_is_a_reload_once_it_serves() {
    let home = Home::new();
    // A secret whose program is slow: it waits until there is a file.
    let script = "touch asked; until test -e go; do sleep 0.02; done; echo sk-0123456789";
    let slow = one().replace("\"test-key-one\"", &format!("{{ command = [\"sh\", \"-c\", \"{script}\"] }}"));
    let file = home.write("served.toml", &format!("{slow}{LISTENER}"));
    let program = home.start(&["serve", "--config", file.to_str().unwrap()]);
    eventually("the secret is asked for", || home.path().join("asked").exists(), |asked| *asked);
    program.signal("HUP");
    home.write("go", "");
    program.address();
    let log = eventually("it reloads", || program.stderr(), |log| log.contains("configuration reloaded"));
    assert!(log.contains("cause=\"signal\"") && log.contains("changed=0"), "{log}");
    program.signal("TERM");
    assert_eq!(program.ended().code, 0);
}

#[test]
fn the_log_is_as_loud_as_the_last_reload_says() {
    let fake = upstream();
    let text = |level: &str| format!("{}[log]\nlevel = \"{level}\"\n", provider("up", "openai", &fake.url()));
    let scene = Scene::start(&text("info"), &[]);
    scene.program.until_ready();
    let ask = || -> String {
        let answer = client::post(scene.program.address(), "/v1/chat/completions", CHAT);
        assert_eq!(content(&answer), "ok");
        answer.header("x-request-id").expect("an id").to_owned()
    };
    let mut asked = vec![ask()];
    eventually("the first one is told", || scene.program.stderr(), |log| log.contains(&asked[0]));
    for level in ["error", "info"] {
        scene.write(&text(level));
        assert_eq!(scene.run(&["reload"]).code, 0);
        asked.push(ask());
    }
    let [first, quiet, last] = &asked[..] else { panic!("three requests") };
    let log = eventually("the last one is told", || scene.program.stderr(), |log| log.contains(last));
    assert!(log.contains(first) && !log.contains(quiet), "{quiet}: {log}");
}

/// The program on a state file, in front of this upstream.
fn counting(fake: &Fake, amount: usize) -> String {
    format!("{}limits = [{{ requests = {amount}, per = \"day\" }}]\n", provider("up", "openai", &fake.url()))
}

/// Writes this in place of its configuration, but for listener and state.
fn rewrite(phoenix: &Phoenix, text: &str) {
    let written = std::fs::read_to_string(phoenix.configuration()).unwrap();
    let rest = &written[written.find("\n[listeners.test]").unwrap()..];
    std::fs::write(phoenix.configuration(), format!("{text}{rest}")).unwrap();
}

/// Has the program read this instead.
#[track_caller]
fn reread(phoenix: &Phoenix, text: &str) {
    rewrite(phoenix, text);
    let url = format!("http://{}", phoenix.program().address());
    let told = phoenix.ask(&["reload", "--url", &url]);
    assert_eq!(told.code, 0, "{told:?}");
}

fn asks(phoenix: &Phoenix) -> u16 {
    client::post(phoenix.program().address(), "/v1/chat/completions", CHAT).status
}

/// What is counted under the limit, once that is on disk.
#[track_caller]
fn kept(phoenix: &Phoenix) -> Value {
    let status = || client::get(phoenix.program().address(), "/demuxai/status").json();
    let at_rest = eventually("it is on disk", status, |status| status["state"]["waiting_rows"] == 0);
    at_rest["providers"][0]["limits"][0]["used"].clone()
}

#[test]
fn what_was_used_outlasts_a_reload_and_kill_9() {
    let fake = upstream();
    let mut phoenix = Phoenix::start(&counting(&fake, 9));
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    reread(&phoenix, &counting(&fake, 3));
    assert_eq!(asks(&phoenix), 200);
    assert_eq!(kept(&phoenix), 3);
    phoenix.kill();
    phoenix.rise();
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 3);
    assert_eq!(asks(&phoenix), 429);
}

#[test]
fn what_another_upstream_counted_does_not_come_back_under_its_id_after_kill_9() {
    let (one, two) = (upstream(), upstream());
    let mut phoenix = Phoenix::start(&counting(&one, 9));
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    reread(&phoenix, &counting(&two, 9));
    phoenix.program().until_ready();
    assert_eq!(asks(&phoenix), 200);
    assert_eq!(kept(&phoenix), 1);
    phoenix.kill();
    phoenix.rise();
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 1);
}

#[test]
fn what_was_counted_of_a_provider_that_a_reload_brings_back_counts() {
    let fake = upstream();
    let text = counting(&fake, 9);
    let mut phoenix = Phoenix::start(&text);
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    assert_eq!(kept(&phoenix), 2);
    phoenix.kill();
    rewrite(&phoenix, "");
    phoenix.rise();
    reread(&phoenix, &text);
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 2, "it was not there at start");
    // Another upstream under its id is another account, and what was there at start is not its.
    let other = upstream();
    reread(&phoenix, &counting(&other, 9));
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 0);
    assert_eq!(asks(&phoenix), 200);
    reread(&phoenix, &text);
    assert_eq!(kept(&phoenix), 2, "the first is remembered");
    phoenix.kill();
    phoenix.rise();
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 2, "and written down again");
}

#[test]
fn what_was_counted_of_a_provider_that_is_gone_stays_on_disk_whoever_comes() {
    let (fake, other) = (upstream(), upstream());
    let text = counting(&fake, 9);
    let mut phoenix = Phoenix::start(&text);
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    reread(&phoenix, "");
    reread(&phoenix, &provider("other", "openai", &other.url()));
    phoenix.program().until_ready();
    let status = || client::get(phoenix.program().address(), "/demuxai/status").json();
    eventually("it is on disk", status, |status| status["state"]["waiting_rows"] == 0);
    phoenix.kill();
    rewrite(&phoenix, &text);
    phoenix.rise();
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 2);
}

#[test]
fn a_limit_of_another_upstream_does_not_come_back_after_kill_9() {
    let (one, two) = (upstream(), upstream());
    let of =
        |fake: &Fake, limits: &str| format!("{}limits = [{limits}]\n", provider("up", "openai", &fake.url()));
    let (day, hour) = ("{ requests = 9, per = \"day\" }", "{ requests = 9, per = \"hour\" }");
    let mut phoenix = Phoenix::start(&of(&one, &format!("{hour}, {day}")));
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    assert_eq!(kept(&phoenix), 2);
    reread(&phoenix, &of(&two, day));
    phoenix.program().until_ready();
    assert_eq!(asks(&phoenix), 200);
    assert_eq!(kept(&phoenix), 1);
    phoenix.kill();
    rewrite(&phoenix, &of(&two, &format!("{hour}, {day}")));
    phoenix.rise();
    phoenix.program().until_ready();
    assert!(kept(&phoenix).as_u64().is_some_and(|used| used <= 1), "{}", kept(&phoenix));
}

#[test]
fn limits_that_come_and_go_with_reloads_are_on_disk_as_they_are() {
    let fake = upstream();
    let url = fake.url();
    let of = |limits: &str| format!("{}limits = [{limits}]\n", provider("up", "openai", &url));
    let (day, hour) = ("{ requests = 9, per = \"day\" }", "{ requests = 9, per = \"hour\" }");
    let both = format!("{hour}, {day}");
    let mut phoenix = Phoenix::start(&of(&both));
    phoenix.program().until_ready();
    assert_eq!([asks(&phoenix), asks(&phoenix)], [200, 200]);
    reread(&phoenix, &of(day));
    assert_eq!(asks(&phoenix), 200);
    assert_eq!(kept(&phoenix), 3);
    phoenix.kill();
    rewrite(&phoenix, &of(&both));
    phoenix.rise();
    phoenix.program().until_ready();
    assert_ne!(kept(&phoenix), 2, "that was so when the limit of an hour was taken out");
    // What is known of a limit that comes is written down although nobody asks and no upstream answers.
    rewrite(&phoenix, &of(day));
    phoenix.kill();
    phoenix.rise();
    phoenix.program().until_ready();
    assert_eq!(kept(&phoenix), 3);
    drop(fake);
    let writes = || {
        let text = client::get(phoenix.program().address(), "/metrics").text();
        let line =
            text.lines().find_map(|line| line.strip_prefix("demuxai_state_writes_total{outcome=\"ok\"} "));
        line.and_then(|count| count.parse::<f64>().ok()).expect("the metric")
    };
    let before = writes();
    reread(&phoenix, &of(&both));
    eventually("it is written", writes, |now| *now > before);
    let known = kept(&phoenix);
    phoenix.kill();
    phoenix.rise();
    assert_eq!(kept(&phoenix), known);
}
