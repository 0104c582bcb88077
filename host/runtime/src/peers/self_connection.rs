//! TCP connections whose two ends are the same socket.
//!
//! If no process listens at a local port any more, the system may choose that very port for the connecting end. Then
//! the connection succeeds, has itself as its peer, and answers each line with that line. Every TCP connection that
//! this program opens is checked for this. Such a connection also holds the port, so that the intended daemon can't
//! listen there again.

use std::time::Duration;

use socket2::SockRef;

/// Returns whether a connection has itself as its peer. If so, it frees its port as soon as it is dropped.
pub fn is_to_itself<'s, S>(stream: &'s S) -> bool
where
    SockRef<'s>: From<&'s S>,
{
    let stream = SockRef::from(stream);
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        // The connection has been reset already: the next read or write reports it.
        return false;
    };
    let is_to_itself = own == peer;
    if is_to_itself {
        // Without this, the system would keep the port for another minute after the close.
        let _ = stream.set_linger(Some(Duration::ZERO));
    }
    is_to_itself
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// Returns a socket that is connected to its own port, and that address.
    fn connected_to_itself(host: SocketAddr) -> Option<(TcpStream, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(host), Type::STREAM, None).unwrap();
        socket.bind(&host.into()).ok()?;
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        let own = own.as_socket().unwrap();
        Some((TcpStream::from(socket), own))
    }

    #[test]
    fn a_connection_to_itself_is_known_and_frees_its_port_at_once() {
        let mut seen = 0;
        for host in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            // A machine may lack IPv6.
            let Some((stream, address)) = connected_to_itself(SocketAddr::new(host, 0)) else {
                continue;
            };
            assert!(is_to_itself(&stream), "{address}");
            drop(stream);
            // Binds like a daemon that doesn't request the reuse of addresses.
            let socket = connected_to_itself(address);
            assert!(socket.is_some(), "{address} is free again");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_connection_to_a_listener_is_no_such_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(!is_to_itself(&stream) && !is_to_itself(&accepted));
    }
}
