//! Somebody at a shell: a home of their own, the built command, what it answers.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use firebreak::cli::exit::Exit;
use serde_json::Value;

/// One user with a home of their own.
pub struct User {
    /// Their home; incidents are in its folder `fb`.
    pub home: PathBuf,
}

impl User {
    /// A user whose home is new.
    pub fn new(name: &str) -> Self {
        let home = super::own_folder(name);
        _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).expect("a home");
        User { home }
    }

    /// The command, in an environment of nothing but their own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", &self.home)
            .env("FIREBREAK_HOME", self.home.join("fb"))
            .env("USER", "ana")
            .stdin(Stdio::null());
        command
    }

    /// Runs it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("firebreak runs")
    }

    /// Runs it, expects this exit code, and answers stdout and stderr.
    pub fn expect(&self, args: &[&str], exit: Exit) -> (String, String) {
        let out = self.run(args);
        let (answer, story) = (
            String::from_utf8_lossy(&out.stdout).into_owned(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        );
        assert_eq!(
            out.status.code(),
            Some(i32::from(exit.code())),
            "{args:?}\n{answer}\n{story}"
        );
        (answer, story)
    }

    /// Runs it, expects this exit code, and answers the document.
    pub fn json(&self, args: &[&str], exit: Exit) -> Value {
        let (answer, _) = self.expect(args, exit);
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{args:?}: {e}\n{answer}"))
    }
}
