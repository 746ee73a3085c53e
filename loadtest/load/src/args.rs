//! The command line.

use std::net::SocketAddr;

use crate::keys::Distribution;
use crate::values::Sizes;
use crate::wire::Protocol;

pub const USAGE: &str = "\
usage: load --address IP:PORT [OPTION VALUE]...

what is sent
  --protocol http|memcached|resp   default http
  --keys N            number of keys, default 100000; a key is `key:` and 12 digits
  --first N           number of the first key, default 0
  --dist D            uniform (default)
                      sequential         each key once, in order, by PUT (with --put 100)
                      zipf[:S]           popularity of rank r is r^-S, default 0.99
                      zipf-scan[:S]      in each 100,000 requests 20,000 go through all keys in order
                      shift[:S]          Zipf over a fifth of the keys; each place in it is taken
                                         over by another key at staggered times
  --period N          shift: requests after which every place was taken over once, default 2 x keys
  --put PERCENT       share of PUT, default 0
  --recent N          sequential: a GET asks for one of the last N keys that were put
  --values SIZES      64, 64-1024 (uniform), 200,4096,102400 (equal shares), 200*90,4096*10 (shares)
                      the size is a function of the key, with --resize drawn anew for each PUT
  --cache-aside       GET, and PUT after each miss
  --ttl SECONDS       time-to-live of what is put
  --no-check          do not compare values
  --authorization V   value of an Authorization field
  --get, --put-line   request lines, `GET /api/kv/{K}` and `PUT /api/kv/{K}` unless told otherwise
  --put-body TEXT     body of a PUT, with {K} in it and perhaps {V} behind that; its request line has no {K} then

how it is sent
  --threads N         default 1; keys, connections, count and rate are divided
  --connections N     default 64
  --depth N           requests in flight on a connection, default 1
  --seconds S         default 5
  --count N           this many requests instead (PUTs after misses not counted)
  --warmup N          requests before anything is counted
  --rate R            open loop, requests a second
  --seed N            default 1
  --pid PID[,PID]...  report the CPU seconds of these processes and their children
";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Args {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub keys: u64,
    pub first: u64,
    pub distribution: Distribution,
    pub period: Option<u64>,
    pub put_percent: u64,
    pub recent: u64,
    pub sizes: Sizes,
    pub resize: bool,
    pub cache_aside: bool,
    pub ttl: Option<u32>,
    pub check: bool,
    pub authorization: Option<String>,
    pub get_line: String,
    pub put_line: String,
    pub put_body: Option<String>,
    pub threads: usize,
    pub connections: usize,
    pub depth: usize,
    pub seconds: f64,
    pub count: Option<u64>,
    pub warmup: u64,
    pub rate: Option<f64>,
    pub seed: u64,
    pub pids: Vec<u32>,
}

impl Args {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut args = Args {
            address: SocketAddr::from(([127, 0, 0, 1], 7_020)),
            protocol: Protocol::Http,
            keys: 100_000,
            first: 0,
            distribution: Distribution::Uniform,
            period: None,
            put_percent: 0,
            recent: 100_000,
            sizes: Sizes::parse("64").unwrap_or_else(|| unreachable!()),
            resize: false,
            cache_aside: false,
            ttl: None,
            check: true,
            authorization: None,
            get_line: "GET /api/kv/{K}".into(),
            put_line: "PUT /api/kv/{K}".into(),
            put_body: None,
            threads: 1,
            connections: 64,
            depth: 1,
            seconds: 5.0,
            count: None,
            warmup: 0,
            rate: None,
            seed: 1,
            pids: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--cache-aside" => args.cache_aside = true,
                "--no-check" => args.check = false,
                "--resize" => args.resize = true,
                name => {
                    let value = words.next().ok_or(format!("{name} needs a value"))?;
                    args.set(name, &value)?;
                }
            }
        }
        args.threads = args.threads.max(1);
        args.connections = args.connections.max(args.threads);
        args.depth = args.depth.max(1);
        let keyed = |line: &str, keys| line.matches("{K}").count() == keys && line.contains(' ');
        let puts = usize::from(args.put_body.is_none());
        if !keyed(&args.get_line, 1) || !keyed(&args.put_line, puts) {
            return Err("a request line is METHOD, a space and a path with {K} once".into());
        }
        if let Some(body) = &args.put_body
            && !(body.matches("{K}").count() == 1
                && body.split("{K}").next().is_some_and(|before| !before.contains("{V}")))
        {
            return Err("a body has {K}, and no {V} before it".into());
        }
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{name} does not take `{value}`");
        fn number<T: std::str::FromStr>(text: &str, wrong: impl Fn() -> String) -> Result<T, String> {
            text.parse().map_err(|_| wrong())
        }
        match name {
            "--address" => self.address = number(value, wrong)?,
            "--protocol" => self.protocol = Protocol::parse(value).ok_or_else(wrong)?,
            "--keys" => self.keys = number::<u64>(value, wrong)?.max(1),
            "--first" => self.first = number(value, wrong)?,
            "--dist" => self.distribution = Distribution::parse(value).ok_or_else(wrong)?,
            "--period" => self.period = Some(number::<u64>(value, wrong)?.max(1)),
            "--put" => self.put_percent = number(value, wrong)?,
            "--recent" => self.recent = number::<u64>(value, wrong)?.max(1),
            "--values" => self.sizes = Sizes::parse(value).ok_or_else(wrong)?,
            "--ttl" => self.ttl = Some(number(value, wrong)?),
            "--authorization" => self.authorization = Some(value.into()),
            "--get" => self.get_line = value.into(),
            "--put-line" => self.put_line = value.into(),
            "--put-body" => self.put_body = Some(value.into()),
            "--threads" => self.threads = number(value, wrong)?,
            "--connections" => self.connections = number(value, wrong)?,
            "--depth" => self.depth = number(value, wrong)?,
            "--seconds" => self.seconds = number(value, wrong)?,
            "--count" => self.count = Some(number(value, wrong)?),
            "--warmup" => self.warmup = number(value, wrong)?,
            "--rate" => self.rate = Some(number(value, wrong)?),
            "--seed" => self.seed = number(value, wrong)?,
            "--pid" => {
                self.pids = value.split(',').map(|pid| number(pid, wrong)).collect::<Result<_, _>>()?
            }
            _ => return Err(format!("there is no option {name}")),
        }
        Ok(())
    }
}
