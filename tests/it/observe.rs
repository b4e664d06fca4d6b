//! The dashboard, the alert rules and the runbook fit each other, and use only names that the
//! program has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Labels that Prometheus adds, and the bucket of a histogram.
const ADDED_LABELS: [&str; 3] = ["job", "instance", "le"];

/// Words after which a list of labels stands in brackets.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap()
}

/// The names and labels in docs/metrics.md, which is made of the table in the code.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let page = read("docs/metrics.md");
    let rows =
        page.lines().filter(|line| line.starts_with("| `longhaul_") || line.starts_with("| `process_"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let labels = cells[2].split(", ").map(|label| label.trim_matches([' ', '`']).to_owned());
        let name = cells[0].trim_start_matches("| ").trim_matches('`').to_owned();
        let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
        if cells[1] == "histogram" {
            return ["_bucket", "_sum", "_count"]
                .map(|part| (format!("{name}{part}"), labels.clone()))
                .to_vec();
        }
        vec![(name, labels)]
    };
    rows.flat_map(row).collect()
}

/// The names, brackets and other signs of an expression, without its texts, numbers and ranges.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_ascii_alphanumeric() || "_:.".contains(character);
        let length = match first {
            '"' => rest[1..].find('"').expect("a closed text") + 2,
            '[' => rest.find(']').expect("a closed range") + 1,
            _ if is_word(first) => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        if first.is_ascii_alphabetic() || "(){}".contains(first) {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The names in this expression that the program does not have.
fn unknown(expression: &str, table: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let labels: BTreeSet<&str> = table.values().flatten().map(String::as_str).chain(ADDED_LABELS).collect();
    let tokens = tokens(expression);
    let (mut unknown, mut metric, mut is_list, mut is_selector) = (Vec::new(), "", false, false);
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1).map(String::as_str);
        match token.as_str() {
            "(" => is_list = index > 0 && BEFORE_LABELS.contains(&tokens[index - 1].as_str()),
            ")" => is_list = false,
            "{" => is_selector = true,
            "}" => is_selector = false,
            label if is_selector => {
                if !table.get(metric).is_some_and(|labels| labels.contains(label)) {
                    unknown.push(format!("{metric}{{{label}}}"));
                }
            }
            label if is_list => {
                if !labels.contains(label) {
                    unknown.push(format!("label {label}"));
                }
            }
            word if BEFORE_LABELS.contains(&word) || OPERATORS.contains(&word) => {}
            _ if next == Some("(")
                || next.is_some_and(|next| BEFORE_LABELS.contains(&next)) && !table.contains_key(token) => {}
            name => {
                metric = name;
                if !table.contains_key(name) {
                    unknown.push(name.to_owned());
                }
            }
        }
    }
    unknown
}

/// The labels in `{{ … }}` of a legend or a summary.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    inner.map(|part| part.trim().trim_start_matches("$labels.")).filter(|part| !part.starts_with('$'))
}

/// The alerts: name, expression and the other lines.
fn alerts() -> Vec<(String, String, String)> {
    let text = read("deploy/observe/alerts.yaml");
    let alert = |part: &str| {
        let name = part.lines().next().unwrap().to_owned();
        let (_, rest) = part.split_once("expr:").unwrap();
        let lines = rest.trim_start_matches(" >-").lines();
        let is_next_key =
            |line: &&str| line.starts_with("        ") && line[8..].starts_with(char::is_alphabetic);
        let expression: Vec<&str> = lines.take_while(|line| !is_next_key(line)).collect();
        (name, expression.join(" "), rest.to_owned())
    };
    text.split("- alert: ").skip(1).map(alert).collect()
}

#[test]
fn the_rules_use_only_names_that_the_program_has() {
    let table = table();
    assert!(table.len() > 40, "{table:?}");
    let alerts = alerts();
    assert!(alerts.len() >= 10);
    for (name, expression, rest) in alerts {
        assert_eq!(unknown(&expression, &table), [""; 0], "{name}: {expression}");
        for label in placeholders(&rest) {
            assert!(
                table.values().any(|labels| labels.contains(label)) || ADDED_LABELS.contains(&label),
                "{name}: {label}"
            );
        }
    }
    // The check itself finds wrong names.
    let wrong = "sum by (pipelin) (longhaul_items{stat=\"held\"}) > longhaul_item";
    assert_eq!(unknown(wrong, &table), ["label pipelin", "longhaul_items{stat}", "longhaul_item"]);
}

#[test]
fn every_alert_has_its_section_in_the_runbook() {
    let (page, tests) = (read("docs/runbook.md"), read("deploy/observe/alerts_test.yaml"));
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = alerts();
    let names: Vec<&str> = alerts.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(sections, names);
    for (part, name) in page.split("\n## ").skip(1).zip(&names) {
        for word in ["\n\nMeaning: ", "\n\nFirst look: ", "\n\nFix"] {
            assert!(part.contains(word), "{name} has no {word:?}");
        }
    }
    for (name, _, rest) in &alerts {
        assert!(rest.contains(&format!("runbook: docs/runbook.md#{}", name.to_lowercase())), "{name}");
        let silent = format!("alertname: {name}, exp_alerts: []");
        assert!(
            tests.contains(&silent) && tests.contains(&format!("alertname: {name}\n")),
            "no test of {name}"
        );
    }
}

#[test]
fn the_operator_gets_the_same_rules() {
    let (plain, wrapped) = (read("deploy/observe/alerts.yaml"), read("deploy/observe/prometheusrule.yaml"));
    let groups = |text: &str, start: &str| text[text.find(start).unwrap()..].to_owned();
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let expected: Vec<String> = groups(&plain, "groups:").lines().map(indented).collect();
    let found = groups(&wrapped, "  groups:");
    assert_eq!(found.lines().collect::<Vec<_>>(), expected, "indent alerts.yaml below `spec:`");
}

#[test]
fn the_dashboard_uses_only_names_that_the_program_has() {
    let table = table();
    let dashboard: Value = serde_json::from_str(&read("deploy/observe/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut used, mut ids, mut places) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: the id is used twice");
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + width <= 24, "{title} is wider than the page");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(places.insert(cell), "{title} covers another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(unknown(expression, &table), [""; 0], "{title}: {expression}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            for label in placeholders(target["legendFormat"].as_str().unwrap()) {
                // Without a list of labels, all of them stay.
                let is_kept =
                    !expression.contains(" by (") || tokens(expression).iter().any(|token| token == label);
                assert!(is_kept, "{title}: the expression has no label {label}");
            }
            used.push_str(expression);
        }
    }
    let variable = &dashboard["templating"]["list"][1];
    assert_eq!(variable["definition"], "label_values(longhaul_pipeline_ready, pipeline)");
    for name in [
        "longhaul_problems",
        "longhaul_limit_binding",
        "longhaul_attempts_total",
        "longhaul_enqueue_to_done_seconds_bucket",
        "longhaul_kafka_lag_records",
        "longhaul_breaker_state",
    ] {
        assert!(used.contains(name), "no panel shows {name}");
    }
}

/// Prometheus' own check and unit tests of the rules. tests/run says so if promtool is missing.
#[test]
fn promtool_passes() {
    let program = std::env::var("LONGHAUL_TEST_PROMTOOL").unwrap_or_else(|_| {
        let found = Command::new(root("tests/promtool")).output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    });
    if program == "none" {
        eprintln!("skipped: LONGHAUL_TEST_PROMTOOL=none, so promtool is missing");
        return;
    }
    for (verb, file) in [("check", "alerts.yaml"), ("test", "alerts_test.yaml")] {
        let mut command = Command::new(&program);
        let output = command.args([verb, "rules"]).arg(root("deploy/observe").join(file)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|part| String::from_utf8_lossy(&part).into_owned());
        assert!(output.status.success(), "{verb} {file}: {}", text.concat());
    }
}
