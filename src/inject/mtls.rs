//! The certificate that an upstream is shown in the TLS handshake: made of two secrets, and anew when one of them changes.

use super::Error;
use crate::config::model::{Inject, Mtls};
use crate::net::{ClientCertificate, UnfitCertificate};
use crate::store::{Held, Store};
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// The certificate of one rule, as it was last made.
#[derive(Debug, Default)]
pub(super) struct Made(ArcSwapOption<ClientCertificate>);

impl Made {
    /// The certificate of these values. While a renewal is half done, and the two do not belong together, the one before
    /// is shown on.
    ///
    /// # Errors
    /// When there is nothing to show, or its time is over or has not come.
    pub(super) fn of(&self, (chain, key): (&Held, &Held), name: &Arc<str>) -> Result<Arc<ClientCertificate>, Error> {
        let unfit = |why| Error::Certificate(Arc::clone(name), why);
        let versions = (chain.version, key.version);
        let last = self.0.load_full();
        let certificate = match last {
            Some(last) if last.is_of(versions) => last,
            last => match (read(chain, key), last) {
                (Err(UnfitCertificate::Mismatch), Some(last)) => last,
                (read, _) => {
                    let read = Arc::new(read.map_err(unfit)?);
                    self.0.store(Some(Arc::clone(&read)));
                    read
                }
            },
        };
        certificate.in_time().map_err(unfit)?;
        Ok(certificate)
    }
}

fn read(chain: &Held, key: &Held) -> Result<ClientCertificate, UnfitCertificate> {
    let versions = (chain.version, key.version);
    let read = |chain: &[u8]| key.secret.expose(|key| ClientCertificate::read(chain, key, versions));
    chain.secret.expose(read)
}

/// The certificate that one of these injections shows.
pub(super) fn shown(inject: &[Inject]) -> Option<&Mtls> {
    inject.iter().find_map(|one| match one {
        Inject::Mtls(spec) => Some(spec),
        _ => None,
    })
}

/// What is wrong with the certificate of values that are at hand; nothing where they are not.
pub(super) fn fault(spec: &Mtls, store: &Store) -> Option<UnfitCertificate> {
    let (chain, key) = (store.known(spec.certificate)?, store.known(spec.private_key)?);
    read(&chain, &key).and_then(|read| read.in_time()).err()
}
