//! The HTTP port of a node: JSON for programs, and a page for people.
//!
//! | request | with | answered |
//! |---|---|---|
//! | `POST /register` | `name`, `password`, `request` if it may be retried | 201 |
//! | `POST /login` | `name`, `password` | 200 with a token, and a cookie with the same |
//! | `POST /logout` | | 204 |
//! | `POST /password` | `old`, `new`, `request` if it may be retried | 204 |
//! | `GET /whoami` | | 200 with the name |
//! | `GET /cluster` | | who leads, in which epoch, how far each node has come |
//! | `GET /node` | | this node's own state: how many accounts, and digests of it and of its history |
//! | `GET /` | | the page |
//!
//! A session is shown as `Authorization: Bearer TOKEN`, or by the cookie. Against other sites' pages, the cookie is
//! `SameSite=Strict` and out of the reach of scripts, a body must be `application/json`, which no form can send, and what
//! a page of another origin sends is refused.

mod answer;
mod body;
mod crowd;
mod page;
mod posted;
mod routes;
mod sender;
mod serve;
mod session;

use crate::cluster::Watch;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::settings::Settings;

pub(crate) use serve::{listen, serve};

/// What is served.
pub(crate) struct Service {
    pub(crate) me: u64,
    pub(crate) registry: Registry,
    pub(crate) watch: std::sync::Arc<Watch>,
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
}
