//! Reads the parts of a request, and refuses wrong ones in the form of all failures of the API.

use std::fmt::Display;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;

use super::{Caller, Failure};

/// The query or the path of a request. A wrong one is answered with the reason and a help.
pub(super) struct Checked<E>(pub E);

impl<S, E> FromRequestParts<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequestParts<S, Rejection: Display>,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Ok(caller) = Caller::from_request_parts(parts, state).await;
        E::from_request_parts(parts, state).await.map(Checked).map_err(|refused| {
            let help = "see docs/api.md, or /api/v1/openapi.json, for paths and parameters";
            caller.failure(&Failure::bad_request(refused.to_string(), help))
        })
    }
}
