//! The asking side.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::time::{Instant, sleep_until};

use super::wire::{ANSWER_BYTES, Answer, Claim, InFlight, Instance, PATH, Question, Release, Reply, Stay};
use super::{Claimed, Discovery, Token};
use crate::connect;

/// How long a peer is asked to hold a question whose answer is still to come. Shorter than the patience of anything in
/// between, long enough that waiting for hours is cheap.
const POLL: Duration = Duration::from_secs(20);

/// The least time between two questions to the same peer, so that one that does not hold them is not flooded.
const PAUSE: Duration = Duration::from_millis(500);

/// Questions in a row without an answer before a peer that had the item counts as gone. One lost connection must not
/// cost hours of work.
const TRIES: u32 = 4;

/// The other replicas.
pub struct Peers {
    instance: Instance,
    discovery: Discovery,
    token: Token,
    timeout: Duration,
    proof: Duration,
    client: reqwest::Client,
    /// Addresses that did not answer when they were last asked, so that each is one line in the log and not one for every item.
    silent: Mutex<BTreeSet<String>>,
}

/// What [`Peers`] is made from.
pub struct Settings {
    /// This replica's name, the one that its own answers have.
    pub instance: Instance,
    pub discovery: Discovery,
    pub token: Token,
    /// How long a peer may take for its first answer, and to be connected to.
    pub timeout: Duration,
    /// How much longer the first answer to a claim may take: a peer that has the item may first have to find out whether
    /// the session is alive under which it has it.
    pub proof: Duration,
}

/// A peer that answered.
struct Heard {
    address: String,
    reply: Reply,
}

/// A peer that did not answer.
struct Silent {
    address: String,
    what: String,
    /// It may have got the question, and acted on it.
    asked: bool,
}

impl Peers {
    /// # Errors
    /// When there can't be an HTTP client.
    pub fn new(settings: Settings) -> Result<Self, connect::http::Error> {
        let Settings { instance, discovery, token, timeout, proof } = settings;
        // No certificate is looked at: replicas talk plain HTTP inside of their network.
        let client = connect::http::builder()
            .connect_timeout(timeout)
            .tls_certs_only(Vec::new())
            .build()
            .map_err(|error| connect::http::Error::Client(error.to_string()))?;
        Ok(Peers { instance, discovery, token, timeout, proof, client, silent: Mutex::default() })
    }

    /// Asks all others at once for an item that was redelivered here, and waits for its end where one of them has it,
    /// however long that takes. `delivery` is unique among all of this replica's deliveries.
    ///
    /// Returns within twice the timeout where nobody has it, and all that are there answer at once. When the future is
    /// dropped, a peer may have reserved the result: call [`release`](Self::release) then, or ask again.
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
        // What has ended need not be waited for.
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

    /// The offsets of a partition that are in the hands of any other replica.
    pub async fn in_flight(&self, pipeline: &str, topic: &str, partition: i32) -> BTreeSet<i64> {
        let question = Question::InFlight(InFlight {
            pipeline: pipeline.to_owned(),
            asker: self.instance.clone(),
            topic: topic.to_owned(),
            partition,
        });
        let (heard, _) = self.ask_all(&question, self.timeout).await;
        let offsets = heard.into_iter().filter_map(|heard| match heard.reply.answer {
            Answer::InFlight { offsets } => Some(offsets),
            _ => None,
        });
        offsets.flatten().collect()
    }

    /// Whether any other replica goes on with the pipeline. One that does not answer does not.
    pub async fn somebody_stays(&self, pipeline: &str) -> bool {
        let question = Question::Stay(Stay { pipeline: pipeline.to_owned(), asker: self.instance.clone() });
        let (heard, _) = self.put_to_all(&question, self.timeout).await;
        heard.iter().any(|heard| heard.reply.answer == Answer::Staying)
    }

    /// Tells all others that nothing is needed for this delivery any more. Those that cannot be told will find out by
    /// themselves that nobody asks.
    pub async fn release(&self, pipeline: &str, delivery: &str) {
        let addresses = self.discovery.addresses(self.timeout).await;
        self.release_at(addresses, pipeline, delivery).await;
    }

    async fn release_at(&self, addresses: Vec<String>, pipeline: &str, delivery: &str) {
        let release = Release {
            pipeline: pipeline.to_owned(),
            asker: self.instance.clone(),
            delivery: delivery.to_owned(),
        };
        let Ok(body) = serde_json::to_vec(&Question::Release(release)).map(Bytes::from) else { return };
        let telling = addresses.iter().map(|address| self.post(address, body.clone(), self.timeout));
        for silent in join_all(telling).await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                peer = silent.address,
                error = silent.what,
                "A replica was not told that its result is not needed"
            );
        }
    }

    /// Puts a question to all others, and says in the log who stopped answering.
    async fn ask_all(&self, question: &Question, within: Duration) -> (Vec<Heard>, Vec<Silent>) {
        let (heard, silent) = self.put_to_all(question, within).await;
        let addresses = silent.iter().map(|silent| silent.address.clone()).collect();
        let before =
            std::mem::replace(&mut *self.silent.lock().unwrap_or_else(PoisonError::into_inner), addresses);
        for Silent { address, what, .. } in silent.iter().filter(|one| !before.contains(&one.address)) {
            tracing::warn!(
                peer = address,
                error = what,
                "A replica does not answer; taken for one that has nothing, until it does"
            );
        }
        for Heard { address, .. } in heard.iter().filter(|one| before.contains(&one.address)) {
            tracing::info!(peer = address, "A replica answers again");
        }
        (heard, silent)
    }

    /// Puts a question to all others at once.
    async fn put_to_all(&self, question: &Question, within: Duration) -> (Vec<Heard>, Vec<Silent>) {
        // A struct of texts and numbers always has a JSON form.
        let Ok(body) = serde_json::to_vec(question).map(Bytes::from) else { return Default::default() };
        let addresses = self.discovery.addresses(self.timeout).await;
        let asking = addresses.iter().map(|address| self.post(address, body.clone(), within));
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

    /// Asks the peer that said it has the item, until it ends there.
    async fn poll(&self, address: &str, instance: &Instance, claim: Claim) -> Claimed {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            // After a failure only whether it is still there matters.
            let hold = if failures == 0 { POLL } else { Duration::ZERO };
            let question = Question::Claim(Claim { wait_seconds: hold.as_secs(), ..claim.clone() });
            let Ok(body) = serde_json::to_vec(&question).map(Bytes::from) else { return Claimed::Gone };
            match self.post(address, body, hold + self.timeout).await {
                // Another process at the same address knows nothing of what ran in the first.
                Ok(heard) if heard.reply.instance != *instance => return Claimed::Gone,
                Ok(heard) => match heard.reply.answer {
                    Answer::Finished { verdict } => return Claimed::Finished(verdict),
                    Answer::NotYours => return Claimed::NotYours,
                    Answer::Running => failures = 0,
                    // Nothing known of it any more, or no answer to a claim.
                    _ => return Claimed::Gone,
                },
                Err(silent) => {
                    failures += 1;
                    tracing::warn!(
                        peer = address,
                        error = silent.what,
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

    async fn post(&self, address: &str, body: Bytes, within: Duration) -> Result<Heard, Silent> {
        let silent = |what: String, asked| Silent { address: address.to_owned(), what, asked };
        let token = (self.token)().map_err(|error| silent(error, false))?;
        let request = self
            .client
            .post(format!("{address}{PATH}"))
            .timeout(within)
            .header(AUTHORIZATION, format!("Bearer {}", token.trim_end()))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let failed =
            |error: reqwest::Error| silent(chain(&error), !error.is_connect() && !error.is_builder());
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            let asked = response.status().is_server_error();
            return Err(silent(format!("it answered {}", response.status()), asked));
        }
        let mut json = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if json.len() + chunk.len() > ANSWER_BYTES {
                return Err(silent(format!("its answer is longer than {ANSWER_BYTES} bytes"), true));
            }
            json.extend_from_slice(&chunk);
        }
        let reply = serde_json::from_slice(&json)
            .map_err(|error| silent(format!("no answer of ours: {error}"), true))?;
        Ok(Heard { address: address.to_owned(), reply })
    }
}

/// The error and its causes; the first alone says no more than "error sending request" and the address.
fn chain(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
