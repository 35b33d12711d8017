//! Metrics as text, in the format that whoever asks can read.
//!
//! They are written as OpenMetrics. The older text format of Prometheus differs in little: counters are declared by the names
//! of their samples, and a few types have other names.

use std::collections::HashMap;
use std::fmt::Write;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers with metrics that were written as OpenMetrics: so if the request asks for that, as Prometheus does, else as the
/// older format, which everything reads.
pub(in crate::serve) fn respond(request: &HeaderMap, open_metrics: String) -> Response {
    let (kind, text) = if wants_open_metrics(request) {
        (OPEN_METRICS, open_metrics)
    } else {
        (PROMETHEUS_TEXT, prometheus_text(&open_metrics))
    };
    ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response()
}

fn wants_open_metrics(request: &HeaderMap) -> bool {
    let accepted = || request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let weight = |kind: &str| {
        accepted().flat_map(|list| list.split(',')).filter_map(|range| weight(range, kind)).max()
    };
    let open_metrics = weight("application/openmetrics-text").unwrap_or(0);
    open_metrics > 0 && open_metrics >= weight("text/plain").unwrap_or(0)
}

/// The weight of a media range, in thousandths, if it names this type.
fn weight(range: &str, kind: &str) -> Option<u32> {
    let mut parts = range.split(';').map(str::trim);
    parts.next().filter(|name| name.eq_ignore_ascii_case(kind))?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight: f64 = weight.map_or(Some(1.0), |text| text.parse().ok())?;
    // Clamped to what a weight can be.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((weight.clamp(0.0, 1.0) * 1_000.0) as u32)
}

/// The older format of the same metrics.
fn prometheus_text(open_metrics: &str) -> String {
    let declared = |line: &'_ str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    // What a metric is comes after its help, whose line has the name too.
    let kinds: HashMap<String, String> = open_metrics.lines().filter_map(declared).collect();
    let suffix = |name: &str| match kinds.get(name).map(String::as_str) {
        Some("counter") => "_total",
        Some("info") => "_info",
        _ => "",
    };
    let mut text = String::with_capacity(open_metrics.len() + 1_024);
    for line in open_metrics.lines() {
        // Writing to a string cannot fail.
        let _ = if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let kind = match kind {
                "info" => "gauge",
                "unknown" => "untyped",
                kind => kind,
            };
            writeln!(text, "# TYPE {name}{} {kind}", suffix(name))
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            writeln!(text, "# HELP {name}{} {help}", suffix(name))
        } else if line.starts_with('#') {
            // Units are in the names, and the end needs no mark.
            Ok(())
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let wants = |accept: &'static str| {
            wants_open_metrics(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        // As Prometheus asks.
        assert!(wants(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ));
        assert!(wants("Application/OpenMetrics-Text"));
        for other in
            ["*/*", "text/plain", "", "application/openmetrics-text;q=0", "application/openmetrics-text;q=x"]
        {
            assert!(!wants(other), "{other}");
        }
        assert!(!wants("application/openmetrics-text;q=0.1, text/plain;q=0.2"));
        assert!(!wants_open_metrics(&HeaderMap::new()));
    }

    #[test]
    fn the_older_format_declares_counters_by_their_samples() {
        let open_metrics = "# HELP a_b Some.\n# TYPE a_b counter\na_b_total{x=\"# TYPE y\"} 1\n# HELP c C d.\n# TYPE c unknown\n\
                            c 2\n\
                            # HELP e_build Which.\n# TYPE e_build info\ne_build_info{v=\"1\"} 1\n# UNIT f seconds\n# EOF\n";
        assert_eq!(
            prometheus_text(open_metrics),
            "# HELP a_b_total Some.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE y\"} 1\n# HELP c C d.\n# TYPE c untyped\n\
             c 2\n\
             # HELP e_build_info Which.\n# TYPE e_build_info gauge\ne_build_info{v=\"1\"} 1\n"
        );
    }
}
