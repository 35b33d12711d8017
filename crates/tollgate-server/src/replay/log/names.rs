//! What a request's fields are called in JSON lines.

/// A part of a request that is looked for in a JSON line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Time,
    Client,
    User,
    Method,
    Target,
    /// A whole request line, `GET / HTTP/1.1`: for a line without method or target of its own.
    Request,
    Status,
    Bytes,
    UserAgent,
}

impl Role {
    pub(super) const ALL: [Self; 9] = [
        Self::Time,
        Self::Client,
        Self::User,
        Self::Method,
        Self::Target,
        Self::Request,
        Self::Status,
        Self::Bytes,
        Self::UserAgent,
    ];

    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// What the user calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Client => "client",
            Self::User => "user",
            Self::Method => "method",
            Self::Target => "target",
            Self::Request => "request",
            Self::Status => "status",
            Self::Bytes => "bytes",
            Self::UserAgent => "user_agent",
        }
    }

    /// The fields that are tried in turn unless the user names one: those of nginx's usual variables, Caddy, Traefik,
    /// the Elastic Common Schema, Envoy, Google Cloud, Cloudflare, AWS API Gateway and Node's pino.
    ///
    /// The start of a request goes before the time of its logging, and an address before a name.
    pub(super) const fn defaults(self) -> &'static [&'static str] {
        match self {
            Self::Time => TIME,
            Self::Client => CLIENT,
            Self::User => USER,
            Self::Method => METHOD,
            Self::Target => TARGET,
            Self::Request => REQUEST,
            Self::Status => STATUS,
            Self::Bytes => BYTES,
            Self::UserAgent => USER_AGENT,
        }
    }
}

const TIME: &[&str] = &[
    "@timestamp",
    "timestamp",
    "StartUTC",
    "start_time",
    "time",
    "ts",
    "time_iso8601",
    "time_local",
    "msec",
    "datetime",
    "date",
    "EdgeStartTimestamp",
    "requestTimeEpoch",
    "requestTime",
];

const CLIENT: &[&str] = &[
    "client",
    "remote_addr",
    "client_ip",
    "clientip",
    "clientIp",
    "remote_ip",
    "remoteAddr",
    "ClientHost",
    "ClientAddr",
    "ClientIP",
    "client.ip",
    "source.ip",
    "request.client_ip",
    "request.remote_ip",
    "request.remote_addr",
    "req.remoteAddress",
    "httpRequest.remoteIp",
    "downstream_remote_address",
    "client.address",
    "source.address",
    "remote",
    "remote_host",
    "ip",
    "host_ip",
];

const USER: &[&str] =
    &["user", "remote_user", "user_id", "username", "ClientUsername", "user.name", "user.id", "auth_user"];

const METHOD: &[&str] = &[
    "method",
    "request_method",
    "http_method",
    "httpMethod",
    "RequestMethod",
    "request.method",
    "http.request.method",
    "http.method",
    "httpRequest.requestMethod",
    "req.method",
    "ClientRequestMethod",
    "verb",
];

const TARGET: &[&str] = &[
    "target",
    "request_uri",
    "uri",
    "path",
    "url",
    "RequestPath",
    "request.uri",
    "request.url",
    "request_path",
    "url.original",
    "url.full",
    "url.path",
    "http.target",
    "http.url",
    "httpRequest.requestUrl",
    "req.url",
    "ClientRequestURI",
    "ClientRequestPath",
];

const REQUEST: &[&str] = &["request", "request_line", "http.request.line"];

const STATUS: &[&str] = &[
    "status",
    "status_code",
    "statusCode",
    "response_code",
    "DownstreamStatus",
    "http.response.status_code",
    "response.status",
    "httpRequest.status",
    "res.statusCode",
    "EdgeResponseStatus",
];

const BYTES: &[&str] = &[
    "bytes",
    "body_bytes_sent",
    "bytes_sent",
    "size",
    "DownstreamContentSize",
    "http.response.body.bytes",
    "http.response.bytes",
    "httpRequest.responseSize",
    "responseLength",
    "EdgeResponseBytes",
];

const USER_AGENT: &[&str] = &[
    "user_agent",
    "http_user_agent",
    "userAgent",
    "agent",
    "request_User-Agent",
    "user_agent.original",
    "request.headers.User-Agent",
    "request.headers.user-agent",
    "req.headers.user-agent",
    "httpRequest.userAgent",
    "ClientRequestUserAgent",
];
