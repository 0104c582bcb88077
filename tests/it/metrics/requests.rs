//! The requests that are answered, those that are refused, and clients that hang or are many.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{connect, exchange, measured, request, text};

#[test]
fn one_path_reading_methods_and_this_machine_are_answered() {
    let (_ecosystem, address) = measured(&json!({}));
    let port = address.port();
    for host in [
        format!("localhost:{port}"),
        "127.0.0.1".into(),
        format!("[::1]:{port}"),
    ] {
        assert_eq!(request(address, "GET /metrics", &host).0, 200, "{host}");
    }
    let own = address.to_string();
    for (line, host, status, part) in [
        (
            "GET /metrics",
            "evil.example",
            403,
            "the Host header must be localhost",
        ),
        (
            "GET /",
            "evil.example:9464",
            403,
            "the Host header must be localhost",
        ),
        ("GET /", &own, 404, "there is nothing at this path"),
        ("POST /metrics", &own, 405, "the methods are GET and HEAD"),
        ("DELETE /metrics", &own, 405, "allow: GET, HEAD"),
    ] {
        let (found, answer) = request(address, line, host);
        assert_eq!(found, status, "{line} {host}: {answer}");
        assert!(answer.contains(part), "{line} {host}: {answer}");
        assert!(!answer.contains("dae_daemon_up"), "{line} {host}: {answer}");
    }
    let (found, head) = request(address, "HEAD /metrics", &own);
    assert!(found == 200 && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(exchange(address, "GET /metrics HTTP/1.1\r\n\r\n").0, 403);
    assert_eq!(exchange(address, "what is this\r\n\r\n").0, 400);
}

#[test]
fn a_request_is_bounded_in_size_and_time() {
    let (_ecosystem, address) = measured(&json!({}));
    let long = "x".repeat(20_000);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nX: {long}\r\n\r\n");
    let mut stream = connect(address);
    // The host may close the connection before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

/// The time after which a scraper gives up, by default.
const SCRAPE_TIME_MAX: Duration = Duration::from_secs(10);

#[test]
fn clients_that_hang_keep_nobody_from_the_metrics() {
    let (_ecosystem, address) = measured(&json!({}));
    for begun in ["", "GET /metrics HTTP/1.1\r\nHost: local"] {
        let hung = [(); 200].map(|()| {
            let mut stream = connect(address);
            // The host may have closed a connection by now.
            let _ = stream.write_all(begun.as_bytes());
            stream
        });
        let began = Instant::now();
        let _ = text(address);
        let took = began.elapsed();
        assert!(took < SCRAPE_TIME_MAX, "{took:?} behind {begun:?}");
        for mut stream in hung.into_iter().take(4) {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
        }
    }
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let (mut ecosystem, address) = measured(&json!({}));
    let clients = [(); 200].map(|()| std::thread::spawn(move || text(address)));
    for client in clients {
        assert!(client.join().expect("a scrape").contains("dae_daemon_up"));
    }
    // A scrape that the host's end cuts short breaks nothing.
    let scraper = std::thread::spawn(move || {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n");
        while let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    ecosystem.stop();
    scraper.join().expect("the host has ended");
}
