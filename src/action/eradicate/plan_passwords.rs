//! Items of database passwords: the secret, the server, who may alter the role.

use std::collections::BTreeMap;

use serde_json::json;

use crate::action::ActionError;
use crate::incident::clock_text;
use crate::port::{CURRENT, Login, Server, VersionRef};
use crate::rotation::map::SecretPlace;
use crate::rotation::plan::{DatabasePassword, Escrow, What};
use crate::rotation::words::{Reason, RotationMode};
use crate::rotation::{binding, guards};

use super::contents::Contents;
use super::gather::said;
use super::hand::{self, PASSWORD, USERNAME};
use super::holders::Held;
use super::plan_items::Draft;
use super::planner::{Member, Planner, refuse};

impl Planner<'_> {
    pub(super) async fn password_item(&mut self, member: Member) -> Result<Draft, ActionError> {
        let c = member.credential;
        let mode = self.args.mode_of(c.kind);
        let entry = self
            .map
            .as_ref()
            .and_then(|m| m.password_in(&c.name, &c.arn))
            .cloned();
        let stored = self.secrets.iter().find(|s| s.seen.arn == c.arn);
        let login = stored.and_then(|s| match &s.contents {
            Ok(Contents::Database(login)) => Some(login),
            _ => None,
        });
        let place = entry.as_ref().and_then(|e| e.secret.as_ref());
        let fields = place
            .and_then(|p: &SecretPlace| p.json_keys.clone())
            .map(|k| (k.id, k.secret))
            .or_else(|| login.map(|l| l.fields.clone()))
            .unwrap_or_else(|| (USERNAME.into(), PASSWORD.into()));
        let role = entry
            .as_ref()
            .and_then(|e| e.principal.clone())
            .or_else(|| login.map(|l| l.role.clone()))
            .unwrap_or_default();
        let servers = entry.as_ref().and_then(|e| e.servers.clone());
        let primary = match (&servers, login) {
            (Some(servers), _) => servers.primary.clone(),
            (None, Some(l)) => Server {
                host: l.host.clone(),
                port: l.port,
                database: l.database.clone(),
                ca_file: None,
            },
            (None, None) => {
                return Err(refuse(
                    "FB3034",
                    format!(
                        "which server `{}` opens is not known: name it in a map",
                        c.name
                    ),
                ));
            }
        };
        let admin = entry
            .as_ref()
            .and_then(|e| e.admin.clone())
            .or_else(|| login.and_then(|l| l.admin.clone()))
            .or_else(|| self.args.admin.clone());
        let password = login.map(|l| l.password.duplicate());
        let seen = self.estate.vault.describe(&c.arn).await?.value;
        let mut held = match &entry {
            Some(e) if !e.sinks.is_empty() => self.mapped(&e.sinks).await?,
            _ => match &password {
                Some(password) => self.holders.sinks_of_password(password),
                None => Held::default(),
            },
        };
        self.holders
            .consumers(&self.estate.clone(), &mut held)
            .await?;
        let mut what = DatabasePassword {
            escrow: Escrow {
                secret: seen.arn.clone(),
                exists: true,
                fields,
                current: seen.holder(CURRENT).map(str::to_owned),
            },
            role,
            primary,
            replicas: servers.map(|s| s.replicas).unwrap_or_default(),
            admin: admin.unwrap_or_default(),
            system_identifier: String::new(),
        };
        if entry.is_none() {
            self.warnings.push(format!(
                "{}: its replicas are not known: sessions there are not ended. A map names them",
                c.name
            ));
        }
        let mut binding = binding::secret(&seen);
        let mut needs_human = None;
        if let Some(why) = guards::owner(&seen).or_else(|| held.foreign.clone()) {
            needs_human = Some(Reason::ForeignOwner);
            self.warnings.push(format!("{}: {why}", c.name));
        } else if let Err((reason, why)) = self.database(&mut what, &mut binding).await {
            needs_human = Some(reason);
            self.warnings.push(format!("{}: {why}", c.name));
        }
        self.before.push(json!({
            "kind": c.kind.as_str(), "secret": seen.name, "arn": seen.arn, "versions": seen.versions,
            "changed": seen.changed.map(clock_text::seconds), "accessed": seen.accessed.map(clock_text::seconds),
            "role": what.role, "server": what.primary.to_string(), "system_identifier": what.system_identifier,
        }));
        Ok(Draft {
            kind: c.kind,
            mode,
            name: c.name,
            arn: c.arn,
            why: member.why,
            binding,
            no_return: match mode {
                RotationMode::Graceful => {
                    "OldSessionsTerminated: sessions with the old password are ended".into()
                }
                RotationMode::Emergency => "NewSet: the server forgets the old password".into(),
            },
            what: What::DatabasePassword(what),
            held,
            needs_human,
            last_used: None,
        })
    }

    /// The role on its server: the same role, a server that takes writes, and which one it is.
    async fn database(
        &mut self,
        what: &mut DatabasePassword,
        binding: &mut BTreeMap<String, String>,
    ) -> Result<(), (Reason, String)> {
        let admin = self.admin_login(&what.admin).await?;
        let seen = self
            .estate
            .database
            .role(&what.primary, &admin, &what.role)
            .await
            .map_err(|e| (Reason::AccountUnreachable, e.to_string()))?;
        if !seen.exists {
            return Err((
                Reason::Stale,
                format!("there is no role `{}` on {}", what.role, what.primary),
            ));
        }
        if seen.in_recovery {
            return Err((
                Reason::Stale,
                format!("{} is a replica: it takes no writes", what.primary),
            ));
        }
        if seen.superuser {
            self.warnings.push(format!(
                "role `{}` is a superuser: its sessions may be out of the admin's reach",
                what.role
            ));
        }
        if seen.password_type == "md5" {
            self.warnings.push(format!("role `{}` has an md5 password: the new one is SCRAM, which clients of libpq before 10 do not speak", what.role));
        }
        what.system_identifier.clone_from(&seen.system_identifier);
        binding.extend(crate::rotation::binding::database(&seen));
        Ok(())
    }

    async fn admin_login(&self, id: &str) -> Result<Login, (Reason, String)> {
        if id.is_empty() {
            let why = "who may alter the role is not known: name the secret with that login in a map, or with --admin";
            return Err((Reason::Permission, why.into()));
        }
        let label = VersionRef::Label(CURRENT.into());
        let read = self.estate.vault.read(id, &label).await;
        let read = read.map_err(|e| (Reason::Permission, format!("`{id}`: {}", said(&e))))?;
        let fields = Escrow {
            secret: id.into(),
            exists: true,
            fields: (USERNAME.into(), PASSWORD.into()),
            current: None,
        };
        let login = hand::from_json(&fields, &read.value);
        let login = login.map_err(|why| (Reason::Permission, format!("`{id}`: {why}")))?;
        Ok(Login {
            role: login.id,
            password: login.secret,
        })
    }
}
