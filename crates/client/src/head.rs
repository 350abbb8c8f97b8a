//! The head of an HTTP response, read from a stream within bounds.

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A response's head, and the bytes that came behind it.
pub(crate) struct Head {
    pub(crate) response: Response<()>,
    pub(crate) rest: Vec<u8>,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum HeadError {
    Io(std::io::Error),
    /// What came cannot be used.
    Unusable(&'static str),
}

/// Reads a response's head; interim responses (1xx other than 101) are passed over.
///
/// Keeps at most [`MAX_HEAD`] bytes, for all of them together.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Head, HeadError> {
    let mut bytes = Vec::with_capacity(1024);
    // How much of `bytes` interim responses take.
    let mut start = 0;
    loop {
        while let Some((len, response)) = parse(&bytes[start..])? {
            start += len;
            if !response.status().is_informational()
                || response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                return Ok(Head { response, rest: bytes.split_off(start) });
            }
        }
        if bytes.len() >= MAX_HEAD {
            return Err(HeadError::Unusable("its head is longer than 16 KiB"));
        }
        let room = (MAX_HEAD - bytes.len()) as u64;
        match (&mut *stream).take(room).read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Err(HeadError::Unusable("there is none")),
            Ok(0) => return Err(HeadError::Unusable("its head is cut off")),
            Ok(_) => {}
            Err(error) => return Err(HeadError::Io(error)),
        }
    }
}

/// The response at the front of `bytes` and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Response<()>)>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let len = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::Unusable("it has more than 100 header fields"));
        }
        Err(_) => return Err(HeadError::Unusable("it is not HTTP/1")),
    };
    let malformed = HeadError::Unusable("its head is malformed");
    let mut response = Response::new(());
    *response.version_mut() = match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status else { return Err(malformed) };
    *response.status_mut() = status;
    for field in parsed.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) else {
            return Err(malformed);
        };
        response.headers_mut().append(name, value);
    }
    Ok(Some((len, response)))
}

/// The most bytes of a head, interim responses included.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    async fn head(bytes: &[u8]) -> Result<Head, &'static str> {
        let mut stream = bytes;
        read(&mut stream).await.map_err(|error| match error {
            HeadError::Unusable(why) => why,
            HeadError::Io(error) => panic!("{error}"),
        })
    }

    #[tokio::test]
    async fn a_head_and_what_follows_it() {
        let head =
            head(b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\na:  c \r\n\r\n\x81\x00").await;
        let Head { response, rest } = head.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(response.headers().get_all("a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(rest, b"\x81\x00");
    }

    #[tokio::test]
    async fn interim_responses_are_passed_over() {
        let head = head(
            b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.0 403 No\r\n\r\n",
        )
        .await
        .unwrap();
        assert_eq!(head.response.status(), 403);
        assert_eq!(head.response.version(), Version::HTTP_10);
        assert!(head.response.headers().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_head() {
        let long = [b"HTTP/1.1 101 A\r\nB: ".to_vec(), vec![b'x'; MAX_HEAD]].concat();
        let many = [b"HTTP/1.1 101 A\r\n".to_vec(), b"a: b\r\n".repeat(101)].concat();
        let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MAX_HEAD / 28 + 1);
        for (bytes, why) in [
            (&b""[..], "there is none"),
            (b"HTTP/1.1 101 A\r\nB: c\r\n", "its head is cut off"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "it is not HTTP/1"),
            (b"HTTP/2 200 OK\r\n\r\n", "it is not HTTP/1"),
            (b"HTTP/1.1 1 OK\r\n\r\n", "it is not HTTP/1"),
            (b"HTTP/1.1 101 A\r\nB c\r\n\r\n", "it is not HTTP/1"),
            (b"HTTP/1.1 000 A\r\n\r\n", "its head is malformed"),
            (&long, "its head is longer than 16 KiB"),
            (&many, "it has more than 100 header fields"),
            (&hints, "its head is longer than 16 KiB"),
        ] {
            assert_eq!(head(bytes).await.err(), Some(why), "{:?}", bytes.get(..40));
        }
    }
}
