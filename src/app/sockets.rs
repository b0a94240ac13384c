//! All that listens, bound before anything else is done.

use crate::config::Config;
use crate::config::model::{Listen, Speak};
use crate::listen::bound::Local;
use crate::listen::{Bound, Datagrams, Inherited};
use anyhow::Result;
use std::net::IpAddr;
use std::sync::Arc;

/// Sockets that nobody is accepted on yet.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Where agents connect.
    pub(super) agents: Vec<(Listen, Arc<Bound>)>,
    /// Where they ask for names over UDP, each with what is answered.
    pub(super) resolvers: Vec<(Arc<[IpAddr]>, Datagrams)>,
    /// Where the operator does.
    pub(super) admin: Option<Arc<Bound>>,
    /// What the process before listened on and this one does not.
    pub(super) left: Vec<Bound>,
}

impl Sockets {
    /// Takes or binds what `config` asks for.
    pub(super) fn bind(config: &Config, mut inherited: Inherited) -> Result<Self> {
        let mut agents = Vec::with_capacity(config.listen.len());
        let mut resolvers = Vec::new();
        for listen in &config.listen {
            let bound = inherited.bind(&listen.bind, listen.mode)?;
            let bound = match listen.speak {
                Speak::Transparent { redirect, .. } => bound.redirected(redirect)?,
                Speak::Proxy | Speak::Socks | Speak::Gateway { .. } | Speak::Dns { .. } => bound,
            };
            // Names are asked for over UDP first, at the same address.
            if let (Speak::Dns { answer }, Local::Tcp(address)) = (&listen.speak, bound.local()) {
                resolvers.push((Arc::clone(answer), Datagrams::bind(*address)?));
            }
            agents.push((listen.clone(), Arc::new(bound)));
        }
        let admin = config.admin.as_ref().map(|admin| inherited.bind(&admin.bind, None));
        Ok(Self {
            agents,
            resolvers,
            admin: admin.transpose()?.map(Arc::new),
            left: inherited.rest()?,
        })
    }

    /// Every one of them that is wanted.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Bound>> {
        self.agents.iter().map(|(_, bound)| bound).chain(&self.admin)
    }
}
