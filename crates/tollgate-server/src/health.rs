//! `tollgate health`: asks a running server whether it is ready, for containers and scripts.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::cli::{Face, HealthOptions, TlsOptions, fail, print_out};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Asks; success is a server that is ready.
pub(crate) fn run(options: &HealthOptions) -> ExitCode {
    let address = reachable(options.listen);
    match ask(address, options) {
        Ok(answer) => {
            let status = answer.split(' ').nth(1).unwrap_or_default();
            let said = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end());
            if status == "200" {
                return print_out(format!("{said}\n").as_bytes());
            }
            fail(format_args!("the server at {address} is not ready: {said} (status {status})"))
        }
        Err(error) => fail(format_args!("the server at {address} does not answer: {error}")),
    }
}

/// Where a server can be asked that listens here: one that listens everywhere does so on this machine too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The whole answer to the question whether it is ready.
fn ask(address: SocketAddr, options: &HealthOptions) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&address, options.timeout)?;
    stream.set_read_timeout(Some(options.timeout))?;
    stream.set_write_timeout(Some(options.timeout))?;
    if !options.tls.on.contains(&Face::Http) || options.tls.cert.is_none() {
        return exchange(stream, address);
    }
    let config = config(&options.tls).map_err(io::Error::other)?;
    let session = ClientConnection::new(config, ServerName::from(address.ip())).map_err(io::Error::other)?;
    exchange(StreamOwned::new(session, stream), address)
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr) -> io::Result<String> {
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Under TLS an end without a farewell is an error, though all has come.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// TLS as the server has it. Where clients have to show a certificate, the server's own is shown.
fn config(options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever(provider)));
    let (Some(_), Some(cert), Some(key)) = (&options.client_ca, &options.cert, &options.key) else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let wrong =
        |path: &std::path::Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).map_err(|error| wrong(cert, &error))?.collect();
    let chain = chain.map_err(|error| wrong(cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    builder.with_client_auth_cert(chain, key).map(Arc::new).map_err(|error| wrong(cert, &error))
}

/// Believes any certificate. The server is asked on its own machine, by a number that no certificate has to name, nothing
/// secret is said, and whoever could stand in for it could as well stop it.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
