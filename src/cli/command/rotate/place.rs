//! Where a rotation happens: its incident, the account it is bound to, and the cluster of its consumers.

use std::sync::Arc;

use crate::cli::cloud::{self, Account};
use crate::cli::cluster::{Answered, bind, check, reach, reach_bound, targets};
use crate::cli::compose::{Outside, engine, planner};
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::operator::{Given, Terminal};
use crate::cli::session::{NewIncident, Session};
use crate::cli::unopened::Unopened;
use crate::custody::Custody;
use crate::incident::body::Target;
use crate::incident::{History, Mode, Severity, clock_text};
use crate::port::{FingerprintKey, Operator};
use crate::run::Engine;

use super::OutsideArgs;

/// The account and the cluster that answered, and the incident: the open one, or one that is opened once there is something to plan.
pub(super) struct Place {
    account: Account,
    cluster: Option<Answered>,
    holder: Holder,
}

enum Holder {
    Taken(Arc<Custody>),
    New(Arc<Unopened>),
}

impl Place {
    /// Everything that has to answer, before anything is written.
    pub(super) async fn of(session: &Session, args: &OutsideArgs) -> Result<Self, CliError> {
        let account = cloud::reach(session, &args.account).await?;
        session.out.tell(account.aws.place());
        let holder = match session
            .chosen()?
            .filter(|id| session.asked.is_some() || !id.as_str().starts_with("DRILL-"))
        {
            None => Holder::New(Arc::new(Unopened {
                id: session.fresh_id(Mode::Live)?,
                mode: Mode::Live,
            })),
            Some(id) => {
                let custody = Arc::new(session.open(&id)?);
                live(&custody)?;
                account.check(&custody.history()?)?;
                session.out.tell(format!("incident {id} is open and taken"));
                Holder::Taken(custody)
            }
        };
        let history = match &holder {
            Holder::Taken(custody) => Some(custody.history()?),
            Holder::New(_) => None,
        };
        let cluster = cluster(session, history.as_ref(), args).await?;
        Ok(Place {
            account,
            cluster,
            holder,
        })
    }

    /// The open incident and what it is bound to, to go on with.
    pub(super) async fn taken(
        session: &Session,
        custody: Arc<Custody>,
        args: &OutsideArgs,
    ) -> Result<Self, CliError> {
        live(&custody)?;
        let account = cloud::reach(session, &args.account).await?;
        let history = custody.history()?;
        account.check(&history)?;
        let cluster = cluster(session, Some(&history), args).await?;
        Ok(Place {
            account,
            cluster,
            holder: Holder::Taken(custody),
        })
    }

    fn outside(&self, fingerprint: FingerprintKey) -> Outside {
        let workloads = self.cluster.as_ref().map(|a| a.connected.workloads.clone());
        Outside {
            cluster: self.cluster.as_ref().map(|a| a.connected.cluster.clone()),
            estate: Some(self.account.estate(fingerprint, workloads)),
        }
    }

    /// An engine that looks and writes nothing, as the incident is not open yet. Its fingerprints are of a key that nobody keeps.
    pub(super) fn planner(&self, session: &Session) -> Result<Engine, CliError> {
        let terminal = Arc::new(Terminal::new(session.out, Given::Nothing));
        match &self.holder {
            Holder::Taken(custody) => self.engine(session, custody, terminal, None),
            Holder::New(unopened) => {
                let mut key = [0u8; 32];
                session.random.fill(&mut key).map_err(|e| {
                    CliError::new(Exit::Failed, "FB1106", format!("no randomness: {e}"))
                })?;
                let outside = self.outside(FingerprintKey::new(key));
                planner(session, unopened, outside, terminal)
            }
        }
    }

    /// The engine of the incident.
    pub(super) fn engine(
        &self,
        session: &Session,
        custody: &Arc<Custody>,
        operator: Arc<dyn Operator>,
        executor: Option<&str>,
    ) -> Result<Engine, CliError> {
        let outside = self.outside(custody.fingerprint_key(session.random.as_ref())?);
        engine(session, custody, outside, operator, executor)
    }

    /// The incident, opened now if it was not yet, bound to account and cluster.
    pub(super) fn open(&self, session: &Session, title: &str) -> Result<Arc<Custody>, CliError> {
        let custody = match &self.holder {
            Holder::Taken(custody) => custody.clone(),
            Holder::New(unopened) => self.declare(session, unopened, title)?,
        };
        self.account.bind(&custody)?;
        if let Some(answered) = &self.cluster {
            bind(&custody, &answered.identity)?;
        }
        Ok(custody)
    }

    fn declare(
        &self,
        session: &Session,
        unopened: &Unopened,
        title: &str,
    ) -> Result<Arc<Custody>, CliError> {
        let custody = session.create(NewIncident {
            id: Some(unopened.id.clone()),
            mode: unopened.mode,
            title: title.to_owned(),
            severity: Severity::Sev2,
            source: None,
            targets: vec![self.account.target()],
            policy: None,
            declared: Some(clock_text::seconds(session.clock.now())),
        })?;
        session.out.tell(format!(
            "incident {} opened in {}",
            custody.id(),
            custody.place().display()
        ));
        Ok(Arc::new(custody))
    }
}

fn live(custody: &Custody) -> Result<(), CliError> {
    if custody.opened().mode == Mode::Live {
        return Ok(());
    }
    let why = format!("{} is a drill: nothing live is rotated in it", custody.id());
    Err(CliError::new(Exit::Usage, "FB0406", why)
        .hint("name a live incident with --incident; a drill goes on by firebreak resume"))
}

/// The incident's cluster, or the one that is named, or the one at hand. One that is only at hand and does not answer is told, and does not
/// stand in the way of taking keys away.
async fn cluster(
    session: &Session,
    history: Option<&History>,
    args: &OutsideArgs,
) -> Result<Option<Answered>, CliError> {
    if args.no_cluster {
        return Ok(None);
    }
    let named = args.cluster.context.is_some() || args.cluster.kubeconfig.is_some();
    let is_bound = |h: &History| {
        targets(h)
            .iter()
            .any(|t| matches!(t, Target::Cluster { .. }))
    };
    if let Some(history) = history.filter(|h| is_bound(h) && !named) {
        return reach_bound(session, history, &args.cluster).await;
    }
    match reach(session, &args.cluster).await {
        Ok(answered) => {
            if let Some(history) = history {
                check(history, &answered.identity)?;
            }
            Ok(Some(answered))
        }
        Err(e) if named => Err(e),
        Err(e) => {
            session.out.tell(format!(
                "no cluster: {}; consumers in one are not looked for",
                e.message
            ));
            Ok(None)
        }
    }
}
