//! Guards while planning: who we are and how we came in, the emergency access, and what is left alone.

use std::collections::BTreeSet;

use crate::action::ActionError;
use crate::incident::clock_text;
use crate::port::{TrailBy, TrailEvent};
use crate::rotation::chain;
use crate::rotation::guards::{self, Spared};
use crate::rotation::inventory::Credential;
use crate::rotation::plan::{BreakGlass, Excluded};
use crate::rotation::words::CredentialKind;

use super::planner::{Member, Planner, refuse};
use super::walk::{self, Window};

impl Planner<'_> {
    /// How we came by our own session: who assumed our role is spared as well.
    pub(super) async fn own_chain(&mut self) {
        let mut id = self.me.access_key_id.clone();
        let (window, _) = self.window().await;
        let mut hops = 0;
        let told = loop {
            if !id.starts_with("ASIA") {
                break "our credentials are long-term, or the trail shows where they came from";
            }
            let Some(event) = self.minting_of(&id, &window).await else {
                break "the trail does not show who assumed our role: that one is not guarded";
            };
            let raw = chain::raw(&event);
            if let Some(arn) = raw["userIdentity"]["arn"].as_str() {
                self.spared.add_arn(arn);
            }
            hops += 1;
            match event.access_key.filter(|_| hops < 5) {
                Some(before) => {
                    self.spared.keys.insert(before.clone());
                    id = before;
                }
                None => break "the trail shows where our credentials came from",
            }
        };
        let detail = format!("{} is spared; {told}", self.me.arn);
        self.guards
            .push(guards::result("self-lockout", "passed", detail));
    }

    async fn minting_of(&self, id: &str, window: &Window) -> Option<TrailEvent> {
        for region in &window.regions {
            let by = TrailBy::Resource(id.to_owned());
            let Ok((events, _)) = walk::events(&self.estate, by, region, window).await else {
                continue;
            };
            let made = |e: &TrailEvent| {
                let raw = chain::raw(e);
                raw["responseElements"]["credentials"]["accessKeyId"].as_str() == Some(id)
            };
            if let Some(event) = events.into_iter().find(made) {
                return Some(event);
            }
        }
        None
    }

    /// Each configured way in is tried, and must answer as the configuration says.
    pub(super) async fn break_glass(&mut self) -> Result<Vec<BreakGlass>, ActionError> {
        let paths = self.estate.break_glass.clone();
        if paths.is_empty() {
            if self.policy_name()? == "team" {
                return Err(refuse(
                    guards::BREAK_GLASS,
                    "no emergency access is configured: a team's rotation needs one that is tested",
                )
                .hint("name a profile and its ARN under `break_glass` in the configuration"));
            }
            let why = "no emergency access is configured: if this rotation locks us out, nothing here lets us back in";
            self.guards
                .push(guards::result("break-glass", "not-checked", why));
            self.warnings.push(why.into());
            return Ok(Vec::new());
        }
        let (mut tested, mut failed) = (Vec::new(), Vec::new());
        for path in &paths {
            self.spared.add_arn(&path.arn);
            match path.cloud.identity().await {
                Ok(answer) if guards::answers_to(&answer.value.arn, &path.arn) => {
                    self.spared.keys.insert(answer.value.access_key_id.clone());
                    tested.push(BreakGlass {
                        profile: path.profile.clone(),
                        arn: path.arn.clone(),
                        tested: clock_text::seconds(self.cx.ports.clock.now()),
                    });
                }
                Ok(answer) => failed.push(format!(
                    "profile {} answered as {}, not as {}",
                    path.profile, answer.value.arn, path.arn
                )),
                Err(e) => failed.push(format!("profile {}: {e}", path.profile)),
            }
        }
        if tested.is_empty() {
            return Err(refuse(
                guards::BREAK_GLASS,
                format!("no emergency access works: {}", failed.join("; ")),
            )
            .hint("mend one (`aws sts get-caller-identity --profile …`), then plan again"));
        }
        self.warnings.extend(failed);
        let detail = format!(
            "{} of {} ways in answered as configured",
            tested.len(),
            paths.len()
        );
        self.guards
            .push(guards::result("break-glass", "passed", detail));
        Ok(tested)
    }

    /// What must be spared is never a member. Ourselves in the set refuses the plan: that is a mistake which a person must see.
    pub(super) fn spare(&mut self, members: Vec<Member>) -> Result<Vec<Member>, ActionError> {
        let (canaries, glass) = (self.canaries(), self.glass());
        let mut kept = Vec::new();
        for member in members {
            let c = &member.credential;
            let left_alone = self.left_alone(c, &canaries, &glass);
            let ours = match c.kind {
                CredentialKind::IamAccessKey => self.spared.has_key(&c.name, &c.id),
                CredentialKind::IamRoleSessions => self.spared.has_role(&c.name),
                _ => false,
            };
            match left_alone {
                Some(why) => self.excluded.push(Excluded {
                    id: c.id.clone(),
                    why,
                }),
                None if ours => {
                    return Err(refuse(
                        guards::SELF,
                        format!(
                            "{} {} is our own, or how we came in: the rotation would lock us out",
                            c.kind, c.name
                        ),
                    )
                    .hint(format!(
                        "use another identity, or leave it out: --exclude {}",
                        c.name
                    )));
                }
                None => kept.push(member),
            }
        }
        Ok(kept)
    }

    fn glass(&self) -> Spared {
        let mut glass = Spared::default();
        for path in &self.estate.break_glass {
            glass.add_arn(&path.arn);
        }
        glass
    }

    fn left_alone(
        &self,
        c: &Credential,
        canaries: &BTreeSet<String>,
        glass: &Spared,
    ) -> Option<String> {
        let is = |id: &String| *id == c.id || *id == c.name || *id == c.arn;
        if canaries.iter().any(is) {
            return Some("a canary: calling with it alerts its owner".into());
        }
        let marked = c
            .tags
            .known()
            .and_then(|t| t.get("break-glass"))
            .is_some_and(|v| v == "true");
        let is_glass = match c.kind {
            CredentialKind::IamAccessKey => glass.has_key(&c.name, &c.id),
            CredentialKind::IamRoleSessions => glass.has_role(&c.name),
            _ => false,
        };
        if is_glass || marked {
            return Some("emergency access: it must keep working".into());
        }
        let of_map = self
            .map
            .iter()
            .flat_map(|m| &m.exclude)
            .find(|(id, _)| is(id));
        if let Some((_, why)) = of_map {
            return Some(format!("left out by the map: {why}"));
        }
        let named = self.args.exclude.iter().any(is);
        named.then(|| "left out by name".to_owned())
    }
}
