//! The options of `dev`: the profile, the process that the daemon runs in, its config, and `strict`.

use std::fs;

use dae_tests::{LIMIT, spoil, until};
use serde_json::json;

use super::{Author, end};

#[test]
fn strict_keeps_the_old_code_if_a_save_breaks_callers() {
    for arguments in [&["--strict"][..], &["--strict", "--embed"]] {
        let author = Author::new();
        let plugin = author.scratch("plugin.so");
        let recipe = fs::read(author.ecosystem.plugin("recipe")).expect("a plugin");
        let build_of = |recipe_json: serde_json::Value| {
            let bytes = spoil::of_recipe(recipe.clone(), &recipe_json);
            fs::write(&plugin, bytes).expect("a file of our own");
        };
        let version = || {
            let output = author.host("home", &["call", "Recipe", "version"]).ok();
            output.stdout.trim().to_owned()
        };
        build_of(json!({"version": 1}));
        let mut dev = author.begin_unready(&plugin, arguments);
        let _ = dev.line_with("Recipe 0.1.0 listens on", LIMIT);
        build_of(json!({"version": 2, "sized": true}));
        author.write("src/lib.rs", "// 1\n");
        until(LIMIT, "the save is refused", || {
            author
                .told()
                .contains("size: figure.size was optional, is required")
        });
        assert_eq!(version(), "1", "{arguments:?}");
        build_of(json!({"version": 3}));
        author.write("src/lib.rs", "// 2\n");
        until(LIMIT, "the next save runs", || version() == "3");
        end(dev);
    }
}

#[test]
fn a_config_is_read_at_each_save() {
    let author = Author::new();
    let config = author.scratch("config.json5");
    let configure = |text: &str| fs::write(&config, text).expect("a file of our own");
    let until_told = |words: &str| until(LIMIT, words, || author.told().contains(words));
    configure("{most: 1000}");
    let argument = format!("@{}", config.display());
    let mut dev = author.begin_unready(&author.ecosystem.plugin("typed"), &["--config", &argument]);
    until_told("1000 points are too many; the next save tries again");
    configure("{most: 1}");
    author.write("src/lib.rs", "// 1\n");
    let _ = dev.line_with("Typed 0.1.0 listens on", LIMIT);
    configure("[]");
    author.write("src/lib.rs", "// 2\n");
    until_told("--config takes a JSON object");
    configure("{most: 2000}");
    author.write("src/lib.rs", "// 3\n");
    until_told("2000 points are too many");
    let output = author.host("home", &["call", "Typed", "points_now"]).ok();
    assert_eq!(output.stdout.trim(), "[]", "what ran, runs on");
    end(dev);
}

#[test]
fn a_config_that_fits_no_daemon_is_refused_before_a_build() {
    let author = Author::new();
    for (dirs, config, expected) in [
        (&["."][..], "5", "--config takes a JSON object"),
        (&["."], "@nowhere", "cannot read the config nowhere"),
        (&[".", "."], "{}", "is the config of one daemon"),
    ] {
        let mut command = author.command("");
        command.args(&dirs[1..]).args(["--config", config]);
        let output = dae_tests::program::run(&mut command, LIMIT);
        assert!(output.stderr.contains(expected), "{output:?}");
        assert_ne!(output.status, 0, "{output:?}");
    }
    assert_eq!(author.builds(), 0);
}

#[test]
fn the_profile_is_the_quick_one_or_the_one_that_is_named() {
    let quick = "--profile plugin-dev --config profile.plugin-dev.inherits=\"dev\"";
    for (arguments, expected) in [
        (&[][..], quick),
        (&["--release"][..], "--profile release"),
        (&["--profile", "mine"][..], "--profile mine"),
    ] {
        let author = Author::new();
        let dev = author.begin_with("Cargo.toml", arguments);
        let (_, line) = author.build_lines().remove(0);
        assert!(line.contains(expected), "{arguments:?}: {line}");
        assert_eq!(line.contains("--config"), expected == quick, "{line}");
        end(dev);
    }
}

#[test]
fn a_daemon_runs_in_a_process_of_its_own_unless_it_is_embedded() {
    for (arguments, expected) in [(&[][..], "subprocess"), (&["--embed"][..], "in-process")] {
        let author = Author::new();
        let dev = author.begin_with("Cargo.toml", arguments);
        let status = author.host("home", &["status", "Counter", "--json"]).ok();
        assert_eq!(status.json()["mode"], expected, "{arguments:?}");
        end(dev);
    }
}
