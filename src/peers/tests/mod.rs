//! Several replicas in one process, over real sockets.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use support::{Items, PATIENCE, Replica, SECRET, Scripted, TIMEOUT, peers, peers_as, script, settings};

mod strangers;
mod support;

fn failed(attempts: u32) -> Verdict {
    Verdict::Failed { attempts, reason: "attempts".to_owned() }
}

/// Asks about an item, with a limit on the time of the test.
async fn claim(peers: &Peers, identity: &str) -> Claimed {
    let claiming = peers.claim("p", "delivery 1", identity);
    timeout(Duration::from_secs(30), claiming).await.expect("an answer")
}

#[tokio::test]
async fn the_one_that_knows_is_heard() {
    let (nothing, here) = (Items::none(), Items::none());
    here.set("ended", ItemStatus::Finished(Verdict::Done));
    here.set("settled there", ItemStatus::NotYours);
    let (first, second) = (Replica::start(&nothing), Replica::start(&here));
    let peers = peers(&[&first.address, &second.address]);
    assert_eq!(claim(&peers, "ended").await, Claimed::Finished(Verdict::Done));
    // No release came, so the same question gets the same answer.
    assert_eq!(claim(&peers, "ended").await, Claimed::Finished(Verdict::Done));
    assert_eq!(claim(&peers, "settled there").await, Claimed::NotYours);
    assert_eq!(claim(&peers, "never seen").await, Claimed::Unknown);
    assert_eq!(nothing.claims().len(), 4);
    let asked = here.claims().into_iter().map(|claim| (claim.pipeline, claim.delivery));
    assert!(asked.eq(vec![("p".to_owned(), "delivery 1".to_owned()); 4]));
}

#[tokio::test]
async fn what_runs_is_waited_for() {
    let items = Items::with("item", ItemStatus::Running);
    let replica = Replica::start(&items);
    let peers = peers(&[&replica.address]);
    let waiting = tokio::spawn(async move { claim(&peers, "item").await });
    items.asked_to_wait().await;
    assert!(!waiting.is_finished());
    items.set("item", ItemStatus::Finished(failed(7)));
    assert_eq!(waiting.await.unwrap(), Claimed::Finished(failed(7)));
    assert_eq!(items.claims().len(), 2, "asked, then held until the end");
}

#[tokio::test]
async fn a_peer_that_vanishes_while_it_is_waited_for_is_gone() {
    let items = Items::with("item", ItemStatus::Running);
    let replica = Replica::start(&items);
    let peers = peers(&[&replica.address]);
    let waiting = tokio::spawn(async move { claim(&peers, "item").await });
    items.asked_to_wait().await;
    drop(replica);
    assert_eq!(waiting.await.unwrap(), Claimed::Gone);
}

#[tokio::test]
async fn one_lost_connection_is_not_the_end_of_a_peer() {
    let answer = |answer: &str| format!(r#"{{"instance":"a","answer":{answer}}}"#);
    let running = answer(r#"{"answer":"running"}"#);
    let finished =
        answer(r#"{"answer":"finished","verdict":{"verdict":"failed","attempts":1,"reason":"attempts"}}"#);
    let says = |text: &String| Scripted::Proven(text.clone());
    let (address, _) =
        script([says(&running), Scripted::Nothing, says(&running), Scripted::Nothing, says(&finished)]);
    assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Finished(failed(1)));
    // A restarted process at the same address does not know the items of the process before it.
    let (address, _) = script([says(&running), says(&running.replace("\"a\"", "\"b\""))]);
    assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Gone);
}

/// A peer may answer `running` at once and ignore the requested wait. It is still asked at a
/// bounded rate.
#[tokio::test]
async fn a_peer_that_does_not_hold_questions_is_not_flooded() {
    let running = r#"{"instance":"a","answer":{"answer":"running"}}"#.to_owned();
    let (address, asked) = script(std::iter::repeat(Scripted::Proven(running)));
    let peers = peers(&[&address]);
    let began = Instant::now();
    let claiming = timeout(Duration::from_secs(1), peers.claim("p", "d", "item")).await;
    assert!(claiming.is_err(), "it still runs");
    let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=5).contains(&asked), "{asked} questions in {:?}", began.elapsed());
}

#[tokio::test]
async fn no_answer_means_that_it_does_not_run_there() {
    let items = Items::none();
    let replica = Replica::start(&items);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (dead, slow) = (format!("http://{closed}"), format!("http://{}", silent.local_addr().unwrap()));
    let peers = peers(&[&dead, &slow, &replica.address]);
    let began = Instant::now();
    assert_eq!(claim(&peers, "item").await, Claimed::Unknown);
    // The time includes the first answer of the slow peer and the release.
    let took = began.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT * 10, "{took:?}");
    items.set("item", ItemStatus::Finished(failed(1)));
    assert_eq!(claim(&peers, "item").await, Claimed::Finished(failed(1)));
    assert!(peers.in_flight("p", "t", 0, 7).await.is_empty());
}

#[tokio::test]
async fn what_two_have_is_taken_from_one() {
    let (running, ended) =
        (Items::with("twin", ItemStatus::Running), Items::with("twin", ItemStatus::Finished(failed(1))));
    let (first, second) = (Replica::start(&running), Replica::start(&ended));
    let peers = peers(&[&first.address, &second.address]);
    assert_eq!(claim(&peers, "twin").await, Claimed::Finished(failed(1)));
    assert_eq!((running.released(), ended.released()), (vec!["delivery 1".to_owned()], vec![]));
    peers.release("p", "delivery 2").await;
    assert_eq!((running.released().len(), ended.released()), (2, vec!["delivery 2".to_owned()]));
}

#[tokio::test]
async fn a_drain_leaves_its_work_only_to_a_replica_that_stays() {
    let (own, other) = (Items::none(), Items::none());
    let instance = Instance::random();
    let (this, that) = (Replica::start_as(instance.clone(), &own), Replica::start(&other));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peers = peers_as(instance, &[&this.address, &that.address, &format!("http://{gone}")]);
    assert!(peers.somebody_stays("p").await);
    other.drain();
    assert!(
        !peers.somebody_stays("p").await,
        "the other drains, the third does not answer, and we do not count"
    );
}

#[tokio::test]
async fn this_replica_is_not_its_own_peer() {
    let (own, other) = (Items::with("item", ItemStatus::Finished(Verdict::Done)), Items::none());
    let instance = Instance::random();
    let (this, that) = (Replica::start_as(instance.clone(), &own), Replica::start(&other));
    own.set_offsets(vec![1]);
    other.set_offsets(vec![5, 3]);
    let peers = peers_as(instance, &[&this.address, &that.address]);
    assert_eq!(claim(&peers, "item").await, Claimed::Unknown);
    assert_eq!(own.claims(), []);
    assert!(peers.in_flight("p", "t", 0, 7).await.into_iter().eq([3, 5]));
}

/// A peer that answers `running` for ever must not hide the item for ever.
#[tokio::test]
async fn running_is_believed_no_longer_than_a_request_can_run() {
    let items = Items::with("item", ItemStatus::Running);
    let replica = Replica::start(&items);
    let began = Instant::now();
    assert_eq!(claim(&peers(&[&replica.address]), "item").await, Claimed::Gone);
    assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
    assert_eq!(items.released(), ["delivery 1"]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_an_answer() {
    let item = r#"{"instance":"a","answer":{"answer":"finished","verdict":{"verdict":"done","x":"#;
    let long = format!("{item}\"{}\"}}}}}}", "x".repeat(64 * 1024));
    let deep = format!("{item}{}", "[".repeat(60_000));
    let own_error = "{}";
    for nonsense in
        ["", "not JSON", r#"{"instance":"a","answer":{"answer":"maybe"}}"#, &long, &deep, own_error]
    {
        let (address, _) = script([Scripted::Proven(nonsense.to_owned()), Scripted::Nothing]);
        assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Unknown, "{nonsense:.40}");
    }
    // A replica whose secret cannot be read asks nobody.
    let (address, asked) = script([Scripted::Nothing]);
    let unreadable: Token = Arc::new(|| Err("no such file".to_owned()));
    let settings = settings(Instance::random(), Discovery::Fixed(vec![address]), unreadable);
    assert_eq!(claim(&Peers::new(settings).unwrap(), "item").await, Claimed::Unknown);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
