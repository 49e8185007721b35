//! TLS against a server of our own, with an authority of our own in `ca_file`.

mod exchange;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::super::client::{Client, ClientOptions, Outgoing};
use crate::error::{ErrorKind, ProxyError};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn pem_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn acceptor(authority: &Authority, names: &[&str]) -> TlsAcceptor {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    acceptor_with(authority, CertificateParams::new(names).unwrap())
}

/// A server that shows a certificate of this authority.
fn acceptor_with(authority: &Authority, params: CertificateParams) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    showing(certificate.der().clone(), &key)
}

fn showing(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// An https server that answers every request with `OK`, or with `answer` and the end of the connection; tells the
/// protocol and the head of each request.
async fn serve(acceptor: TlsAcceptor, answer: Option<&'static [u8]>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tx, rx) = mpsc::channel(16);
    actix_rt::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, tx) = (acceptor.clone(), tx.clone());
            actix_rt::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text =
                        format!("{}\n{}", String::from_utf8_lossy(&protocol), String::from_utf8_lossy(&head));
                    tx.send(text).await.unwrap();
                    head.clear();
                    match answer {
                        None => stream.write_all(OK).await.unwrap(),
                        Some(bytes) => {
                            stream.write_all(bytes).await.unwrap();
                            stream.flush().await.unwrap();
                            return;
                        }
                    }
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    (port, rx)
}

fn options(url: String, ca_file: Option<PathBuf>) -> ClientOptions {
    ClientOptions { url, connect_timeout: Duration::from_secs(10), ca_file, user_agent: "x".to_owned() }
}

async fn get(client: &Client) -> Result<Bytes, ProxyError> {
    let request = Outgoing {
        method: Method::GET,
        path: "/".to_owned(),
        headers: Vec::new(),
        body: Bytes::new().into(),
    };
    client.send(request).await?.body.collect(100).await
}

#[actix_rt::test]
async fn an_authority_in_ca_file_is_trusted_and_the_session_speaks_http_1_1() {
    let authority = authority("ours");
    let (port, mut seen) = serve(acceptor(&authority, &["localhost", "127.0.0.1"]), None).await;
    let ca = pem_file(&authority.pem());
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}");
        let client = Client::new(&options(url, Some(ca.path().to_owned()))).unwrap();
        for _ in 0..2 {
            assert_eq!(get(&client).await.unwrap(), "ok");
            let request = seen.recv().await.unwrap();
            assert!(request.starts_with("http/1.1\nGET / HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("host: {host}:{port}\r\n")), "{request}");
        }
    }
}

#[actix_rt::test]
async fn an_unknown_authority_is_refused_with_the_remedy() {
    let (port, _seen) = serve(acceptor(&authority("theirs"), &["localhost"]), None).await;
    let other = pem_file(&authority("ours").pem());
    let url = format!("https://localhost:{port}");
    let error = get(&Client::new(&options(url, Some(other.path().to_owned()))).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    assert!(error.message.starts_with(&format!("tls handshake with localhost:{port} failed: ")), "{error}");
    let told = "failed: its certificate is of an authority that this machine does not know (unknown issuer); if you trust \
                it, name a file with its certificate in the provider's `ca_file`";
    assert!(error.message.ends_with(told), "{error}");
}

/// What is said of a server that shows a certificate of these, whose authority is trusted.
async fn complaint(params: CertificateParams) -> String {
    let authority = authority("ours");
    let (port, _seen) = serve(acceptor_with(&authority, params), None).await;
    complaint_at(port, &authority.pem()).await
}

async fn complaint_at(port: u16, trusted: &str) -> String {
    let ca = pem_file(trusted);
    let url = format!("https://localhost:{port}");
    let error = get(&Client::new(&options(url, Some(ca.path().to_owned()))).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    let (_, said) = error.message.split_once("failed: ").unwrap();
    said.to_owned()
}

fn for_localhost() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_owned()]).unwrap()
}

#[actix_rt::test]
async fn a_certificate_out_of_its_time_is_told_with_the_day() {
    let mut expired = for_localhost();
    expired.not_after = rcgen::date_time_ymd(2024, 3, 1);
    let said = complaint(expired).await;
    assert_eq!(
        said,
        "its certificate expired on 2024-03-01; it needs a new one, or this machine's clock is wrong"
    );
    let mut early = for_localhost();
    early.not_before = rcgen::date_time_ymd(3000, 1, 2);
    let said = complaint(early).await;
    assert_eq!(said, "its certificate is valid only from 3000-01-02 on; is this machine's clock right?");
}

#[actix_rt::test]
async fn a_self_signed_certificate_of_an_authority_is_told_in_words() {
    let key = KeyPair::generate().unwrap();
    let mut params = for_localhost();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let (port, _seen) = serve(showing(certificate.der().clone(), &key), None).await;
    let said = complaint_at(port, &certificate.pem()).await;
    assert!(said.contains("which no server may show") && said.contains("`ca_file`"), "{said}");
}

#[actix_rt::test]
async fn nothing_of_what_is_said_is_in_debug_words() {
    let mut clients = for_localhost();
    clients.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(complaint(clients).await, "its certificate is not one for servers");
    let (port, _seen) = serve(acceptor(&authority("ours"), &["localhost"]), None).await;
    // Another authority of the same name.
    let said = complaint_at(port, &authority("ours").pem()).await;
    assert!(said.starts_with("its certificate is not signed by the authority that it names; "), "{said}");
    assert_eq!(super::spaced("HandshakeFailure"), "handshake failure");
}

#[actix_rt::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = authority("ours");
    let (port, _seen) = serve(acceptor(&authority, &["other.example"]), None).await;
    let ca = pem_file(&authority.pem());
    let url = format!("https://localhost:{port}");
    let error = get(&Client::new(&options(url, Some(ca.path().to_owned()))).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    let told = "failed: its certificate is for another host: for other.example, not for localhost; write the provider's \
                `url` with a name that it is for";
    assert!(error.message.ends_with(told), "{error}");
}

#[actix_rt::test]
async fn an_https_url_to_a_plain_server_and_the_reverse_say_which_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let authority = authority("ours");
    let ca = pem_file(&authority.pem());
    let url = format!("https://localhost:{port}");
    let error = get(&Client::new(&options(url, Some(ca.path().to_owned()))).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    assert!(error.message.contains("rather start with http?"), "{error}");

    let (port, _seen) = serve(acceptor(&authority, &["localhost"]), None).await;
    let error =
        get(&Client::new(&options(format!("http://localhost:{port}"), None)).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    assert!(error.message.contains("start with https?"), "{error}");
}

#[actix_rt::test]
async fn a_body_that_ends_with_a_cut_session_is_truncated() {
    let authority = authority("ours");
    let ca = pem_file(&authority.pem());
    let script = Some(b"HTTP/1.1 200 OK\r\n\r\nhalf".as_slice());
    let (port, _seen) = serve(acceptor(&authority, &["localhost"]), script).await;
    let url = format!("https://localhost:{port}");
    let error = get(&Client::new(&options(url, Some(ca.path().to_owned()))).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Truncated, "{error}");
    assert!(error.message.contains("close_notify"), "{error}");
}

#[actix_rt::test]
async fn a_handshake_that_nobody_answers_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ca = pem_file(&authority("ours").pem());
    let timeout = Duration::from_millis(50);
    let url = format!("https://127.0.0.1:{port}");
    let options = ClientOptions { connect_timeout: timeout, ..options(url, Some(ca.path().to_owned())) };
    let error = get(&Client::new(&options).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    let expected = format!(
        "no connection to 127.0.0.1:{port} within 50ms (timeouts.connect): the tls handshake was not answered yet"
    );
    assert_eq!(error.message, expected);
}

#[test]
fn a_ca_file_that_cannot_be_used_is_an_error_that_names_it() {
    let empty = pem_file("");
    let text = pem_file("not a certificate\n");
    let broken = pem_file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let garbled = pem_file("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    let missing = PathBuf::from("/no/such/file.pem");
    let used = [empty.path(), text.path(), broken.path(), garbled.path(), &missing];
    for path in used {
        let url = "https://localhost".to_owned();
        let error = Client::new(&options(url, Some(path.to_owned()))).err().unwrap();
        assert!(error.message.starts_with(&format!("ca_file `{}` ", path.display())), "{error}");
    }
}

#[test]
fn providers_without_a_ca_file_share_one_configuration() {
    match (super::config(None), super::config(None)) {
        (Ok(first), Ok(second)) => assert!(Arc::ptr_eq(&first, &second)),
        (Err(error), _) | (_, Err(error)) => assert!(error.message.contains("ca-certificates"), "{error}"),
    }
}
