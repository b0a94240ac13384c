//! WebSocket messages: each connection sends one, and the next when it came back.

use super::{Common, Tally};
use crate::way::Way;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio_websockets::{ClientBuilder, Message};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Bytes in each
    #[arg(long, default_value_t = 128)]
    size: usize,
}

pub async fn run(args: Args) -> io::Result<Value> {
    let way = Arc::new(Way::new(&args.common.way)?);
    let tally = Arc::new(Tally::default());
    let text: Arc<str> = "m".repeat(args.size).into();
    for _ in 0..args.connections {
        if let Err(error) = open(&way, &text, &tally).await {
            tally.failed(error);
        }
    }
    Ok(tally.measure(&args.common).await)
}

async fn open(way: &Arc<Way>, text: &Arc<str>, tally: &Arc<Tally>) -> io::Result<()> {
    let link = way.dial(way.host()).await?;
    let uri = format!("wss://{}/echo", way.host());
    let mut builder = ClientBuilder::new().uri(&uri).map_err(io::Error::other)?;
    if let Some(value) = way.authorization() {
        let value = HeaderValue::from_str(value).map_err(io::Error::other)?;
        builder = builder
            .add_header(HeaderName::from_static("authorization"), value)
            .map_err(io::Error::other)?;
    }
    let (mut socket, _) = builder.connect_on(link).await.map_err(io::Error::other)?;
    let (text, tally) = (Arc::clone(text), Arc::clone(tally));
    tokio::spawn(async move {
        while tally.goes_on() {
            let since = Instant::now();
            if let Err(error) = socket.send(Message::text(text.to_string())).await {
                return tally.failed(error);
            }
            match socket.next().await {
                Some(Ok(message)) if message.as_text() == Some(&*text) => tally.answered(since),
                Some(Ok(_)) => tally.failed("another message came back"),
                Some(Err(error)) => return tally.failed(error),
                None => return tally.failed("closed"),
            }
        }
    });
    Ok(())
}
