//! The text of the unit. It sees no disk and no systemd.
//!
//! The hardening is limited to what breaks no plugin, and each line says why it is there. Left out on purpose:
//! `MemoryDenyWriteExecute=` (plugins may compile code), `PrivateDevices=` and `RestrictAddressFamilies=` (plugins may
//! use devices and sockets of any kind), `ProtectHome=` (sources may lie there), `ProtectProc=` (the search for foreign
//! daemons looks at processes). A user's service has less: its manager can close directories only in a user namespace,
//! where root is nobody, and the host then takes no file of root for trusted.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The start of every unit of this program.
pub(super) const MARK: &str = "# Written by `dae-host service install`";

/// The hardening of every service.
const HARDENING: &str = "\
# No plugin gains rights by a setuid program such as sudo.
NoNewPrivileges=yes
# No plugin makes setuid files, loads code of other architectures or changes the kernel's view of the process.
RestrictSUIDSGID=yes
SystemCallArchitectures=native
LockPersonality=yes
";

/// More hardening, for a service of the machine.
const SYSTEM_HARDENING: &str = "\
# /usr, /boot and /etc are read-only, and /tmp is the service's own.
ProtectSystem=full
PrivateTmp=yes
# The kernel's settings, modules, log and control groups are out of reach.
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
";

/// The parts of the unit that differ.
#[derive(Debug)]
pub(super) struct Unit {
    /// The program's own file.
    pub(super) program: PathBuf,
    /// The home, unless it is the user's default one.
    pub(super) home: Option<PathBuf>,
    /// The user of a service of the machine.
    pub(super) user: Option<String>,
    /// The options of `run`.
    pub(super) options: Vec<String>,
}

impl Unit {
    /// Returns the file's text.
    ///
    /// # Errors
    /// A path or the user has characters that no unit can hold.
    pub(super) fn text(&self) -> Result<String> {
        let line = self.command_line()?;
        let reload = self.program_and_home()?;
        let (owner, target) = match &self.user {
            Some(user) => (self.owner(user)?, "multi-user.target"),
            None => (String::new(), "default.target"),
        };
        let more = match self.user {
            Some(_) => SYSTEM_HARDENING,
            None => "",
        };
        Ok(format!(
            "{MARK}, which replaces it at the next one.\n\
             # Own settings belong into an override: systemctl edit dae-host\n\n\
             [Unit]\nDescription=dae-host\nDocumentation=man:dae-host(1)\n\n\
             [Service]\nType=notify\nExecStart={line}\nExecReload={reload} config reload\n{owner}\
             # A plugin that calls exit(0) ends the host with code 0.\nRestart=always\nRestartSec=1\n\
             # Workers are ended by the host, after it has saved their state.\nKillMode=mixed\n\
             # Daemons start in their order, which may wait for some.\nTimeoutStartSec=300\n\
             # Fed only while the host answers on its own port.\nWatchdogSec=60\n\
             # The host raises the first number as it needs more.\nLimitNOFILE=1024:524288\n\
             {HARDENING}{more}\n\
             [Install]\nWantedBy={target}\n"
        ))
    }

    /// Returns the command line of the host.
    fn command_line(&self) -> Result<String> {
        let mut line = self.program_and_home()? + " run";
        for option in &self.options {
            line += &format!(" {}", quoted(Path::new(option))?);
        }
        Ok(line)
    }

    fn program_and_home(&self) -> Result<String> {
        let program = quoted(&self.program)?;
        Ok(match &self.home {
            Some(home) => format!("{program} --home {}", quoted(home)?),
            None => program,
        })
    }

    /// Returns the lines for the user of the service and for its home.
    fn owner(&self, user: &str) -> Result<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-$".contains(c);
        if user.is_empty() || !user.chars().all(is_name) {
            bail!("--user takes the name of a user of the system; got {user:?}");
        }
        let home = self.home.as_deref();
        let below = home.and_then(|home| home.strip_prefix("/var/lib").ok());
        let home = match (below, home) {
            // systemd makes it, with the right owner.
            (Some(name), _) if is_plain(name) => {
                format!(
                    "StateDirectory={}\nStateDirectoryMode=0700\n",
                    name.display()
                )
            }
            (_, Some(home)) => format!("ReadWritePaths=-{}\n", quoted(home)?),
            (_, None) => String::new(),
        };
        Ok(format!("User={user}\n{home}"))
    }
}

/// Returns whether a relative path is one name that a unit takes without quotes.
fn is_plain(path: &Path) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let text = path.to_string_lossy();
    !text.is_empty() && text.chars().all(is_plain)
}

/// Returns a path as a word of a unit, where blanks, quotes, `%`, `$` and `\` mean something.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_string_lossy();
    if text.contains(char::is_control) {
        bail!("the path {text:?} has characters that no unit can hold");
    }
    let escaped = text.replace('\\', r"\\").replace('"', r#"\""#);
    let escaped = escaped.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_alphanumeric() || "/_.-+%:".contains(c);
    Ok(match escaped.chars().all(is_plain) {
        true => escaped,
        false => format!("\"{escaped}\""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(home: Option<&str>, user: Option<&str>) -> Result<String> {
        let unit = Unit {
            program: "/usr/local/bin/dae-host".into(),
            home: home.map(PathBuf::from),
            user: user.map(str::to_owned),
            options: Vec::new(),
        };
        unit.text()
    }

    #[test]
    fn a_users_service_has_its_default_home() {
        let text = unit(None, None).expect("a unit");
        assert!(text.starts_with(MARK), "{text}");
        let start = "\nExecStart=/usr/local/bin/dae-host run\n";
        assert!(
            text.contains(start) && text.contains("\nType=notify\n"),
            "{text}"
        );
        assert!(text.ends_with("WantedBy=default.target\n"), "{text}");
        assert!(
            !text.contains("User=") && !text.contains("PrivateTmp"),
            "{text}"
        );
    }

    #[test]
    fn the_host_has_the_options_of_its_run() {
        let unit = Unit {
            program: "/usr/local/bin/dae-host".into(),
            home: Some("/srv/dae".into()),
            user: None,
            options: ["--metrics", "127.0.0.1:9464", "[fe80::1%2]:1"]
                .map(str::to_owned)
                .into(),
        };
        let text = unit.text().expect("a unit");
        let line = "ExecStart=/usr/local/bin/dae-host --home /srv/dae run --metrics 127.0.0.1:9464 \"[fe80::1%%2]:1\"";
        assert!(text.lines().any(|one| one == line), "{text}");
    }

    #[test]
    fn a_service_of_the_machine_has_its_user_and_more_hardening() {
        let text = unit(Some("/var/lib/dae"), Some("dae")).expect("a unit");
        for line in [
            "ExecStart=/usr/local/bin/dae-host --home /var/lib/dae run",
            "ExecReload=/usr/local/bin/dae-host --home /var/lib/dae config reload",
            "User=dae",
            "StateDirectory=dae",
            "ProtectSystem=full",
            "WatchdogSec=60",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        let text = unit(Some("/srv/dae"), Some("dae")).expect("a unit");
        assert!(text.contains("\nReadWritePaths=-/srv/dae\n"), "{text}");
        assert!(unit(None, Some("dae\nExecStart=x")).is_err());
    }

    #[test]
    fn a_path_is_one_word_whatever_it_has() {
        for (path, word) in [
            ("/a/b-c.d", "/a/b-c.d"),
            ("/a b", "\"/a b\""),
            ("/a%b", "/a%%b"),
            ("/a$b\"c\\", r#""/a$$b\"c\\""#),
        ] {
            assert_eq!(quoted(Path::new(path)).expect(path), word);
        }
        assert!(quoted(Path::new("/a\nb")).is_err());
    }
}
