//! Takes a request's body out of the bytes that follow its head (RFC 9112, sections 6 and 7).
//!
//! Hands out runs of the input and never copies or keeps any of it. Chunked framing is read more
//! strictly than the RFC asks: a size is 1 to 16 hexadecimal digits with nothing before and only
//! `;` or CRLF behind them, every line ends in CRLF, and extensions and trailers are checked before
//! they are ignored. The loops run over input that is there; what a peer can make longer than its
//! data, a size line and the trailers, is bounded.

use super::Refusal;
use super::field::{is_token_byte, is_value_byte};
use super::request::Framing;
use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// The body of one request on its way in.
#[derive(Clone, Debug)]
pub enum BodyDecoder {
    /// The head named its length.
    Sized {
        /// Bytes still to come.
        left: u64,
    },
    /// It says itself where it ends.
    Chunked(Chunked),
}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'i> {
    /// The next run of the body. May be empty.
    pub data: &'i [u8],
    /// How much of the input is dealt with, up to the end of `data`.
    pub consumed: usize,
    /// The body is complete, and what follows in the input is the next request.
    pub done: bool,
}

impl BodyDecoder {
    /// A decoder for the framing that a head declared.
    pub fn new(framing: Framing) -> BodyDecoder {
        match framing {
            Framing::None => BodyDecoder::Sized { left: 0 },
            Framing::Sized(left) => BodyDecoder::Sized { left },
            Framing::Chunked => {
                BodyDecoder::Chunked(Chunked { state: State::Size { digits: 0 }, size: 0, seen: 0 })
            }
        }
    }

    /// Takes the next run of body bytes from the input. The caller goes on with what is left of the
    /// input until that is empty or the body is done. After an error the connection is closed.
    pub fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<'i>, Refusal> {
        match self {
            BodyDecoder::Sized { left } => {
                let run = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= run as u64;
                Ok(Decoded { data: &input[..run], consumed: run, done: *left == 0 })
            }
            BodyDecoder::Chunked(chunked) => chunked.decode(input),
        }
    }
}

/// Where a chunked body is.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// Bytes of the present chunk still to come.
    size: u64,
    /// Bytes of the present size line, or of all trailers, so far.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Sixteen digits fill 64 bits, so a size that has no more cannot overflow.
const SIZE_DIGITS_MAX: u8 = 16;

impl Chunked {
    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<'i>, Refusal> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let run = (input.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= run as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded { data: &input[at..at + run], consumed: at + run, done: false });
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(Decoded { data: &[], consumed: at, done: self.state == State::Done })
    }

    /// The state behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        let next = match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Size { digits: 1.. }, b';') => State::Extension,
            (State::Size { digits: 1.. }, b'\r') | (State::Extension, b'\r') => State::SizeLf,
            (State::Size { .. }, _) => return Err(Refusal::BadRequest("a chunk size is malformed")),
            (State::Extension, _) if is_value_byte(byte) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.seen = 0;
                return Ok(if self.size == 0 { State::Trailer } else { State::Data });
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => return Ok(State::Size { digits: 0 }),
            (State::DataCr | State::DataLf, _) => {
                return Err(Refusal::BadRequest("a chunk is not as long as its size says"));
            }
            (State::Trailer, b'\r') => State::EndLf,
            (State::Trailer | State::TrailerName, _) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(Refusal::BadRequest("a chunk extension or a trailer is malformed")),
        };
        self.measure(next)?;
        Ok(next)
    }

    /// Counts the byte that led to `next` towards its line's limit. Line ends that belong to the
    /// framing itself are free.
    fn measure(&mut self, next: State) -> Result<(), Refusal> {
        match next {
            State::Size { .. } | State::Extension => {
                self.seen += 1;
                if self.seen > CHUNK_LINE_BYTES_MAX {
                    return Err(Refusal::BadRequest("a chunk-size line is longer than 256 bytes"));
                }
            }
            State::TrailerName | State::TrailerValue | State::TrailerLf | State::Trailer => {
                self.seen += 1;
                if self.seen > TRAILER_BYTES_MAX {
                    return Err(Refusal::HeadTooLarge);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::BodyDecoder;
    use crate::http::{Framing, Refusal};
    use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

    /// A body and the bytes behind it.
    type Message = (Vec<u8>, Vec<u8>);

    /// Feeds the input in pieces. `None`: the body wants more.
    fn decode<'i>(
        framing: Framing,
        pieces: impl IntoIterator<Item = &'i [u8]>,
    ) -> Result<Option<Message>, Refusal> {
        let mut decoder = BodyDecoder::new(framing);
        let (mut body, mut rest, mut done) = (Vec::new(), Vec::new(), false);
        for mut piece in pieces {
            while !done && !piece.is_empty() {
                let decoded = decoder.decode(piece)?;
                assert!(decoded.consumed > 0 || decoded.done, "a call that does nothing would never end");
                body.extend_from_slice(decoded.data);
                piece = &piece[decoded.consumed..];
                done = decoded.done;
            }
            rest.extend_from_slice(piece);
        }
        Ok(done.then_some((body, rest)))
    }

    fn chunked(input: &str) -> Result<Option<Message>, Refusal> {
        decode(Framing::Chunked, [input.as_bytes()])
    }

    #[test]
    fn a_sized_body_ends_where_its_length_says() {
        for len in 0..=6 {
            let got = decode(Framing::Sized(len), [&b"ab"[..], b"cde"]).unwrap();
            let len = len as usize;
            if len == 6 {
                assert_eq!(got, None);
            } else {
                assert_eq!(got, Some((b"abcde"[..len].to_vec(), b"abcde"[len..].to_vec())));
            }
        }
        assert!(BodyDecoder::new(Framing::None).decode(b"GET").unwrap().done);
        assert!(BodyDecoder::new(Framing::Sized(0)).decode(b"").unwrap().done);
    }

    const WHOLE: &str = "5;a=\"b;c\" \r\nhello\r\n00000000000000A;x;y=z\r\n, big wide\r\n6\r\n world\r\n\
                         0;last\r\nDigest: x\r\nEmpty:\r\nX-Y:\t a b \r\n\r\nGET /";

    #[test]
    fn chunks_are_put_together_and_the_rest_is_left() {
        let (body, rest) = chunked(WHOLE).unwrap().unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), "hello, big wide world");
        assert_eq!(rest, b"GET /");
    }

    #[test]
    fn a_chunked_body_split_at_every_byte_decodes_the_same() {
        let whole = chunked(WHOLE).unwrap();
        for at in 0..=WHOLE.len() {
            let (head, tail) = WHOLE.as_bytes().split_at(at);
            assert_eq!(decode(Framing::Chunked, [head, tail]).unwrap(), whole, "split at {at}");
        }
        assert_eq!(decode(Framing::Chunked, WHOLE.as_bytes().chunks(1)).unwrap(), whole);
    }

    #[test]
    fn a_chunked_body_cut_anywhere_wants_more() {
        let end = WHOLE.find("GET").unwrap();
        for at in 0..end {
            assert_eq!(chunked(&WHOLE[..at]), Ok(None), "cut at {at}");
        }
        assert!(chunked(&WHOLE[..end]).unwrap().is_some());
    }

    #[test]
    fn sizes_are_hexadecimal_digits_and_nothing_else() {
        for size in ["a", "A", "0a", "000000000000000a"] {
            assert!(chunked(&format!("{size}\r\n0123456789\r\n0\r\n\r\n")).unwrap().is_some(), "{size}");
        }
        for size in [
            "",
            " a",
            "a ",
            "\ta",
            "a\t",
            "+a",
            "-a",
            "0xa",
            "0Xa",
            "a h",
            "ah",
            "1_0",
            "a,",
            "a.",
            "\"a\"",
            "a ;x",
            "0000000000000000a",
            "1000000000000000a",
            "ffffffffffffffffa",
            ";x",
            "\u{ff11}",
        ] {
            let refused = chunked(&format!("{size}\r\n0123456789\r\n0\r\n\r\n"));
            assert!(matches!(refused, Err(Refusal::BadRequest(_))), "{size:?}: {refused:?}");
        }
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let decoded = decoder.decode(b"ffffffffffffffff\r\nabc").unwrap();
        assert_eq!((decoded.data, decoded.done), (&b"abc"[..], false));
    }

    #[test]
    fn every_line_of_the_framing_ends_in_crlf() {
        for body in [
            "1\nx\r\n0\r\n\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1\r\nx\r\n0\n\r\n",
            "1\r\nx\r\n0\r\n\n",
            "1\rx\r\n0\r\n\r\n",
            "1\r\r\nx\r\n0\r\n\r\n",
            "1\r\nx\r0\r\n\r\n",
            "1\r\nx0\r\n\r\n",
            "1\r\nxy\r\n0\r\n\r\n",
            "2\r\nx\r\n0\r\n\r\n",
            "1;a\nx\r\n0\r\n\r\n",
            "1;a\rb\r\nx\r\n0\r\n\r\n",
            "1;\0\r\nx\r\n0\r\n\r\n",
            "1;\x7f\r\nx\r\n0\r\n\r\n",
            "\r\n1\r\nx\r\n0\r\n\r\n",
            "0\r\n\rX",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\rc\r\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA B: c\r\n\r\n",
            "0\r\n A: b\r\n\r\n",
        ] {
            assert!(matches!(chunked(body), Err(Refusal::BadRequest(_))), "{body:?}");
        }
    }

    #[test]
    fn a_size_line_is_bounded() {
        for (len, fits) in [
            (CHUNK_LINE_BYTES_MAX - 1, true),
            (CHUNK_LINE_BYTES_MAX, true),
            (CHUNK_LINE_BYTES_MAX + 1, false),
        ] {
            let line = format!("0;{}", "x".repeat(len - 2));
            let got = chunked(&format!("1\r\nx\r\n{line}\r\n\r\n"));
            assert_eq!(got.is_ok(), fits, "{len}");
            assert!(fits || matches!(got, Err(Refusal::BadRequest(_))));
        }
    }

    #[test]
    fn the_size_line_limit_holds_for_each_line_and_the_refusal_needs_no_line_end() {
        let line = format!("1;{}\r\nx\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX - 2));
        assert!(chunked(&format!("{}0\r\n\r\n", line.repeat(40))).unwrap().is_some());
        assert!(chunked(&format!("1;{}", "x".repeat(CHUNK_LINE_BYTES_MAX - 1))).is_err());
    }

    #[test]
    fn trailers_are_bounded_in_all() {
        for (len, fits) in
            [(TRAILER_BYTES_MAX - 1, true), (TRAILER_BYTES_MAX, true), (TRAILER_BYTES_MAX + 1, false)]
        {
            let first = "A: b\r\n";
            let second = format!("X: {}\r\n", "y".repeat(len - first.len() - 5));
            assert_eq!(first.len() + second.len(), len);
            let got = chunked(&format!("0\r\n{first}{second}\r\n"));
            assert_eq!(got.is_ok(), fits, "{len}");
            assert!(fits || got == Err(Refusal::HeadTooLarge));
        }
    }
}
