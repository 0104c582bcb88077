//! Reloads by files whose own types have other schemas, or none, because the author's code does not make them.

use dae_tests::{LIMIT, until};
use serde_json::{Value, json};

use super::{Kitchen, MODES, NAME, count_to, until_version, version};

/// The limit for a preflight, or a process of its own, in which a schema hangs (ms).
const HANG_MS: u64 = 1000;

fn schema_of_a_figure(kitchen: &Kitchen) -> Value {
    let help = kitchen.ecosystem.guest(NAME).ask("help", &json!(["size"]));
    help["size"]["schema"]["arguments"][0]["schema"].clone()
}

#[test]
fn code_that_makes_no_schemas_runs_without_and_the_log_has_the_reason() {
    for flags in MODES {
        for (fate, reason) in [
            ("panic", "its schema was asked to panic"),
            (
                "fail",
                "and a host takes 1048576; shorten the doc comments of its types",
            ),
        ] {
            let kitchen = Kitchen::open();
            let (_, mut guest) = kitchen.install(flags);
            count_to(&mut guest, 3);
            assert_eq!(schema_of_a_figure(&kitchen)["type"], "object");
            let _ = kitchen
                .replace(&json!({"version": 2, "schema": fate}), &[])
                .ok();
            until_version(&mut guest, 2);
            assert_eq!(guest.ask("count", &json!([])), 3, "the state went along");
            assert_eq!(schema_of_a_figure(&kitchen), true, "{fate} {flags:?}");
            until(LIMIT, "the log has the reason", || {
                let logged = kitchen.ecosystem.logged(NAME);
                let said = |text: &String| {
                    text.contains("its schemas are not known, and callers see none: ")
                        && text.contains(reason)
                };
                logged.iter().any(said)
            });
        }
    }
}

#[test]
fn code_that_dies_or_hangs_over_its_schemas_is_refused() {
    let config = json!({"start_ms": HANG_MS, "defaults": {"preflight_ms": HANG_MS}});
    for flags in MODES {
        let kitchen = Kitchen::configured(&config);
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        for (fate, reason) in [
            ("crash", "was killed by signal 11"),
            ("hang", "its schemas were not made within 1s, the limit"),
        ] {
            let refused = kitchen.replace(&json!({"version": 2, "schema": fate}), &[]);
            let refused = refused.code(1);
            assert!(refused.says(&[reason]), "{fate}: {refused:?}");
            assert_eq!(version(&mut guest), 1);
        }
        assert_eq!(guest.ask("count", &json!([])), 3);
        assert_eq!(schema_of_a_figure(&kitchen)["type"], "object");
    }
}

#[test]
fn code_that_hangs_over_its_schemas_is_refused_without_a_preflight_too() {
    let config = json!({"start_ms": HANG_MS, "defaults": {"preflight": false}});
    for flags in MODES {
        let kitchen = Kitchen::configured(&config);
        let (_, mut guest) = kitchen.install(flags);
        count_to(&mut guest, 3);
        let refused = kitchen.replace(&json!({"version": 2, "schema": "hang"}), &[]);
        let reason = "its schemas were not made within 1s, the limit `start_ms`: the `JsonSchema` of one of its types does \
                      not return; mend it, or raise the limit";
        let refused = refused.code(1);
        assert!(refused.says(&[reason]), "{flags:?}: {refused:?}");
        assert_eq!(version(&mut guest), 1);
        assert_eq!(guest.ask("count", &json!([])), 3);
        let _ = kitchen.replace(&json!({"version": 3}), &[]).ok();
        until_version(&mut guest, 3);
        assert_eq!(schema_of_a_figure(&kitchen)["type"], "object");
    }
}

#[test]
fn strict_knows_the_schemas_that_only_the_code_has() {
    for flags in MODES {
        let kitchen = Kitchen::open();
        let (_, mut guest) = kitchen.install(flags);
        let sized = json!({"version": 2, "sized": true});
        let refused = kitchen.replace(&sized, &["--strict"]).code(1);
        let text = "size: figure.size was optional, is required";
        assert!(refused.says(&[text]), "{refused:?}");
        assert_eq!(version(&mut guest), 1);
        let replaced = kitchen.replace(&sized, &[]).ok();
        let text = format!("{text} (breaks callers)");
        assert!(replaced.stdout.contains(&text), "{replaced:?}");
        until_version(&mut guest, 2);
        assert_eq!(schema_of_a_figure(&kitchen)["required"], json!(["size"]));
    }
}
