//! A token is admitted for what it says under our key, and for nothing else: the vectors of the
//! RFCs and of the original, a table of hostile tokens, and the jsonwebtoken crate beside us.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use lucid::auth::{
    Authenticator, Form, Grants, Identity, Remembered, Trust, Unauthorized, Verifier, VerifierConfig,
    root_token, sign,
};
use lucid::clock::Clock;
use lucid::limits::{CREDENTIAL_BYTES_MAX, JSON_DEPTH_MAX};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

/// The secret of the original's sample file: 64 hexadecimal digits, used as the text they are.
const SECRET: &str = "03dfe6e600e2620388311955ab3bee32cd6cbb8aca75dace6cfc2e2a43db5dfd";

/// The original's claims, good until 2100.
const UNTIL_2100: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJMdWNpZCBSb290IFRva2VuIiwiaXNzIjoiaHR0cDovL2xvY2FsaG9zdDo3MDIxLyIsImlhdCI6MTU3NDQyMDE0NSwiZXhwIjo0MTAyNDQ0ODAwfQ.jWx1sTSGHE6geupZLIBjwy2YogXaUv4AJav0YCmg2iw";

/// The root token of the original's sample file.
const UNTIL_2022: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJMdWNpZCBSb290IFRva2VuIiwiaXNzIjoiaHR0cDovLzEyNy4wLjAuMTo3MDIxLyIsImlhdCI6MTU3NDQyMDE0NSwiZXhwIjoxNjY4NzY4OTQ1fQ.iGGRmZXjwsO4PSQKNI1qGtsA1Sj94SBXB4WU_XN5EuQ";

/// RFC 7515, appendix A.1: the token, and the octets of its key.
const RFC_7515_A1: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC_7515_A1_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// The time of the tests that need none in particular.
const NOW: u64 = 1_700_000_000;

fn verifier(secret: &[u8]) -> Verifier {
    Verifier::new(VerifierConfig { enabled: true, secret, leeway_seconds: 0, require_exp: true })
}

fn verify(token: &str, now: u64) -> Result<Identity, Unauthorized> {
    verifier(SECRET.as_bytes()).verify(token.as_bytes(), now).map(|known| known.identity)
}

/// Signs two parts, already encoded, by the other implementation.
fn sign_parts(header: &str, payload: &str) -> String {
    let signed = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let tag = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{tag}")
}

fn token(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    sign_parts(&BASE64URL.encode(header), &BASE64URL.encode(payload))
}

fn with_header(header: impl AsRef<[u8]>) -> String {
    token(header, format!(r#"{{"exp":{}}}"#, NOW + 60))
}

/// A payload that is good but for these members.
fn with_claims(members: &str) -> String {
    token(HEADER, format!(r#"{{"exp":{},{members}}}"#, NOW + 60))
}

fn with_payload(payload: impl AsRef<[u8]>) -> String {
    token(HEADER, payload)
}

#[test]
fn the_vectors_of_the_original_are_admitted_by_their_times() {
    let identity = verify(UNTIL_2100, NOW).unwrap();
    assert_eq!(
        identity,
        Identity { grants: Grants::ALL, form: Form::Jwt, not_before: 0, expires: 4_102_444_800 }
    );
    assert!(verify(UNTIL_2100, 4_102_444_799).is_ok());
    assert_eq!(verify(UNTIL_2100, 4_102_444_800), Err(Unauthorized::Expired));
    assert_eq!(verify(UNTIL_2022, NOW), Err(Unauthorized::Expired));
    assert!(verify(UNTIL_2022, 1_668_768_944).is_ok());
    assert_eq!(verify(UNTIL_2022, 1_668_768_945), Err(Unauthorized::Expired));
}

#[test]
fn a_root_token_is_the_original_one_bit_for_bit() {
    assert_eq!(
        sign(
            SECRET.as_bytes(),
            r#"{"sub":"Lucid Root Token","iss":"http://localhost:7021/","iat":1574420145,"exp":4102444800}"#
        ),
        UNTIL_2100
    );
    assert_eq!(root_token(SECRET.as_bytes(), "http://127.0.0.1:7021/", 1_574_420_145), UNTIL_2022);
}

#[test]
fn the_secret_is_its_text_and_not_what_its_digits_encode() {
    let digit = |at: usize| u8::from_str_radix(&SECRET[at..at + 2], 16).unwrap();
    let decoded: Vec<u8> = (0..SECRET.len()).step_by(2).map(digit).collect();
    let refused = verifier(&decoded).verify(UNTIL_2100.as_bytes(), NOW);
    assert_eq!(refused, Err(Unauthorized::SignatureWrong));
}

#[test]
fn the_vector_of_rfc_7515_is_admitted_in_its_time() {
    let verifier = verifier(&BASE64URL.decode(RFC_7515_A1_KEY).unwrap());
    let identity = verifier.verify(RFC_7515_A1.as_bytes(), 1_300_819_379).unwrap().identity;
    assert_eq!(
        identity,
        Identity { grants: Grants::ALL, form: Form::Jwt, not_before: 0, expires: 1_300_819_380 }
    );
    assert_eq!(verifier.verify(RFC_7515_A1.as_bytes(), 1_300_819_380), Err(Unauthorized::Expired));
}

#[test]
fn tokens_of_many_shapes_are_admitted() {
    let deep = JSON_DEPTH_MAX - 1;
    for (what, token) in [
        ("no typ", with_header(r#"{"alg":"HS256"}"#)),
        ("typ of another kind", with_header(r#"{"typ":"at+jwt","alg":"HS256"}"#)),
        ("unknown header members", with_header(r#"{"alg":"HS256","kid":"1","x":{"alg":"none"}}"#)),
        ("escaped alg", with_header(r#"{"\u0061lg":"\u0048S256"}"#)),
        ("blanks", token(" {\r\n\t\"alg\" : \"HS256\" } ", format!(" {{ \"exp\" : {} }}\n", NOW + 1))),
        ("empty sub and iss", with_claims(r#""sub":"","iss":"""#)),
        ("escapes in sub", with_claims(r#""sub":"\"\\\/\u00e9\ud83d\ude00""#)),
        ("unknown claims", with_claims(r#""aud":["x"],"jti":7,"a":null,"b":1.5e-3,"c":{"exp":"x"}"#)),
        ("a long way to nbf's edge", with_claims(&format!(r#""nbf":{NOW},"iat":{}"#, NOW + 10))),
        ("nesting up to the limit", with_claims(&format!(r#""a":{}{}"#, "[".repeat(deep), "]".repeat(deep)))),
        ("exp beyond any clock", with_payload(r#"{"exp":18446744073709551615}"#)),
    ] {
        assert!(verify(&token, NOW).is_ok(), "{what}: {:?}", verify(&token, NOW));
    }
}

#[test]
fn a_token_may_be_as_long_as_the_limit_and_no_longer() {
    // Two bytes of padding in a claim make a token of every length that base64url allows.
    let mut longest = 0;
    for padding in 2_900..3_100 {
        let token = with_claims(&format!(r#""pad":"{}""#, "x".repeat(padding)));
        match verify(&token, NOW) {
            Ok(_) => longest = longest.max(token.len()),
            Err(why) => {
                assert_eq!(why, Unauthorized::TooLong);
                assert!(token.len() > CREDENTIAL_BYTES_MAX);
            }
        }
    }
    assert!((CREDENTIAL_BYTES_MAX - 1..=CREDENTIAL_BYTES_MAX).contains(&longest), "{longest}");
}

#[test]
fn every_hostile_token_is_refused() {
    let tokens = hostile_tokens();
    assert!(tokens.len() >= 100, "{}", tokens.len());
    let good = with_claims(r#""sub":"good""#);
    let trust = Trust::new(verifier(SECRET.as_bytes())).unwrap();
    let mut authenticator = Authenticator::new(trust);
    let mut admit = |remembered: &mut Remembered, token: &str| {
        authenticator.check(remembered, Some(token.as_bytes()), NOW)
    };
    let mut remembered = Remembered::default();
    for (what, token) in &tokens {
        assert!(verify(token, NOW).is_err(), "{what}: {token}");
        // Refused on a connection that has shown a good token too, and leaves that one good.
        assert!(admit(&mut remembered, &good).is_ok());
        for _ in 0..2 {
            assert!(admit(&mut remembered, token).is_err(), "{what}");
        }
    }
}

/// What each token is, and the token. All are well signed unless that is what is wrong with them.
fn hostile_tokens() -> Vec<(String, String)> {
    let mut tokens = Vec::new();
    misshapen(&mut tokens);
    wrongly_signed(&mut tokens);
    hostile_headers(&mut tokens);
    hostile_claims(&mut tokens);
    hostile_payloads(&mut tokens);
    tokens
}

fn misshapen(tokens: &mut Vec<(String, String)>) {
    let good = with_claims(r#""sub":"x""#);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, tag] = parts[..] else { panic!("three parts") };
    let mut add = |what: &str, token: String| tokens.push((what.into(), token));
    for text in ["", ".", "..", "...", "....", "a", "a.b", "a.b.c", "null", "undefined", "Bearer", "{}"] {
        add("no token at all", text.into());
    }
    add("one part", header.into());
    add("two parts", format!("{header}.{payload}"));
    add("an empty signature", format!("{header}.{payload}."));
    add("an empty payload", sign_parts(header, ""));
    add("an empty header", sign_parts("", payload));
    add("four parts", format!("{good}.{tag}"));
    add("a trailing dot", format!("{good}."));
    add("a leading dot", format!(".{good}"));
    add("five parts, as in JWE", format!("{header}.{payload}.{tag}.{payload}.{tag}"));
    add("commas for dots", good.replace('.', ","));
    add("a padded signature", format!("{good}="));
    add("a padded header", sign_parts(&format!("{header}="), payload));
    add("a padded payload", sign_parts(header, &format!("{payload}==")));
    for blank in [" ", "\t", "\n", "\r\n", "\0", "\u{a0}", "\u{200b}"] {
        add("a blank before", format!("{blank}{good}"));
        add("a blank behind", format!("{good}{blank}"));
        add("a blank in the payload", sign_parts(header, &format!("{blank}{payload}")));
        add("a blank before the signature", format!("{header}.{payload}.{blank}{tag}"));
    }
    add("quotes around", format!("\"{good}\""));
    add("percent-encoded dots", good.replace('.', "%2E"));
    add("the scheme within", format!("Bearer {good}"));
    add("upper case", good.to_uppercase());
    // Bits that no octet holds: the same octets decode from three other last characters.
    add("bits left over in the signature", format!("{header}.{payload}.{}", loosen(tag)));
    let loose_header = BASE64URL.encode(r#"{"alg":"HS256"} "#);
    add("bits left over in the header", sign_parts(&loosen(&loose_header), payload));
    let loose_payload = BASE64URL.encode(format!(r#"{{"exp":{}}} "#, NOW + 60));
    assert!(loose_payload.len() % 4 != 0, "the payload must have bits to leave over");
    add("bits left over in the payload", sign_parts(header, &loosen(&loose_payload)));
    add("a part of 4n + 1 characters", sign_parts(header, &format!("{loose_payload}AAA")));
    let standard = BASE64URL.encode(format!(r#"{{"exp":{},"a":"???>>>~~~"}}"#, NOW + 60));
    assert!(standard.contains(['-', '_']), "{standard}");
    add("the standard alphabet", sign_parts(header, &standard.replace('-', "+").replace('_', "/")));
    add("over the length limit", with_claims(&format!(r#""a":"{}""#, "x".repeat(4_000))));
    add("far over the length limit", "a.".repeat(1 << 20));
    add("over the limit in one part", format!("{}.b.c", "a".repeat(CREDENTIAL_BYTES_MAX)));
}

/// Sets a bit of the last character that decodes to nothing.
fn loosen(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = part.chars().last().unwrap();
    let at = ALPHABET.find(last).unwrap();
    format!("{}{}", &part[..part.len() - 1], &ALPHABET[at + 1..=at + 1])
}

fn wrongly_signed(tokens: &mut Vec<(String, String)>) {
    let good = with_claims(r#""sub":"x""#);
    let (signed, tag) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let mut add = |what: &str, token: String| tokens.push((what.into(), token));
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 60);
    for secret in ["", "secret", &SECRET[..63], &format!("{SECRET} "), &SECRET.to_uppercase(), "\0"] {
        add("another secret", sign(secret.as_bytes(), &claims));
    }
    add("the signature of another token", format!("{signed}.{}", UNTIL_2100.rsplit_once('.').unwrap().1));
    add("no octets", format!("{signed}.{}", BASE64URL.encode([0; 32])));
    add("all ones", format!("{signed}.{}", BASE64URL.encode([0xff; 32])));
    let octets = BASE64URL.decode(tag).unwrap();
    for length in [0, 1, 16, 31] {
        add("a cut signature", format!("{signed}.{}", BASE64URL.encode(&octets[..length])));
    }
    add("a longer signature", format!("{signed}.{}", BASE64URL.encode([&octets[..], &[0]].concat())));
    add("a doubled signature", format!("{signed}.{}", BASE64URL.encode([&octets[..], &octets].concat())));
    for bit in [0, 7, 128, 255] {
        let mut octets = octets.clone();
        octets[bit / 8] ^= 1 << (bit % 8);
        add("a bit of the signature", format!("{signed}.{}", BASE64URL.encode(octets)));
    }
    add("another payload", format!("{header}.{}.{tag}", BASE64URL.encode(claims)));
    add("another header", format!("{}.{payload}.{tag}", BASE64URL.encode(r#"{"alg":"HS256"}"#)));
    add("parts changed about", format!("{payload}.{header}.{tag}"));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let other = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        add("signed under another algorithm than said", format!("{signed}.{other}"));
        let header = BASE64URL.encode(format!(r#"{{"alg":"{algorithm:?}"}}"#));
        let signed = format!("{header}.{payload}");
        let other = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
        add("well signed under another algorithm", format!("{signed}.{other}"));
    }
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = BASE64URL.encode(format!(r#"{{"alg":"{none}"}}"#));
        add("unsigned", format!("{header}.{payload}."));
        add("unsigned, with a signature", sign_parts(&header, payload));
    }
}

fn hostile_headers(tokens: &mut Vec<(String, String)>) {
    let deep = JSON_DEPTH_MAX;
    let wide: Vec<_> = (0..64).map(|name| format!("\"{name}\":0")).collect();
    for header in [
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"Hs256"}"#,
        r#"{"alg":"HS256 "}"#,
        r#"{"alg":" HS256"}"#,
        r#"{"alg":"HS256\u0000"}"#,
        r#"{"alg":"HS2560"}"#,
        r#"{"alg":"HS25"}"#,
        r#"{"alg":"HMAC"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"dir","enc":"A256GCM"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":256}"#,
        r#"{"alg":true}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"HS256":1}}"#,
        r#"{"Alg":"HS256"}"#,
        r#"{"ALG":"HS256"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"x":{"alg":"HS256"}}"#,
        r#"{}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","\u0061lg":"HS256"}"#,
        r#"{"alg":"HS256","a":1,"a":2}"#,
        r#"{"alg":"HS256","a":{"b":1,"b":2}}"#,
        r#"{"alg":"HS256","typ":1}"#,
        r#"{"alg":"HS256","typ":null}"#,
        r#"{"alg":"HS256","typ":["JWT"]}"#,
        r#"{"alg":"HS256","typ":"JWT","typ":"JWT"}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","crit":"exp"}"#,
        r#"{"alg":"HS256","\u0063rit":["exp"]}"#,
        r#"["HS256"]"#,
        r#""HS256""#,
        r#"null"#,
        r#"{"alg":"HS256""#,
        r#"{"alg":"HS256"}}"#,
        r#"{"alg":"HS256"}{"alg":"HS256"}"#,
        r#"{"alg":"HS256",}"#,
        r#"{'alg':'HS256'}"#,
        r#"{alg:"HS256"}"#,
        r#"{"alg":"HS256"/**/}"#,
        "{\"alg\":\"HS256\"}\0",
        "\u{feff}{\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"a\":\"\n\"}",
        r#"{"alg":"HS256","a":"\ud800"}"#,
        &format!(r#"{{"alg":"HS256","a":{}{}}}"#, "[".repeat(deep), "]".repeat(deep)),
        &format!(r#"{{"alg":"HS256","a":{}0{}}}"#, r#"{"a":"#.repeat(deep), "}".repeat(deep)),
        &format!(r#"{{"alg":"HS256",{}}}"#, wide.join(",")),
        &"[".repeat(2_000),
        &r#"{"":"#.repeat(500),
    ] {
        tokens.push((format!("header {header}"), with_header(header)));
    }
    tokens.push(("a header that is no UTF-8".into(), with_header(b"{\"alg\":\"HS256\",\"a\":\"\xff\"}")));
    tokens.push(("a header of zeros".into(), with_header([0; 32])));
}

fn hostile_claims(tokens: &mut Vec<(String, String)>) {
    let later = NOW + 60;
    let wrong_times = [
        format!("{later}.0"),
        format!("{later}.5"),
        "1e10".into(),
        "1E+10".into(),
        format!("\"{later}\""),
        "\"\"".into(),
        "null".into(),
        "true".into(),
        format!("[{later}]"),
        format!(r#"{{"seconds":{later}}}"#),
        format!("-{later}"),
        "-1".into(),
        "-0".into(),
        "18446744073709551616".into(),
        "99999999999999999999999999999999".into(),
        format!("0{later}"),
        format!("+{later}"),
        "0x7fffffff".into(),
        "NaN".into(),
        "Infinity".into(),
        "".into(),
    ];
    for time in &wrong_times {
        tokens.push((format!("exp {time}"), with_payload(format!(r#"{{"exp":{time}}}"#))));
        tokens.push((format!("nbf {time}"), with_claims(&format!(r#""nbf":{time}"#))));
        tokens.push((format!("iat {time}"), with_claims(&format!(r#""iat":{time}"#))));
    }
    for exp in [0, 1, NOW - 1, NOW] {
        tokens.push((format!("exp {exp}"), with_payload(format!(r#"{{"exp":{exp}}}"#))));
    }
    for nbf in [NOW + 1, later, u64::MAX] {
        tokens.push((format!("nbf {nbf}"), with_claims(&format!(r#""nbf":{nbf}"#))));
    }
    for members in [
        r#""exp":4102444800"#,
        r#""\u0065xp":4102444800"#,
        r#""nbf":1,"nbf":1"#,
        r#""a":1,"a":1"#,
        r#""a":{"b":[{"c":1,"c":1}]}"#,
        r#""sub":"a","sub":"b""#,
        r#""sub":1"#,
        r#""sub":null"#,
        r#""sub":["a"]"#,
        r#""iss":1"#,
        r#""iss":null"#,
        r#""iss":["a"]"#,
        r#""grants":null"#,
        r#""grants":"kv:read""#,
        r#""grants":{"kv:read":true}"#,
        r#""grants":["kv:read",1]"#,
        r#""grants":["kv:read",null]"#,
        r#""grants":[["kv:read"]]"#,
        r#""grants":true"#,
        r#""grants":[],"grants":["admin"]"#,
        r#""grants":[],"\u0067rants":["admin"]"#,
        r#""scope":null"#,
        r#""scope":["kv:read"]"#,
        r#""scope":1"#,
        r#""scope":"","scope":"admin""#,
    ] {
        tokens.push((format!("claims {members}"), with_claims(members)));
    }
}

fn hostile_payloads(tokens: &mut Vec<(String, String)>) {
    let good = format!(r#"{{"exp":{}}}"#, NOW + 60);
    let deep = JSON_DEPTH_MAX;
    let wide: Vec<_> = (0..64).map(|name| format!("\"{name}\":0")).collect();
    for payload in [
        "{}",
        " ",
        "[]",
        "null",
        "1",
        "\"exp\"",
        UNTIL_2100,
        &format!("[{good}]"),
        &format!("\"{good}\""),
        &format!("{good}{good}"),
        &format!("{good},"),
        &format!("{good}\0"),
        &format!("{good}x"),
        &format!("\u{feff}{good}"),
        &good[..good.len() - 1],
        &good.replace('}', ",}"),
        &good.replace('"', "'"),
        &good.replace('"', ""),
        &good.replace(':', "="),
        &good.replace("exp", "EXP"),
        &good.replace("exp", "exp "),
        &good.replace('}', "/*x*/}"),
        &good.replace('}', ",\"a\":\"\u{1}\"}"),
        &good.replace('}', r#","a":"\udfff"}"#),
        &good.replace('}', r#","a":"\x41"}"#),
        &good.replace('}', &format!(",\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep))),
        &good.replace('}', &format!(",\"a\":{}0{}}}", r#"{"a":"#.repeat(deep), "}".repeat(deep))),
        &good.replace('}', &format!(",{}}}", wide.join(","))),
        &"[".repeat(3_000),
        &r#"{"a":"#.repeat(500),
    ] {
        tokens.push((format!("payload {payload}"), with_payload(payload)));
    }
    let invalid = [good.trim_end_matches('}').as_bytes(), b",\"a\":\"\xc0\xaf\"}"].concat();
    tokens.push(("a payload that is no UTF-8".into(), with_payload(invalid)));
}

/// What the other implementation says, told to check what we check.
fn theirs(token: &str, leeway: u64, require_exp: bool) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = leeway;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    if !require_exp {
        validation.required_spec_claims.clear();
    }
    let key = DecodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::decode::<serde_json::Map<String, serde_json::Value>>(token, &key, &validation).is_ok()
}

/// A time claim: its JSON text, and whether we take it as a time.
#[derive(Clone, Debug)]
struct Time {
    text: Option<String>,
    seconds: Option<i64>,
}

/// Times well away from now, since the other implementation reads the clock itself.
fn time() -> impl Strategy<Value = Time> {
    let now = Clock::wall_seconds() as i64;
    let absent = Just(Time { text: None, seconds: None });
    let whole = prop_oneof![1_000..2_000_i64, -2_000..-1_000_i64, -100..100_i64]
        .prop_map(move |offset| now + offset * 100)
        .prop_map(|seconds| Time { text: Some(seconds.to_string()), seconds: Some(seconds) });
    let wrong =
        prop_oneof!["\"[0-9]{0,12}\"", "[0-9]{10}\\.[0-9]", "-[0-9]{1,10}", "true|null|\\[\\]|\\{\\}"]
            .prop_map(|text| Time { text: Some(text), seconds: None });
    let whole_away = whole.prop_filter("near now", move |time| {
        time.seconds.is_some_and(|seconds| (seconds - now).abs() > 3_000)
    });
    prop_oneof![2 => absent, 6 => whole_away, 1 => wrong]
}

proptest! {
    #[test]
    fn we_agree_with_the_other_implementation(
        exp in time(),
        nbf in time(),
        iat in time(),
        leeway in prop_oneof![Just(0_u64), 1..120_u64],
        require_exp in any::<bool>(),
        sub in "[ -~é😀]{0,12}",
        foreign in any::<bool>(),
    ) {
        let now = Clock::wall_seconds();
        let mut members = vec![format!("\"sub\":{}", serde_json::Value::from(sub))];
        for (name, time) in [("exp", &exp), ("nbf", &nbf), ("iat", &iat)] {
            members.extend(time.text.as_ref().map(|text| format!("\"{name}\":{text}")));
        }
        let claims = format!("{{{}}}", members.join(","));
        let token = if foreign { sign(b"foreign", &claims) } else { sign(SECRET.as_bytes(), &claims) };
        let verifier = Verifier::new(VerifierConfig {
            enabled: true,
            secret: SECRET.as_bytes(),
            leeway_seconds: leeway,
            require_exp,
        });
        let ours = verifier.verify(token.as_bytes(), now).is_ok();
        let theirs = theirs(&token, leeway, require_exp);
        prop_assert!(!ours || theirs, "we admit what they refuse: {}", claims);
        let whole = |time: &Time| time.text.is_none() || time.seconds.is_some_and(|seconds| seconds >= 0);
        if [&exp, &nbf, &iat].into_iter().all(whole) {
            prop_assert_eq!(ours, theirs, "{}", claims);
        } else {
            prop_assert!(!ours, "{}", claims);
        }
    }

    #[test]
    fn a_token_changed_anywhere_is_refused_by_both(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
        let good = UNTIL_2100.as_bytes();
        let at = at.index(good.len());
        for changed in [
            [&good[..at], &[byte], &good[at + 1..]].concat(),
            [&good[..at], &[byte], &good[at..]].concat(),
            [&good[..at], &good[at + 1..]].concat(),
            good[..at].to_vec(),
        ] {
            let changed = String::from_utf8(changed).unwrap();
            let ours = verify(&changed, Clock::wall_seconds()).is_ok();
            prop_assert_eq!(ours, changed == UNTIL_2100, "{}", changed);
            prop_assert_eq!(ours, theirs(&changed, 0, true), "{}", changed);
        }
    }

    #[test]
    fn what_the_other_implementation_signs_is_admitted(sub in ".{0,40}", exp in NOW + 1..u64::MAX) {
        let claims = serde_json::json!({"sub": sub, "exp": exp, "iss": "", "grants": ["kv:list", "other"]});
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        prop_assert_eq!(
            verify(&token, NOW),
            Ok(Identity { grants: Grants::KV_LIST, form: Form::Jwt, not_before: 0, expires: exp })
        );
    }
}
