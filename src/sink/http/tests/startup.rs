//! Checks which settings are refused before the first request, and in which words.

use std::fs;

use super::*;

fn error(change: impl FnOnce(&mut Settings)) -> String {
    let mut settings = settings("http://127.0.0.1:1/");
    change(&mut settings);
    Client::new(settings).unwrap_err().to_string()
}

#[test]
fn an_address_is_needed() {
    let missing = error(|settings| settings.sink.url = None);
    assert!(missing.contains("sink.url") && missing.contains("K_SINK"), "{missing}");
    for (url, words) in [
        ("broker.default.svc", "relative URL"),
        ("ftp://x/", "only http://"),
        ("http://", "empty host"),
        ("http://user:hunter2@x/", "into headers"),
    ] {
        let text = error(|settings| settings.sink.url = Some(url.to_owned()));
        assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
    }
    assert!(error(|settings| settings.sink.host = Some("a\nb".to_owned())).starts_with("host: "));
}

#[test]
fn the_sink_binding_stands_in() {
    let variables = |name: &str| match name {
        "K_SINK" => Some("http://broker.default.svc/path".to_owned()),
        "K_CA_CERTS" => Some(String::new()),
        "NAMESPACE" => Some("jobs".to_owned()),
        _ => None,
    };
    let environment = Environment::from_variables(variables);
    assert_eq!((environment.k_ca_certs.as_deref(), environment.namespace.as_deref()), (None, Some("jobs")));
    let mut settings = settings("");
    settings.sink.url = None;
    settings.environment = environment;
    assert_eq!(Client::new(settings).unwrap().destination(), "http://broker.default.svc/path");
}

#[test]
fn dangerous_headers_are_refused() {
    let with = |name: &str, value: &str| {
        let header = (name.to_owned(), Arc::new(value.to_owned()) as Arc<dyn HeaderSource>);
        error(|settings| settings.headers = vec![header])
    };
    for name in
        ["Expect", "Idempotency-Key", "X-Idempotency-Key", "K-Network-Probe", "Host", "Content-Type", "TE"]
    {
        assert!(with(name, "x").starts_with(&format!("header {name:?}: ")), "{name}");
    }
    assert!(with("ce-id", "x").contains("event.extensions"));
    assert!(with("User-Agent", "kube-probe/1.30").contains("without running the worker"));
    assert!(with("bad name", "x").contains("invalid"));
    let text = with("X-Secret", "hunter2\u{7f}");
    assert!(text.contains("can't be sent") && !text.contains("hunter2"), "{text}");
}

#[test]
fn certificates_are_looked_at_only_where_they_matter() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.pem");
    fs::write(&junk, "no certificate").unwrap();
    let https = |change: fn(&mut Settings, PathBuf), path: PathBuf| {
        error(|settings| {
            settings.sink.url = Some("https://127.0.0.1:1/".to_owned());
            change(settings, path);
        })
    };
    let ca = |settings: &mut Settings, path| settings.sink.tls.ca_file = Some(path);
    assert!(https(ca, junk.clone()).contains("junk.pem holds no usable certificate"));
    assert!(https(ca, PathBuf::from("/nonexistent/ca.pem")).starts_with("/nonexistent/ca.pem: "));
    let variable = |settings: &mut Settings, _| settings.environment.k_ca_certs = Some("junk".to_owned());
    assert!(https(variable, junk.clone()).starts_with("K_CA_CERTS"));
    let half = |settings: &mut Settings, path| settings.sink.tls.cert_file = Some(path);
    assert!(https(half, junk.clone()).contains("go together"));
    let both = |settings: &mut Settings, path: PathBuf| {
        settings.sink.tls.cert_file = Some(path.clone());
        settings.sink.tls.key_file = Some(path);
    };
    assert!(https(both, junk.clone()).contains("holds no usable certificate"));

    let mut plain = settings("http://127.0.0.1:1/");
    plain.sink.tls.ca_file = Some(junk);
    assert!(Client::new(plain).is_ok(), "http:// never needs a certificate");
}
