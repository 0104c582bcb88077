//! The check of a request for metrics, before anything is gathered for it.
//!
//! The `Host` header must name the address that the client has connected to, or the loopback address. A web page whose
//! name was made to resolve to this machine (DNS rebinding) sends that name, and is refused. Any port is accepted: a
//! client behind a forwarded port names another one.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};

/// The path of the metrics.
const PATH: &str = "/metrics";

/// A reason for refusing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestFault {
    /// The `Host` header is missing, or names another machine.
    Host,
    /// There is nothing at that path.
    Path,
    /// The method is neither `GET` nor `HEAD`.
    Method,
}

impl RequestFault {
    pub(super) fn status(self) -> StatusCode {
        match self {
            RequestFault::Host => StatusCode::FORBIDDEN,
            RequestFault::Path => StatusCode::NOT_FOUND,
            RequestFault::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    /// Returns the reason for a person.
    pub(super) fn reason(self) -> &'static str {
        match self {
            RequestFault::Host => {
                "the Host header must be localhost, a loopback address, or the address that you have connected to"
            }
            RequestFault::Path => "there is nothing at this path",
            RequestFault::Method => "the methods are GET and HEAD",
        }
    }
}

/// Checks a request of a client that has connected to the address `here`.
pub(super) fn check<T>(request: &Request<T>, here: IpAddr) -> Result<(), RequestFault> {
    let in_line = request.uri().authority();
    if !is_host_known(request.headers(), here) || in_line.is_some_and(|one| !is_known(one, here)) {
        return Err(RequestFault::Host);
    }
    if request.uri().path() != PATH {
        return Err(RequestFault::Path);
    }
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(RequestFault::Method),
    }
}

/// Returns whether there is one `Host` header, and it names this machine.
fn is_host_known(headers: &HeaderMap, here: IpAddr) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| is_known(&authority, here))
}

fn is_known(authority: &Authority, here: IpAddr) -> bool {
    let host = authority.host();
    let is_plain = !authority.as_str().contains('@');
    is_plain && (host.eq_ignore_ascii_case("localhost") || is_address(host, here))
}

fn is_address(host: &str, here: IpAddr) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match v6 {
        Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => host.parse::<IpAddr>(),
    };
    // A socket for both families shows an IPv4 address in the form of IPv6.
    let same = |address: IpAddr| address.to_canonical() == here.to_canonical();
    address.is_ok_and(|address| address.to_canonical().is_loopback() || same(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: &str, target: &str, hosts: &[&str]) -> Result<(), RequestFault> {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap(), "192.0.2.7".parse().unwrap())
    }

    #[test]
    fn the_host_header_names_this_machine() {
        for host in [
            "localhost",
            "LocalHost:9464",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.9.9.9:9464",
            "[::1]:9464",
            "[::1]",
            "192.0.2.7:9464",
            "[::ffff:192.0.2.7]:9464",
        ] {
            assert_eq!(checked("GET", "/metrics", &[host]), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "localhost@127.0.0.1",
            "192.0.2.8:9464",
            "0.0.0.0:9464",
            "[::]:9464",
            "2130706433",
            "127.1",
        ] {
            let refused = Err(RequestFault::Host);
            assert_eq!(checked("GET", "/metrics", &[host]), refused, "{host}");
        }
        let refused = Err(RequestFault::Host);
        assert_eq!(checked("GET", "/metrics", &[]), refused);
        let both = ["localhost", "evil.example"];
        assert_eq!(checked("GET", "/metrics", &both), refused);
        let absolute = "http://evil.example/metrics";
        assert_eq!(checked("GET", absolute, &["localhost"]), refused);
    }

    #[test]
    fn one_path_and_the_methods_that_read_are_answered() {
        let here = &["localhost"];
        for target in ["/metrics", "/metrics?name=x", "http://localhost/metrics"] {
            assert_eq!(checked("GET", target, here), Ok(()), "{target}");
            assert_eq!(checked("HEAD", target, here), Ok(()), "{target}");
        }
        for target in [
            "/",
            "/metrics/",
            "/Metrics",
            "//metrics",
            "/metrics/../metrics",
        ] {
            assert_eq!(
                checked("GET", target, here),
                Err(RequestFault::Path),
                "{target}"
            );
        }
        for method in ["POST", "OPTIONS", "DELETE", "OTHER"] {
            let refused = Err(RequestFault::Method);
            assert_eq!(checked(method, "/metrics", here), refused, "{method}");
        }
    }
}
