//! A text with secrets named in it: `Bearer ${token}`.

use super::ids::SecretId;

/// One piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Written as it stands.
    Text(String),
    /// Replaced by the secret's value.
    Secret(SecretId),
}

/// A text whose `${name}` pieces stand for secrets; `$$` is a dollar sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// One piece of a text with names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Written as it stands.
    Text(String),
    /// What stood between `${` and `}`.
    Name(&'t str),
}

/// Takes `text` apart at its `${name}` pieces; `$$` is a dollar sign.
///
/// # Errors
/// When a brace is left open.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, BadTemplate> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollar) = rest.split_at(at);
        literal.push_str(before);
        let after = dollar.get(1..).unwrap_or_default();
        if let Some(inner) = after.strip_prefix('{') {
            let (name, tail) = inner.split_once('}').ok_or(BadTemplate::Open)?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Name(name));
            rest = tail;
        } else {
            literal.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// `${` without its `}`.
    #[error("`${{` without a closing `}}`")]
    Open,
    /// The name is no known secret.
    #[error("no secret is named `{0}`")]
    Unknown(String),
}

impl Template {
    /// Reads `text`, asking `find` for the id of each name in it.
    ///
    /// # Errors
    /// When a brace is left open, or `find` does not know a name.
    pub fn parse(text: &str, find: impl Fn(&str) -> Option<SecretId>) -> Result<Self, BadTemplate> {
        let parts = pieces(text)?.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text)),
            Piece::Name(name) => {
                let id = find(name).ok_or_else(|| BadTemplate::Unknown(name.to_owned()))?;
                Ok(Part::Secret(id))
            }
        });
        Ok(Self(parts.collect::<Result<_, _>>()?))
    }

    /// The secrets it names, in order.
    pub fn secrets(&self) -> impl Iterator<Item = SecretId> + '_ {
        self.0.iter().filter_map(|part| match part {
            Part::Secret(id) => Some(*id),
            Part::Text(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids_and_two_dollars_one() {
        let find = |name: &str| (name == "k").then_some(SecretId(7));
        let parsed = Template::parse("a$$b ${k}!$", find);
        let parts = vec![
            Part::Text("a$b ".into()),
            Part::Secret(SecretId(7)),
            Part::Text("!$".into()),
        ];
        assert_eq!(parsed, Ok(Template(parts)));
        assert_eq!(Template::parse("${k", find), Err(BadTemplate::Open));
        assert_eq!(Template::parse("${z}", find), Err(BadTemplate::Unknown("z".into())));
    }
}
