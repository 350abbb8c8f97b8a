//! Our client talks to foreign servers, and to throng.

use throng_interop::clients::Throng;
use throng_interop::{exchange, servers};

macro_rules! talks_to {
    ($($name:ident)+) => {$(
        mod $name {
            use super::*;

            talks_to!(@ $name: texts_and_binaries many_in_a_row sixteen_mebibytes pings closed_by_the_client
                closed_by_the_server);
        }
    )+};
    (@ $server:ident: $($exchange:ident)+) => {$(
        #[tokio::test]
        async fn $exchange() {
            exchange::$exchange::<Throng>(servers::$server().await).await;
        }
    )+};
}

talks_to!(tungstenite tokio_websockets node throng);

/// Node's `ws` agrees to compress, and both sides understand each other then. (The other
/// conversations with `node` and `throng` are compressed too, where messages are long enough.)
#[tokio::test]
async fn deflate_is_agreed_with_node() {
    let server = servers::node().await;
    let client = throng_client::Client::new(&server.echo()).expect("a URL");
    let client = client.deflate(throng_client::DeflateOptions::default());
    let mut socket = client.connect().await.expect("throng connects");
    let agreed = socket.deflate().expect("deflate is agreed");
    assert!(agreed.client_no_context_takeover, "our default: {agreed:?}");

    let prose = "Manches davon wiederholt sich, manches nicht. ".repeat(2000);
    for _ in 0..3 {
        socket.send(prose.as_str()).await.expect("throng sends");
        let echo = socket.next().await.expect("throng receives");
        assert_eq!(echo, Some(throng_client::Message::text(prose.clone())));
    }
}
