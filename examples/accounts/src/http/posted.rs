//! What is sent with `POST`: how every request begins that has a body.

use std::net::IpAddr;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;

use super::answer::No;
use super::body::Form;
use super::sender::Sender;
use super::{body, session};

/// A body that no page of another origin has sent, and that is the JSON which is expected; with who has sent it.
pub(super) struct Posted<T> {
    /// For whom it is counted.
    pub(super) from: IpAddr,
    pub(super) headers: HeaderMap,
    pub(super) body: T,
}

impl<T: Form, S: Sync> FromRequest<S> for Posted<T> {
    type Rejection = No;

    async fn from_request(request: Request, _: &S) -> Result<Posted<T>, No> {
        let (head, body) = request.into_parts();
        session::check_origin(&head.headers)?;
        let body = body::read(&head.headers, body).await?;
        let Sender(from) =
            *head.extensions.get().expect("each request is given its sender before it comes here");
        Ok(Posted { from, headers: head.headers, body })
    }
}
