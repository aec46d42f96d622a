//! The numbered steps of the disaster recovery runbook, chapter by chapter: what a playbook that names a chapter must carry.

/// A chapter: its name in `runbook:` and its numbered steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chapter {
    /// `scenario 3`.
    pub name: &'static str,
    /// Title.
    pub title: &'static str,
    /// Number and text of each step, in order.
    pub steps: &'static [(&'static str, &'static str)],
}

/// The chapters.
pub const CHAPTERS: &[Chapter] = &[
    Chapter {
        name: "scenario 1",
        title: "Database Corruption",
        steps: &[
            ("1.1", "Stop application"),
            ("1.2", "Identify last good backup"),
            ("1.3", "Restore from backup"),
            ("1.4", "Verify data integrity"),
            ("1.5", "Start application"),
            ("1.6", "Monitor for 1 hour"),
        ],
    },
    Chapter {
        name: "scenario 2",
        title: "Complete System Failure",
        steps: &[
            ("2.1", "Activate DR site"),
            ("2.2", "Update DNS records"),
            ("2.3", "Restore database to last backup"),
            ("2.4", "Deploy application from latest image"),
            ("2.5", "Run health checks on all services"),
            ("2.6", "Notify users via status page"),
        ],
    },
    Chapter {
        name: "scenario 3",
        title: "Security Breach",
        steps: &[
            ("3.1", "Immediately disconnect compromised systems"),
            ("3.2", "Preserve evidence (log all activities)"),
            ("3.3", "Notify security team and management"),
            ("3.4", "Assess scope of breach"),
            ("3.5", "Reset all credentials and tokens"),
            ("3.6", "Apply security patches"),
            ("3.7", "Restore from clean backup if necessary"),
            ("3.8", "Document incident and lessons learned"),
        ],
    },
    Chapter {
        name: "scenario 4",
        title: "Data Deletion (Accidental)",
        steps: &[
            ("4.1", "Stop application writes immediately"),
            ("4.2", "Identify deletion time from audit logs"),
            ("4.3", "Restore from backup just before deletion"),
            ("4.4", "Export affected tables from backup"),
            ("4.5", "Merge restored data with current state"),
            ("4.6", "Verify data integrity"),
            ("4.7", "Resume normal operations"),
        ],
    },
    Chapter {
        name: "scenario 5",
        title: "Region Failure (Cloud Provider)",
        steps: &[
            ("5.1", "Activate secondary region (multi-region failover)"),
            ("5.2", "Update DNS to secondary region"),
            ("5.3", "Ensure database replication is active"),
            ("5.4", "Scale up services in secondary region"),
            ("5.5", "Monitor performance and costs"),
            ("5.6", "Plan primary region recovery"),
            ("5.7", "Fail back when primary is restored"),
        ],
    },
];

/// Finds a chapter.
pub fn chapter(name: &str) -> Option<&'static Chapter> {
    CHAPTERS.iter().find(|c| c.name == name)
}
