//! The base URL of an upstream, in the one form that paths are appended to.

use http::Uri;

/// Endings that say that somebody pasted an endpoint where a base belongs.
const ENDPOINTS: [&str; 5] =
    ["/chat/completions", "/fim/completions", "/completions", "/embeddings", "/models"];

/// A base URL without a trailing slash and without the `/v1` that paths bring along, however the user wrote it.
/// One `/v1` is trimmed, not more; other versions (`/v1beta/openai`, `/api/paas/v4`) belong to the base.
///
/// # Errors
/// A sentence that names the fault: no http or https, no host, user and password inside, a query or fragment,
/// or an endpoint instead of a base.
pub fn normal_base(url: &str) -> Result<String, String> {
    let written = url.trim();
    let uri: Uri = written.parse().map_err(|_| format!("`{written}` is not a url"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("`{written}` must begin with http:// or https://"));
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(format!("`{written}` names no host"));
    };
    if authority.as_str().contains('@') {
        // Not repeated in the message: it holds a password.
        return Err("a url with a user name or password inside: give the key as `api_key`".to_owned());
    }
    if written.contains(['?', '#']) {
        return Err(format!("`{written}` has a query or a fragment: give the base url alone"));
    }
    let path = uri.path().trim_end_matches('/');
    if let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| path.ends_with(*endpoint)) {
        return Err(format!("`{written}` is an endpoint: give the base url, without `{endpoint}`"));
    }
    let base = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/');
    let scheme = uri.scheme_str().unwrap_or("https");
    Ok(format!("{scheme}://{authority}{base}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_and_slashes_at_the_end_are_never_doubled() {
        for (written, base) in [
            ("https://api.openai.com", "https://api.openai.com"),
            ("https://api.openai.com/", "https://api.openai.com"),
            ("https://api.openai.com/v1", "https://api.openai.com"),
            ("https://api.openai.com/v1/", "https://api.openai.com"),
            (" https://api.openai.com//v1// ", "https://api.openai.com"),
            ("https://api.groq.com/openai/v1", "https://api.groq.com/openai"),
            ("https://api.cohere.ai/compatibility/v1", "https://api.cohere.ai/compatibility"),
            ("http://localhost:11434", "http://localhost:11434"),
            ("http://[::1]:8080/v1", "http://[::1]:8080"),
            ("HTTP://Host/V2", "http://Host/V2"),
        ] {
            assert_eq!(normal_base(written).as_deref(), Ok(base), "{written}");
        }
    }

    #[test]
    fn one_v1_is_trimmed_and_no_other_version() {
        assert_eq!(normal_base("http://h/v1/v1").as_deref(), Ok("http://h/v1"));
        assert_eq!(normal_base("https://h/v1beta/openai/").as_deref(), Ok("https://h/v1beta/openai"));
        assert_eq!(normal_base("https://h/api/paas/v4").as_deref(), Ok("https://h/api/paas/v4"));
        assert_eq!(normal_base("https://h/myv1").as_deref(), Ok("https://h/myv1"));
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_a_remedy() {
        for (written, part) in [
            ("", "not a url"),
            ("localhost:11434", "http://"),
            ("/v1", "http://"),
            ("ftp://h", "http://"),
            ("https://h/v1?key=1", "query"),
            ("https://h/#x", "query or a fragment"),
            ("https://h/v1/chat/completions", "without `/chat/completions`"),
            ("https://h/v1/models/", "without `/models`"),
            ("http://a b", "not a url"),
        ] {
            let error = normal_base(written).unwrap_err();
            assert!(error.contains(part), "{written}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = normal_base("https://user:hunter2@host/v1").unwrap_err();
        assert!(error.contains("api_key") && !error.contains("hunter2"), "{error}");
    }
}
