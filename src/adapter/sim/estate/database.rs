//! Simulated PostgreSQL: roles are one cluster's, open sessions each server's own, and a changed password ends none of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::port::{
    Cause, Database, Login, LoginAnswer, PortError, RoleSeen, Secret, Server, Sessions,
};

use super::scram::is_verifier;
use super::world::{EstateWorld, Kept};
use super::{Call, SimEstate};

/// A primary with its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseCluster {
    /// System identifier.
    pub system_identifier: String,
    /// Server version number.
    pub version: u32,
    /// How far its clock is ahead of the account's, in milliseconds.
    pub ahead_ms: i64,
    /// Its servers: the first is the primary.
    pub nodes: Vec<DatabaseNode>,
    /// Roles by name.
    pub roles: BTreeMap<String, DatabaseRole>,
    /// Calls that a replica is behind with a changed verifier.
    pub replica_lag: u32,
    /// Next process id.
    pub next_pid: u32,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseNode {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Databases.
    pub databases: Vec<String>,
    /// Calls of ours until it is up again; `None` = it is up, `Some(0)` = it stays down.
    pub down: Option<u32>,
    /// Open sessions.
    pub sessions: Vec<OpenSession>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRole {
    /// SCRAM verifier, an `md5…` hash, or nothing.
    pub verifier: Kept,
    /// May log in.
    pub can_login: bool,
    /// Is a superuser.
    pub superuser: bool,
    /// May alter roles and end sessions of those that are no superusers.
    pub admin: bool,
    /// What replicas still know, and for how many calls.
    pub behind: Option<(Kept, u32)>,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Process id.
    pub pid: u32,
    /// Role.
    pub role: String,
    /// When it began, by the server's clock.
    pub began: DateTime<Utc>,
    /// Client: a pod's name, or an address.
    pub client: String,
    /// Application name.
    pub application: String,
}

impl DatabaseCluster {
    /// A primary and its replicas, by host name, all on 5432 with one database.
    pub fn new(system_identifier: &str, hosts: &[&str], database: &str) -> Self {
        DatabaseCluster {
            system_identifier: system_identifier.to_owned(),
            version: 150_018,
            ahead_ms: 0,
            nodes: hosts
                .iter()
                .map(|host| DatabaseNode {
                    host: (*host).to_owned(),
                    port: 5432,
                    databases: vec![database.to_owned()],
                    down: None,
                    sessions: Vec::new(),
                })
                .collect(),
            roles: BTreeMap::new(),
            replica_lag: 0,
            next_pid: 4_000,
        }
    }
    /// Adds a role that logs in with a password.
    pub fn add_role(&mut self, name: &str, password: &str, admin: bool) {
        let salt: [u8; 32] = Sha256::digest(format!("{}/{name}", self.system_identifier)).into();
        let role = DatabaseRole {
            verifier: Kept(super::scram::verifier(password, &salt[..16], 4_096)),
            can_login: true,
            superuser: false,
            admin,
            behind: None,
        };
        self.roles.insert(name.to_owned(), role);
    }
    pub(super) fn tick(&mut self) {
        for node in &mut self.nodes {
            node.down = match node.down {
                Some(1) => None,
                Some(calls) => Some(calls.saturating_sub(1)),
                None => None,
            };
        }
        for role in self.roles.values_mut() {
            role.behind = role
                .behind
                .take()
                .and_then(|(old, calls)| (calls > 1).then(|| (old, calls - 1)));
        }
    }
    /// Takes a server down for so many calls, 0 = for good; its sessions end.
    pub fn take_down(&mut self, host: &str, calls: u32) {
        for node in self.nodes.iter_mut().filter(|n| n.host == host) {
            node.down = Some(calls);
            node.sessions.clear();
        }
    }
    fn node(&self, host: &str, port: u16) -> Option<usize> {
        self.nodes
            .iter()
            .position(|n| n.host == host && n.port == port)
    }
}

impl EstateWorld {
    /// Tries a login. `Err` = SQLSTATE; `08006` = no connection. An unknown role is refused like a wrong password.
    pub(super) fn log_in(
        &self,
        (host, port): (&str, u16),
        role: &str,
        password: &str,
    ) -> Result<(), &'static str> {
        let found = self
            .databases
            .iter()
            .find_map(|c| Some((c, c.node(host, port)?)));
        let Some((cluster, node)) = found else {
            return Err("08006");
        };
        if cluster.nodes[node].down.is_some() {
            return Err("08006");
        }
        let role = cluster.roles.get(role).ok_or("28P01")?;
        let known = match &role.behind {
            Some((old, _)) if node > 0 => old,
            _ => &role.verifier,
        };
        if !self.checked.fits(&known.0, password) {
            return Err("28P01");
        }
        // The password is looked at first: with a wrong one a role that may not log in is 28P01 too.
        if role.can_login { Ok(()) } else { Err("28000") }
    }
    /// Opens a session where the login is accepted.
    pub(super) fn open_database(
        &mut self,
        (host, port): (&str, u16),
        role: &str,
        password: &str,
        client: (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<(), &'static str> {
        self.log_in((host, port), role, password)?;
        for cluster in &mut self.databases {
            if let Some(node) = cluster.node(host, port) {
                cluster.next_pid += 1;
                let session = OpenSession {
                    pid: cluster.next_pid,
                    role: role.to_owned(),
                    began: now + Duration::milliseconds(cluster.ahead_ms),
                    client: client.0.to_owned(),
                    application: client.1.to_owned(),
                };
                cluster.nodes[node].sessions.push(session);
            }
        }
        Ok(())
    }
    /// True when a client has an open session of a role.
    pub(super) fn has_session(&self, role: &str, client: &str) -> bool {
        self.databases
            .iter()
            .flat_map(|c| &c.nodes)
            .flat_map(|n| &n.sessions)
            .any(|s| s.role == role && s.client == client)
    }
    /// Ends a client's sessions, since it is gone.
    pub(super) fn close_client(&mut self, client: &str) {
        for cluster in &mut self.databases {
            for node in &mut cluster.nodes {
                node.sessions.retain(|s| s.client != client);
            }
        }
    }
}

/// A server that was reached, with the admin's login accepted.
struct Reached<'w> {
    cluster: &'w mut DatabaseCluster,
    node: usize,
    superuser: bool,
    now: DateTime<Utc>,
}

fn reach<'w>(
    w: &'w mut EstateWorld,
    server: &Server,
    admin: &Login,
    now: DateTime<Utc>,
    call: &Call<'_>,
) -> Result<Reached<'w>, PortError> {
    let at = (server.host.as_str(), server.port);
    match w.log_in(at, &admin.role, admin.password.expose_secret()) {
        Ok(()) => {}
        Err("08006") => return Err(down(call)),
        Err(state) => {
            let text = format!("{state}: login of {} was refused", admin.role);
            return Err(call.error(Cause::Refused, text));
        }
    }
    let found = w
        .databases
        .iter_mut()
        .find_map(|c| c.node(at.0, at.1).map(|node| (c, node)));
    let (cluster, node) = found.ok_or_else(|| down(call))?;
    if !cluster.nodes[node].databases.contains(&server.database) {
        let text = format!("3D000: database \"{}\" does not exist", server.database);
        return Err(call.error(Cause::NotFound, text));
    }
    let role = cluster.roles.get(&admin.role).ok_or_else(|| down(call))?;
    if !role.admin && !role.superuser {
        let text = "42501: permission denied";
        return Err(call.error(Cause::Refused, text));
    }
    let superuser = role.superuser;
    let now = now + Duration::milliseconds(cluster.ahead_ms);
    Ok(Reached {
        cluster,
        node,
        superuser,
        now,
    })
}

fn down(call: &Call<'_>) -> PortError {
    call.error(Cause::Unreachable, "connection refused")
}

#[async_trait]
impl Database for SimEstate {
    async fn role(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
    ) -> Result<RoleSeen, PortError> {
        let on = server.to_string();
        let call = Call::look("role", "pg:Role", "look at a role of", &on);
        self.call(call, |w, scene| {
            let reached = reach(w, server, admin, scene.now, &call)?;
            let found = reached.cluster.roles.get(role);
            // Only a superuser reads the catalogue of passwords.
            let known = found.filter(|_| reached.superuser);
            Ok(RoleSeen {
                system_identifier: reached.cluster.system_identifier.clone(),
                in_recovery: reached.node > 0,
                version: reached.cluster.version,
                server_now: reached.now,
                exists: found.is_some(),
                can_login: found.is_some_and(|r| r.can_login),
                superuser: found.is_some_and(|r| r.superuser),
                password_type: known.map_or("unknown", |r| kind(&r.verifier.0)).to_owned(),
                verifier_sha256: known.map(|r| sha256(&r.verifier.0)),
            })
        })
    }

    async fn set_verifier(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        verifier: &Secret,
    ) -> Result<(), PortError> {
        let on = server.to_string();
        let call = Call::change(
            "set_verifier",
            "pg:SetVerifier",
            "set the verifier of a role of",
            &on,
        );
        self.call(call, |w, scene| {
            if !is_verifier(verifier.expose_secret()) {
                let text = "it is no SCRAM verifier: it would be taken as a password";
                return Err(call.error(Cause::Rejected, text));
            }
            let reached = reach(w, server, admin, scene.now, &call)?;
            if reached.node > 0 {
                let text = "25006: cannot execute ALTER ROLE in a read-only transaction";
                return Err(call.error(Cause::Rejected, text));
            }
            let lag = reached.cluster.replica_lag;
            let found = reached.cluster.roles.get_mut(role).ok_or_else(|| {
                call.error(
                    Cause::NotFound,
                    format!("42704: role \"{role}\" does not exist"),
                )
            })?;
            if found.superuser && !reached.superuser {
                let text = "42501: must be superuser to alter superuser roles";
                return Err(call.error(Cause::Refused, text));
            }
            if found.verifier.0 != verifier.expose_secret() {
                let new = Kept(verifier.expose_secret().to_owned());
                let old = std::mem::replace(&mut found.verifier, new);
                if lag > 0 {
                    found.behind = Some((old, lag));
                }
                scene.effect = true;
            }
            Ok(())
        })
    }

    async fn try_login(&self, server: &Server, login: &Login) -> Result<LoginAnswer, PortError> {
        let on = server.to_string();
        let call = Call::look("try_login", "pg:Login", "log in to", &on);
        self.call(call, |w, scene| {
            let at = (server.host.as_str(), server.port);
            match w.log_in(at, &login.role, login.password.expose_secret()) {
                Ok(()) => Ok(LoginAnswer::Accepted {
                    server_now: scene.now + ahead(w, at),
                }),
                Err("08006") => Err(down(&call)),
                Err(state) => Ok(LoginAnswer::Refused {
                    sqlstate: state.to_owned(),
                    text: match state {
                        "28000" => format!("role \"{}\" is not permitted to log in", login.role),
                        _ => format!("password authentication failed for user \"{}\"", login.role),
                    },
                }),
            }
        })
    }

    async fn sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError> {
        let on = server.to_string();
        let call = Call::look("sessions", "pg:Sessions", "list sessions of", &on);
        self.call(call, |w, scene| {
            let reached = reach(w, server, admin, scene.now, &call)?;
            Ok(met(&reached, role, before))
        })
    }

    async fn end_sessions(
        &self,
        server: &Server,
        admin: &Login,
        role: &str,
        before: DateTime<Utc>,
    ) -> Result<Sessions, PortError> {
        let on = server.to_string();
        let call = Call::change("end_sessions", "pg:EndSessions", "end sessions of", &on);
        self.call(call, |w, scene| {
            let reached = reach(w, server, admin, scene.now, &call)?;
            let met = met(&reached, role, before);
            if met.matched > 0 {
                let node = &mut reached.cluster.nodes[reached.node];
                node.sessions
                    .retain(|s| s.role != role || s.began >= before);
                scene.effect = true;
            }
            Ok(met)
        })
    }
}

/// Sessions of a role from before a moment; those of a superuser are out of a lesser admin's reach.
fn met(reached: &Reached<'_>, role: &str, before: DateTime<Utc>) -> Sessions {
    let above = reached.cluster.roles.get(role).is_some_and(|r| r.superuser) && !reached.superuser;
    let node = &reached.cluster.nodes[reached.node];
    let found = node
        .sessions
        .iter()
        .filter(|s| s.role == role && s.began < before);
    let clients: Vec<String> = found
        .map(|s| format!("{} {}", s.client, s.application))
        .collect();
    let count = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    Sessions {
        matched: if above { 0 } else { count },
        out_of_reach: if above { count } else { 0 },
        clients,
    }
}

fn ahead(w: &EstateWorld, at: (&str, u16)) -> Duration {
    let cluster = w.databases.iter().find(|c| c.node(at.0, at.1).is_some());
    Duration::milliseconds(cluster.map_or(0, |c| c.ahead_ms))
}

fn kind(verifier: &str) -> &'static str {
    if is_verifier(verifier) {
        "SCRAM-SHA-256"
    } else if verifier.starts_with("md5") {
        "md5"
    } else {
        "none"
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
