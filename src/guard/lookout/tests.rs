use super::*;

fn pod(name: &str, service: &str) -> SeenPod {
    let address = Some("10.0.0.1".to_owned());
    SeenPod { name: name.to_owned(), service: service.to_owned(), address, ..SeenPod::default() }
}

fn stopping(name: &str, service: &str) -> SeenPod {
    SeenPod { is_stopping: true, ..pod(name, service) }
}

/// A lookout and a plan that know these pods of the service `hello`.
fn known(names: &[&str]) -> (Arc<Lookout>, Plan) {
    let (lookout, mut plan) =
        (Arc::new(Lookout::default()), Plan::new("a".to_owned(), None, (Instant::now(), SystemTime::now())));
    let pods: Vec<SeenPod> = names.iter().map(|name| pod(name, "hello")).collect();
    lookout.restart(Instant::now(), &pods);
    plan.restart(Instant::now(), pods);
    (lookout, plan)
}

fn of_hello(lookout: &Arc<Lookout>) -> Post {
    Post::new(lookout.clone(), Some("hello".to_owned()))
}

fn reported(pod: &str) -> Option<Arc<Report>> {
    let report = Arc::new(Report::default());
    let post = serde_json::from_str(&format!("{{\"pod\": \"{pod}\"}}")).unwrap();
    report.take(post, 100).unwrap();
    Some(report)
}

#[tokio::test(start_paused = true)]
async fn a_reported_pod_is_busy_until_its_request_ends() {
    let (lookout, plan) = known(&["p", "q"]);
    let began = Instant::now();
    let first = of_hello(&lookout).begin(reported("p"));
    tokio::time::advance(Duration::from_secs(5)).await;
    let stranger = of_hello(&lookout).begin(reported("no such pod"));
    assert_eq!(lookout.busy(&plan), BTreeMap::from([("p".to_owned(), began)]));
    assert_eq!(lookout.to_ask(Instant::now(), &plan), []);
    drop((first, stranger));
    assert!(lookout.busy(&plan).is_empty());
}

#[tokio::test]
async fn a_worker_cannot_mark_a_pod_of_another_service() {
    let (lookout, mut plan) = known(&["p"]);
    lookout.seen(Instant::now(), &pod("foreign", "other"));
    plan.seen(Instant::now(), pod("foreign", "other"));
    let _ticket = of_hello(&lookout).begin(reported("foreign"));
    assert!(lookout.busy(&plan).is_empty());
    // An address that names no known service may lead to any.
    let domain = Post::new(lookout.clone(), Some("thumbs-domain".to_owned()));
    let _other = domain.begin(reported("foreign"));
    assert!(lookout.busy(&plan).contains_key("foreign"));
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_report_are_measured() {
    let (lookout, plan) = known(&["p", "q"]);
    let first = Instant::now();
    let ticket = of_hello(&lookout).begin(None);
    tokio::time::advance(Duration::from_secs(3)).await;
    let asked: Vec<String> =
        lookout.to_ask(Instant::now(), &plan).into_iter().map(|(name, _)| name).collect();
    assert_eq!(asked, ["p", "q"]);
    lookout.measured(Instant::now(), &[("p".to_owned(), true), ("q".to_owned(), false)]);
    tokio::time::advance(Duration::from_secs(2)).await;
    lookout.measured(Instant::now(), &[("p".to_owned(), true)]);
    assert_eq!(lookout.busy(&plan), BTreeMap::from([("p".to_owned(), first)]));
    let later = Instant::now();
    lookout.measured(later, &[("q".to_owned(), true)]);
    let both = BTreeMap::from([("p".to_owned(), first), ("q".to_owned(), later)]);
    assert_eq!(lookout.busy(&plan), both, "nobody knows which pod works for somebody else");
    drop(ticket);
    assert!(lookout.busy(&plan).is_empty(), "nothing of ours runs any more");
    assert_eq!(lookout.to_ask(Instant::now(), &plan), []);
    let _next = of_hello(&lookout).begin(None);
    assert!(lookout.busy(&plan).is_empty(), "an old measurement tells nothing");
}

/// The end of one request must not take the mark from the pod of another one.
#[tokio::test]
async fn a_pod_stays_busy_until_its_queue_proxy_says_otherwise() {
    let (lookout, plan) = known(&["p", "q", "r"]);
    let post = of_hello(&lookout);
    let (first, _second) = (post.begin(None), post.begin(None));
    let all = |busy: [bool; 3]| {
        let answers = ["p", "q", "r"].iter().zip(busy).map(|(name, busy)| ((*name).to_owned(), busy));
        lookout.measured(Instant::now(), &answers.collect::<Vec<_>>());
        lookout.busy(&plan).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(all([true, true, false]), ["p", "q"]);
    drop(first);
    assert_eq!(lookout.busy(&plan).len(), 2);
    assert_eq!(all([false, true, false]), ["q"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_idle_after_two_answers_and_for_as_long_as_they_are_fresh() {
    let (lookout, _) = known(&["p"]);
    let answer = async |is_busy: bool| {
        lookout.measured(Instant::now(), &[("p".to_owned(), is_busy)]);
        let idle = lookout.idle(Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        idle.contains("p")
    };
    assert_eq!([answer(false).await, answer(false).await, answer(true).await], [false, true, false]);
    assert_eq!([answer(false).await, answer(false).await], [false, true]);
    tokio::time::advance(ANSWER_BELIEF).await;
    assert!(lookout.idle(Instant::now()).is_empty());
    assert!(!answer(false).await, "it may have been busy in between");
}

#[tokio::test(start_paused = true)]
async fn idle_pods_are_asked_for_while_marks_are_late() {
    let (lookout, mut plan) = known(&["a", "b", "c", "d", "e", "f"]);
    let _tickets = ["a", "b", "c", "d", "e"].map(|name| of_hello(&lookout).begin(reported(name)));
    tokio::time::advance(Duration::from_secs(9)).await;
    plan.look(Instant::now(), lookout.sight(Instant::now(), &plan));
    assert_eq!(lookout.to_ask(Instant::now(), &plan), []);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(lookout.to_ask(Instant::now(), &plan).len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_reports_has_time_for_it() {
    let (lookout, plan) = known(&["p", "q"]);
    let _reported = of_hello(&lookout).begin(reported("p"));
    let _young = of_hello(&lookout).begin(None);
    assert_eq!(lookout.to_ask(Instant::now(), &plan), []);
    tokio::time::advance(REPORT_TIME).await;
    assert_eq!(lookout.to_ask(Instant::now(), &plan).len(), 2);
}

#[tokio::test]
async fn a_request_in_a_stopping_pod_is_cut_by_it() {
    let (lookout, _) = known(&["p", "q"]);
    let post = of_hello(&lookout);
    let (first, second) = (post.begin(reported("p")), post.begin(reported("q")));
    lookout.seen(Instant::now(), &stopping("p", "hello"));
    assert_eq!((first.cut_by().as_deref(), second.cut_by()), (Some("p"), None));
    lookout.gone(Instant::now(), &pod("p", "hello"));
    assert_eq!(first.cut_by().as_deref(), Some("p"), "the end of the request may be noticed later");
}

#[tokio::test]
async fn a_pod_that_is_deleted_by_force_cuts_its_requests() {
    let (lookout, _) = known(&["p", "q"]);
    let post = of_hello(&lookout);
    let (first, second) = (post.begin(reported("p")), post.begin(None));
    lookout.measured(Instant::now(), &[("q".to_owned(), true)]);
    lookout.gone(Instant::now(), &pod("p", "hello"));
    lookout.gone(Instant::now(), &pod("q", "hello"));
    assert_eq!((first.cut_by().as_deref(), second.cut_by().as_deref()), (Some("p"), Some("q")));
    assert_eq!(post.shown().stopping, [], "both are gone");
}

#[tokio::test]
async fn a_long_name_is_known_by_its_host_name() {
    let long = format!("{}-00001-deployment-7d9f8b6c5-abcde", "x".repeat(40));
    let (lookout, _) = known(&[&long]);
    let ticket = of_hello(&lookout).begin(reported(&long[..63]));
    lookout.seen(Instant::now(), &stopping(&long, "hello"));
    assert_eq!(ticket.cut_by(), Some(long));
}

#[tokio::test]
async fn a_stopping_pod_without_a_report_explains_one_cut() {
    let (lookout, _) = known(&["p", "q"]);
    let post = of_hello(&lookout);
    let tickets = [post.begin(None), post.begin(None)];
    lookout.measured(Instant::now(), &[("p".to_owned(), true), ("q".to_owned(), true)]);
    lookout.seen(Instant::now(), &stopping("p", "hello"));
    assert_eq!(tickets[0].cut_by().as_deref(), Some("p"));
    assert_eq!(tickets[1].cut_by(), None);
    // The item in a stopping pod may also finish in time.
    lookout.seen(Instant::now(), &stopping("q", "hello"));
    lookout.measured(Instant::now(), &[("q".to_owned(), false)]);
    assert_eq!(tickets[1].cut_by(), None);
    // A request may reach a pod that is stopping already.
    lookout.measured(Instant::now(), &[("q".to_owned(), true)]);
    assert_eq!(tickets[1].cut_by().as_deref(), Some("q"));
}

#[tokio::test(start_paused = true)]
async fn after_the_start_of_a_scale_down_requests_wait_a_bounded_time() {
    let (lookout, _) = known(&["p", "q"]);
    let post = of_hello(&lookout);
    let waited = async || {
        let began = Instant::now();
        post.settle().await;
        began.elapsed()
    };
    assert_eq!(waited().await, Duration::ZERO);
    lookout.seen(Instant::now(), &stopping("p", "hello"));
    let again = Post::new(lookout.clone(), Some("hello".to_owned()));
    assert_eq!(again.shown().stopping.len(), 1);
    assert!((SETTLING..SETTLING * 2).contains(&waited().await));
    assert_eq!(waited().await, Duration::ZERO);
    lookout.seen(Instant::now(), &stopping("x", "other"));
    assert_eq!(waited().await, Duration::ZERO, "another service is not ours");
    // Pod after pod ends.
    let shrinks = async |count: u64| {
        for number in 0..count {
            lookout.seen(Instant::now(), &stopping(&format!("{count}-{number}"), "hello"));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ((), long) = tokio::join!(shrinks(3), waited());
    assert!((SETTLING + Duration::from_secs(2)..SETTLING_MAX).contains(&long), "{long:?}");
    let ((), longest) = tokio::join!(shrinks(20), waited());
    assert!((SETTLING_MAX..SETTLING_MAX + SETTLING).contains(&longest), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn ended_pods_are_forgotten() {
    let (lookout, _) = known(&["p"]);
    let post = of_hello(&lookout);
    lookout.seen(Instant::now(), &stopping("p", "hello"));
    lookout.gone(Instant::now(), &pod("p", "hello"));
    assert_eq!(post.shown().stopping, []);
    assert!(post.is_stopping("p"));
    tokio::time::advance(MEMORY).await;
    lookout.gone(Instant::now(), &pod("another", "other"));
    assert!(!post.is_stopping("p"));
    // A pod that vanished while the watch was interrupted is forgotten too.
    lookout.seen(Instant::now(), &stopping("q", "hello"));
    lookout.restart(Instant::now(), &[]);
    assert_eq!(post.shown().stopping, []);
}
