//! Recognizes HTTP, which must not be taken for commands.
//!
//! A web page can make a browser open a connection to the loopback address and send a body of the page's choosing.
//! It can't send anything before the request line and the headers. So the first line that can be read decides: if
//! it opens HTTP, nothing of that connection runs.
//!
//! RTSP and SIP have request lines of the same form and are refused as HTTP.
//!
//! Invariant: no line with strict JSON arguments is taken for HTTP, because JSON never ends with a version. There
//! is one exception: a name that ends in a colon looks like a header, so such a command can't be a connection's
//! first.

/// Returns whether the byte separates words. The protocol says one space; tabs and repeated spaces do no harm.
pub(crate) fn is_separator(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The protocol names that may precede a version.
const PROTOCOLS: [&[u8]; 3] = [b"HTTP", b"RTSP", b"SIP"];

/// Returns whether a connection's first line opens HTTP. If the line is not complete, only its beginning is given.
/// Then a target in place of the arguments is enough, because a long address must not hide a request.
pub(crate) fn opens_http(line: &[u8], is_whole: bool) -> bool {
    let line = line.trim_ascii();
    is_header(line) || opens_request(line, is_whole)
}

/// Returns whether a trimmed line is a request line, or begins like one if it is not complete.
pub(crate) fn opens_request(line: &[u8], is_whole: bool) -> bool {
    match is_whole {
        true => is_request_line(line),
        false => is_request_beginning(line),
    }
}

/// Returns whether a line is `METHOD SP target SP HTTP/version`. Checks only the version, because a telnet sequence
/// may have removed a space or a letter before it.
fn is_request_line(line: &[u8]) -> bool {
    let mut words = words(line);
    words.next().is_some() && words.last().is_some_and(ends_with_version)
}

/// Returns whether a line begins with `METHOD SP` and a path or an address, whatever follows.
fn is_request_beginning(line: &[u8]) -> bool {
    let mut words = words(line);
    let (method, target) = (words.next(), words.next());
    method.is_some_and(is_token)
        && target.is_some_and(|target| target.starts_with(b"/") || starts_http(target))
}

/// Returns whether a line begins with `Header-Name:` and a space or the line's end. For `Host:` the value may
/// follow at once.
fn is_header(line: &[u8]) -> bool {
    let word = words(line).next().unwrap_or_default();
    let Some(colon) = memchr::memchr(b':', word) else {
        return false;
    };
    let (name, value) = (&word[..colon], &word[colon + 1..]);
    let is_host = name.eq_ignore_ascii_case(b"host");
    is_host || (value.is_empty() && is_token(name))
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(is_separator).filter(|word| !word.is_empty())
}

/// Returns whether a word is a token by RFC 9110, section 5.6.2, as methods and header names are.
fn is_token(word: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(is_token_byte)
}

fn ends_with_version(word: &[u8]) -> bool {
    let Some(slash) = memchr::memrchr(b'/', word) else {
        return false;
    };
    let (before, number) = (&word[..slash], &word[slash + 1..]);
    let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.');
    let ends_with = |name: &&[u8]| {
        let at = before.len().checked_sub(name.len());
        at.is_some_and(|at| before[at..].eq_ignore_ascii_case(name))
    };
    !number.is_empty() && number.iter().all(is_number) && PROTOCOLS.iter().any(ends_with)
}

fn starts_http(word: &[u8]) -> bool {
    word.len() >= 4 && word[..4].eq_ignore_ascii_case(b"http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_headers_open_http() {
        let table: &[&str] = &[
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r",
            "  POST   /echo  HTTP/1.0 ",
            "get / http/2",
            "echo /x HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "CONNECT localhost:3502 HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET http://127.0.0.1:3502/ HTTP/1.1",
            "Host: localhost",
            "host:localhost:3502",
            "Host:",
            "Content-Length: 9",
            "OPTIONS sip:x SIP/2.0",
            "GET /HTTP/1.1",
        ];
        for line in table {
            assert!(opens_http(line.as_bytes(), true), "{line}");
        }
        assert!(opens_http(b"GET /\xc3\xff HTTP/1.1", true), "not UTF-8");
        assert!(opens_http(b"GET /xxxxxxxx", false), "a long path");
        assert!(opens_http(b"GET http://xx", false), "a long address");
    }

    #[test]
    fn commands_do_not() {
        let table: &[&str] = &[
            "dae",
            "get [1]",
            "GET",
            "get [1, 2]",
            "echo [\"x\"]",
            "echo \"GET / HTTP/1.1\"",
            "echo [\"GET / HTTP/1.1\"]",
            "echo {\"Host\": \"x\"}",
            "echo {a: HTTP/1.1}",
            "log [\"a\", HTTP/]",
            "GET / HTTP/",
            "GET /",
            "store:get [1]",
            "store::get [1]",
            ": [1]",
            "name#tag [\"a:\"]",
        ];
        for line in table {
            assert!(!opens_http(line.as_bytes(), true), "{line}");
        }
        assert!(!opens_http(b"echo [\"/xxxx", false), "a long command");
    }
}
