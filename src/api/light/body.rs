//! Reads the bodies of `/item` and `/list`: one JSON object, whatever its `Content-Type` says.
//!
//! The document is read once, token by token, and left where it is: what is found are ranges of it. A
//! long one is read in slices, so that a body of megabytes does not hold up the core. All of it is checked,
//! members that mean nothing too: what is not JSON is refused as a whole.

use std::ops::Range;

use crate::limits::JSON_DEPTH_MAX;
use crate::primitive::{self, Malformed};

use super::super::message::Problem;

/// What the members with a meaning have for values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
    pub values: Option<Range<usize>>,
    pub ttl: Option<Range<usize>>,
    /// A member of these stands twice.
    is_doubled: bool,
    /// Something in `values` is no primitive, or a number that cannot be compared.
    pub is_unfit: bool,
}

/// How far a document was read.
#[derive(Debug)]
pub(super) struct Reader {
    at: usize,
    expect: Expect,
    /// One bit for each open bracket, the innermost the lowest: 1 is an object.
    open: u64,
    depth: usize,
    member: Member,
    /// Where the value of the present member began.
    begun: usize,
    found: Fields,
}

const _: () = assert!(JSON_DEPTH_MAX < u64::BITS as usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    /// In an array that has just been opened.
    ValueOrEnd,
    /// In an object that has just been opened.
    NameOrEnd,
    Name,
    Colon,
    CommaOrEnd,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Key,
    Value,
    Values,
    Ttl,
    Other,
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            at: 0,
            expect: Expect::Value,
            open: 0,
            depth: 0,
            member: Member::Other,
            begun: 0,
            found: Fields::default(),
        }
    }

    /// Reads on for about this many bytes. True when it is through.
    ///
    /// # Errors
    /// For what is no JSON, no object, or nested too deep.
    pub fn read(&mut self, document: &[u8], budget: usize) -> Result<bool, Problem> {
        const NO_OBJECT: Problem = Problem::BodyInvalid("it is no JSON object");
        let end = self.at.saturating_add(budget);
        while self.at < end {
            let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            self.at += document[self.at..].iter().take_while(|byte| blank(byte)).count();
            let Some(byte) = document.get(self.at) else {
                return if self.expect == Expect::Nothing { Ok(true) } else { Err(NO_OBJECT) };
            };
            if self.depth == 0 && (*byte != b'{' || self.expect != Expect::Value) {
                return Err(NO_OBJECT);
            }
            if self.depth == JSON_DEPTH_MAX && matches!(byte, b'{' | b'[') {
                return Err(Problem::BodyInvalid("the JSON is nested too deep"));
            }
            self.token(document, *byte).map_err(|Malformed| NO_OBJECT)?;
        }
        Ok(false)
    }

    /// The result, once it is through.
    ///
    /// # Errors
    /// When a member stands twice.
    pub fn fields(self) -> Result<Fields, Problem> {
        match self.found.is_doubled {
            true => Err(Problem::ParameterInvalid("a member stands twice")),
            false => Ok(self.found),
        }
    }

    fn token(&mut self, document: &[u8], byte: u8) -> Result<(), Malformed> {
        match (self.expect, byte) {
            (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                self.begin_value();
                self.found.is_unfit |= self.member == Member::Values && self.depth == 2;
                self.open = self.open << 1 | u64::from(byte == b'{');
                self.depth += 1;
                self.at += 1;
                self.expect = if byte == b'{' { Expect::NameOrEnd } else { Expect::ValueOrEnd };
            }
            (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if self.open & 1 == 0 => self.close(),
            (Expect::NameOrEnd | Expect::CommaOrEnd, b'}') if self.open & 1 == 1 => self.close(),
            (Expect::Value | Expect::ValueOrEnd, _) => {
                self.begin_value();
                let end = primitive::end_of(document, self.at)?;
                if self.member == Member::Values && self.depth == 2 {
                    let text = &document[self.at..end];
                    // Only an exponent can be beyond comparing.
                    let may_be_unfit = byte != b'"' && memchr::memchr2(b'e', b'E', text).is_some();
                    self.found.is_unfit |= may_be_unfit && primitive::canonical(text).is_err();
                }
                self.at = end;
                self.end_value();
            }
            (Expect::NameOrEnd | Expect::Name, b'"') => {
                let end = primitive::end_of_string(document, self.at)?;
                if self.depth == 1 {
                    self.member = match &*primitive::decode(&document[self.at..end]) {
                        b"key" => Member::Key,
                        b"value" => Member::Value,
                        b"values" => Member::Values,
                        b"ttl" => Member::Ttl,
                        _ => Member::Other,
                    };
                }
                self.at = end;
                self.expect = Expect::Colon;
            }
            (Expect::Colon, b':') => {
                self.at += 1;
                self.expect = Expect::Value;
            }
            (Expect::CommaOrEnd, b',') => {
                self.at += 1;
                self.expect = if self.open & 1 == 1 { Expect::Name } else { Expect::Value };
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.open >>= 1;
        self.depth -= 1;
        self.at += 1;
        self.end_value();
    }

    fn begin_value(&mut self) {
        if self.depth == 1 {
            self.begun = self.at;
        }
    }

    fn end_value(&mut self) {
        self.expect = if self.depth == 0 { Expect::Nothing } else { Expect::CommaOrEnd };
        if self.depth != 1 {
            return;
        }
        let field = match self.member {
            Member::Key => &mut self.found.key,
            Member::Value => &mut self.found.value,
            Member::Values => &mut self.found.values,
            Member::Ttl => &mut self.found.ttl,
            Member::Other => return,
        };
        self.found.is_doubled |= field.replace(self.begun..self.at).is_some();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::{Fields, Reader};
    use crate::api::message::Problem;

    fn read(document: &str, slice: usize) -> Result<Fields, Problem> {
        let mut reader = Reader::new();
        while !reader.read(document.as_bytes(), slice)? {}
        reader.fields()
    }

    fn fields(document: &str) -> Fields {
        let whole = read(document, usize::MAX).unwrap();
        for slice in 1..20 {
            assert_eq!(read(document, slice).unwrap(), whole);
        }
        whole
    }

    #[test]
    fn members_are_found_in_any_order_between_others_and_with_escaped_names() {
        let document = r#" { "x" : {"key":1,"a":[{}]} , "values":[1, "a" ,null] ,"ke\u0079" : "k" , "ttl":5,"value":-1.0e5 } "#;
        let found = fields(document);
        let text = |range: Option<std::ops::Range<usize>>| &document[range.unwrap()];
        assert_eq!(text(found.key.clone()), "\"k\"");
        assert_eq!(text(found.values.clone()), "[1, \"a\" ,null]");
        assert_eq!(text(found.ttl.clone()), "5");
        assert_eq!(text(found.value.clone()), "-1.0e5");
        assert_eq!(fields("{}"), Fields::default());
    }

    #[test]
    fn what_is_no_object_is_refused_wherever_it_breaks() {
        for document in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "null",
            "{",
            "{}x",
            "{}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":[1,]}",
            "{\"a\":[1}",
            "{\"a\":[}",
            "{\"a\":{]}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":[1 2]}",
            "{\"a\":1]",
            "{\"a\":\"\n\"}",
            "{\"a\":tru}",
            "{\"a\":1",
            "{\"a\":[",
            "{\"a\":\"",
        ] {
            for slice in [1, usize::MAX] {
                assert!(matches!(read(document, slice), Err(Problem::BodyInvalid(_))), "{document}");
            }
        }
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(31), usize::MAX).is_ok());
        assert!(read(&nested(32), usize::MAX).is_err());
        assert!(read(&nested(1_000_000), usize::MAX).is_err());
    }

    #[test]
    fn doubled_members_and_values_that_are_no_primitives_are_told_apart() {
        for document in [r#"{"key":"a","key":"a"}"#, r#"{"value":1,"v\u0061lue":1}"#] {
            assert!(matches!(read(document, 9), Err(Problem::ParameterInvalid(_))), "{document}");
        }
        assert!(read(r#"{"x":1,"x":2}"#, 9).is_ok());
        for document in
            [r#"{"values":[[1]]}"#, r#"{"values":[1,{}]}"#, r#"{"values":[1e9999999999999999999]}"#]
        {
            assert!(fields(document).is_unfit, "{document}");
        }
        let fit = r#"{"x":[[1]],"value":1e9999999999999999999,"values":["e",1e5,0e99999999999999999999]}"#;
        assert!(!fields(fit).is_unfit);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_document_is_taken_when_another_reader_takes_it(
            value in json(), cut in any::<prop::sample::Index>(), slice in 1usize..50,
        ) {
            let document = format!("{{\"value\":{value}}}");
            let found = read(&document, slice).unwrap();
            prop_assert_eq!(&document[found.value.unwrap()], value.to_string());
            let mut bytes = document.into_bytes();
            bytes.remove(cut.index(bytes.len()));
            let other = serde_json::from_slice::<serde_json::Map<_, _>>(&bytes);
            let mut reader = Reader::new();
            let read = loop {
                match reader.read(&bytes, slice) {
                    Ok(false) => {}
                    Ok(true) => break true,
                    Err(_) => break false,
                }
            };
            prop_assert_eq!(read, other.is_ok());
        }
    }
}
