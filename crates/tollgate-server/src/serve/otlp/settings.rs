//! What is sent where: by the option, or by the variables that OpenTelemetry's SDKs have in common
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::env;
use std::time::Duration;

use axum::http::Uri;

/// What is waited for an answer, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many spans wait at most, where nothing is said.
const QUEUE_MAX: usize = 2_048;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where traces are sent, if anywhere.
    pub(super) traces: Option<String>,
    /// Where metrics are.
    pub(super) metrics: Option<String>,
    /// How many spans wait at most.
    pub(super) queue_max: usize,
}

impl Signal {
    /// Its name in variables and addresses.
    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// A variable of its own, or else the one of all signals, and its value.
    fn variable(self, read: Read<'_>, suffix: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{suffix}", self.name().to_ascii_uppercase());
        [own, format!("OTEL_EXPORTER_OTLP_{suffix}")]
            .into_iter()
            .find_map(|name| said(read, &name).map(|value| (name, value)))
    }

    /// How long to wait for the collector.
    pub(super) fn timeout(self) -> Duration {
        let said = self.variable(&from_environment, "TIMEOUT").and_then(|(_, text)| text.parse().ok());
        said.filter(|millis| *millis > 0).map_or(TIMEOUT, Duration::from_millis)
    }

    /// The file of certificates by which the collector is to be believed, and what names it.
    pub(super) fn certificate(self) -> Option<(String, String)> {
        self.variable(&from_environment, "CERTIFICATE")
    }

    fn endpoint(self, option: Option<&str>, read: Read<'_>) -> Result<Option<String>, String> {
        let is_off = |(_, value): &(String, String)| value.eq_ignore_ascii_case("none");
        let exporter = format!("OTEL_{}_EXPORTER", self.name().to_ascii_uppercase());
        if said(read, "OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || said(read, &exporter).map(|value| (exporter, value)).as_ref().is_some_and(is_off)
        {
            return Ok(None);
        }
        let named = match option {
            Some(option) => Some(("--otlp-endpoint".to_owned(), option.to_owned())),
            None => self.variable(read, "ENDPOINT"),
        };
        let Some((name, url)) = named else { return Ok(None) };
        if let Some((variable, protocol)) =
            self.variable(read, "PROTOCOL").filter(|(_, protocol)| protocol != "http/protobuf")
        {
            return Err(format!(
                "{variable}: {protocol}: Tollgate speaks http/protobuf, for which collectors mostly listen at port 4318; write \
                 that, or leave the variable out"
            ));
        }
        checked(&url).map_err(|why| {
            format!("{name}: {url}: {why}; write the collector's address for OTLP over HTTP, as in http://127.0.0.1:4318")
        })?;
        // An address of one signal is taken as it is.
        let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", self.name().to_ascii_uppercase());
        Ok(Some(if name == own { url } else { format!("{}/v1/{}", url.trim_end_matches('/'), self.name()) }))
    }
}

impl Settings {
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn read(option: Option<&str>) -> Result<Self, String> {
        Self::of(option, &from_environment)
    }

    fn of(option: Option<&str>, read: Read<'_>) -> Result<Self, String> {
        // An option that is empty, as variables in files for containers often are, is none.
        let option = option.filter(|url| !url.is_empty());
        let queue = said(read, "OTEL_BSP_MAX_QUEUE_SIZE").and_then(|text| text.parse().ok());
        Ok(Self {
            traces: Signal::Traces.endpoint(option, read)?,
            metrics: Signal::Metrics.endpoint(option, read)?,
            queue_max: queue.filter(|most| *most > 0).unwrap_or(QUEUE_MAX),
        })
    }
}

/// Where variables are looked up.
type Read<'r> = &'r dyn Fn(&str) -> Option<String>;

fn from_environment(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The value of a variable; an empty one is none.
fn said(read: Read<'_>, name: &str) -> Option<String> {
    read(name).filter(|value| !value.is_empty())
}

/// What is wrong with an address.
fn checked(url: &str) -> Result<(), &'static str> {
    let url: Uri = url.parse().map_err(|_| "this is no address")?;
    match (url.scheme_str(), url.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => Err(
            "an address is shown in logs, so no name and password stand in it: OTEL_EXPORTER_OTLP_HEADERS is for those",
        ),
        (Some("http" | "https"), Some(_)) if url.query().is_none() => Ok(()),
        (Some("http" | "https"), Some(_)) => Err("no query can stand in it"),
        _ => Err("it has to begin with http:// or https://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(option: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
        let read = |asked: &str| {
            environment.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned())
        };
        Settings::of(option, &read)
    }

    #[test]
    fn nothing_is_sent_unless_an_address_is_given() {
        let nothing = Settings { traces: None, metrics: None, queue_max: QUEUE_MAX };
        for (option, environment) in [
            (None, &[][..]),
            (Some(""), &[]),
            (None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]),
            (None, &[("OTEL_TRACES_EXPORTER", "otlp")]),
            (Some("http://a:4318"), &[("OTEL_SDK_DISABLED", "TRUE")]),
        ] {
            assert_eq!(of(option, environment).as_ref(), Ok(&nothing), "{option:?} {environment:?}");
        }
    }

    #[test]
    fn the_option_comes_first_and_then_what_is_said_of_one_signal() {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/here"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "9"),
        ];
        let settings = of(None, &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.traces.as_deref(), Some("http://traces:4318/here"));
        assert_eq!(settings.metrics.as_deref(), Some("http://all:4318/v1/metrics"));
        assert_eq!(settings.queue_max, 9);
        let settings = of(Some("https://one"), &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.traces.as_deref(), Some("https://one/v1/traces"));
        let settings = of(Some("https://one"), &[("OTEL_METRICS_EXPORTER", "none")]);
        assert_eq!(settings.map(|settings| (settings.traces.is_some(), settings.metrics)), Ok((true, None)));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_with_what_to_write() {
        for wrong in
            ["collector:4317", "ftp://a", "/v1/traces", "http://a b", "http://u:p@a:4318", "http://a?b=c"]
        {
            let error = of(Some(wrong), &[]).err().unwrap_or_default();
            assert!(error.starts_with(&format!("--otlp-endpoint: {wrong}: ")), "{error}");
            assert!(error.ends_with("http://127.0.0.1:4318"), "{error}");
        }
        let error = of(Some("http://a:4317"), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).err();
        assert!(error.is_some_and(|error| error.starts_with("OTEL_EXPORTER_OTLP_PROTOCOL: grpc: ")));
        let error = of(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "a")]).err();
        assert!(error.is_some_and(|error| error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: a: ")));
    }
}
