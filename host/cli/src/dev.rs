//! `dev`: builds plugins from source and runs their daemons, in one command.
//!
//! Each crate is built in its own directory by the cargo at hand, so that its toolchain and settings apply. This
//! process then runs a separate ecosystem in the target directory. It installs each crate's daemon there under the
//! plugin's own name, in place of the one from the last run. So the user's real home is untouched, and a daemon finds
//! its state again the next time. A daemon runs in a process of its own, where its crashes end nothing else.
//!
//! After that, a crate is built again when one of its files is saved, and the daemon continues with the new code and
//! its state. If a build fails, its error is shown and the old code keeps running.
//!
//! Standard output gets each daemon's name, its port and a command line to paste. The compiler's output, the log and a
//! line for each save go to standard error.

mod build;
mod choose;
mod dep_info;
mod keys;
mod obstacles;
mod package;
mod patch;
mod profile;
mod rebuild;
mod replay;
mod report;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::{Result, anyhow};
use serde_json::json;

use super::Session;
use super::exit::Fault;
use super::json_object;
use super::offline;
use super::run::{self, Hosting};
use super::show;
use super::words;
use build::{Built, Outcome, RunningBuild};
use dae_host::Dae;
use dae_store::home::Home;
use dae_store::log::Console;
use dae_store::manifest::{self, Argument, Manifest};
use dae_store::printable;
use dae_store::registry::Registry;
use dae_store::report::{InstallRequest, Mode, Status};
use keys::Keys;
use package::Crate;
pub(super) use package::cargo;
use profile::Profile;
use rebuild::{Cause, Event, Paths, Rebuild, Sources};
pub(super) use replay::become_compiler;
use report::Steps;
use tokio::runtime::Handle;

/// The program's name at the start of its own command lines.
const PROGRAM: &str = "dae-host";

/// The home's directory below cargo's target directory.
const HOME_NAME: &str = "dae-dev";

/// The arguments of `dev`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Directories of plugin crates, or of a workspace that has some
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Build with optimizations, as for production; each save takes longer
    #[arg(long, short, conflicts_with = "profile")]
    release: bool,
    /// Build with this profile of cargo instead of dev's own quick one
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Run the daemons in the host's own process instead of subprocesses
    #[arg(long)]
    embed: bool,
    /// Refuse a save that breaks a caller of the code that runs
    #[arg(long)]
    strict: bool,
    /// The daemon's config, a JSON object, or @ and the name of a file that holds it, which is read at each save
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
}

impl Args {
    fn profile(&self) -> Profile {
        match (&self.profile, self.release) {
            (Some(name), _) => Profile::Named(name.clone()),
            (None, true) => Profile::Named("release".to_owned()),
            (None, false) => Profile::Quick,
        }
    }

    /// Returns the request to install a file, in place of what runs.
    ///
    /// # Errors
    /// The config is no JSON object, or its file can't be read.
    fn request(&self, file: &Path) -> Result<InstallRequest> {
        let mode = match self.embed {
            true => Mode::InProcess,
            false => Mode::Subprocess,
        };
        Ok(InstallRequest {
            file: file.to_owned(),
            replace: true,
            mode: Some(mode),
            config: json_object::config(self.config.as_deref())?,
            ..InstallRequest::default()
        })
    }

    /// Returns the request to install a file after a save.
    ///
    /// # Errors
    /// As [`Args::request`].
    fn request_of_save(&self, file: &Path) -> Result<InstallRequest> {
        Ok(InstallRequest {
            strict: self.strict.then_some(true),
            ..self.request(file)?
        })
    }

    /// Checks the config before the build, which may take minutes.
    fn check_config(&self) -> Result<()> {
        match (&self.config, self.dirs.len()) {
            (Some(_), 2..) => Err(Fault::Usage(
                "--config is the config of one daemon, and these are several; run a `dev` for the one that takes it".to_owned(),
            )
            .into()),
            (config, _) => json_object::config(config.as_deref()).map(drop),
        }
    }
}

/// A crate that has been built once, and its watched sources.
struct Watched {
    plugin: Crate,
    sources: Sources,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    running: RunningBuild,
}

/// Builds the crates and runs their daemons until Ctrl-C.
pub(super) fn dev(session: Session, args: Args) -> Result<()> {
    args.check_config()?;
    let crates = args
        .dirs
        .iter()
        .map(|dir| Crate::at(&choose::crate_in(dir)?, &args.profile(), session.out.quiet))
        .collect::<Result<Vec<_>>>()?;
    let session = match (session.home_named, crates.first()) {
        (false, Some(first)) => in_home(session, first),
        _ => session,
    };
    // Check before the build, which may take minutes.
    if let Some(held) = session.home.holder() {
        return Err(held.into());
    }
    // Watch from before the first build: the next file may be saved while it runs.
    let mut crates: Vec<Watched> = crates
        .into_iter()
        .map(|plugin| Watched::new(&session, plugin))
        .collect();
    let mut files = Vec::new();
    for watched in &mut crates {
        files.extend(watched.build()?);
    }
    host(&Arc::new(session), &Arc::new(args), crates, &files)
}

/// Runs the host with the daemons of the files, and builds the crates at every change.
fn host(
    session: &Arc<Session>,
    args: &Arc<Args>,
    crates: Vec<Watched>,
    files: &[PathBuf],
) -> Result<()> {
    let present = replace_present(&session.home, files, args)?;
    let console = Console::Human {
        ansi: show::stderr_ansi(),
    };
    let work = Arc::new(WorkUnderWay::of(&crates));
    let has_keys = work.keys.is_some();
    let abandoned = Arc::clone(&work);
    let hosting = Hosting {
        // Daemons of others would fill the log, and programs that expect the user's own host at Dae's port must not find
        // this one.
        builder: Dae::builder().apart(),
        console,
        metrics: None,
        on_abort: Box::new(move || abandoned.end()),
    };
    let result = run::host(session, hosting, async |dae: &Dae| {
        let absent = install_all(session, dae, args, (files, &present)).await?;
        for watched in crates {
            let successor = Successor::new(session, dae, (args, &absent));
            watched.rebuild_on_change(successor)?;
        }
        let list = session.command_line("list");
        session
            .out
            .note(&format!("Ctrl-C ends; elsewhere: `{list}`"));
        if has_keys {
            session.out.note(keys::HELP);
        }
        Ok(())
    });
    work.end();
    result
}

/// The builds and the terminal's mode, which end with `dev`, however it ends.
struct WorkUnderWay {
    keys: Option<Keys>,
    builds: Vec<RunningBuild>,
}

impl WorkUnderWay {
    fn of(crates: &[Watched]) -> Self {
        let senders = crates.iter().map(|watched| watched.sender.clone());
        let builds = crates.iter().map(|watched| watched.running.clone());
        WorkUnderWay {
            keys: Keys::read(senders.collect()),
            builds: builds.collect(),
        }
    }

    fn end(&self) {
        for build in &self.builds {
            build.end();
        }
        if let Some(keys) = &self.keys {
            keys.restore();
        }
    }
}

impl Watched {
    fn new(session: &Session, plugin: Crate) -> Self {
        let (sender, events) = mpsc::channel();
        Watched {
            sources: plugin.watch(session, sender.clone()),
            plugin,
            sender,
            events,
            running: RunningBuild::default(),
        }
    }

    /// Builds the crate for the first time, again after each save until a build succeeds. Returns its libraries.
    fn build(&mut self) -> Result<Vec<PathBuf>> {
        loop {
            self.sources.on_build();
            let failure = match self.plugin.build()? {
                Ok(built) => {
                    let sources = self.plugin.sources(&built);
                    self.sources.learn(sources, self.plugin.has_build_script());
                    match built
                        .files
                        .iter()
                        .try_for_each(|file| manifest::read(file).map(drop))
                    {
                        Ok(()) => return Ok(built.files),
                        Err(failure) => failure.into(),
                    }
                }
                Err(failure) => failure,
            };
            self.sources.on_failure();
            let saved = self.sources.after_build(&Paths::new(), Outcome::Compiled);
            if saved.is_empty() {
                say(&format!(
                    "{failure:#}; the next save builds again, and Ctrl-C ends"
                ));
                let cause = rebuild::wait(&mut self.sources, &self.events);
                self.plugin.read_manifests(&cause.paths);
            } else {
                self.plugin.read_manifests(&saved);
            }
        }
    }

    /// Builds the crate at every change, and hands each result to the host.
    fn rebuild_on_change(self, mut successor: Successor) -> Result<()> {
        let rebuild = Rebuild {
            plugin: self.plugin,
            sources: self.sources,
            sender: self.sender,
            events: self.events,
            running: self.running,
            hand_over: move |cause: &Cause, built| successor.take(cause, built),
        };
        rebuild.start()
    }
}

/// Has new code take over from the old.
struct Successor {
    session: Arc<Session>,
    dae: Dae,
    runtime: Handle,
    args: Arc<Args>,
    /// The files whose daemons could not be installed at the start.
    absent: HashSet<PathBuf>,
    /// True while the messages of a build that failed stand on the screen.
    has_failed: bool,
}

impl Successor {
    fn new(
        session: &Arc<Session>,
        dae: &Dae,
        (args, absent): (&Arc<Args>, &HashSet<PathBuf>),
    ) -> Self {
        Successor {
            session: Arc::clone(session),
            dae: dae.clone(),
            runtime: Handle::current(),
            args: Arc::clone(args),
            absent: absent.clone(),
            has_failed: false,
        }
    }

    fn take(&mut self, cause: &Cause, built: Result<Built>) {
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                self.has_failed = true;
                return say(&format!("{error:#}; what runs, runs on"));
            }
        };
        if std::mem::take(&mut self.has_failed) && !self.session.out.quiet && show::stderr_ansi() {
            keys::clear();
        }
        if built.outcome == Outcome::Fresh {
            return;
        }
        for file in &built.files {
            if let Err(error) = self.install(cause, &built, file) {
                say(&format!("{error:#}"));
            }
        }
    }

    /// Has a file that was built take over, and says how it went.
    fn install(&mut self, cause: &Cause, built: &Built, file: &Path) -> Result<()> {
        let began = Instant::now();
        let request = self.args.request_of_save(file);
        let request = request.map_err(|error| anyhow!("{error:#}; what runs, runs on"))?;
        let installed = self.runtime.block_on(self.dae.install_with(request));
        let installed = installed.map_err(|fault| anyhow!("{fault}; what runs, runs on"))?;
        if self.absent.remove(file) {
            return announce(&self.session, &self.dae, file);
        }
        if !self.session.out.quiet {
            let steps = Steps {
                by: built.by,
                build: built.took,
                take_over: began.elapsed(),
                total: cause.saved.elapsed(),
            };
            say(&report::line(&installed, &steps));
        }
        Ok(())
    }
}

/// Prints a line on standard error, among cargo's own.
fn say(text: &str) {
    eprintln!("{}", printable::message(text));
}

/// Returns the session with a home in the crate's target directory.
fn in_home(session: Session, plugin: &Crate) -> Session {
    let dir = plugin.target_directory().join(HOME_NAME);
    Session {
        home: Home::at(&dir),
        home_named: true,
        ..session
    }
}

/// Replaces the files of the daemons that the home already has, so that these start once and with the new files.
/// Returns their names.
fn replace_present(home: &Home, files: &[PathBuf], args: &Args) -> Result<HashSet<String>> {
    home.create()?;
    let _lock = home.lock()?;
    let registry = Registry::load(&home.registry_file())?;
    let mut present = HashSet::new();
    for file in files {
        let name = manifest::read(file)?.name;
        if registry.daemons.contains_key(&name) {
            offline::install(home, args.request(file)?)?;
            present.insert(name);
        }
    }
    Ok(present)
}

/// Installs the files whose daemons are not present yet, and prints the port of each daemon. Returns the files that were
/// refused: the next save may mend them.
async fn install_all(
    session: &Session,
    dae: &Dae,
    args: &Args,
    (files, present): (&[PathBuf], &HashSet<String>),
) -> Result<HashSet<PathBuf>> {
    dae.ready().await;
    let mut refused = HashSet::new();
    for file in files {
        let name = manifest::read(file)?.name;
        if !present.contains(&name)
            && let Err(fault) = dae.install_with(args.request(file)?).await
        {
            say(&format!("{fault}; the next save tries again"));
            refused.insert(file.clone());
            continue;
        }
        announce(session, dae, file)?;
    }
    Ok(refused)
}

fn announce(session: &Session, dae: &Dae, file: &Path) -> Result<()> {
    let manifest = manifest::read(file)?;
    let status = dae.status(&manifest.name)?;
    let Status { name, version, .. } = &status;
    let port = match (status.state.as_str(), status.port) {
        ("ready" | "asleep", Some(port)) => port,
        ("stopped", _) => {
            let start = session.command_line(&format!("start {name}"));
            session.out.note(&format!(
                "{name} was stopped and stays so; `{start}` starts it"
            ));
            return Ok(());
        }
        (state, _) => {
            let reason = &status.reason;
            say(&format!(
                "{name} does not start: it is {state} ({reason}); the next save tries again"
            ));
            return Ok(());
        }
    };
    let paste = paste(session, &manifest);
    let document = json!({"name": name, "version": version, "port": port, "paste": paste});
    let sentence = format!("{name} {version} listens on 127.0.0.1:{port}; try\n  {paste}");
    session.out.done(&document, &sentence)
}

/// Returns a command line that calls the daemon: its first command whose arguments can be made up, else `dae`, which
/// every daemon has. A command without arguments is never called, since it may delete something. `nc` would do as well,
/// but each variant of it needs other options to end a conversation.
fn paste(session: &Session, manifest: &Manifest) -> String {
    let example = manifest.commands.iter().find_map(example);
    let command = example.unwrap_or_else(|| "dae".to_owned());
    let line = session.command_line(&format!(
        "call {} {command}",
        words::shell_word(&manifest.name)
    ));
    match line.strip_prefix(PROGRAM) {
        Some(rest) => format!("{}{rest}", program()),
        None => line,
    }
}

/// Returns this program as a shell finds it: by name if it is on the search path, else by its own path.
pub(super) fn program() -> String {
    let Ok(own) = std::env::current_exe() else {
        return PROGRAM.to_owned();
    };
    let found = program_on_path(PROGRAM).and_then(|file| file.canonicalize().ok());
    match found == own.canonicalize().ok() {
        true => PROGRAM.to_owned(),
        false => words::shell_word(&own.to_string_lossy()).into_owned(),
    }
}

/// Returns the file of a program that a shell finds by its name.
fn program_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let file = match Path::new(name).extension() {
        Some(_) => name.to_owned(),
        None => format!("{name}{}", std::env::consts::EXE_SUFFIX),
    };
    let mut files = std::env::split_paths(&path).map(|directory| directory.join(&file));
    files.find(|file| file.is_file())
}

fn example(command: &manifest::Command) -> Option<String> {
    let required = command
        .arguments
        .iter()
        .filter(|argument| !argument.optional && !argument.rest);
    let values: Vec<_> = required.map(example_value).collect::<Option<_>>()?;
    let name = words::shell_word(&command.name);
    (!values.is_empty()).then(|| format!("{name} {}", values.join(" ")))
}

fn example_value(argument: &Argument) -> Option<&'static str> {
    // The manifest's words for types; any other type is the plugin's own.
    match argument.type_name.as_str() {
        "string" => Some("Ada"),
        "number" | "integer" | "integer from 0" => Some("2"),
        "boolean" => Some("true"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(commands: serde_json::Value) -> Manifest {
        let text = json!({
            "name": "Sample", "version": "0.1.0", "abi": 1, "api_version": "0.1.0", "rustc": "rustc 1.95.0",
            "target": "x86_64-unknown-linux-gnu", "panic": "unwind", "about": "", "commands": commands,
        });
        serde_json::from_value(text).expect("a manifest")
    }

    fn argument(type_name: &str) -> serde_json::Value {
        json!({"name": "a", "type": type_name, "optional": false, "rest": false})
    }

    fn command(name: &str, arguments: serde_json::Value) -> serde_json::Value {
        json!({"name": name, "doc": "", "kind": "sync", "arguments": arguments})
    }

    #[test]
    fn the_line_to_paste_is_a_command_we_have_arguments_for() {
        let greet = command("greet", json!([argument("string")]));
        let add = command("add", json!([argument("number"), argument("number")]));
        let odd = command("odd", json!([argument("string"), argument("Shape")]));
        let clear = command("clear", json!([]));
        let cases = [
            (json!([greet, add]), "greet Ada"),
            (json!([odd, clear, add]), "add 2 2"),
            (json!([odd, clear]), "dae"),
            (json!([]), "dae"),
        ];
        let session = Session {
            home: Home::at("/h"),
            home_named: true,
            out: show::Out::new(false, false),
            verbose: 0,
        };
        let home = session.home.data.display().to_string();
        for (commands, expected) in cases {
            let line = paste(&session, &manifest(commands));
            let expected = format!(" --home {home} call Sample {expected}");
            assert!(line.ends_with(&expected), "{line}");
        }
    }
}
