//! incident.html in a real browser from `file://`: nothing is requested, nothing violates the policy, no hostile script runs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::{file, histories, made, support};

fn chromium() -> Option<PathBuf> {
    let found = std::env::var_os("FIREBREAK_CHROMIUM").map(PathBuf::from);
    let found = found.filter(|p| p.exists());
    if found.is_none() {
        println!(
            "SKIPPED the incident document in a browser: needs FIREBREAK_CHROMIUM=/path/to/chromium"
        );
    }
    found
}

/// Everything that the browser asks for goes to this proxy, which refuses it and remembers the first line.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
    let port = listener.local_addr().expect("address").port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0u8; 1024];
            let n = stream.read(&mut head).unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..n]);
            let line = line.lines().next().unwrap_or_default().to_owned();
            seen.lock().expect("lock").push(line);
            let _ = stream
                .write_all(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (port, asked)
}

struct Seen {
    dom: String,
    console: String,
    asked: Vec<String>,
}

fn load(chromium: &Path, html: &str, name: &str) -> Seen {
    let folder =
        std::env::temp_dir().join(format!("firebreak-document-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let page = folder.join("incident.html");
    std::fs::write(&page, html).expect("write");
    let (port, asked) = proxy();
    let output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--enable-logging=stderr",
            "--dump-dom",
        ])
        .arg("--virtual-time-budget=3000")
        .arg(format!("--proxy-server=http://127.0.0.1:{port}"))
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .expect("chromium runs");
    let _ = std::fs::remove_dir_all(&folder);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Seen {
        dom: String::from_utf8_lossy(&output.stdout).into_owned(),
        console: stderr
            .lines()
            .filter(|l| l.contains("CONSOLE"))
            .collect::<Vec<_>>()
            .join("\n"),
        asked: asked.lock().expect("lock").clone(),
    }
}

fn of_page(asked: &[String]) -> Vec<&String> {
    asked
        .iter()
        .filter(|l| l.contains("evil.example"))
        .collect()
}

#[test]
fn in_a_browser_nothing_is_requested_and_no_hostile_script_runs() {
    let Some(chromium) = chromium() else { return };
    // The control: this proxy sees a request, this console a violation, this title a script.
    let open = load(
        &chromium,
        "<title>a</title><img src=http://evil.example/x><script>document.title='owned'</script>",
        "control",
    );
    assert!(
        !of_page(&open.asked).is_empty() && open.dom.contains("owned"),
        "{}",
        open.console
    );
    let strict = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\"><script>1</script>";
    let refused = load(&chromium, strict, "policy");
    assert!(
        refused.console.contains("Content Security Policy"),
        "{}",
        refused.console
    );

    for (name, history) in [
        ("hostile", histories::hostile()),
        ("outcomes", histories::every_outcome()),
    ] {
        let (_, files) = made(&history);
        let seen = load(&chromium, &file(&files, "incident.html"), name);
        assert!(seen.dom.contains("<h1>"), "the page was loaded");
        assert!(of_page(&seen.asked).is_empty(), "{:?}", seen.asked);
        assert_eq!(seen.console, "", "nothing violates the policy");
        assert!(!seen.dom.contains("<title>owned"), "a hostile script ran");
        let button = seen.dom.split("id=\"zone\"").nth(1).expect("button");
        let tag = button.split('>').next().expect("tag");
        assert!(
            !tag.contains("hidden"),
            "our own script runs under the policy"
        );
    }
}

/// The document of an incident as the command writes it, not one of our own histories: open, hostile in every text, and live.
#[test]
fn in_a_browser_the_document_of_a_live_incident_requests_nothing_and_runs_no_hostile_script() {
    let Some(chromium) = chromium() else { return };
    let evil = "</title><img src=http://evil.example/x onerror=alert(1)><script>document.title='owned'</script>";
    let user = support::user::User::new("browser-live");
    let done = firebreak::cli::exit::Exit::Ok;
    let id = "INC-LIVE-1";
    user.expect(&["incident", "open", evil, "--id", id], done);
    user.expect(&["incident", "note", evil], done);
    std::fs::write(user.home.join("note.txt"), evil).expect("a file");
    let note = user.home.join("note.txt").display().to_string();
    user.expect(&["evidence", "add", &note, "--description", evil], done);
    user.expect(&["report", "write", "impact", evil], done);
    user.expect(&["report", "build"], done);
    let page = user.home.join("fb").join(id).join("report/incident.html");
    let html = std::fs::read_to_string(page).expect("a document");
    let seen = load(&chromium, &html, "live");
    assert!(
        seen.dom.contains("<h1>") && seen.dom.contains(id),
        "the page was loaded"
    );
    assert!(of_page(&seen.asked).is_empty(), "{:?}", seen.asked);
    assert_eq!(seen.console, "", "nothing violates the policy");
    assert!(!seen.dom.contains("<title>owned"), "a hostile script ran");
}
