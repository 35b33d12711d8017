//! Certificates, as `openssl` makes them, and a client that shows and sees them.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// An authority, and what it has signed.
pub(crate) struct Authority {
    directory: TempDir,
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}; install it with `apt-get install openssl`"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Self { directory };
        let make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let name = ["-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "30", "-subj", "/CN=ca"];
        openssl(authority.directory.path(), &[&make[..], &name].concat());
        authority
    }

    /// Makes a certificate for this machine: `NAME.pem`, `NAME-key.pem`. The key is of the kind that `openssl genpkey` is told.
    pub(crate) fn issue_with(&self, name: &str, key: &[&str]) {
        let directory = self.directory.path();
        let file = |end: &str| format!("{name}{end}");
        let (key_file, request, out) = (file("-key.pem"), file(".csr"), file(".pem"));
        openssl(directory, &[&["genpkey"], key, &["-out", &key_file]].concat());
        openssl(
            directory,
            &["req", "-new", "-key", &key_file, "-out", &request, "-subj", &format!("/CN={name}")],
        );
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(directory.join("extensions"), extensions).unwrap();
        let sign =
            ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "30"];
        openssl(directory, &[&sign[..], &["-extfile", "extensions", "-in", &request, "-out", &out]].concat());
    }

    pub(crate) fn issue(&self, name: &str) {
        self.issue_with(name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn text(&self, file: &str) -> String {
        self.path(file).to_str().unwrap().to_owned()
    }

    pub(crate) fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap()
    }

    /// A client that believes this authority, and shows that certificate.
    pub(crate) fn client(&self, shows: Option<&str>, protocol: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}-key.pem"))).unwrap();
                builder.with_client_auth_cert(vec![self.certificate(name)], key).unwrap()
            }
        };
        config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A connection under TLS, by hand.
pub(crate) struct TlsWire(pub(crate) StreamOwned<ClientConnection, TcpStream>);

impl TlsWire {
    /// Connects, up to the end of the handshake as the client sees it.
    pub(crate) fn connect(address: &str, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(session, stream)))
    }

    /// Says something, and reads until the answer ends like this.
    pub(crate) fn ask(&mut self, bytes: &str, end: &str) -> std::io::Result<String> {
        self.0.write_all(bytes.as_bytes())?;
        self.0.flush()?;
        let mut came = Vec::new();
        while !came.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            came.push(byte[0]);
        }
        Ok(String::from_utf8(came).unwrap())
    }

    /// The certificate that the server has shown.
    pub(crate) fn server(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
