//! The one table of what the node serves: for each path and method the family, the grant, the body
//! it takes and what answers it.
//!
//! Routing, the `Allow` of a 405 and of `OPTIONS`, and every grant check are made from [`ROUTES`];
//! there is no second list. Paths are matched raw, before percent-decoding, so `%2F` is data and
//! nothing is folded. Rows are tried from the top: the first serves the hot path with one compare.

use crate::auth::Grants;
use crate::http::Method;

use super::message::Problem;

/// The API families, by who calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Values by key: `/api/kv`.
    Kv,
    /// The node itself: health and the welcome page.
    Node,
}

/// How a row's path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The whole path.
    Exact(&'static str),
    /// Everything behind this prefix is the key, also nothing.
    Key(&'static str),
}

impl Path {
    fn matches(self, path: &[u8]) -> bool {
        match self {
            Path::Exact(exact) => path == exact.as_bytes(),
            Path::Key(prefix) => path.starts_with(prefix.as_bytes()),
        }
    }

    /// The path as documents write it.
    pub fn pattern(self) -> String {
        match self {
            Path::Exact(exact) => exact.to_owned(),
            Path::Key(prefix) => format!("{prefix}{{key}}"),
        }
    }
}

/// What a caller must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No credential at all.
    Nothing,
    /// This grant.
    Grant(Grants),
    /// Any of these; the body decides which, and is checked once it is parsed.
    AnyOf(Grants),
}

/// The body a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None: one that comes all the same is read and thrown away, within a bound.
    Ignored,
    /// A value to be stored.
    Value,
    /// A few words: an operation on a key.
    Words,
    /// As large as a request may be.
    Request,
}

/// What is done with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read it; also serves `HEAD`.
    Get,
    /// Create or replace it.
    Put,
    /// Remove it.
    Delete,
    /// One operation out of the body.
    Patch,
}

/// Who answers a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One key's owner.
    Key(Verb),
    /// Every shard, by a scan.
    List,
    /// The shards that own the keys of the batch.
    Batch,
    /// `/health`.
    Health,
    /// `/livez`.
    Live,
    /// `/readyz`.
    Ready,
    /// `/robots.txt`.
    Robots,
    /// `/`.
    Welcome,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Which paths.
    pub path: Path,
    /// Which method; `None` takes any. `HEAD` goes wherever `GET` goes.
    pub method: Option<Method>,
    /// Whose API it belongs to.
    pub family: Family,
    /// What the caller must hold.
    pub need: Need,
    /// What body it takes.
    pub body: Body,
    /// Who answers.
    pub endpoint: Endpoint,
}

impl Route {
    fn serves(&self, method: Method) -> bool {
        match self.method {
            Some(own) => own == method || (own == Method::Get && method == Method::Head),
            None => true,
        }
    }
}

const fn key(method: Method, need: Need, body: Body, verb: Verb) -> Route {
    Route {
        path: Path::Key("/api/kv/"),
        method: Some(method),
        family: Family::Kv,
        need,
        body,
        endpoint: Endpoint::Key(verb),
    }
}

const fn node(path: &'static str, method: Option<Method>, endpoint: Endpoint) -> Route {
    Route {
        path: Path::Exact(path),
        method,
        family: Family::Node,
        need: Need::Nothing,
        body: Body::Ignored,
        endpoint,
    }
}

/// A PATCH may lock, or write.
const PATCH_NEED: Need = Need::AnyOf(Grants::KV_WRITE.union(Grants::KV_LOCK));

/// A batch may read, write or delete.
const BATCH_NEED: Need = Need::AnyOf(Grants::KV_READ.union(Grants::KV_WRITE).union(Grants::KV_DELETE));

/// The table.
pub static ROUTES: [Route; 11] = [
    key(Method::Get, Need::Grant(Grants::KV_READ), Body::Ignored, Verb::Get),
    key(Method::Put, Need::Grant(Grants::KV_WRITE), Body::Value, Verb::Put),
    key(Method::Delete, Need::Grant(Grants::KV_DELETE), Body::Ignored, Verb::Delete),
    key(Method::Patch, PATCH_NEED, Body::Words, Verb::Patch),
    Route {
        path: Path::Exact("/api/kv/batch"),
        method: Some(Method::Post),
        family: Family::Kv,
        need: BATCH_NEED,
        body: Body::Request,
        endpoint: Endpoint::Batch,
    },
    Route {
        path: Path::Exact("/api/kv"),
        method: Some(Method::Get),
        family: Family::Kv,
        need: Need::Grant(Grants::KV_LIST),
        body: Body::Ignored,
        endpoint: Endpoint::List,
    },
    node("/health", None, Endpoint::Health),
    node("/livez", Some(Method::Get), Endpoint::Live),
    node("/readyz", Some(Method::Get), Endpoint::Ready),
    node("/robots.txt", Some(Method::Get), Endpoint::Robots),
    node("/", Some(Method::Get), Endpoint::Welcome),
];

/// What the table has for a request.
#[derive(Clone, Copy, Debug)]
pub enum Routed {
    /// This row serves it.
    To(&'static Route),
    /// `OPTIONS`: the methods of the path, for anyone who asks.
    Options(Methods),
}

/// Finds the row of a request by its raw path.
pub fn find(path: &[u8], method: Method) -> Result<Routed, Problem> {
    for route in &ROUTES {
        if route.serves(method) && route.path.matches(path) {
            return Ok(Routed::To(route));
        }
    }
    find_other(path, method)
}

#[cold]
fn find_other(path: &[u8], method: Method) -> Result<Routed, Problem> {
    // The whole server (`OPTIONS *`), and an absolute target that ends with its authority.
    let everything = method == Method::Options && path == b"*";
    if path.is_empty() {
        return find(b"/", method);
    }
    let methods = ROUTES
        .iter()
        .filter(|route| everything || route.path.matches(path))
        .fold(Methods::NONE, |methods, route| methods.with(route));
    match (methods, method) {
        (Methods::NONE, _) => Err(Problem::NoSuchPath),
        (methods, Method::Options) => Ok(Routed::Options(methods)),
        (methods, _) => Err(Problem::MethodNotAllowed(methods)),
    }
}

/// Every method there is, in the order in which `Allow` names them.
const METHODS: [(Method, &str); 7] = [
    (Method::Get, "GET"),
    (Method::Head, "HEAD"),
    (Method::Put, "PUT"),
    (Method::Post, "POST"),
    (Method::Patch, "PATCH"),
    (Method::Delete, "DELETE"),
    (Method::Options, "OPTIONS"),
];

/// A set of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    const NONE: Methods = Methods(0);

    /// Every method, for the one path that takes any.
    pub const ALL: Methods = Methods((1 << METHODS.len()) - 1);

    fn with(self, route: &Route) -> Methods {
        METHODS.iter().enumerate().fold(self, |set, (bit, (method, _))| {
            let named = *method == Method::Options || route.serves(*method);
            Methods(set.0 | u8::from(named) << bit)
        })
    }

    /// Appends the list, as `Allow` has it.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut first = true;
        for (bit, (_, name)) in METHODS.iter().enumerate() {
            if self.0 & 1 << bit != 0 {
                if !first {
                    out.extend_from_slice(b", ");
                }
                first = false;
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Methods, Need, ROUTES, Routed, Verb, find};
    use crate::api::message::Problem;
    use crate::http::Method;

    fn endpoint(path: &str, method: Method) -> Endpoint {
        match find(path.as_bytes(), method) {
            Ok(Routed::To(route)) => route.endpoint,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn allow(methods: Methods) -> String {
        let mut out = Vec::new();
        methods.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_behind_the_prefix_is_a_key_also_nothing_slashes_and_dots() {
        for path in ["/api/kv/a", "/api/kv/", "/api/kv/a/b//../c", "/api/kv/batch", "/api/kv/%2F"] {
            assert_eq!(endpoint(path, Method::Get), Endpoint::Key(Verb::Get), "{path}");
            assert_eq!(endpoint(path, Method::Head), Endpoint::Key(Verb::Get), "{path}");
        }
        assert_eq!(endpoint("/api/kv", Method::Get), Endpoint::List);
        assert_eq!(endpoint("/api/kv", Method::Head), Endpoint::List);
        assert_eq!(endpoint("/api/kv/batch", Method::Post), Endpoint::Batch);
        assert_eq!(endpoint("", Method::Get), Endpoint::Welcome);
    }

    #[test]
    fn a_path_without_a_row_is_404_and_a_method_without_one_is_405_with_its_methods() {
        for path in ["/api/k", "/api/kvx", "/API/kv/a", "/health/", "/api//kv/a", "*", "/x", "api/kv"] {
            assert!(matches!(find(path.as_bytes(), Method::Get), Err(Problem::NoSuchPath)), "{path}");
        }
        let refused = |path: &str, method| match find(path.as_bytes(), method) {
            Err(Problem::MethodNotAllowed(methods)) => allow(methods),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(refused("/api/kv/a", Method::Post), "GET, HEAD, PUT, PATCH, DELETE, OPTIONS");
        assert_eq!(refused("/api/kv", Method::Delete), "GET, HEAD, OPTIONS");
        assert_eq!(refused("/", Method::Put), "GET, HEAD, OPTIONS");
        assert_eq!(refused("/api/kv/%62atch", Method::Post), "GET, HEAD, PUT, PATCH, DELETE, OPTIONS");
    }

    #[test]
    fn options_names_the_methods_of_a_path_and_a_star_those_of_all() {
        let offered = |path: &str| match find(path.as_bytes(), Method::Options) {
            Ok(Routed::Options(methods)) => allow(methods),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(offered("/api/kv/a"), "GET, HEAD, PUT, PATCH, DELETE, OPTIONS");
        assert_eq!(offered("/api/kv/batch"), "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS");
        assert_eq!(offered("*"), allow(Methods::ALL));
        assert!(matches!(find(b"/x", Method::Options), Err(Problem::NoSuchPath)));
    }

    #[test]
    fn health_takes_any_method() {
        for method in [Method::Get, Method::Post, Method::Options, Method::Delete, Method::Head] {
            assert_eq!(endpoint("/health", method), Endpoint::Health);
        }
    }

    #[test]
    fn every_row_of_the_kv_family_asks_for_a_grant() {
        for route in &ROUTES {
            assert_eq!(route.need == Need::Nothing, route.path.pattern().find("/api").is_none());
        }
    }
}
