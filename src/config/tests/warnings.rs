//! What works and is probably not meant: each kind in the words that a person reads, and that nothing else is doubted.

use super::super::settings::StaticModel;
use super::*;

/// Loads a file and compares what it warns of.
macro_rules! warned {
    ($text:expr) => {
        assert_reads!(Warned::of($text).text(), $text)
    };
}

struct Warned(Config);

impl Warned {
    fn of(text: &str) -> Warned {
        let case = Case::of(text).env("EMPTY", "");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        let model = |id: &str, capabilities: &[&str]| StaticModel {
            id: id.to_owned(),
            capabilities: words(capabilities),
            context_length: None,
        };
        let of_fim = [model("codestral-latest", &["chat", "fim", "completion", "tools"])];
        let closed = [model("c1", &["chat"]), model("c2", &[])];
        let kinds: Vec<Kind<'_>> = KINDS
            .iter()
            .map(|kind| match kind.name {
                "codestral" => Kind { models: &of_fim, requires_key: false, ..*kind },
                "groq" => Kind { models: &closed, lists: false, requires_key: false, ..*kind },
                "fireworks" => Kind { lacks: &[Task::Fim, Task::Embedding], requires_key: false, ..*kind },
                _ => Kind { requires_key: false, ..*kind },
            })
            .collect();
        Warned(load(&case.sources, &kinds, &|_| false).unwrap_or_else(|report| panic!("{report}")))
    }

    fn text(&self) -> String {
        let Warned(config) = self;
        let told = warned(&config.warnings);
        let path = config.warnings.iter().find_map(|warning| match &warning.origin {
            Origin::File { path, .. } => Some(path.parent()?.display().to_string()),
            _ => None,
        });
        path.map_or(told.clone(), |path| told.replace(&path, "DIR"))
    }
}

#[test]
fn members_that_never_have_their_turn() {
    warned!(
        r#"
[providers.box]
type = "ollama"
models = [{ id = "e", capabilities = ["embedding"] }, { id = "chatty", capabilities = ["chat", "completion"] }]
[providers.closed]
type = "groq"
api_key = "k"
[providers.codestral]
type = "codestral"
api_key = "k"
[providers.fireworks]
type = "fireworks"
api_key = "k"
[groups.missing]
type = "failover"
members = ["closed/c1", "closed/c3"]
[groups.twice]
type = "round-robin"
members = ["box/a", { to = "box/a", set = { seed = 1 } }, { to = "box/a", weight = 3 }, "box/b"]
[groups.apart]
type = "failover"
members = ["box/chatty", "box/e"]
[groups.fim]
type = "failover"
members = ["codestral/codestral-latest", "fireworks/x"]
[groups.spaces]
type = "failover"
members = ["box/nomic-embed-text", "box/nomic-embed-text:latest", "box/mxbai-embed-large"]
[groups.one-space]
type = "failover"
members = ["box/nomic-embed-text", "box/mxbai-embed-large"]
same_space = true
[groups.nested]
type = "failover"
members = ["fim", "box/e"]
[groups.sorry]
type = "static"
answer = "no"
[groups.spoken]
type = "static"
answer = "yes"
[groups.behind]
type = "failover"
members = ["box/a", "sorry", "box/b"]
[groups.fixed]
type = "race"
members = ["sorry", "spoken"]
[routers.r]
routes = [{ to = "closed/c9" }]
"#
    );
}

#[test]
fn names_that_nobody_can_use() {
    warned!(
        r#"
[listeners.local]
serves = ["metrics"]
listed_models = ["auto", "coderr", "mistral/*"]
[keys.a]
key = "1"
models = ["coder", "mistral/*", "mistrall/*", "gpt-*", "coder/x"]
[keys.b]
key = "2"
models = ["auto", "*/x"]
[keys.c]
key = "3"
models = ["other/x"]
[providers.mistral]
type = "mistral"
api_key = "k"
include_models = ["small-*"]
models = ["small-1", "large-1", "ollama/x"]
[providers.ollama]
type = "ollama"
api_key = "${EMPTY}"
models = ["coder", "qwen3"]
[providers.other]
type = "ollama"
[providers.spare]
type = "ollama"
[groups.coder]
type = "failover"
members = ["ollama/qwen3"]
[groups.unused]
type = "failover"
members = ["spare/x"]
[routers.auto]
routes = [{ to = "mistral/small-1" }]
"#
    );
}

#[test]
fn what_nobody_may_ask_for_is_unused() {
    warned!(
        r#"
[keys.a]
key = "1"
models = ["coder"]
[providers.used]
type = "ollama"
[providers.spare]
type = "ollama"
[groups.coder]
type = "failover"
members = ["used/x"]
[groups.unused]
type = "failover"
members = ["spare/x"]
"#
    );
}

#[test]
fn a_member_that_its_own_provider_leaves_out_is_a_problem() {
    let text = r#"
[providers.box]
type = "ollama"
exclude_models = ["big-*", "huge:*"]
[providers.small]
type = "ollama"
include_models = ["small-*"]
[groups.g]
type = "failover"
members = ["box/big-1", { to = "small/large" }, "box/ok", "box/huge", "small/small-1:latest"]
[routers.r]
routes = [{ endpoint = "chat", to = "small/x" }, { to = "g" }]
[groups.also]
type = "failover"
members = ["box/ok", "box/ok"]
"#;
    assert_reads!(Case::of(text).report(), text);
}

#[test]
fn what_is_meant_is_not_doubted() {
    for text in [
        "[providers.a]\ntype = \"ollama\"\n[groups.g]\ntype = \"failover\"\nmembers = [\"a/x\", \"a/y\", \"a\"]",
        "[keys.k]\nkey = \"1\"\nmodels = [\"*\"]\n[providers.a]\ntype = \"ollama\"\n[groups.g]\ntype = \"race\"\nmembers = [\"a/x\"]",
        "[keys.k]\nkey = \"1\"\n[keys.l]\nkey = \"2\"\nmodels = [\"a/x\"]\n[providers.a]\ntype = \"ollama\"\n[providers.b]\ntype = \"ollama\"",
        "[keys.l]\nkey = \"2\"\nmodels = [\"r\"]\n[providers.a]\ntype = \"ollama\"\n[groups.g]\ntype = \"failover\"\nmembers = [\"a/x\"]\n[routers.r]\nroutes = [{ to = \"g\" }]",
    ] {
        let Warned(config) = Warned::of(text);
        assert!(config.warnings.is_empty(), "{text}: {}", warned(&config.warnings));
    }
}
