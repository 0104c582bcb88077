//! Tests of the test host with an exclusive daemon, whose instances never run at once.

use dae_plugin_api::json::json;
use dae_plugin_api::prelude::*;
use dae_plugin_api::testing;

struct Owner {
    eco: Ecosystem,
}

#[daemon(exclusive)]
impl Owner {
    fn start(eco: Ecosystem, config: json::Value, state: Option<u64>) -> Result<Self> {
        eco.publish("start", (state,))?;
        match config["fails"].as_bool() {
            Some(true) => Err(Error::new("as the config says")),
            _ => Ok(Owner { eco }),
        }
    }

    fn save(&self) -> u64 {
        7
    }

    /// Holds a thread of its own, since it is no `async fn`.
    fn run(&self) {
        tracing::info!("it runs");
    }

    fn stop(&self) -> Result<()> {
        self.eco.publish("stop", ())
    }

    #[command]
    fn is_there(&self) -> bool {
        true
    }
}

fn steps(host: &testing::TestHost) -> Vec<String> {
    host.published().iter().map(Event::to_string).collect()
}

#[test]
fn the_old_instance_ends_before_the_new_one_starts() {
    let host = testing::host();
    let owner = host.start::<Owner>(()).unwrap();
    let _ = steps(&host);
    owner.reload().unwrap();
    assert_eq!(steps(&host), ["stop []", "start [7]"]);
}

#[test]
fn the_old_instance_starts_again_if_the_new_one_fails() {
    let host = testing::host();
    let owner = host.start::<Owner>(()).unwrap();
    let _ = steps(&host);
    let error = owner.reload_with(json!({"fails": true})).unwrap_err();
    assert!(error.to_string().contains("as the config says"), "{error}");
    assert_eq!(steps(&host), ["stop []", "start [7]", "start [7]"]);
    assert_eq!(owner.call("is_there", ()).unwrap(), true);
}

#[test]
fn a_run_on_a_thread_is_waited_for() {
    let host = testing::host();
    let owner = host.start::<Owner>(()).unwrap();
    let runs = || owner.log().iter().any(|line| line.message() == "it runs");
    host.wait_until("the `run` of Owner", runs).unwrap();
    host.set_limit(std::time::Duration::from_millis(20));
    let error = host.wait_until("a miracle", || false).unwrap_err();
    assert!(
        error.to_string().starts_with("a miracle has no end"),
        "{error}"
    );
}
