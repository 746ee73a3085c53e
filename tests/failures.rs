//! What a node that cannot start says: what happened, to what, and what to do; and the code it ends with.

mod common;

use common::Node;
use std::net::TcpListener;

/// Ended with this code and said all of this, in lines that name the program.
#[track_caller]
fn assert_refused(ended: &common::node::Ended, code: i32, says: &[&str]) {
    let stderr = &ended.stderr;
    assert_eq!(ended.code, Some(code), "{stderr}");
    assert!(stderr.lines().all(|line| line.starts_with("lucid: ")), "{stderr}");
    for words in says {
        assert!(stderr.contains(words), "{words:?} is not in: {stderr}");
    }
}

#[test]
fn a_busy_port_names_the_process_that_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = Node::start_in_vain(|setup| {
        setup.set("general.port", port);
    });
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let who = format!("the port is in use; {} (pid {}) listens there", name.trim_end(), std::process::id());
    assert_refused(
        &ended,
        69,
        &[&format!("cannot listen on 127.0.0.1:{port}: {who}"), "--port", "general.port"],
    );
}

#[test]
fn an_address_of_another_machine_is_told_apart_from_a_busy_one() {
    // Of the block that documentation uses (RFC 5737), so no machine has it.
    let ended = Node::start_in_vain(|setup| {
        setup.set("general.bind_address", "192.0.2.1");
    });
    let says = ["192.0.2.1 is no address of this machine", "`ip address`", "--bind", "general.bind_address"];
    assert_refused(&ended, 69, &says);
}

#[test]
fn a_port_that_is_not_permitted_is_a_77() {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free: u16 = first_free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if first_free < 2 || root && !common::process::can_drop_capabilities() {
        return println!("skipped: everybody may bind every port here");
    }
    let ended = Node::start_in_vain(|setup| {
        setup.set("general.port", 1).unprivileged();
    });
    assert_refused(&ended, 77, &["cannot listen on 127.0.0.1:1", "CAP_NET_BIND_SERVICE", "general.port"]);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named_with_the_mend() {
    for (path, says) in [
        ("/nonexistent/lucid.log", "its folder is not there; make it first"),
        ("/", "it is a folder; name a file in it"),
    ] {
        let ended = Node::start_in_vain(|setup| {
            setup.set("logging.outputs", format!("['file:{path}']"));
        });
        assert_refused(&ended, 78, &[&format!("cannot open the log file {path} of logging.outputs: {says}")]);
    }
}

#[test]
fn memory_that_the_system_does_not_give_is_explained() {
    let ended = Node::start_in_vain(|setup| {
        setup.set("store.memory_limit", "1GiB").address_space(512 << 20);
    });
    let says =
        ["the system does not give the memory", "store.memory_limit (1073741824 bytes)", "`ulimit -v`"];
    assert_refused(&ended, 1, &says);
}

#[test]
fn a_memory_limit_over_the_machine_is_refused() {
    let ended = Node::start_in_vain(|setup| {
        setup.set("store.memory_limit", "8192TiB");
    });
    let says = ["store.memory_limit: ", "that this machine or container has", "leave it out"];
    assert_refused(&ended, 78, &says);
}
