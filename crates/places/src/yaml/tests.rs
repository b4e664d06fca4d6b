use super::*;

fn error(text: &str) -> Error {
    parse(text).err().unwrap()
}

#[test]
fn every_key_and_value_knows_its_place() {
    let document = parse("ü: 1\nlist:\n  - \"a b\"\n  - { k: v }\n").unwrap();
    let Content::Map(entries) = &document.root.content else { panic!("{:?}", document.root) };
    assert_eq!(entries[1].key_range.start, Spot { line: 2, column: 1 });
    let Content::List(items) = &entries[1].value.content else { panic!("{entries:?}") };
    assert_eq!(items[0].range.start, Spot { line: 3, column: 5 });
    assert_eq!(items[0].range.end, Spot { line: 3, column: 10 });
    assert_eq!(items[1].range.end, Spot { line: 4, column: 13 });
}

#[test]
fn aliases_are_followed_and_bounded() {
    let document = parse("a: &x { b: 1 }\nc: *x\n").unwrap();
    let Content::Map(entries) = &document.root.content else { panic!("{:?}", document.root) };
    assert!(matches!(&entries[1].value.content, Content::Map(inner) if inner[0].key == "b"));

    let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    assert!(error(&bomb).reason.contains("more than 50000 values"));
    assert!(error(&"[".repeat(40)).reason.contains("32 deep"));
    assert!(error("a: &x [*x]").reason.contains("inside of the value"));
}

#[test]
fn a_duplicate_key_does_not_stop_the_reading_and_the_first_counts() {
    let document = parse("a: 1\na: 2\nb: 3\nb: 4\n").unwrap();
    let reasons: Vec<_> = document.errors.iter().map(|error| error.reason.as_str()).collect();
    assert_eq!(reasons, ["the key `a` is already given in line 1", "the key `b` is already given in line 3"]);
    assert_eq!(document.hidden[1].start, Spot { line: 4, column: 4 });
    assert!(matches!(&document.root.content, Content::Map(entries) if entries.len() == 2));
}

#[test]
fn a_text_where_a_key_belongs_is_a_mistake() {
    for text in ["{ a, 'b' : , c: 1 }", "{ 'a', b:, c: 1 }"] {
        let document = parse(text).unwrap();
        assert_eq!(document.errors.len(), 1, "{text}: {:?}", document.errors);
        assert!(document.errors[0].reason.contains("no `:` follows"));
        assert!(matches!(&document.root.content, Content::Map(entries) if entries.len() == 2), "{text}");
    }
    assert!(parse("a:\n'b':\nc :\n").unwrap().errors.is_empty());
}

#[test]
fn a_syntax_error_says_where_and_what_to_do() {
    for (text, line, column, help) in [
        ("a:\n\t- b\n", 2, 2, "spaces instead of tabs"),
        ("a: b: c\n", 1, 5, "in quotes"),
        ("a: @x\n", 1, 4, "special character in quotes"),
        ("a: *no\n", 1, 4, "define the anchor"),
        ("x: {a: ${env:B}}\n", 1, 9, "${…} in quotes"),
        ("a: \"x\nb: 1\n", 1, 4, "close the quotes"),
        ("a: [1, 2\nb: 3\n", 2, 2, "close each ["),
        ("- a\nb: 1\n", 2, 1, "indentation"),
        ("a: 1\n---\nb: 2\n", 2, 1, "one document"),
        ("# nothing\n", 1, 1, "pipelines"),
        ("a: 1\nb: !!str 5\n", 2, 4, "remove the tag"),
        ("a: !x [1]\n", 1, 4, "remove the tag"),
        ("? [a]\n: b\n", 1, 3, "as the key"),
    ] {
        let error = error(text);
        assert_eq!(error.at.start, Spot { line, column }, "{text:?} {error:?}");
        assert!(error.help.contains(help), "{text:?} {error:?}");
    }
}
