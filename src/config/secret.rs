//! Secrets: values that are in no log, error, header or metric.

/// A secret text. Has no `Debug`, no `Display`, no `Serialize`; comparison is in constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends it upstream.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
