//! `GET /v1/models` and `GET /v1/models/{id}`: all providers' models in the one shape that satisfies every client.
//! Answers from the lists as they stand; one provider that fails to list never fails the list.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::edge::Edge;
use super::gate;
use super::respond::error_response;
use super::veil::Veil;
use crate::backend::Backend;
use crate::backend::virtual_model::VirtualModel;
use crate::config::settings::{AliasConfig, ClientKey, Listener};
use crate::error::{ErrorKind, ProxyError};
use crate::provider::Model;
use crate::provider::handle::Provider;
use crate::provider::listing::{EntryType, entry, list_body, nearest, provider_entry};
use crate::provider::models::each_once;
use crate::provider::vitals::Health;

/// Whom groups and routers belong to.
const OWNER: &str = "demuxai";
/// How many near ids an error names.
const NEAR: usize = 3;

/// All models that this client may use, less those that are not to be listed for it or here.
pub fn list(request: &HttpRequest, edge: &Edge<'_>, client: Option<&ClientKey>) -> HttpResponse {
    let kind = entry_type(request);
    let table = &edge.now.table;
    let mut entries = Vec::new();
    let mut notices = Vec::new();
    for provider in table.providers() {
        let models = provider.vitals().models.load();
        let shown = shown_of(provider, models.models(), &edge.listener, client);
        entries.extend(shown.iter().map(|model| provider_entry(provider.id(), model, kind)));
        let health = provider.vitals().health();
        let remark = provider.vitals().remark();
        // Who may use but a part hears nothing of providers that the part has nothing of.
        let may_hear = !shown.is_empty() || client.is_none_or(|key| key.models.is_none());
        // One that is up has a remark if its list cannot be had.
        if may_hear
            && (remark.is_some() || matches!(health, Health::Retired | Health::Refused | Health::Unreachable))
        {
            let remark = remark.unwrap_or_default();
            notices.push(json!({"provider": provider.id(), "state": health.label(), "message": remark}));
        }
    }
    let virtuals = table.virtuals().filter(|found| is_shown(found, &edge.listener, client));
    entries.extend(virtuals.map(|found| {
        let veil = Veil::of(edge, client, found.id());
        virtual_entry(found, &table.offer(found), kind, veil.as_deref())
    }));
    for alias in table.aliases().filter(|alias| is_shown_alias(alias, &edge.listener, client)) {
        match table.offer_alias(alias) {
            Some(offered) => {
                let veil = Veil::of(edge, client, &alias.id);
                entries.push(alias_entry(alias, &offered, kind, veil.as_deref()));
            }
            None => {
                let message = format!("not listed: there is no `{}`, which it stands for", alias.to);
                notices.push(json!({"alias": alias.id, "message": message}));
            }
        }
    }
    let mut body = list_body(entries);
    if !notices.is_empty()
        && let Some(object) = body.as_object_mut()
    {
        object.insert("notices".to_owned(), Value::Array(notices));
    }
    json_response(&body)
}

/// The models of this provider that the list shows to this client here.
fn shown_of<'m>(
    provider: &Provider,
    models: &'m [Model],
    listener: &Listener,
    client: Option<&ClientKey>,
) -> Vec<Cow<'m, Model>> {
    let config = &provider.about().config;
    let shown: Vec<&Model> =
        models.iter().filter(|model| shows(provider, &model.id, listener, client)).collect();
    if config.list_aliases { shown.into_iter().map(Cow::Borrowed).collect() } else { each_once(&shown) }
}

/// Whether the list would show this model of a provider to this client here.
pub(super) fn shows(
    provider: &Provider,
    model: &str,
    listener: &Listener,
    client: Option<&ClientKey>,
) -> bool {
    let config = &provider.about().config;
    let hidden = config.hidden.as_ref().is_some_and(|globs| globs.is_match(model));
    let id = gate::full_id(provider.id(), model);
    !provider.retired() && !hidden && may_use(client, &id) && is_listed(listener, client, &id)
}

/// Whether it shows any of its models.
pub(super) fn shows_any(provider: &Provider, listener: &Listener, client: Option<&ClientKey>) -> bool {
    let models = provider.vitals().models.load();
    models.models().iter().any(|model| shows(provider, &model.id, listener, client))
}

pub(super) fn is_shown(
    found: &Arc<dyn VirtualModel>,
    listener: &Listener,
    client: Option<&ClientKey>,
) -> bool {
    let id = found.id();
    !found.about().hidden && may_use(client, id) && is_listed(listener, client, id)
}

fn is_shown_alias(alias: &AliasConfig, listener: &Listener, client: Option<&ClientKey>) -> bool {
    !alias.hidden && may_use_alias(client, alias) && is_listed(listener, client, &alias.id)
}

/// An error about a model that was asked for: whoever is to see a part of the models only is told of no others.
pub fn veiled(edge: &Edge<'_>, client: Option<&ClientKey>, asked: &str, error: ProxyError) -> ProxyError {
    if !gate::sees_a_part(&edge.listener, client) {
        return error;
    }
    let table = &edge.now.table;
    let mut ids: Vec<String> = Vec::new();
    for provider in table.providers() {
        let models = provider.vitals().models.load();
        let shown = shown_of(provider, models.models(), &edge.listener, client);
        ids.extend(shown.iter().map(|model| gate::full_id(provider.id(), &model.id)));
    }
    ids.extend(
        table
            .virtuals()
            .filter(|found| is_shown(found, &edge.listener, client))
            .map(|found| found.id().to_owned()),
    );
    let aliases = table.aliases().filter(|alias| is_shown_alias(alias, &edge.listener, client));
    ids.extend(aliases.map(|alias| alias.id.clone()));
    gate::veil(error, &nearest(ids.iter().map(String::as_str), asked, NEAR))
}

/// One model, by its full id or by a bare name.
pub fn one(request: &HttpRequest, edge: &Edge<'_>, client: Option<&ClientKey>, id: &str) -> HttpResponse {
    let table = &edge.now.table;
    if let Some(alias) = table.alias(id).filter(|alias| may_use_alias(client, alias))
        && let Some(offered) = table.offer_alias(alias)
    {
        let veil = Veil::of(edge, client, id);
        return json_response(&alias_entry(alias, &offered, entry_type(request), veil.as_deref()));
    }
    if let Some(found) = table.find_virtual(id).filter(|found| may_use(client, found.id())) {
        let veil = Veil::of(edge, client, found.id());
        return json_response(&virtual_entry(
            found,
            &table.offer(found),
            entry_type(request),
            veil.as_deref(),
        ));
    }
    if let Some((found, model)) = table.find_in_virtual(id).filter(|_| may_use(client, id)) {
        let offered = table.offer_in(found, model, id);
        let veil = Veil::of(edge, client, id);
        return json_response(&virtual_entry_as(id, found, &offered, entry_type(request), veil.as_deref()));
    }
    let found = table.find_listed(id);
    match found {
        Some((provider, model)) if may_use(client, &gate::full_id(provider.id(), &model.id)) => {
            json_response(&provider_entry(provider.id(), &model, entry_type(request)))
        }
        _ => {
            let shown: String = id.chars().take(200).collect();
            let text = format!("no model `{shown}` is listed; GET /v1/models shows those that are");
            error_response(&ProxyError::new(ErrorKind::ModelNotFound, text).with_param("model"))
        }
    }
}

/// An entry like any other, with one field more: who answers, as far as this client may read it.
fn virtual_entry(
    found: &Arc<dyn VirtualModel>,
    offered: &Model,
    kind: EntryType,
    veil: Option<&Veil>,
) -> Value {
    virtual_entry_as(found.id(), found, offered, kind, veil)
}

/// The same under the id by which it was asked for: `group/model`.
fn virtual_entry_as(
    id: &str,
    found: &Arc<dyn VirtualModel>,
    offered: &Model,
    kind: EntryType,
    veil: Option<&Veil>,
) -> Value {
    let mut entry = entry(id, OWNER, offered, kind);
    if let Some(object) = entry.as_object_mut() {
        let labels = found.below("").into_iter().map(|below| below.label);
        let shown = labels.filter(|label| veil.is_none_or(|veil| veil.shows(label)));
        let labels = shown.map(Value::from).collect();
        object.insert(found.about().section.members().to_owned(), labels);
    }
    entry
}

/// An entry like any other, with one field more: what it stands for, if this client may read that.
fn alias_entry(alias: &AliasConfig, offered: &Model, kind: EntryType, veil: Option<&Veil>) -> Value {
    let mut entry = entry(&alias.id, OWNER, offered, kind);
    if let Some(object) = entry.as_object_mut()
        && veil.is_none_or(|veil| veil.shows(&alias.to))
    {
        object.insert("alias_of".to_owned(), Value::from(alias.to.as_str()));
    }
    entry
}

/// Whether a client's key may use the model of this full id.
fn may_use(client: Option<&ClientKey>, id: &str) -> bool {
    client.and_then(|key| key.models.as_ref()).is_none_or(|globs| globs.is_match(id))
}

/// Whether a client's key may use an alias: by its own name, or because it may use what that stands for.
fn may_use_alias(client: Option<&ClientKey>, alias: &AliasConfig) -> bool {
    may_use(client, &alias.id) || may_use(client, &alias.to)
}

/// Whether the list shows this id to this client at this listener.
fn is_listed(listener: &Listener, client: Option<&ClientKey>, id: &str) -> bool {
    let here = listener.listed.as_ref();
    let theirs = client.and_then(|key| key.listed.as_ref());
    here.into_iter().chain(theirs).all(|globs| globs.is_match(id))
}

/// Mistral's SDK wants `type: "base"`, Anthropic's wants `"model"`.
fn entry_type(request: &HttpRequest) -> EntryType {
    if request.headers().contains_key("anthropic-version") { EntryType::Model } else { EntryType::Base }
}

fn json_response(body: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(body.to_string())
}
