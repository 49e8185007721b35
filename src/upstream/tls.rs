//! TLS towards upstreams: the platform's certificate authorities, loaded once, plus the provider's `ca_file`.
//! Only HTTP/1.1 is offered; the crypto provider is named here, nothing is installed for the whole process.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
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
    let remedy = match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; if you trust its authority, name it in `ca_file`"
        }
        Some(rustls::Error::InvalidMessage(_)) => "; does the provider's `url` rather start with http?",
        _ => "",
    };
    format!("{error}{remedy}")
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
