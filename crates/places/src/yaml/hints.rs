//! Helps with YAML that cannot be read. The parser names the token that it found, and not the
//! intention of the person.

use saphyr_parser::ScanError;

use super::{Error, Range, Spot};
use crate::path;

/// Parts of the parser's texts, each with the help for its usual cause. The first match counts.
const CAUSES: [(&str, &str); 9] = [
    ("unprintable", "remove the control character; write it as \\xNN in double quotes if it is meant"),
    ("tab", "indent with spaces instead of tabs"),
    ("mapping values are not allowed", "put a text that contains `: ` in quotes, or correct the indentation"),
    ("unexpected character", "put a text that starts with a special character in quotes"),
    (
        "unknown anchor",
        "define the anchor with & before it is used, or put a text that starts with * in quotes",
    ),
    ("flow", "put a `,` between the entries and close each [ and {"),
    ("bracket", "put the text in quotes, or open the bracket first"),
    ("quoted scalar", "close the quotes; write '' for a ' inside of '…', and \\\" for a \" inside of \"…\""),
    ("placement of ':'", "close each [ and { before the next key"),
];

pub(super) fn explain(error: &ScanError, text: &str) -> Error {
    let start = Spot::from(*error.marker());
    let line = text.lines().nth(start.line - 1).unwrap_or_default();
    let help = if line.contains("${") && line.contains(['{', '[']) && error.info().contains("flow mapping") {
        "put a text with ${…} in quotes when it stands inside of { } or [ ]"
    } else {
        let cause = CAUSES.iter().find(|(part, _)| error.info().contains(part));
        cause.map_or("correct the indentation or the quotes here or in the lines above", |(_, help)| help)
    };
    Error {
        at: Range { start, end: start },
        reason: format!("this is not valid YAML: {}", error.info()),
        help: help.into(),
    }
}

pub(super) fn tag(at: Range) -> Error {
    Error {
        at,
        reason: "tags such as !!str are not supported".into(),
        help: "remove the tag; text that looks like a number goes in quotes".into(),
    }
}

pub(super) fn duplicate(key: &str, at: Range, first: Range) -> Error {
    Error {
        at,
        reason: format!("the key `{}` is already given in line {}", path::shown(key), first.start.line),
        help: "keep one of the two".into(),
    }
}

pub(super) fn no_colon(at: Range) -> Error {
    Error {
        at,
        reason: "this stands where a key belongs, and no `:` follows".into(),
        help: "write `key: value`".into(),
    }
}
