//! TLS towards upstreams: the platform's certificate authorities, loaded once, plus the provider's `ca_file`.
//! Only HTTP/1.1 is offered; the crypto provider is named here, nothing is installed for the whole process.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::error::{ErrorKind, ProxyError};

/// The platform's authorities; empty where it has none.
static PLATFORM_ROOTS: OnceLock<RootCertStore> = OnceLock::new();
/// The configuration of every provider without a `ca_file`: one, so that they share its session cache.
static PLATFORM_CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// The configuration for an https provider.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, ProxyError> {
    let Some(path) = ca_file else {
        if let Some(config) = PLATFORM_CONFIG.get() {
            return Ok(Arc::clone(config));
        }
        let roots = platform_roots();
        if roots.is_empty() {
            return Err(ProxyError::new(
                ErrorKind::Internal,
                "no certificate authority found on this system; install ca-certificates or set `ca_file`",
            ));
        }
        let config = build(roots.clone())?;
        return Ok(Arc::clone(PLATFORM_CONFIG.get_or_init(|| config)));
    };
    let mut roots = platform_roots().clone();
    for certificate in read(path)? {
        roots.add(certificate).map_err(|error| {
            unusable(path, &format!("holds a certificate that is no certificate authority's: {error}"))
        })?;
    }
    build(roots)
}

/// Why a handshake failed, with the remedy where there is one.
pub(super) fn explain(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => certificate(why),
        Some(rustls::Error::InvalidMessage(_)) => {
            "what came is no tls; does the provider's `url` rather start with http?".to_owned()
        }
        Some(rustls::Error::NoCertificatesPresented) => "it showed no certificate".to_owned(),
        Some(rustls::Error::AlertReceived(alert)) => {
            format!(
                "it refuses the connection ({}); does it want a client's certificate?",
                spaced(&format!("{alert:?}"))
            )
        }
        Some(rustls::Error::PeerIncompatible(_)) => {
            "it has no protocol version or cipher in common with demuxai, which speaks tls 1.2 and 1.3"
                .to_owned()
        }
        Some(other) => spaced(other),
        None => error.to_string(),
    }
}

/// What is wrong with the upstream's certificate, and what helps.
fn certificate(why: &CertificateError) -> String {
    const TRUST: &str = "if you trust it, name a file with its certificate in the provider's `ca_file`";
    match why {
        CertificateError::UnknownIssuer => {
            format!(
                "its certificate is of an authority that this machine does not know (unknown issuer); {TRUST}"
            )
        }
        CertificateError::BadSignature => format!(
            "its certificate is not signed by the authority that it names; {TRUST}, if that was renewed since"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().take(MOST_NAMES).map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            let expected = expected.to_str();
            format!(
                "its certificate is for another host: for {names}, not for {expected}; write the provider's `url` with a \
                 name that it is for"
            )
        }
        CertificateError::NotValidForName => {
            "its certificate is for another host; write the provider's `url` with a name that it is for"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            format!(
                "its certificate expired on {}; it needs a new one, or this machine's clock is wrong",
                day(*not_after)
            )
        }
        CertificateError::Expired => {
            "its certificate expired; it needs a new one, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "its certificate is valid only from {} on; is this machine's clock right?",
                day(*not_before)
            )
        }
        CertificateError::NotValidYet => {
            "its certificate is not valid yet; is this machine's clock right?".to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked by its authority".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers".to_owned()
        }
        CertificateError::BadEncoding => "its certificate cannot be read".to_owned(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => format!(
            "its certificate is an authority's own, as self-signed ones often are, which no server may show; make it one \
             for servers (CA:FALSE), and {TRUST}"
        ),
        other => format!("its certificate cannot be trusted: {}", spaced(other)),
    }
}

/// Most names of a certificate that are told.
const MOST_NAMES: usize = 5;

/// The name in `DnsName("a.example")`, as certificates' names are presented.
fn bare(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')')).trim_matches('"')
}

/// The day of a moment, as people write it.
fn day(moment: UnixTime) -> String {
    let second = i64::try_from(moment.as_secs()).ok();
    let stamp = second.and_then(|second| jiff::Timestamp::from_second(second).ok());
    stamp.map_or_else(|| "an unknown day".to_owned(), |stamp| stamp.strftime("%Y-%m-%d").to_string())
}

/// `HandshakeFailure` as `handshake failure`: what is left has no other words than its name.
fn spaced(name: &(impl std::fmt::Display + ?Sized)) -> String {
    let mut words = String::new();
    let mut lower = false;
    for c in name.to_string().chars() {
        if c.is_ascii_uppercase() && lower {
            words.push(' ');
        }
        lower = c.is_ascii_lowercase();
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn platform_roots() -> &'static RootCertStore {
    PLATFORM_ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a platform certificate could not be read");
        }
        let mut roots = RootCertStore::empty();
        let (_, unreadable) = roots.add_parsable_certificates(found.certs);
        if unreadable > 0 {
            tracing::debug!(unreadable, "platform certificates that are not usable were skipped");
        }
        roots
    })
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, ProxyError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|error| match error {
            pem::Error::Io(error) => unusable(path, &format!("cannot be read: {error}")),
            other => unusable(path, &format!("is not in PEM format: {other}")),
        })?;
    if certificates.is_empty() {
        return Err(unusable(path, "holds no certificate in PEM format"));
    }
    Ok(certificates)
}

fn build(roots: RootCertStore) -> Result<Arc<ClientConfig>, ProxyError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ProxyError::new(ErrorKind::Internal, format!("cannot set up tls: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unusable(path: &Path, what: &str) -> ProxyError {
    ProxyError::new(ErrorKind::Internal, format!("ca_file `{}` {what}", path.display()))
}

#[cfg(test)]
mod tests;
