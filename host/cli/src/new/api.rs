//! The dependency of a new crate on `dae-plugin-api`: a directory or a git repository.
//!
//! Deliberately absent is a version: `dae-plugin-api` is not published. Anyone could register its name, and cargo would
//! run that code on the author's machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::exit::Fault;
use crate::source;
use dae_store::real_path;

/// The place from which cargo takes `dae-plugin-api`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Api {
    /// A directory, as an absolute path.
    Path(PathBuf),
    /// The URL of a git repository.
    Git(String),
}

impl Api {
    /// Returns the place that `--api` names. Without it, that is the directory that this program was built with.
    ///
    /// # Errors
    /// The named directory doesn't hold the crate. Or none is named, and the one of this program is not there, or others
    /// can change it.
    pub(super) fn chosen(given: Option<&str>) -> Result<Api> {
        let Some(given) = given else {
            return Api::own(source::plugin_api());
        };
        if given.contains("://") {
            return Ok(Api::Git(given.to_owned()));
        }
        let dir = Path::new(given);
        // The whole clone is meant as well: it is what people have at hand.
        let inside = dir.join("plugin-api");
        let found = [dir, &inside]
            .into_iter()
            .find(|dir| source::is_plugin_api(dir));
        let found = found.and_then(|dir| real_path::of(dir).ok());
        found.map(Api::Path).ok_or_else(|| {
            let text = format!(
                "{given} holds no crate {}; --api takes its directory (plugin-api in a clone of dae-host), or the URL of a git \
                 repository, such as https://host/dae-host.git",
                source::API
            );
            Fault::Usage(text).into()
        })
    }

    /// Returns the directory that this program was built with, if it is there.
    fn own(dir: Option<PathBuf>) -> Result<Api> {
        dir.map(Api::Path).ok_or_else(unknown)
    }

    /// Returns the line of `Cargo.toml`.
    ///
    /// # Errors
    /// The path is not UTF-8.
    pub(super) fn dependency(&self, features: &[&str]) -> Result<String> {
        let (key, value) = match self {
            Api::Path(dir) => {
                let path = dir.to_str().with_context(|| {
                    let dir = dir.display();
                    format!("the path {dir} is not valid UTF-8, which a Cargo.toml has to be; rename the directory")
                })?;
                ("path", path)
            }
            Api::Git(url) => ("git", url.as_str()),
        };
        // A JSON string is a basic string of TOML, too.
        let value = serde_json::to_string(value).context("a text is JSON")?;
        let name = source::API;
        Ok(match features {
            [] => format!("{name} = {{ {key} = {value} }}\n"),
            features => format!("{name} = {{ {key} = {value}, features = {features:?} }}\n"),
        })
    }
}

/// Returns the error of a program that knows no directory of `dae-plugin-api`.
fn unknown() -> anyhow::Error {
    let text = format!(
        "{} is not published, and the clone that this program was built in is not there, or other users can change it; \
         make the crate with --api PATH, where PATH is the directory plugin-api of a clone of dae-host, or the URL of its \
         git repository",
        source::API
    );
    Fault::Usage(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dependency_names_its_place() {
        let cases = [
            (
                Api::Path("/a \"b\"".into()),
                &[][..],
                r#"dae-plugin-api = { path = "/a \"b\"" }"#,
            ),
            (
                Api::Git("https://x/y".to_owned()),
                &["tokio"],
                r#"dae-plugin-api = { git = "https://x/y", features = ["tokio"] }"#,
            ),
        ];
        for (api, features, expected) in cases {
            let line = api.dependency(features).expect("UTF-8");
            assert_eq!(line, format!("{expected}\n"));
        }
    }

    #[test]
    fn the_place_is_the_given_one_or_found_by_itself() {
        let found = Api::chosen(None).expect("the workspace of this test");
        let Api::Path(dir) = &found else {
            panic!("{found:?}");
        };
        let clone = dir.parent().expect("the workspace");
        for given in [dir, clone] {
            assert_eq!(Api::chosen(given.to_str()).expect("it is there"), found);
        }
        let git = Api::chosen(Some("https://x/y")).expect("a URL");
        assert_eq!(git, Api::Git("https://x/y".to_owned()));
        let error = Api::chosen(dir.join("src").to_str()).expect_err("no crate is there");
        assert!(error.to_string().contains("holds no crate dae-plugin-api"));
    }

    #[test]
    fn no_crate_depends_on_the_unpublished_version() {
        let error = Api::own(None).expect_err("there is no clone");
        assert!(matches!(
            error.downcast_ref::<Fault>(),
            Some(Fault::Usage(_))
        ));
        assert!(error.to_string().contains("--api PATH"), "{error}");
    }
}
