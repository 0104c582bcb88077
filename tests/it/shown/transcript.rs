//! A transcript: the command lines of one command, each with all that it prints, in a stored file.
//!
//! Standard output stands as it is, a line of standard error behind `! `, and an exit code other than 0 behind `= `.

use super::neutral::Neutral;
use super::scene::Scene;

/// The text of a transcript so far.
pub(super) struct Transcript {
    name: String,
    text: String,
}

impl Transcript {
    pub(super) fn of(name: &str) -> Self {
        Transcript {
            name: name.to_owned(),
            text: String::new(),
        }
    }

    /// Adds a remark on what follows.
    pub(super) fn remark(&mut self, text: &str) {
        self.separate();
        self.text += &format!("# {text}\n");
    }

    /// Adds a command line with a part of its standard output.
    pub(super) fn add(&mut self, scene: &Scene, line: &str, stdout: &str) {
        self.separate();
        self.text += &format!("$ dae-host {line}\n");
        self.text += &Neutral::of(scene).text(stdout);
    }

    /// Runs command lines, and adds all that they print.
    pub(super) fn run(&mut self, scene: &Scene, lines: &[&str]) {
        for line in lines {
            let output = scene.run(&words(line));
            self.add(scene, line, &output.stdout);
            for line in Neutral::of(scene).text(&output.stderr).lines() {
                self.text += format!("! {line}").trim_end();
                self.text.push('\n');
            }
            if output.status != 0 {
                self.text += &format!("= {}\n", output.status);
            }
        }
    }

    fn separate(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Compares it with the stored one. Returns its name if they differ; the difference is on standard error.
    pub(super) fn differs(self) -> Option<String> {
        super::differs(&self.name, &self.text)
    }
}

/// Splits a command line as a shell does, if its quotes are single ones.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '\'' => {
                is_quoted = !is_quoted;
                let _ = word.get_or_insert_with(String::new);
            }
            ' ' if !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_with(String::new).push(other),
        }
    }
    words.extend(word);
    words
}
