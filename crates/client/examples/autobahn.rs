//! The client under Autobahn's fuzzing server (`wstest -m fuzzingserver`): runs every case it
//! has and lets it write its report.
//!
//! `cargo run -p throng-client --example autobahn -- ws://127.0.0.1:9001 [agent]`

use std::error::Error;
use std::time::Duration;

use throng_client::{Client, CloseCode, DeflateOptions, Limits, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let server = args.first().map_or("ws://127.0.0.1:9001", String::as_str);
    let agent = args.get(1).map_or("throng-client", String::as_str);

    let mut count = Client::new(&format!("{server}/getCaseCount"))?.connect().await?;
    let Some(Message::Text(text)) = count.next().await? else { return Err("no case count".into()) };
    let cases: u32 = text.parse()?;
    count.close(CloseCode::NORMAL, "").await?;

    for case in 1..=cases {
        let client = Client::new(&format!("{server}/runCase?case={case}&agent={agent}"))?
            .limits(Limits { max_frame: 64 << 20, max_message: 64 << 20, ..Limits::default() })
            .close_timeout(Duration::from_secs(2))
            .deflate(DeflateOptions {
                threshold: 0,
                server_no_context_takeover: false,
                client_no_context_takeover: false,
                ..DeflateOptions::default()
            });
        // What goes wrong is the case's purpose, and the report judges it.
        if let Err(error) = echo(&client).await {
            println!("case {case} of {cases}: {error}");
        }
    }

    let report = format!("{server}/updateReports?agent={agent}");
    let mut report = Client::new(&report)?.connect().await?;
    while report.next().await?.is_some() {}
    println!("{cases} cases");
    Ok(())
}

async fn echo(client: &Client) -> Result<(), throng_client::Error> {
    let mut ws = client.connect().await?;
    while let Some(message) = ws.next().await? {
        if message.is_data() {
            ws.send(message).await?;
        }
    }
    Ok(())
}
