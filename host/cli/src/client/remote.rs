//! Calls to a daemon of another host: its bridge, which is the peer, gets each as an argument of its own command.
//!
//! The host does the same for calls between daemons, in `dae_runtime::peers::client::local::remote`.

use serde_json::{Value, json};

use super::Client;
use crate::exit::Fault;
use crate::incoming::Refusal;

/// The command of a bridge that gets the calls to the daemons that it provides.
pub(super) const COMMAND: &str = "provided";

/// The daemon that a connection's calls are for, and the command that is under way.
#[derive(Debug)]
pub(super) struct RemoteDaemon {
    name: String,
    command: String,
}

impl<S> Client<S> {
    /// Makes each later call one to a daemon of another host that the peer provides.
    pub(crate) fn call_through_bridge(&mut self, name: &str) {
        self.remote = Some(RemoteDaemon {
            name: name.to_owned(),
            command: String::new(),
        });
    }
}

impl RemoteDaemon {
    /// Notes a command as the one under way, and returns the arguments of [`COMMAND`] for it. `arguments` is a JSON
    /// array.
    pub(super) fn wrapped(&mut self, command: &str, arguments: &[u8]) -> String {
        command.clone_into(&mut self.command);
        let arguments = String::from_utf8_lossy(arguments);
        format!(
            "[{},{},{arguments}]",
            Value::from(self.name.as_str()),
            Value::from(command)
        )
    }

    /// Returns the fault for an error of the bridge, a JSON object: the daemon's own error, if the bridge has passed that
    /// on.
    pub(super) fn fault(&self, error: &str) -> Fault {
        let mut told: Value = serde_json::from_str(error).unwrap_or_default();
        if told["code"] == "failed"
            && let Some(cause) = told.get_mut("data").and_then(|data| data.get_mut("cause"))
            && cause.is_object()
        {
            told = cause.take();
        }
        told["command"] = json!(self.command);
        let text = told.to_string();
        let refusal: Refusal = serde_json::from_value(told).unwrap_or_default();
        Fault::Answered {
            message: format!(
                "{} {}: {} ({})",
                self.name,
                self.command,
                refusal.text(),
                refusal.code
            ),
            error: text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &Value) -> (String, Value) {
        let mut remote = RemoteDaemon {
            name: "Counter@box2".to_owned(),
            command: String::new(),
        };
        let wrapped = remote.wrapped("set", b"[1.50]");
        assert_eq!(wrapped, r#"["Counter@box2","set",[1.50]]"#);
        let Fault::Answered { message, error } = remote.fault(&error.to_string()) else {
            panic!("a daemon has answered");
        };
        (message, serde_json::from_str(&error).unwrap())
    }

    #[test]
    fn an_error_that_the_bridge_passes_on_is_that_of_the_daemon() {
        let cause = json!({"code": "crashed", "message": "it panicked", "command": "x"});
        let bridge =
            json!({"command": COMMAND, "code": "failed", "message": "m", "data": {"cause": cause}});
        let (message, error) = told(&bridge);
        assert_eq!(message, "Counter@box2 set: it panicked (crashed)");
        assert_eq!(
            (&error["code"], &error["command"]),
            (&json!("crashed"), &json!("set"))
        );
        let own = json!({"command": COMMAND, "code": "full", "message": "m", "data": {"n": 1}});
        let (message, error) = told(&own);
        assert_eq!(message, "Counter@box2 set: m (full)");
        assert_eq!(error["data"]["n"], 1);
    }
}
