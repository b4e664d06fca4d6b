//! Passes the questions of other replicas to the pipeline that they concern.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::descriptors;
use super::error::BuildError;
use crate::api::Local;
use crate::bridge::{self, Asker, Question, When};
use crate::config::{Config, Pipeline, Secret, Tls};
use crate::delivery::LogId;
use crate::peers::{
    self, Call, Called, Claim, Discovery, InFlight, Instance, ItemStatus, Peers, Release, Responder, Stay,
};

/// The number of questions that may wait for a pipeline. Each is answered in microseconds.
const QUESTIONS: usize = 1024;

/// How much longer than `sink.timeout` another replica may report an item as running. Its request
/// began before it was asked.
const PATIENCE_MARGIN: Duration = Duration::from_secs(60);

/// The asking side for the pipelines, and the answering side for the other replicas.
pub(super) struct Replicas {
    pub router: Router,
    client: Arc<Peers>,
    /// The channel on which each pipeline receives its questions.
    questions: HashMap<String, mpsc::Receiver<Question>>,
    api: Arc<OnceLock<Local>>,
}

impl Replicas {
    /// Takes the share of one pipeline. Each share exists once.
    pub fn of(&mut self, pipeline: &str) -> Option<bridge::Replicas> {
        let questions = self.questions.remove(pipeline)?;
        Some(bridge::Replicas { peers: Arc::clone(&self.client), questions })
    }

    /// The asking side, for requests of people.
    pub fn client(&self) -> Arc<Peers> {
        self.client.clone()
    }

    /// Answers requests of people that came to other replicas.
    pub fn answer_with(&self, api: Local) {
        // There is one API.
        let _ = self.api.set(api);
    }
}

/// Makes the shares, or `None` if the configuration names no other replicas.
pub(super) fn replicas(config: &Config) -> Result<Option<Replicas>, BuildError> {
    let Some(peers) = &config.peers else { return Ok(None) };
    let Some(token) = peers.token.as_ref().or(config.admin.token.as_ref()) else {
        let hint = "write `token` under `admin` or under `peers`";
        return Err(BuildError::whole(
            "peers: the token is missing with which the replicas prove that they belong together",
            hint,
        ));
    };
    let token = reader(token.clone());
    let discovery = match &peers.dns {
        Some(name) => Discovery::dns(name.clone(), peers.tls != Tls::default()),
        None => Discovery::Fixed(peers.addresses.clone()),
    };
    let instance = Instance::random();
    let timeout = peers.timeout.get();
    let patience = |pipeline: &Pipeline| {
        (pipeline.name.clone(), pipeline.sink.timeout.get().saturating_add(PATIENCE_MARGIN))
    };
    let settings = peers::Settings {
        instance: instance.clone(),
        discovery,
        token: token.clone(),
        tls: peers.tls.clone(),
        timeout,
        proof: crate::delivery::lease::PROOF,
        patience: config.pipelines.iter().map(patience).collect(),
    };
    let client = Peers::new(settings).map_err(|error| {
        BuildError::whole(format!("peers: {error}"), "correct the files under `peers.tls`")
    })?;
    let mut questions = HashMap::new();
    let mut pipelines = HashMap::new();
    for pipeline in &config.pipelines {
        let (sender, receiver) = mpsc::channel(QUESTIONS);
        pipelines.insert(pipeline.name.clone(), sender);
        questions.insert(pipeline.name.clone(), receiver);
    }
    // One connection may wait for each answer. The remaining connections are for operators.
    let questions_max = descriptors::known_connections(config) * 3 / 4;
    let api: Arc<OnceLock<Local>> = Arc::default();
    let answerer = Answerer { pipelines, api: api.clone() };
    let router = peers::router(Arc::new(answerer), instance, token, questions_max);
    Ok(Some(Replicas { client: Arc::new(client), router, questions, api }))
}

fn reader(token: Secret) -> peers::Token {
    Arc::new(move || token.resolve().map_err(|error| error.to_string()))
}

struct Answerer {
    pipelines: HashMap<String, mpsc::Sender<Question>>,
    api: Arc<OnceLock<Local>>,
}

impl Answerer {
    /// Passes a question on. Returns `None` if the pipeline does not exist here, or has ended.
    async fn put<T>(
        &self,
        pipeline: &str,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Option<oneshot::Receiver<T>> {
        let (answer, answered) = oneshot::channel();
        self.pipelines.get(pipeline)?.send(question(answer)).await.ok()?;
        Some(answered)
    }
}

impl Responder for Answerer {
    async fn claim(&self, claim: Claim) -> ItemStatus {
        let Claim { pipeline, asker, delivery, identity, wait_seconds } = claim;
        let when = if wait_seconds == 0 { When::Now } else { When::AtItsEnd };
        let asker = Asker { instance: asker.to_string(), delivery };
        let put = self.put(&pipeline, |answer| Question::Claim { asker, identity, answer, when }).await;
        let Some(answered) = put else { return ItemStatus::Unknown };
        match when {
            When::Now => answered.await.unwrap_or(ItemStatus::Unknown),
            When::AtItsEnd => match timeout(Duration::from_secs(wait_seconds), answered).await {
                Ok(status) => status.unwrap_or(ItemStatus::Unknown),
                Err(_) => ItemStatus::Running,
            },
        }
    }

    async fn in_flight(&self, question: InFlight) -> Vec<i64> {
        let InFlight { pipeline, topic, partition, log, .. } = question;
        // A log that is not named could be any.
        let Ok(log) = u128::from_str_radix(&log, 16) else { return Vec::new() };
        let place = (LogId(log), topic, partition);
        match self.put(&pipeline, |answer| Question::InFlight { place, answer }).await {
            Some(answered) => answered.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    async fn release(&self, release: Release) {
        let asker = Asker { instance: release.asker.to_string(), delivery: release.delivery };
        if let Some(pipeline) = self.pipelines.get(&release.pipeline) {
            let _ = pipeline.send(Question::Release { asker }).await;
        }
    }

    async fn call(&self, call: Call) -> Called {
        match self.api.get() {
            Some(api) => api.answer(call).await,
            None => Called { replica: String::new(), status: 503, body: String::new() },
        }
    }

    async fn stays(&self, question: Stay) -> bool {
        match self.put(&question.pipeline, |answer| Question::Stay { answer }).await {
            Some(answered) => answered.await.unwrap_or(false),
            None => false,
        }
    }
}
