//! Takes out of a record what is nobody's business: the configuration's own secrets, what looks like a key of a service
//! that is known, values under names that are those of secrets; and the bytes of images. Pure. It works on values and not
//! on their writing, so that no escape hides anything.

use std::borrow::Cow;
use std::sync::Arc;

use regex::{Captures, Regex};
use serde_json::Value;

use crate::backend::secrets::Secrets;
use crate::provider::scrub::STANDS_IN;

/// A text of base64 from this length on is media, wherever it stands, if it looks as if bytes were in it.
const LONG: usize = 1024;
/// Where media stand without a word on what they are: sounds, files, pictures that were made (OpenAI, "Chat Completions",
/// "Images").
const MEDIA: [&str; 3] = ["data", "file_data", "b64_json"];
/// A value in a text under a secret's name is one from this length on, if it has a letter and a digit in it or stands in
/// quotes: `password: String` is code.
const SHORTEST: usize = 6;
/// So deep documents are looked for in the texts of documents: arguments of tools that write files are two deep.
const MOST_NESTED: u32 = 4;

/// Names of secrets, without `-` and `_`, in lower case. `token` beside a `logprob` is none: [`is_log_probability`].
const NAMES: [&str; 23] = [
    "apikey",
    "xapikey",
    "authorization",
    "proxyauthorization",
    "cookie",
    "setcookie",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "clientsecret",
    "secretkey",
    "secretaccesskey",
    "awssecretaccesskey",
    "privatekey",
    "accesskey",
    "accesstoken",
    "authtoken",
    "bearertoken",
    "idtoken",
    "refreshtoken",
    "sessiontoken",
    "token",
];

/// Keys as services make them: OpenAI and those like it, Groq, Cerebras, Fireworks, Hugging Face, GitHub, GitLab, Slack,
/// AWS, Google, NVIDIA, Perplexity, xAI, Stripe, npm, JSON web tokens; private keys; what follows `Bearer` and, in a
/// header, `Basic`; passwords in URLs.
///
/// Before a key may stand the `n` of an escaped line break: in a document that is written in a text it does.
const PATTERN: &str = concat!(
    r"(?:(?-u:\b)|\\[nrt])(?P<key>sk-[0-9A-Za-z_-]{16,}|[gc]sk[_-][0-9A-Za-z]{20,}|fw_[0-9A-Za-z]{16,}",
    r"|hf_[0-9A-Za-z]{20,}|gh[pousr]_[0-9A-Za-z]{20,}|github_pat_[0-9A-Za-z_]{20,}|glpat-[0-9A-Za-z_-]{16,}",
    r"|xox[abprs]-[0-9A-Za-z-]{10,}|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|nvapi-[0-9A-Za-z_-]{20,}",
    r"|pplx-[0-9A-Za-z]{20,}|xai-[0-9A-Za-z]{20,}",
    r"|[rs]k_(?:live|test)_[0-9A-Za-z]{16,}|npm_[0-9A-Za-z]{30,}|xapp-[0-9A-Za-z-]{10,}",
    r"|eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,})",
    r"|(?P<private>-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z))",
    r"|(?i:bearer)[ \t]+(?P<bearer>[0-9A-Za-z_.~+/=-]{16,})",
    r#"|(?i:authorization\\*["']?[ \t]*[:=][ \t]*\\*["']?basic)[ \t]+(?P<basic>[0-9A-Za-z+/_-]{4,}={0,2})"#,
    r"|(?i:basic)[ \t]+(?P<padded>[0-9A-Za-z+/_-]{8,}={1,2})",
    r#"|[a-z]{2,12}://[^ \t\r\n"/:@]+:(?P<password>[^ \t\r\n"/@]+)@"#,
    r#"|(?i:(?:api|access|secret|private)[_-]?(?:access[_-]?)?key|passw(?:or)?d|passphrase|secret|token)"#,
    r#"\\*["']?[ \t]*[:=][ \t]*(?:\\*["'](?P<quoted>[^ \t\r\n"'\\]{4,})|(?P<named>[0-9A-Za-z_.+/=~-]{6,}))"#,
);

/// What of a match of the pattern is the secret.
const PARTS: [&str; 8] = ["key", "private", "bearer", "basic", "padded", "password", "quoted", "named"];

/// What becomes of the bytes of images and the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Only how many there were is told.
    Cut,
    /// They stay.
    Keep,
}

/// What is taken out.
pub struct Redact {
    secrets: Arc<Secrets>,
    pattern: Regex,
    media: Media,
}

// === impl Redact ===

impl Redact {
    /// These secrets, what looks like others, and media or not.
    ///
    /// # Errors
    /// When the pattern is none, which a test rules out.
    pub fn new(secrets: Arc<Secrets>, media: Media) -> Result<Self, String> {
        let pattern = Regex::new(PATTERN).map_err(|error| error.to_string())?;
        Ok(Redact { secrets, pattern, media })
    }

    /// Cleans all that is in a value.
    pub(super) fn value(&self, value: &mut Value) {
        self.within(value, MOST_NESTED);
    }

    /// The same of a value in a text so many levels from where it is no longer looked for documents.
    fn within(&self, value: &mut Value, nested: u32) {
        match value {
            Value::String(text) => self.string(text, "", nested),
            Value::Array(items) => items.iter_mut().for_each(|item| self.within(item, nested)),
            Value::Object(members) => {
                let told = is_log_probability(members);
                for (name, value) in members.iter_mut() {
                    match value {
                        Value::String(_) | Value::Number(_)
                            if is_secret(name) && !(told && name == "token") =>
                        {
                            *value = Value::from(STANDS_IN);
                        }
                        Value::String(text) => self.string(text, name, nested),
                        value => self.within(value, nested),
                    }
                }
                // Names are texts, too, though hardly ever ones with a secret.
                if members.keys().any(|name| matches!(self.clean(name), Cow::Owned(_))) {
                    let cleaned = std::mem::take(members).into_iter();
                    *members = cleaned.map(|(name, value)| (self.clean(&name).into_owned(), value)).collect();
                }
            }
            _ => {}
        }
    }

    fn string(&self, text: &mut String, name: &str, nested: u32) {
        if self.media == Media::Cut
            && name != "embedding"
            && let Some(cut) = without_media(text, name)
        {
            *text = cut;
            return;
        }
        // Arguments and results of tools are documents in a text: names tell there, too.
        if nested > 0
            && let Some(document) = document(text)
        {
            let mut clean = document.clone();
            self.within(&mut clean, nested - 1);
            if clean != document {
                *text = clean.to_string();
            }
            return;
        }
        if let Cow::Owned(clean) = self.clean(text) {
            *text = clean;
        }
    }

    /// A text without secrets.
    pub(super) fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.secrets.now().plain(text) {
            None => self.without_keys(text),
            Some(scrubbed) => Cow::Owned(self.without_keys(&scrubbed).into_owned()),
        }
    }

    fn without_keys<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.pattern.replace_all(text, |found: &Captures<'_>| {
            let whole = found.get(0).map_or("", |all| all.as_str());
            let part = PARTS.iter().find_map(|name| found.name(name)).map_or(whole, |part| part.as_str());
            if found.name("named").is_some() && is_code(part) {
                return whole.to_owned();
            }
            let begins = whole.len() - part.len() - usize::from(found.name("password").is_some());
            whole.get(..begins).map_or_else(String::new, str::to_owned)
                + STANDS_IN
                + whole.get(begins + part.len()..).unwrap_or("")
        })
    }
}

/// Whether a word behind a secret's name, without quotes, is code or prose.
fn is_code(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
    word.len() < SHORTEST || !has(u8::is_ascii_digit) || !has(u8::is_ascii_alphabetic)
}

/// The object or list that a text is, if it is one as a whole.
fn document(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['{', '[']);
    begins.then(|| serde_json::from_str(text).ok()).flatten()
}

/// Whether an object tells how likely a token was.
fn is_log_probability(members: &serde_json::Map<String, Value>) -> bool {
    members.contains_key("logprob")
}

/// Whether a name is that of a secret.
fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.contains(&plain.as_str())
}

/// What is said in the place of media under this name; `None` if it is none.
fn without_media(text: &str, name: &str) -> Option<String> {
    let (head, data) = match text.split_once(";base64,") {
        Some((kind, data)) if kind.starts_with("data:") && kind.len() < 200 => (kind, data),
        _ if text.len() >= LONG && (MEDIA.contains(&name) || is_mixed(text)) => ("", text),
        _ => return None,
    };
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte);
    if !data.bytes().all(base64) {
        return None;
    }
    let separator = if head.is_empty() { "" } else { ";base64," };
    Some(format!("{head}{separator}({} bytes of base64)", data.len()))
}

/// Whether letters of both cases and digits are mixed as in base64 of bytes: in hexadecimal, paths, sequences and words they
/// are not.
fn is_mixed(text: &str) -> bool {
    let share = |is: fn(&u8) -> bool| text.bytes().filter(is).count() * 100 / text.len().max(1);
    share(u8::is_ascii_uppercase) >= 15
        && share(u8::is_ascii_lowercase) >= 15
        && share(u8::is_ascii_digit) >= 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::provider::scrub::Scrub;

    fn redact(media: Media) -> Redact {
        let secrets = ["own-secret-0123456789", "quote\"backslash\\secret"];
        Redact::new(Arc::new(Secrets::new(Scrub::of(secrets.into_iter()))), media).unwrap()
    }

    fn cleaned(mut value: Value) -> Value {
        redact(Media::Cut).value(&mut value);
        value
    }

    #[test]
    fn our_own_secrets_are_found_wherever_they_stand_and_however_they_are_written() {
        let dirty = json!({"a own-secret-0123456789": ["x own-secret-0123456789!", {"b": "quote\"backslash\\secret"}]});
        assert_eq!(cleaned(dirty), json!({"a (secret)": ["x (secret)!", {"b": "(secret)"}]}));
    }

    #[test]
    fn keys_of_known_services_are_found() {
        let long = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";
        for key in [
            format!("sk-proj-{long}"),
            format!("sk-ant-api03-{long}"),
            format!("gsk_{long}"),
            format!("csk-{long}"),
            format!("fw_{long}"),
            format!("hf_{long}"),
            format!("ghp_{long}"),
            format!("github_pat_{long}"),
            format!("glpat-{long}"),
            format!("xoxb-{long}"),
            format!("xapp-1-{long}"),
            format!("sk_live_{long}"),
            format!("npm_{long}"),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "AIzaA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r".to_owned(),
            format!("nvapi-{long}"),
            format!("eyJ{long}.eyJ{long}.{long}"),
            format!("-----BEGIN RSA PRIVATE KEY-----\n{long}\n-----END RSA PRIVATE KEY-----"),
        ] {
            assert_eq!(cleaned(json!(format!("use {key} now"))), json!("use (secret) now"), "{key}");
        }
        let cut_off = format!("-----BEGIN PRIVATE KEY-----\n{long}\n{long}");
        assert_eq!(cleaned(json!(cut_off)), json!("(secret)"));
    }

    #[test]
    fn of_what_names_a_secret_only_its_value_goes() {
        for (dirty, clean) in [
            ("Authorization: Bearer abcdefghijklmnop.q", "Authorization: Bearer (secret)"),
            ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic (secret)"),
            (r#"{\"authorization\": \"basic dTpwdzEy\"}"#, r#"{\"authorization\": \"basic (secret)\"}"#),
            ("it sends basic dXNlcjpwYXNzd29yZA== then", "it sends basic (secret) then"),
            ("postgres://me:hunter2@host/db", "postgres://me:(secret)@host/db"),
            ("MISTRAL_API_KEY=abcdef1234567890", "MISTRAL_API_KEY=(secret)"),
            ("export api_key=abc123", "export api_key=(secret)"),
            (r#"use {"api_key": "abcdef1234567890"}"#, r#"use {"api_key": "(secret)"}"#),
            (r#"a file "password": "hunter"; more"#, r#"a file "password": "(secret)"; more"#),
            (r#"{\"password\":\"abcdef1234567890\"}"#, r#"{\"password\":\"(secret)\"}"#),
            (r"a=1\nAIzaA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r\nb", r"a=1\n(secret)\nb"),
        ] {
            assert_eq!(cleaned(json!(dirty)), json!(clean));
        }
        let named = json!({"api_key": "x", "X-Api-Key": "y", "password": 123, "Authorization": "Basic z", "user": "u"});
        let clean = json!({"api_key": "(secret)", "X-Api-Key": "(secret)", "password": "(secret)", "Authorization": "(secret)", "user": "u"});
        assert_eq!(cleaned(named), clean);
    }

    #[test]
    fn documents_in_texts_are_looked_into() {
        let call =
            json!({"arguments": r#"{"path": ".env", "content": "{\"token\": \"t1\"}", "password": "p w"}"#});
        let clean = json!({"arguments": r#"{"path":".env","content":"{\"token\":\"(secret)\"}","password":"(secret)"}"#});
        assert_eq!(cleaned(call), clean);
        let result = json!({"role": "tool", "content": r#"[{"access_token": "acc"}]"#});
        assert_eq!(cleaned(result)["content"], r#"[{"access_token":"(secret)"}]"#);
        assert_eq!(
            cleaned(json!({"metadata": {"token": "abc"}})),
            json!({"metadata": {"token": "(secret)"}})
        );
        let as_it_was = json!("{ \"a\":  [1.50, \"b\"] }");
        assert_eq!(cleaned(as_it_was.clone()), as_it_was);
        let deep = json!("[".repeat(100_000));
        assert_eq!(cleaned(deep.clone()), deep);
    }

    #[test]
    fn code_prompts_and_schemas_stay_as_they_are() {
        for text in [
            "fn login(password: String, api_key: &str) -> AccessToken",
            "let access_token = client.fetch_the_token();",
            "the sky-high task-list of risk-averse people",
            "basic internationalization, BASIC PROGRAMMING",
            "see http://localhost:6041/v1 and mailto:me@example.com",
            "data: the base64, of things",
        ] {
            assert_eq!(cleaned(json!(text)), json!(text));
        }
        let schema = json!({"properties": {"password": {"type": "string"}, "token": {"type": "string"}}});
        assert_eq!(cleaned(schema.clone()), schema);
        let logprobs = json!({"logprobs": {"content": [{"token": "Hello", "logprob": -0.1}]}});
        assert_eq!(cleaned(logprobs.clone()), logprobs);
    }

    #[test]
    fn media_are_cut_unless_they_are_to_be_kept() {
        let image = format!("data:image/png;base64,{}", "iVBORw0KGgo=".repeat(3));
        let request = json!([{"image_url": {"url": image}}, {"input_audio": {"data": "QUJD".repeat(500)}}]);
        let cut = json!([
            {"image_url": {"url": "data:image/png;base64,(36 bytes of base64)"}},
            {"input_audio": {"data": "(2000 bytes of base64)"}},
        ]);
        assert_eq!(cleaned(request.clone()), cut);
        let mut kept = request.clone();
        redact(Media::Keep).value(&mut kept);
        assert_eq!(kept, request);
        let picture = json!({"content": "QkM0aGVsbG8x/+a7".repeat(80)});
        assert_eq!(cleaned(picture)["content"], "(1280 bytes of base64)");
        let embedding = json!({"embedding": "QUJD".repeat(500)});
        assert_eq!(cleaned(embedding.clone()), embedding);
    }

    #[test]
    fn long_words_without_a_space_are_no_media() {
        for text in [
            "0123456789abcdef".repeat(80),
            "/usr/local/lib/python3-site/some_package".repeat(40),
            "GATTACA".repeat(200),
            "x".repeat(1_100),
            "QUJD".repeat(500),
        ] {
            let request =
                json!({"messages": [{"content": text}, {"content": [{"type": "text", "text": text}]}]});
            assert_eq!(cleaned(request.clone()), request);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_own_secret_is_left_in_any_text(before in "\\PC{0,20}", after in "\\PC{0,20}") {
            let dirty = format!("{before}own-secret-0123456789{after}");
            let clean = cleaned(json!({ (dirty.clone()): [dirty] })).to_string();
            prop_assert!(!clean.contains("own-secret-0123456789"), "{}", clean);
        }
    }
}
