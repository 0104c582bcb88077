//! Topics, and watching which daemons come and go.

use dae_tests::{Ecosystem, Guest, LIMIT, until};
use serde_json::json;

use super::{flags, heard, until_heard};

#[test]
fn what_is_published_reaches_all_who_subscribed() {
    for (a_apart, b_apart) in [(false, false), (true, false), (false, true), (true, true)] {
        let host = Ecosystem::start();
        let mut a = host.install("A", "peer", flags(a_apart));
        let mut b = host.install("B", "peer", flags(b_apart));
        let mut person = Guest::connect(dae_port(&host));
        person.ask("subscribe", &json!(["news"]));
        b.ask("subscribe", &json!(["news"]));
        a.ask("publish", &json!(["weather", "nobody hears this"]));
        a.ask("publish", &json!(["news", 1, {"x": "y"}]));
        until_heard(&mut b, &["news [1,{\"x\":\"y\"}]"], "B");
        person.expect(r#"news [1,{"x":"y"}]"#);
        assert_eq!(person.ask("publish", &json!(["news", "from outside"])), 2);
        until_heard(
            &mut b,
            &["news [1,{\"x\":\"y\"}]", "news [\"from outside\"]"],
            "B",
        );
        person.ask("unsubscribe", &json!(["news"]));
        assert_eq!(person.ask("publish", &json!(["news"])), 1);
    }
}

#[test]
fn what_can_be_no_topic_is_refused() {
    let host = Ecosystem::start();
    let mut a = host.install("A", "peer", &[]);
    let mut person = Guest::connect(dae_port(&host));
    for topic in ["", "a b", "a#b", "list", "dae"] {
        let fault = person.ask_in_vain("subscribe", &json!([topic]));
        assert_eq!(fault.code, "bad-arguments", "{topic:?}: {fault:?}");
        assert!(
            a.try_ask("subscribe", &json!([topic])).is_err(),
            "{topic:?}"
        );
    }
}

#[test]
fn who_watches_hears_of_all_who_come_change_and_go() {
    for is_apart in [false, true] {
        let host = Ecosystem::start();
        let mut a = host.install("A", "peer", flags(is_apart));
        a.ask("watch", &json!([]));
        until_heard(
            &mut a,
            &["Appeared A", "Appeared Dae"],
            "those who are there",
        );
        let _b = host.install("B", "peer", &[]);
        let _ = host.cli(&["reload", "B"]).ok();
        let _ = host.cli(&["uninstall", "B"]).ok();
        until(LIMIT, "all of B's life is heard", || {
            let heard = heard(&mut a);
            let of_b: Vec<_> = heard.iter().filter(|text| text.ends_with(" B")).collect();
            of_b == ["Appeared B", "Changed B", "Gone B"]
        });
    }
}

fn dae_port(host: &Ecosystem) -> u16 {
    let port = host.status("Dae")["port"].as_u64();
    port.and_then(|port| u16::try_from(port).ok())
        .expect("a port")
}
