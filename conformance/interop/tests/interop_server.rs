//! Foreign clients talk to throng.

use std::process::Stdio;

use throng_interop::clients::{TokioWebsockets, Tungstenite};
use throng_interop::{exchange, servers};
use tokio::process::Command;

macro_rules! talks_to_throng {
    ($name:ident: $client:ty) => {
        mod $name {
            use super::*;

            talks_to_throng!(@ $client: texts_and_binaries many_in_a_row sixteen_mebibytes fragments pings
                closed_by_the_client closed_by_the_server);
        }
    };
    (@ $client:ty: $($exchange:ident)+) => {$(
        #[tokio::test]
        async fn $exchange() {
            exchange::$exchange::<$client>(servers::throng().await).await;
        }
    )+};
}

talks_to_throng!(tungstenite: Tungstenite);
talks_to_throng!(tokio_websockets: TokioWebsockets);

/// Node's `ws` against throng: each conversation is a function of `node/client.mjs`.
mod node {
    use super::*;

    async fn converse(name: &str) {
        let server = servers::throng().await;
        let done = Command::new("node")
            .arg(servers::node_folder().join("client.mjs"))
            .args([name, &server.echo(), &server.closes()])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("node is installed");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}: {said}");
    }

    macro_rules! conversations {
        ($($name:ident)+) => {$(
            #[tokio::test]
            async fn $name() {
                converse(stringify!($name)).await;
            }
        )+};
    }

    conversations!(texts_and_binaries many_in_a_row sixteen_mebibytes fragments pings closed_by_the_client
        closed_by_the_server deflate deflate_with_small_windows without_deflate fragments_with_deflate);
}
