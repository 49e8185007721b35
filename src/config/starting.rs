//! The text of a first configuration file: what was found is in it, the rest is explained. Writes no file, and never
//! a key: keys are references to variables.

use std::fmt::Write;

use super::{Found, Kind, discover};
use crate::backend::kind::words;

const HEAD: &str = r#"# demuxai: one OpenAI-compatible endpoint for the AI services that you use.
# Every option with its default is in config/demuxai.toml of the source. Try this file with `demuxai check`.

# Where clients connect. The API is at http://127.0.0.1:6041/v1.
[listeners.local]
address = "127.0.0.1:6041"

# Clients' keys. Without one, any key or none is accepted, and only loopback addresses can be listened on.
# [keys.ide]
# key = "${DEMUXAI_IDE_KEY}"

# Providers: the id in brackets is the prefix of the provider's models, as in "ollama/qwen3:8b".
"#;

const OTHER: &str = r#"
# Any other server that speaks OpenAI's API; its url with or without /v1.
# [providers.other]
# type = "openai"
# url = "http://localhost:8080"

"#;

const GROUPS: &str = r#"
# A group: one model over several, here "coder". The next one is asked when the one before it fails or has nothing left.
# Other types: TYPES.
# [groups.coder]
# type = "failover"
# members = ["codestral/codestral-latest", "mistral/codestral-latest", "ollama/qwen2.5-coder:7b"]
"#;

/// A commented configuration that serves what was found.
pub fn starting_configuration(found: &[Found], kinds: &[Kind<'_>]) -> String {
    let mut text = HEAD.to_owned();
    for found in found {
        let why: String = found.why.chars().filter(|c| !c.is_control()).collect();
        put(&mut text, &format!("\n# {why}.\n[providers.{}]\n", found.id));
        put(&mut text, &format!("type = {}\n", quoted(&found.kind)));
        if let Some(url) = &found.url {
            put(&mut text, &format!("url = {}\n", quoted(&url.replace("${", "$${"))));
        }
        if let Some(variable) = &found.variable {
            put(&mut text, &format!("api_key = {}\n", quoted(&format!("${{{variable}}}"))));
        }
    }
    if found.is_empty() {
        put(&mut text, "\n# Nothing was found. Take the # away from one of these, at least:\n");
    }
    let is_found = |kind: &&Kind<'_>| found.iter().any(|found| found.id == kind.name);
    let shown =
        |kind: &&Kind<'_>| kind.retired.is_none() && (kind.discovered || kind.name == discover::OLLAMA);
    for kind in kinds.iter().filter(|kind| shown(kind) && !is_found(kind)) {
        put(&mut text, &commented(kind));
    }
    put(&mut text, OTHER);
    let is_other = |kind: &&Kind<'_>| kind.retired.is_none() && !shown(kind) && kind.name != "openai";
    let others: Vec<_> = kinds.iter().filter(is_other).map(|kind| kind.name).collect();
    put(&mut text, &format!("# Types besides these: {}.\n", others.join(", ")));
    let types = words().filter(|word| *word != "failover");
    put(&mut text, &GROUPS.replace("TYPES", &types.collect::<Vec<_>>().join(", ")));
    text
}

/// A provider of a kind, to be taken in by hand.
fn commented(kind: &Kind<'_>) -> String {
    let mut text = format!("\n# [providers.{}]\n# type = {}\n", kind.name, quoted(kind.name));
    if let Some(variable) = kind.api_key_env.first() {
        put(&mut text, &format!("# api_key = {}\n", quoted(&format!("${{{variable}}}"))));
    }
    text
}

fn put(text: &mut String, more: &str) {
    // Writing to a String does not fail.
    let _ = text.write_str(more);
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
