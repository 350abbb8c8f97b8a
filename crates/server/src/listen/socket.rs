//! Listening sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Address;

/// Why an address cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    address: SocketAddr,
    error: io::Error,
}

/// Opens the sockets of an address: two for `localhost` and `*`, where the machine has both families.
pub(crate) fn bind(
    address: Address,
    backlog: usize,
) -> Result<Vec<std::net::TcpListener>, BindError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut bound: Vec<std::net::TcpListener> = Vec::new();
        let mut port = address.port();
        let mut missing = None;
        let mut taken = None;
        for wanted in address.sockets(0) {
            let wanted = SocketAddr::new(wanted.ip(), port);
            let opened =
                open(wanted, backlog).and_then(|socket| Ok((socket.local_addr()?, socket)));
            match opened {
                Ok((actual, socket)) => {
                    port = actual.port();
                    bound.push(socket);
                }
                Err(error) if is_missing_family(&error) => {
                    missing = Some(BindError { address: wanted, error });
                }
                Err(error) => {
                    taken = Some(BindError { address: wanted, error });
                    break;
                }
            }
        }
        match taken {
            // The free port of the first family was not free in the second.
            Some(_) if address.port() == 0 && !bound.is_empty() && attempts < 16 => {}
            Some(error) => return Err(error),
            None => match missing {
                Some(error) if bound.is_empty() => return Err(error),
                _ => return Ok(bound),
            },
        }
    }
}

fn open(address: SocketAddr, backlog: usize) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `*` and `localhost` have a socket for each family; an explicit address is just that.
        socket.set_only_v6(true)?;
    }
    if cfg!(unix) {
        // A restart need not wait for old connections to be forgotten. (On Windows it would mean that
        // two servers can have the same port.)
        socket.set_reuse_address(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Whether accepting failed because of that one connection (it was reset while it waited).
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Whether the machine has no such address family (a container without IPv6).
fn is_missing_family(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error() == Some(no_family)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: the port is in use; stop the other server, or choose \
                 another port, such as --listen {}",
                address.port().saturating_add(1)
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: permission denied (ports below 1024 are privileged); \
                 choose another port, such as --listen 3000"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {address}: this machine does not have that address")
            }
            _ => write!(f, "cannot listen on {address}: {}", crate::reason(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_one_port_in_both_families() {
        let sockets = bind(Address::Loopback(0), 16).unwrap();
        let addresses: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    }

    #[test]
    fn a_busy_port_is_told_in_one_sentence() {
        let first = bind(Address::Exact("127.0.0.1:0".parse().unwrap()), 16).unwrap();
        let address = first[0].local_addr().unwrap();
        let sentence = bind(Address::Exact(address), 16).unwrap_err().to_string();
        assert!(
            sentence.starts_with(&format!("cannot listen on {address}: the port is in use; ")),
            "{sentence}"
        );
        assert!(bind(Address::Loopback(address.port()), 16).is_err(), "one family is enough");
    }

    #[test]
    fn an_address_of_another_machine_is_told_as_such() {
        // 192.0.2.0/24 is reserved for documentation.
        let sentence = bind(Address::Exact("192.0.2.1:0".parse().unwrap()), 16).unwrap_err();
        assert!(sentence.to_string().ends_with("this machine does not have that address"));
    }
}
