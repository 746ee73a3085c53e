//! Reads the YAML of a configuration file into what was typed, without giving it meaning.
//!
//! Every scalar stays the text that stands in the file, whatever YAML would make of it: a key such as
//! `123e456` is a secret, not an infinite number, and `no` is left to the setting it was written for.
//! Each text carries its line and column. Aliases, nesting and nodes are bounded and merge keys refused,
//! so that no file makes the node work for longer than it takes to read it. A key that is given twice
//! comes out twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, escaped};

/// Largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1_024;

/// Most nodes of a document, those that aliases repeat included.
const NODES_MAX: usize = 4_096;

/// Deepest nesting of a document. The settings need four.
const DEPTH_MAX: usize = 16;

/// What a file is told that would make the parser work without end.
const TOO_LARGE: &str = "more documents, nodes, levels or aliases than a configuration file may have";

/// What to do about what the parser says.
const MENDS: [(&str, &str); 8] = [
    ("tabs disallowed", "indent with spaces"),
    ("unclosed bracket", "close it"),
    ("unknown anchor", "a value that begins with * goes into quotes"),
    ("unexpected character", "is this the right file?"),
    ("expected key", "indent the settings of a section alike"),
    ("indentation", "indent the settings of a section alike"),
    ("multiple", "keep one document"),
    ("string scalar", "a setting's name is a plain word"),
];

/// What to do about anything else it says.
const MEND: &str = "settings look like `port: 7020`, indented below their section";

/// A node of the file as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing, `~` or `null`: as if the key were not there.
    Null,
    /// A scalar's text.
    Text(String),
    /// A sequence.
    List(Vec<Placed>),
    /// A mapping, in the order of the file.
    Map(Vec<Member>),
}

/// A node and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where the node begins.
    pub place: Place,
    /// The node.
    pub node: Node,
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// What it was given.
    pub value: Placed,
}

/// Reads a document. What the parser refuses comes back with its place, if that is known.
pub fn parse(source: &str) -> Result<Node, (Option<Place>, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_depth: DEPTH_MAX,
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 1,
            max_total_scalar_bytes: FILE_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options)
        .map(|root| placed(root, source).node)
        .map_err(|error| (error.location().map(place), message(&error)))
}

/// What the parser refused, without its place, which is said elsewhere, and in one line.
fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::MergeKeyNotAllowed { .. } => {
            return "`<<` is not for settings; write the keys out".into();
        }
        Error::Budget { .. } => return TOO_LARGE.into(),
        _ => {}
    }
    let text = escaped(&error.without_snippet().to_string());
    // These come as themselves or within another error.
    if ["alias replay", "alias expansion", "recursion limit"].iter().any(|what| text.contains(what)) {
        return TOO_LARGE.into();
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = match text.split_once(": ") {
        Some((at, rest)) if at.starts_with("line ") => rest,
        _ => text,
    };
    let text = text.split_once(" at line ").map_or(text, |(what, _)| what);
    let text = text.split_once("\\n").map_or(text, |(what, _)| what);
    let mend = MENDS.iter().find(|(what, _)| text.contains(what)).map_or(MEND, |(_, mend)| mend);
    format!("{text}; {mend}")
}

fn place(location: Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

/// A node as the parser hands it over. A number or a boolean has lost its text; its place has it.
enum Raw {
    Null,
    Plain,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<RawKey>, Spanned<Raw>)>),
}

struct RawKey(String);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawKey, D::Error> {
        String::deserialize(deserializer).map(RawKey)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list or a section")
            }

            fn visit_unit<E: Error>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Raw, E> {
                Ok(Raw::Plain)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Raw::List(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Raw::Map(members))
            }
        }

        deserializer.deserialize_any(RawVisitor)
    }
}

fn placed(raw: Spanned<Raw>, source: &str) -> Placed {
    let node = match raw.value {
        Raw::Null => Node::Null,
        Raw::Plain => Node::Text(text_at(source, raw.defined)),
        Raw::Text(text) => Node::Text(text),
        Raw::List(nodes) => Node::List(nodes.into_iter().map(|node| placed(node, source)).collect()),
        Raw::Map(members) => Node::Map(
            members
                .into_iter()
                .map(|(key, value)| Member {
                    place: place(key.referenced),
                    key: key.value.0,
                    value: placed(value, source),
                })
                .collect(),
        ),
    };
    Placed { place: place(raw.referenced), node }
}

/// The characters that a location covers.
fn text_at(source: &str, location: Location) -> String {
    let span = location.span();
    source.chars().skip(span.offset() as usize).take(span.len() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::{Node, parse};

    fn only(source: &str) -> Node {
        match parse(source) {
            Ok(Node::Map(mut members)) => members.remove(0).value.node,
            other => panic!("{source:?} gave {other:?}"),
        }
    }

    #[test]
    fn every_scalar_keeps_the_text_that_stands_in_the_file() {
        for text in [
            "7020",
            "0123",
            "1_000",
            "0x1F",
            "-5",
            "1e5",
            "123e456",
            ".inf",
            "true",
            "No",
            "on",
            "hello",
            "10 s",
            "2026-11-20",
            "03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd",
            "123456789012345678901234123456789012345678901234",
        ] {
            assert_eq!(only(&format!("key: {text}\n")), Node::Text(text.into()), "plain");
            assert_eq!(
                only(&format!("# über\nkey:   {text}   # said\n")),
                Node::Text(text.into()),
                "commented"
            );
            assert_eq!(only(&format!("key: \"{text}\"\n")), Node::Text(text.into()), "quoted");
            assert_eq!(only(&format!("{{key: {text}}}\n")), Node::Text(text.into()), "flow");
        }
        assert_eq!(only("key: &a 12\n"), Node::Text("12".into()));
        assert_eq!(only("key: 'null'\n"), Node::Text("null".into()));
        for null in ["", "~", "null"] {
            assert_eq!(only(&format!("key: {null}\n")), Node::Null);
        }
    }

    #[test]
    fn an_alias_stands_for_the_text_of_its_anchor() {
        let Ok(Node::Map(members)) = parse("a: &x 0x10\nb: *x\n") else { panic!() };
        assert_eq!(members[1].value.node, Node::Text("0x10".into()));
        assert_eq!(members[1].value.place.line, 2);
    }

    #[test]
    fn keys_and_values_know_their_line_and_column() {
        let Ok(Node::Map(sections)) = parse("---\ngeneral:\n  port: 7020\n") else { panic!() };
        let Node::Map(keys) = &sections[0].value.node else { panic!() };
        assert_eq!((keys[0].place.line, keys[0].place.column), (3, 3));
        assert_eq!((keys[0].value.place.line, keys[0].value.place.column), (3, 9));
    }

    #[test]
    fn a_key_that_is_given_twice_comes_out_twice() {
        let Ok(Node::Map(members)) = parse("a: 1\nb: {c: 1, c: 2}\na: 2\n") else { panic!() };
        assert_eq!(members.iter().map(|member| member.key.as_str()).collect::<Vec<_>>(), ["a", "b", "a"]);
        assert_eq!(members[2].place.line, 3);
        let Node::Map(inner) = &members[1].value.node else { panic!() };
        assert_eq!((inner[1].place.line, inner[1].place.column), (2, 11));
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_place() {
        for (source, line) in [
            ("a: [1, 2\n", 2),
            ("a: 1\n b: 2\n", 2),
            ("a: \"open\n", 1),
            ("a: *nowhere\n", 1),
            ("a: &x {c: 1}\nb:\n  <<: *x\n", 3),
            ("a: 1\n---\nb: 2\n", 3),
            ("a:\n\tb: 2\n", 2),
        ] {
            let (place, what) = parse(source).expect_err(source);
            println!("{source:?}: {place:?} {what}");
            assert!(!what.is_empty() && !what.contains('\n'), "{what:?}");
            assert!(place.is_some_and(|place| place.line.abs_diff(line) <= 1), "{source:?}: {place:?}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_grows() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        assert!(parse(&bomb).is_err());
        assert!(parse(&format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000))).is_err());
        assert!(parse(&format!("a: {}", "{b: ".repeat(5_000))).is_err());
        let long: String = (0..10_000).map(|key| format!("k{key}: 1\n")).collect();
        assert!(parse(&long).is_err());
    }
}
