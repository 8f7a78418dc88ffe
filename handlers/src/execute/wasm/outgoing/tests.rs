//! What leaves this machine, against a server that says what it got. Whether it may leave is
//! tested in `outbound`, and whole guests in `execute/tests/outside.rs`.

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello";

fn request(uri: &str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from_static(b"body")).map_err(|never| match never {});
    let request = Request::post(uri).header("host", "secure.test").header("content-length", "4");
    request.body(body.boxed_unsync()).unwrap()
}

async fn text_of(answered: Answered) -> String {
    let (response, worker) = answered;
    let worker = tokio::spawn(Box::into_pin(worker));
    assert_eq!(response.headers()["x-a"], "b");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(worker);
    String::from_utf8(body.to_vec()).unwrap()
}

/// Reads one request and answers it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\nbody") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the request ended early: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(ANSWER).await.unwrap();
    stream.flush().await.unwrap();
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn a_server_gets_the_path_and_the_guest_its_answer() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let serving = tokio::spawn(async move { answer(server.accept().await.unwrap().0).await });
    let request = request("http://secure.test/a/b?c=d");
    let answered = exchange(stream, None, request, RequestOptions::default()).await.unwrap();
    assert_eq!(text_of(answered).await, "hello");
    let got = serving.await.unwrap();
    assert!(got.starts_with("POST /a/b?c=d HTTP/1.1\r\nhost: secure.test\r\n"), "{got}");
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
    let first_byte_timeout = Some(Duration::from_millis(20));
    let options = RequestOptions { first_byte_timeout, ..RequestOptions::default() };
    let failed = exchange(stream, None, request("http://a.test/"), options).await.err().unwrap();
    assert!(matches!(failed, Error::ConnectionReadTimeout), "{failed}");
}

#[tokio::test]
async fn a_certificate_must_be_the_hosts_own_and_from_somebody_trusted() {
    let made = rcgen::generate_simple_self_signed(["secure.test".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(async move {
        loop {
            let stream = server.accept().await.unwrap().0;
            if let Ok(stream) = acceptor.accept(stream).await {
                break answer(stream).await;
            }
        }
    });
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate).unwrap();
    let (trusted, nobody) = (Arc::new(trusting(trusted)), RootCertStore::empty());
    let ask = async |config: &Arc<ClientConfig>, name: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let tls = Some((TlsConnector::from(Arc::clone(config)), name.to_owned()));
        exchange(stream, tls, request("https://secure.test/"), RequestOptions::default()).await
    };
    let refused = ask(&Arc::new(trusting(nobody)), "secure.test").await.err().unwrap();
    assert!(matches!(refused, Error::TlsCertificateError), "{refused}");
    let refused = ask(&trusted, "other.test").await.err().unwrap();
    assert!(matches!(refused, Error::TlsCertificateError), "{refused}");
    assert_eq!(text_of(ask(&trusted, "secure.test").await.unwrap()).await, "hello");
    serving.await.unwrap();
}
