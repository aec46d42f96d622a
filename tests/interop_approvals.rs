//! Approvals against the stock `ssh-keygen`: what it signs we take, what a persona signs it takes, and both refuse the same.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use firebreak::plan::approval::{PersonaKey, verify};

const TEXT: &str = "firebreak approval v1\nincident INC-2031\nreason -\n";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("firebreak-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// True when `ssh-keygen` is here; says loudly what it would need when it is not.
fn has_ssh_keygen() -> bool {
    let found = Command::new("ssh-keygen").arg("-?").output().is_ok();
    if !found {
        eprintln!("SKIPPED: needs ssh-keygen (Debian: openssh-client)");
    }
    found
}

fn keygen(folder: &Folder, kind: &str) -> PathBuf {
    let path = folder.0.join(format!("key-{kind}"));
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-f"])
        .arg(&path)
        .status();
    assert!(made.expect("ssh-keygen runs").success());
    path
}

fn sign(folder: &Folder, key: &Path, namespace: &str) -> String {
    let text = folder.write("text", TEXT);
    let _ = std::fs::remove_file(folder.0.join("text.sig"));
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(key)
        .arg(&text)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(signed.expect("ssh-keygen runs").success());
    std::fs::read_to_string(folder.0.join("text.sig")).expect("a signature")
}

fn stock_verifies(
    folder: &Folder,
    signers: &str,
    namespace: &str,
    armour: &str,
    text: &str,
) -> bool {
    let allowed = folder.write("allowed_signers", signers);
    let signature = folder.write("in.sig", armour);
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "amira@example.org", "-n", namespace])
        .args(["-O", "verify-time=20261124120000Z", "-f"])
        .arg(&allowed)
        .arg("-s")
        .arg(&signature)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ssh-keygen runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).expect("written");
    drop(input);
    child.wait().expect("ends").success()
}

#[test]
fn what_stock_ssh_keygen_signs_is_taken_and_nothing_else() {
    if !has_ssh_keygen() {
        return;
    }
    let folder = Folder::new("interop-sign");
    let armour = sign(&folder, &keygen(&folder, "ed25519"), "approval@firebreak");
    assert!(verify(TEXT.as_bytes(), &armour, "approval@firebreak").is_ok());
    let code = |text: &str, armour: &str, namespace| {
        verify(text.as_bytes(), armour, namespace)
            .expect_err("refused")
            .code()
    };
    assert_eq!(
        code(&TEXT.replace("INC", "ING"), &armour, "approval@firebreak"),
        "FB0502"
    );
    assert_eq!(code(TEXT, &armour, "approval-drill@firebreak"), "FB0503");
    assert_eq!(
        code(TEXT, &format!("{armour}\n"), "approval@firebreak"),
        "FB0502"
    );
}

#[test]
fn other_key_types_are_refused_by_name() {
    if !has_ssh_keygen() {
        return;
    }
    let folder = Folder::new("interop-types");
    for kind in ["ecdsa", "rsa"] {
        let armour = sign(&folder, &keygen(&folder, kind), "approval@firebreak");
        let refusal = verify(TEXT.as_bytes(), &armour, "approval@firebreak").expect_err("refused");
        assert_eq!(refusal.code(), "FB0503", "{kind}: {refusal}");
    }
}

#[test]
fn stock_ssh_keygen_takes_what_a_persona_signs_and_refuses_what_we_refuse() {
    if !has_ssh_keygen() {
        return;
    }
    let folder = Folder::new("interop-verify");
    let persona = PersonaKey::from_seed(&[7; 32]);
    let armour = persona.sign(TEXT);
    let line = |namespace: &str| {
        format!(
            "amira@example.org namespaces=\"{namespace}\",valid-after=\"20260101Z\",valid-before=\"20270101Z\" {}\n",
            persona.public_line()
        )
    };
    let drill = "approval-drill@firebreak";
    assert!(stock_verifies(&folder, &line(drill), drill, &armour, TEXT));
    assert!(!stock_verifies(
        &folder,
        &line(drill),
        drill,
        &armour,
        &TEXT.replace("INC", "ING")
    ));
    assert!(!stock_verifies(
        &folder,
        &line(drill),
        "approval@firebreak",
        &armour,
        TEXT
    ));
    assert!(!stock_verifies(
        &folder,
        &line("custody@firebreak"),
        drill,
        &armour,
        TEXT
    ));
}
