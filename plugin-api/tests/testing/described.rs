//! The schemas that only run time knows: a value that a daemon sends is described as it is written.

use dae_plugin_api::export::{Exported, RunTimeSchemas};
use dae_plugin_api::prelude::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Moment {
    #[serde(rename(serialize = "at", deserialize = "time"))]
    at: u64,
}

struct Clock;

#[daemon(built_in, events(ticked(moment: Moment)))]
impl Clock {
    fn start() -> Self {
        Clock
    }

    #[command]
    fn set(&self, moment: Moment) -> Moment {
        moment
    }
}

#[test]
fn an_event_is_described_as_it_is_sent() {
    let mut schemas = RunTimeSchemas::default();
    Clock::describe(&mut schemas);
    let schemas: json::Value = json::from_str(&schemas.to_json()).expect("JSON");
    assert_eq!(schemas["events"][0][0]["required"], json::json!(["at"]));
    let command = &schemas["commands"][0];
    assert_eq!(command["result"]["required"], json::json!(["at"]));
    assert_eq!(command["arguments"][0]["required"], json::json!(["time"]));
}
