//! A request becomes an [`Operation`](crate::op::Operation), an [`Outcome`](crate::op::Outcome) becomes an
//! answer.
//!
//! Owns the order of checks (route, method, credential, grant, declared size), what a request of
//! the kv family means, and every word of an answer. Never touches a socket, a store or a thread:
//! whoever drives it (`net`) moves operations to the shard that owns the key and brings outcomes
//! back. A request is kept as offsets into its connection's buffer, so that many can be under way.
//!
//! | step | who | file |
//! |---|---|---|
//! | which row of the table, who may | [`Api::admit`] | `routes`, here |
//! | what is asked of a key | [`Api::operation`] | `kv`, `patch` |
//! | what is answered for it | [`Api::answer`] | `kv`, `value` |
//! | a value in another coding | [`Decode`], [`Api::answer_decoded`] | `coding`, `value` |
//! | several cores for one answer | [`Api::gather`] | `gather`, `list`, `batch`, `administer` |
//! | items and lists of apps | [`Api::shorten`], [`Api::gather`] | `light` |
//! | all there is, out and in | [`Api::gather`], [`go_on`] | `dump` |
//! | databases | [`Api::shorten`], [`Api::gather`] | `databases` |
//! | API keys and apps | [`Api::perform`] | `administer`, `keys`, `apps` |
//! | what an earlier run has left | [`Api::remember`] | `kept` |
//! | pages of the node | [`Api::page`] | `node`, `cors`, `openapi` |
//! | everything that is wrong | [`Api::refuse`] | `refusal`, `message` |
//!
//! The hot path (a GET that hits or misses, a PUT) copies prepared pieces into the output and
//! allocates nothing.

mod administer;
mod apps;
mod batch;
mod coding;
mod cors;
pub mod databases;
mod dump;
mod gather;
mod json;
mod kept;
mod keys;
mod kv;
mod light;
mod list;
mod message;
mod node;
pub mod openapi;
mod patch;
mod prepared;
mod refusal;
mod routes;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod timestamp;
mod value;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::{
    Authenticator, Brake, Form, Forms, Grants, Ledger, Remembered, Scope, Trust, Unauthorized, Vouched,
};
use crate::clock::Now;
use crate::etag::Tags;
use crate::http::{DateCache, Framing, Method, Preamble, Request, Span, Version, response, target};
use crate::limits;
use crate::op::{Expiry, KeyHasher, Namespace};
use crate::shard::{Databases, Registry};

pub use administer::{Errand, LedgerWalk};
pub use coding::{Decode, Decoded, NotDecodable};
pub use databases::{
    DatabaseVerb, Level,
    change::{Aftermath, follow},
    controller::EntryVerb,
};
pub use dump::{Export, VERSION as DUMP_VERSION, Wrote, go_on, takes_turns};
pub use gather::{Chore, Flow, Gather, Piece, Work};
pub use kept::Kept;
pub use kv::Scratch;
pub use light::{ItemVerb, LightVerb, ListVerb, order::READ_BYTES_PER_TURN};
pub use message::{Problem, Words};
pub use node::{NodeState, Page, Phase};
pub use routes::{Access, Body, Doc, Duty, Endpoint, Family, Methods, Need, Path, Reach, Route, Verb};
pub use table::ROUTES;
pub use tail::Tail;

use cors::Origins;
use prepared::{ETAG, PreparedAnswers};
use routes::Routed;

/// What an [`Api`] is made of.
#[derive(Clone)]
pub struct ApiConfig {
    /// What credentials are judged by.
    pub trust: Trust,
    /// Counts wrong passwords, where there is one.
    pub brake: Option<Brake>,
    /// Says which shard owns a key.
    pub hasher: KeyHasher,
    /// Makes entity tags.
    pub tags: Tags,
    /// How many shards there are.
    pub shards: usize,
    /// Largest value, in bytes (`store.max_limit`).
    pub value_bytes_max: u64,
    /// Largest body of any request, in bytes (`http.request_size_limit`).
    pub request_bytes_max: u64,
    /// Time-to-live of a PUT that names none, in seconds (`store.default_ttl`).
    pub default_ttl: Option<u32>,
    /// Origins whose pages may read answers (`http.cors_origins`).
    pub cors_origins: Vec<String>,
    /// Whether HEAD of a key needs no credential (`authentication.anonymous_head`).
    pub anonymous_head: bool,
    /// What of the databases family is not for whoever has its password (`databases.restricted`).
    pub restricted: Arc<[Box<str>]>,
    /// What the node is doing, for `/readyz`.
    pub state: Arc<NodeState>,
}

/// The API of one reactor.
pub struct Api {
    authenticator: Authenticator,
    brake: Option<Brake>,
    /// With reactor 0 alone.
    ledger: Option<Ledger>,
    hasher: KeyHasher,
    tags: Tags,
    preamble: Preamble,
    prepared: PreparedAnswers,
    dates: DateCache,
    wall_seconds: u64,
    shards: usize,
    value_bytes_max: u64,
    request_bytes_max: u64,
    default_expiry: Expiry,
    origins: Origins,
    anonymous_head: bool,
    /// Not everything is back that the node has kept.
    recovering: bool,
    /// Nor is it known who may do what, but by what the settings say.
    checking: bool,
    restricted: Arc<[Box<str>]>,
    databases: Databases,
    /// With reactor 0 alone.
    registry: Option<Registry>,
    state: Arc<NodeState>,
}

/// A request that may go on.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// For the owner of one key.
    Key(KeyCall),
    /// For several cores.
    Gather(GatherCall),
    /// For nobody: [`Api::page`] answers it.
    Page(Page),
}

/// An admitted request for one key.
#[derive(Clone, Copy, Debug)]
pub struct KeyCall {
    /// The space the key belongs to.
    pub namespace: Namespace,
    /// The decoded key, in the request's head; of an entry of a database in its body, of a write of an item too
    /// with its quotes.
    pub key: Span,
    /// Hash of namespace and key: the owner is [`KeyHasher::owner`] of it.
    pub hash: u64,
    /// What is done with the key.
    pub verb: Verb,
    /// What the caller may.
    pub grants: Grants,
    /// A counter goes down; known once [`Api::operation`] has read the body.
    down: bool,
    /// Of what a body writes, the rest of what it says.
    item: light::item::EntryText,
}

impl KeyCall {
    fn takes_body(&self) -> bool {
        matches!(self.verb, Verb::Put | Verb::Patch | Verb::Item(ItemVerb::Write) | Verb::Database(_))
    }
}

/// An admitted request that concerns several cores.
#[derive(Clone, Copy, Debug)]
pub struct GatherCall {
    /// What the caller may.
    pub grants: Grants,
    /// Most bytes that the body may have.
    pub body_bytes_max: u64,
    task: Task,
    body: Body,
    /// The caller is limited to some keys: which, its credential says.
    is_scoped: bool,
    /// The user of the peer, if it needs no credential.
    trusted_uid: Option<u32>,
}

/// What several cores are asked.
#[derive(Clone, Copy, Debug)]
enum Task {
    List,
    Batch,
    Administer(Duty),
    Light(LightVerb, light::App),
    Dump,
    Restore,
    /// With the password of the databases family, or not.
    Database(DatabaseVerb, bool),
}

impl GatherCall {
    fn takes_body(&self) -> bool {
        self.body != Body::Ignored
    }
}

impl Call {
    /// Whether the body matters. One that does not is read and thrown away.
    pub fn takes_body(&self) -> bool {
        match self {
            Call::Key(call) => call.takes_body(),
            Call::Gather(call) => call.takes_body(),
            Call::Page(_) => false,
        }
    }

    /// The body that its route takes.
    fn body(&self) -> Body {
        match self {
            Call::Key(KeyCall { verb: Verb::Put, .. }) => Body::Value,
            Call::Key(KeyCall { verb: Verb::Patch, .. }) => Body::Words,
            Call::Gather(GatherCall { body, .. }) => *body,
            Call::Key(KeyCall { verb: Verb::Item(ItemVerb::Write) | Verb::Database(_), .. }) => Body::Request,
            Call::Key(_) | Call::Page(_) => Body::Ignored,
        }
    }
}

impl Api {
    /// The API of a reactor.
    pub fn new(config: ApiConfig) -> Api {
        let preamble = Preamble::new();
        let mut prepared = PreparedAnswers::new(&config.tags);
        prepared.renew(&preamble);
        Api {
            authenticator: Authenticator::new(config.trust),
            brake: config.brake,
            ledger: None,
            hasher: config.hasher,
            tags: config.tags,
            preamble,
            prepared,
            dates: DateCache::new(),
            wall_seconds: 0,
            shards: config.shards,
            value_bytes_max: config.value_bytes_max,
            request_bytes_max: config.request_bytes_max,
            default_expiry: config.default_ttl.map_or(Expiry::Never, Expiry::Seconds),
            origins: Origins::new(config.cors_origins),
            anonymous_head: config.anonymous_head,
            recovering: config.state.is_recovering(),
            checking: config.state.phase() == Phase::Checking,
            restricted: config.restricted,
            databases: Databases::default(),
            registry: None,
            state: config.state,
        }
    }

    /// Takes on settings that have changed, for the requests that come from now on.
    pub fn adopt(&mut self, default_ttl: Option<u32>, request_bytes_max: u64, cors_origins: &[String]) {
        self.default_expiry = default_ttl.map_or(Expiry::Never, Expiry::Seconds);
        self.request_bytes_max = request_bytes_max;
        self.origins = Origins::new(cors_origins.to_vec());
    }

    /// The same, and the place where API keys, apps and databases are made.
    pub fn with_ledger(self, ledger: Ledger, registry: Registry) -> Api {
        Api { ledger: Some(ledger), registry: Some(registry), ..self }
    }

    /// Takes note of the wall-clock time, for `Date` and for the times in tokens. Once a turn.
    pub fn tick(&mut self, wall_seconds: u64) {
        self.wall_seconds = wall_seconds;
        if self.preamble.tick(wall_seconds) {
            self.prepared.renew(&self.preamble);
        }
        if self.authenticator.is_sweeping() {
            self.authenticator.sweep(wall_seconds);
        }
        self.databases.tidy();
        if let Some(registry) = &mut self.registry {
            registry.tidy();
        }
    }

    /// Whether the next turn has something to do here, whoever asks.
    pub fn is_busy(&self) -> bool {
        self.authenticator.is_sweeping()
            || !self.databases.is_tidy()
            || self.registry.as_ref().is_some_and(|registry| !registry.is_tidy())
    }

    /// Routes a request and checks who may: route, method, credential, grant, declared size. Decodes
    /// the key in place, so a request is admitted once. `vouched` says who the fields of this head stand
    /// for, if they are known; if not, it is filled in.
    pub fn admit(
        &mut self,
        request: &Request,
        head: &mut [u8],
        remembered: &mut Remembered,
        vouched: &mut Option<Vouched>,
    ) -> Result<Call, Problem> {
        let route = match routes::find(request.path.of(head), request.method) {
            Ok(Routed::To(route)) => route,
            Ok(Routed::Options(methods)) => {
                self.check_declared(request, Body::Ignored)?;
                return Ok(Call::Page(Page::Options(methods)));
            }
            Err(problem) => return Err(self.no_route(problem, request, head, remembered, vouched)),
        };
        let (grants, scope) = self.authorize(request, head, route, remembered, vouched)?;
        // Asked of the node as well: `/readyz` may have said yes on another core since the turn began.
        if self.recovering && route.endpoint.needs_store() && self.state.is_recovering() {
            return Err(Problem::Recovering);
        }
        self.check_declared(request, route.body)?;
        let Endpoint::Key(verb) = route.endpoint else {
            match route.endpoint {
                Endpoint::Light(verb) => {
                    return self.admit_light(request, head, verb, (grants, scope), route.body);
                }
                Endpoint::Database(verb) => {
                    let by_password =
                        vouched.as_ref().is_some_and(|who| who.identity().form == Form::Password);
                    return self.admit_database(verb, (grants, by_password), route.body);
                }
                _ => {}
            }
            let is_scoped = scope.is_some();
            let (task, body, trusted_uid) = (Task::List, route.body, remembered.trusted_uid());
            let body_bytes_max = self.body_bytes_max(body);
            return Ok(other_call(
                route,
                GatherCall { grants, body_bytes_max, task, body, is_scoped, trusted_uid },
            ));
        };
        let key = decode_key(request, head, route.path)?;
        if scope.is_some_and(|scope| !scope.admits(Namespace::KV, key.of(head))) {
            return Err(Problem::OutOfScope);
        }
        let hash = self.hasher.hash(Namespace::KV, key.of(head));
        let namespace = Namespace::KV;
        let item = light::item::EntryText::NONE;
        Ok(Call::Key(KeyCall { namespace, key, hash, verb, grants, down: false, item }))
    }

    /// What whoever asks for a path or method that there is not is told. Whoever may not know what there is in
    /// the family of databases is not told that.
    #[cold]
    fn no_route(
        &mut self,
        problem: Problem,
        request: &Request,
        head: &[u8],
        remembered: &mut Remembered,
        vouched: &mut Option<Vouched>,
    ) -> Problem {
        if Family::of(request.path.of(head)) == Family::Databases
            && let Err(stranger) = self.authenticate(request, head, true, remembered, vouched)
        {
            return stranger;
        }
        problem
    }

    /// Checks credential and grant, and says what the caller may and to which keys it is limited.
    fn authorize<'v>(
        &mut self,
        request: &Request,
        head: &[u8],
        route: &Route,
        remembered: &mut Remembered,
        vouched: &'v mut Option<Vouched>,
    ) -> Result<(Grants, Option<&'v Scope>), Problem> {
        let Access::Holders { forms, need, reach } = route.access else { return Ok((Grants::NONE, None)) };
        if self.anonymous_head && request.method == Method::Head && route.endpoint == Endpoint::Key(Verb::Get)
        {
            return Ok((Grants::KV_READ, None));
        }
        let vouched =
            self.authenticate(request, head, forms.intersects(Forms::BASIC), remembered, vouched)?;
        let identity = vouched.identity();
        if !forms.contains(identity.form) {
            // Where Basic authentication is not taken, it says nothing, also when it was heard elsewhere.
            return Err(if identity.form.is_basic() { Problem::Unauthorized } else { Problem::FormNotTaken });
        }
        if !need.is_met_by(identity.grants) {
            return Err(Problem::Forbidden(need.grants()));
        }
        match vouched.scope() {
            Some(_) if reach == Reach::Node => Err(Problem::OutOfScope),
            scope => Ok((identity.grants, scope)),
        }
    }

    /// Finds out who is asking. `basic` says whether Basic authentication is taken. Inlined, as it is most of
    /// what admitting a request with known fields does.
    #[inline(always)]
    fn authenticate<'v>(
        &mut self,
        request: &Request,
        head: &[u8],
        basic: bool,
        remembered: &mut Remembered,
        vouched: &'v mut Option<Vouched>,
    ) -> Result<&'v Vouched, Problem> {
        let fields = || administer::fields(request, head);
        let vouched = self.authenticator.admit_known(vouched, remembered, fields, basic, self.wall_seconds);
        vouched.map_err(|why| match self.checking {
            true => self.not_let_in(why),
            false => unauthorized(why),
        })
    }

    /// What the caller of an admitted request is limited to. Judged again, since its body took its time.
    fn scope(
        &self,
        request: &Request,
        head: &[u8],
        call: &GatherCall,
    ) -> Result<Option<Arc<Scope>>, Problem> {
        if !call.is_scoped {
            return Ok(None);
        }
        let fields = administer::fields(request, head);
        let principal = self.authenticator.principal(fields, call.trusted_uid, self.wall_seconds);
        principal.map(|principal| principal.scope).map_err(unauthorized)
    }

    /// Has a password proven that only its hash is known of. `None` while too many are.
    pub fn proof(&self, request: &Request, head: &[u8]) -> Option<Chore> {
        let proof = self.authenticator.proof(administer::fields(request, head).authorization?)?;
        Some(Chore::new(move || proof.run()))
    }

    /// Counts a wrong password against the address it came from. Any other problem stays as it is.
    pub fn brake(&self, problem: Problem, address: impl FnOnce() -> Option<IpAddr>, now: Now) -> Problem {
        if problem != Problem::PasswordWrong {
            return problem;
        }
        let wait_seconds =
            self.brake.as_ref().zip(address()).and_then(|(brake, address)| brake.fail(address, now));
        wait_seconds.map_or(problem, Problem::TooManyFailures)
    }

    /// Refuses a declared size over what the route takes.
    fn check_declared(&self, request: &Request, body: Body) -> Result<(), Problem> {
        match request.framing {
            Framing::Sized(declared) if declared > self.body_bytes_max(body) => {
                Err(self.body_too_large(body))
            }
            _ => Ok(()),
        }
    }

    fn body_bytes_max(&self, body: Body) -> u64 {
        match body {
            Body::Ignored => limits::DRAIN_BYTES_MAX,
            Body::Value => self.value_bytes_max.min(self.request_bytes_max),
            Body::Words => (limits::PATCH_BODY_BYTES_MAX as u64).min(self.request_bytes_max),
            Body::Form => (limits::FORM_BODY_BYTES_MAX as u64).min(self.request_bytes_max),
            Body::Request | Body::Fields | Body::Lines => self.request_bytes_max,
        }
    }

    #[cold]
    fn body_too_large(&self, body: Body) -> Problem {
        match body {
            Body::Value if self.value_bytes_max <= self.request_bytes_max => {
                Problem::ValueTooLarge(self.value_bytes_max)
            }
            body => Problem::BodyTooLarge(self.body_bytes_max(body)),
        }
    }

    /// Most bytes that the body of a call may turn out to have.
    pub fn call_body_bytes_max(&self, call: &Call) -> u64 {
        match call {
            Call::Gather(call) => call.body_bytes_max,
            Call::Key(_) | Call::Page(_) => self.body_bytes_max(call.body()),
        }
    }

    /// What to refuse a body with that turns out to be longer than [`Api::call_body_bytes_max`].
    pub fn overlong(&self, call: &Call) -> Problem {
        self.body_too_large(call.body())
    }

    /// Whether a head ends with the blank line alone: see [`Api::end`].
    #[inline]
    fn ends_plainly(&self, request: &Request, close: bool) -> bool {
        request.version == Version::Http11 && request.keep_alive && !close && !self.origins.is_on()
    }

    /// Ends a head: what pages of other origins may read, whether the connection stays, and the
    /// blank line.
    fn end(&self, request: Option<(&Request, &[u8])>, close: bool, out: &mut Vec<u8>) {
        match request {
            Some((request, head)) => {
                if self.origins.is_on() {
                    self.origins.write(request, head, out);
                }
                response::connection(out, request.version, request.keep_alive && !close);
            }
            None => out.extend_from_slice(b"Connection: close\r\n"),
        }
        response::end(out);
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Api").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// What an admitted request is for that is not for one key. Apart, so that a call for a key is not put
/// together of the same pieces: that took thirty instructions.
#[inline(never)]
fn other_call(route: &Route, call: GatherCall) -> Call {
    let gather = |task| Call::Gather(GatherCall { task, ..call });
    match route.endpoint {
        Endpoint::Key(_) | Endpoint::Light(_) | Endpoint::Database(_) => {
            unreachable!("told apart by the caller")
        }
        Endpoint::List => gather(Task::List),
        Endpoint::Batch => gather(Task::Batch),
        Endpoint::Administer(duty) => gather(Task::Administer(duty)),
        Endpoint::Dump => gather(Task::Dump),
        Endpoint::Restore => gather(Task::Restore),
        Endpoint::OpenApi => Call::Page(Page::OpenApi),
        Endpoint::Health => Call::Page(Page::Health),
        Endpoint::Live => Call::Page(Page::Live),
        Endpoint::Ready => Call::Page(Page::Ready),
        Endpoint::Robots => Call::Page(Page::Robots),
        Endpoint::Welcome => Call::Page(Page::Welcome),
    }
}

/// The wire has one answer to whatever is wrong with a credential, but for the brake on passwords.
#[cold]
fn unauthorized(why: Unauthorized) -> Problem {
    match why {
        Unauthorized::PasswordWrong => Problem::PasswordWrong,
        Unauthorized::PasswordUnproven => Problem::PasswordUnproven,
        _ => Problem::Unauthorized,
    }
}

/// Decodes everything behind the route's prefix, once, where it stands.
fn decode_key(request: &Request, head: &mut [u8], path: Path) -> Result<Span, Problem> {
    let Path::Key(prefix) = path else { return Err(Problem::NoSuchPath) };
    let range = request.path.range();
    let at = range.start + prefix.len();
    let len = if request.escaped {
        target::decode_in_place(&mut head[at..range.end]).map_err(|_| Problem::KeyMalformed)?
    } else {
        range.end - at
    };
    match len {
        0 => Err(Problem::KeyEmpty),
        1..=limits::KEY_BYTES_MAX => Ok(request.path.part(prefix.len(), len)),
        _ => Err(Problem::KeyTooLong),
    }
}
