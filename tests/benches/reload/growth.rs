//! The host's memory growth over many reloads of files with different content, in both modes.
//!
//! A library is never closed. In-process each reload therefore leaves one mapped, until the host has as many as it
//! keeps (`libraries_max`). Later reloads go to a subprocess. Every reload is checked: the new version answers on the same
//! connection, and the count has not changed.

use dae_tests::{Control, Guest, process};
use serde_json::{Value, json};

use super::Bakery;

/// Well above the 900 files that a host keeps by default, and the 1,024 that no process can exceed.
pub(super) const RELOADS_DEFAULT: u64 = 1_500;

/// The reloads between two measurements of the memory.
const STEP: u64 = 100;

pub(super) fn measure(reloads: u64) -> Value {
    println!("{reloads} reloads of distinct contents each; the host's resident memory");
    let of = |(label, flags)| {
        println!("{label:<12} {:>9} {:>11}", "MiB", "KiB/reload");
        let looks = Growing::start(flags).grow(reloads);
        json!({"mode": label, "looks": looks})
    };
    let modes = [("in-process", &[][..]), ("subprocess", &["--isolate"][..])];
    json!({"reloads": reloads, "growth": modes.map(of)})
}

struct Growing {
    bakery: Bakery,
    control: Control,
    guest: Guest,
    is_in_host: bool,
}

impl Growing {
    fn start(flags: &[&str]) -> Self {
        let bakery = Bakery::open();
        let (_, guest) = bakery.install(&json!({}), flags);
        Growing {
            control: bakery.ecosystem.control(),
            is_in_host: flags.is_empty(),
            bakery,
            guest,
        }
    }

    fn grow(mut self, reloads: u64) -> Vec<Value> {
        let mut before = self.bytes();
        let mut looks = Vec::new();
        for number in 1..=reloads {
            self.reload(number);
            if number.is_multiple_of(STEP) {
                let now = self.bytes();
                println!(
                    "{number:>12} {:>9.1} {:>11.1}",
                    now as f64 / f64::from(1 << 20),
                    (now as f64 - before as f64) / 1024.0 / STEP as f64
                );
                looks.push(json!({"reloads": number, "bytes": now, "in_host": self.is_in_host}));
                before = now;
            }
        }
        looks
    }

    fn bytes(&self) -> u64 {
        process::resident_bytes(self.bakery.ecosystem.pid())
    }

    fn reload(&mut self, number: u64) {
        let count = self.guest.ask("increment", &json!([number]))[2].clone();
        let file = self.bakery.bake("new.so", number + 1);
        let request = json!({"name": "Recipe", "file": file, "replace": true});
        self.control.ask("install", &request).expect("a good file");
        assert_eq!(self.guest.ask("version", &json!([])), number + 1);
        assert_eq!(self.guest.ask("count", &json!([])), count);
        let pid = self.guest.ask("dae", &json!([]))["pid"].clone();
        if self.is_in_host && pid != self.bakery.ecosystem.pid() {
            self.is_in_host = false;
            println!("{number:>12} and on: in a process of its own");
        }
    }
}
