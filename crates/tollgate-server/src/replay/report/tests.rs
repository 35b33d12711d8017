//! What all forms of a report promise.

use super::sample::{START, empty, policy, report};
use super::{BadLine, KeyReport, Report, Span, Style, Suggestion, Timeline, render_html, render_text, to_json};
