//! Text from outside, made safe to show.
//!
//! Keys, names and log lines are often written by whoever sent the requests. Unfiltered, they could
//! move a terminal's cursor, reverse the direction of the text around them, break out of an HTML
//! attribute, or simply be a megabyte long.

use std::fmt::Write as _;

/// `text` with what cannot be seen spelled out, cut in its middle to at most `most` columns.
///
/// The beginning and the end of a key tell it from its neighbours better than the beginning alone.
/// Only as much of `text` is looked at as can be shown.
pub(crate) fn elide(text: &str, most: usize) -> String {
    let mut whole = String::new();
    let mut used = 0;
    let fits = text.chars().all(|c| {
        used += push_visible(&mut whole, c);
        used <= most
    });
    if fits {
        return whole;
    }

    let room = most.saturating_sub(1);
    let tail_room = room / 2;
    let head = take_visible(text.chars(), room - tail_room).concat();
    let mut tail = take_visible(text.chars().rev(), tail_room);
    tail.reverse();
    format!("{head}…{}", tail.concat())
}

/// [`elide`], escaped for HTML text and quoted attributes.
pub(crate) fn html(text: &str, most: usize) -> String {
    escape_html(&elide(text, most))
}

/// `text` with the five characters that mean something in HTML escaped.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// How many terminal columns `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// `text` cut at spaces into lines of at most `most` columns; a longer word is elided.
pub(crate) fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = elide(word, most);
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(&word) <= most => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// The leading characters of `chars` in their visible form, whole ones only, up to `room` columns.
fn take_visible(chars: impl Iterator<Item = char>, room: usize) -> Vec<String> {
    let mut used = 0;
    let mut pieces = Vec::new();
    for c in chars {
        let mut piece = String::new();
        used += push_visible(&mut piece, c);
        if used > room {
            break;
        }
        pieces.push(piece);
    }
    pieces
}

/// Appends `c`, or its escape where it cannot be seen, and says how many columns that took.
fn push_visible(out: &mut String, c: char) -> usize {
    let before = out.len();
    match c {
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        _ if is_invisible(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        _ => {
            out.push(c);
            return char_width(c);
        }
    }
    out.len() - before
}

/// Whether `c` has no shape of its own but changes how its neighbours are read: direction marks,
/// zero-width characters, line and paragraph separators, tags.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// How many terminal columns `c` takes: the broad strokes of Unicode Standard Annex 11, which keep
/// a table straight with Chinese, Japanese and Korean names and with emoji.
fn char_width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115e}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        assert_eq!(elide("\x1b[31mred\x07\u{9b}", 40), "\\x1b[31mred\\x07\\x9b");
        assert_eq!(elide("a\tb\r\nc", 40), "a\\tb\\r\\nc");
        assert_eq!(elide("pay\u{202e}lap", 40), "pay\\u{202e}lap");
        assert_eq!(elide("zero\u{200b}width", 40), "zero\\u{200b}width");
        assert_eq!(elide("Grüße, 東京", 40), "Grüße, 東京");
    }

    #[test]
    fn long_text_is_cut_in_its_middle() {
        assert_eq!(elide("abcdefghij", 10), "abcdefghij");
        assert_eq!(elide("abcdefghijk", 10), "abcde…hijk");
        assert_eq!(width(&elide(&"東".repeat(50), 20)), 19);
        assert_eq!(elide(&"\x1b".repeat(50), 10), "\\x1b…\\x1b");
        assert_eq!(elide("abc", 0), "…");
        assert_eq!(elide("", 0), "");
        assert_eq!(width(&elide(&"k".repeat(1 << 20), 40)), 40);
    }

    #[test]
    fn html_is_escaped_after_the_cut() {
        assert_eq!(html("<a href=\"x\">'&", 40), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        assert_eq!(html("<<<<<<<<<<", 5), "&lt;&lt;…&lt;&lt;");
    }

    #[test]
    fn prose_is_wrapped_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("antidisestablishmentarianism", 9), ["anti…nism"]);
        assert!(wrap("  ", 9).is_empty());
    }
}
