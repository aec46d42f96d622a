//! What this crate must not contain: a network, an executor, a clock, a random source.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

use std::path::Path;
use std::process::Command;

const BANNED: [&str; 22] = [
    "tokio",
    "async-std",
    "smol",
    "futures",
    "getrandom",
    "rand",
    "rand_core",
    "hyper",
    "reqwest",
    "ureq",
    "rustls",
    "native-tls",
    "openssl",
    "chrono",
    "time",
    "jiff",
    "mio",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "rayon",
];

#[test]
fn no_crate_that_reaches_the_world_is_pulled_in() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "firebreak-evidence",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    let mut names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    println!("{} crates: {}", names.len(), names.join(" "));
    assert!(names.len() > 10, "the tree was read");
    for banned in BANNED {
        assert!(!names.contains(&banned), "{banned} is pulled in");
    }
}

#[test]
fn the_source_names_no_clock_no_socket_and_no_random_source() {
    let mut files = 0;
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).expect("the source is here") {
            let path = item.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("it is text");
            for word in [
                "SystemTime",
                "Instant::",
                "TcpStream",
                "UdpSocket",
                "getrandom",
                "async fn",
                "std::net",
            ] {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 20);
}
