//! Under a service manager: what the node tells it (`sd_notify(3)`), and sockets that it hands over
//! (`sd_listen_fds(3)`). The test plays the manager, so none has to run here.

mod common;

use common::node::{Running, binary};
use common::tls::{Pair, connect, try_connect};
use common::{Client, Node, kv, token};
use rustix::process::Signal;
use rustls::version::TLS13;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where a node reports to.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a patience");
        Manager { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a message in time");
        String::from_utf8(bytes[..count].into()).expect("text")
    }

    /// The next message that is no sign of life.
    fn hears_news(&self) -> String {
        loop {
            let message = self.hears();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

#[test]
fn the_manager_hears_ready_reloading_and_stopping_in_order() {
    let manager = Manager::new();
    let mut node = Node::start(|setup| {
        setup.variable("NOTIFY_SOCKET", &manager.path()).set("logging.outputs", "[stdout]");
    });
    let ready = manager.hears();
    let status = format!("STATUS=Serving http://{}, 1 worker, 256 MiB of memory\n", node.address());
    assert_eq!(ready, format!("READY=1\n{status}"));
    for (text, says) in [(None, "reloaded: 0 changed, 0 need a restart"), (Some("a: ["), "reload refused")] {
        if let Some(text) = text {
            node.rewrite(text);
        }
        node.signal(Signal::HUP);
        let reloading = manager.hears();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
        assert!(time.trim_end().parse::<u64>().is_ok_and(|time| time > 0), "{reloading}");
        let ready = manager.hears();
        assert!(ready.starts_with("READY=1\n") && ready.contains(says), "{ready}");
    }
    node.signal(Signal::TERM);
    assert!(manager.hears().starts_with("STOPPING=1\n"));
    assert_eq!(node.wait(Duration::from_secs(10)).code, Some(0));
}

#[test]
fn the_watchdog_is_fed_while_the_reactors_are_idle_and_while_they_work() {
    let manager = Manager::new();
    let node = Node::start(|setup| {
        setup.workers(2).variable("NOTIFY_SOCKET", &manager.path()).variable("WATCHDOG_USEC", "400000");
    });
    assert!(manager.hears_news().starts_with("READY=1\n"));
    (0..5).for_each(|_| assert_eq!(manager.hears(), "WATCHDOG=1\n"));
    let mut client = node.client();
    for _ in 0..5 {
        client.put(&kv("a"), vec![b'x'; 1_000_000]);
        assert_eq!(manager.hears(), "WATCHDOG=1\n");
    }
    node.assert_well();
}

#[test]
fn a_watchdog_of_another_process_is_left_alone() {
    let manager = Manager::new();
    let mut node = Node::start(|setup| {
        setup.variable("NOTIFY_SOCKET", &manager.path());
        setup.variable("WATCHDOG_USEC", "100000").variable("WATCHDOG_PID", "1");
    });
    assert!(manager.hears().starts_with("READY=1\n"));
    manager.socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a patience");
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "nothing comes");
    node.signal(Signal::TERM);
    assert_eq!(node.wait(Duration::from_secs(10)).code, Some(0));
}

#[test]
fn a_manager_that_is_gone_does_not_keep_the_node_from_serving() {
    let node = Node::start(|setup| {
        setup.variable("NOTIFY_SOCKET", "/nonexistent/notify").variable("WATCHDOG_USEC", "100000");
    });
    node.assert_well();
}

/// A node with these sockets as descriptors 3 and up, as a service manager hands them over.
fn activated(folder: &tempfile::TempDir, sockets: Vec<OwnedFd>, lines: &str) -> Running {
    activated_with(folder, sockets, "", lines)
}

/// The same with more said in the section `general`.
fn activated_with(folder: &tempfile::TempDir, sockets: Vec<OwnedFd>, general: &str, lines: &str) -> Running {
    let path = folder.path().join("node.yml");
    let secret = token::SECRET;
    let text = format!(
        "general: {{port: 1{general}}}\nruntime: {{workers: 2}}\nstore: {{memory_limit: 256MiB}}\n\
         authentication: {{secret_key: \"{secret}\"{lines}}}\n"
    );
    std::fs::write(&path, text).expect("a file");
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    let mut command = Command::new("sh");
    // The shell's own descriptors 0 and 1 become 3 and 4.
    let line = match count {
        1 => "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"",
        _ => "exec 3<&0 4<&0 </dev/null; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$0\" \"$@\"",
    };
    command.arg("-c").arg(line).arg(binary()).arg("-c").arg(path).arg("server");
    command.stdin(Stdio::from(sockets.next().expect("a socket")));
    Running::spawn_with_stdin(command, folder)
}

fn listening(running: &mut Running) -> SocketAddr {
    let line = running.line_with("listening on http://").unwrap_or_else(|trouble| panic!("{trouble}"));
    line.split("http://").nth(1).expect("just found").parse().expect("an address")
}

#[test]
fn a_socket_that_is_handed_over_is_served_by_every_worker_and_outlives_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let hand_over = || vec![OwnedFd::from(listener.try_clone().expect("a descriptor"))];
    // Somebody waits before there is a node at all.
    let mut early = Client::connect(address);
    let mut running = activated(&folder, hand_over(), "");
    assert_eq!(listening(&mut running), address);
    early.get("/livez").expect(200);
    let mut clients: Vec<_> = (0..40).map(|_| Client::connect(address).with_token(&token::root())).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.put(&kv(format!("k{at}")), "1").expect(201);
    }
    for (at, client) in clients.iter_mut().rev().enumerate() {
        client.get(&kv(format!("k{at}"))).expect(200);
    }
    drop((clients, early));
    common::process::send_signal(running.pid(), Signal::TERM);
    let (status, _) = running.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{}", running.stderr());
    // Between two nodes nobody is refused: whoever comes waits for the next one.
    let mut waiting = Client::connect(address);
    let request = waiting.compose("GET", "/livez", &[], b"");
    waiting.send(&request);
    let mut next = activated(&folder, hand_over(), "");
    assert_eq!(listening(&mut next), address);
    waiting.response().expect(200);
}

#[test]
fn tls_is_served_beside_a_socket_that_is_handed_over_and_its_certificate_reloaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Pair::new(), Pair::new());
    let place = |pair: &Pair| {
        std::fs::write(folder.path().join("cert.pem"), &pair.certificate).expect("a file");
        std::fs::write(folder.path().join("key.pem"), &pair.key).expect("a file");
    };
    place(&first);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let tls = ", use_ssl: true, port_ssl: 0, ssl_certificate: cert.pem, ssl_certificate_key: key.pem";
    let mut running = activated_with(&folder, vec![listener.into()], tls, "");
    assert_eq!(listening(&mut running), address);
    let line = running.line_with("listening on https://").unwrap_or_else(|trouble| panic!("{trouble}"));
    let over_tls: SocketAddr =
        line.split("https://").nth(1).expect("just found").parse().expect("an address");
    assert_eq!(over_tls.ip(), address.ip(), "where the socket listens, TLS does");
    let mut plain = Client::connect(address).with_token(&token::root());
    plain.put(&kv("k"), "over plain").expect(201);
    let mut lasting = connect(over_tls, &first.trusted(&TLS13)).with_token(&token::root());
    assert_eq!(lasting.get(&kv("k")).expect(200).text(), "over plain");
    // The inherited port is the plain one, and stays so.
    assert!(try_connect(address, &first.trusted(&TLS13)).is_err());
    place(&second);
    common::process::send_signal(running.pid(), Signal::HUP);
    running.wait_for_stderr("certificate reloaded");
    for _ in 0..8 {
        let mut client = connect(over_tls, &second.trusted(&TLS13)).with_token(&token::root());
        assert_eq!(client.get(&kv("k")).expect(200).text(), "over plain");
        assert!(try_connect(over_tls, &first.trusted(&TLS13)).is_err());
    }
    lasting.get(&kv("k")).expect(200);
    plain.get(&kv("k")).expect(200);
    Client::connect(address).get("/livez").expect(200);
}

#[test]
fn a_socket_open_to_other_machines_needs_authentication_like_any() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let mut running = activated(&folder, vec![listener.into()], ", enabled: false");
    let (status, _) = running.wait(Duration::from_secs(10));
    let stderr = running.stderr();
    assert_eq!(status.code(), Some(78), "{stderr}");
    assert!(
        stderr.contains("socket of LISTEN_FDS: general.bind_address: other machines could reach"),
        "{stderr}"
    );
}

#[test]
fn sockets_that_cannot_be_served_are_refused_with_78() {
    let two = || -> Vec<OwnedFd> {
        vec![
            TcpListener::bind("127.0.0.1:0").expect("a port").into(),
            UnixDatagram::unbound().expect("one").into(),
        ]
    };
    let folder = tempfile::tempdir().expect("a folder");
    let unix = UnixListener::bind(folder.path().join("socket")).expect("a socket");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let connected = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = std::net::TcpStream::connect(connected.local_addr().expect("an address")).expect("a stream");
    for (sockets, says) in [
        (two(), "2 sockets were handed over in LISTEN_FDS"),
        (vec![unix.into()], "cannot be served: fd 3 is not a valid tcp socket"),
        (vec![udp.into()], "cannot be served: fd 3 is not a valid tcp socket"),
        (vec![client.into()], "cannot be served: it does not listen"),
    ] {
        let mut running = activated(&folder, sockets, "");
        let (status, _) = running.wait(Duration::from_secs(10));
        let stderr = running.stderr();
        assert_eq!(status.code(), Some(78), "{stderr}");
        assert!(stderr.contains(says) && stderr.contains("ListenStream="), "{says}: {stderr}");
    }
}

#[test]
fn a_watchdog_without_a_time_is_none_and_one_without_mercy_is_no_spin() {
    for (time, beats) in [("0", false), ("1", true)] {
        let manager = Manager::new();
        let node = Node::start(|setup| {
            setup.variable("NOTIFY_SOCKET", &manager.path()).variable("WATCHDOG_USEC", time);
        });
        assert!(manager.hears_news().starts_with("READY=1\n"));
        manager.socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a patience");
        assert_eq!(manager.socket.recv(&mut [0; 64]).is_ok(), beats, "{time}");
        drop(node);
    }
}

/// A thread of a process by its name.
fn thread_of(pid: u32, name: &str) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let mut threads = threads.map(|thread| thread.expect("a thread").path());
    let named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let found = threads.find(named).expect("the thread");
    found.file_name().expect("a number").to_string_lossy().into_owned()
}

#[test]
fn the_watchdog_goes_hungry_while_one_reactor_of_two_is_stuck() {
    if Command::new("strace").arg("-V").output().is_err() {
        return println!("skipped: strace is not installed");
    }
    let manager = Manager::new();
    let mut node = Node::start(|setup| {
        setup.workers(2).variable("NOTIFY_SOCKET", &manager.path()).variable("WATCHDOG_USEC", "2000000");
        setup.set("logging.outputs", "[stdout]");
    });
    assert!(manager.hears_news().starts_with("READY=1\n"));
    assert_eq!(manager.hears(), "WATCHDOG=1\n");
    // Every wait of the one thread takes a minute from now on; the other serves.
    let mut strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=epoll_wait,epoll_pwait,epoll_pwait2:delay_exit=60s"])
        .args(["-p", &thread_of(node.pid(), "lucid-1")])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace");
    node.says("a worker has not turned for 500ms: the service manager is not told");
    manager.socket.set_nonblocking(true).expect("a socket");
    while manager.socket.recv(&mut [0; 64]).is_ok() {}
    node.says("a worker has not turned for 500ms: the service manager is not told");
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "somebody fed it");
    manager.socket.set_nonblocking(false).expect("a socket");
    strace.kill().expect("strace");
    strace.wait().expect("strace");
    assert_eq!(manager.hears(), "WATCHDOG=1\n", "it turns again");
}
