//! The edited crate: a daemon of about 600 lines with serde, tokio and 40 commands, and its three kinds of edits.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dae_tests::artefacts::workspace;

/// The number of commands, of which one is edited.
const COMMANDS: usize = 40;

/// The source at one point of its history. Every save counts `number` up, which the command `number` answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) number: u64,
    /// The number of added fields of the state.
    fields: u64,
    /// True if the edited command has a second argument.
    has_argument: bool,
}

/// A kind of edit. Each saves another answer of `number`, and one of these beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    Body,
    Signature,
    Fields,
}

impl Edit {
    pub(crate) const ALL: [Edit; 3] = [Edit::Body, Edit::Signature, Edit::Fields];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Edit::Body => "a body",
            Edit::Signature => "a signature",
            Edit::Fields => "a struct's fields",
        }
    }
}

impl Source {
    pub(crate) fn first() -> Self {
        Source {
            number: 0,
            fields: 0,
            has_argument: false,
        }
    }

    pub(crate) fn edited(self, edit: Edit) -> Self {
        let Source {
            number,
            fields,
            has_argument,
        } = self;
        Source {
            number: number + 1,
            // The state stays small.
            fields: if edit == Edit::Fields {
                (fields + 1) % 4
            } else {
                fields
            },
            has_argument: has_argument ^ (edit == Edit::Signature),
        }
    }

    fn text(self) -> String {
        let mut text = String::from(HEAD);
        let _ = writeln!(
            text,
            "/// The state.\n#[derive(Debug, Clone, Default, Serialize, Deserialize)]\n#[serde(default)]\nstruct Shop {{"
        );
        let _ = writeln!(text, "    orders: BTreeMap<u64, Order>,\n    served: u64,");
        for field in 0..self.fields {
            let _ = writeln!(text, "    added_{field}: Option<u64>,");
        }
        text.push_str("}\n");
        text.push_str(DAEMON);
        let argument = if self.has_argument {
            ", twice: bool"
        } else {
            ""
        };
        let used = if self.has_argument {
            "u64::from(twice)"
        } else {
            "0"
        };
        let _ = writeln!(
            text,
            "    /// Returns the number of this edit.\n    #[command]\n    fn number(&self) -> u64 {{\n        {}\n    }}\n",
            self.number
        );
        let _ = writeln!(
            text,
            "    /// Counts.\n    #[command]\n    fn edited(&self, by: u64{argument}) -> u64 {{\n        by + {used}\n    }}\n"
        );
        for command in 2..COMMANDS {
            text.push_str(&command_text(command));
        }
        text.push_str("}\n");
        text
    }
}

fn command_text(number: usize) -> String {
    let (kind, wait) = match number % 4 {
        0 => ("async ", "        tokio::task::yield_now().await;\n"),
        _ => ("", ""),
    };
    format!(
        "    /// Serves orders in the way {number}.\n    #[command]\n    {kind}fn serve_{number}(&self, id: u64, order: Order) -> Result<Served> {{\n{wait}        \
         let mut shop = self.shop.lock().expect(\"no handler panics\");\n        \
         if order.parts.len() > {number} {{\n            return Err(Error::new(format!(\"order {{id}} has too many parts: {{}}\", order.parts.len())));\n        }}\n        \
         let price = order.parts.iter().map(|part| part.price * {number}).sum();\n        \
         shop.served += 1;\n        shop.orders.insert(id, order);\n        \
         Ok(Served {{ id, price, served: shop.served }})\n    }}\n\n"
    )
}

const HEAD: &str = r#"//! A shop, for a bench.

use std::collections::BTreeMap;
use std::sync::Mutex;

use dae_plugin_api::prelude::*;
use serde::{Deserialize, Serialize};

/// A part of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    name: String,
    price: usize,
}

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    parts: Vec<Part>,
    #[serde(default)]
    notes: BTreeMap<String, String>,
}

/// A served order.
#[derive(Debug, Serialize)]
struct Served {
    id: u64,
    price: usize,
    served: u64,
}

"#;

const DAEMON: &str = r#"
#[derive(Default)]
struct Daemon {
    shop: Mutex<Shop>,
}

#[daemon(name = "Shop")]
impl Daemon {
"#;

/// A copy of the crate in a directory of its own.
pub(crate) struct Copy {
    pub(crate) directory: PathBuf,
}

impl Copy {
    pub(crate) fn write(directory: PathBuf) -> Self {
        fs::create_dir_all(directory.join("src")).expect("a directory of our own");
        let api = workspace().join("plugin-api");
        let manifest = format!(
            "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
             [dependencies]\ndae-plugin-api = {{ path = {api:?}, features = [\"tokio\"] }}\n\
             serde = {{ version = \"1\", features = [\"derive\"] }}\ntokio = {{ version = \"1\", features = [\"rt\", \"net\", \"time\", \"io-util\"] }}\n\
             [workspace]\n"
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("a file of our own");
        // The versions of the workspace, so that nothing is downloaded.
        let lock = workspace().join("Cargo.lock");
        fs::copy(lock, directory.join("Cargo.lock")).expect("a file of our own");
        let copy = Copy { directory };
        copy.save(Source::first());
        copy
    }

    /// Saves as editors do: a new file is renamed over the old one.
    pub(crate) fn save(&self, source: Source) {
        let file = self.source();
        let passing = file.with_extension("rs~");
        fs::write(&passing, source.text()).expect("a file of our own");
        fs::rename(&passing, &file).expect("a file of our own");
    }

    fn source(&self) -> PathBuf {
        self.directory.join("src/lib.rs")
    }
}

/// Returns the number of lines of the source.
pub(crate) fn lines() -> usize {
    Source::first().text().lines().count()
}

/// Returns the path of a log beside a copy.
pub(crate) fn log_of(directory: &Path) -> PathBuf {
    directory.with_extension("log")
}
