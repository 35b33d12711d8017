//! Colour, for terminals that have it.

/// How to write to a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Whether to use colour (ANSI escape sequences).
    pub color: bool,
    /// The terminal's width, in columns. Less than 80 is taken as 80, and more than 120 as 120.
    pub width: u16,
}

/// What a piece of text is, which decides how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Ordinary text.
    Plain,
    /// Headings and what to look at first.
    Strong,
    /// What may be overlooked.
    Faint,
    /// Admitted requests.
    Admitted,
    /// Denied requests.
    Denied,
    /// What the reader should do something about.
    Warning,
}

impl Style {
    /// The columns in use.
    pub(crate) fn columns(self) -> usize {
        usize::from(self.width.clamp(80, 120))
    }

    /// `text` in its colour.
    ///
    /// Only the sixteen colours a terminal's user has chosen, so that they suit light and dark.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => "",
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Admitted => "34",
            Paint::Denied => "31",
            Paint::Warning => "33",
        };
        if !self.color || code.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
