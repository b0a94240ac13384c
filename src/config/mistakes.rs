//! What is wrong with a config, told so that the user finds it: every mistake at once, each with
//! its line, a caret and what to do next.

use super::looks::masked;
use super::place::Place;
use annotate_snippets::renderer::{AnsiColor, DecorStyle, Effects, Style};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value as Json, json};
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl Mistake {
    /// A mistake at a place.
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            place,
        }
    }

    /// Adds what to do next.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    fn json(&self, severity: &str) -> Json {
        json!({
            "severity": severity,
            "message": self.message,
            "hint": self.hint,
            "line": self.place.line,
            "column": self.place.column,
            "length": self.place.end.saturating_sub(self.place.start),
        })
    }
}

/// A list of mistakes, or of warnings, with the text they speak of.
///
/// The text may hold what the user should not have written there, so `Debug` leaves it out and
/// [`render`](Self::render) masks whatever looks like a credential.
#[derive(Clone, Default)]
pub struct Mistakes {
    /// In the order of the file.
    pub list: Vec<Mistake>,
    origin: PathBuf,
    text: String,
    warnings: bool,
}

impl Mistakes {
    /// Errors in `text`, which was read from `origin`.
    pub(super) fn errors(mut list: Vec<Mistake>, origin: &Path, text: &str) -> Self {
        list.sort_by_key(|m| m.place);
        let mut seen = std::collections::HashSet::new();
        list.retain(|m| seen.insert((m.place, m.message.clone())));
        Self {
            list,
            origin: origin.to_owned(),
            text: text.to_owned(),
            warnings: false,
        }
    }

    /// Warnings about `text`, which loads all the same.
    pub(super) fn warnings(list: Vec<Mistake>, origin: &Path, text: &str) -> Self {
        Self {
            warnings: true,
            ..Self::errors(list, origin, text)
        }
    }

    /// One mistake about the file as a whole.
    pub(super) fn whole(origin: &Path, message: String, hint: &str) -> Self {
        let mut mistake = Mistake::new(Place::default(), message);
        mistake.hint(hint);
        Self::errors(vec![mistake], origin, "")
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// For a person: each mistake with its line, a caret and a hint, parted by empty lines.
    pub fn render(&self, color: bool) -> String {
        let text = masked(&self.text);
        let origin = self.origin.display().to_string();
        let told: Vec<String> = self
            .list
            .iter()
            .map(|m| self.render_one(m, &text, &origin, color))
            .collect();
        told.join("\n")
    }

    fn render_one(&self, mistake: &Mistake, text: &str, origin: &str, color: bool) -> String {
        let level = if self.warnings { Level::WARNING } else { Level::ERROR };
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let title = level.primary_title(mistake.message.as_str());
        let mut out = if mistake.place.line == 0 {
            renderer.render(&[title.elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new())])
        } else {
            let (line, span) = line_of(text, mistake.place);
            let snippet = Snippet::source(line)
                .path(origin)
                .line_start(mistake.place.line)
                .annotation(AnnotationKind::Primary.span(span));
            renderer.render(&[title.element(snippet)])
        };
        if let Some(hint) = &mistake.hint {
            let word = Style::new()
                .fg_color(Some(AnsiColor::BrightCyan.into()))
                .effects(Effects::BOLD);
            match color {
                true => out.push_str(&format!("\n{word}hint{word:#}: {hint}")),
                false => out.push_str(&format!("\nhint: {hint}")),
            }
        }
        out.push('\n');
        out
    }

    /// For a program: an array, one object a mistake.
    pub fn json(&self) -> Json {
        let severity = if self.warnings { "warning" } else { "error" };
        self.list.iter().map(|m| m.json(severity)).collect()
    }
}

/// The line a place starts on, and the place within that line, at least one column wide.
fn line_of(text: &str, place: Place) -> (&str, std::ops::Range<usize>) {
    let at = place.start.min(text.len());
    let begin = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |n| n + 1);
    let line = text.get(begin..).unwrap_or_default();
    let line = line.split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let start = (at - begin).min(line.len());
    let end = place.end.saturating_sub(begin).clamp(start, line.len());
    (line, start..end)
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Debug for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mistakes")
            .field("origin", &self.origin)
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Mistakes {}
