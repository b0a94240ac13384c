//! demo
/// x
pub const AGENT_VERB: &str = "__demo-agent";
/// x
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}
/// x
pub fn run(_args: &DemoArgs) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("x") }
/// x
pub fn agent() -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("x") }
