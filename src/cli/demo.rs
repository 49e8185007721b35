//! `demuxai demo`: the whole product in front of built-in fake upstreams, without a key or a network.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::load::{listening, read, registry};
use super::serve::serve;
use super::{Exit, complain, say};
use crate::app::App;
use crate::config::Sources;
use crate::demo::Demo;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Listen here.
    #[arg(long, short, value_name = "ADDR", default_value = "127.0.0.1:6041")]
    pub listen: SocketAddr,
}

/// Pause between two words of a fake answer.
const PACE: Duration = Duration::from_millis(25);

/// Starts the fake upstreams and serves in front of them.
pub fn run(args: &DemoArgs) -> Exit {
    let demo = match Demo::start(PACE) {
        Ok(demo) => demo,
        Err(error) => {
            complain(&format!("the fake upstreams cannot start: {error}"));
            return Exit::Failure;
        }
    };
    // It is gone with the demo, and looks for no place.
    let text = format!("{}[state]\npath = \"none\"\n", configuration(&demo));
    let sources = Sources {
        texts: vec![("demo".to_owned(), text)],
        overrides: vec![listening(args.listen)],
        ..Sources::default()
    };
    let config = match read(&sources, &registry()) {
        Ok(config) => config,
        Err(report) => {
            complain(&report.to_string());
            return Exit::Configuration;
        }
    };
    let exit = serve(config, welcome);
    drop(demo);
    exit
}

/// The configuration that puts the daemon in front of the fake upstreams.
pub fn configuration(demo: &Demo) -> String {
    let mut text = String::new();
    for provider in demo.providers() {
        text.push_str(&format!(
            "[providers.{}]\ntype = \"{}\"\nurl = \"{}\"\n",
            provider.id, provider.kind, provider.url
        ));
        if let Some(key) = &provider.api_key {
            text.push_str(&format!("api_key = \"{key}\"\n"));
        }
        text.push('\n');
    }
    text
}

fn welcome(app: &App) {
    let Some((_, address)) = app.addresses().first() else { return };
    say(&format!(
        "demuxai demo on http://{address}/v1, in front of fake upstreams; any API key will do. Try:

  curl http://{address}/v1/models

  curl -N http://{address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{\"model\": \"mistral/mistral-small-latest\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'

  curl http://{address}/metrics

Ctrl-C ends it."
    ));
}
