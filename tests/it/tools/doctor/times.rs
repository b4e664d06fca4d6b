use super::{check, clean, only, pipeline, service};
use crate::run::backlog::{Backlog, Kafka};

const MANIFESTS: &str = "\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: { name: worker }
spec:
  template:
    metadata: { annotations: { autoscaling.knative.dev/max-scale: '10' } }
    spec:
      containerConcurrency: 1
      timeoutSeconds: 3600
      responseStartTimeoutSeconds: 3600
      idleTimeoutSeconds: 0
---
apiVersion: v1
kind: ConfigMap
metadata: { name: config-defaults }
data: { max-revision-timeout-seconds: '3600' }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: activator }
spec: { template: { spec: { terminationGracePeriodSeconds: 3600 } } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: 3scale-kourier-gateway }
spec: { template: { spec: { terminationGracePeriodSeconds: 3600 } } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: bridge }
spec:
  replicas: 2
  template:
    spec:
      terminationGracePeriodSeconds: 4200
      containers: [{ name: longhaul, image: 'registry.example/longhaul:1.0', args: [run] }]
";

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_of_the_chain_of_timeouts_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::create().await;
    let url = service().await;
    let config = pipeline(
        &kafka.source(),
        &format!("url: '{url}', timeout: 61m"),
        "    on_failed: hold\ndrain: { timeout: 65m }\n",
    );
    let planted = async |from: &str, to: &str, config: &str| {
        assert!(MANIFESTS.contains(from), "{from}");
        let name = format!("{}.manifests", uuid::Uuid::new_v4());
        std::fs::write(folder.path().join(&name), MANIFESTS.replacen(from, to, 1)).unwrap();
        check(folder.path(), config, &["-f", &name]).await
    };
    clean(&[], planted("", "", &config).await);
    for (kind, from, to) in [
        ("response-start", "      responseStartTimeoutSeconds: 3600\n", ""),
        ("response-start", "responseStartTimeoutSeconds: 3600", "responseStartTimeoutSeconds: 600"),
        ("idle-timeout", "idleTimeoutSeconds: 0", "idleTimeoutSeconds: 60"),
        (
            "max-revision-timeout",
            "max-revision-timeout-seconds: '3600'",
            "max-revision-timeout-seconds: '600'",
        ),
        ("proxy-grace", "terminationGracePeriodSeconds: 3600", "terminationGracePeriodSeconds: 600"),
        (
            "proxy-grace",
            "kourier-gateway }\nspec: { template: { spec: { terminationGracePeriodSeconds: 3600 } } }",
            "kourier-gateway }",
        ),
        ("pod-grace", "      terminationGracePeriodSeconds: 4200\n", ""),
        ("concurrency", "containerConcurrency: 1", "containerConcurrency: 2"),
        ("max-scale", "max-scale: '10'", "max-scale: '3'"),
        ("autoscaler-class", "max-scale: '10'", "class: hpa.autoscaling.knative.dev"),
        ("autoscaler-metric", "max-scale: '10'", "max-scale: '10', autoscaling.knative.dev/metric: rps"),
        (
            "liveness-probe",
            "args: [run] }",
            "args: [run], livenessProbe: { httpGet: { path: /readyz, port: 9090 } } }",
        ),
    ] {
        only(kind, planted(from, to, &config).await);
    }
    for (kind, from, to) in [
        ("sink-timeout", "timeout: 61m", "timeout: 30m"),
        ("timeout-seconds", "timeout: 61m", "timeout: 4h"),
        ("budget", "    on_failed: hold\n", "    on_failed: hold\n    retry: { worker_time_budget: 30m }\n"),
    ] {
        let config = config.replace(from, to);
        only(kind, planted("", "", &config).await);
    }
    let named = config.replace("group: ", "instance_id: one, group: ");
    only("instance-id", planted("", "", &named).await);
    let bridge = "kind: Deployment\nmetadata: { name: bridge }";
    clean(&[], planted(bridge, &bridge.replace("Deployment", "StatefulSet"), &named).await);
    kafka.remove().await;
}
