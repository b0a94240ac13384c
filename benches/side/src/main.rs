//! What `scripts/bench` measures with: the load, an origin, and a relay that is the limit of what a proxy can cost.
//! Each is one command; a load prints one JSON object.

mod http1;
mod http2;
mod load;
mod meter;
mod origin;
mod relay;
mod tls;
mod way;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer what a file server cannot: uploads, event streams, WebSockets, gRPC, and DNS
    Origin(origin::Args),
    /// End TLS, begin it anew, and copy bytes without reading them
    Relay(relay::Args),
    /// Ask through a proxy, and print what it took
    #[command(flatten)]
    Load(load::Load),
}

fn main() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Origin(args) => runtime.block_on(origin::serve(args)),
        Command::Relay(args) => runtime.block_on(relay::serve(args)),
        Command::Load(load) => {
            println!("{}", runtime.block_on(load.run())?);
            // What still runs only waits for a proxy that is about to be stopped.
            runtime.shutdown_background();
            Ok(())
        }
    }
}
