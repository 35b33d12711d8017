//! Rows as comma-separated values (RFC 4180).

use std::borrow::Cow;

use super::UseRow;

/// The names of the columns. They stay as they are; new ones come last.
const COLUMNS: &str = "policy,tier,limit_name,identity,period_start,period_end,limit,used";

/// What stands for those for whom there was no room.
const OTHERS: &str = "(others)";

/// Rows as comma-separated values, by RFC 4180: a line of names, and a line for each row, each with CR and LF at its end.
///
/// A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or the like) gets an apostrophe before
/// it.
///
/// ```
/// assert_eq!(
///     tollgate::usage::csv(&[]),
///     "policy,tier,limit_name,identity,period_start,period_end,limit,used\r\n"
/// );
/// ```
pub fn csv(rows: &[UseRow]) -> String {
    let mut text = format!("{COLUMNS}\r\n");
    for row in rows {
        let cells = [
            cell(&row.policy),
            cell(row.tier.as_deref().unwrap_or_default()),
            cell(row.limit_name.as_deref().unwrap_or_default()),
            cell(row.identity.as_deref().unwrap_or(OTHERS)),
            cell(&row.local.0),
            cell(&row.local.1),
            row.limit.to_string().into(),
            row.used.to_string().into(),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A text as a cell.
fn cell(text: &str) -> Cow<'_, str> {
    // Also in the width of Chinese characters, which some programs take for the same.
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let text = if is_formula { format!("'{text}").into() } else { Cow::Borrowed(text) };
    if text.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\"")).into();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (text, expected) in [
            ("ana", "ana"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("=1+1", "'=1+1"),
            ("+49 30", "'+49 30"),
            ("-2", "'-2"),
            ("@sum", "'@sum"),
            ("\t=1", "'\t=1"),
            ("＝1", "'＝1"),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(cell(text), expected, "{text}");
        }
    }
}
