//! Where state is kept. Only names the file; whether it can be used shows when it is opened, and is no error even then.

use super::Check;
use crate::config::place::spot_of;
use crate::config::reference::{Surroundings, located};
use crate::config::settings::StateConfig;
use crate::config::spec::StateSpec;

/// The path that means: no file.
const NONE: &str = "none";
/// The file in the platform's directory.
const FILE: &str = "state.db";

/// The file, or none.
pub(super) fn state(check: &mut Check<'_>, spec: &StateSpec) -> StateConfig {
    if spec.url.is_some() {
        check.problem(
            &["state", "url"],
            "is for a later version: state is kept in a file now, which [state] path names; take it out",
        );
    }
    let at = ["state", "path"];
    let Some(written) = spec.path.as_deref() else {
        let file = check.state_dir.map(|directory| directory.join(FILE));
        return StateConfig { homeless: file.is_none(), file };
    };
    if written == NONE {
        return StateConfig::default();
    }
    let directory = spot_of(check.layers, &at).and_then(|spot| check.places.directory(spot));
    let file = located(written, &Surroundings::new(check.env, directory));
    match file {
        Ok(file) if written.ends_with(['/', '\\']) || file.is_dir() => {
            let quoted = check.quote(&at, written);
            check.problem(&at, format!("{quoted} is a directory; name a file in it, such as state.db"));
            StateConfig::default()
        }
        Ok(file) => {
            // However the configuration's file was named, it is the same one.
            let file = std::path::absolute(&file).unwrap_or(file);
            StateConfig { file: Some(file), homeless: false }
        }
        Err(why) => {
            check.problem(&at, format!("{why}, or \"none\" for no file"));
            StateConfig::default()
        }
    }
}
