//! A new process in the place of this one: another version of the program, or changes of the config that a reload cannot
//! take up. Listeners pass to it open, so nobody is refused; this process finishes what it has begun.

use super::serve::App;
use crate::config::model::CaSource;
use crate::launch::service::Successor;
use crate::listen::Bound;
use crate::listen::handover::{Offer, Refused};
use anyhow::{Context, Result, anyhow, bail};
use std::sync::Weak;

impl App {
    /// The process before has let go: its sockets are this one's alone, and those of them that are not wanted go.
    pub fn taken_over(&self) {
        let left = std::mem::take(&mut *self.left.lock());
        left.iter().for_each(Bound::is_only_here);
        for socket in self.sockets.iter().filter_map(Weak::upgrade) {
            socket.is_only_here();
        }
    }

    /// Starts this program again, hands it all that listens, and waits until it serves. From then on this process is to
    /// [`finish`](App::finish), and the new one waits for it to drop the [`Offer`].
    ///
    /// # Errors
    /// When no new process came to serve, for whatever reason: nothing has changed then.
    pub async fn hand_over(&self) -> Result<(Successor, Offer)> {
        if matches!(self.proxy.live().config.ca, CaSource::Memory) {
            bail!(
                "with `ca: {{ memory: true }}` a new process has another CA, which no agent trusts; give the CA a directory"
            );
        }
        if std::process::id() == 1 {
            bail!(
                "this is the first process of its container, which ends with it; start a container of the new version"
            );
        }
        let (offer, theirs) = Offer::make().context("no pair of sockets can be had")?;
        let mut successor = Successor::start(theirs).context("it could not be started")?;
        let sockets: Vec<_> = self.sockets.iter().filter_map(Weak::upgrade).collect();
        let handed = sockets.clone();
        let completed = tokio::task::spawn_blocking(move || offer.complete(&handed).map(|()| offer));
        match completed.await? {
            Ok(offer) => {
                sockets.iter().for_each(|socket| socket.is_elsewhere());
                self.proxy.succeeded();
                Ok((successor, offer))
            }
            Err(Refused::Ended) => {
                let status = tokio::task::spawn_blocking(move || successor.ended()).await?;
                let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                Err(anyhow!("{}{status}; what it said is above", Refused::Ended))
            }
            Err(error) => Err(error.into()),
        }
    }
}
