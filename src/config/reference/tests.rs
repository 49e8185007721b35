//! What a secret reference yields, and what it says when it yields nothing.

use super::*;

fn environment() -> BTreeMap<String, String> {
    // The programs below are found by the PATH that is passed in, as in the daemon.
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("KEY", "sk-1"), ("EMPTY", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn fetched(reference: SecretReference, directory: Option<&Path>) -> Result<Fetched, String> {
    let env = environment();
    fetch(&reference, &Surroundings { env: &env, directory, patience: Duration::from_secs(5) })
}

fn variable(name: &str) -> SecretReference {
    SecretReference { env: Some(name.to_owned()), ..SecretReference::default() }
}

fn file(path: &str) -> SecretReference {
    SecretReference { file: Some(path.to_owned()), ..SecretReference::default() }
}

fn command(words: &[&str]) -> SecretReference {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    SecretReference { command: Some(words), ..SecretReference::default() }
}

#[test]
fn a_variable_gives_its_value_and_an_empty_one_counts_as_unset() {
    assert_eq!(fetched(variable("KEY"), None), Ok(Fetched::Text("sk-1".to_owned(), None)));
    assert_eq!(fetched(variable("EMPTY"), None), Ok(Fetched::Unset("EMPTY".to_owned())));
    assert_eq!(fetched(variable("NONE"), None), Ok(Fetched::Unset("NONE".to_owned())));
    assert!(fetched(variable("sk-secret value"), None).is_err_and(|why| !why.contains("secret")));
}

#[test]
fn exactly_one_kind_of_reference_is_wanted() {
    let both = SecretReference { file: Some("x".to_owned()), ..variable("KEY") };
    assert_eq!(fetched(both, None).unwrap_err(), "needs exactly one of env, file, command");
    assert!(fetched(SecretReference::default(), None).is_err());
}

#[cfg(unix)]
#[test]
fn a_file_gives_its_text_without_the_line_end_and_a_warning_when_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "sk-2\r\n\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fetched(file("key"), Some(directory.path())), Ok(Fetched::Text("sk-2".to_owned(), None)));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let Ok(Fetched::Text(text, Some(warning))) = fetched(file(path.to_str().unwrap()), None) else {
        panic!("no warning");
    };
    assert_eq!(text, "sk-2");
    assert!(warning.contains("chmod 600") && !warning.contains("sk-2"));
}

#[test]
fn a_file_that_cannot_serve_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let from = Some(directory.path());
    assert!(fetched(file("none"), from).unwrap_err().ends_with("none: no such file"));
    std::fs::write(directory.path().join("empty"), "\n").unwrap();
    assert!(fetched(file("empty"), from).unwrap_err().ends_with("empty is empty; put the secret into it"));
    std::fs::write(directory.path().join("large"), "x".repeat(70_000)).unwrap();
    assert!(
        fetched(file("large"), from).unwrap_err().ends_with("is larger than 64 KB; is it the right one?")
    );
    assert!(fetched(file("key"), None).unwrap_err().contains("must be absolute"));
    assert!(fetched(file("~/key"), None).unwrap_err().contains("HOME"));
}

#[cfg(unix)]
#[test]
fn a_program_gives_its_output_and_runs_without_a_shell() {
    let text = |text: &str| Ok(Fetched::Text(text.to_owned(), None));
    assert_eq!(fetched(command(&["echo", "sk-3", "$KEY;", "*"]), None), text("sk-3 $KEY; *"));
    assert_eq!(fetched(command(&["sh", "-c", "printf %s \"$KEY\""]), None), text("sk-1"));
}

#[cfg(unix)]
#[test]
fn a_program_that_fails_is_named_without_its_output() {
    let failed = |words: &[&str]| fetched(command(words), None).unwrap_err();
    let status = failed(&["sh", "-c", "echo sk-secret; echo sk-secret >&2; exit 3"]);
    assert!(status.contains("`sh` failed") && status.contains('3') && !status.contains("secret"), "{status}");
    assert!(failed(&["demuxai-no-such-program"]).contains("there is no program `demuxai-no-such-program`"));
    assert!(failed(&["true"]).contains("printed nothing"));
    assert!(failed(&["sh", "-c", "yes | head -c 100000"]).contains("more than 64 KB"));
    assert!(failed(&["sh", "-c", "printf '\\377'"]).contains("is no text in UTF-8"));
    assert!(failed(&[]).contains("command is empty"));
    assert!(failed(&[""]).contains("command is empty"));
}

#[cfg(unix)]
#[test]
fn a_program_that_hangs_is_given_up_even_when_its_child_keeps_the_pipe() {
    let env = environment();
    let around = Surroundings { env: &env, directory: None, patience: Duration::from_millis(100) };
    let started = Instant::now();
    for script in ["sleep 3", "sleep 3 & wait", "exec >&-; sleep 3"] {
        let why = fetch(&command(&["sh", "-c", script]), &around).unwrap_err();
        assert!(why.starts_with("program `sh` took longer than 100 ms; "), "{script}: {why}");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "each was given up");
}

/// All that can be wrong with a secret, as a person reads it.
#[cfg(unix)]
#[test]
fn every_fault_of_a_secret_reads_well() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("empty", &b"\n"[..]),
        ("binary", b"\xff\n"),
        ("nul", b"k\0"),
        ("wide", b"\xff\xfek\0"),
        ("noexec", b""),
    ] {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    std::fs::write(directory.path().join("large"), "x".repeat(70_000)).unwrap();
    let program = directory.path().join("noexec");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o600)).unwrap();
    let env = environment();
    let patience = Duration::from_millis(100);
    let around = Surroundings { env: &env, directory: Some(directory.path()), patience };
    let wrong = [
        SecretReference { file: Some("x".to_owned()), ..variable("KEY") },
        variable("sk-secret value"),
        file(""),
        file("none"),
        file("."),
        file("/dev/zero"),
        file("empty"),
        file("binary"),
        file("nul"),
        file("wide"),
        file("large"),
        file("~/key"),
        command(&[]),
        command(&["demuxai-no-such-program"]),
        command(&["pass show mistral"]),
        command(&[program.to_str().unwrap()]),
        command(&["false"]),
        command(&["true"]),
        command(&["sh", "-c", "printf '\\377'"]),
        command(&["sh", "-c", "kill -9 $$"]),
        command(&["head", "-c", "100000", "/dev/zero"]),
        command(&["sh", "-c", "sleep 3"]),
    ];
    let said = wrong.iter().map(|reference| fetch(reference, &around).unwrap_err());
    let mut said: Vec<String> =
        said.map(|why| why.replace(&directory.path().display().to_string(), "DIR")).collect();
    let outside = Surroundings { env: &env, directory: None, patience };
    said.push(fetch(&file("key"), &outside).unwrap_err());
    insta::with_settings!({
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"),
        omit_expression => true,
    }, { insta::assert_snapshot!(said.join("\n")) });
}
