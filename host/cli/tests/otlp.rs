//! The export of traces to a collector, as a person sets it up: `cargo test --workspace --features dae-cli/otlp --test otlp`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

/// The longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A host that is ended when it is dropped.
struct Host(Child, tempfile::TempDir);

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(home: &Path, variables: &[(&str, &str)]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dae-host"));
    // The variables of whoever runs the test mean another program.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        program.env_remove(name);
    }
    program.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    program.arg("--home").arg(home);
    program.envs(variables.iter().copied());
    program
}

/// Starts a host, and returns it with the port of its Dae.
fn host(variables: &[(&str, &str)]) -> (Host, u16) {
    let home = tempfile::tempdir().expect("a folder");
    let config = home.path().join("config.json5");
    std::fs::write(config, "{scan_ms: 0}").expect("the settings");
    let mut child = program(home.path(), variables)
        .args(["run", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the host starts");
    let stdout = child.stdout.take().expect("its output");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let announced: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let port = announced["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok());
    (Host(child, home), port.expect("a port"))
}

/// Calls a command of Dae in the trace of the test.
fn call(port: u16, command: &str, flags: &str) -> String {
    let mut guest = TcpStream::connect(("127.0.0.1", port)).expect("Dae listens");
    guest.set_read_timeout(Some(LIMIT)).expect("a limit");
    let line = format!("dae [{{\"traceparent\":\"00-{TRACE}-{CALLER}-{flags}\"}}]\n{command}\n");
    guest.write_all(line.as_bytes()).expect("it takes a line");
    let mut reply = String::new();
    BufReader::new(guest)
        .read_line(&mut reply)
        .expect("a reply");
    reply
}

/// A collector that passes on what it gets.
fn collector() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream.expect("a connection"));
                while let Some(request) = request(&mut stream) {
                    if sender.send(request).is_err() {
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.get_mut().write_all(answer).expect("it reads");
                }
            });
        }
    });
    (address, requests)
}

/// Reads a request: its first line, and its body.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut first = String::new();
    if stream.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').expect("a header");
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).expect("JSON");
    Some((first.trim().to_owned(), body))
}

fn list(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().expect("a list").iter()
}

fn spans(request: &Value) -> Vec<&Value> {
    let scopes = list(&request["resourceSpans"]).flat_map(|one| list(&one["scopeSpans"]));
    scopes.flat_map(|one| list(&one["spans"])).collect()
}

fn resource(request: &Value, key: &str) -> Value {
    let resource = &request["resourceSpans"][0]["resource"];
    let mut attributes = resource["attributes"].as_array().expect("a list").iter();
    let attribute = attributes.find(|one| one["key"] == key);
    attribute.expect("it has the attribute")["value"]["stringValue"].clone()
}

#[test]
fn commands_of_a_trace_are_exported_and_no_others() {
    let (endpoint, requests) = collector();
    let (_host, port) = host(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
    ]);
    // Not recorded by its caller, so not exported.
    assert!(call(port, "list", "00").starts_with("list "));
    assert!(call(port, "find [\"Nobody\"]", "01").starts_with("error "));
    let (line, request) = requests.recv_timeout(LIMIT).expect("a request");
    assert_eq!(line, "POST /v1/traces HTTP/1.1");
    let [span] = spans(&request)[..] else {
        panic!("one span: {request:?}");
    };
    assert_eq!(
        (&span["name"], &span["kind"]),
        (&"Dae/find".into(), &2.into())
    );
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], CALLER);
    assert_ne!(span["spanId"], CALLER);
    assert_eq!(span["status"]["code"], 2);
    let ns = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(ns("endTimeUnixNano") >= ns("startTimeUnixNano"));
    assert!(ns("startTimeUnixNano").is_some());
    let attributes = span["attributes"].as_array().expect("a list");
    let keys: Vec<&Value> = attributes.iter().map(|one| &one["key"]).collect();
    assert_eq!(keys, ["rpc.system", "rpc.service", "rpc.method"]);
    assert_eq!(resource(&request, "service.name"), "dae-host");
    assert_eq!(resource(&request, "deployment.environment"), "test");
}

#[test]
fn the_last_spans_are_sent_at_the_end_of_the_host() {
    let (endpoint, requests) = collector();
    let (mut host, port) = host(&[
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            &format!("{endpoint}/here"),
        ),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_SERVICE_NAME", "home"),
        // Longer than the test: only the end sends them.
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ]);
    assert!(call(port, "list", "00").starts_with("list "));
    let ended = program(host.1.path(), &[])
        .arg("shutdown")
        .output()
        .expect("it runs");
    assert!(ended.status.success(), "{ended:?}");
    let (line, request) = requests.recv_timeout(LIMIT).expect("a request");
    assert_eq!(line, "POST /here HTTP/1.1");
    assert_eq!(spans(&request).len(), 1);
    assert_eq!(resource(&request, "service.name"), "home");
    assert!(host.0.wait().expect("it ends").success());
}

#[test]
fn a_collector_that_is_gone_hinders_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let endpoint = format!("http://{}", nobody.expect("an address"));
    let (mut host, port) = host(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ]);
    for _ in 0..100 {
        assert!(call(port, "list", "01").starts_with("list "));
    }
    let ended = program(host.1.path(), &[])
        .arg("shutdown")
        .output()
        .expect("it runs");
    assert!(ended.status.success(), "{ended:?}");
    assert!(host.0.wait().expect("it ends").success());
}

fn refused(variables: &[(&str, &str)]) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let output = program(home.path(), variables).arg("run").output();
    output.expect("it runs and ends")
}

#[test]
fn what_it_cannot_do_is_refused_before_a_daemon_starts() {
    for (name, value, hint) in [
        ("OTEL_TRACES_EXPORTER", "console", "`otlp` and `none`"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://localhost:4318",
            "without TLS",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "http/protobuf or http/json",
        ),
    ] {
        let variables = [("OTEL_TRACES_EXPORTER", "otlp"), (name, value)];
        let output = refused(&variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(name) && text.contains(value) && text.contains(hint),
            "{text}"
        );
    }
}
