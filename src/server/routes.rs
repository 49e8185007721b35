//! Which route a method and path mean. Pure. Every route works with and without `/v1`, with a trailing or doubled
//! slash, and model ids come raw or percent-encoded (`reference` behaviour of the OpenAI SDKs: `prov%2Fmodel`).

use percent_encoding::percent_decode_str;

use crate::dialect::{ENDPOINTS, Endpoint};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /`, `HEAD /`.
    Root,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, the id decoded.
    Model(String),
    /// One of the endpoints that infer.
    Infer(&'static Endpoint),
    /// `GET /healthz`.
    Health,
    /// `GET /readyz`.
    Ready,
    /// `GET /metrics`.
    Metrics,
    /// `GET /demuxai/status`.
    Status,
    /// `POST /demuxai/quota/reset`.
    ForgetLimits,
    /// `POST /demuxai/explain`.
    Explain,
    /// `POST /demuxai/reload`.
    Reload,
    /// `POST /demuxai/diff`.
    Compare,
    /// The path is known, the method is not; with the methods that are.
    WrongMethod(&'static str),
    /// Nothing is there.
    Unknown,
}

/// Reads method and raw path (without the query).
pub fn route(method: &str, path: &str) -> Route {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.first() == Some(&"v1") {
        segments.remove(0);
    }
    let reading = matches!(method, "GET" | "HEAD");
    let read = |wanted: Route| if reading { wanted } else { Route::WrongMethod("GET, HEAD") };
    match segments.as_slice() {
        [] => read(Route::Root),
        ["models"] => read(Route::Models),
        ["models", id @ ..] => read(Route::Model(decoded(&id.join("/")))),
        ["healthz"] => read(Route::Health),
        ["readyz"] => read(Route::Ready),
        ["metrics"] => read(Route::Metrics),
        ["demuxai", "status"] => read(Route::Status),
        ["demuxai", "quota", "reset"] if method == "POST" => Route::ForgetLimits,
        ["demuxai", "explain"] if method == "POST" => Route::Explain,
        ["demuxai", "reload"] if method == "POST" => Route::Reload,
        ["demuxai", "diff"] if method == "POST" => Route::Compare,
        ["demuxai", "quota", "reset"] | ["demuxai", "reload" | "diff" | "explain"] => {
            Route::WrongMethod("POST")
        }
        rest => match endpoint(&rest.join("/")) {
            Some(endpoint) if method == "POST" => Route::Infer(endpoint),
            Some(_) => Route::WrongMethod("POST"),
            None => Route::Unknown,
        },
    }
}

fn endpoint(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

fn decoded(id: &str) -> String {
    percent_decode_str(id).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_works_with_and_without_v1_and_with_odd_slashes() {
        for path in
            ["/v1/chat/completions", "/chat/completions", "//v1//chat/completions/", "/v1/chat/completions/"]
        {
            assert_eq!(route("POST", path), Route::Infer(&ENDPOINTS[0]), "{path}");
        }
        for path in ["/models", "/v1/models/", "//models"] {
            assert_eq!(route("GET", path), Route::Models, "{path}");
        }
        assert_eq!(route("HEAD", "/"), Route::Root);
        assert_eq!(route("GET", "/v1"), Route::Root);
    }

    #[test]
    fn model_ids_come_raw_or_percent_encoded() {
        let wanted = Route::Model("fireworks/accounts/fireworks/models/x".to_owned());
        assert_eq!(route("GET", "/v1/models/fireworks/accounts/fireworks/models/x"), wanted);
        assert_eq!(route("GET", "/v1/models/fireworks%2Faccounts%2Ffireworks%2Fmodels%2Fx"), wanted);
    }

    #[test]
    fn a_wrong_method_is_told_apart_from_an_unknown_path() {
        assert_eq!(route("GET", "/v1/chat/completions"), Route::WrongMethod("POST"));
        assert_eq!(route("DELETE", "/v1/models"), Route::WrongMethod("GET, HEAD"));
        assert_eq!(route("POST", "/v1/nothing"), Route::Unknown);
        assert_eq!(route("GET", "/demuxai/reload"), Route::WrongMethod("POST"));
        assert_eq!(route("POST", "/demuxai/diff/"), Route::Compare);
    }
}
