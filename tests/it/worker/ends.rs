//! Ends items in every way: exit codes, output, limits. No process or file may stay.

use super::shim::{Answer, Note, Shim, children, runs};

#[tokio::test]
async fn each_exit_code_has_its_answer() {
    let shim = Shim::sh(&["--exit", "7=reject,8=retry"], "read code; echo words >&2; exit $code").await;
    for (code, status, outcome) in [
        ("0", 200, "done"),
        ("65", 422, "reject"),
        ("75", 503, "retry"),
        ("99", 503, "interrupted"),
        ("1", 500, "retry"),
        ("127", 500, "retry"),
        ("7", 422, "reject"),
        ("8", 503, "retry"),
    ] {
        let answer = shim.item(code).await;
        assert_eq!((answer.status, answer.outcome()), (status, outcome), "exit code {code}");
        if code == "0" {
            assert_eq!((answer.reason(), answer.body.as_str()), ("", ""));
        } else {
            assert_eq!(answer.reason(), format!("exit code {code}: words"));
            assert_eq!(answer.body, "words\n");
        }
    }
}

#[tokio::test]
async fn a_signal_is_a_failure_with_its_name_and_the_last_kibibyte() {
    let shim =
        Shim::sh(&[], "head -c 5000 /dev/zero | tr '\\0' x >&2; echo >&2; echo the end >&2; kill -SEGV $$")
            .await;
    let answer = shim.item("").await;
    assert_eq!((answer.status, answer.outcome()), (500, "retry"));
    assert!(answer.reason().starts_with("killed by signal 11 (SIGSEGV): the end"), "{}", answer.reason());
    assert_eq!(answer.body.len(), 1024);
    assert!(answer.body.ends_with("x\nthe end\n"));
}

#[tokio::test]
async fn a_second_item_is_not_started_and_probes_are_answered() {
    let (started, go) = (Note::new(), Note::new());
    let script =
        format!("echo $CE_ID >> {}; cat; while [ ! -s {} ]; do sleep 0.05; done", started.path(), go.path());
    let shim = Shim::sh(&[], &script).await;
    let first = shim.begin("x");
    started.filled().await;
    let second = shim.item("y").await;
    assert_eq!((second.status, second.body.as_str()), (503, "pending request queue full"));
    // An outcome header would mean that the command ran.
    assert_eq!(second.outcome(), "");
    for path in ["healthz", "readyz", "livez", ""] {
        let answer = crate::support::get(shim.url() + path).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let probe = crate::support::http().get(shim.url()).header("k-network-probe", "queue");
    let probe = probe.header("k-network-hash", "1234").send().await.unwrap();
    assert_eq!(probe.headers()["k-network-hash"], "1234");
    assert_eq!(probe.text().await.unwrap(), "queue");
    assert_eq!(started.text(), "item 1");
    std::fs::write(go.path(), "go").unwrap();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(shim.item("z").await.status, 200);
}

#[tokio::test]
async fn the_last_json_line_or_the_file_is_the_reply() {
    let shim = Shim::sh(&[], r#"echo '{"n":1}'; echo '{"n": 2}'; echo bye"#).await;
    let answer = shim.item("").await;
    assert_eq!((answer.body.as_str(), answer.header("content-type")), (r#"{"n": 2}"#, "application/json"));
    shim.logged("[item 1] bye\n").await;
    shim.logged("\n{\"n\": 2}\n").await;

    let shim = Shim::sh(&["--reply", "out.json"], r#"cat > out.json; echo '{"n":1}'"#).await;
    assert_eq!(shim.item("[1]").await.body, "[1]");
    let answer = shim.item("[1").await;
    assert_eq!((answer.status, answer.outcome()), (500, "retry"));
    assert!(answer.reason().starts_with("the reply out.json is not JSON"), "{}", answer.reason());
}

#[tokio::test]
async fn no_process_and_no_file_is_left() {
    let pids = Note::new();
    // One grandchild stays in the session, one leaves it, one is a zombie until the shim reaps it.
    let script = format!(
        "sleep 1000 & echo $! >> {0}; setsid sh -c 'echo $$ >> {0}; sleep 1000 & echo $! >> {0}; wait' & (sleep 0 &); \
         while [ $(wc -l < {0}) -lt 3 ]; do sleep 0.02; done; mkdir -p a/b; touch a/b/c; mktemp; exit 0",
        pids.path()
    );
    let shim = Shim::sh(&[], &script).await;
    for _ in 0..3 {
        std::fs::write(pids.path(), "").unwrap();
        assert_eq!(shim.item("").await.status, 200);
        let pids = pids.text();
        assert_eq!(pids.lines().count(), 3, "{pids}");
        assert!(!pids.lines().any(runs), "{pids}");
        assert_eq!(children(shim.pid()), 0);
        assert_eq!(shim.left_files(), [""; 0]);
    }
}

#[tokio::test]
async fn the_command_dies_with_the_shim() {
    let pid = Note::new();
    let mut shim = Shim::sh(&[], &format!("echo $$ > {}; exec sleep 1000", pid.path())).await;
    let request = shim.post("");
    let item = tokio::spawn(async move { request.send().await.is_err() });
    let pid = pid.filled().await;
    shim.kill().await;
    assert!(item.await.unwrap());
    crate::support::eventually("the command has ended", || {
        let has_ended = !runs(&pid);
        async move { has_ended }
    })
    .await;
}

#[tokio::test]
async fn much_output_does_not_grow_the_shim() {
    // These are lines, and one line without an end.
    let script =
        "yes 0123456789012345678901234567890123456789 | head -c 60000000; head -c 50000000 /dev/zero";
    let shim = Shim::sh(&[], script).await;
    assert_eq!(shim.item("").await.status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid())).unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    // A system without /proc is skipped. The kernel does not record the peak of anonymous pages, so
    // the peak of all pages has a bound with room for the larger program without optimisation.
    let (Some(now), Some(peak)) = (kibibytes("RssAnon:"), kibibytes("VmHWM:")) else { return };
    eprintln!("RssAnon {now} KiB, VmHWM {peak} KiB, VmRSS {:?} KiB", kibibytes("VmRSS:"));
    assert!(now <= 8 * 1024, "{now} KiB");
    assert!(peak <= 24 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn limits_name_themselves() {
    let shim = Shim::sh(&["--timeout", "200ms"], "sleep 1000 & wait").await;
    fails(&shim.item("").await, "not finished within 200ms (--timeout)");
    let shim = Shim::sh(&["--cpu-time", "200ms"], "while :; do :; done").await;
    fails(&shim.item("").await, "200ms are allowed (--cpu-time)");
    let shim =
        Shim::sh(&["--memory", "20MiB"], "head -c 60000000 /dev/zero | tail -c 50000000 | sleep 1000").await;
    fails(&shim.item("").await, "20971520 are allowed (--memory)");
}

fn fails(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.outcome()), (500, "retry"));
    assert!(answer.reason().contains(reason), "{}", answer.reason());
}

#[tokio::test]
async fn a_command_that_is_missing_is_told_at_the_start() {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_longhaul-worker"))
        .args(["--port", "0", "--", "no-such-program"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("error: `no-such-program` is not a program\n  help: "), "{err}");
}
