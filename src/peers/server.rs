//! The answering side: one route, mounted in the admin server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::wire::{self, Claim, InFlight, Instance, PATH, QUESTION_BYTES, Question, Release, Reply, Stay};
use super::{PROOF, Token};
use crate::admin::bearer;

/// The longest that a question is held, whatever it asks for.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// What an answer may take beyond the time that the question is held.
const GRACE: Duration = Duration::from_secs(5);

/// Questions under way at once: more than all slots of a pipeline can ask for.
const QUESTIONS_MAX: usize = 10_000;

/// What this replica knows of its items.
pub trait Answer: Send + Sync + 'static {
    /// Says what is known of the item, and holds [`Status::Running`] back for up to `wait_seconds`, in case that it ends
    /// by then. May be cancelled at any await, and is then asked again.
    ///
    /// A result is given to one pair of asker and delivery only, and to that one as often as it asks. Whether it was
    /// fetched shows in no answer: a result that nobody fetched must not be taken for settled.
    fn claim(&self, claim: Claim) -> impl Future<Output = Status> + Send;

    /// Offsets of the partition that run here, or have ended here and are not committed.
    fn in_flight(&self, question: InFlight) -> impl Future<Output = Vec<i64>> + Send;

    /// Takes back what was reserved for that delivery, if anything was.
    fn release(&self, release: Release) -> impl Future<Output = ()> + Send;

    /// Whether the pipeline takes new work and will go on to, as far as is known.
    fn stays(&self, question: Stay) -> impl Future<Output = bool> + Send;
}

/// What is known of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// It runs here, in a session that lives and will settle it.
    NotYours,
    /// Nothing.
    Unknown,
    /// It runs here without a delivery, and its end is reserved for the asker.
    Running,
    /// It ended here without a delivery, and its result is the asker's now.
    Finished(Value),
}

/// The route of the questions. `instance` is this replica's name, the one that its own questions have.
pub fn router<A: Answer>(answer: Arc<A>, instance: Instance, token: Token) -> Router {
    let server = Server { answer, instance, token, free: Semaphore::new(QUESTIONS_MAX) };
    Router::new()
        .route(PATH, post(question::<A>))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES))
        .with_state(Arc::new(server))
}

struct Server<A> {
    answer: Arc<A>,
    instance: Instance,
    token: Token,
    free: Semaphore,
}

async fn question<A: Answer>(
    State(server): State<Arc<Server<A>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !server.is_known(&headers) {
        let realm = HeaderValue::from_static("Bearer");
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, realm)]).into_response();
    }
    let question = match serde_json::from_slice::<Question>(&body) {
        Ok(question) => question,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Ok(_permit) = server.free.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many questions at once").into_response();
    };
    let Some(answer) = server.answer(question).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no answer in time").into_response();
    };
    let reply = Reply { instance: server.instance.clone(), answer };
    match serde_json::to_vec(&reply) {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl<A: Answer> Server<A> {
    fn is_known(&self, headers: &HeaderMap) -> bool {
        match (self.token)() {
            Ok(token) => bearer::shows(headers, &token),
            Err(error) => {
                tracing::error!(error, "The token of the replicas can't be read: no question is answered");
                false
            }
        }
    }

    /// None where no answer comes in time.
    async fn answer(&self, question: Question) -> Option<wire::Answer> {
        if *question.asker() == self.instance {
            // Our own question: the asker drops whatever answer has its own name.
            return Some(wire::Answer::Unknown);
        }
        match question {
            Question::Claim(mut claim) => {
                claim.wait_seconds = claim.wait_seconds.min(HOLD_MAX.as_secs());
                let hold = Duration::from_secs(claim.wait_seconds) + PROOF + GRACE;
                let status = timeout(hold, self.answer.claim(claim)).await.ok()?;
                Some(match status {
                    Status::NotYours => wire::Answer::NotYours,
                    Status::Unknown => wire::Answer::Unknown,
                    Status::Running => wire::Answer::Running,
                    Status::Finished(verdict) => wire::Answer::Finished { verdict },
                })
            }
            Question::InFlight(question) => {
                let offsets = timeout(GRACE, self.answer.in_flight(question)).await.ok()?;
                Some(wire::Answer::InFlight { offsets })
            }
            Question::Release(release) => {
                timeout(GRACE, self.answer.release(release)).await.ok()?;
                Some(wire::Answer::Released)
            }
            Question::Stay(question) => {
                let stays = timeout(GRACE, self.answer.stays(question)).await.ok()?;
                Some(if stays { wire::Answer::Staying } else { wire::Answer::Leaving })
            }
        }
    }
}
