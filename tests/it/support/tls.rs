//! A front that speaks TLS before a fake upstream: it passes the bytes on, both ways and at once, and ends a session as
//! the test wants. Its authority is its own; a provider trusts it through `ca_file`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// What the client sees when the upstream closes the connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Farewell {
    /// The end of the session (`close_notify`), and then that of the connection.
    Said,
    /// The end of the connection alone, as whoever cuts the line could bring it about.
    Missing,
}

/// The front; it ends when it is dropped.
pub struct Front {
    address: SocketAddr,
    ca_file: NamedTempFile,
    sessions: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// Starts one before the upstream at this address.
    pub fn before(upstream: SocketAddr, farewell: Farewell) -> Front {
        let (acceptor, authority) = identity();
        let mut ca_file = NamedTempFile::new().expect("a file");
        ca_file.write_all(authority.as_bytes()).expect("file is written");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let address = listener.local_addr().expect("an address");
        let sessions = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let counter = Arc::clone(&sessions);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, acceptor, upstream, farewell, counter) => {}
                    _ = stopped => {}
                }
            });
        });
        Front { address, ca_file, sessions, stop: Some(stop), thread: Some(thread) }
    }

    /// The table of a provider that is reached through it.
    pub fn provider(&self, id: &str, kind: &str) -> String {
        let url = format!("https://localhost:{}", self.address.port());
        let table = super::proxy::provider(id, kind, &url);
        format!("{table}ca_file = \"{}\"\n", self.ca_file.path().display())
    }

    /// How many sessions there have been.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the front's thread ended well");
        }
    }
}

/// A certificate for `localhost`, and the authority's that signed it, in PEM format.
fn identity() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate =
        CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("signed");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    upstream: SocketAddr,
    farewell: Farewell,
    sessions: Arc<AtomicUsize>,
) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let (acceptor, sessions) = (acceptor.clone(), Arc::clone(&sessions));
        running.spawn(async move {
            let _ = client.set_nodelay(true);
            let Ok(session) = acceptor.accept(client).await else { return };
            sessions.fetch_add(1, Ordering::SeqCst);
            let Ok(mut upstream) = TcpStream::connect(upstream).await else { return };
            let _ = upstream.set_nodelay(true);
            let (mut from_client, mut to_client) = split(session);
            let (mut from_upstream, mut to_upstream) = upstream.split();
            tokio::select! {
                // A client that leaves takes its connection upstream along.
                _ = copy(&mut from_client, &mut to_upstream) => {}
                _ = copy(&mut from_upstream, &mut to_client) => {
                    if farewell == Farewell::Said {
                        let _ = to_client.shutdown().await;
                    }
                }
            }
        });
    }
}
