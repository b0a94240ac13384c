//! Stand-ins of a login's tokens, swapped for the tokens where a rule lets them stand.

use super::{Held, Token};
use crate::base::ids::SecretId;
use crate::config::model::Place;
use crate::inject::arm::{body_kind, describe};
use crate::inject::place::{self, Swap};
use crate::inject::{Armed, Error, Misplaced, body, collect};
use crate::policy::Permitted;
use http::header::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// Whose tokens, of which login, and where they may stand.
#[derive(Debug, Clone, Copy)]
pub(in crate::inject) struct Login<'a> {
    pub(in crate::inject) name: &'a str,
    pub(in crate::inject) agent: &'a str,
    pub(in crate::inject) places: &'a [Place],
}

impl Held {
    /// Swaps them. A body that must be collected for that has `time` to come.
    pub(in crate::inject) async fn swap(
        &self,
        permitted: &mut Permitted,
        login: Login<'_>,
        armed: &mut Armed,
        time: Duration,
    ) -> Result<(), Error> {
        let mut fields = Vec::new();
        for place in login.places {
            match place {
                Place::Header(name) => self.swap_header(permitted, login, name, armed)?,
                Place::Body(pointer) => fields.push(pointer.as_str()),
                // The config has no others for a login.
                Place::Query(_) | Place::Path | Place::WebSocket => {}
            }
        }
        let held = self.tokens.iter().any(|token| token.is_of(login.name, login.agent));
        if held && !fields.is_empty() {
            self.swap_body(permitted, login, &fields, armed, time).await?;
        }
        Ok(())
    }

    fn swap_header(
        &self,
        permitted: &mut Permitted,
        login: Login<'_>,
        name: &HeaderName,
        armed: &mut Armed,
    ) -> Result<(), Error> {
        let mut found = Vec::new();
        for value in permitted.headers().get_all(name) {
            found.extend(self.in_bytes(value.as_bytes(), login.name, login.agent));
            if let Some(pair) = place::basic_pair(value) {
                found.extend(self.in_bytes(&pair, login.name, login.agent));
            }
        }
        for token in found.into_iter().filter(|token| !token.is_exchanged()) {
            match place::swap_header(permitted.headers_mut(), name, &token.stand_in, &token.secret) {
                Swap::Done(()) => armed.gave(token),
                Swap::Absent => {}
                Swap::Repeated => return Err(repeated(token, &Place::Header(name.clone()))),
                Swap::Unfit => return Err(Error::Unfit(token.name())),
            }
        }
        Ok(())
    }

    async fn swap_body(
        &self,
        permitted: &mut Permitted,
        login: Login<'_>,
        fields: &[&str],
        armed: &mut Armed,
        time: Duration,
    ) -> Result<(), Error> {
        let Some(kind) = body_kind(permitted)? else {
            return Ok(());
        };
        let (mut bytes, taken) = collect::whole(permitted, &armed.memory, time, collect::SEARCHED).await?;
        for pointer in fields {
            let Some(text) = body::text_at(&bytes, kind, pointer)? else {
                continue;
            };
            for token in self.in_bytes(&text, login.name, login.agent) {
                if let Some(swapped) = body::substitute(&bytes, kind, pointer, &token.stand_in, &token.secret)? {
                    bytes = swapped.into();
                    armed.gave(token);
                }
            }
        }
        armed.body = Some(collect::put(permitted, bytes, taken));
        Ok(())
    }

    /// The name of a token, by its position.
    pub(in crate::inject) fn misplaced(&self, id: SecretId, place: String) -> Error {
        let name = self.stand_ins.name(id);
        Misplaced { name, place }.into()
    }
}

fn repeated(token: &Arc<Token>, place: &Place) -> Error {
    let place = format!("{} more than once", describe(place));
    let name = token.name();
    Misplaced { name, place }.into()
}
