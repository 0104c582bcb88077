//! Arguments that can't be read from JSON, by their syntax. All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command]
    fn reference(&self, list: &[u8], text: &String) {
        let _ = (list, text);
    }

    #[command]
    fn reference_inside(&self, maybe: Option<&str>, pair: (u8, [&str; 2]), #[rest] more: Vec<&str>) {
        let _ = (maybe, pair, more);
    }

    #[command]
    fn exclusive_text(&self, text: &mut str) {
        let _ = text;
    }

    #[command]
    fn pattern(&self, (a, b): (u8, u8)) -> u8 {
        a + b
    }

    #[command]
    fn unnamed(&self, _: u8) {}

    #[command]
    fn rest_of_no_list(&self, #[rest] more: u8) {
        let _ = more;
    }

    #[command]
    fn rest_in_front(&self, #[rest] more: Vec<u8>, last: u8) {
        let _ = (more, last);
    }

    #[command]
    fn rest_of_guests(&self, #[rest] guest: Guest) {
        let _ = guest;
    }

    #[command]
    fn rest_twice(
        &self,
        #[rest]
        #[rest]
        more: Vec<u8>,
    ) {
        let _ = more;
    }

    #[command]
    fn rest_with_options(&self, #[rest(3)] more: Vec<u8>) {
        let _ = more;
    }

    #[command]
    fn rest_of_self(#[rest] &self) {}

    #[command]
    #[rest]
    fn rest_of_the_method(
        &self,
        /// A doc comment, which is no fault.
        text: String,
    ) {
        let _ = text;
    }

    #[command]
    fn in_some_builds(
        &self,
        #[allow(unused)] whole: u8,
        #[cfg(debug_assertions)] part: u8,
        #[cfg(debug_assertions)] guest: Guest,
    ) {
        let _ = (part, guest);
    }

    fn rest_of_no_command(&self, #[rest] more: Vec<u8>) {
        let _ = more;
    }

    #[command]
    fn too_many(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
    ) {
        let _ = (a, b, c, d, e, f, g, h, i, j, k, l, m);
    }
}

fn main() {}
