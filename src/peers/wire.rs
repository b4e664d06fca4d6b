//! Questions and answers as JSON. Unknown members are ignored, so that replicas of two versions can
//! talk during a rollout.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The path of questions, by POST.
pub(super) const PATH: &str = "/api/v1/peers/question";

/// The longest question: it holds only a few names.
pub(super) const QUESTION_BYTES: usize = 16 * 1024;

/// The longest answer. A partition has at most about 1,000 unfinished offsets of at most 20 digits.
pub(super) const ANSWER_BYTES: usize = 64 * 1024;

/// The longest answer to a [`Call`]: a page of items.
pub(super) const CALLED_BYTES: usize = 1 << 20;

/// The random name of one process of the bridge. A replica does not know its own address as others
/// see it, so it recognises its own answer by this name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instance(String);

/// "I was handed this item. Have you got its result, or will you?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub pipeline: String,
    pub asker: Instance,
    /// The delivery that gets the result, unique among the asker's. Asker and delivery make the
    /// question idempotent.
    pub delivery: String,
    /// The item's identity, the same at both replicas.
    pub identity: String,
    /// How long to hold the question while the request runs. 0 means to answer at once.
    pub wait_seconds: u64,
}

/// "Which offsets of this partition run with you, or have ended there and are not committed?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub pipeline: String,
    pub asker: Instance,
    pub topic: String,
    pub partition: i32,
    /// The id of the partition's log in hexadecimal. Offsets of another log are other records. A
    /// replica of an older version sends none, and gets no offsets.
    #[serde(default)]
    pub log: String,
}

/// "I drain. Do you stay, and go on with this pipeline?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    pub pipeline: String,
    pub asker: Instance,
}

/// "I do not need the result that you reserved for this delivery." An asker also sends it if it
/// does not know whether a result was reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub pipeline: String,
    pub asker: Instance,
    pub delivery: String,
}

/// "Answer this request of a person, as you answer it yourself." The asker has checked that the
/// person may do this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub asker: Instance,
    pub method: Method,
    /// The path and the query, percent-encoded.
    pub target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    Get,
    Post,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// The name of the replica, for people.
    pub replica: String,
    pub status: u16,
    /// JSON, as the asker parses it.
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case")]
pub(super) enum Question {
    Claim(Claim),
    InFlight(InFlight),
    Release(Release),
    Stay(Stay),
    Call(Call),
}

/// An answer, and the name of the replica that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub instance: Instance,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(super) enum Answer {
    /// The item runs here, in a live session, which will settle it.
    NotYours,
    /// The item is not known here.
    Unknown,
    /// The item runs here without a delivery. Ask again for its end.
    Running,
    Finished {
        verdict: Verdict,
    },
    InFlight {
        offsets: Vec<i64>,
    },
    Released,
    Staying,
    /// It drains too, or has no such pipeline.
    Leaving,
    Called(Called),
}

/// The result of an item that one replica hands to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    Done,
    Retry {
        attempts: u32,
        delay_milliseconds: u64,
    },
    Failed {
        attempts: u32,
        reason: String,
    },
    Held {
        attempts: u32,
        reason: String,
    },
    /// A verdict of another version. The item runs again.
    #[serde(other)]
    New,
}

impl Instance {
    pub fn random() -> Self {
        Instance(uuid::Uuid::new_v4().to_string())
    }
}

impl Question {
    /// The longest answer to this question.
    pub fn answer_bytes(&self) -> usize {
        if matches!(self, Question::Call(_)) { CALLED_BYTES } else { ANSWER_BYTES }
    }

    pub fn asker(&self) -> &Instance {
        match self {
            Question::Claim(Claim { asker, .. })
            | Question::InFlight(InFlight { asker, .. })
            | Question::Release(Release { asker, .. })
            | Question::Stay(Stay { asker, .. })
            | Question::Call(Call { asker, .. }) => asker,
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of other versions read and write these very texts.
    #[test]
    fn the_texts_are_as_agreed() {
        let asker = Instance("a".to_owned());
        let claim = Claim {
            pipeline: "p".into(),
            asker: asker.clone(),
            delivery: "d".into(),
            identity: "i".into(),
            wait_seconds: 20,
        };
        let in_flight = InFlight {
            pipeline: "p".into(),
            asker: asker.clone(),
            topic: "t".into(),
            partition: 3,
            log: "0f".into(),
        };
        let release = Release { pipeline: "p".into(), asker: asker.clone(), delivery: "d".into() };
        let stay = Stay { pipeline: "p".into(), asker: asker.clone() };
        let questions = [
            (
                Question::Claim(claim),
                r#"{"question":"claim","pipeline":"p","asker":"a","delivery":"d","identity":"i","wait_seconds":20}"#,
            ),
            (
                Question::InFlight(in_flight),
                r#"{"question":"in-flight","pipeline":"p","asker":"a","topic":"t","partition":3,"log":"0f"}"#,
            ),
            (
                Question::Release(release),
                r#"{"question":"release","pipeline":"p","asker":"a","delivery":"d"}"#,
            ),
            (Question::Stay(stay), r#"{"question":"stay","pipeline":"p","asker":"a"}"#),
        ];
        for (question, text) in questions {
            assert_eq!(serde_json::to_string(&question).unwrap(), text);
            assert_eq!(serde_json::from_str::<Question>(text).unwrap(), question);
        }
        let reply = Reply { instance: asker, answer: Answer::Finished { verdict: Verdict::Done } };
        let text = r#"{"instance":"a","answer":{"answer":"finished","verdict":{"verdict":"done"}}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        let newer = text.replace(r#""done"}"#, r#""done","more":0}"#).replace("}}}", r#"}},"more":0}"#);
        assert_eq!(serde_json::from_str::<Reply>(&newer).unwrap(), reply);
        for (verdict, text) in [
            (
                Verdict::Retry { attempts: 2, delay_milliseconds: 1500 },
                r#"{"verdict":"retry","attempts":2,"delay_milliseconds":1500}"#,
            ),
            (
                Verdict::Failed { attempts: 3, reason: "budget".to_owned() },
                r#"{"verdict":"failed","attempts":3,"reason":"budget"}"#,
            ),
            (
                Verdict::Held { attempts: 1, reason: "unknown".to_owned() },
                r#"{"verdict":"held","attempts":1,"reason":"unknown"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), text);
            assert_eq!(serde_json::from_str::<Verdict>(text).unwrap(), verdict);
        }
        assert_eq!(serde_json::from_str::<Verdict>(r#"{"verdict":"maybe","x":1}"#).unwrap(), Verdict::New);
    }
}
