//! The files of a new crate: a template with the crate's own names.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

use anyhow::Result;

use super::api::Api;
use super::name::CrateName;

/// The daemon's name in the templates.
const DAEMON: &str = "Greeter";

/// The library's file in the template of the README.
const LIBRARY: &str = "libgreeter.so";

/// The crate's name in the template of the README.
const PACKAGE: &str = "greeter";

/// The place in the README for the lines that differ between templates.
const TRY: &str = "TRY\n";

/// A kind of daemon to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    /// Commands and a count, with nothing but `dae-plugin-api`.
    Plain,
    /// The same with a tokio runtime.
    Tokio,
    /// A web page.
    Http,
    /// A state with a version.
    State,
}

/// The parts in which templates differ.
struct Parts {
    source: &'static str,
    /// The features of `dae-plugin-api`.
    features: &'static [&'static str],
    /// The lines of `Cargo.toml` after `dae-plugin-api`.
    dependencies: &'static str,
    /// The lines of the README that try the daemon.
    try_it: &'static str,
}

impl Template {
    #[cfg(test)]
    pub(super) const ALL: [Template; 4] = [
        Template::Plain,
        Template::Tokio,
        Template::Http,
        Template::State,
    ];

    /// Returns the source of the daemon `Greeter`.
    #[cfg(test)]
    pub(super) fn source(self) -> &'static str {
        self.parts().source
    }

    fn parts(self) -> Parts {
        let plain = Parts {
            source: include_str!("templates/plain.rs"),
            features: &[],
            dependencies: "",
            try_it: "Then `dae-host call Greeter greet Ada` calls it, and `dae-host status Greeter` shows it.\n",
        };
        match self {
            Template::Plain => plain,
            Template::State => Parts {
                source: include_str!("templates/state.rs"),
                ..plain
            },
            Template::Tokio => Parts {
                source: include_str!("templates/tokio.rs"),
                features: &["tokio"],
                dependencies: "tokio = { version = \"1\", features = [\"rt\", \"time\"] }\n",
                ..plain
            },
            Template::Http => Parts {
                source: include_str!("templates/http.rs"),
                features: &["tokio"],
                dependencies: "axum = { version = \"0.8\", default-features = false, features = [\"http1\", \"tokio\"] }\n\
                               tokio = { version = \"1\", features = [\"net\", \"sync\"] }\n",
                try_it: "Then `dae-host call Greeter url` prints the address of the page. It takes a free port and keeps it. To choose one,\n\
                         install the plugin with `--config '{\"http_port\": 8080}'`.\n",
            },
        }
    }
}

/// Returns the files of a crate: their paths in it, and their texts.
///
/// # Errors
/// The path of `dae-plugin-api` can't stand in a `Cargo.toml`.
pub(super) fn of(
    template: Template,
    name: &CrateName,
    api: &Api,
) -> Result<Vec<(&'static str, String)>> {
    let parts = template.parts();
    let testing = api.dependency(&["testing"])?;
    let api = api.dependency(parts.features)?;
    let manifest = format!(
        "[package]\nname = \"{}\"\nversion = \"0.1.0\"\nedition = \"2024\"\nrust-version = \"1.85\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\n{api}{}\n[dev-dependencies]\n{testing}",
        name.package, parts.dependencies
    );
    let library = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", name.library());
    let names = [
        (LIBRARY, &*library),
        (PACKAGE, &name.package),
        (DAEMON, &name.daemon),
    ];
    let readme = include_str!("templates/README.md").replace(TRY, parts.try_it);
    Ok(vec![
        ("Cargo.toml", manifest),
        ("src/lib.rs", parts.source.replace(DAEMON, &name.daemon)),
        ("README.md", replaced(&readme, &names)),
        (".gitignore", include_str!("templates/gitignore").to_owned()),
    ])
}

/// Returns the text with each first word of a pair replaced by the second. It reads the text once, since a new word may
/// contain one to replace: `my-greeter`. Where two words begin at one place, the earlier pair is taken.
fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    let next = |rest: &str| {
        let places = pairs
            .iter()
            .filter_map(|pair| Some((rest.find(pair.0)?, *pair)));
        places.min_by_key(|(place, _)| *place)
    };
    while let Some((place, (word, new))) = next(rest) {
        out.push_str(&rest[..place]);
        out.push_str(new);
        rest = &rest[place + word.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn no_name_of_a_template_is_left() {
        let name = CrateName::of(Path::new("my-daemon")).expect("a good name");
        for template in Template::ALL {
            let api = Api::Git("https://x/y".to_owned());
            let files = of(template, &name, &api).expect("plain text");
            assert_eq!(files.len(), 4);
            for (file, text) in &files {
                let is_left = ["Greeter", "greeter", "TRY"]
                    .iter()
                    .any(|word| text.contains(word));
                assert!(!is_left && !text.is_empty(), "{template:?} {file}: {text}");
            }
        }
    }

    #[test]
    fn a_name_that_contains_the_templates_own_is_written_as_it_is() {
        for (package, file, daemon) in [
            ("my-greeter", "my_greeter", "`MyGreeter`"),
            ("greeter2", "greeter2", "`Greeter2`"),
        ] {
            let name = CrateName::of(Path::new(package)).expect("a good name");
            let api = Api::Git("https://x/y".to_owned());
            let files = of(Template::Plain, &name, &api).expect("plain text");
            let (_, readme) = files.iter().find(|(file, _)| *file == "README.md").unwrap();
            let title = format!("# {package}\n");
            assert!(readme.starts_with(&title), "{readme}");
            let file = format!("/{DLL_PREFIX}{file}{DLL_SUFFIX}");
            for part in [&*file, daemon] {
                assert!(readme.contains(part), "{part}: {readme}");
            }
            let count = |word: &str| readme.matches(word).count();
            let libraries = count(&file) * file.matches("lib").count();
            assert_eq!(count("lib"), count("src/lib.rs") + libraries, "{readme}");
        }
    }
}
