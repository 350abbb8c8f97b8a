//! A server that answers every message in capitals.
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
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, axum::Router::new().merge(throng.routes())).await?)
}
