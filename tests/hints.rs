//! Every command line that the program prints, or that its documents show, is one that the program takes: read from the source, not from a
//! list that somebody must keep.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use firebreak::cli::Cli;
use regex::Regex;

/// What follows the program's name in text and is no command: headings of formats, marks of the probe scripts, plain speech.
const NO_COMMAND: [&str; 6] = ["approval", "itself", "nc", "bash", "python3", "none"];

/// What stands for one of a few words, and one of them.
const ONE_OF: [(&str, &str); 3] = [("SHELL", "bash"), ("N", "1"), ("FOUND", "ran")];

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).expect("readable").flatten() {
        let path = item.path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
}

fn no_command(text: &str) -> bool {
    let word = text.split_whitespace().nth(1).unwrap_or_default();
    NO_COMMAND.contains(&word)
}

/// The words as somebody would type them: what our formats fill in and what stands in capitals gets a value.
fn words(command: &str) -> Vec<String> {
    let quoted = Regex::new(r#""[^"]*""#).expect("pattern");
    let filled = Regex::new(r"\{[^}]*\}").expect("pattern");
    let text = quoted.replace_all(command, "TEXT");
    let text = filled.replace_all(&text, "1");
    let word = |w: &str| {
        let known = ONE_OF.iter().find(|(name, _)| *name == w);
        known.map_or(w, |(_, one)| *one).to_owned()
    };
    text.split_whitespace().map(word).collect()
}

fn parses(words: &[String]) -> bool {
    match Cli::try_parse_from(words) {
        Ok(_) => true,
        // `--help` and `--version` are answered, not refused.
        Err(e) => !e.use_stderr(),
    }
}

/// A command in backticks or in a code block: all of it counts. One without its arguments is a name, not a command to type.
fn whole(command: &str) -> bool {
    let command = command.split(" > ").next().unwrap_or_default();
    let words = words(command);
    let mut all = Cli::command();
    let named = words[1..]
        .iter()
        .try_fold(&mut all, |c, w| c.find_subcommand_mut(w));
    named.is_some() || parses(&words)
}

/// A command in a sentence ("firebreak verify PATH says what is left"): the longest beginning that is a command, and it holds every option.
fn begins(sentence: &str) -> bool {
    let words = words(sentence);
    let least = words
        .iter()
        .rposition(|w| w.starts_with('-'))
        .map_or(2, |at| at + 1);
    (least.min(words.len())..=words.len()).any(|n| parses(&words[..n]))
}

/// The commands of a source file that do not parse.
fn wrong_in_source(text: &str) -> Vec<String> {
    let backticked = Regex::new(r"`(firebreak [^`\n]+)`").expect("pattern");
    let literal = Regex::new(r#"(?s)"((?:[^"\\]|\\.)*)""#).expect("pattern");
    let sentence = Regex::new(r"firebreak ([a-z]+)([ ,;:.)][^;`\n·(]*|$)").expect("pattern");
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let text = &text[..tests];
    let mut wrong: Vec<String> = backticked
        .captures_iter(text)
        .map(|c| c[1].to_owned())
        .filter(|c| !c.starts_with("firebreak <") && !no_command(c))
        .filter(|c| !whole(c))
        .collect();
    let code: String = text
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .map(|l| format!("{l}\n"))
        .collect();
    for string in literal.captures_iter(&code) {
        let string = string[1].replace("\\n", "\n").replace("\\\"", "\"");
        for found in sentence.captures_iter(&string) {
            let said = found[0]
                .trim_end_matches([',', ':', '.', ')', ' '])
                .to_owned();
            // Of two commands in one sentence each is read for itself.
            let said = said.split(", ").next().unwrap_or_default();
            if !no_command(said) && !begins(said) {
                wrong.push(said.to_owned());
            }
        }
    }
    wrong
}

/// The commands of a document that do not parse: in backticks, and lines of its code blocks.
fn wrong_in_document(text: &str) -> Vec<String> {
    let backticked = Regex::new(r"`(firebreak [^`\n]+)`").expect("pattern");
    let mut commands: Vec<String> = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            block = !block;
        } else if block && let Some(at) = line.find("firebreak ") {
            let before = line[..at].trim();
            let typed =
                before.is_empty() || ["undo", "next", "tests/sandbox exec"].contains(&before);
            let typed = typed && !line[at..].starts_with("firebreak approval");
            let shown = line[at..].split(['#', '<']).next().unwrap_or_default();
            commands.extend(typed.then(|| shown.trim().to_owned()));
        } else if !block {
            commands.extend(backticked.captures_iter(line).map(|c| c[1].to_owned()));
        }
    }
    commands.retain(|c| !whole(c));
    commands
}

#[test]
fn every_command_that_the_program_tells_somebody_to_type_is_one_that_it_takes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    files(&root.join("src"), "rs", &mut sources);
    let mut documents = vec![root.join("README.md"), root.join("evidence/README.md")];
    files(&root.join("docs"), "md", &mut documents);
    let mut wrong = Vec::new();
    let check = |path: &Path, read: fn(&str) -> Vec<String>| {
        let text = std::fs::read_to_string(path).expect("readable");
        let inside = path
            .strip_prefix(root)
            .expect("below")
            .display()
            .to_string();
        read(&text)
            .into_iter()
            .map(move |c| format!("{inside}: {c}"))
            .collect::<Vec<_>>()
    };
    sources
        .iter()
        .for_each(|p| wrong.extend(check(p, wrong_in_source)));
    documents
        .iter()
        .for_each(|p| wrong.extend(check(p, wrong_in_document)));
    assert!(wrong.is_empty(), "not taken: {wrong:#?}");
}

#[test]
fn the_check_sees_a_wrong_command_when_there_is_one() {
    let source = r#"
        // firebreak nonsense in a comment is no hint
        .hint("firebreak verifi PATH says what is left")
        .hint(format!("firebreak evidence seal --bags {number}"))
        .hint("firebreak incident milestone")
        .hint("firebreak verify PATH says what is left; firebreak resume looks")
    "#;
    assert_eq!(
        wrong_in_source(source),
        [
            "firebreak verifi PATH says what is left",
            "firebreak evidence seal --bags {number}",
            "firebreak incident milestone",
        ]
    );
    let document = "`firebreak log -n 20` and `firebreak lock`\n```\nfirebreak contain pod # a name\nfirebreak evidence --all\n```\n";
    assert_eq!(
        wrong_in_document(document),
        ["firebreak lock", "firebreak evidence --all"]
    );
}
