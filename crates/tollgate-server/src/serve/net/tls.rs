//! TLS: certificates, who may come in by them, and that they are read again when they change.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SignatureScheme};
use webpki::EndEntityCert;

use crate::serve::signals::Hangups;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where certificates are.
#[derive(Clone, Debug)]
pub(in crate::serve) struct TlsFiles {
    /// That of the server, and those between it and one that clients believe.
    pub(in crate::serve) cert: PathBuf,
    pub(in crate::serve) key: PathBuf,
    /// Those who vouch for clients, if these have to show a certificate.
    pub(in crate::serve) client_ca: Option<PathBuf>,
}

/// What is spoken under TLS, as clients ask for it (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Protocol {
    /// HTTP/2 or HTTP/1.1.
    Http,
    /// HTTP/2 only.
    Http2,
    /// What has no name in this list.
    Other,
}

/// Certificates in use.
#[derive(Debug)]
pub(in crate::serve) struct Tls {
    files: TlsFiles,
    configs: RwLock<Configs>,
}

/// What is used for each protocol.
#[derive(Clone, Debug)]
struct Configs {
    http: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    other: Arc<ServerConfig>,
}

/// What the files say.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The cryptography of this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls_graviola::default_provider())
}

impl Tls {
    /// Reads certificates.
    ///
    /// # Errors
    /// Which file is wrong, how, and what to do.
    pub(in crate::serve) fn load(files: TlsFiles) -> Result<Self, String> {
        let configs = Contents::read(&files)?.configs(&files)?;
        Ok(Self { files, configs: RwLock::new(configs) })
    }

    /// What new connections are to use.
    pub(in crate::serve) fn config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        // It is replaced in one step.
        let configs = self.configs.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match protocol {
            Protocol::Http => &configs.http,
            Protocol::Http2 => &configs.http2,
            Protocol::Other => &configs.other,
        })
    }

    /// Whether clients have to show a certificate.
    pub(in crate::serve) fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// Takes what is new in the files into use, for connections to come; for ever. The files themselves are compared: their
    /// times and links say less, where directories are swapped.
    pub(in crate::serve) async fn watch(self: Arc<Self>) {
        let mut hangups = Hangups::new();
        let mut known = self.look().await.ok();
        let mut failed = None;
        loop {
            let is_asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = hangups.next() => true,
            };
            let found = self.look().await;
            if let (Ok(found), Some(known)) = (&found, &known)
                && found == known
            {
                failed = None;
                if is_asked {
                    tracing::info!(target: "tollgate::tls", file = %self.files.cert.display(), "the certificate is the one in use");
                }
                continue;
            }
            match found.and_then(|contents| Ok((contents.configs(&self.files)?, contents))) {
                Ok((configs, contents)) => {
                    *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
                    known = Some(contents);
                    failed = None;
                    tracing::info!(target: "tollgate::tls", file = %self.files.cert.display(), "a new certificate is in use");
                }
                // Certificate and key may be written one after the other: a mistake that is gone when looked at again was none.
                Err(error) if !is_asked && failed.is_none() => failed = Some((error, false)),
                Err(error) => {
                    let is_told = matches!(&failed, Some((known, true)) if *known == error);
                    if is_asked || !is_told {
                        tracing::error!(target: "tollgate::tls", "the certificate in use is kept: {error}");
                    }
                    failed = Some((error, true));
                }
            }
        }
    }

    /// Reads the files, without holding anybody up: they may lie elsewhere.
    async fn look(&self) -> Result<Contents, String> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        read.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, String> {
        Ok(Self {
            cert: read(&files.cert, "--tls-cert")?,
            key: read(&files.key, "--tls-key")?,
            client_ca: files.client_ca.as_deref().map(|path| read(path, "--tls-client-ca")).transpose()?,
        })
    }

    fn configs(&self, files: &TlsFiles) -> Result<Configs, String> {
        let provider = provider();
        let key = self.certified_key(files, &provider)?;
        let verifier = match (&self.client_ca, &files.client_ca) {
            (Some(contents), Some(path)) => Some(verifier(contents, path, &provider)?),
            _ => None,
        };
        let key = Arc::new(SingleCertAndKey::from(key));
        let config = |protocols: &[&[u8]]| {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS: {error}"))?;
            let builder = match &verifier {
                Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder.with_cert_resolver(Arc::clone(&key) as _);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Ok::<_, String>(Arc::new(config))
        };
        Ok(Configs { http: config(&[b"h2", b"http/1.1"])?, http2: config(&[b"h2"])?, other: config(&[])? })
    }

    fn certified_key(&self, files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let (cert, key) = (files.cert.display(), files.key.display());
        let chain = certificates(&self.cert, &files.cert, "--tls-cert")?;
        let der = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            format!(
                "--tls-key: there is no private key in {key}; it must be PEM, with a line `-----BEGIN PRIVATE KEY-----`, and \
                 without a password"
            )
        })?;
        let signing = provider.key_provider.load_private_key(der).map_err(|error| {
            format!(
                "--tls-key: the key in {key} cannot be used ({error}); take one of ECDSA (P-256 or P-384), Ed25519, or RSA \
                 with 2048 bits or more"
            )
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match matches(&certified, provider) {
            Ok(true) => Ok(certified),
            Ok(false) => Err(format!(
                "--tls-key: the key in {key} is not that of the first certificate in {cert}; name the key that the certificate \
                 was made for, and put the server's own certificate before those that vouch for it"
            )),
            Err(error) => Err(format!("--tls-cert: the certificate in {cert} cannot be used: {error}")),
        }
    }
}

/// Whether a key is that of its certificate, found out by trying: what one signs must hold by the other.
fn matches(key: &CertifiedKey, provider: &CryptoProvider) -> Result<bool, String> {
    const MESSAGE: &[u8] = b"what is signed by one key holds by no other";
    let certificate = key.end_entity_cert().map_err(|error| error.to_string())?;
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let known = &provider.signature_verification_algorithms;
    let schemes: Vec<SignatureScheme> = known.mapping.iter().map(|(scheme, _)| *scheme).collect();
    let signer = key.key.choose_scheme(&schemes).ok_or("it signs in no way that is known")?;
    let signature = signer.sign(MESSAGE).map_err(|error| error.to_string())?;
    let algorithms =
        known.mapping.iter().filter(|(scheme, _)| *scheme == signer.scheme()).flat_map(|(_, all)| all.iter());
    Ok(algorithms
        .into_iter()
        .any(|algorithm| certificate.verify_signature(*algorithm, MESSAGE, &signature).is_ok()))
}

fn verifier(
    contents: &[u8],
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let wrong = |error: String| {
        format!(
            "--tls-client-ca: {}: {error}; name the certificates of those who vouch for clients",
            path.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(contents, path, "--tls-client-ca")? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| wrong(error.to_string()))
}

fn certificates(contents: &[u8], path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = path.display();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "{option}: there is no certificate in {path}; it must be PEM, with a line `-----BEGIN CERTIFICATE-----`"
        )),
        Err(pem::Error::MissingSectionEnd { .. }) => {
            Err(format!("{option}: {path} breaks off: a line `-----END CERTIFICATE-----` is missing"))
        }
        Err(error) => Err(format!("{option}: {path} is no PEM: {error}")),
    }
}

fn read(path: &Path, option: &str) -> Result<Vec<u8>, String> {
    use std::io::Read;

    let failed = |error: io::Error| {
        format!("{option}: cannot read {}: {error}; name a file that this process may read", path.display())
    };
    let mut contents = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents).map_err(failed)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("{option}: {} has more than 1 MiB: that is no certificate", path.display()));
    }
    Ok(contents)
}

/// The digest by which people know a certificate (SHA-256, as `openssl x509 -fingerprint -sha256` shows it).
pub(in crate::serve) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    let suite = rustls_graviola::suites::TLS13_AES_128_GCM_SHA256.tls13();
    if let Some(hash) = suite.map(|suite| suite.common.hash_provider.hash(certificate)) {
        for (index, byte) in hash.as_ref().iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{byte:02X}", if index > 0 { ":" } else { "" });
        }
    }
    text
}
