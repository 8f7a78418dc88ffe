//! A stranger with a site's keys: speaks to the parent's server itself, byte by byte, and so is
//! held back by nothing but that server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::pki::UserKey;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// One link, logged in.
pub struct Leaf {
    stream: BufReader<TlsStream<TcpStream>>,
}

impl Leaf {
    /// Logs in with the keys of a site's folder, under a name of its own.
    pub async fn connect(site: &Path, parent: &str) -> Result<Self> {
        let mut tcp = TcpStream::connect(parent).await?;
        let info = first_line(&mut tcp).await?;
        let info: Value = serde_json::from_str(info.trim_start_matches("INFO ").trim())?;
        let name = ServerName::try_from("127.0.0.1")?;
        let tls = TlsConnector::from(Arc::new(config(site)?)).connect(name, tcp).await?;
        let key = UserKey::from_seed(&std::fs::read_to_string(site.join("link.nk"))?)?;
        let nonce = info["nonce"].as_str().context("the server gives no nonce")?;
        let connect = json!({
            "nkey": key.public, "sig": URL_SAFE_NO_PAD.encode(key.sign(nonce.as_bytes())?),
            "name": "stranger", "server_id": "stranger", "version": "2.15.1", "headers": true,
            "tls_required": true, "cluster": "strangers", "protocol": 1,
        });
        let mut leaf = Self { stream: BufReader::new(tls) };
        leaf.send(format!("CONNECT {connect}\r\n").as_bytes()).await?;
        leaf.pong().await?;
        Ok(leaf)
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a message on a subject, without asking whether that is allowed.
    pub async fn publish(&mut self, subject: &str, payload: &str) -> Result<()> {
        self.send(format!("LMSG {subject} {}\r\n{payload}\r\n", payload.len()).as_bytes()).await
    }

    /// Waits until the server has taken in everything so far; returns what it sent meanwhile.
    pub async fn pong(&mut self) -> Result<Vec<String>> {
        self.send(b"PING\r\n").await?;
        let mut heard = vec![];
        loop {
            let mut line = vec![];
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                bail!("the server closed the link; it said {heard:?}");
            }
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            match line.as_str() {
                "PONG" => return Ok(heard),
                "PING" => self.send(b"PONG\r\n").await?,
                _ => heard.push(line),
            }
        }
    }
}

async fn first_line(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    use tokio::io::AsyncReadExt;
    let mut line = vec![];
    // Byte by byte: what comes after the line belongs to TLS.
    while !line.ends_with(b"\n") {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(line)?)
}

fn config(site: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.join("link.parent.pem"))?)?;
    let own = CertificateDer::from_pem_file(site.join("link.pem"))?;
    let key = PrivateKeyDer::from_pem_file(site.join("link.key"))?;
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own], key)?)
}
