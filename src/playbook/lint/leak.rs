//! Shells, images by tag, and secrets written down: FB0316, FB0320, FB0322 (secrets that are variables are [`super::flow`]'s).

use serde_json::Value;

use crate::playbook::model::{Kind, Step};
use crate::playbook::tree::escape;

use super::Lint;

pub(super) fn look(lint: &mut Lint<'_>, step: &Step) {
    if let Kind::Run { argv } = &step.kind {
        if let Some(at) = shell(argv) {
            lint.step(
                "FB0316",
                step,
                &format!("/run/{at}"),
                format!("`{}` would read a command line", argv[at]),
                "name the program and its words: no quoting, no expansion, nothing to inject into",
            );
        }
        for (at, image) in images(argv) {
            tagged(lint, step, &format!("/run/{at}"), image);
        }
    }
    each_text(step, &mut |below, key, text| {
        if key.is_some_and(|k| k == "image" || k.ends_with("_image")) {
            tagged(lint, step, &below, text);
        }
        if let Some(what) = secret(text) {
            lint.step(
                "FB0322",
                step,
                &below,
                format!("this looks like {what}"),
                "remove it and replace it where it was valid; give it as a variable of type secret",
            );
        }
    });
}

/// Every text of a step with its place below the step and the key of a mapping that holds it.
pub(super) fn each_text(step: &Step, look: &mut dyn FnMut(String, Option<&str>, &str)) {
    match &step.kind {
        Kind::Call(call) | Kind::Check { call, .. } => walk(&call.with, "/with".into(), None, look),
        Kind::Run { argv } => {
            for (i, word) in argv.iter().enumerate() {
                look(format!("/run/{i}"), None, word);
            }
        }
        Kind::Manual { text } => look("/manual".into(), None, text),
        Kind::Note { text } => look("/note".into(), None, text),
        Kind::Notify(n) => look("/notify/template".into(), None, &n.template),
        _ => {}
    }
    for (key, call) in [
        ("undo", &step.undo),
        ("require", &step.require),
        ("done_if", &step.done_if),
    ] {
        if let Some(call) = call {
            walk(&call.with, format!("/{key}/with"), None, look);
        }
    }
}

fn walk(
    value: &Value,
    below: String,
    key: Option<&str>,
    look: &mut dyn FnMut(String, Option<&str>, &str),
) {
    match value {
        Value::String(text) => look(below, key, text),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(item, format!("{below}/{i}"), key, look);
            }
        }
        Value::Object(map) => {
            for (k, v) in map {
                walk(v, format!("{below}/{}", escape(k)), Some(k), look);
            }
        }
        _ => {}
    }
}

/// Where a word runs a shell or an interpreter over program text.
fn shell(argv: &[String]) -> Option<usize> {
    const INLINE: &[(&[&str], &[&str])] = &[
        (
            &[
                "sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "python", "python3",
            ],
            &["c"],
        ),
        (&["perl", "ruby", "node"], &["e", "E", "p", "n"]),
        (&["cmd", "cmd.exe"], &["/c", "/C", "/k"]),
        (
            &["powershell", "pwsh", "powershell.exe"],
            &["-Command", "-command", "-EncodedCommand", "-c", "-e"],
        ),
    ];
    argv.iter().enumerate().find_map(|(i, word)| {
        let base = word.rsplit('/').next().unwrap_or(word);
        let (_, flags) = INLINE.iter().find(|(names, _)| names.contains(&base))?;
        argv[i + 1..]
            .iter()
            .any(|arg| inline(arg, flags))
            .then_some(i)
    })
}

fn inline(arg: &str, flags: &[&str]) -> bool {
    flags.iter().any(|flag| {
        arg == *flag
            || (flag.len() == 1
                && arg.starts_with('-')
                && !arg.starts_with("--")
                && arg[1..].contains(*flag))
    })
}

/// Words of a command line that name an image.
fn images(argv: &[String]) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (i, word) in argv.iter().enumerate() {
        if let Some(image) = word.strip_prefix("--image=") {
            found.push((i, image));
        }
        if word == "--image"
            && let Some(next) = argv.get(i + 1)
        {
            found.push((i + 1, next.as_str()));
        }
    }
    let engine = argv
        .first()
        .and_then(|w| w.rsplit('/').next())
        .is_some_and(|w| ["docker", "podman", "nerdctl", "crictl"].contains(&w));
    if engine
        && argv.get(1).is_some_and(|v| v == "pull")
        && let Some((i, image)) = argv
            .iter()
            .enumerate()
            .skip(2)
            .find(|(_, w)| !w.starts_with('-'))
    {
        found.push((i, image.as_str()));
    }
    found
}

fn tagged(lint: &mut Lint<'_>, step: &Step, below: &str, image: &str) {
    if image.contains("@sha256:") || image.contains("${") {
        return;
    }
    lint.step(
        "FB0320",
        step,
        below,
        format!("the image `{image}` is named by tag: what it means may change, and may be the broken one"),
        "name it by digest: name@sha256:…",
    );
}

/// What a literal gives away, by its shape.
fn secret(text: &str) -> Option<&'static str> {
    let word = |prefix: &str, rest: usize| {
        text.match_indices(prefix).any(|(at, _)| {
            text[at + prefix.len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .count()
                >= rest
        })
    };
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some("a private key");
    }
    if word("AKIA", 16) || word("ASIA", 16) {
        return Some("a cloud access key");
    }
    if word("ghp_", 30) || word("github_pat_", 30) || word("glpat-", 20) || word("xoxb-", 10) {
        return Some("an access token");
    }
    let userinfo = text.split("://").nth(1).is_some_and(|rest| {
        rest.split(['/', ' ', '?']).next().is_some_and(|host| {
            host.split_once('@').is_some_and(|(user, _)| {
                user.split_once(':')
                    .is_some_and(|(_, pass)| !pass.is_empty())
            })
        })
    });
    userinfo.then_some("a password in a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn shells_with_a_command_line_are_seen_wherever_they_stand() {
        for line in [
            "sh -c ls",
            "/bin/bash -ec ls",
            "env X=1 dash -c x",
            "busybox sh -c x",
            "sudo -u root bash -lc x",
            "python3 -c x",
            "perl -ne x",
            "cmd /c dir",
            "pwsh -Command x",
        ] {
            assert!(shell(&argv(line)).is_some(), "{line}");
        }
        for line in [
            "sh script.sh",
            "bash --norc script",
            "kubectl get pods -c main",
            "python3 tool.py",
            "list-backups.sh --class database",
        ] {
            assert!(shell(&argv(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_shape() {
        for text in [
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "AKIAIOSFODNN7EXAMPLE",
            "https://me:hunter2@example.org/x",
        ] {
            assert!(secret(text).is_some(), "{text}");
        }
        for text in [
            "https://example.org/a@b",
            "AKIA is how key ids begin",
            "ssh://git@example.org",
        ] {
            assert!(secret(text).is_none(), "{text}");
        }
    }
}
