//! A key-value server from good libraries: hyper over a DashMap.
//!
//! A peer to compare with, set up as well as its libraries allow: a runtime of its own on each thread, so
//! that no task moves; connections spread by `SO_REUSEPORT`; `TCP_NODELAY`; answers to pipelined requests
//! flushed together; one map for all threads. `GET` and `PUT` of `/api/kv/{key}`, nothing else.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

type Map = DashMap<Box<str>, Bytes, ahash::RandomState>;

const USAGE: &str = "usage: hyper-peer [--port N] [--threads N]";

fn main() -> ExitCode {
    let Some((port, threads)) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(port, threads) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hyper-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<(u16, usize)> {
    let (mut port, mut threads) = (0, 1);
    while let Some(name) = words.next() {
        let value = words.next()?;
        match name.as_str() {
            "--port" => port = value.parse().ok()?,
            "--threads" => threads = value.parse().ok().filter(|threads| *threads > 0)?,
            _ => return None,
        }
    }
    Some((port, threads))
}

fn serve(mut port: u16, threads: usize) -> io::Result<()> {
    let map = Arc::new(Map::default());
    let mut listeners = Vec::new();
    for _ in 0..threads {
        let listener = listen(port)?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    println!("listening on http://127.0.0.1:{port}");
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let map = map.clone();
            std::thread::spawn(move || run(listener, map))
        })
        .collect();
    threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(1_024)?;
    Ok(socket.into())
}

fn run(listener: TcpListener, map: Arc<Map>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let map = map.clone();
            let service = service_fn(move |request| answer(request, map.clone()));
            tokio::task::spawn_local(async move {
                let connection = http1::Builder::new()
                    .pipeline_flush(true)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away ends its connection, which is all there is to do.
                let _ = connection.await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>, map: Arc<Map>) -> Result<Response<Full<Bytes>>, Infallible> {
    let key = request.uri().path().strip_prefix("/api/kv/").filter(|key| !key.is_empty());
    let Some(key) = key else { return Ok(status(StatusCode::NOT_FOUND)) };
    match *request.method() {
        Method::GET => Ok(match map.get(key) {
            Some(value) => Response::new(Full::new(value.clone())),
            None => status(StatusCode::NOT_FOUND),
        }),
        Method::PUT => {
            let key: Box<str> = key.into();
            let Ok(body) = request.into_body().collect().await else {
                return Ok(status(StatusCode::BAD_REQUEST));
            };
            // A copy: the bytes that came are part of a larger buffer, which the map would keep alive.
            let old = map.insert(key, Bytes::copy_from_slice(&body.to_bytes()));
            Ok(status(if old.is_some() { StatusCode::OK } else { StatusCode::CREATED }))
        }
        _ => Ok(status(StatusCode::METHOD_NOT_ALLOWED)),
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
