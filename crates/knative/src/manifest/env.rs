//! Reads the environment of the container.

use std::collections::HashMap;

use super::service::Source;
use super::tree::Mapping;
use longhaul_places::report::Report;

/// One variable of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub source: Source,
}

/// Knative sets these itself and refuses them in a manifest.
const RESERVED: [&str; 4] = ["PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION"];

pub fn read(container: &Mapping<'_>, report: &mut Report) -> Vec<Variable> {
    if container.has("envFrom") {
        let help = "the worker sees the environment of this process: set the variables there";
        report.warning(&container.path.key("envFrom"), "ConfigMaps and Secrets do not exist here", help);
    }
    let mut variables = Vec::new();
    let mut known = HashMap::new();
    for item in container.list("env", report) {
        let Some(entry) = item.mapping(report) else { continue };
        entry.only(&["name", "value", "valueFrom"], report);
        if let Some(value) = entry.field("value") {
            report.hide(value.node.range);
        }
        let Some(name) = entry.required_text("name", report) else { continue };
        check_name(&name, &entry, report);
        let source = match entry.text("value", report) {
            _ if entry.has("valueFrom") => {
                let reason = format!("the value of {name} is in the cluster");
                let help = format!("set {name} in the environment of this process: the worker sees that");
                report.warning(&entry.path.key("valueFrom"), reason, help);
                Source::Elsewhere
            }
            value => {
                let value = expand(&value.unwrap_or_default(), &known);
                known.insert(name.clone(), value.clone());
                Source::Value(value)
            }
        };
        variables.push(Variable { name, source });
    }
    variables
}

fn check_name(name: &str, entry: &Mapping<'_>, report: &mut Report) {
    let path = entry.path.key("name");
    if RESERVED.contains(&name) {
        report.mistake(&path, format!("Knative sets {name} itself"), "remove it; the worker is given it");
    } else if name.is_empty() || name.contains(['=', '\0']) {
        report.mistake(&path, "this is not a name for a variable", "write one without `=`");
    }
}

/// Replaces `$(NAME)` with a variable that stands before it, and `$$(NAME)` with the text
/// `$(NAME)`. An unknown name stays (Kubernetes, `third_party/forked/golang/expansion`).
fn expand(text: &str, known: &HashMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            result.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) => {
                result.push_str(known.get(name).map_or(&rest[..name.len() + 3], String::as_str));
                rest = after;
            }
            None => {
                result.push('$');
                rest = &rest[1..];
            }
        }
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_a_kubelet_does() {
        let known = HashMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("100$", "100$"),
            ("$A $(A", "$A $(A"),
            ("ü$(A)", "ü1"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }
}
