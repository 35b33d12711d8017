//! Certificates for the way to a server.

/// Certificates and keys, in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Who is believed to vouch for the server; without one, those that the system believes.
    pub authorities: Option<Vec<u8>>,
    /// By which certificate, and key for it, this program says who it is.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Does not show the key.
impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (authorities, client) = (self.authorities.is_some(), self.client.is_some());
        f.debug_struct("TlsOptions").field("authorities", &authorities).field("client", &client).finish()
    }
}
