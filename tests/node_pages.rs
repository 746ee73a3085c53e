//! The pages of the node itself: health, readiness, robots and the welcome.

mod common;

use common::{Node, Shared};
use std::sync::Arc;

fn node() -> Arc<Node> {
    static SHARED: Shared = Shared::new();
    SHARED.node(|setup| {
        setup.workers(2);
    })
}

#[test]
fn health_and_readiness_need_no_credential() {
    let node = node();
    let mut stranger = node.stranger();
    for path in ["/health", "/livez", "/readyz"] {
        stranger.get(path).expect(200);
        stranger.call("HEAD", path, &[], b"").expect(200);
        stranger.get(&format!("{path}?verbose")).expect(200);
    }
    assert!(stranger.get("/health").body.is_empty());
}

#[test]
fn robots_are_kept_out_of_the_api() {
    let node = node();
    let got = node.stranger().get("/robots.txt").expect(200);
    assert!(got.expect_field("content-type").starts_with("text/plain"), "{got}");
    assert!(got.text().contains("User-agent: *") && got.text().contains("Disallow: /api"), "{got}");
}

#[test]
fn the_root_welcomes_in_html() {
    let node = node();
    let got = node.stranger().get("/").expect(200);
    assert!(got.expect_field("content-type").starts_with("text/html"), "{got}");
    assert!(got.text().contains("Lucid"), "{got}");
    assert_eq!(got.field("x-content-type-options"), Some("nosniff"));
}

#[test]
fn pages_answer_405_with_allow_to_other_methods() {
    let node = node();
    let mut stranger = node.stranger();
    for path in ["/", "/livez", "/readyz", "/robots.txt"] {
        let refused = stranger.call("DELETE", path, &[], b"").expect(405);
        assert!(refused.lists("allow", "GET") && refused.lists("allow", "HEAD"), "{refused}");
    }
}

#[test]
fn an_absolute_target_is_routed_by_its_path() {
    let node = node();
    let mut client = node.client();
    client.put("/api/kv/absolute", "x").expect(201);
    assert_eq!(client.get("http://localhost/api/kv/absolute").expect(200).text(), "x");
    assert_eq!(client.get("HTTP://user.example:7020/api/kv/absolute?x=1").expect(200).text(), "x");
    client.get("http://localhost").expect(200);
    client.get("http://localhost/").expect(200);
}
