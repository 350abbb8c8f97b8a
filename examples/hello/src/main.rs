//! A server that answers every message in capitals, beside a page of your own.
use throng::{Endpoint, Message, Peer, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shout = Endpoint::handler(|_| {
        |peer: &mut Peer<'_>, message: Message<'_>| match message {
            Message::Text(text) => peer.send(&text.to_uppercase()),
            binary => peer.send(binary),
        }
    });
    let throng = Server::builder().endpoint("/shout", shout).build()?;
    let page = axum::Router::new().route("/", axum::routing::get(async || "connect to /shout"));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port())).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, page.merge(throng.routes())).await?)
}

fn port() -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(3000)
}
