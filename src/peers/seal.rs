//! Proof that a question or an answer comes from a replica that knows the secret, without sending
//! the secret.
//!
//! Each message carries an HMAC-SHA256. A question's covers its purpose, time, nonce and body. An
//! answer's covers the question's nonce and code as well, so that it answers this question and no
//! other. Codes are compared in constant time. The key is derived from the secret, so that it is
//! used for nothing else.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header with the proof, in questions and in answers.
pub(super) const HEADER: &str = "longhaul-proof";

/// First word of the header. A header with another version proves nothing.
const VERSION: &str = "1";

/// The purposes of a code. The code of one purpose is never valid for another.
const KEY: &[u8] = b"longhaul peers: key 1";
const QUESTION: &[u8] = b"longhaul peers: question 1";
const ANSWER: &[u8] = b"longhaul peers: answer 1";

/// The key that all replicas share.
pub(super) struct Key(Hmac<Sha256>);

/// A message authentication code.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Code([u8; 32]);

/// The proof of a question.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// Milliseconds since 1970, by the asker's clock.
    pub time: u64,
    /// Unique among all questions.
    pub nonce: [u8; 16],
    code: Code,
}

impl Key {
    /// Derives the key. An empty secret, as a truncated file would leave, gives none.
    pub fn from_secret(secret: &str) -> Option<Self> {
        let secret = secret.trim_end();
        if secret.is_empty() {
            return None;
        }
        let derived = mac(secret.as_bytes()).map(|key| key.chain_update(KEY).finalize().into_bytes())?;
        mac(&derived).map(Key)
    }

    /// Makes the proof of a new question.
    pub fn question(&self, body: &[u8]) -> Proof {
        let nonce = *uuid::Uuid::new_v4().as_bytes();
        self.question_at(milliseconds(SystemTime::now()), nonce, body)
    }

    pub fn question_at(&self, time: u64, nonce: [u8; 16], body: &[u8]) -> Proof {
        let code = Code(self.of_question(time, &nonce, body).finalize().into_bytes().into());
        Proof { time, nonce, code }
    }

    pub fn proves_question(&self, proof: &Proof, body: &[u8]) -> bool {
        self.of_question(proof.time, &proof.nonce, body).verify_slice(&proof.code.0).is_ok()
    }

    /// Makes the proof of the answer to a question.
    pub fn answer(&self, question: &Proof, body: &[u8]) -> Code {
        Code(self.of_answer(question, body).finalize().into_bytes().into())
    }

    pub fn proves_answer(&self, question: &Proof, code: &Code, body: &[u8]) -> bool {
        self.of_answer(question, body).verify_slice(&code.0).is_ok()
    }

    // Every part but the last has a fixed length, so that two different inputs never give the same
    // bytes.
    fn of_question(&self, time: u64, nonce: &[u8; 16], body: &[u8]) -> Hmac<Sha256> {
        self.0
            .clone()
            .chain_update(QUESTION)
            .chain_update(time.to_be_bytes())
            .chain_update(nonce)
            .chain_update(body)
    }

    fn of_answer(&self, question: &Proof, body: &[u8]) -> Hmac<Sha256> {
        let mac = self.0.clone().chain_update(ANSWER).chain_update(question.nonce);
        mac.chain_update(question.code.0).chain_update(body)
    }
}

/// A key of any length is allowed, so this is always `Some`.
fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

impl Proof {
    /// Returns the difference between the asker's clock and `now`.
    pub fn distance(&self, now: SystemTime) -> Duration {
        Duration::from_millis(milliseconds(now).abs_diff(self.time))
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{VERSION} {} ", self.time)?;
        self.nonce.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        write!(formatter, " {}", Hex(&self.code))
    }
}

impl FromStr for Proof {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let mut next = || words.next().ok_or(());
        if next()? != VERSION {
            return Err(());
        }
        let time = next()?.parse().map_err(drop)?;
        let (nonce, code) = (bytes(next()?)?, Code(bytes(next()?)?));
        if words.next().is_some() { Err(()) } else { Ok(Proof { time, nonce, code }) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{VERSION} {}", Hex(self))
    }
}

impl FromStr for Code {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (version, code) = text.split_once(' ').ok_or(())?;
        if version == VERSION { Ok(Code(bytes(code)?)) } else { Err(()) }
    }
}

struct Hex<'a>(&'a Code);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn bytes<const LENGTH: usize>(hex: &str) -> Result<[u8; LENGTH], ()> {
    let hex = hex.as_bytes();
    let mut bytes = [0; LENGTH];
    if hex.len() != 2 * LENGTH || !hex.iter().all(u8::is_ascii_hexdigit) {
        return Err(());
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).map_err(drop)?;
        *byte = u8::from_str_radix(text, 16).map_err(drop)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        Key::from_secret(secret).unwrap()
    }

    #[test]
    fn a_code_is_for_one_secret_one_purpose_one_question_and_one_body() {
        let (ours, other) = (key("a secret of the replicas\n"), key("another one"));
        let question = ours.question_at(1000, [7; 16], b"body");
        assert!(key("a secret of the replicas").proves_question(&question, b"body"));
        assert!(!other.proves_question(&question, b"body"));
        assert!(!ours.proves_question(&question, b"bodz"));
        assert!(!ours.proves_question(&Proof { time: 1001, ..question.clone() }, b"body"));
        assert!(!ours.proves_question(&Proof { nonce: [8; 16], ..question.clone() }, b"body"));
        let answer = ours.answer(&question, b"answer");
        assert!(ours.proves_answer(&question, &answer, b"answer"));
        assert!(!ours.proves_answer(&question, &answer, b"answes"));
        assert!(!other.proves_answer(&question, &answer, b"answer"));
        let later = ours.question_at(1000, [8; 16], b"body");
        assert!(!ours.proves_answer(&later, &answer, b"answer"), "it answered another question");
        assert!(!ours.proves_answer(&question, &question.code, b"body"), "a question is not an answer");
        assert!(Key::from_secret("").is_none() && Key::from_secret("\n").is_none());
    }

    #[test]
    fn a_proof_is_read_as_it_was_written_and_nothing_else_is_read() {
        let question = key("secret").question(b"");
        assert!(question.to_string().parse::<Proof>().is_ok_and(|read| read == question));
        let answer = key("secret").answer(&question, b"");
        assert!(answer.to_string().parse::<Code>().is_ok_and(|read| read == answer));
        let text = question.to_string();
        let short = &text[..text.len() - 1];
        for wrong in ["", "1", "1 2 3 4", "2 1", short, &format!("{text} x"), &format!("x{text}")] {
            assert!(wrong.parse::<Proof>().is_err(), "{wrong}");
            assert!(wrong.parse::<Code>().is_err(), "{wrong}");
        }
        let odd = text.replace(text.split(' ').nth(2).unwrap(), "+1-1++++zz++++++++++++++++++++++");
        assert!(odd.parse::<Proof>().is_err());
    }

    #[test]
    fn neither_proof_shows_the_secret() {
        let question = key("hunter2").question(b"body");
        assert!(!question.to_string().contains("hunter2"));
    }
}
