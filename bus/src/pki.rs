//! Keys and certificates, made at run time and kept in files that only their owner reads.
//!
//! Every site is the authority over its own children and over nobody else: it signs their
//! certificates, and trusts no other signature on its listener. A private key never leaves the
//! site that made it; what travels is the public half.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nkeys::KeyPair as NKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, TierPath};

/// Bytes of an uncompressed point on P-256: 4, then both coordinates.
const POINT_BYTES: usize = 65;

/// An nkey of a user: the seed is the secret, the public key goes into the server's configuration.
#[derive(Clone)]
pub struct UserKey {
    pub seed: String,
    pub public: String,
}

impl UserKey {
    /// A new key.
    pub fn generate() -> Result<Self, Error> {
        let pair = NKey::new_user();
        let seed = pair.seed().map_err(|e| Error::local("nkey", e))?;
        Ok(Self { seed, public: pair.public_key() })
    }

    /// Reads the seed from a file, or makes a new one and writes it there.
    pub fn load_or_generate(path: &Path) -> Result<Self, Error> {
        match read_if_there(path)? {
            Some(seed) => {
                Self::from_seed(&seed).map_err(|e| Error::local(path.display().to_string(), e))
            }
            None => {
                let key = Self::generate()?;
                write_secret(path, &key.seed)?;
                Ok(key)
            }
        }
    }

    /// The key of a seed.
    pub fn from_seed(seed: &str) -> Result<Self, Error> {
        let seed = seed.trim();
        let pair = NKey::from_seed(seed).map_err(|e| Error::local("nkey", e))?;
        Ok(Self { seed: seed.to_owned(), public: pair.public_key() })
    }

    /// Signs bytes with the seed.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let pair = NKey::from_seed(&self.seed).map_err(|e| Error::local("nkey", e))?;
        pair.sign(bytes).map_err(|e| Error::local("nkey", e))
    }
}

/// True when the holder of a public nkey signed these bytes.
pub fn signed_by(public: &str, bytes: &[u8], signature: &[u8]) -> bool {
    NKey::from_public_key(public).is_ok_and(|pair| pair.verify(bytes, signature).is_ok())
}

/// True for the public nkey of a user.
pub fn is_user(public: &str) -> bool {
    public.starts_with('U') && NKey::from_public_key(public).is_ok()
}

/// The key of one end of a TLS link; the private half stays in its file.
pub struct LinkKey {
    pair: KeyPair,
}

/// The public half: a point on P-256, in hexadecimal when it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkPublic(Vec<u8>);

/// The files by which one end of a link is known to the other.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who must have signed the other end's certificate.
    pub authority: PathBuf,
}

impl LinkKey {
    /// Reads the key from a file, or makes a new one and writes it there.
    pub fn load_or_generate(path: &Path) -> Result<Self, Error> {
        let fail = |e: rcgen::Error| Error::local(path.display().to_string(), e);
        if let Some(pem) = read_if_there(path)? {
            return Ok(Self { pair: KeyPair::from_pem(&pem).map_err(fail)? });
        }
        let pair = KeyPair::generate().map_err(fail)?;
        write_secret(path, &pair.serialize_pem())?;
        Ok(Self { pair })
    }

    /// The half that others may know.
    pub fn public(&self) -> LinkPublic {
        LinkPublic(self.pair.der_bytes().to_vec())
    }
}

impl PublicKeyData for LinkPublic {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl TryFrom<String> for LinkPublic {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let digits = text.as_bytes().chunks(2).map(|two| {
            let two = std::str::from_utf8(two).ok().filter(|two| two.len() == 2)?;
            u8::from_str_radix(two, 16).ok()
        });
        let bytes: Option<Vec<u8>> = digits.collect();
        match bytes {
            Some(bytes) if bytes.len() == POINT_BYTES && bytes[0] == 4 => Ok(Self(bytes)),
            _ => Err(Error::Bad("a link's public key is 65 bytes of hexadecimal".into())),
        }
    }
}

impl From<LinkPublic> for String {
    fn from(key: LinkPublic) -> Self {
        hex(&key.0)
    }
}

/// A site as the authority over its children's links.
pub struct Authority {
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads the authority of a site's folder, or makes a new one there.
    pub fn load_or_generate(key_file: &Path, certificate: &Path) -> Result<Self, Error> {
        let fail = |e: rcgen::Error| Error::local(key_file.display().to_string(), e);
        let key = LinkKey::load_or_generate(key_file)?.pair;
        let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let name = format!("EdgeScale authority {}", &hex(&Sha256::digest(key.der_bytes()))[..16]);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = match read_if_there(certificate)? {
            Some(pem) => pem,
            None => {
                let pem = params.self_signed(&key).map_err(fail)?.pem();
                write_secret(certificate, &pem)?;
                pem
            }
        };
        let der = certificate_der(&pem, certificate)?;
        Ok(Self { pem, der, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, for those who are to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The SHA-256 of the certificate, in hexadecimal: what a join token pins.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    /// A certificate of a site's key, for both ends of a link.
    pub fn sign(
        &self,
        site: &TierPath,
        hosts: &[String],
        public: &LinkPublic,
    ) -> Result<String, Error> {
        let fail = |e: rcgen::Error| Error::local(format!("certificate of {site}"), e);
        let mut names = vec![site.to_string()];
        names.extend(hosts.iter().cloned());
        let mut params = CertificateParams::new(names).map_err(fail)?;
        params.distinguished_name.push(DnType::CommonName, site.as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(public, &self.issuer).map_err(fail)?.pem())
    }
}

/// The SHA-256 of a certificate, in hexadecimal.
pub fn fingerprint(certificate_der: &[u8]) -> String {
    hex(&Sha256::digest(certificate_der))
}

fn certificate_der(pem: &str, file: &Path) -> Result<Vec<u8>, Error> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|der| der.as_ref().to_vec())
        .map_err(|e| Error::local(file.display().to_string(), e))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a file; `None` when there is no such file.
pub fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::local(path.display().to_string(), e)),
    }
}

/// Writes a file that only its owner may read, replacing what was there.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::local(path.display().to_string(), e);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fail)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    file.sync_all().map_err(fail)?;
    fs::rename(&fresh, path).map_err(fail)
}
