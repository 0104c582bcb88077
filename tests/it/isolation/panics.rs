//! Panics at every step of a daemon's life, in both modes: reported, counted, and confined to the daemon.

use dae_tests::{Guest, LIMIT, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::scene::{MODES, Mode, NAME, Scene};

/// Returns settings that make a crash loop at once.
fn impatient() -> Value {
    json!({"restart": {"backoff_first_ms": 1, "backoff_max_ms": 20, "burst_max": 3}})
}

#[test]
fn a_panic_in_a_handler_is_answered_and_the_daemon_goes_on() {
    for mode in MODES {
        let mut scene = Scene::set(mode, &json!({}));
        let prober = scene.prober();
        for _ in 0..5 {
            let fault = scene.guest.ask_in_vain("panic", &json!([]));
            assert_eq!(fault.code, "crashed", "{mode:?}");
            assert_eq!(scene.other.ask("echo", &json!([1])), 1);
        }
        scene.expect_same_instance();
        prober.expect_unharmed(&format!("{mode:?} panic"));
        scene.ecosystem.stop();
    }
}

#[test]
fn a_panic_for_want_of_tokio_names_the_feature_in_the_answer_and_in_the_log() {
    for mode in MODES {
        let mut scene = Scene::set(mode, &json!({}));
        let fault = scene.guest.ask_in_vain("pause_by_tokio", &json!([1]));
        assert_eq!(fault.code, "crashed", "{mode:?}");
        let feature = "the feature `tokio` of dae-plugin-api";
        assert!(fault.message.contains(feature), "{mode:?}: {fault:?}");
        scene.ecosystem.until_logged(NAME, feature);
        scene.expect_same_instance();
        scene.ecosystem.stop();
    }
}

#[test]
fn panics_in_a_row_end_the_instance_and_no_connection() {
    for mode in MODES {
        let mut scene = Scene::set(mode, &json!({"panics_max": 3}));
        for _ in 0..3 {
            let fault = scene.guest.ask_in_vain("panic", &json!([]));
            assert_eq!(fault.code, "crashed", "{mode:?}");
        }
        until(LIMIT, "the next instance answers", || {
            scene.ecosystem.status(NAME)["generation"] == 2
        });
        assert_eq!(scene.guest.ask("echo", &json!([1])), 1);
        assert_eq!(scene.other.ask("echo", &json!([2])), 2);
        scene.expect_replaced("panicked 3 times");
        scene.ecosystem.stop();
    }
}

#[test]
fn a_panic_on_a_thread_of_its_own_is_logged_and_nothing_else() {
    for mode in MODES {
        let mut scene = Scene::set(mode, &json!({}));
        assert_eq!(scene.guest.ask("panic_on_thread", &json!([])), Value::Null);
        // The thread has not entered a daemon, so the library's panic hook reports this on the process's standard
        // error.
        until(LIMIT, "the panic is told", || {
            let logs = scene.ecosystem.cli(&["logs", "-n", "1000"]).ok().stdout;
            (logs + &scene.ecosystem.stderr()).contains("asked to panic on a thread")
        });
        assert_eq!(scene.other.ask("echo", &json!([1])), 1);
        scene.expect_same_instance();
        scene.ecosystem.stop();
    }
}

#[test]
fn a_start_that_panics_is_no_install() {
    for mode in MODES {
        let scene = Scene::set(mode, &json!({}));
        let output = scene.install("Second", mode, &json!({"panics": "start"}));
        assert_ne!(output.status, 0, "{mode:?}");
        assert!(
            output.stderr.contains("start was asked to panic"),
            "{output:?}"
        );
        assert!(!scene.ecosystem.names().contains(&"Second".to_owned()));
        scene.ecosystem.guest(NAME).expect_alive();
    }
}

/// A start that fails each time is a crash loop. The daemon's port answers with that until a person acts.
#[test]
fn a_start_that_panics_from_some_day_on() {
    let mut scene = Scene::set(Mode::Subprocess, &impatient());
    let flag = scene.ecosystem.scratch().join("flag");
    let config = json!({"panics": "start", "while_there": &flag});
    let _ = scene.install(NAME, Mode::Subprocess, &config).ok();
    let prober = scene.prober();
    std::fs::write(&flag, "").expect("a file of our own");
    process::signal(scene.pid(), Signal::KILL);
    let status = scene.ecosystem.until_state(NAME, "crash-loop");
    let text = "start was asked to panic";
    assert!(status["reason"].to_string().contains(text), "{status}");
    for guest in [&mut scene.guest, &mut scene.other] {
        let fault = guest.ask_in_vain("echo", &json!([1]));
        assert_eq!(fault.code, "unavailable", "{fault:?}");
        assert!(fault.message.contains(text), "{fault:?}");
    }
    std::fs::remove_file(&flag).expect("it is there");
    let _ = scene.ecosystem.cli(&["restart", NAME]).ok();
    assert_eq!(scene.guest.ask("echo", &json!([2])), 2);
    prober.expect_unharmed("start panics");
    scene.ecosystem.stop();
}

/// Each instance ends at once, so the daemon soon is in a crash loop and answers with that.
#[test]
fn a_run_that_panics_each_time_is_a_crash_loop() {
    for mode in MODES {
        let config = json!({"daemons": {"Second": impatient()}});
        let mut scene = Scene::set_with(mode, &config);
        let prober = scene.prober();
        // Each instance may end before or after it has answered, so the result is ignored.
        let _ = scene.install("Second", mode, &json!({"panics": "run"}));
        let status = scene.ecosystem.until_state("Second", "crash-loop");
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("run was asked to panic"), "{status}");
        let fault = scene
            .ecosystem
            .guest("Second")
            .ask_in_vain("echo", &json!([1]));
        assert_eq!(fault.code, "unavailable", "{fault:?}");
        scene.expect_same_instance();
        prober.expect_unharmed(&format!("{mode:?} run panics"));
        scene.ecosystem.stop();
    }
}

#[test]
fn a_stop_or_drop_that_panics_is_logged_and_the_daemon_is_stopped() {
    for mode in MODES {
        for step in ["stop", "drop"] {
            let scene = Scene::set(mode, &json!({}));
            let _ = scene.install(NAME, mode, &json!({"panics": step})).ok();
            scene.expect_stops();
            let text = format!("{step} was asked to panic");
            scene.ecosystem.until_logged(NAME, &text);
            let _ = scene.ecosystem.cli(&["start", NAME]).ok();
            let mut guest = Guest::connect(scene.port);
            assert_eq!(guest.ask("echo", &json!([1])), 1, "{mode:?}");
        }
    }
}
