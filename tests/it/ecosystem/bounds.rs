//! Floods between daemons: they are bounded and answered, and harm no other daemon.

use dae_tests::{LIMIT, process, until};
use rustix::process::Resource;
use serde_json::json;

use super::{Pair, heard};

/// More connections than a host with few descriptors can hold.
const CONNECTIONS: usize = 300;

#[test]
fn a_flood_of_calls_is_answered_every_one() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let ends = pair.a.ask("flood", &json!([pair.other, 3000, 50]));
        let count = |end: &str| ends[end].as_u64().unwrap_or(0);
        assert_eq!(
            count("answered") + count("unavailable"),
            3000,
            "{label}: {ends}"
        );
        assert!(count("answered") >= 1000, "{label}: {ends}");
        assert_eq!(
            pair.a.ask("call", &json!([pair.other, "echo", 1])),
            1,
            "{label}"
        );
    }
}

/// Each of its connections takes one of the host's descriptors, in both modes.
#[test]
fn one_who_connects_without_end_locks_out_neither_the_owner_nor_others() {
    for is_apart in [false, true] {
        let mut pair = Pair::apart(is_apart);
        let label = pair.label.clone();
        process::set_bound(pair.here.pid(), Resource::Nofile, 256);
        let other = json!([pair.other]);
        let connected = (0..CONNECTIONS).map(|_| pair.a.try_ask("connect", &other));
        let refused: Vec<_> = connected.filter_map(Result::err).collect();
        let first = refused
            .first()
            .unwrap_or_else(|| panic!("{label}: none is refused"));
        assert!(
            first.message.contains("256 files and sockets"),
            "{label}: {first:?}"
        );
        assert!(
            refused.len() < CONNECTIONS - 20,
            "{label}: {}",
            refused.len()
        );
        // The owner is still served, and so are guests, those of other daemons included.
        let third = pair.here.plugin("sample");
        let third = third.to_str().expect("UTF-8");
        let _ = pair
            .here
            .cli(&["install", "Third", third, "--isolate"])
            .ok();
        let mut guests: Vec<_> = (0..10).map(|_| pair.here.guest("Third")).collect();
        guests.iter_mut().for_each(|guest| guest.expect_alive());
        pair.here.guest("A").expect_alive();
        let names = pair.here.names();
        let all = ["Dae", "A", "Third"].map(str::to_owned);
        assert!(
            all.iter().all(|name| names.contains(name)),
            "{label}: {names:?}"
        );
    }
}

#[test]
fn one_who_does_not_read_what_is_pushed_to_it_is_let_go() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        // 64 MiB of events, faster than A takes them.
        pair.a.send(format!("ask [{number},\"pour\",65536,1024]\n"));
        let _ = pair.a.message();
        until(LIMIT, &format!("{label}: both go on"), || {
            pair.a.try_ask("call", &json!([pair.other, "echo", 1])) == Ok(json!(1))
        });
        assert!(heard(&mut pair.a).len() <= 65536 + 3, "{label}");
    }
}
