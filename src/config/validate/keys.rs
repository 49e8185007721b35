//! Clients' keys and the admin key. No message shows a key.

use super::super::secret::Secret;
use super::super::settings::ClientKey;
use super::super::spec::{KeySpec, SecretSpec, Spec};
use super::{Check, limits};

/// All clients' keys that are valid.
pub(super) fn all(check: &mut Check<'_>, spec: &Spec) -> Vec<ClientKey> {
    let mut keys: Vec<ClientKey> = Vec::new();
    for (id, entry) in check.entries::<KeySpec>("keys", &spec.keys) {
        let path = ["keys", id.as_str()];
        let models = check.globs(&["keys", &id, "models"], entry.models.as_ref());
        let listed = check.globs(&["keys", &id, "listed_models"], entry.listed_models.as_ref());
        let limits = limits::all(check, &["keys", &id, "limits"], &entry.limits);
        let Some(key) = required(check, &["keys", &id, "key"], entry.key.as_ref()) else { continue };
        if let Some(other) = keys.iter().find(|known| known.key.matches(key.expose())) {
            let message = format!("is the same key as keys.{}; each client needs its own", other.id);
            check.problem(&path, message);
            continue;
        }
        keys.push(ClientKey { id, key, models, listed, limits });
    }
    keys
}

/// The key for changes, if there is one.
pub(super) fn admin(check: &mut Check<'_>, spec: &Spec, keys: &[ClientKey]) -> Option<Secret> {
    let path = ["admin", "key"];
    let written = spec.admin.key.as_ref()?;
    let key = required(check, &path, Some(written))?;
    if let Some(client) = keys.iter().find(|known| known.key.matches(key.expose())) {
        let message = format!("is the same key as keys.{}: every such client could change things", client.id);
        check.problem(&path, message);
    }
    Some(key)
}

fn required(check: &mut Check<'_>, path: &[&str], written: Option<&SecretSpec>) -> Option<Secret> {
    let Some(written) = written else {
        check.missing(path, "is missing: write key = \"${SOME_VARIABLE}\"");
        return None;
    };
    let secret = check.secret(path, written);
    if let Some(variables) = check.unset_variables(path) {
        check.problem(path, format!("variable {variables} is not set or empty"));
    }
    if secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
        check.problem(path, "is empty; give a key or leave the table out");
        return None;
    }
    secret
}
