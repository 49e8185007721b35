//! `POST /demuxai/reload` and `POST /demuxai/diff`: the configuration read anew, and what that would change.

use std::path::PathBuf;

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::edge::Edge;
use super::respond::error_response;
use crate::error::{ErrorKind, ProxyError};
use crate::reload::{Answer, Cause, Outcome, Refusal, What};

/// No more files are compared with.
const MOST_FILES: usize = 100;

/// Reads the configuration anew and puts it in force.
pub async fn reload(edge: &Edge<'_>) -> HttpResponse {
    respond(edge.place.reloads.ask(What::Reload(Cause::Command)).await)
}

/// Says what a reload would change; with `file=PATH` in the query, once for each, what these files would.
pub async fn compare(edge: &Edge<'_>, query: &str) -> HttpResponse {
    let refused = |why: &str| error_response(&ProxyError::new(ErrorKind::InvalidRequest, why));
    let Ok(web::Query(given)) = web::Query::<Vec<(String, String)>>::from_query(query) else {
        return refused(
            "the query cannot be read; say which files are meant: ?file=PATH, or none for demuxai's own",
        );
    };
    if given.iter().any(|(name, _)| name != "file") || given.len() > MOST_FILES {
        return refused(
            "say which files are meant: ?file=PATH&file=PATH, at most 100, or none for demuxai's own",
        );
    }
    let files: Vec<PathBuf> = given.into_iter().map(|(_, path)| PathBuf::from(path)).collect();
    if files.iter().any(|file| !file.is_absolute()) {
        return refused("a file's path must be absolute");
    }
    respond(edge.place.reloads.ask(What::Compare(files)).await)
}

fn respond(answer: Answer) -> HttpResponse {
    match answer {
        Ok(Outcome { difference, notes, warnings, files }) => {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            let mut body = difference.to_json();
            if let Some(fields) = body.as_object_mut() {
                fields.insert("notes".to_owned(), json!(notes));
                fields.insert("warnings".to_owned(), json!(warnings));
                fields.insert("files".to_owned(), json!(files));
            }
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
                .body(body.to_string())
        }
        Err(Refusal::Bad { problems, .. }) => {
            let error = ProxyError::new(ErrorKind::InvalidRequest, problems);
            error_response(&error.with_code("configuration_refused"))
        }
        Err(Refusal::Impossible(why) | Refusal::NotNow(why)) => {
            error_response(&ProxyError::new(ErrorKind::Forbidden, why).with_code("reload_impossible"))
        }
    }
}
