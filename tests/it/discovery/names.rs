//! The names of foreign daemons, and the credentials that are believed.

use serde_json::{Value, json};

use super::scene::{Habit, Recorder, host_among, host_that_asks, scan};

fn listed(ecosystem: &dae_tests::Ecosystem) -> Vec<String> {
    let mut names = ecosystem.names();
    names.retain(|name| name != "Dae");
    names
}

#[test]
fn a_foreign_daemon_never_shadows_one_of_the_hosts() {
    let one = Recorder::daemon("Counter");
    let ecosystem = host_among(&[one.port]);
    let mut own = ecosystem.install("Counter", "counter", &[]);
    let with_port = format!("Counter@{}", one.port);
    assert_eq!(scan(&ecosystem), [&*with_port]);
    let mut dae = ecosystem.guest("Dae");
    let own_port = ecosystem.port_of("Counter");
    assert_eq!(dae.ask("find", &json!(["Counter"]))["port"], own_port);
    let found = dae.ask("find", &json!([with_port]));
    assert_eq!(
        (&found["port"], &found["foreign"]),
        (&json!(one.port), &json!(true))
    );
    assert_eq!(found["plugin"], "Counter", "what it calls itself");
    own.expect_alive();
    // The name is free again, but the foreign daemon keeps the one that it has.
    let _ = ecosystem.cli(&["uninstall", "Counter"]).ok();
    assert_eq!(scan(&ecosystem), [&*with_port]);
}

#[test]
fn a_daemon_that_is_installed_takes_its_name_back() {
    let one = Recorder::daemon("Counter");
    let ecosystem = host_among(&[one.port]);
    assert_eq!(scan(&ecosystem), ["Counter"]);
    let _guest = ecosystem.install("Counter", "counter", &[]);
    assert_eq!(
        listed(&ecosystem),
        ["Counter", &format!("Counter@{}", one.port)]
    );
    let mut dae = ecosystem.guest("Dae");
    assert_eq!(dae.ask("find", &json!(["Counter"])).get("foreign"), None);
}

#[test]
fn of_two_with_one_name_the_first_keeps_it_and_names_do_not_flap() {
    let mut two = [Recorder::daemon("Twin"), Recorder::daemon("Twin")];
    two.sort_by_key(|one| one.port);
    let [first, second] = two;
    let ecosystem = host_among(&[first.port, second.port]);
    let with_port = format!("Twin@{}", second.port);
    for _ in 0..3 {
        assert_eq!(scan(&ecosystem), ["Twin", &with_port]);
    }
    drop(first);
    assert_eq!(scan(&ecosystem), [&*with_port], "the second keeps its name");
}

#[test]
fn a_credential_that_does_not_fit_is_an_impostors() {
    let liar_of_process = Recorder::start(Habit::Silent);
    let liar_of_port = Recorder::start(Habit::Silent);
    let says = |pid: u32, port: u16| {
        let credential = json!([{"name": "Bank", "pid": pid, "port": port}]);
        Habit::Says(format!("dae {credential}\n"))
    };
    liar_of_process.becomes(says(1, liar_of_process.port));
    liar_of_port.becomes(says(std::process::id(), 4321));
    let honest = Recorder::daemon("Bank");
    let ecosystem = host_that_asks(&[&liar_of_process, &liar_of_port, &honest]);
    let _ = scan(&ecosystem);
    assert_eq!(ecosystem.status("Bank")["port"], honest.port);
    assert_eq!(ecosystem.status("Bank")["state"], "foreign");
    let list: Value = ecosystem.guest("Dae").ask("list", &json!([]));
    assert_eq!(list.as_array().expect("credentials").len(), 2, "{list}");
    for liar in [&liar_of_process, &liar_of_port] {
        let name = format!("Bank@{}", liar.port);
        assert_eq!(ecosystem.status(&name)["state"], "impostor");
        let fault = ecosystem.guest("Dae").ask_in_vain("find", &json!([name]));
        assert!(
            fault.message.contains("is an impostor: it says"),
            "{fault:?}"
        );
        let refused = ecosystem.cli(&["call", &name, "give", "all"]);
        assert!(refused.says(&["impostor"]), "{refused:?}");
        assert_ne!(refused.status, 0);
        assert_eq!(liar.heard(), b"dae\n", "it isn't called");
        let pid = &ecosystem.status(&name)["pid"];
        assert_eq!(pid, std::process::id(), "the kernel's, whatever it says");
        let shown = ecosystem.cli(&["status", &name]).ok().stdout;
        assert!(shown.contains("it says"), "{shown}");
    }
}
