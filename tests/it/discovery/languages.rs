//! Daemons in other languages, which speak only the seed's protocol.

use std::process::{Command, Stdio};

use dae_tests::{Ecosystem, LIMIT, Running, process, until};
use rustix::process::Signal;
use serde_json::json;

use super::scene::{host_among, only, scan};
use crate::clients::{script, tool};

/// Starts a daemon that is a program of its own, and returns it with its port.
fn daemon(command: &mut Command) -> (Running, u16) {
    let mut running = Running::start(command.stdin(Stdio::null()));
    let port = running.line(LIMIT).parse().expect("it prints its port");
    (running, port)
}

fn in_node(name: &str) -> Option<(Running, u16)> {
    let mut node = tool("node", &["--version"])?;
    Some(daemon(node.arg(script("daemon.js")).arg(name)))
}

fn in_python(arguments: &[&str]) -> Option<(Running, u16)> {
    let mut python = tool("python3", &["--version"])?;
    Some(daemon(python.arg(script("daemon.py")).args(arguments)))
}

/// Asserts all that can be done with a foreign daemon: it is found, listed and called, and removed once it is gone.
fn lives_among_others(name: &str, language: &str, (running, port): (Running, u16)) {
    let ecosystem = host_among(&[port]);
    assert_eq!(scan(&ecosystem), [name]);
    let credential = json!({"name": name, "pid": running.pid(), "port": port, "foreign": true});
    let mut dae = ecosystem.guest("Dae");
    assert_eq!(dae.ask("find", &json!([name])), credential);
    let list = dae.ask("list", &json!([]));
    assert_eq!(list[0]["name"], "Dae", "{list}");
    assert_eq!(list[1], credential, "{list}");
    let row = ecosystem.cli(&["list"]).ok().stdout;
    let row = row
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a row");
    assert!(row.contains("foreign"), "{row}");
    let called = ecosystem.cli(&["call", name, "add", "1", "2"]).ok();
    assert_eq!(called.stdout, "3\n");
    let called = ecosystem.cli(&["call", name, "greet", "Ada"]).ok();
    assert_eq!(called.stdout, format!("\"Hello, Ada, from {language}\"\n"));
    let options = ecosystem.cli(&["options", name, "--json"]).ok().json();
    assert_eq!((&options["add"], &options["greet"]), (&json!(2), &json!(1)));
    for wish in ["stop", "restart", "uninstall", "reload", "state", "logs"] {
        let refused = ecosystem.cli(&[wish, name]);
        assert_eq!(refused.status, 1, "{wish}");
        assert!(refused.says(&["is a foreign daemon"]), "{refused:?}");
    }
    let status = ecosystem.cli(&["status", name]).ok().stdout;
    let known: Vec<_> = status
        .lines()
        .skip(1)
        .map(|line| line.trim_start())
        .collect();
    assert_eq!(
        known,
        [
            format!("calls itself  {name}"),
            format!("pid           {}", running.pid()),
            format!("address       127.0.0.1:{port}"),
        ]
    );
    process::signal(running.pid(), Signal::KILL);
    until(LIMIT, "its end", || process::is_gone(running.pid()));
    assert_eq!(scan(&ecosystem), [""; 0], "gone within one scan");
    let fault = dae.ask_in_vain("find", &json!([name]));
    assert!(fault.message.contains("no daemon"), "{fault:?}");
}

#[test]
fn a_daemon_in_node_is_found_called_and_gone() {
    let Some(node) = in_node("Nodelet") else {
        return;
    };
    lives_among_others("Nodelet", "Node", node);
}

#[test]
fn a_daemon_in_python_is_found_called_and_gone() {
    let Some(python) = in_python(&["Monty"]) else {
        return;
    };
    lives_among_others("Monty", "Python", python);
}

#[test]
fn a_daemon_that_listens_on_ipv6_alone_is_called_there() {
    let Some((_running, port)) = in_python(&["Six", "::1"]) else {
        return;
    };
    let ecosystem = host_among(&[port]);
    assert_eq!(scan(&ecosystem), ["Six"]);
    assert_eq!(ecosystem.status("Six")["address"], "::1");
    assert_eq!(
        ecosystem.guest("Dae").ask("find", &json!(["Six"]))["address"],
        "::1"
    );
    let called = ecosystem.cli(&["call", "Six", "add", "1", "2"]).ok();
    assert_eq!(called.stdout, "3\n");
}

/// A server may listen in one process and answer in its child processes.
#[test]
fn a_daemon_that_answers_in_a_child_is_believed() {
    const FORKS: &str = "
import json, os, socket
listener = socket.create_server(('127.0.0.1', 0))
port = listener.getsockname()[1]
print(port, flush=True)
if os.fork():
    os.wait()
while True:
    guest, _ = listener.accept()
    guest.recv(99)
    credential = {'name': 'Forked', 'pid': os.getpid(), 'port': port}
    guest.sendall(f'dae {json.dumps(credential)}\\n'.encode())
";
    let Some(mut python) = tool("python3", &["--version"]) else {
        return;
    };
    let (running, port) = daemon(python.args(["-c", FORKS]));
    let children = || process::children(running.pid());
    until(LIMIT, "the child", || !children().is_empty());
    let child = children()[0];
    let ecosystem = host_among(&[port]);
    assert_eq!(scan(&ecosystem), ["Forked"]);
    let status = ecosystem.status("Forked");
    assert_eq!(
        (&status["state"], &status["pid"]),
        (&json!("foreign"), &json!(child))
    );
    process::signal(child, Signal::KILL);
    until(LIMIT, "the parent takes over", || {
        let _ = scan(&ecosystem);
        ecosystem.status("Forked")["pid"] == running.pid()
    });
}

/// The data of a foreign daemon's error arrive as they were written, and pass on through a daemon of this host.
#[test]
fn an_error_of_a_daemon_in_python_keeps_its_code_and_its_data() {
    const REFUSES: &str = r#"
import json, os, socketserver
class Guest(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            name = line.decode().split()[0].split('#')[0]
            if name == 'dae':
                credential = {'name': 'Store', 'pid': os.getpid(), 'port': port}
                self.wfile.write(f'dae [{json.dumps(credential)}]\n'.encode())
            else:
                error = {'command': name, 'code': name, 'message': 'no', 'data': {'n': 2**64 - 1, 'f': 0.1}}
                self.wfile.write(f'error [{json.dumps(error)}]\n'.encode())
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
server = Server(('127.0.0.1', 0), Guest)
port = server.server_address[1]
print(port, flush=True)
server.serve_forever()
"#;
    let Some(mut python) = tool("python3", &["--version"]) else {
        return;
    };
    let (_running, port) = daemon(python.args(["-c", REFUSES]));
    let data = json!({"n": u64::MAX, "f": 0.1});
    let ecosystem = host_among(&[port]);
    assert_eq!(scan(&ecosystem), ["Store"]);
    for (name, flags) in [("Here", &[][..]), ("Apart", &["--isolate"])] {
        let mut guest = ecosystem.install(name, "peer", flags);
        let fault = guest.ask_in_vain("pass_on", &json!(["Store", "not-found"]));
        assert_eq!(
            (fault.code.as_str(), fault.data),
            ("not-found", Some(data.clone()))
        );
        let fault = guest.ask_in_vain("pass_on", &json!(["Store", "denied"]));
        let cause = json!({
            "code": "denied", "command": "denied", "daemon": "Store", "message": "no", "data": data,
        });
        assert_eq!(
            (fault.code.as_str(), fault.data),
            ("failed", Some(json!({"cause": cause})))
        );
    }
    let called = ecosystem.cli(&["call", "Store", "not-found"]);
    assert_eq!(
        (called.status, called.stderr.as_str()),
        (1, "dae-host: Store not-found: no (not-found)\n")
    );
}

#[test]
fn who_comes_and_goes_is_noticed_without_being_asked() {
    let Some((running, port)) = in_python(&["Passerby"]) else {
        return;
    };
    let mut config = only(&[port]);
    config["scan_ms"] = json!(100);
    let ecosystem = Ecosystem::start_configured(&config);
    let is_listed = || ecosystem.names().contains(&"Passerby".to_owned());
    until(LIMIT, "it is listed", is_listed);
    process::signal(running.pid(), Signal::KILL);
    until(LIMIT, "it is listed no more", || !is_listed());
    // The log has it at DEBUG only, since programs come and go all day.
    let events = ecosystem.cli(&["--json", "events"]).ok().json_lines();
    let of_it = events.iter().filter(|event| event["daemon"] == "Passerby");
    let kinds: Vec<_> = of_it.filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["foreign-appeared", "foreign-gone"]);
}
