//! What is asked, and what is answered.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use super::answer::No;
use super::body::{ChangePassword, LogIn, LogOut, Register};
use super::posted::Posted;
use super::sender::Sender;
use super::{Service, body, page, session};
use crate::settings::name;
use crate::state::State as Accounts;

/// Whoever is at the other end of a connection.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A session that was opened.
#[derive(Serialize)]
struct LoggedIn {
    name: String,
    token: String,
    until_ms: u64,
}

/// Whose session it is.
#[derive(Serialize)]
struct Me {
    name: String,
    until_ms: u64,
    /// Who says so.
    node: String,
}

/// An account that was opened.
#[derive(Serialize)]
struct Registered {
    name: String,
}

/// This node's own state.
#[derive(Serialize)]
struct Own {
    node: String,
    accounts: usize,
    /// The digest over all records that this node has applied: nodes that have as many have the same.
    history: String,
    /// The digest of what they have made of its accounts and sessions.
    state: Option<String>,
}

pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/cluster", get(cluster))
        .route("/node", get(node))
        .route("/register", post(register))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/password", post(change_password))
        .route("/whoami", get(who_am_i))
        .fallback(|| async { No::NotFound })
        .method_not_allowed_fallback(|| async { No::OtherMethod })
        .layer(middleware::from_fn_with_state(Arc::clone(&service), guard))
        .with_state(service)
}

/// What holds for every request, and for every answer.
async fn guard(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let sender = Sender::of(peer.ip(), request.headers(), &service.settings.trusted_proxy);
    request.extensions_mut().insert(sender);
    let allowed = service.limits.request(sender.0);
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(often) => No::from(often).into_response(),
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn home(State(service): State<Arc<Service>>) -> Response {
    page::page(&service.settings)
}

/// Anybody may look, a page of another node too.
async fn cluster(State(service): State<Arc<Service>>) -> Response {
    let view = json(StatusCode::OK, &service.watch.view());
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], view).into_response()
}

async fn node(
    State(service): State<Arc<Service>>,
    Extension(Sender(from)): Extension<Sender>,
) -> Result<Response, No> {
    // The whole state is gone through: that is counted like a password's hash.
    service.limits.hash(from)?;
    let node = name(service.me);
    let own = |state: &Accounts| Own {
        node,
        accounts: state.accounts(),
        history: state.history(),
        state: state.digest().ok(),
    };
    Ok(json(StatusCode::OK, &service.registry.study(own).await?))
}

async fn register(
    State(service): State<Arc<Service>>,
    Posted { from, body, .. }: Posted<Register>,
) -> Result<Response, No> {
    let Register { name, password, request } = body;
    let (name, password) = (body::name(&name)?, body::new_password(password)?);
    let request = body::request(request)?;
    service.limits.hash(from)?;
    service.registry.register(name.clone(), password, request).await?;
    Ok(json(StatusCode::CREATED, &Registered { name: name.to_string() }))
}

async fn log_in(
    State(service): State<Arc<Service>>,
    Posted { from, body, .. }: Posted<LogIn>,
) -> Result<Response, No> {
    let LogIn { name, password } = body;
    let (name, password) = (body::name(&name)?, body::old_password(password)?);
    service.limits.hash(from)?;
    service.limits.attempt(&name, from)?;
    let (token, opened) = service.registry.log_in(name, password).await?;
    let (seconds, is_secure) = (service.settings.session_s, service.settings.secure_cookie);
    let cookie = session::set_cookie(&token, seconds, is_secure);
    let answer = LoggedIn { name: opened.name.to_string(), token: token.text(), until_ms: opened.until_ms };
    Ok(([(header::SET_COOKIE, cookie)], json(StatusCode::OK, &answer)).into_response())
}

async fn log_out(
    State(service): State<Arc<Service>>,
    Posted { headers, body: LogOut {}, .. }: Posted<LogOut>,
) -> Result<Response, No> {
    service.registry.log_out(&session::token(&headers)?).await?;
    let cookie = session::clear_cookie(service.settings.secure_cookie);
    Ok(([(header::SET_COOKIE, cookie)], StatusCode::NO_CONTENT).into_response())
}

async fn change_password(
    State(service): State<Arc<Service>>,
    Posted { from, headers, body }: Posted<ChangePassword>,
) -> Result<Response, No> {
    let ChangePassword { old, new, request } = body;
    let (old, new) = (body::old_password(old)?, body::new_password(new)?);
    let request = body::request(request)?;
    let token = session::token(&headers)?;
    service.limits.hash(from)?;
    // Whoever has found somebody's session must not try passwords without end.
    if let Some(name) = service.registry.probably(&token) {
        service.limits.change(&name)?;
    }
    service.registry.change_password(&token, (old, new), request).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn who_am_i(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<Response, No> {
    let session = service.registry.who_am_i(&session::token(&headers)?).await?;
    let me = Me { name: session.name.to_string(), until_ms: session.until_ms, node: name(service.me) };
    Ok(json(StatusCode::OK, &me))
}

fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
