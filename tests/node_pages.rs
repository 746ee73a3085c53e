//! The pages of the node itself: health, readiness, robots and the welcome.

mod common;

use common::{Node, Shared, token};
use std::sync::Arc;
use std::time::Duration;

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

/// Seconds since the Unix epoch of an IMF-fixdate.
fn seconds_of(date: &str) -> u64 {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |range: std::ops::Range<usize>| date[range].parse::<u64>().unwrap();
    let month = months.iter().position(|name| *name == &date[8..11]).unwrap() as u64 + 1;
    // Days from civil (Hinnant), for years behind 1970.
    let (day, year) = (number(5..7), number(12..16) - u64::from(month <= 2));
    let day_of_year = (153 * (month + if month > 2 { 0 } else { 12 } - 3) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    days * 86_400 + number(17..19) * 3_600 + number(20..22) * 60 + number(23..25)
}

#[test]
fn dates_are_those_of_the_clock_and_go_with_it() {
    let node = Node::start(|_| {});
    let mut client = node.client();
    client.put("/api/kv/dated", "x");
    let modified = client.get("/api/kv/dated").expect_field("last-modified").to_string();
    assert!(token::now().abs_diff(seconds_of(&modified)) <= 2, "{modified}");
    for _ in 0..3 {
        let got = client.get("/api/kv/dated").expect(200);
        let date = seconds_of(got.expect_field("date"));
        assert!(token::now().abs_diff(date) <= 1, "{got}");
        assert_eq!(got.expect_field("last-modified"), modified);
        assert!(seconds_of(&modified) <= date, "modified in the future: {got}");
        assert!(!client.hears_within(Duration::from_millis(1_100)));
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
