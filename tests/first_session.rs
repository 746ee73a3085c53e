//! The first minutes with the program: a server without a file, and one with the file of `init`.

mod common;

use common::node::{Running, binary};
use common::{Client, kv};
use std::net::SocketAddr;
use std::process::Command;

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Reads stdout up to the line that says where it listens, and a while further for what follows.
fn listening(running: &mut Running) -> SocketAddr {
    let line = running.line_with("listening on http://").unwrap();
    let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    address.trim_end_matches('/').parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

#[test]
fn a_server_without_a_file_prints_curl_lines_that_work_when_pasted() {
    if !has("curl") {
        return println!("skipped: curl is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.args(["server", "--port", "0"]);
    let mut running = Running::spawn(command, &folder);
    let mut lines = Vec::new();
    while lines.iter().filter(|line: &&String| line.trim_start().starts_with("curl ")).count() < 3 {
        lines.push(running.line_with("").unwrap());
    }
    let token = lines
        .iter()
        .flat_map(|line| line.split(|byte: char| byte.is_whitespace() || "\"'=".contains(byte)))
        .find(|word| word.starts_with("eyJ") && word.matches('.').count() == 2)
        .unwrap_or_else(|| panic!("no root token in {lines:?}"));
    assert!(token.len() > 50);
    // As a person would: all at once, in one shell, so that a variable set by one line serves the next.
    let pasted: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| line.starts_with("curl ") || line.starts_with("TOKEN=") || line.starts_with("export "))
        .collect();
    for at in 0..pasted.len() {
        let output = Command::new("sh").arg("-ec").arg(pasted[..=at].join("\n")).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{stdout}\n{stderr}", pasted[at]);
        for refusal in ["not allowed", "does not exists", "There is nothing", "cannot be"] {
            assert!(!stdout.contains(refusal), "{}\n{stdout}", pasted[at]);
        }
    }
    assert!(!folder.path().join("lucid.yml").exists(), "without a file means without a file");
}

#[test]
fn init_and_then_server_is_all_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new(binary())
        .arg("init")
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let said = String::from_utf8_lossy(&init.stdout).into_owned();
    let token = said
        .split(|byte: char| byte.is_whitespace() || "\"'=".contains(byte))
        .find(|word| word.starts_with("eyJ") && word.matches('.').count() == 2)
        .unwrap_or_else(|| panic!("no root token in {said:?}"));
    let mut command = Command::new(binary());
    command.args(["server", "--port", "0"]).env("LUCID_GENERAL__PORT_SSL", "0");
    let mut running = Running::spawn(command, &folder);
    let mut client = Client::connect(listening(&mut running)).with_token(token);
    client.put(&kv("greeting"), "hello world").expect(201);
    assert_eq!(client.get(&kv("greeting")).expect(200).text(), "hello world");
    Client::connect(listening_again(&client)).get(&kv("greeting")).expect(401);
}

fn listening_again(client: &Client) -> SocketAddr {
    client.stream().peer_addr().unwrap()
}

#[test]
fn a_node_outlives_whoever_reads_its_greeting() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new(binary());
    command.args(["server", "--port", "0"]).current_dir(folder.path()).env("HOME", folder.path());
    command.env("LUCID_LOGGING__OUTPUTS", format!("file:{}", log.display()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let manager = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    command.env("NOTIFY_SOCKET", folder.path().join("notify"));
    let mut child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut heard = [0; 512];
    let ready = manager.recv(&mut heard).map(|count| String::from_utf8_lossy(&heard[..count]).into_owned());
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ready.is_ok_and(|ready| ready.starts_with("READY=1")) && alive, "{said}");
}
