//! The byte stream below a connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

pub(crate) use self::tls::Tls;

mod tls;

/// What a worker reads from and writes to. Non-blocking.
pub(crate) enum Transport {
    /// A TCP socket handed over by the front.
    Tcp(TcpStream),
    /// Our end of a socket pair; the front pumps foreign IO (a test's pipe) through
    /// the other end.
    Pair(UnixStream),
    /// A TCP socket with TLS above it.
    Tls(Box<Tls>),
}

impl Transport {
    /// Sends FIN: no more bytes from us.
    pub(crate) fn finish(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Pair(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(tls) => {
                tls.finish();
                Ok(())
            }
        };
    }

    /// Whether reading once more finds something that the socket may never announce.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Pair(_) => false,
            Self::Tls(tls) => tls.has_more(),
        }
    }
}

impl Read for Transport {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Pair(stream) => stream.read(buf),
            Self::Tls(tls) => tls.read(buf),
        }
    }
}

impl Write for Transport {
    #[inline]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Pair(stream) => stream.write(buf),
            Self::Tls(tls) => tls.write(buf),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(bufs),
            Self::Pair(stream) => stream.write_vectored(bufs),
            Self::Tls(tls) => tls.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Transport {
    fn register(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, on),
            Self::Pair(stream) => stream.register(registry, token, on),
            Self::Tls(tls) => tls.socket().register(registry, token, on),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, on),
            Self::Pair(stream) => stream.reregister(registry, token, on),
            Self::Tls(tls) => tls.socket().reregister(registry, token, on),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Pair(stream) => stream.deregister(registry),
            Self::Tls(tls) => tls.socket().deregister(registry),
        }
    }
}
