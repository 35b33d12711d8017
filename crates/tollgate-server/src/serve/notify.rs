//! What systemd is told of a service of `Type=notify`: a datagram to the socket that it names (sd_notify(3)).

/// The server answers.
pub(super) fn ready() {
    tell("READY=1");
}

/// It ends.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

#[cfg(target_os = "linux")]
fn tell(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&socket),
    };
    let told = address.and_then(|address| {
        let datagram = UnixDatagram::unbound()?;
        datagram.set_nonblocking(true)?;
        datagram.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::warn!(target: "tollgate::serve", %error, "cannot tell systemd {state}");
    }
}

#[cfg(not(target_os = "linux"))]
fn tell(_: &str) {}
