//! Keys and certificates, made at run time and kept in files that only their owner reads.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nkeys::KeyPair as NKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::{Error, TierPath};

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
        match fs::read_to_string(path) {
            Ok(seed) => Self::from_seed(seed.trim(), path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                write_secret(path, &key.seed)?;
                Ok(key)
            }
            Err(e) => Err(Error::local(path.display().to_string(), e)),
        }
    }

    fn from_seed(seed: &str, path: &Path) -> Result<Self, Error> {
        let pair =
            NKey::from_seed(seed).map_err(|e| Error::local(path.display().to_string(), e))?;
        Ok(Self { seed: seed.to_owned(), public: pair.public_key() })
    }
}

/// The authority that signs the certificates of one tree's sites.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The certificate files of one site.
#[derive(Clone, Debug)]
pub struct SiteCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Authority {
    /// A new authority; its key lives in memory only, as long as this value.
    pub fn generate() -> Result<Self, Error> {
        let fail = |e: rcgen::Error| Error::local("certificate authority", e);
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(fail)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "EdgeScale tree");
        let pem = params.self_signed(&key).map_err(fail)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Makes a site's key and certificate, for both ends of a link, into `dir`.
    pub fn issue(
        &self,
        site: &TierPath,
        hosts: &[String],
        dir: &Path,
    ) -> Result<SiteCertificate, Error> {
        let fail = |e: rcgen::Error| Error::local(format!("certificate of {site}"), e);
        let key = KeyPair::generate().map_err(fail)?;
        let mut names = vec![site.to_string()];
        names.extend(hosts.iter().cloned());
        let mut params = CertificateParams::new(names).map_err(fail)?;
        params.distinguished_name.push(DnType::CommonName, site.as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?;
        let files = SiteCertificate {
            certificate: dir.join("site.pem"),
            key: dir.join("site.key"),
            authority: dir.join("ca.pem"),
        };
        write_secret(&files.key, &key.serialize_pem())?;
        write_secret(&files.certificate, &certificate.pem())?;
        write_secret(&files.authority, &self.pem)?;
        Ok(files)
    }
}

/// Writes a file that only its owner may read, replacing what was there.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let fail = |e: std::io::Error| Error::local(path.display().to_string(), e);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fail)?;
    }
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)?;
    fs::rename(&fresh, path).map_err(fail)
}
