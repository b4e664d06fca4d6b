//! Several replicas in one process, over real sockets.

use serde_json::json;
use tokio::time::{Instant, timeout};

use super::*;
use support::{Items, Replica, TIMEOUT, peers, peers_as, script};

mod support;

/// No test waits longer.
async fn claim(peers: &Peers, identity: &str) -> Claimed {
    let claiming = peers.claim("p", "delivery 1", identity);
    timeout(Duration::from_secs(30), claiming).await.expect("an answer")
}

#[tokio::test]
async fn the_one_that_knows_is_heard() {
    let (nothing, here) = (Items::none(), Items::none());
    here.set("ended", Status::Finished(json!({ "outcome": "done" })));
    here.set("settled there", Status::NotYours);
    let (first, second) = (Replica::start(&nothing), Replica::start(&here));
    let peers = peers(&[&first.address, &second.address]);
    assert_eq!(claim(&peers, "ended").await, Claimed::Finished(json!({ "outcome": "done" })));
    // Nobody told them to forget it: the same question gets the same answer.
    assert_eq!(claim(&peers, "ended").await, Claimed::Finished(json!({ "outcome": "done" })));
    assert_eq!(claim(&peers, "settled there").await, Claimed::NotYours);
    assert_eq!(claim(&peers, "never seen").await, Claimed::Unknown);
    assert_eq!(nothing.claims().len(), 4);
    let asked = here.claims().into_iter().map(|claim| (claim.pipeline, claim.delivery));
    assert!(asked.eq(vec![("p".to_owned(), "delivery 1".to_owned()); 4]));
}

#[tokio::test]
async fn what_runs_is_waited_for() {
    let items = Items::with("item", Status::Running);
    let replica = Replica::start(&items);
    let peers = peers(&[&replica.address]);
    let waiting = tokio::spawn(async move { claim(&peers, "item").await });
    items.asked_to_wait().await;
    assert!(!waiting.is_finished());
    items.set("item", Status::Finished(json!(7)));
    assert_eq!(waiting.await.unwrap(), Claimed::Finished(json!(7)));
    assert_eq!(items.claims().len(), 2, "asked, then held until the end");
}

#[tokio::test]
async fn a_peer_that_vanishes_while_it_is_waited_for_is_gone() {
    let items = Items::with("item", Status::Running);
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
    let finished = answer(r#"{"answer":"finished","verdict":1}"#);
    let (address, _) = script([Some(running.clone()), None, Some(running.clone()), None, Some(finished)]);
    assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Finished(json!(1)));
    // Another process at the same address knows nothing of what ran in the first.
    let (address, _) = script([Some(running.clone()), Some(running.replace("\"a\"", "\"b\""))]);
    assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Gone);
}

/// A peer that answers `running` at once, whatever it is asked to wait, is not asked as fast as it can.
#[tokio::test]
async fn a_peer_that_does_not_hold_questions_is_not_flooded() {
    let running = r#"{"instance":"a","answer":{"answer":"running"}}"#.to_owned();
    let (address, asked) = script(std::iter::repeat(Some(running)));
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
    // The slow one's first answer, then telling it that nothing is needed from it.
    let took = began.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT * 10, "{took:?}");
    items.set("item", Status::Finished(json!(1)));
    assert_eq!(claim(&peers, "item").await, Claimed::Finished(json!(1)));
    assert!(peers.in_flight("p", "t", 0).await.is_empty());
}

#[tokio::test]
async fn what_two_have_is_taken_from_one() {
    let (running, ended) =
        (Items::with("twin", Status::Running), Items::with("twin", Status::Finished(json!(1))));
    let (first, second) = (Replica::start(&running), Replica::start(&ended));
    let peers = peers(&[&first.address, &second.address]);
    assert_eq!(claim(&peers, "twin").await, Claimed::Finished(json!(1)));
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
    let (own, other) = (Items::with("item", Status::Finished(json!("own"))), Items::none());
    let instance = Instance::random();
    let (this, that) = (Replica::start_as(instance.clone(), &own), Replica::start(&other));
    own.set_offsets(vec![1]);
    other.set_offsets(vec![5, 3]);
    let peers = peers_as(instance, &[&this.address, &that.address]);
    assert_eq!(claim(&peers, "item").await, Claimed::Unknown);
    assert_eq!(own.claims(), []);
    assert!(peers.in_flight("p", "t", 0).await.into_iter().eq([3, 5]));
}

#[tokio::test]
async fn a_stranger_learns_and_changes_nothing() {
    let items = Items::with("item", Status::Finished(json!(1)));
    let replica = Replica::start(&items);
    let address = format!("{}/api/v1/peers/question", replica.address);
    let client = reqwest::Client::builder().tls_certs_only(Vec::new()).build().unwrap();
    let question = r#"{"question":"claim","pipeline":"p","asker":"a","delivery":"d","identity":"item","wait_seconds":0}"#;
    for wrong in [None, Some("Bearer secre"), Some("Bearer secret2"), Some("Bearer "), Some("Basic secret")] {
        let mut request = client.post(&address).body(question);
        if let Some(wrong) = wrong {
            request = request.header("authorization", wrong);
        }
        assert_eq!(request.send().await.unwrap().status(), 401, "{wrong:?}");
    }
    assert_eq!(items.claims(), []);

    let known = || client.post(&address).header("authorization", "Bearer secret");
    assert_eq!(known().body("{}").send().await.unwrap().status(), 400);
    assert_eq!(known().body(vec![b' '; 20_000]).send().await.unwrap().status(), 413);
    assert_eq!(known().body(question).send().await.unwrap().status(), 200);
    assert_eq!(items.claims().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_answer() {
    let item = r#"{"instance":"a","answer":{"answer":"finished","verdict":"#;
    let endless = format!("{item}\"{}\"}}}}", "x".repeat(9 << 20));
    for nonsense in ["", "no JSON", r#"{"instance":"a","answer":{"answer":"maybe"}}"#, &endless] {
        let (address, _) = script([Some(nonsense.to_owned()), None]);
        assert_eq!(claim(&peers(&[&address]), "item").await, Claimed::Unknown, "{nonsense:.40}");
    }
    // A token that cannot be read asks nobody.
    let (address, asked) = script([None]);
    let discovery = Discovery::Fixed(vec![address]);
    let unreadable: Token = Arc::new(|| Err("no such file".to_owned()));
    let (instance, proof) = (Instance::random(), Duration::ZERO);
    let settings = Settings { instance, discovery, token: unreadable, timeout: TIMEOUT, proof };
    assert_eq!(claim(&Peers::new(settings).unwrap(), "item").await, Claimed::Unknown);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 0);
}
