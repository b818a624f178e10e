//! Sockets that never leave the machine.

use std::net::IpAddr;

use socket2::SockRef;

/// Spares a socket to or from `address` the host's congestion control, if that is on loopback.
///
/// There is no path there that could be congested, and the likes of BBR measure it with every
/// acknowledgement: 2 % of what a small request costs.
pub fn spare_congestion_control<'s>(socket: impl Into<SockRef<'s>>, address: IpAddr) {
    if address.is_loopback() {
        // A kernel that has no other one keeps the one it has.
        let _ = set(&socket.into());
    }
}

#[cfg(target_os = "linux")]
fn set(socket: &SockRef<'_>) -> std::io::Result<()> {
    socket.set_tcp_congestion(b"reno")
}

#[cfg(not(target_os = "linux"))]
fn set(_: &SockRef<'_>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_accepted_on_loopback_is_spared() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        spare_congestion_control(&listener, address.ip());
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let control = SockRef::from(&accepted).tcp_congestion().unwrap();
        assert!(control.starts_with(b"reno"), "{control:?}");
    }

    #[test]
    fn other_sockets_keep_what_the_host_says() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = SockRef::from(&listener).tcp_congestion().unwrap();
        spare_congestion_control(&listener, "192.0.2.1".parse().unwrap());
        assert_eq!(SockRef::from(&listener).tcp_congestion().unwrap(), before);
    }
}
