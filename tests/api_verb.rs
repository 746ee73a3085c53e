//! `lucid api PASSWORD` serves as KOT's does, and hides the password as soon as it runs.

mod common;

use common::Client;
use common::cli::call;
use common::node::{Running, binary};
use common::token;
use std::io::Write;
use std::process::{Command, Stdio};

const PASSWORD: &str = "open sesame \u{e9}";

/// Where a line says that it listens.
fn address(line: &str) -> std::net::SocketAddr {
    let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line:?}"))
}

fn api(arguments: &[&str], stdin: &str) -> (tempfile::TempDir, Running) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("api").args(arguments).args(["--port", "0", "--workers", "2", "--no-banner"]);
    if stdin.is_empty() {
        let running = Running::spawn(command, &folder);
        return (folder, running);
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(stdin.as_bytes()).unwrap();
    command.stdin(Stdio::from(reader));
    let running = Running::spawn_with_stdin(command, &folder);
    (folder, running)
}

/// All that other users of the machine, and this one's other processes, can read of a process.
fn shown(pid: u32, of: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{of}")).unwrap()).replace('\0', " ")
}

#[test]
fn the_password_is_seen_in_no_command_line_once_the_node_serves() {
    for (arguments, stdin) in [
        (&[PASSWORD][..], ""),
        (&["-"][..], "open sesame \u{e9}\n"),
        (&["--host", "127.0.0.1", PASSWORD], ""),
    ] {
        let (_folder, mut running) = api(arguments, stdin);
        let line = running.line_with("listening on http://").unwrap_or_else(|trouble| panic!("{trouble}"));
        let command = shown(running.pid(), "cmdline");
        assert!(command.contains(" api - ") && command.contains("--workers"), "{command}");
        for of in ["cmdline", "environ"] {
            let shown = shown(running.pid(), of);
            assert!(!shown.contains("sesame"), "{shown}");
        }
        assert_eq!(shown(running.pid(), "comm").trim(), "lucid");
        Client::connect(address(&line)).get("/health").expect(200);
        assert!(!running.stderr().contains("sesame"), "{}", running.stderr());
    }
}

#[test]
fn a_password_that_no_client_could_send_is_wrong_usage() {
    for (password, why) in
        [("", "is empty"), (&"p".repeat(4_097), "is longer than 4096 bytes"), ("a\nb", "holds control")]
    {
        let said = call(&["api", password, "--port", "0"]).failed(2);
        assert!(said.contains(why) && (password.is_empty() || !said.contains(password)), "{said}");
    }
    for stdin in ["", "\n", "\r\n"] {
        let said = call(&["api", "-", "--port", "0"]).stdin(stdin).failed(2);
        assert!(said.contains("the password is empty"), "{said}");
    }
    let said = call(&["api", "--port", "0"]).failed(2);
    assert!(said.contains("the databases have no password"), "{said}");
}

#[test]
fn the_password_may_come_from_where_every_setting_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["api", "--port", "0", "--no-banner"]).env("HOME", "/nonexistent");
    std::fs::write(
        folder.path().join("lucid.yml"),
        format!("authentication: {{secret_key: {}}}\ndatabases: {{password: of the file}}\n", token::SECRET),
    )
    .unwrap();
    let mut running = Running::spawn(command, &folder);
    let line = running.line_with("listening on http://").unwrap_or_else(|trouble| panic!("{trouble}"));
    Client::connect(address(&line)).get("/health").expect(200);
}

#[test]
fn a_taken_port_is_told_as_for_every_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let came = call(&["api", "pass", "--host", "127.0.0.1", "--port", &port, "--no-banner"]).run();
    assert_eq!(came.code, Some(69), "{}", came.stderr);
    assert!(came.stderr.contains("the port is in use"), "{}", came.stderr);
}
