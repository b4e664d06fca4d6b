use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Config, Features, load};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/migrate");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

fn convert(name: &str) -> Migration {
    let file = fixtures().into_iter().find(|file| file.ends_with(name)).unwrap();
    migrate(name, &fs::read_to_string(file).unwrap()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Loads every configuration of a result, with all variables and files readable.
fn configurations(migration: &Migration) -> BTreeMap<String, Config> {
    let folder = tempfile::tempdir().unwrap();
    let mut configs = BTreeMap::new();
    for file in migration.files.iter().filter(|file| file.path.ends_with("longhaul.yaml")) {
        let mut text = String::new();
        for (index, part) in file.text.split("${file:").enumerate() {
            let Some((path, rest)) = part.split_once('}').filter(|_| index > 0) else {
                text += part;
                continue;
            };
            let local = folder.path().join(index.to_string());
            let content = if path.ends_with("rabbitmq-url") {
                "amqp://u:p@mq:5672"
            } else if path.ends_with("port") {
                "5672"
            } else {
                "abcdefghijklmnopqrst"
            };
            fs::write(&local, content).unwrap();
            text += &format!("${{file:{}}}{rest}", local.display());
        }
        let env = |name: &str| Some(if name == "K_SINK" { "http://sink" } else { "value" }.to_owned());
        let features = Features { kafka: true, kafka_tls: true, guard: true };
        let loaded = load(&file.path, &text, features, &env)
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{}", file.text));
        assert!(loaded.warnings.list.is_empty(), "{}\n{}", loaded.warnings, file.text);
        configs.insert(file.path.clone(), loaded.config);
    }
    configs
}

/// The lines about a path.
fn lines<'a>(migration: &'a Migration, path: &str) -> Vec<&'a Line> {
    migration.report.iter().filter(|line| line.path == path).collect()
}

#[test]
fn every_result_passes_the_check() {
    for file in fixtures() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let migration = convert(&name);
        assert!(!configurations(&migration).is_empty(), "{name}");
        let places: Vec<&str> = migration.files.iter().map(|file| file.path.as_str()).collect();
        assert!(places.iter().any(|path| path.ends_with("kustomization.yaml")), "{places:?}");
    }
}

/// Every scalar of every document has a line: its own, or that of a value around it.
#[test]
fn nothing_is_dropped_silently() {
    for file in fixtures() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let migration = convert(&name);
        for (number, line) in text.lines().enumerate() {
            let is_structure = line.trim_start().starts_with(['#', '-', '}', ']'])
                || line.trim().is_empty()
                || line.trim_end().ends_with(':');
            let is_head = line.starts_with("apiVersion:") || line.starts_with("kind:");
            let is_known = migration.report.iter().any(|entry| entry.line == number + 1);
            let is_inside = enclosing(&text, number).iter().any(|outer| {
                migration.report.iter().any(|entry| entry.line == outer + 1 && !entry.path.is_empty())
            });
            let is_whole = migration.report.iter().any(|entry| {
                entry.path.is_empty()
                    && (entry.text.contains("is not converted")
                        || entry.text.starts_with("the Secrets that it names"))
            });
            assert!(
                is_structure || is_head || is_known || is_inside || is_whole,
                "{name}:{}: {line}",
                number + 1
            );
        }
    }
}

/// The lines that enclose a line by their indentation.
fn enclosing(text: &str, number: usize) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut least = indent(lines[number]);
    let mut found = Vec::new();
    for index in (0..number).rev() {
        if !lines[index].trim().is_empty() && indent(lines[index]) < least {
            least = indent(lines[index]);
            found.push(index);
        }
    }
    found
}

#[test]
fn a_rabbitmq_source_of_the_operators_cluster() {
    let migration = convert("rabbitmq-cluster.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    let pipeline = &config.pipelines[0];
    assert_eq!(
        (pipeline.name.as_str(), pipeline.max_in_flight, pipeline.retry.attempts),
        ("transcode", 12, 6)
    );
    let text = &migration.files[0].text;
    assert!(text.contains("@rabbit.brokers.svc:5672/video\""), "{text}");
    assert!(text.contains("url: \"http://transcoder.workers.svc.cluster.local\""), "{text}");
    assert!(
        text.contains("exchange: \"films.in\"")
            && text
                .contains("source: \"/apis/v1/namespaces/films/rabbitmqsources/Transcode#films.transcode\""),
        "{text}"
    );
    let kustomization = &migration.files[1].text;
    assert!(kustomization.contains("namespace: films\nnamePrefix: transcode-\n"), "{kustomization}");
    assert!(
        kustomization.contains("name: \"rabbit-default-user\", items: [{ key: \"password\""),
        "{kustomization}"
    );
    assert_eq!(config.pipelines[1].name, "labels");
    assert!(text.contains("labels-password}@rabbit.brokers:5672\""), "{text}");
    assert_eq!(lines(&migration, "spec.rabbitmqResourcesConfig.parallelism")[0].fate, Fate::Improves);
    assert_eq!(lines(&migration, "spec.delivery.backoffPolicy")[0].fate, Fate::Changes);
    assert_eq!(lines(&migration, "metadata.labels.team")[0].fate, Fate::Without);
    assert_eq!(
        lines(&migration, "metadata.annotations.\"rabbitmq.eventing.knative.dev/cpu-limit\"").len(),
        1
    );
    let namespace =
        migration.report.iter().find(|line| line.text.contains("a Namespace is not converted")).unwrap();
    assert_eq!((namespace.line, namespace.fate), (2, Fate::Without));
}

#[test]
fn a_sink_that_only_knative_knows_gets_a_sink_binding() {
    let migration = convert("rabbitmq-secret.yaml");
    let binding = migration.files.iter().find(|file| file.path == "sinkbinding.yaml").unwrap();
    assert!(
        binding.text.contains("kind\": Broker") || binding.text.contains("\"kind\": Broker"),
        "{}",
        binding.text
    );
    let text = &migration.files[0].text;
    assert!(!text.contains("declare:") && !text.contains("      url: \"http"), "{text}");
    assert!(text.contains("queue: \"mail $${queue}\""), "{text}");
}

#[test]
fn a_kafka_source_keeps_its_group_login_and_times() {
    let migration = convert("kafka-full.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    let pipeline = &config.pipelines[0];
    let kafka = pipeline.source.kafka.as_ref().unwrap();
    assert_eq!((kafka.group.as_str(), kafka.topics.len(), pipeline.retry.attempts), ("orders-v2", 2, 4));
    assert_eq!(pipeline.sink.timeout.get().as_secs(), 8 * 3600);
    assert!(config.drain.timeout > pipeline.sink.timeout);
    let text = &migration.files[0].text;
    assert!(
        text.contains("security.protocol: \"sasl_ssl\"")
            && text.contains("http://failed.shop.svc.cluster.local/orders"),
        "{text}"
    );
    assert!(text.contains("\"tenant\": \"shop\""), "{text}");
    let kustomization = &migration.files[1].text;
    assert!(kustomization.contains("terminationGracePeriodSeconds, value: 29400"), "{kustomization}");
}

#[test]
fn documents_of_two_namespaces_become_two_folders() {
    let migration = convert("kafka-old.yaml");
    let configs = configurations(&migration);
    let places: Vec<&String> = configs.keys().collect();
    assert_eq!(places, ["default/longhaul.yaml", "other/longhaul.yaml"]);
    let first = configs["default/longhaul.yaml"].pipelines[0].source.kafka.as_ref().unwrap();
    assert_eq!(first.topics, ["storage", "archive"]);
    let made_up = migration.report.iter().find(|line| line.text.contains("knative-kafka-source-"));
    assert_eq!(made_up.unwrap().line, 15);
}

#[test]
fn a_scaled_job_becomes_a_bridge_and_a_service() {
    let migration = convert("scaled-job.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    let pipeline = &config.pipelines[0];
    assert_eq!((pipeline.max_in_flight, pipeline.retry.attempts, config.pipelines.len()), (30, 3, 1));
    let worker = migration.files.iter().find(|file| file.path == "encode-worker.yaml").unwrap();
    let loaded = crate::knative::manifest::load(("worker.yaml", &worker.text), Some(("cluster.yaml", LONG)))
        .unwrap_or_else(|error| panic!("{error}\n{}", worker.text));
    assert_eq!(
        (loaded.service.autoscaling.max_scale, loaded.service.timeouts.request.as_secs()),
        (30, 7_140)
    );
    assert!(worker.text.contains("\"--quality={high}\""), "{}", worker.text);
    for path in [
        "spec.jobTargetRef.template.spec.nodeSelector.gpu",
        "spec.jobTargetRef.template.spec.containers[0].volumeMounts",
    ] {
        assert_eq!(lines(&migration, path)[0].fate, Fate::Without, "{path}");
    }
    assert!(migration.report.iter().any(|line| line.text.contains("type cron is not a queue")));
    assert!(
        migration.files[1].text.contains("name: \"rabbit-address\", items: [{ key: \"url\""),
        "{}",
        migration.files[1].text
    );
}

/// As after deploy/cluster/config-defaults.yaml.
const LONG: &str = "kind: ConfigMap\nmetadata: { name: config-defaults }\ndata: { max-revision-timeout-seconds: \"14400\" }\n";

#[test]
fn a_scaled_object_with_two_triggers_becomes_two_pipelines() {
    let migration = convert("scaled-object.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    let names: Vec<&str> = config.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    assert_eq!(names, ["reports", "reports-2", "letters"]);
    assert!(
        migration.files[0].text.contains("user}:${file:/etc/longhaul/letters-password}@rabbit.brokers\""),
        "{}",
        migration.files[0].text
    );
    assert!(!migration.files[0].text.contains("guest"), "a password is in the file");
    assert_eq!(lines(&migration, "spec.triggers[1].metadata.host")[0].fate, Fate::Changes);
}

#[test]
fn pipelines_of_redpanda_connect() {
    let migration = convert("connect-rabbitmq.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    let pipeline = &config.pipelines[0];
    assert_eq!(
        (pipeline.name.as_str(), pipeline.max_in_flight, pipeline.sink.reject_on.len()),
        ("invoices", 8, 2)
    );
    assert!(
        migration.files[0].text.contains("amqp://${env:RABBIT_USER}:${env:RABBIT_PASSWORD}@rabbit"),
        "{}",
        migration.files[0].text
    );
    assert!(migration.report.iter().any(|line| line.text.contains("the default \"guest\" is gone")));
    assert_eq!(lines(&migration, "pipeline.processors[1]")[0].fate, Fate::Without);
    let migration = convert("connect-kafka.yaml");
    let config = &configurations(&migration)["longhaul.yaml"];
    assert_eq!(config.pipelines.len(), 2);
    assert!(config.pipelines.iter().all(|pipeline| pipeline.dead_letter.is_some()));
    assert_eq!(config.pipelines[1].source.kafka.as_ref().unwrap().topics, ["pages-slow"]);
}

#[test]
fn mistakes_name_their_lines() {
    let no_queue = "apiVersion: sources.knative.dev/v1alpha1\nkind: RabbitmqSource\nmetadata: { name: a }\nspec:\n  rabbitmqResourcesConfig:\n    exchangeName: e\n  sink: { uri: http://a }\n";
    for (text, place, reason) in [
        (no_queue, 5, "`queueName` is missing"),
        (
            "input:\n  generate: {}\noutput:\n  http_client: { url: http://a }\n",
            1,
            "neither RabbitMQ nor Kafka",
        ),
        (
            "input:\n  amqp_0_9: { urls: [amqp://a], queue: q }\noutput:\n  stdout: {}\n",
            3,
            "not a request over HTTP",
        ),
        ("- a\n- b\n", 1, "nothing in this file"),
        ("", 1, "nothing in this file"),
    ] {
        let mistakes = migrate("f.yaml", text).unwrap_err();
        assert_eq!(mistakes.list.len(), 1, "{mistakes}");
        assert!(
            mistakes.list.iter().any(|mistake| mistake.line == place && mistake.reason.contains(reason)),
            "{mistakes}"
        );
    }
}
