//! Names, options and signatures that a command can't have. All are reported at once.

use dae_plugin_api::prelude::*;

#[derive(Default)]
struct Sample;

#[daemon]
impl Sample {
    #[command(blocking)]
    async fn both(&self) {}

    #[command]
    fn dae(&self) {}

    #[command(name = "help")]
    fn helps(&self) {}

    #[command(name = "two words")]
    fn two_words(&self) {}

    #[command(name = 'x')]
    fn no_string(&self) {}

    #[command]
    fn twice(&self) {}

    #[command(name = "twice")]
    fn again(&self) {}

    #[command(timeout = 5)]
    fn unknown_option(&self) {}

    #[command(port)]
    fn far_option(&self) {}

    #[command(5)]
    fn no_name(&self) {}

    #[command = "name"]
    fn no_option(&self) {}

    #[command(blocking, blocking)]
    fn option_twice(&self) {}

    #[command(blocking = true)]
    fn value_of_a_flag(&self) {}

    #[command(timeout_s)]
    fn no_limit(&self) {}

    #[command(timeout_s = 0)]
    fn limit_of_nothing(&self) {}

    #[command(timeout_s = -1)]
    fn limit_below_nothing(&self) {}

    #[command(timeout_s = 86401)]
    fn limit_above_a_day(&self) {}

    #[command(timeout_s = "5")]
    fn limit_of_text(&self) {}

    #[command(timeout_s = 5_000ms)]
    fn limit_with_a_unit(&self) {}

    #[command]
    #[command(blocking)]
    fn marked_twice(&self) {}

    #[command]
    const NO_METHOD: u8 = 1;

    #[command]
    unsafe fn unsafe_one(&self) {}

    #[command]
    extern "C" fn extern_one(&self) {}

    #[command]
    fn without_self(who: String) -> String {
        who
    }

    #[command]
    fn without_anything() {}

    #[command]
    fn exclusive(&mut self) {}

    #[command]
    fn by_value(self) {}

    #[command]
    fn boxed(self: Box<Self>) {}

    #[command]
    fn generic<T: Serialize>(&self, any: T) -> T {
        any
    }

    #[command]
    fn of_a_lifetime<'a>(&self, text: &'a str) -> &'a str {
        text
    }

    #[command]
    fn argument_of_any_type(&self, any: impl Serialize) {
        let _ = any;
    }

    #[command]
    fn argument_that_holds_any_type(
        &self,
        list: Vec<impl Into<String>>,
        pair: (u8, Option<impl Serialize>),
        boxed: Box<dyn Iterator<Item = impl Serialize>>,
        #[rest] more: Vec<impl Serialize>,
    ) {
        let _ = (list, pair, boxed, more);
    }

    #[cfg(debug_assertions)]
    #[command]
    fn only_in_some_builds(&self) {}

    #[command(bloking)]
    fn two_faults(self, any: impl Serialize) {
        let _ = any;
    }
}

fn main() {}
