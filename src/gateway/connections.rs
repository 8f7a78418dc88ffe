//! Connections of the door: accepted, bounded, served as HTTP/1.1 or HTTP/2, drained at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Bound, Door, Tls};
use crate::node::{DRAIN_TIMEOUT, Node};

/// Connections that are open at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;
/// How long a TLS handshake, and the head of a request, may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 256;

/// Serves until `stop` resolves; then takes no more, lets requests under way end, and returns.
pub async fn serve(node: Arc<Node>, bound: Bound, stop: impl Future<Output = ()>) {
    let door = Arc::new(Door::new(node, &bound));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&bound.listener, &room) => accepted,
            _ = open.join_next(), if !open.is_empty() => continue,
            () = &mut stop => break,
        };
        let Some((stream, client, place)) = accepted else { continue };
        let (door, tls, watcher) = (door.clone(), bound.tls.clone(), graceful.watcher());
        open.spawn(async move {
            let _place = place;
            let Some(tls) = tls else {
                return converse(door, client, stream, watcher).await;
            };
            match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => converse(door, client, stream, watcher).await,
                Ok(Err(e)) => tracing::debug!(%client, error = %e, "no TLS"),
                Err(_) => tracing::debug!(%client, "the TLS handshake took too long"),
            }
        });
    }
    drop(bound);
    let drained = async {
        graceful.shutdown().await;
        while open.join_next().await.is_some() {}
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("requests under way were dropped");
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, client, place))
        }
        Err(e) => {
            // Out of descriptors, most likely; others must end first.
            tracing::warn!(error = %e, "a connection was not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn converse(
    door: Arc<Door>,
    client: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let heard = Arc::new(AtomicBool::new(false));
    let hears = heard.clone();
    let service = hyper::service::service_fn(move |request| {
        hears.store(true, Ordering::Relaxed);
        let door = door.clone();
        async move { Ok::<_, std::convert::Infallible>(door.answer(client, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let served = watcher.watch(connection);
    tokio::select! {
        ended = served => {
            if let Err(e) = ended {
                tracing::debug!(%client, error = %e, "connection ended");
            }
        }
        // Before the first bytes say which HTTP is spoken, no other clock runs.
        () = silence(heard) => tracing::debug!(%client, "no request came"),
    }
}

async fn silence(heard: Arc<AtomicBool>) {
    tokio::time::sleep(HEAD_TIMEOUT * 2).await;
    if heard.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Reads certificate and key, and offers HTTP/2 and HTTP/1.1.
pub(super) fn acceptor(files: &Tls) -> Result<TlsAcceptor> {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("http.tls.certificate {certificate}"))?;
    let secret =
        PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("http.tls.key {key}"))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("http.tls: {certificate} and {key} do not fit together"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
