//! From hyper to a worker: the socket is taken out of what served HTTP on it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use throng_engine::{Engine, Handover, Permit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::server::TlsStream;

/// Hands a connection to a worker: a TCP socket, or a TLS stream on one, taken apart. Anything else stays
/// here, and its bytes are pumped through a socket pair.
pub(crate) async fn hand_over(
    engine: &Engine,
    upgraded: Upgraded,
    mut handover: Handover,
) -> io::Result<()> {
    let upgraded = match take::<TcpStream>(upgraded) {
        Ok((stream, read_ahead)) => {
            handover.read_ahead = read_ahead;
            engine.adopt(own(stream)?, handover);
            return Ok(());
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match take::<TlsStream<TcpStream>>(upgraded) {
        Ok((mut stream, read_ahead)) => {
            handover.read_ahead = read_ahead;
            // A client that does not take the end of our answer has no business on a worker.
            let flushed = tokio::time::timeout(LAST_BYTES, stream.flush()).await;
            flushed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            let (stream, state) = stream.into_inner();
            engine.adopt_tls(own(stream)?, state, handover);
            return Ok(());
        }
        Err(upgraded) => upgraded,
    };
    let (near, mut far) = UnixStream::pair()?;
    // The permit is for what is kept here, too.
    let permit = handover.permit.take();
    handover.permit = permit.as_ref().map(Permit::witness);
    let (companion, ended) = oneshot::channel::<()>();
    handover.companion = Some(Box::new(companion));
    engine.adopt_pair(near.into_std()?, handover);
    let mut foreign = TokioIo::new(upgraded);
    tokio::select! {
        // Ends with either side; an error is an end, too.
        _ = tokio::io::copy_bidirectional(&mut foreign, &mut far) => {}
        () = async {
            let _ = ended.await;
            tokio::time::sleep(LAST_BYTES).await;
        } => {}
    }
    drop(permit);
    Ok(())
}

/// The stream below, if it is of this type, and what has been read of it. hyper's own server and
/// hyper-util's (`axum::serve`) wrap differently.
fn take<T>(upgraded: Upgraded) -> Result<(T, Bytes), Upgraded>
where
    TokioIo<T>: Read + Write + Unpin + Send + 'static,
{
    let upgraded = match upgraded.downcast::<TokioIo<T>>() {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    auto::upgrade::downcast::<TokioIo<T>>(upgraded)
        .map(|parts| (parts.io.into_inner(), parts.read_buf))
}

/// The socket itself. Frames are sent when they are whole, so waiting for more (Nagle) only delays them; not
/// every host has seen to that.
fn own(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// How long a stream may take to move what was written before it changed hands, or after its connection
/// ended.
const LAST_BYTES: Duration = Duration::from_secs(5);
