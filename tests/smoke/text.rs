//! Texts without what differs from run to run: ports, times, process ids, places, and the width of columns.

/// Returns a text in which each number is 0, each run of spaces is one space, and each of `places` has its name.
pub fn plain(text: &str, places: &[(String, &str)]) -> String {
    let mut text = text.to_owned();
    for (place, name) in places {
        text = text.replace(place, name);
    }
    let mut plain = String::new();
    for c in text.chars() {
        let c = match c.is_ascii_digit() {
            true => '0',
            false => c,
        };
        let is_repeated = matches!(c, '0' | ' ') && plain.ends_with(c);
        if !is_repeated {
            plain.push(c);
        }
    }
    let lines: Vec<&str> = plain.lines().map(str::trim_end).collect();
    lines.join("\n")
}

#[test]
fn numbers_and_places_are_named() {
    let places = [("/tmp/x9".to_owned(), "HOME")];
    let text = "port 4711,   home /tmp/x9/a, 12.5 ms  \nnext";
    assert_eq!(plain(text, &places), "port 0, home HOME/a, 0.0 ms\nnext");
}
