//! Every secret of a config tried once, without a proxy.

use crate::base::tasks::Tasks;
use crate::config::Config;
use crate::inject::arm::unfit;
use crate::inject::login;
use crate::net::Upstream;
use crate::store::{Cause, Error, Store, StoreOptions};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

/// Reads, runs or asks for each secret, and returns those that cannot be had. Where some that are read at the start are
/// missing, these alone: nothing else is tried then.
///
/// # Errors
/// When the configured roots cannot be read.
pub async fn failing(config: Config, data_dir: &Path) -> Result<Vec<Error>> {
    let (config, tasks) = (Arc::new(config), Tasks::new());
    let mut options = StoreOptions::new(data_dir);
    options.watch = false;
    let store = match Store::open(&config.secrets, options, &tasks) {
        Ok(store) => store,
        Err(missing) => return Ok(missing),
    };
    let upstream = Arc::new(Upstream::new(
        &config,
        Vec::new(),
        login::logins(&store),
        tasks.clone(),
    )?);
    store.reach(&upstream);
    let mut failing = store.prefetch().await;
    failing.extend(unfit(&config, &store).into_iter().map(|(name, why)| Error {
        name,
        cause: Cause::Unfit(why.to_string()),
    }));
    Ok(failing)
}
