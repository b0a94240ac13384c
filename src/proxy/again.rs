//! A request that is refused for its credential, sent once more with a newer one.

use super::fault::Fault;
use super::live::{Live, Proxy};
use super::recorded::Entry;
use crate::config::model::RuleLimits;
use crate::inject::Armed;
use crate::net::Answer;
use crate::policy::Permitted;

impl Proxy {
    /// Takes the 401 in `answer` for the sign that a token was revoked before its time: where another can be had, the
    /// request is sent once more. Otherwise the answer stands.
    ///
    /// # Errors
    /// When the second try breaks.
    pub(super) async fn once_more(
        &self,
        live: &Live,
        (answer, armed): (Answer, Armed),
        mut again: Permitted,
        limits: &RuleLimits,
        entry: &mut Entry,
    ) -> Result<(Answer, Armed), Fault> {
        if !live.injector.refused(&armed).await {
            return Ok((answer, armed));
        }
        let memory = live.memory_of(again.agent());
        let mut renewed = match live.injector.arm(&mut again, &memory).await {
            Ok(renewed) if renewed.given != armed.given => renewed,
            _ => return Ok((answer, armed)),
        };
        // The first try may come back in the answer to the second.
        renewed.needles.extend(armed.needles);
        drop(answer);
        let certificate = renewed.certificate.clone();
        let answer = self.forward(live, (again, certificate), limits, entry).await;
        let answer = answer.map_err(|fault| fault.masked(&renewed.needles))?;
        Ok((answer, renewed))
    }
}
