//! The personas of a drill: people who do not exist, with keys that are worth nothing outside it.

use chrono::{DateTime, Days, Utc};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::incident::{Actor, Mode};
use crate::plan::approval::PersonaKey;
use crate::plan::approval_text;
use crate::plan::people::{Person, read_people};
use crate::playbook::model::Playbook;
use crate::port::{Random, Store};

use super::stage::DrillError;

/// Folder of the personas' keys.
const FOLDER: &str = "state/personas";
/// The people file, pinned when the drill is opened.
const PEOPLE: &str = "trust/people.yaml";
/// Who they are. The first one runs the plan.
const NAMES: [(&str, &str); 3] = [
    ("drill-operator", "Drill persona: operator"),
    ("drill-commander", "Drill persona: incident commander"),
    ("drill-officer", "Drill persona: security officer"),
];

/// One persona.
pub struct Persona {
    /// What the people file says of them.
    pub person: Person,
    /// Signs, in the drill namespace only.
    pub key: PersonaKey,
    seed: Zeroizing<[u8; 32]>,
}

/// All personas of one drill. Each holds every role that the playbook names: what is rehearsed is the procedure, not the rota.
pub struct Cast {
    personas: Vec<Persona>,
}

impl Cast {
    /// New personas with fresh keys for a playbook.
    ///
    /// # Errors
    /// When the host has no randomness.
    pub fn new(playbook: &Playbook, random: &dyn Random) -> Result<Self, DrillError> {
        let mut roles: Vec<String> = playbook.roles.values().map(|r| r.contact.clone()).collect();
        roles.sort();
        roles.dedup();
        let personas = NAMES
            .iter()
            .map(|(id, name)| {
                let mut seed = Zeroizing::new([0u8; 32]);
                random.fill(seed.as_mut()).map_err(|e| {
                    DrillError::Host(format!("no randomness for a persona's key: {e}"))
                })?;
                let person = Person {
                    id: (*id).to_owned(),
                    name: (*name).to_owned(),
                    principal: format!("{id}@drill.invalid"),
                    roles: roles.clone(),
                };
                Ok(Persona::of(person, seed))
            })
            .collect::<Result<_, DrillError>>()?;
        Ok(Cast { personas })
    }

    /// Keeps the keys, in the form that `ssh-keygen` reads.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, store: &mut dyn Store) -> Result<(), DrillError> {
        for persona in &self.personas {
            let path = key_path(&persona.person.id);
            store
                .replace(&path, persona.openssh()?.as_bytes())
                .map_err(|e| DrillError::write(&path, &e))?;
        }
        Ok(())
    }

    /// The personas of a drill that goes on.
    ///
    /// # Errors
    /// When people file or keys are not what was kept.
    pub fn load(store: &dyn Store) -> Result<Self, DrillError> {
        let personas = read_people(&read(store, PEOPLE)?)
            .map_err(|e| DrillError::Damaged(e.to_string()))?
            .into_iter()
            .map(|person| {
                let path = key_path(&person.id);
                let seed = seed_of(&Zeroizing::new(read(store, &path)?))
                    .ok_or_else(|| DrillError::Damaged(format!("`{path}` is no Ed25519 key")))?;
                Ok(Persona::of(person, seed))
            })
            .collect::<Result<_, DrillError>>()?;
        Ok(Cast { personas })
    }

    /// The people file.
    pub fn people_yaml(&self) -> String {
        let mut text =
            "# DRILL: these people do not exist.\nfirebreak: people/v1\npeople:\n".to_owned();
        for Persona { person, .. } in &self.personas {
            // JSON is YAML: quoting by it leaves no room for surprises.
            text.push_str(&format!(
                "  - {{ id: {}, name: {}, principal: {}, roles: {} }}\n",
                quoted(&person.id),
                quoted(&person.name),
                quoted(&person.principal),
                serde_json::json!(person.roles)
            ));
        }
        text
    }

    /// The keys that may sign: in the drill namespace only, from yesterday for a month.
    pub fn allowed_signers(&self, now: DateTime<Utc>) -> String {
        let day = |d: DateTime<Utc>| d.format("%Y%m%dZ").to_string();
        let after = day(now.checked_sub_days(Days::new(1)).unwrap_or(now));
        let before = day(now.checked_add_days(Days::new(31)).unwrap_or(now));
        let mut text = "# DRILL: throw-away keys.\n".to_owned();
        for persona in &self.personas {
            text.push_str(&format!(
                "{} namespaces=\"{}\",valid-after=\"{after}\",valid-before=\"{before}\" {}\n",
                persona.person.principal,
                approval_text::namespace(Mode::Drill),
                persona.key.public_line()
            ));
        }
        text
    }

    /// Who runs the plan.
    ///
    /// # Panics
    /// Never for personas that [`Cast::new`] made; a people file without people is refused when it is loaded.
    pub fn executor(&self) -> Actor {
        Actor::person(
            self.personas
                .first()
                .map_or("drill-operator", |p| p.person.id.as_str()),
        )
    }

    /// Who signs, in the order in which they are asked: those who do not run the plan first, for the executor does not always count.
    pub fn signers(&self) -> impl Iterator<Item = &Persona> {
        self.personas.iter().skip(1).chain(self.personas.first())
    }
}

impl Persona {
    fn of(person: Person, seed: Zeroizing<[u8; 32]>) -> Self {
        Persona {
            person,
            key: PersonaKey::from_seed(&seed),
            seed,
        }
    }
    fn openssh(&self) -> Result<Zeroizing<String>, DrillError> {
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&self.seed));
        key.set_comment(format!("DRILL {}", self.person.id));
        key.to_openssh(LineEnding::LF)
            .map_err(|e| DrillError::Host(format!("cannot write a persona's key: {e}")))
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn key_path(id: &str) -> String {
    format!("{FOLDER}/{id}")
}

fn read(store: &dyn Store, path: &str) -> Result<Vec<u8>, DrillError> {
    store
        .load(path)
        .map_err(|e| DrillError::read(path, &e))?
        .ok_or_else(|| DrillError::Damaged(format!("`{path}` is not there")))
}

fn seed_of(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let key = PrivateKey::from_openssh(bytes).ok()?;
    match key.key_data() {
        KeypairData::Ed25519(pair) => Some(Zeroizing::new(pair.private.to_bytes())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::people::Policy;

    fn cast() -> Cast {
        let personas = NAMES
            .iter()
            .zip(1u8..)
            .map(|((id, name), n)| {
                let person = Person {
                    id: (*id).into(),
                    name: (*name).into(),
                    principal: format!("{id}@drill.invalid"),
                    roles: vec!["incident-commander".into()],
                };
                Persona::of(person, Zeroizing::new([n; 32]))
            })
            .collect();
        Cast { personas }
    }

    #[test]
    fn the_trust_files_make_a_team_policy_of_people_with_keys() {
        let cast = cast();
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("time");
        let (people, signers) = (cast.people_yaml(), cast.allowed_signers(now));
        let policy = Policy::team(people.as_bytes(), signers.as_bytes(), None).expect("policy");
        assert_eq!((policy.people.len(), policy.signers.len()), (3, 3));
        for signer in &policy.signers {
            assert_eq!(signer.namespaces, ["approval-drill@firebreak"]);
            assert!(signer.key.is_some() && signer.valid_after < now && now < signer.valid_before);
        }
    }

    #[test]
    fn a_key_is_kept_in_openssh_form_and_read_back() {
        for persona in &cast().personas {
            let text = persona.openssh().expect("written");
            assert!(text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
            assert_eq!(seed_of(text.as_bytes()).expect("seed"), persona.seed);
        }
        assert!(seed_of(b"nonsense").is_none());
    }

    #[test]
    fn whoever_runs_the_plan_signs_last() {
        let cast = cast();
        let last = cast.signers().last().expect("one").person.id.clone();
        assert_eq!(cast.executor().id, last);
    }
}
