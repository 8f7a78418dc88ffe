//! How a new site joins: one question and one answer over TLS.
//!
//! The token names the parent's authority by its fingerprint, so the child knows whom it speaks to;
//! the child signs its request with the token's key, so the parent knows who was invited. What the
//! child sends is public: two public keys. Nothing is decided here.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pki::{self, LinkPublic, TlsFiles, UserKey};
use crate::server::MAX_PAYLOAD_BYTES;
use crate::{Error, TierClass, TierPath};

/// What a token's text begins with.
const TOKEN_PREFIX: &str = "es-join-";
/// The longest question or answer, in bytes.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024;
/// How long one join may take, from the first byte to the last.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many may try to join at once; more wait to be accepted.
const JOINS_MAX: usize = 8;

/// Leave to join as one named site, with the rights that its parent gives that site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub site: TierPath,
    pub class: TierClass,
    /// `host:port` where the parent answers.
    pub join: String,
    /// The fingerprint of the parent's authority.
    pub authority: String,
    /// The secret: the seed of the invitation's nkey.
    pub seed: String,
    pub expires_s: u64,
}

impl Token {
    /// The text to hand over.
    pub fn encode(&self) -> Result<String, Error> {
        let json = serde_json::to_vec(self).map_err(|e| Error::local("join token", e))?;
        Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads a token's text. Errors never quote it: it is a secret.
    pub fn decode(text: &str) -> Result<Self, Error> {
        let bad = || {
            let why = "is damaged or incomplete; copy the whole line that `tree invite` printed";
            Error::Bad(format!("the join token {why}"))
        };
        let body = text.trim().strip_prefix(TOKEN_PREFIX).ok_or_else(bad)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| bad())?;
        serde_json::from_slice(&json).map_err(|_| bad())
    }
}

/// What a new child says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The public nkey of the invitation.
    pub invite: String,
    /// The public nkey of the link.
    pub link: String,
    /// The public key to be certified.
    pub tls: LinkPublic,
    /// The public nkeys of the links of the site's tenants, by name, where it moves with some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, String>,
    /// All of this, signed by the invitation's key; in base64.
    signature: String,
}

impl JoinRequest {
    /// The request of a site with these keys, and those of its tenants' links.
    pub fn new(
        token: &Token,
        link: &UserKey,
        tls: LinkPublic,
        tenants: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let key = UserKey::from_seed(&token.seed)?;
        let mut request = Self {
            invite: key.public.clone(),
            link: link.public.clone(),
            tls,
            tenants,
            signature: String::new(),
        };
        request.signature = URL_SAFE_NO_PAD.encode(key.sign(&request.signed())?);
        Ok(request)
    }

    /// Refuses a request whose parts are not what they should be, or that another has signed.
    pub fn check(&self) -> Result<(), Error> {
        if !pki::is_user(&self.link) {
            return Err(Error::Bad("join refused: the link's key is no public nkey".into()));
        }
        let signature = URL_SAFE_NO_PAD.decode(&self.signature).unwrap_or_default();
        match pki::signed_by(&self.invite, &self.signed(), &signature) {
            true => Ok(()),
            false => {
                Err(Error::Bad("join refused: the request is not signed by the invited".into()))
            }
        }
    }

    fn signed(&self) -> Vec<u8> {
        let tls = String::from(self.tls.clone());
        let tenants = match self.tenants.is_empty() {
            true => String::new(),
            false => format!("\n{:?}", self.tenants),
        };
        format!("edgescale join\n{}\n{}\n{tls}{tenants}", self.invite, self.link).into_bytes()
    }
}

/// What the parent gives a new child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAnswer {
    pub site: TierPath,
    pub class: TierClass,
    /// `host:port` of the parent's listener for children.
    pub address: String,
    /// Those of its further servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// The child's certificate, in PEM.
    pub certificate: String,
    /// The parent's authority, in PEM.
    pub authority: String,
    /// The largest message that the parent's server takes; the same at every site of a tree.
    pub payload_bytes_max: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Welcome(JoinAnswer),
    Refused(String),
}

/// Where new children knock.
pub struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    room: Arc<Semaphore>,
}

impl Door {
    /// Listens, with the certificate of the site's listener.
    pub async fn open(host: &str, port: u16, files: &TlsFiles) -> Result<Self, Error> {
        let address = format!("{host}:{port}");
        let fail = |e: &dyn ToString| Error::local(format!("joining at {address}"), e.to_string());
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
            .map_err(|e| fail(&e))?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| fail(&e))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| fail(&e))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| fail(&e))?;
        let listener = TcpListener::bind(&address).await.map_err(|e| fail(&e))?;
        let room = Arc::new(Semaphore::new(JOINS_MAX));
        Ok(Self { listener, tls: TlsAcceptor::from(Arc::new(config)), room })
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |address| address.port())
    }

    /// Answers those who knock, until it is dropped.
    pub async fn answer<F, Fut>(self, welcome: F)
    where
        F: Fn(SocketAddr, Result<JoinRequest, Error>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<JoinAnswer, Error>> + Send + 'static,
    {
        let welcome = Arc::new(welcome);
        let mut guests = tokio::task::JoinSet::new();
        loop {
            let Ok(permit) = self.room.clone().acquire_owned().await else { return };
            while guests.try_join_next().is_some() {}
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of descriptors, for instance: let others go on first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, welcome) = (self.tls.clone(), welcome.clone());
            guests.spawn(async move {
                let talk = async {
                    let mut stream = tls.accept(stream).await?;
                    let request = read(&mut stream).await;
                    let reply = match welcome(from, request).await {
                        Ok(answer) => Reply::Welcome(answer),
                        Err(e) => Reply::Refused(e.to_string()),
                    };
                    write(&mut stream, &reply).await
                };
                let _ = tokio::time::timeout(TIMEOUT, talk).await;
                drop(permit);
            });
        }
    }
}

/// Knocks at the parent's door.
pub async fn ask(token: &Token, request: &JoinRequest) -> Result<JoinAnswer, Error> {
    let away = |reason: String| Error::Unreachable { server: token.join.clone(), reason };
    let talk = async {
        let (host, _) = token.join.rsplit_once(':').unwrap_or((&token.join, ""));
        let name = ServerName::try_from(host.to_owned()).map_err(|e| away(e.to_string()))?;
        let stream = TcpStream::connect(&token.join).await.map_err(|e| away(e.to_string()))?;
        let mut stream =
            connector(token)?.connect(name, stream).await.map_err(|e| away(e.to_string()))?;
        write(&mut stream, request).await.map_err(|e| away(e.to_string()))?;
        read(&mut stream).await
    };
    let reply = tokio::time::timeout(TIMEOUT, talk)
        .await
        .map_err(|_| away(format!("no answer within {} s", TIMEOUT.as_secs())))??;
    match reply {
        Reply::Refused(why) => Err(Error::Bad(why)),
        Reply::Welcome(answer) if answer.site != token.site => {
            Err(Error::Bad(format!("{} was invited, not {}", token.site, answer.site)))
        }
        Reply::Welcome(answer) if answer.payload_bytes_max != MAX_PAYLOAD_BYTES => {
            Err(Error::Bad(format!(
                "the parent takes messages of {} bytes, this site {MAX_PAYLOAD_BYTES}; the same \
                 version of edgescale is needed at both",
                answer.payload_bytes_max
            )))
        }
        Reply::Welcome(answer) => Ok(answer),
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(message)?).await?;
    stream.shutdown().await
}

async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, Error> {
    let mut bytes = vec![];
    let read = stream.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes).await;
    read.map_err(|e| Error::Bad(format!("joining broke off: {e}")))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Bad(format!("no message of a join: {e}")))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn connector(token: &Token) -> Result<TlsConnector, Error> {
    let pinned = Arc::new(Pinned { fingerprint: token.authority.clone() });
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::local("TLS", e))?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Trusts the authority of one fingerprint, which must be in the chain that the server shows; all
/// else is checked as usual.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
}

impl Pinned {
    fn authority(&self, chain: &[CertificateDer<'_>]) -> Result<WebPki, rustls::Error> {
        let pinned = chain.iter().find(|der| pki::fingerprint(der) == self.fingerprint);
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General("this is not the site that the token is for".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))
    }
}

type WebPki = Arc<WebPkiServerVerifier>;

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.authority(chain)?.verify_server_cert(own, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, own, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, own, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
