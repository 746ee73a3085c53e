//! What the node serves, row by row: for each path and method the family, who may, the body it takes
//! and what answers it. The rows are in [`ROUTES`](super::table::ROUTES).
//!
//! Routing, the `Allow` of a 405 and of `OPTIONS`, every check of a credential, the OpenAPI document and
//! the table in the README are made from these rows; there is no second list. A row cannot be written
//! without saying who may ([`Access`]). Paths are matched raw, before percent-decoding, so `%2F` is data
//! and nothing is folded. Rows are tried from the top; those of single keys come first.

use crate::auth::{Forms, Grants};
use crate::http::Method;

use super::databases::{DatabaseVerb, controller::EntryVerb};
use super::light::{ItemVerb, LightVerb};
use super::message::Problem;
use super::table::{KEY_PREFIX, KEY_ROWS, ROUTES};

/// The API families, by who calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Values by key: `/api/kv`.
    Kv,
    /// API keys: `/api/keys`.
    Keys,
    /// Apps and what they hold: `/apps`, `/item`, `/list`. Speaks in LightKV's envelope.
    Light,
    /// Databases: `/controller`, `/database`, `/execute`. Speaks in sentences, as KOT does.
    Databases,
    /// The node itself: health, documents and the welcome page.
    Node,
}

impl Family {
    /// Whose a path is, whether there is anything at it or not.
    pub fn of(path: &[u8]) -> Family {
        let is_below = |root: &str| {
            path.strip_prefix(root.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        if is_below("/api/kv") {
            Family::Kv
        } else if is_below("/api/keys") {
            Family::Keys
        } else if is_below("/apps") || is_below("/item") || is_below("/list") {
            Family::Light
        } else if is_below("/controller") || is_below("/database") || is_below("/execute") {
            Family::Databases
        } else {
            Family::Node
        }
    }

    /// As documents name it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Kv => "kv",
            Family::Keys => "keys",
            Family::Light => "light",
            Family::Databases => "databases",
            Family::Node => "node",
        }
    }
}

/// How a row's path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The whole path.
    Exact(&'static str),
    /// Everything behind this prefix is the key, also nothing.
    Key(&'static str),
    /// One segment between these two is an id.
    Id(&'static str, &'static str),
}

impl Path {
    fn matches(self, path: &[u8]) -> bool {
        match self {
            Path::Exact(exact) => path == exact.as_bytes(),
            Path::Key(prefix) => path.starts_with(prefix.as_bytes()),
            Path::Id(..) => self.id(path).is_some(),
        }
    }

    /// The id in a path that matches.
    pub(super) fn id(self, path: &[u8]) -> Option<&[u8]> {
        let Path::Id(before, behind) = self else { return None };
        let id = path.strip_prefix(before.as_bytes())?.strip_suffix(behind.as_bytes())?;
        (!id.is_empty() && memchr::memchr(b'/', id).is_none()).then_some(id)
    }

    /// The path as documents write it.
    pub fn pattern(self) -> String {
        match self {
            Path::Exact(exact) => exact.to_owned(),
            Path::Key(prefix) => format!("{prefix}{{key}}"),
            Path::Id(before, behind) => format!("{before}{{id}}{behind}"),
        }
    }
}

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone, without a credential.
    Open,
    /// Holders of a credential.
    Holders {
        /// In one of these forms.
        forms: Forms,
        /// With these grants.
        need: Need,
        /// Perhaps limited to some keys of the store.
        reach: Reach,
    },
}

/// What a caller must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This grant.
    Grant(Grants),
    /// Any of these; the body decides which, and is checked once it is parsed.
    AnyOf(Grants),
}

impl Need {
    /// The grants it is about.
    pub const fn grants(self) -> Grants {
        match self {
            Need::Grant(grants) | Need::AnyOf(grants) => grants,
        }
    }

    /// Whether a holder of `held` may come in.
    pub(super) const fn is_met_by(self, held: Grants) -> bool {
        match self {
            Need::Grant(needed) => held.contains(needed),
            Need::AnyOf(needed) => held.intersects(needed),
        }
    }
}

/// What a route does with a credential that is limited to some keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It keeps to those keys.
    Scoped,
    /// It reaches beyond any limit, so it refuses.
    Node,
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
    /// A small JSON object.
    Form,
    /// As large as a request may be.
    Request,
    /// Lines of a dump: as large as a request may be.
    Lines,
    /// The same, as a form, a multipart form or JSON.
    Fields,
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
    /// Something with an item of the light family.
    Item(ItemVerb),
    /// Something with an entry of a database.
    Database(EntryVerb),
}

impl Verb {
    /// Whether it changes nothing.
    pub fn reads(self) -> bool {
        matches!(
            self,
            Verb::Get | Verb::Item(ItemVerb::Read | ItemVerb::Exists) | Verb::Database(EntryVerb::Get)
        )
    }
}

/// What is done with API keys and apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// `POST /api/keys`
    CreateKey,
    /// `GET /api/keys`
    ListKeys,
    /// `GET /api/keys/{id}`
    ShowKey,
    /// `PATCH /api/keys/{id}`
    RenameKey,
    /// `DELETE /api/keys/{id}`
    DeleteKey,
    /// `POST /apps`
    CreateApp,
    /// `GET /apps`
    ListApps,
    /// `POST /apps/{id}/rotate`
    RotateApp,
    /// `DELETE /apps/{id}`
    DeleteApp,
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
    /// The ledger of API keys and apps.
    Administer(Duty),
    /// The owner of an item or list of the light family, or every shard.
    Light(LightVerb),
    /// Every shard, by a walk.
    Dump,
    /// The shards that own what the lines of a dump tell of.
    Restore,
    /// The databases family.
    Database(DatabaseVerb),
    /// `/openapi.yaml`.
    OpenApi,
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

impl Endpoint {
    /// Whether it is about what the node keeps.
    pub(super) fn needs_store(self) -> bool {
        match self {
            Endpoint::Key(_)
            | Endpoint::List
            | Endpoint::Batch
            | Endpoint::Administer(_)
            | Endpoint::Light(_)
            | Endpoint::Dump
            | Endpoint::Restore
            | Endpoint::Database(_) => true,
            Endpoint::OpenApi
            | Endpoint::Health
            | Endpoint::Live
            | Endpoint::Ready
            | Endpoint::Robots
            | Endpoint::Welcome => false,
        }
    }
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
    /// Who may.
    pub access: Access,
    /// What body it takes.
    pub body: Body,
    /// Who answers.
    pub endpoint: Endpoint,
    /// For people.
    pub doc: &'static Doc,
}

/// What documents say of a row.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    /// Names the row for programs that are made from the document.
    pub name: &'static str,
    /// What it does, in a sentence without its full stop.
    pub summary: &'static str,
    /// Parameters of the query, each with what it says.
    pub query: &'static [(&'static str, &'static str)],
    /// What the body is, when there is one.
    pub body: &'static str,
    /// Status codes beside the ones that its access and body bring along, each with what it says.
    pub answers: &'static [(u16, &'static str)],
}

impl Route {
    pub(super) fn serves(&self, method: Method) -> bool {
        match self.method {
            Some(own) => own == method || (own == Method::Get && method == Method::Head),
            None => true,
        }
    }
}

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
    // Compared with a constant, which takes an instruction; with a row's own text it takes fifty.
    if path.starts_with(KEY_PREFIX.as_bytes()) {
        for route in &ROUTES[..KEY_ROWS] {
            if route.serves(method) {
                return Ok(Routed::To(route));
            }
        }
    }
    find_other(path, method)
}

/// The rows that a path can be in, from the first to behind the last, by the letter behind its slash:
/// looking at all of them took longer than reading an item.
static SPANS: [(usize, usize); 256] = {
    let mut spans = [(0, 0); 256];
    let mut at = KEY_ROWS;
    while at < ROUTES.len() {
        let letter = initial(match ROUTES[at].path {
            Path::Exact(start) | Path::Key(start) | Path::Id(start, _) => start.as_bytes(),
        });
        if spans[letter].1 == 0 {
            spans[letter].0 = at;
        }
        spans[letter].1 = at + 1;
        at += 1;
    }
    spans
};

/// The letter behind the slash that a path begins with; 0 for one without.
const fn initial(path: &[u8]) -> usize {
    if path.len() < 2 { 0 } else { path[1] as usize }
}

fn find_other(path: &[u8], method: Method) -> Result<Routed, Problem> {
    let (first, end) = SPANS[initial(path)];
    for route in &ROUTES[first..end] {
        if route.serves(method) && route.path.matches(path) {
            return Ok(Routed::To(route));
        }
    }
    // The whole server (`OPTIONS *`), and an absolute target that ends with its authority.
    let everything = method == Method::Options && path == b"*";
    if path.is_empty() {
        return find(b"/", method);
    }
    refused(path, method, everything)
}

/// What to say of a path that has no row with this method.
#[cold]
fn refused(path: &[u8], method: Method, everything: bool) -> Result<Routed, Problem> {
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
    use super::{Access, Duty, Endpoint, Family, Methods, Path, ROUTES, Routed, Verb, find};
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
    fn only_pages_of_the_node_are_open_and_every_row_is_of_the_family_of_its_path() {
        for route in &ROUTES {
            let pattern = route.path.pattern();
            let takes_credential = ["/api/dump", "/api/restore"].contains(&pattern.as_str());
            let is_open = route.family == Family::Node && !takes_credential;
            assert_eq!(route.access == Access::Open, is_open, "{pattern}");
            assert_eq!(Family::of(pattern.as_bytes()), route.family, "{pattern}");
        }
        for (path, family) in [
            ("/apps/x/y", Family::Light),
            ("/appsx", Family::Node),
            ("/api/keysx", Family::Node),
            ("/api/keys/", Family::Keys),
            ("", Family::Node),
        ] {
            assert_eq!(Family::of(path.as_bytes()), family, "{path}");
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path() {
        for route in &ROUTES {
            let path = route.path.pattern().replace("{key}", "k").replace("{id}", "x");
            let method = route.method.unwrap_or(Method::Get);
            assert_eq!(endpoint(&path, method), route.endpoint, "{path}");
        }
    }

    #[test]
    fn an_id_is_one_segment() {
        for (path, id) in [
            ("/apps/a/rotate", Some("a")),
            ("/apps/a%2Fb/rotate", Some("a%2Fb")),
            ("/apps//rotate", None),
            ("/apps/a/b/rotate", None),
            ("/apps/rotate", None),
            ("/apps/a", None),
        ] {
            let found = Path::Id("/apps/", "/rotate").id(path.as_bytes());
            assert_eq!(found, id.map(str::as_bytes), "{path}");
        }
        assert_eq!(endpoint("/api/keys/x", Method::Patch), Endpoint::Administer(Duty::RenameKey));
        assert_eq!(endpoint("/apps/x", Method::Delete), Endpoint::Administer(Duty::DeleteApp));
        assert!(matches!(find(b"/api/keys/", Method::Get), Err(Problem::NoSuchPath)));
        assert!(matches!(find(b"/apps/x/y", Method::Get), Err(Problem::NoSuchPath)));
    }

    #[test]
    fn no_two_rows_have_the_same_name_or_the_same_path_and_method() {
        for (at, route) in ROUTES.iter().enumerate() {
            for other in &ROUTES[..at] {
                assert_ne!(route.doc.name, other.doc.name);
                let same = route.path == other.path && route.method == other.method;
                assert!(!same, "{}", route.doc.name);
            }
        }
    }
}
