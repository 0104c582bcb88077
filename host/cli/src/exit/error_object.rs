//! The error as `--json` prints it: one object for every failure, with a kind to decide on beside the message.
//!
//! The same object stands on standard error at the end of a command that has failed, and in a row of one that has done
//! a part of its work.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Code, Fault, code, hint};
use dae_store::home::HomeBusy;
use dae_store::install_plan::{InstallRefusal, RefusalKind};

/// The kind of an error that has no other.
const FAILED: &str = "failed";

/// An error, for programs. A member without a value is `null`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorObject {
    /// The kind: a word that is never renamed.
    kind: String,
    /// The message, for a person.
    pub(crate) message: String,
    /// The advice, for a person.
    hint: Option<String>,
    /// The exit code that belongs to the error; `None` if a signal ends the process.
    exit_code: Option<u8>,
    /// The error that a daemon has answered, as it was received.
    answer: Option<Box<RawValue>>,
}

/// The document on standard error.
#[derive(Debug, Serialize)]
pub(super) struct ErrorDocument {
    pub(super) error: ErrorObject,
}

impl ErrorObject {
    /// Returns the object of an error.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let fault = error.downcast_ref::<Fault>();
        let advice = fault.and_then(Fault::advice);
        let text = format!("{error:#}");
        let ending = advice.as_ref().map(|advice| format!("; {advice}"));
        let message = ending.and_then(|ending| text.strip_suffix(&ending).map(str::to_owned));
        ErrorObject {
            kind: kind(error).to_owned(),
            message: message.unwrap_or(text),
            hint: advice.or_else(|| hint(error).map(str::to_owned)),
            exit_code: Some(code(error) as u8),
            answer: match fault {
                Some(Fault::Answered { error, .. }) => RawValue::from_string(error.clone()).ok(),
                _ => None,
            },
        }
    }

    /// Returns the object of a failure of this kind that is no error of the program.
    pub(crate) fn new(kind: &str, message: &str) -> Self {
        ErrorObject {
            kind: kind.to_owned(),
            message: message.to_owned(),
            hint: None,
            exit_code: Some(Code::Failed as u8),
            answer: None,
        }
    }

    /// Returns the object of a command that a signal ends. A process that ends by the signal itself has no exit code.
    pub(crate) fn interrupted(message: &str, hint: Option<String>, exit_code: Option<u8>) -> Self {
        ErrorObject {
            hint,
            exit_code,
            ..ErrorObject::new("interrupted", message)
        }
    }

    /// Returns the object of a command line that clap refuses.
    pub(super) fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut parts = text.trim().split("\n\n");
        let message = parts.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let words: Vec<&str> = message.split_whitespace().collect();
        let part = |name| {
            text.split("\n\n")
                .find_map(|part| part.trim().strip_prefix(name))
        };
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let usage = || Some(format!("usage: {}", one_line(part("Usage: ")?)));
        let hint = part("tip: ").map(one_line).or_else(usage);
        ErrorObject {
            hint,
            exit_code: Some(Code::Usage as u8),
            ..ErrorObject::new("usage", &words.join(" "))
        }
    }
}

/// Returns the kind of an error: that of the first link of its chain that has one.
fn kind(error: &anyhow::Error) -> &str {
    // anyhow's own downcast also finds a fault that was attached as context.
    let attached = error.downcast_ref::<Fault>().map(Fault::kind);
    let of_link = |link: &'_ (dyn std::error::Error + 'static)| {
        if link.is::<HomeBusy>() {
            return Some("home-held");
        }
        let refusal = link.downcast_ref::<InstallRefusal>()?;
        Some(match refusal.kind() {
            RefusalKind::NameTaken => "name-taken",
            RefusalKind::Quarantined => "quarantined",
            RefusalKind::BadArguments => "bad-arguments",
            RefusalKind::Failed => FAILED,
        })
    };
    attached
        .or_else(|| error.chain().find_map(of_link))
        .unwrap_or(FAILED)
}

impl Fault {
    /// Returns the word for programs.
    fn kind(&self) -> &str {
        match self {
            Fault::Usage(_) => "usage",
            Fault::Refused { code, .. } => code,
            Fault::Answered { .. } => "answered",
            Fault::NoHost { .. } => "no-host",
            Fault::NotListening { .. } => "not-listening",
            Fault::Ended {
                code: Code::HomeHeld,
                ..
            } => "home-held",
            Fault::Ended { .. } | Fault::Reported(_) | Fault::ReaderGone => FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};
    use clap::CommandFactory as _;
    use serde_json::{Value, json};

    fn object(error: &anyhow::Error) -> Value {
        serde_json::to_value(ErrorObject::of(error)).expect("JSON")
    }

    #[test]
    fn every_error_has_the_same_members() {
        let plain = anyhow!("no disk").context("cannot save");
        assert_eq!(
            object(&plain),
            json!({
                "kind": "failed", "message": "cannot save: no disk", "hint": null, "exit_code": 1, "answer": null,
            })
        );
        let no_host = anyhow::Error::new(Fault::NoHost {
            home: "/h".into(),
            start: "dae-host run".into(),
        });
        assert_eq!(
            object(&no_host),
            json!({
                "kind": "no-host", "message": "no host runs for the home /h", "hint": "start one with `dae-host run`",
                "exit_code": 7, "answer": null,
            })
        );
    }

    #[test]
    fn a_daemons_error_is_kept_in_any_context() {
        for code in ["not-running", "unknown-daemon", "name-taken"] {
            let answered = Err::<(), _>(Fault::Answered {
                message: format!("Sample help: no ({code})"),
                error: format!(r#"{{"code":"{code}"}}"#),
            });
            let error = answered
                .context("cannot ask")
                .context("again")
                .expect_err("an error");
            let object = object(&error);
            assert_eq!(object["answer"], json!({ "code": code }));
            assert_eq!(
                (&object["kind"], &object["exit_code"], &object["hint"]),
                (&json!("answered"), &json!(1), &json!(null)),
                "a daemon's code is not taken for one of the host"
            );
        }
    }

    #[test]
    fn a_refused_command_line_has_its_hint_apart() {
        let read = crate::Line::command().try_get_matches_from(["dae-host", "stat", "A"]);
        let object = ErrorObject::of_usage(&read.expect_err("wrong usage"));
        assert_eq!((object.kind.as_str(), object.exit_code), ("usage", Some(2)));
        assert!(object.message.contains("'stat'"), "{object:?}");
        let hint = object.hint.expect("a hint");
        assert!(hint.contains("similar"), "{hint}");
        let read = crate::Line::command().try_get_matches_from(["dae-host", "status"]);
        let object = ErrorObject::of_usage(&read.expect_err("wrong usage"));
        assert!(
            object.message.contains("not provided: <NAME>"),
            "{object:?}"
        );
        let hint = object.hint.expect("a hint");
        assert!(hint.starts_with("usage: dae-host status"), "{hint}");
    }
}
