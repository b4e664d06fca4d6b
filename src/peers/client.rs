//! Asks the other replicas whether a redelivered item runs there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::discovery::Address;
use super::seal::{Code, HEADER, Key};
use super::wire::{
    ANSWER_BYTES, Answer, Call, Called, Claim, InFlight, Instance, Method, PATH, Question, Release, Reply,
    Stay,
};
use super::{Claimed, Discovery, Token};
use crate::config::Tls;
use crate::connect::http::{self as connect, Trust, Watched};
use crate::delivery::lease::{PAUSE, POLL, TRIES};

/// The most first questions under way at once. It bounds the memory that answers from strangers can
/// take.
const AT_ONCE: usize = 256;

/// Characters of a refusal that are kept for the log.
const REFUSAL_MAX: usize = 200;

/// The other replicas.
pub struct Peers {
    instance: Instance,
    discovery: Discovery,
    token: Token,
    timeout: Duration,
    proof: Duration,
    patience: HashMap<String, Duration>,
    plain: reqwest::Client,
    tls: Tls,
    /// A client for each address over TLS: the certificate is valid for the DNS name, and not for
    /// the address.
    secured: Mutex<BTreeMap<Address, Arc<Watched<reqwest::Client>>>>,
    asking: Semaphore,
    /// Addresses that did not answer the last question, so that each is logged once, and not for
    /// every item.
    silent: Mutex<BTreeSet<Address>>,
}

/// The parts of [`Peers`].
pub struct Settings {
    /// This replica's name, the same as in its own answers.
    pub instance: Instance,
    pub discovery: Discovery,
    pub token: Token,
    /// The certificates for `https://`.
    pub tls: Tls,
    /// How long a peer may take for its first answer, and to be connected to.
    pub timeout: Duration,
    /// How much longer the first answer to a claim may take: a peer that has the item may first
    /// have to find out whether its session is alive.
    pub proof: Duration,
    /// How long each pipeline waits for an item that a peer runs: longer than any request takes.
    pub patience: HashMap<String, Duration>,
}

/// A peer that answered.
struct Heard {
    address: Address,
    reply: Reply,
}

/// The answer of one replica to a request of a person.
pub struct Told {
    pub address: String,
    /// The answer, or the reason why there is none.
    pub answer: Result<Called, String>,
}

/// A peer that did not answer.
struct Silent {
    address: Address,
    reason: String,
    /// The peer may have received the question and acted on it.
    asked: bool,
}

impl Peers {
    /// # Errors
    /// If there cannot be an HTTP client.
    pub fn new(settings: Settings) -> Result<Self, connect::Error> {
        let Settings { instance, discovery, token, tls, timeout, proof, patience } = settings;
        // Plain HTTP needs no certificate, and an image from scratch has none.
        let plain = connect::builder()
            .connect_timeout(timeout)
            .tls_certs_only(Vec::new())
            .build()
            .map_err(|error| connect::Error::Client(error.to_string()))?;
        let peers = Peers {
            instance,
            discovery,
            token,
            timeout,
            proof,
            patience,
            plain,
            tls,
            secured: Mutex::default(),
            asking: Semaphore::new(AT_ONCE),
            silent: Mutex::default(),
        };
        if peers.tls != Tls::default() {
            // Makes one client now, so that an unusable certificate file is found at the start.
            peers.secured(&Address::fixed("https://localhost"))?;
        }
        Ok(peers)
    }

    /// Asks all others at once for an item that was redelivered here. If one of them has it, waits
    /// for its end, at most as long as the pipeline's patience. `delivery` is unique among all of
    /// this replica's deliveries.
    ///
    /// Returns within twice the timeout if no peer has it and all answer at once. If the future is
    /// dropped, a peer may have reserved the result: call [`release`](Self::release) then, or ask
    /// again.
    pub async fn claim(&self, pipeline: &str, delivery: &str, identity: &str) -> Claimed {
        let claim = Claim {
            pipeline: pipeline.to_owned(),
            asker: self.instance.clone(),
            delivery: delivery.to_owned(),
            identity: identity.to_owned(),
            wait_seconds: 0,
        };
        let (heard, silent) = self.ask_all(&Question::Claim(claim.clone()), self.timeout + self.proof).await;
        let is_elsewhere = heard.iter().any(|heard| heard.reply.answer == Answer::NotYours);
        let mut having: Vec<Heard> = heard
            .into_iter()
            .filter(|heard| matches!(heard.reply.answer, Answer::Running | Answer::Finished { .. }))
            .collect();
        // Peers that already have a result are asked first.
        having.sort_by_key(|heard| heard.reply.answer == Answer::Running);
        let mut having = having.into_iter();
        let chosen = having.next();

        let others = having.map(|heard| heard.address);
        let unsure = silent.into_iter().filter(|silent| silent.asked).map(|silent| silent.address);
        self.release_at(others.chain(unsure).collect(), pipeline, delivery).await;
        match chosen {
            Some(Heard { reply: Reply { answer: Answer::Finished { verdict }, .. }, .. }) => {
                Claimed::Finished(verdict)
            }
            Some(Heard { address, reply }) => self.poll(&address, &reply.instance, claim).await,
            None if is_elsewhere => Claimed::NotYours,
            None => Claimed::Unknown,
        }
    }

    /// The offsets of a partition's log that any other replica works on, or has finished and not
    /// committed.
    pub async fn in_flight(&self, pipeline: &str, topic: &str, partition: i32, log: u128) -> BTreeSet<i64> {
        let question = Question::InFlight(InFlight {
            pipeline: pipeline.to_owned(),
            asker: self.instance.clone(),
            topic: topic.to_owned(),
            partition,
            log: format!("{log:032x}"),
        });
        let (heard, _) = self.ask_all(&question, self.timeout).await;
        let offsets = heard.into_iter().filter_map(|heard| match heard.reply.answer {
            Answer::InFlight { offsets } => Some(offsets),
            _ => None,
        });
        offsets.flatten().collect()
    }

    /// Whether another replica goes on with the pipeline. A replica that does not answer does not
    /// count.
    pub async fn somebody_stays(&self, pipeline: &str) -> bool {
        let question = Question::Stay(Stay { pipeline: pipeline.to_owned(), asker: self.instance.clone() });
        let (heard, _) = self.put_to_all(&question, self.timeout).await;
        heard.iter().any(|heard| heard.reply.answer == Answer::Staying)
    }

    /// Passes a request of a person on to all others. Returns within twice the timeout.
    pub async fn call(&self, method: Method, target: &str) -> Vec<Told> {
        let call = Call { asker: self.instance.clone(), method, target: target.to_owned() };
        let (heard, silent) = self.put_to_all(&Question::Call(call), self.timeout).await;
        let heard = heard.into_iter().map(|heard| Told {
            address: heard.address.to_string(),
            answer: match heard.reply.answer {
                Answer::Called(called) => Ok(called),
                _ => Err("its answer is not one to this question".to_owned()),
            },
        });
        let silent = silent
            .into_iter()
            .map(|silent| Told { address: silent.address.to_string(), answer: Err(silent.reason) });
        heard.chain(silent).collect()
    }

    /// The number of addresses that the name or the list has, at least this replica.
    pub async fn count(&self) -> usize {
        self.discovery.addresses(self.timeout).await.len().max(1)
    }

    /// Tells all others that this delivery needs no result. If a replica cannot be told, its
    /// reservation ends when nobody asks any more.
    pub async fn release(&self, pipeline: &str, delivery: &str) {
        let addresses = self.discovery.addresses(self.timeout).await;
        self.release_at(addresses, pipeline, delivery).await;
    }

    async fn release_at(&self, addresses: Vec<Address>, pipeline: &str, delivery: &str) {
        let release = Release {
            pipeline: pipeline.to_owned(),
            asker: self.instance.clone(),
            delivery: delivery.to_owned(),
        };
        let Ok(body) = serde_json::to_vec(&Question::Release(release)).map(Bytes::from) else { return };
        let telling =
            addresses.iter().map(|address| self.post(address, body.clone(), self.timeout, ANSWER_BYTES));
        for silent in join_all(telling).await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                peer = %silent.address,
                error = silent.reason,
                "Could not tell a replica that its result is not needed"
            );
        }
    }

    /// Sends a question to all others, and logs the replicas that stopped answering.
    async fn ask_all(&self, question: &Question, within: Duration) -> (Vec<Heard>, Vec<Silent>) {
        let (heard, silent) = self.put_to_all(question, within).await;
        let addresses = silent.iter().map(|silent| silent.address.clone()).collect();
        let before =
            std::mem::replace(&mut *self.silent.lock().unwrap_or_else(PoisonError::into_inner), addresses);
        for Silent { address, reason, .. } in silent.iter().filter(|one| !before.contains(&one.address)) {
            tracing::warn!(
                peer = %address,
                error = reason,
                "A replica gives no valid answer; until it does, it counts as having no items"
            );
        }
        for Heard { address, .. } in heard.iter().filter(|one| before.contains(&one.address)) {
            tracing::info!(peer = %address, "A replica answers again");
        }
        (heard, silent)
    }

    /// Sends a question to all others at once.
    async fn put_to_all(&self, question: &Question, within: Duration) -> (Vec<Heard>, Vec<Silent>) {
        // A struct of texts and numbers always has a JSON form.
        let Ok(body) = serde_json::to_vec(question).map(Bytes::from) else { return Default::default() };
        let addresses = self.discovery.addresses(self.timeout).await;
        let most = question.answer_bytes();
        let asking = addresses.iter().map(|address| self.first(address, body.clone(), within, most));
        let (mut heard, mut silent) = (Vec::new(), Vec::new());
        for answered in join_all(asking).await {
            match answered {
                Ok(answered) if answered.reply.instance == self.instance => {}
                Ok(answered) => heard.push(answered),
                Err(error) => silent.push(error),
            }
        }
        (heard, silent)
    }

    /// Asks the peer that has the item until the item ends there, at most as long as any request
    /// can run.
    async fn poll(&self, address: &Address, instance: &Instance, claim: Claim) -> Claimed {
        let mut failures = 0;
        let patience = self.patience.get(&claim.pipeline).copied().unwrap_or_default();
        let end = Instant::now() + patience;
        loop {
            if Instant::now() >= end {
                tracing::warn!(
                    peer = %address,
                    pipeline = claim.pipeline,
                    delivery = claim.delivery,
                    waited_seconds = patience.as_secs(),
                    "A replica reported an item as running for longer than any request may take; the item runs here"
                );
                self.release_at(vec![address.clone()], &claim.pipeline, &claim.delivery).await;
                return Claimed::Gone;
            }
            let began = Instant::now();
            // After a failure this asks only whether the peer is still there.
            let hold = if failures == 0 { POLL.min(end - began) } else { Duration::ZERO };
            let question = Question::Claim(Claim { wait_seconds: hold.as_secs(), ..claim.clone() });
            let Ok(body) = serde_json::to_vec(&question).map(Bytes::from) else { return Claimed::Gone };
            match self.post(address, body, hold + self.timeout, ANSWER_BYTES).await {
                // A restarted process at the same address does not know the items of the process
                // before it.
                Ok(heard) if heard.reply.instance != *instance => return Claimed::Gone,
                Ok(heard) => match heard.reply.answer {
                    Answer::Finished { verdict } => return Claimed::Finished(verdict),
                    Answer::NotYours => return Claimed::NotYours,
                    Answer::Running => failures = 0,
                    // The replica does not know the item any more, or the answer is not about a
                    // claim.
                    _ => return Claimed::Gone,
                },
                Err(silent) => {
                    failures += 1;
                    tracing::warn!(
                        peer = %address,
                        delivery = claim.delivery,
                        error = silent.reason,
                        failures,
                        "A replica that has an item of ours does not answer"
                    );
                    if failures == TRIES {
                        return Claimed::Gone;
                    }
                }
            }
            sleep_until(began + PAUSE).await;
        }
    }

    /// Sends a first question. Later ones go only to a peer that has proven that it knows the
    /// secret.
    async fn first(
        &self,
        address: &Address,
        body: Bytes,
        within: Duration,
        most: usize,
    ) -> Result<Heard, Silent> {
        // The semaphore is never closed.
        let _permit = self.asking.acquire().await;
        self.post(address, body, within, most).await
    }

    /// `most` bounds the answer, in bytes.
    async fn post(
        &self,
        address: &Address,
        body: Bytes,
        within: Duration,
        most: usize,
    ) -> Result<Heard, Silent> {
        let silent = |reason: String, asked| Silent { address: address.clone(), reason, asked };
        let token = (self.token)().map_err(|error| silent(error, false))?;
        let key = Key::from_secret(&token).ok_or_else(|| silent("the secret is empty".to_owned(), false))?;
        let client = self.client(address).map_err(|error| silent(error.to_string(), false))?;
        let proof = key.question(&body);
        let request = client
            .post(format!("{}{PATH}", address.base))
            .timeout(within)
            .header(HEADER, proof.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let failed = |error: reqwest::Error| {
            let error = error.without_url();
            silent(connect::with_causes(&error), !error.is_connect() && !error.is_builder())
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let code = response.headers().get(HEADER).and_then(|value| value.to_str().ok()?.parse::<Code>().ok());
        let limit = if status.is_success() { most } else { REFUSAL_MAX };
        let mut text = Vec::new();
        while text.len() <= limit {
            let Some(chunk) = response.chunk().await.map_err(failed)? else { break };
            text.extend_from_slice(&chunk[..chunk.len().min(limit + 1 - text.len())]);
        }
        if !status.is_success() {
            let reason: String = String::from_utf8_lossy(&text).chars().take(REFUSAL_MAX).collect();
            return Err(silent(format!("it answered {status}: {reason}"), status.is_server_error()));
        }
        if text.len() > limit {
            return Err(silent(format!("its answer is longer than {limit} bytes"), true));
        }
        if !code.is_some_and(|code| key.proves_answer(&proof, &code, &text)) {
            let reason = "its answer does not prove that it knows the secret of the replicas";
            return Err(silent(reason.to_owned(), true));
        }
        let reply = serde_json::from_slice(&text)
            .map_err(|error| silent(format!("its answer cannot be read: {error}"), true))?;
        Ok(Heard { address: address.clone(), reply })
    }

    fn client(&self, address: &Address) -> Result<reqwest::Client, connect::Error> {
        if address.base.starts_with("http://") { Ok(self.plain.clone()) } else { self.secured(address) }
    }

    fn secured(&self, address: &Address) -> Result<reqwest::Client, connect::Error> {
        let mut secured = self.secured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = secured.get(address) {
            return Ok(client.get().as_ref().clone());
        }
        if secured.len() >= AT_ONCE {
            // Pods come and go under new addresses, so old clients are dropped.
            secured.clear();
        }
        let (timeout, resolved) = (self.timeout, address.resolved.clone());
        let make = move || {
            let builder = connect::builder().connect_timeout(timeout);
            match &resolved {
                Some((host, socket)) => builder.resolve(host, *socket),
                None => builder,
            }
        };
        let trust = Trust { tls: self.tls.clone(), ca_certs: None, bundles: PathBuf::new() };
        let client = Arc::new(connect::client(trust, &connect::url(&address.base)?, make)?);
        secured.insert(address.clone(), client.clone());
        Ok(client.get().as_ref().clone())
    }
}
