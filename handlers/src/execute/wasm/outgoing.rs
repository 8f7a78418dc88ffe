//! Requests of a guest to hosts outside of the tree, over `wasi:http/outgoing-handler` of WASI 0.2
//! or `wasi:http/client` of 0.3. Whether a host may be reached is [`Host::connect`]'s to say, for
//! each request anew: a redirect that the guest follows is a request like any other.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{Request, Response, Uri};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::execute::{AbortOnDrop, Caller, Host};
use crate::outbound::{REQUESTS_MAX, Refusal};

/// How long each wait of a request may take, unless the guest says less.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The way out for one instance.
pub(super) struct Outgoing {
    host: Arc<dyn Host>,
    caller: Caller,
    made: u32,
}

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Answered = (Response<WasiBody>, Worker);

impl Outgoing {
    pub(super) fn new(host: Arc<dyn Host>, caller: Caller) -> Self {
        Self { host, caller, made: 0 }
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Worker,
    ) -> Box<dyn Future<Output = Result<Answered, Error>> + Send> {
        self.made += 1;
        let may = self.made <= REQUESTS_MAX;
        let (host, caller) = (Arc::clone(&self.host), self.caller.clone());
        Box::new(async move {
            let refuse = |refusal: Refusal| {
                host.refused(&caller, &refusal);
                error_of(&refusal)
            };
            if !may {
                return Err(refuse(Refusal::TooMany { limit: REQUESTS_MAX }));
            }
            let options = options.unwrap_or_default();
            let (name, port) = place(request.uri())?;
            let connect = host.connect(&caller, &name, port);
            let stream = within(options.connect_timeout, connect, Error::ConnectionTimeout).await?;
            let stream = stream.map_err(refuse)?;
            let tls = match request.uri().scheme() == Some(&Scheme::HTTPS) {
                true => Some((TlsConnector::from(Arc::clone(roots())), name)),
                false => None,
            };
            exchange(stream, tls, request, options).await
        })
    }
}

/// Host and port of a URL.
fn place(uri: &Uri) -> Result<(String, u16), Error> {
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(Error::HttpRequestUriInvalid)?;
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    Ok((host.to_owned(), uri.port_u16().unwrap_or(usual)))
}

fn error_of(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::NotGranted { .. } => Error::HttpRequestDenied,
        Refusal::Private { .. } => Error::DestinationIpProhibited,
        Refusal::Unresolved { reason, .. } => {
            Error::DnsError { rcode: Some(reason.clone()), info_code: None }
        }
        Refusal::Unreachable { .. } => Error::ConnectionRefused,
        Refusal::TooMany { .. } => Error::ConnectionLimitReached,
    }
}

/// Sends a request over a connection, in TLS for `name` if that is wanted.
async fn exchange(
    stream: TcpStream,
    tls: Option<(TlsConnector, String)>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Answered, Error> {
    let Some((connector, name)) = tls else { return send(stream, request, options).await };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?;
    let secured = connector.connect(name, stream);
    let secured = within(options.connect_timeout, secured, Error::ConnectionTimeout).await?;
    send(secured.map_err(|error| of_tls(&error))?, request, options).await
}

fn of_tls(error: &std::io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        _ => Error::TlsProtocolError,
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Answered, Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // A server that is no proxy is given the path alone.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection = AbortOnDrop(tokio::spawn(connection));
    let response = sender.send_request(request);
    let response =
        within(options.first_byte_timeout, response, Error::ConnectionReadTimeout).await??;
    let wait = options.between_bytes_timeout.unwrap_or(WAIT_MAX).min(WAIT_MAX);
    let response = response.map(|body| paced(body, wait));
    let worker = async move {
        // Its end is told by the body, too.
        let _ = (&mut connection.0).await;
        Ok(())
    };
    Ok((response, Box::new(worker)))
}

/// A body that fails when nothing comes for a while.
fn paced(body: Incoming, wait: Duration) -> WasiBody {
    let frames = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(wait, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(Error::from(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(Error::ConnectionReadTimeout), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = T>,
    late: Error,
) -> Result<T, Error> {
    let limit = limit.unwrap_or(WAIT_MAX).min(WAIT_MAX);
    tokio::time::timeout(limit, work).await.map_err(|_| late)
}

/// The authorities that this machine trusts, read once.
fn roots() -> &'static Arc<ClientConfig> {
    static ROOTS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("this machine trusts no certificate authority: no TLS to other hosts");
        }
        Arc::new(trusting(roots))
    })
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests;
