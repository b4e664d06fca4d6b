//! Reads the container that serves requests.

use super::env::{self, Variable};
use super::probe::{self, Probe};
use super::tree::Mapping;
use longhaul_places::report::Report;

/// The parts of a container that matter on this machine.
pub struct Container {
    pub image: String,
    pub command: Vec<String>,
    pub env: Vec<Variable>,
    pub port: u16,
    pub readiness: Probe,
}

const FIELDS: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "env",
    "envFrom",
    "workingDir",
    "ports",
    "resources",
    "volumeMounts",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "securityContext",
    "imagePullPolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// Reads the serving container from a revision's `spec`: the only container, or the only one with
/// ports.
pub fn read(spec: &Mapping<'_>, report: &mut Report) -> Option<Container> {
    let containers: Vec<Mapping<'_>> =
        spec.list("containers", report).iter().filter_map(|item| item.mapping(report)).collect();
    if containers.is_empty() {
        report.mistake(
            &spec.path.key("containers"),
            "a container is missing",
            "add one with at least an image",
        );
        return None;
    }
    let container = match containers.as_slice() {
        [only] => only,
        several => serving(several, spec, report)?,
    };
    container.only(FIELDS, report);
    for probe in ["livenessProbe", "startupProbe"] {
        if container.has(probe) {
            let reason = format!("no {probe} is made here");
            report.warning(&container.path.key(probe), reason, "nothing to do: it counts on a cluster");
        }
    }
    let port = port(container, report);
    let mut command = container.texts("command", report);
    command.extend(container.texts("args", report));
    Some(Container {
        image: container.required_text("image", report)?,
        command,
        env: env::read(container, report),
        readiness: probe::read(container, &port, report),
        port: port.number,
    })
}

fn serving<'a, 'b>(
    containers: &'b [Mapping<'a>],
    spec: &Mapping<'_>,
    report: &mut Report,
) -> Option<&'b Mapping<'a>> {
    let path = spec.path.key("containers");
    let with_ports: Vec<_> = containers.iter().filter(|container| container.has("ports")).collect();
    let [serving] = with_ports.as_slice() else {
        let reason = "of several containers exactly one must have `ports`";
        report.mistake(&path, reason, "give `ports` to the one that serves, and to no other");
        return None;
    };
    report.warning(&path, "only the container with `ports` runs here", "start its sidecars yourself");
    Some(serving)
}

/// The port that a container serves on, and its name.
pub struct Port {
    pub number: u16,
    pub name: Option<String>,
}

/// Ports of the queue-proxy, which runs in the same pod.
const RESERVED: [u32; 6] = [8008, 8012, 8013, 8022, 9090, 9091];

fn port(container: &Mapping<'_>, report: &mut Report) -> Port {
    let default = Port { number: 8080, name: None };
    let ports: Vec<Mapping<'_>> =
        container.list("ports", report).iter().filter_map(|item| item.mapping(report)).collect();
    let [port] = ports.as_slice() else {
        if ports.len() > 1 {
            report.mistake(&container.path.key("ports"), "Knative takes one port", "keep the one for HTTP");
        }
        return default;
    };
    port.only(&["name", "containerPort", "protocol"], report);
    let name = port.text("name", report).filter(|name| !name.is_empty());
    match name.as_deref() {
        None | Some("http1") => {}
        Some("h2c") => {
            let help = "leave the name out for HTTP/1.1; Knative also cuts h2c requests 90 s after a replica is stopped";
            report.mistake(&port.path.key("name"), "HTTP/2 to the worker is not supported here", help);
        }
        Some(_) => {
            report.mistake(&port.path.key("name"), "Knative takes the names http1 and h2c", "leave it out")
        }
    }
    if port.text("protocol", report).is_some_and(|protocol| !["", "TCP"].contains(&protocol.as_str())) {
        report.mistake(&port.path.key("protocol"), "Knative takes TCP alone", "leave it out");
    }
    // Kubernetes treats 0 as left out, and then Knative's default applies.
    let number = port.number("containerPort", 0..=65535, report).filter(|number| *number > 0);
    let number = number.unwrap_or(default.number.into());
    if RESERVED.contains(&number) {
        let help = "write another, such as 8080; the worker is told in PORT";
        report.mistake(&port.path.key("containerPort"), "Knative keeps this port for its queue-proxy", help);
    }
    Port { number: u16::try_from(number).unwrap_or(default.number), name }
}
