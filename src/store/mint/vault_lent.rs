//! What a Vault lends: the token of a login, and credentials that an engine makes. Both are renewed while that is worth it, and
//! had anew when a renewal is refused or their longest time is near.

use super::super::error::Cause;
use super::super::fetch::Fetched;
use super::super::remote::{Errand, answered};
use super::super::renewal::Terms;
use super::super::{Inner, Slot};
use super::vault::{Asked, refused, renew, within};
use super::{oauth2, vault};
use crate::base::endpoint::Endpoint;
use crate::base::secret::Secret;
use crate::config::mint::{VaultLease, VaultLogin, VaultProof};
use crate::sign::lent;
use crate::sign::said::{self, Field};
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// The part of its first time that a renewal must give: one that gives less is near the longest that there is.
const WORTH: f64 = 0.5;

/// Logs in, or has the token of the last login renewed.
pub(super) async fn login(inner: &Arc<Inner>, slot: &Slot, spec: &VaultLogin) -> Result<Fetched, Cause> {
    if let Some(terms) = inner.renewals.terms(&slot.name)
        && let Some(held) = slot.at_hand().held()
        && let Some(token) = said::value("", Field::Secret(&held.secret))
        && let Some(fetched) = renewed(inner, &spec.renew, (spec.namespace.as_deref(), token), &terms).await
    {
        return Ok(fetched);
    }
    let held = match &spec.proof {
        VaultProof::AppRole { secret_id, .. } => secret_id.as_ref(),
        VaultProof::Jwt { jwt, .. } => Some(jwt),
    };
    let held = match held {
        Some(uses) => Some(inner.used(uses).await?),
        None => None,
    };
    let (name, role, proof) = match &spec.proof {
        VaultProof::AppRole { role_id, .. } => ("role_id", role_id, "secret_id"),
        VaultProof::Jwt { role, .. } => ("role", role, "jwt"),
    };
    let mut fields = vec![(name, Field::Text(role))];
    fields.extend(held.iter().map(|held| (proof, Field::Secret(&held.secret))));
    let body = said::json(&fields).ok_or(Cause::Unknown)?;
    let errand = within(Errand::post("application/json", body), spec.namespace.as_deref());
    let told = inner.errand(&spec.at, errand).await?;
    if !told.status.is_success() {
        let forbidden = match spec.proof {
            VaultProof::AppRole { .. } => "it does not take this role and secret id",
            VaultProof::Jwt { .. } => "it does not take this role and JWT",
        };
        return Err(refused(&spec.at, &told, forbidden));
    }
    let given = said::vault_login(&told.body).ok_or_else(|| answered(&spec.at, &told, "its answer holds no token"))?;
    note(inner, slot, &told.body, 0);
    oauth2::fetched(&spec.at, &told, given)
}

/// Has a credential made, or the last one's lease renewed. It is the whole answer, of which others are fields.
pub(super) async fn lease(inner: &Arc<Inner>, slot: &Slot, spec: &VaultLease) -> Result<Fetched, Cause> {
    let namespace = spec.namespace.as_deref();
    let token = inner.used(&spec.token).await?;
    // A lease ends with the token that it was had with.
    if let Some(terms) = inner
        .renewals
        .terms(&slot.name)
        .filter(|terms| terms.token == token.version)
        && slot.at_hand().held().is_some()
        && let Some(fetched) = {
            let shown = vault::shown(&spec.token, &token.secret)?;
            renewed(inner, &spec.renew, (namespace, shown), &terms).await
        }
    {
        return Ok(fetched);
    }
    let asked = Asked {
        at: &spec.at,
        renew: &spec.renew_token,
        namespace,
        token: &spec.token,
    };
    let (mut told, version) = asked.ask(inner).await?;
    if !told.status.is_success() {
        return Err(refused(&spec.at, &told, "the token may not read this"));
    }
    let time = note(inner, slot, &told.body, version);
    let whole = Secret::document(std::mem::take(&mut *told.body));
    let whole = whole.map_err(|_| answered(&spec.at, &told, "its answer is empty"))?;
    Ok(Fetched::new(whole, time.map(shortened)))
}

/// Notes on which terms something was lent, and says for how long; `None` is without end.
fn note(inner: &Inner, slot: &Slot, body: &[u8], token: u64) -> Option<Duration> {
    let lent = lent::terms(body)?;
    let time = (!lent.time.is_zero()).then_some(lent.time);
    let terms = time.filter(|_| lent.renewable).map(|first| Terms {
        lease: lent.lease,
        first,
        token,
    });
    inner.renewals.note(&slot.name, terms);
    time
}

/// Has it renewed; `None` where another must be had.
async fn renewed(inner: &Inner, at: &Endpoint, shown: (Option<&str>, HeaderValue), terms: &Terms) -> Option<Fetched> {
    let lease = (!terms.lease.is_empty()).then_some(terms.lease.as_str());
    let lent = renew(inner, at, shown, lease).await?;
    if lent.time < terms.first.mul_f64(WORTH) {
        return None;
    }
    Some(Fetched::same(Some(shortened(lent.time))))
}

/// A little less: on its way it must not end.
fn shortened(time: Duration) -> Duration {
    time - (time / 10).min(Duration::from_secs(10))
}
