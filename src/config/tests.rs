//! Whole loads: layers, files, discovery, what is refused and in which words.

/// Compares with a file in `tests/snapshots`; `$about` is kept in it for the reader.
macro_rules! assert_reads {
    ($text:expr, $about:expr) => {
        insta::with_settings!({
            snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"),
            description => $about,
            omit_expression => true,
        }, { insta::assert_snapshot!($text) })
    };
}

mod caching;
mod corners;
mod discovery;
mod examples;
mod graph;
mod layers;
mod modifiers;
mod problems;
mod rare;
mod schema;
mod sloppy;
mod values;
mod warnings;

use std::path::PathBuf;

use super::settings::ProviderConfig;
use super::*;

/// Kinds like those of the product, so that these tests do not depend on its catalogue.
pub(super) const KINDS: &[Kind<'static>] = &[
    Kind { url: Some("http://localhost:11434"), local: true, ..kind("ollama") },
    cloud("ollama-cloud", "https://ollama.com", &["OLLAMA_API_KEY"]),
    cloud("mistral", "https://api.mistral.ai", &["MISTRAL_API_KEY"]),
    Kind {
        lacks: &[Task::Embedding],
        ..cloud("codestral", "https://codestral.mistral.ai", &["CODESTRAL_API_KEY", "MISTRAL_API_KEY"])
    },
    cloud("fireworks", "https://api.fireworks.ai/inference", &["FIREWORKS_API_KEY"]),
    Kind {
        aliases: &["github-models"],
        retired: Some("GitHub Models was shut down by its owner on 2026-07-30"),
        ..cloud("github", "https://models.github.ai", &["GITHUB_TOKEN"])
    },
    kind("openai"),
    Kind { discovered: false, ..cloud("groq", "https://api.groq.com/openai", &["GROQ_API_KEY"]) },
];

const fn kind(name: &'static str) -> Kind<'static> {
    Kind {
        name,
        aliases: &[],
        url: None,
        api_key_env: &[],
        requires_key: false,
        local: false,
        discovered: false,
        retired: None,
        lacks: &[],
        lists: true,
        open_list: false,
        models: &[],
    }
}

const fn cloud(name: &'static str, url: &'static str, api_key_env: &'static [&'static str]) -> Kind<'static> {
    Kind { url: Some(url), api_key_env, requires_key: true, discovered: true, ..kind(name) }
}

/// A load in a directory of its own.
pub(super) struct Case {
    pub(super) directory: tempfile::TempDir,
    pub(super) sources: Sources,
}

impl Case {
    /// Nothing at all: no files, no environment.
    pub(super) fn empty() -> Self {
        Case { directory: tempfile::tempdir().unwrap(), sources: Sources::default() }
    }

    /// One file.
    pub(super) fn of(text: &str) -> Self {
        Case::empty().file("demuxai.toml", text)
    }

    /// One more file, named on the command line.
    pub(super) fn file(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.write(name, text);
        self.sources.files.push(path);
        self
    }

    /// A file that is only there.
    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A variable.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// An option of the command line.
    pub(super) fn option(mut self, path: &str, value: impl Into<toml::Value>) -> Self {
        self.sources.overrides.push((path.to_owned(), value.into()));
        self
    }

    pub(super) fn load(&self) -> Result<Config, Report> {
        load(&self.sources, KINDS, &|_| false)
    }

    pub(super) fn config(&self) -> Config {
        match self.load() {
            Ok(config) => config,
            Err(report) => panic!("{report}"),
        }
    }

    /// The report, with the directory's name taken out.
    pub(super) fn report(&self) -> String {
        let Err(report) = self.load() else { panic!("loads without a problem") };
        report.to_string().replace(&self.directory.path().display().to_string(), "DIR")
    }
}

pub(super) fn provider<'a>(config: &'a Config, id: &str) -> &'a ProviderConfig {
    config.providers.iter().find(|provider| provider.id == id).unwrap()
}

pub(super) fn key(provider: &ProviderConfig) -> Option<&str> {
    provider.api_key.as_ref().map(|key| key.expose())
}

mod arbitrary {
    //! Nothing that is read can make the loader panic, and what it says stays bounded.

    use proptest::prelude::*;

    use super::super::{interpolate, legacy, quantity, read, spec};
    use super::Case;
    use crate::base_url::BaseUrl;

    /// Text that is nearly a configuration.
    fn nearly() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("[providers.a]\n".to_owned()),
            Just("[listeners.b]\n".to_owned()),
            Just("[keys.c]\n".to_owned()),
            Just("type = 'ollama'\n".to_owned()),
            "[a-z_]{1,8} = (1|-1|1\\.5|true|'x'|'\\$\\{A\\}'|\\[\\]|\\['a', 1\\]|\\{ a = 1 \\})\n",
            "(address|url|api_key|key|models|limits|timeouts|headers|max_body|drain) = (1|'x'|\\['\\*'\\]|\\{ per = 'day' \\})\n",
            "\\PC{0,6}\n",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_load_ends_with_a_configuration_or_a_report(text in nearly(), name in "DEMUXAI__[A-Z_]{0,20}", value in "\\PC{0,10}") {
            let case = Case::of(&text).env(&name, &value);
            if let Err(report) = case.load() {
                prop_assert!(!report.problems.is_empty());
                prop_assert!(report.to_string().len() < 100_000);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[\\[\\]{}:,*&?|>'\"\\- \n$ab]{0,60}") {
            let env = [("ab".to_owned(), "x".to_owned())].into();
            let _ = read::toml_table(&text, 0);
            let _ = read::toml_value(&text, 0);
            let _ = legacy::read(&format!("demuxai:\n  {text}"), 0, &env);
            let _ = interpolate::expand(&text, &env);
            let _ = quantity::span(&spec::Span::Text(text.clone()));
            let _ = quantity::size(&spec::Size::Text(text.clone()));
            let _ = quantity::is_window(&text);
            let _ = super::super::place::line_and_column(&text, text.len() / 2);
            if let Ok(url) = BaseUrl::parse(&text) {
                prop_assert!(!url.text.ends_with('/') && !url.host.is_empty());
            }
        }

        #[test]
        fn a_base_url_parses_to_itself(host in "[a-z]{1,5}", port in 1u16.., path in "(/[a-z1]{1,3}){0,3}/{0,2}") {
            let once = BaseUrl::parse(&format!("http://{host}:{port}{path}")).unwrap();
            prop_assume!(!once.text.ends_with("/v1"));
            prop_assert_eq!(BaseUrl::parse_trimmed(&once.text).unwrap(), once);
        }
    }
}
