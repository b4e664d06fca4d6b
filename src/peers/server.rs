//! Answers the questions of other replicas: one route of the admin server.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Token;
use super::replay::{Refusal, Replays};
use super::seal::{HEADER, Key, Proof};
use super::wire::{
    self, Call, Called, Claim, InFlight, Instance, PATH, QUESTION_BYTES, Question, Release, Reply, Stay,
    Verdict,
};
use crate::admin::Known;
use crate::delivery::lease::PROOF;

/// The longest time that a question is held, even if it asks for more.
const HOLD_MAX: Duration = Duration::from_secs(60);

/// How long an answer may take beyond the time that the question is held.
const GRACE: Duration = Duration::from_secs(5);

/// The source of the answers: the items of this replica.
pub trait Responder: Send + Sync + 'static {
    /// Says what is known about the item. Holds [`ItemStatus::Running`] back for up to
    /// `wait_seconds`, in case that the item ends by then. May be cancelled at any await, and is
    /// then asked again.
    ///
    /// A result is given to one pair of asker and delivery only, and to that pair each time it
    /// asks. No answer shows whether a result was fetched: a result that nobody fetched must not be
    /// taken for settled.
    fn claim(&self, claim: Claim) -> impl Future<Output = ItemStatus> + Send;

    /// Offsets of the partition that run here, or have ended here and are not committed.
    fn in_flight(&self, question: InFlight) -> impl Future<Output = Vec<i64>> + Send;

    /// Takes back the result that was reserved for that delivery, if there is one.
    fn release(&self, release: Release) -> impl Future<Output = ()> + Send;

    /// Answers a request of a person that came to another replica.
    fn call(&self, call: Call) -> impl Future<Output = Called> + Send;

    /// Whether the pipeline takes new work, and no drain of it is known.
    fn stays(&self, question: Stay) -> impl Future<Output = bool> + Send;
}

/// The state of an item at this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemStatus {
    /// It runs here, in a session that lives and will settle it.
    NotYours,
    /// It is not known here.
    Unknown,
    /// It runs here without a delivery, and its end is reserved for the asker.
    Running,
    /// It ended here without a delivery, and its result is the asker's now.
    Finished(Verdict),
}

/// The route of the questions. `instance` is this replica's name, the same as in its own questions.
/// `most` questions are answered at once.
pub fn router<A: Responder>(answer: Arc<A>, instance: Instance, token: Token, most: usize) -> Router {
    let replays = Replays::new(SystemTime::now());
    let server = Server { answer, instance, token, replays, free: Semaphore::new(most) };
    Router::new()
        .route(PATH, post(question::<A>))
        .layer(DefaultBodyLimit::max(QUESTION_BYTES))
        .with_state(Arc::new(server))
}

struct Server<A> {
    answer: Arc<A>,
    instance: Instance,
    token: Token,
    replays: Replays,
    free: Semaphore,
}

async fn question<A: Responder>(
    State(server): State<Arc<Server<A>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (key, proof) = match server.proven(&headers, &body) {
        Ok(proven) => proven,
        Err(refused) => return refused.into_response(),
    };
    let question = match serde_json::from_slice::<Question>(&body) {
        Ok(question) => question,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Ok(_permit) = server.free.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many questions at once").into_response();
    };
    let most = question.answer_bytes();
    let Some(answer) = server.answer(question).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "no answer in time").into_response();
    };
    let reply = Reply { instance: server.instance.clone(), answer };
    match serde_json::to_vec(&reply) {
        Ok(json) if json.len() <= most => {
            let proof = key.answer(&proof, &json).to_string();
            let headers = [(HEADER, proof), (CONTENT_TYPE.as_str(), "application/json".to_owned())];
            (Extension(Known), headers, json).into_response()
        }
        Ok(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl<A: Responder> Server<A> {
    /// Returns the key and the question's proof, if the question comes from a replica and is not a
    /// repetition.
    fn proven(&self, headers: &HeaderMap, body: &[u8]) -> Result<(Key, Proof), (StatusCode, String)> {
        let refused = |reason: &str| (StatusCode::UNAUTHORIZED, reason.to_owned());
        let token = (self.token)().map_err(|error| {
            tracing::error!(error, "The secret of the replicas cannot be read: no question is answered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the secret cannot be read here".to_owned())
        })?;
        let key = Key::from_secret(&token).ok_or_else(|| refused("the secret is empty here"))?;
        let proof = headers.get(HEADER).and_then(|value| value.to_str().ok()?.parse::<Proof>().ok());
        let proof = proof.ok_or_else(|| refused("the question has no valid longhaul-proof"))?;
        let now = SystemTime::now();
        let admitted = match self.replays.check_time(&proof, now) {
            Ok(()) if !key.proves_question(&proof, body) => {
                return Err(refused("the question has another secret"));
            }
            Ok(()) => self.replays.admit(&proof, now),
            Err(refusal) => Err(refusal),
        };
        match admitted {
            Ok(()) => Ok((key, proof)),
            Err(Refusal::Time(distance)) => Err(refused(&format!(
                "the question is {} s away from this clock, or older than this process",
                distance.as_secs()
            ))),
            Err(Refusal::Seen) => Err(refused("the question was put before")),
            Err(Refusal::Full) => {
                Err((StatusCode::SERVICE_UNAVAILABLE, "too many questions in a minute".to_owned()))
            }
        }
    }

    /// Returns the answer, or `None` if it does not come in time.
    async fn answer(&self, question: Question) -> Option<wire::Answer> {
        if *question.asker() == self.instance {
            // This is our own question. The asker drops each answer that has its own name.
            return Some(wire::Answer::Unknown);
        }
        match question {
            Question::Claim(mut claim) => {
                claim.wait_seconds = claim.wait_seconds.min(HOLD_MAX.as_secs());
                let hold = Duration::from_secs(claim.wait_seconds) + PROOF + GRACE;
                let status = timeout(hold, self.answer.claim(claim)).await.ok()?;
                Some(match status {
                    ItemStatus::NotYours => wire::Answer::NotYours,
                    ItemStatus::Unknown => wire::Answer::Unknown,
                    ItemStatus::Running => wire::Answer::Running,
                    ItemStatus::Finished(verdict) => wire::Answer::Finished { verdict },
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
            Question::Call(call) => {
                let called = timeout(GRACE, self.answer.call(call)).await.ok()?;
                Some(wire::Answer::Called(called))
            }
            Question::Stay(question) => {
                let stays = timeout(GRACE, self.answer.stays(question)).await.ok()?;
                Some(if stays { wire::Answer::Staying } else { wire::Answer::Leaving })
            }
        }
    }
}
