//! A person with our program in a home of their own: what they type, and how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Somebody who types `firebreak …`. Home, configuration and incidents are theirs alone.
pub struct Responder {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl Responder {
    /// Somebody with this kubeconfig who never used the program. What an earlier run left is removed.
    pub fn new(test: &str, kubeconfig: &Path) -> Responder {
        let folder = super::own_folder("responders").join(test);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the build's folder can be written");
        Responder {
            folder,
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    /// The same person and incidents, from now on with another kubeconfig.
    pub fn use_kubeconfig(&mut self, kubeconfig: &Path) {
        self.kubeconfig = kubeconfig.to_owned();
    }

    /// A folder of theirs for files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Types a command and waits for its end. Nobody is there to answer a question.
    pub fn types<const N: usize>(&self, args: [&str; N]) -> Answer {
        self.types_with(&[], &args)
    }

    /// As [`Responder::types`], with more in the environment.
    pub fn types_with(&self, environment: &[(&str, &str)], args: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebreak"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .env("USER", "responder")
            .env("FIREBREAK_HOME", self.root())
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command.envs(environment.iter().copied());
        let output = command.output().expect("our program runs");
        Answer::new(args, &output)
    }

    fn root(&self) -> PathBuf {
        self.folder.join("incidents")
    }

    /// The ids of all incidents, in order.
    pub fn incidents(&self) -> Vec<String> {
        let Ok(found) = std::fs::read_dir(self.root()) else {
            return Vec::new();
        };
        let mut ids: Vec<String> = found
            .map(|e| {
                let name = e.expect("a folder").file_name();
                name.to_string_lossy().into_owned()
            })
            .filter(|n| n.starts_with("INC-"))
            .collect();
        ids.sort();
        ids
    }

    /// The one incident.
    pub fn incident(&self) -> String {
        let ids = self.incidents();
        assert_eq!(ids.len(), 1, "{ids:?}");
        ids[0].clone()
    }

    /// The folder of the one incident.
    pub fn place(&self) -> PathBuf {
        self.root().join(self.incident())
    }

    /// The folders of its bags, in order.
    pub fn bags(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(self.place().join("bags")).expect("bags");
        let mut bags: Vec<PathBuf> = found.map(|e| e.expect("a bag").path()).collect();
        bags.sort();
        bags
    }

    /// Contains a pod with the one confirmation.
    pub fn contains(&self, pod: &str) -> Answer {
        self.types(["contain", "pod", pod, "--confirm", pod, "--json"])
    }

    /// Plans a playbook of theirs in a namespace and, where that goes, carries it out.
    pub fn applies(&self, book: &str, namespace: &str) -> Answer {
        let space = format!("ns={namespace}");
        let plan = [
            "playbook",
            "plan",
            book,
            "--var",
            &space,
            "-o",
            "plan.json",
            "--json",
        ];
        let plan = self.types(plan);
        if plan.code != Some(0) {
            return plan;
        }
        let digest = plan.json()["digest"].as_str().expect("a digest")[..12].to_owned();
        self.types(["playbook", "apply", "plan.json", "--confirm", &digest])
    }

    /// Gives a pod back.
    pub fn releases(&self, pod: &str) -> Answer {
        let id = self.incident();
        let why = "the test is over";
        self.types(["contain", "release", pod, "--confirm", &id, "--reason", why])
    }
}

/// How a command ended.
pub struct Answer {
    line: String,
    /// Exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// The answer.
    pub out: String,
    /// The story.
    pub err: String,
}

impl Answer {
    fn new(args: &[&str], output: &Output) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer {
            line: args.join(" "),
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Panics with everything that was said unless it ended so.
    #[track_caller]
    pub fn ends(self, code: i32) -> Answer {
        self.ends_with_one_of(&[code])
    }

    /// Panics with everything that was said unless it ended in one of these ways.
    #[track_caller]
    pub fn ends_with_one_of(self, codes: &[i32]) -> Answer {
        let fits = self.code.is_some_and(|c| codes.contains(&c));
        assert!(fits, "wanted exit {codes:?}: {self}");
        self
    }

    /// Panics unless it said this, in the answer or in the story.
    #[track_caller]
    pub fn says(self, text: &str) -> Answer {
        assert!(self.said(text), "did not say {text:?}: {self}");
        self
    }

    /// Whether it said this.
    pub fn said(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }

    /// The answer as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "firebreak {} ended with {:?}:\n{}{}",
            self.line, self.code, self.out, self.err
        )
    }
}
