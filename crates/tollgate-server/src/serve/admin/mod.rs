//! Administration, on a listener of its own: policies and bans that change at run time, reloads, and why a request is denied.
//!
//! * [`access`]: who may ask.
//! * [`explain`]: what each policy says of a request, and what became of its key lately.
//! * [`views`]: what is in force, as JSON.
//! * [`yaml`]: definitions in JSON, as far as they are not YAML.
//!
//! What there is to be asked is told to programs by `openapi.json`.

mod access;
mod explain;
mod views;
mod yaml;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Extension, Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate::{Clock, Format, KeyHash, Policy};

use self::access::{Access, Who};
use self::views::{BanView, ConfigView, PolicyInForce, Settings};
use super::api::{App, QUESTION_BYTES_MAX, json, parsed, refusal, undecided};
use super::body::{Body, Unread, YamlBody};
use super::book::{Book, Refused};
use super::wire::Question;
use super::{decode, openapi};
use crate::cli::ServeOptions;
use crate::load::Failure;

pub(super) use self::access::AccessError;

/// The largest definition of a policy.
const POLICY_BYTES_MAX: usize = 64 << 10;
/// The API of the administration, as a document of the OpenAPI.
const ADMIN_API: &str = include_str!("openapi.json");
/// How many keys are listed.
const KEYS_MAX: usize = 100;

/// What the routes share.
#[derive(Debug)]
pub(super) struct Admin {
    app: Arc<App>,
    access: Access,
    settings: Settings,
}

type Shared = State<Arc<Admin>>;
type Asker = Extension<Who>;

impl Admin {
    /// # Errors
    /// If everybody who can reach the address could ask.
    pub(super) fn new(
        app: Arc<App>,
        options: &ServeOptions,
        address: SocketAddr,
        is_mutual: bool,
    ) -> Result<Self, AccessError> {
        let access = Access::new(&options.admin, address, is_mutual)?;
        Ok(Self { app, access, settings: Settings::of(options) })
    }
}

/// The routes of the administration.
pub(super) fn routes(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    Router::new()
        .route("/v1/policies", get(list_policies))
        .route("/v1/policies/{*name}", get(show_policy).put(set_policy).delete(remove_policy))
        .route("/v1/changes", get(list_changes).delete(withdraw_all))
        .route("/v1/changes/{*name}", delete(withdraw))
        .route("/v1/reload", post(reload))
        .route("/v1/config", get(config))
        .route("/v1/bans", get(list_bans).post(ban))
        .route("/v1/bans/{key}", delete(lift_ban))
        .route("/v1/keys", get(keys))
        .route("/v1/usage", get(usage))
        .route("/v1/explain", post(explain))
        .merge(openapi::at("/v1/openapi.json", ADMIN_API))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX.max(POLICY_BYTES_MAX)))
        .fallback(|| async {
            refusal(
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
                "there is nothing here; docs/operations.md lists what there is",
            )
        })
        .method_not_allowed_fallback(|| async {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this address takes another method")
        })
        // Around all of it, so that strangers do not even learn what there is.
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), access::check))
        .with_state(admin)
}

/// The last part of an address: a name or a key, of which `%2F` and the like are read.
struct Last(String);

impl<S: Send + Sync> FromRequestParts<S> for Last {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Path(last) = Path::from_request_parts(parts, state).await.map_err(|_| {
            refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", "the end of the address is not UTF-8 text")
        })?;
        Ok(Self(last))
    }
}

async fn list_policies(State(admin): Shared) -> Response {
    let policies = views::policies(&admin.app);
    json(StatusCode::OK, &json!({ "policies": policies }))
}

async fn show_policy(State(admin): Shared, Last(name): Last) -> Response {
    let set = admin.app.gate.policies();
    match set.index_of(&name).and_then(|index| set.policy(index)) {
        Some(policy) => json(StatusCode::OK, &PolicyInForce::new(policy, admin.app.book.origin(&name))),
        None => refused(&Refused::Unknown),
    }
}

/// Sets a policy: what stands under `policies` in a file, in JSON or YAML. Its name may be left out.
async fn set_policy(
    State(admin): Shared,
    Extension(who): Asker,
    Last(name): Last,
    body: Result<YamlBody, Unread>,
) -> Response {
    let YamlBody(body) = match body {
        Ok(body) => body,
        Err(unread) => return refusal(unread.status, unread.code, unread.message),
    };
    let Ok(text) = std::str::from_utf8(&body) else {
        return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", "the body is not UTF-8 text");
    };
    let policy = match Policy::parse("body", &yaml::of_json(text), Format::Yaml, &name) {
        Ok(policy) => policy,
        Err(problems) => return refused(&Refused::Wrong(Failure::from(problems))),
    };
    let definition =
        policy.definition().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    admin.change(who, "set a policy", definition, move |book, app| book.set(app, policy)).await
}

async fn remove_policy(State(admin): Shared, Extension(who): Asker, Last(name): Last) -> Response {
    let of = json!({ "policy": name });
    admin.change(who, "remove a policy", of, move |book, app| book.remove(app, &name)).await
}

async fn list_changes(State(admin): Shared) -> Response {
    let changes = admin.app.book.changes();
    let set: Vec<&str> = changes.names().collect();
    let kept_in = admin.app.book.kept_in().map(|path| path.display().to_string());
    json(StatusCode::OK, &json!({ "set": set, "removed": changes.removed(), "kept_in": kept_in }))
}

async fn withdraw(State(admin): Shared, Extension(who): Asker, Last(name): Last) -> Response {
    let of = json!({ "policy": name });
    admin.change(who, "withdraw a change", of, move |book, app| book.withdraw(app, Some(&name))).await
}

async fn withdraw_all(State(admin): Shared, Extension(who): Asker) -> Response {
    admin.change(who, "withdraw all changes", Value::Null, |book, app| book.withdraw(app, None)).await
}

async fn reload(State(admin): Shared, Extension(who): Asker) -> Response {
    let again = |book: &Book, app: &App| book.reload(app, "an administrator").map_err(Refused::Wrong);
    admin.change(who, "reload", Value::Null, again).await
}

async fn config(State(admin): Shared) -> Response {
    json(StatusCode::OK, &ConfigView::new(&admin.app, &admin.settings))
}

async fn list_bans(State(admin): Shared) -> Response {
    let (app, now) = (&admin.app, admin.app.clock.now());
    let bans: Vec<BanView> = app.gate.bans_at(now).iter().map(|ban| BanView::new(ban, now)).collect();
    json(StatusCode::OK, &json!({ "bans": bans }))
}

/// A request to be banned.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanQuestion {
    #[serde(deserialize_with = "decode::object")]
    request: Question,
    /// Under this policy only.
    policy: Option<String>,
    /// For so long, as policy files write it.
    r#for: String,
}

async fn ban(State(admin): Shared, Extension(who): Asker, body: Result<Body, Unread>) -> Response {
    let question: BanQuestion = match parsed(body) {
        Ok(question) => question,
        Err(wrong) => return wrong,
    };
    let length = match tollgate::quota::parse_length(&question.r#for) {
        Ok(length) => Duration::from_nanos(length.as_nanos()),
        Err(error) => return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", format!("`for`: {error}")),
    };
    let (app, now, request) = (&admin.app, admin.app.clock.now(), question.request.into_request());
    if let Some(name) = &question.policy
        && app.gate.policies().index_of(name).is_none()
    {
        return refused(&Refused::Unknown);
    }
    let banned = app.gate.ban_at(now, &request, question.policy.as_deref(), length);
    let of = json!({ "policies": banned, "for": question.r#for });
    if banned.is_empty() {
        app.audit.administered(who.name(), "ban", &of, "nothing applies");
        let message = "no policy applies to such a request, so there is nothing to ban it under; ask POST /v1/explain why";
        return refusal(StatusCode::NOT_FOUND, "NOTHING_APPLIES", message);
    }
    admin.keep_bans(who, "ban", of, &json!({ "banned": banned })).await
}

async fn lift_ban(State(admin): Shared, Extension(who): Asker, Last(key): Last) -> Response {
    // Also a sign would be read.
    let is_key = key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(hash) = u128::from_str_radix(&key, 16).ok().filter(|_| is_key) else {
        let message = "a key is 32 hexadecimal digits, as GET /v1/bans lists them";
        return refusal(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    };
    let of = json!({ "key": key });
    if !admin.app.gate.lift_ban(KeyHash(hash)) {
        admin.app.audit.administered(who.name(), "lift a ban", &of, "there is none");
        return refusal(
            StatusCode::NOT_FOUND,
            "UNKNOWN_BAN",
            "this key is not banned; GET /v1/bans lists those that are",
        );
    }
    admin.keep_bans(who, "lift a ban", of, &json!({ "lifted": key })).await
}

async fn keys(State(admin): Shared) -> Response {
    json(StatusCode::OK, &admin.app.live.keys(KEYS_MAX))
}

async fn usage(State(admin): Shared, RawQuery(query): RawQuery) -> Response {
    super::usage::export(&admin.app, query.as_deref().unwrap_or_default())
}

/// Says why a request passes or not; takes nothing.
async fn explain(State(admin): Shared, body: Result<Body, Unread>) -> Response {
    let question: Question = match parsed(body) {
        Ok(question) => question,
        Err(wrong) => return wrong,
    };
    match explain::explain(&admin.app, question).await {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(error) => undecided(&error),
    }
}

impl Admin {
    /// Changes what is in force, on a thread that may wait for files, and notes who has done so.
    async fn change(
        self: Arc<Self>,
        who: Who,
        what: &'static str,
        of: Value,
        change: impl FnOnce(&Book, &App) -> Result<tollgate::Changes, Refused> + Send + 'static,
    ) -> Response {
        #[derive(Serialize)]
        struct Done {
            added: Vec<String>,
            changed: Vec<String>,
            removed: Vec<String>,
            unchanged: usize,
        }

        let app = Arc::clone(&self.app);
        let result = tokio::task::spawn_blocking(move || change(&app.book, &app)).await;
        let result = result.unwrap_or_else(|error| Err(Refused::Wrong(Failure::Other(error.to_string()))));
        let outcome = if result.is_ok() { "done" } else { "refused" };
        self.app.audit.administered(who.name(), what, &of, outcome);
        match result {
            Ok(changes) => {
                let tollgate::Changes { added, changed, removed, unchanged, .. } = changes;
                json(StatusCode::OK, &Done { added, changed, removed, unchanged })
            }
            Err(why) => refused(&why),
        }
    }

    /// Keeps bans after a change of them, if they are kept.
    async fn keep_bans(self: Arc<Self>, who: Who, what: &str, of: Value, done: &Value) -> Response {
        let app = Arc::clone(&self.app);
        let kept = tokio::task::spawn_blocking(move || app.book.keep_bans(&app)).await;
        let kept = kept.unwrap_or_else(|error| Err(Refused::NotKept(error.to_string())));
        let outcome = if kept.is_ok() { "done" } else { "done, but not kept" };
        self.app.audit.administered(who.name(), what, &of, outcome);
        match kept {
            Ok(()) => json(StatusCode::OK, done),
            Err(why) => refused(&why),
        }
    }
}

fn refused(why: &Refused) -> Response {
    match why {
        Refused::Unknown => {
            let message = "there is no policy of this name; GET /v1/policies lists them";
            refusal(StatusCode::NOT_FOUND, "UNKNOWN_POLICY", message)
        }
        Refused::ByRules => {
            let message = "the server decides by rules for descriptors: change their files, which are loaded again by themselves";
            refusal(StatusCode::CONFLICT, "BY_RULES", message)
        }
        Refused::Wrong(failure) => refusal(StatusCode::UNPROCESSABLE_ENTITY, "WRONG_POLICY", failure),
        Refused::NotKept(why) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "NOT_KEPT", why),
    }
}
