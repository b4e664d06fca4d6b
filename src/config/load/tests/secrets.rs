use super::*;

/// Makes every kind of mistake beside a password that comes from the file, a variable or another
/// file.
#[test]
fn a_secret_is_in_no_output() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2:with/slash@mq").unwrap();
    let secret_file = format!("${{file:{}}}", file.path().display());
    for secret in ["hunter2", "${env:TOKEN}", &secret_file] {
        for text in [
            "pipelines:\n- source: { rabbitmq: { url: 'SECRET', quue: a } }",
            "pipelines:\n- source: { rabbitmq: { url: 'amqp://u:SECRET@[::1]', queue: 5 } }",
            "pipelines:\n- source: { rabbitmq: { url: ['SECRET'], queue: 5 } }",
            "pipelines:\n- source: { rabbitmq: { url: { a: 'SECRET' }, queue: 5 } }",
            "pipelines:\n- source: { rabbitmq: { ulr: 'amqp://SECRET', queue: 5 } }",
            "pipelines:\n- sink: { url: 'http://u:SECRET@host' }",
            "pipelines:\n- sink: { timeout: 'SECRET' }\n  max_in_flight: 'SECRETx'\n"
                .replace("SECRET", "${env:TOKEN}")
                .as_str(),
            "pipelines:\n- { name: \"${env:TOKEN}!\", sink: { host: 'a ${env:TOKEN}' } }",
            "pipelines:\n- sink: { headers: { Authorization: \"SECRET\\u0001\", 'b c': SECRET, Expect: SECRET } }",
            "pipelines:\n- source: { kafka: { options: { sasl.password: [SECRET], group.id: SECRET } } }",
            "admin: { token: 'SECRET', token: 'SECRET' }",
            "admin: { token:\"SECRET\" }",
            "pipelines:\n- sink: { headers: { Authorization:\"Bearer SECRET\" } }",
            "admin: { token: 'SECRET with spaces', listen: x }",
            "admin:\n  token: |\n    SECRET\n    SECRET\n  listen: x",
            "admin: { token: \"SECRET",
            // A secret in a place that takes no secrets.
            "pipelines:\n- sink: { headers: [\"Authorization: SECRET\"] }",
            "pipelines:\n- sink: { headers: [{ Authorization: SECRET }] }",
            "pipelines:\n- sink: { headers: \"Authorization: SECRET\" }",
            "pipelines:\n- sink: { headers: { Authorization: SECRET, Authorization: SECRET } }",
            "pipelines:\n- source: { kafka: { sasl.password: SECRET, topics: 5 } }",
            "pipelines:\n- source: { kafka: { options: [\"sasl.password=SECRET\"], topics: 5 } }",
            "pipelines:\n- { event: { extensions: { sasl.password: SECRET } }, max_in_flight: x }",
            "pipelines:\n- source: { rabbitmq: { queue: q, declare: { arguments: { password: SECRET }, bind: 5 } } }",
            "pipelines:\n- source: { kafka: { bootstrap_servers: ['u:SECRET@kafka'], topics: 5 } }",
            "pipelines:\n- source: { rabbitmq: { queue: 'amqp://u:SECRET@mq', url: 5 } }",
            "pipelines:\n- { name: 'amqp://u:SECRET@mq' }",
            "pipelines:\n- { max_in_flight: 'amqp://u:SECRET@mq' }",
            "pipelines:\n- sink: { timeout: 'Bearer SECRET', mode: 'Bearer SECRET', host: 'u:SECRET@h' }",
            "admin: { listen: 'http://u:SECRET@host:9090' }",
            "admin: { listen: { token: SECRET } }",
            "admin: { password: SECRET, listen: x }",
            "admin: [SECRET]",
            "admin: SECRET",
            "peers: { addresses: ['http://u:SECRET@host'], timeout: x }",
            "peers: { addresses: { token: SECRET } }",
            "pipelines:\n- { dead_letter: { http: { url: 'ftp://u:SECRET@h', timeout: x } } }",
            "admin: { token: 'SECRET${' }",
            "admin: { token: 'SECRET${vault:SECRET}' }",
        ] {
            let printed = mistakes(&text.replace("SECRET", secret));
            assert_ne!(printed, "none", "{text}");
            assert!(!printed.contains("hunter2"), "{text} shows the secret:\n{printed}");
        }
    }
    let text =
        rabbitmq("  sink: { url: http://s, headers: { Authorization: hunter2 } }\nadmin: { token: hunter2 }");
    let Loaded { config, warnings } = loaded(&text);
    assert!(!format!("{config:?}{warnings}").contains("hunter2"));
}

#[test]
fn a_secret_of_digits_is_text_and_an_empty_one_is_refused() {
    let digits = |_: &str| Some("0123".to_owned());
    let text = rabbitmq("  sink: { url: http://s }\nadmin: { token: \"${env:T}\" }").replace('"', "'");
    for text in [text.replace("'${env:T}'", "!").replace(" { token: ! }", "\n  token: ${env:T}"), text] {
        let config = load("f", &text, ALL, &digits).unwrap().config;
        assert_eq!(config.admin.token.unwrap().resolve_with(&digits).unwrap(), "0123");
    }
    for (keys, expected) in [
        ("token:", "admin.token: expected text, got nothing"),
        ("token: ''", "admin.token: the token is empty"),
        ("token: 0123", "admin.token: expected text, got a number\n"),
    ] {
        let printed = mistakes(&rabbitmq(&format!("  sink: {{ url: http://s }}\nadmin:\n  {keys}")));
        assert!(printed.contains(expected) && !printed.contains("123"), "{printed}");
    }
    let printed = mistakes(&rabbitmq("  sink:\n    url: http://s\n    headers:\n      Authorization:"));
    assert!(printed.contains("headers.Authorization: expected text, got nothing"), "{printed}");
    let timeout = rabbitmq("  sink:\n    url: http://s\n    timeout: ${env:T}");
    let printed = load("f", &timeout, ALL, &digits).unwrap_err().to_string();
    assert!(printed.contains("`${env:T}` is not a duration") && !printed.contains("123"), "{printed}");
    loaded(&rabbitmq("  sink: { url: http://s, host: null }\nadmin: { token: ~ }"));
}

#[test]
fn what_a_secret_names_must_be_there() {
    let text = rabbitmq("  sink: { url: http://s }\nadmin: { token: \"${env:NOPE}\" }")
        .replace("amqp://mq", "'amqp://${file:/no/such}'");
    assert_eq!(
        mistakes(&text),
        "f.yaml:3:30: pipelines[0].source.rabbitmq.url: the file /no/such cannot be read: No such file or directory (os error 2)
  3 |   source: { rabbitmq: { url: …, queue: q } }
    |                              ^
  help: create /no/such, or correct the path
f.yaml:6:17: admin.token: the environment variable NOPE is not set
  6 | admin: { token: …}
    |                 ^
  help: set NOPE, or remove ${env:NOPE}"
    );
}
