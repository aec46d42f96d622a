//! Proofs that an old database password is dead: no session from before, and a login that is refused while the new one is accepted.

use chrono::{DateTime, Utc};

use crate::port::{LoginAnswer, Secret, Server};
use crate::rotation::machine::database_password::{NEW_SET, NEW_TESTED};
use crate::rotation::plan::{DatabasePassword, What};
use crate::rotation::words::Grade;

use super::carry::{Carrier, Rotation};
use super::prove::CLEAN;
use super::verify::{Found, said};

impl Rotation {
    /// No session that began before the set, twice, on every server.
    pub(super) async fn sessions_gone(&self, at: &Carrier) -> Found {
        let What::DatabasePassword(password) = &self.item(at.item).what else {
            return Found::not([("why", "it is no database password".into())]);
        };
        let admin = match self.admin(password).await {
            Ok(admin) => admin,
            Err(problem) => return Found::not([("why", problem.detail)]),
        };
        for look in 0..CLEAN {
            for server in password.servers() {
                let before = self.old_until(at, server);
                let found = self
                    .patiently(|| {
                        let database = &self.estate.database;
                        database.sessions(server, &admin, &password.role, before)
                    })
                    .await;
                match found {
                    Ok(found) if found.out_of_reach > 0 => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("out_of_reach", found.out_of_reach.to_string()),
                        ]);
                    }
                    Ok(found) if found.matched > 0 => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("left", found.matched.to_string()),
                        ]);
                    }
                    Ok(_) => {}
                    Err(e) => {
                        return Found::not([
                            ("server", server.to_string()),
                            ("why", e.to_string()),
                        ]);
                    }
                }
            }
            if look + 1 < CLEAN {
                self.wait(self.plan.waits.poll_ms).await;
            }
        }
        Found::holds([("looks", CLEAN.to_string())])
    }

    /// Sessions on `server` that began before this are old ones: the moment at which it accepted the new password, by its own clock, and
    /// that of the set where it was not tried.
    pub(super) fn old_until(&self, at: &Carrier, server: &Server) -> DateTime<Utc> {
        let tested = at.journal.got(NEW_TESTED, "", &server.to_string());
        let set = at.journal.got(NEW_SET, "", "t_set");
        let told = tested.or(set).and_then(|t| t.parse().ok());
        told.unwrap_or_else(|| self.cx.ports.clock.now())
    }

    /// On each server the old password is refused with 28P01 while the new one is accepted.
    pub(super) async fn old_password_dead(&self, at: &mut Carrier) -> Found {
        let item = self.item(at.item).clone();
        let What::DatabasePassword(password) = &item.what else {
            return Found::not([("why", "it is no database password".into())]);
        };
        let old = match self.old(at).await {
            Ok(old) => old.map(|o| o.secret.duplicate()),
            Err(problem) => return Found::not([("why", problem.detail)]),
        };
        let Some(new) = at.hand.new.as_ref().map(|n| n.secret.duplicate()) else {
            return Found::not([("why", "the new password is not at hand".into())]);
        };
        let Some(old) = old else {
            return self.verifier_changed(password, &new).await;
        };
        let mut codes = Vec::new();
        for server in password.servers() {
            let refused = self.login(server, &password.role, &old).await;
            let control = self.login(server, &password.role, &new).await;
            let dead = matches!(&refused, Ok(LoginAnswer::Refused { sqlstate, .. }) if sqlstate == "28P01");
            let works = matches!(control, Ok(LoginAnswer::Accepted { .. }));
            codes.push(format!(
                "{server}: {} (control {})",
                said(&refused),
                said(&control)
            ));
            if !dead || !works {
                return Found::not([("code", codes.join("; "))]);
            }
        }
        Found::holds([("code", codes.join("; "))]).graded(Grade::Probed)
    }

    /// The old password is in no version any more: the server holds another verifier, and the new password is accepted.
    async fn verifier_changed(&self, password: &DatabasePassword, new: &Secret) -> Found {
        for server in password.servers() {
            let control = self.login(server, &password.role, new).await;
            if !matches!(control, Ok(LoginAnswer::Accepted { .. })) {
                return Found::not([("server", server.to_string()), ("code", said(&control))]);
            }
        }
        Found::holds([("why", "the old password was not at hand to try".into())])
            .graded(Grade::State)
    }
}
