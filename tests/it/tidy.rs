//! Rules that matter are tests: what the tree must look like, and who may name whom.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file without its in-file tests.
const MOST_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        if entry.is_dir() {
            found.extend(files(&entry, ending));
        } else if entry.extension().is_some_and(|extension| extension == ending) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let found: Vec<(String, String)> = files(&root().join("src"), "rs")
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("source is text"))
        })
        .collect();
    assert!(found.len() > 50, "sources are found");
    found
}

/// The text before the in-file tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().expect("a first part")
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

#[test]
fn every_source_file_says_what_it_is() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!") || text.starts_with("#![doc ="), "{name} starts without `//!`");
    }
}

#[test]
fn no_source_file_is_too_long_to_be_proofread() {
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        let lines = product(text).lines().count();
        assert!(lines <= MOST_LINES, "{name} has {lines} lines");
    }
}

#[test]
fn no_file_is_called_after_nothing() {
    for (name, _) in sources() {
        for bad in ["utils", "helpers", "common", "types", "misc"] {
            assert!(!name.ends_with(&format!("/{bad}.rs")) && !name.contains(&format!("/{bad}/")), "{name}");
        }
    }
}

/// Which files may name an outside crate.
#[test]
fn outside_crates_are_named_where_they_belong() {
    let allowed: &[(&str, &[&str])] = &[
        ("prometheus::", &["src/metrics/"]),
        ("tracing_subscriber::", &["src/telemetry"]),
        ("tracing_actix_web::", &["src/telemetry.rs", "src/server/"]),
        ("actix_web::", &["src/server/", "src/telemetry.rs", "src/app.rs"]),
        ("clap::", &["src/cli/", "src/main.rs"]),
        (
            "socket2::",
            &["src/server/listener.rs", "src/server/connection/link.rs", "src/upstream/", "src/demo/"],
        ),
        ("rustls::", &["src/upstream/"]),
        ("rusqlite::", &["src/state/sqlite"]),
        ("rustix::", &["src/config/validate/writable.rs"]),
        ("whatlang::", &["src/language/natural.rs", "src/language/natural/words.rs"]),
        ("ring::", &["src/wire/json/digest.rs", "src/upstream/tls.rs"]),
        ("hashlink::", &["src/backend/modifier/cache/memory.rs"]),
    ];
    for (name, text) in sources().iter().filter(|(name, _)| !is_test(name)) {
        for (crate_name, places) in allowed {
            let named = product(text).lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                code.match_indices(crate_name).any(|(at, _)| {
                    !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                })
            });
            assert!(
                !named || places.iter().any(|place| name.starts_with(place)),
                "{name} names {crate_name}"
            );
        }
    }
}

/// Pure modules take time, randomness and environment as arguments and do no I/O.
#[test]
fn pure_modules_are_pure() {
    let pure = |name: &str| {
        name.starts_with("src/wire")
            || name.starts_with("src/dialect")
            || name.starts_with("src/language")
            || name == "src/model_id.rs"
            || name == "src/error.rs"
            || name == "src/server/gate.rs"
            || name == "src/server/routes.rs"
            || name == "src/upstream/framing.rs"
            || name.starts_with("src/upstream/classify")
            || name == "src/provider/prepare.rs"
            || name.starts_with("src/provider/prepare/")
            || name.starts_with("src/quota/")
            || name.starts_with("src/backend/strategy/")
            || name.starts_with("src/backend/condition/")
            || name == "src/backend/size.rs"
            || name == "src/backend/trail.rs"
            || ["combine", "frame", "plan", "stage", "tally"]
                .iter()
                .any(|pure| name == format!("src/backend/consensus/{pure}.rs"))
            || name == "src/backend/fail_on.rs"
            || name == "src/upstream/limits.rs"
            || name == "src/upstream/prose.rs"
            || name == "src/upstream/rate_headers.rs"
            || name == "src/upstream/refusal.rs"
            || name == "src/provider/usage.rs"
            || name == "src/provider/offer.rs"
            || name == "src/provider/fitness.rs"
            || name == "src/provider/prefix.rs"
            || name == "src/state/journal.rs"
            || name == "src/state/store.rs"
            || name == "src/provider/models.rs"
            || name == "src/provider/listing.rs"
            || name == "src/backend/modifier/identity.rs"
            || name == "src/backend/modifier/cache/entry.rs"
            || name == "src/backend/modifier/cache/memory.rs"
            || name == "src/backend/modifier/cache/policy.rs"
            || name == "src/backend/modifier/tee/record.rs"
            || name == "src/backend/modifier/tee/redact.rs"
            || ADAPTERS.iter().any(|adapter| name == format!("src/provider/{adapter}.rs"))
    };
    let banned = [
        "tokio::",
        "actix",
        "Instant::now",
        "SystemTime::now",
        "std::env",
        "std::fs",
        "std::net::Tcp",
        "async fn",
        "rand::rng",
        "fastrand::f64",
        "Rng::new",
    ];
    let mut seen = 0;
    for (name, text) in sources().iter().filter(|(name, _)| pure(name) && !is_test(name)) {
        seen += 1;
        for line in product(text).lines().map(|line| line.split("//").next().unwrap_or("")) {
            for word in banned {
                assert!(!line.contains(word), "{name} names `{word}`: {line}");
            }
        }
    }
    assert!(seen > 15, "pure modules are found: {seen}");
}

const ADAPTERS: &[&str] =
    &["ollama", "ollama_cloud", "github", "mistral", "codestral", "fireworks", "openai"];

#[test]
fn only_the_registry_names_adapters() {
    let adapter_names: BTreeSet<String> = ADAPTERS.iter().map(|name| format!("{name}::")).collect();
    for (name, text) in
        sources().iter().filter(|(name, _)| name.starts_with("src/provider/") && !is_test(name))
    {
        if name == "src/provider/registry.rs" {
            continue;
        }
        for adapter in &adapter_names {
            let used = product(text).lines().any(|line| line.contains(&format!("super::{adapter}")));
            assert!(!used, "{name} names the adapter {adapter}");
        }
    }
}

#[test]
fn the_edge_names_no_provider_kind() {
    for (name, text) in sources().iter().filter(|(name, _)| name.starts_with("src/server/") && !is_test(name))
    {
        for kind in ["mistral", "codestral", "fireworks", "github"] {
            let used = product(text).lines().any(|line| line.split("//").next().unwrap_or("").contains(kind));
            assert!(!used, "{name} names {kind}");
        }
    }
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let allowed =
        ["Cargo.toml", "Cargo.lock", "src", "config", "deploy", "tests", "README.md", "LICENSE", "target"];
    for entry in fs::read_dir(root()).expect("root") {
        let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
        assert!(
            name.starts_with('.') || allowed.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

#[test]
fn nothing_is_silenced_and_no_test_is_ignored() {
    for (name, text) in sources() {
        assert!(!text.contains("#[allow("), "{name} has an allow; use expect with a reason");
    }
    for path in files(&root().join("tests"), "rs") {
        let text = fs::read_to_string(&path).expect("test is text");
        let ignored = text.lines().any(|line| line.trim_start().starts_with("#[ignore"));
        assert!(!ignored, "{} ignores a test", path.display());
    }
}

/// What in the text is written as a file or folder of this tree: with an ending that files here have, or a slash at the
/// end. Names with placeholders, paths of requests, and places of the user's own, are none.
fn named_places(text: &str) -> Vec<&str> {
    let endings = [".rs", ".md", ".bin", ".py", ".sh", "/"];
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| {
            // A `config.toml` alone is the user's.
            endings.iter().any(|ending| name.ends_with(ending))
                || name.contains('/') && name.ends_with(".toml")
        })
        .filter(|name| {
            !name.starts_with('/') && !name.contains(|c: char| c.is_whitespace() || "*~{<:".contains(c))
        })
        .collect()
}

#[test]
fn what_the_documents_name_is_there() {
    let places: Vec<String> = ["src", "tests", "config", "deploy", ".ci"]
        .iter()
        .flat_map(|folder| everything(&root().join(folder)))
        .map(|path| path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned())
        .collect();
    let is_there = |name: &str| {
        let name = name.trim_end_matches('/');
        places.iter().any(|place| {
            place.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        })
    };
    for document in ["src/ARCHITECTURE.md", "README.md"] {
        let text = fs::read_to_string(root().join(document)).expect("document is text");
        let named = named_places(&text);
        assert!(!named.is_empty(), "{document} names files");
        for name in named {
            assert!(is_there(name), "{document} names `{name}`, which is nowhere");
        }
    }
}

/// All files and folders below a folder.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    entries
        .flat_map(
            |path| if path.is_dir() { [vec![path.clone()], everything(&path)].concat() } else { vec![path] },
        )
        .collect()
}
