//! The sink's decisions against a server in memory; the HTTP side has its own tests.

use std::collections::{BTreeMap, VecDeque};

use super::api::{Answer, Fault, Files, NewDraft, Origin, RepositoryState, Revision, Stage};
use super::*;
use crate::fate::{Lifecycle, Reason, Sha};
use crate::intent::{Intent, TargetKind};
use crate::package::KPTFILE;
use crate::package::tests::scaling;

/// When a fault strikes: the request was not carried out, or it was and nobody was told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Before,
    After,
}

#[derive(Default)]
pub(in crate::submit) struct State {
    pub(in crate::submit) revisions: Vec<(Revision, BTreeMap<String, String>)>,
    version: u64,
    pub(in crate::submit) log: Vec<String>,
    faults: VecDeque<(&'static str, When, Class)>,
    /// A file that holds this text makes the files fail to render.
    poison: Option<&'static str>,
    /// Revisions that others were cloned from.
    sources: Vec<String>,
    /// So many of the newest revisions are left out of listings.
    unlisted: usize,
    /// Nobody can reach it.
    pub(in crate::submit) down: bool,
}

#[derive(Default)]
pub(in crate::submit) struct Server(pub(in crate::submit) Short<State>);

fn fault(class: Class) -> Fault {
    let code = if class == Class::Auth { 403 } else { 500 };
    Fault { class, code, message: format!("the server says {class:?}"), after: None }
}

impl State {
    fn at(&mut self, name: &str) -> Result<&mut (Revision, BTreeMap<String, String>), Fault> {
        self.revisions
            .iter_mut()
            .rev()
            .find(|(revision, _)| revision.name == name)
            .ok_or(fault(Class::Missing))
    }

    fn struck(&mut self, step: &str, when: When) -> Result<(), Fault> {
        match self.faults.front() {
            Some(&(at, then, class)) if at == step && then == when => {
                self.faults.pop_front();
                Err(fault(class))
            }
            _ => Ok(()),
        }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        format!("v{}", self.version)
    }

    fn create(&mut self, draft: &NewDraft) -> Result<Revision, Fault> {
        let name = names::object("edge", &draft.package, &draft.workspace);
        if self.at(&name).is_ok() {
            return Err(fault(Class::Exists));
        }
        let texts = match &draft.origin {
            Origin::Edit { source } => self.at(source)?.1.clone(),
            Origin::Clone { upstream } => {
                self.sources.push(upstream.clone());
                BTreeMap::from([(KPTFILE.to_owned(), "upstream: {}\n".to_owned())])
            }
            Origin::Init { .. } if self.revisions.iter().any(|(r, _)| r.package == draft.package) => {
                return Err(fault(Class::PackageExists));
            }
            Origin::Init { .. } => BTreeMap::from([(KPTFILE.to_owned(), String::new())]),
        };
        let revision = Revision {
            name,
            repository: "edge".to_owned(),
            package: draft.package.clone(),
            workspace: draft.workspace.clone(),
            stage: Stage::Draft,
            number: 0,
            version: self.next_version(),
            annotations: draft.annotations.clone(),
            unmet_gates: Vec::new(),
            latest: false,
            created: Some(self.version.cast_signed()),
            deleting: false,
            source: match &draft.origin {
                Origin::Edit { source } => Some(source.clone()),
                Origin::Init { .. } | Origin::Clone { .. } => None,
            },
        };
        self.revisions.push((revision.clone(), texts));
        Ok(revision)
    }

    fn put(
        &mut self,
        name: &str,
        version: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Files, Fault> {
        let poison = self.poison;
        let next = self.next_version();
        let (revision, texts) = self.at(name)?;
        if revision.stage != Stage::Draft {
            return Err(fault(Class::WrongStage));
        }
        if revision.version != version {
            return Err(fault(Class::Stale));
        }
        let mut whole = texts.clone();
        for (file, text) in changes {
            match text {
                Some(text) => drop(whole.insert(file.clone(), text.clone())),
                None => drop(whole.remove(file)),
            }
        }
        if poison.is_some_and(|poison| whole.values().any(|text| text.contains(poison))) {
            return Err(fault(Class::Render));
        }
        (revision.version, *texts) = (next, whole);
        Ok(Files { version: revision.version.clone(), texts: texts.clone(), render_error: String::new() })
    }

    fn move_to(&mut self, name: &str, version: &str, to: Stage) -> Result<Revision, Fault> {
        let next = self.next_version();
        let package = self.at(name)?.0.package.clone();
        let highest =
            self.revisions.iter().filter(|(r, _)| r.package == package).map(|(r, _)| r.number).max();
        let revision = &mut self.at(name)?.0;
        if revision.version != version {
            return Err(fault(Class::Stale));
        }
        let allowed = match (revision.stage, to) {
            (Stage::Draft, Stage::Published) | (Stage::Published, Stage::Published) => false,
            (Stage::Published, to) => to == Stage::DeletionProposed,
            _ => true,
        };
        if !allowed {
            return Err(fault(Class::WrongStage));
        }
        if to == Stage::Published && revision.number == 0 {
            revision.number = highest.unwrap_or(0) + 1;
        }
        (revision.stage, revision.version) = (to, next);
        Ok(revision.clone())
    }
}

impl Server {
    fn ask<T>(
        &self,
        step: &str,
        about: &str,
        act: impl FnOnce(&mut State) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut state = self.0.lock();
        state.log.push(format!("{step} {about}").trim().to_owned());
        if state.down {
            return Err(fault(Class::Unavailable));
        }
        state.struck(step, When::Before)?;
        let answer = act(&mut state)?;
        state.struck(step, When::After)?;
        Ok(answer)
    }
}

impl Api for Server {
    fn repository(&self) -> Answer<'_, RepositoryState> {
        let state = RepositoryState { git: "git".to_owned(), branch: "main".to_owned(), broken: None };
        Box::pin(async { Ok(state) })
    }

    fn revisions<'a>(&'a self, package: &'a str) -> Answer<'a, Vec<Revision>> {
        let act = move |state: &mut State| {
            let shown = state.revisions.len() - state.unlisted;
            let all = state.revisions[..shown].iter().map(|(revision, _)| revision.clone());
            Ok(all.filter(|revision| revision.package == package).collect())
        };
        Box::pin(async move { self.ask("list", "", act) })
    }

    fn revision<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Revision>> {
        Box::pin(async move { self.ask("get", "", |state| Ok(state.at(name).ok().map(|(r, _)| r.clone()))) })
    }

    fn files<'a>(&'a self, name: &'a str) -> Answer<'a, Files> {
        let act = move |state: &mut State| {
            let (revision, texts) = state.at(name)?;
            Ok(Files { version: revision.version.clone(), texts: texts.clone(), render_error: String::new() })
        };
        Box::pin(async move { self.ask("files", "", act) })
    }

    fn create<'a>(&'a self, draft: &'a NewDraft) -> Answer<'a, Revision> {
        let origin = match &draft.origin {
            Origin::Init { .. } => "init",
            Origin::Clone { .. } => "clone",
            Origin::Edit { .. } => "edit",
        };
        Box::pin(async move { self.ask("create", origin, |state| state.create(draft)) })
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
        changes: &'a BTreeMap<String, Option<String>>,
    ) -> Answer<'a, Files> {
        Box::pin(async move { self.ask("put", "", |state| state.put(name, version, changes)) })
    }

    fn annotate<'a>(
        &'a self,
        name: &'a str,
        _version: &'a str,
        annotations: &'a BTreeMap<String, String>,
    ) -> Answer<'a, Revision> {
        let act = move |state: &mut State| {
            let next = state.next_version();
            let revision = &mut state.at(name)?.0;
            (revision.annotations, revision.version) = (annotations.clone(), next);
            Ok(revision.clone())
        };
        Box::pin(async move { self.ask("annotate", "", act) })
    }

    fn propose<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision> {
        Box::pin(async move { self.ask("propose", to.as_str(), |state| state.move_to(name, version, to)) })
    }

    fn approve<'a>(&'a self, name: &'a str, version: &'a str, to: Stage) -> Answer<'a, Revision> {
        Box::pin(async move { self.ask("approve", to.as_str(), |state| state.move_to(name, version, to)) })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let act = move |state: &mut State| {
            if state.sources.iter().any(|source| source == name) {
                return Err(fault(Class::BadSource));
            }
            state.revisions.retain(|(revision, _)| revision.name != name);
            Ok(())
        };
        Box::pin(async move { self.ask("delete", "", act) })
    }
}

struct Bed {
    server: Arc<Server>,
    sink: PorchSink,
}

pub(in crate::submit) fn settings() -> Settings {
    Settings {
        repository: "edge".to_owned(),
        layout: Layout::Target,
        site: "site".to_owned(),
        content: Content::Workloads,
        blueprint: None,
        blueprints: None,
        approval: Approval::Publish,
        open_proposal: OpenProposal::Update,
        window: Duration::from_millis(200),
        keep_revisions: 10,
        max_parallel: 4,
        scope: DedupScope::NameAndContent,
        patience: Duration::from_secs(15),
    }
}

impl Bed {
    fn new(change: impl FnOnce(&mut Settings)) -> Bed {
        let mut settings = settings();
        change(&mut settings);
        let server = Arc::new(Server::default());
        let sink = PorchSink::new(server.clone(), settings, Box::new(|_| {}), 7);
        Bed { server, sink }
    }

    /// The same server under a process that knows nothing.
    fn restart(&mut self) {
        let settings = self.sink.settings.clone();
        self.sink = PorchSink::new(self.server.clone(), settings, Box::new(|_| {}), 8);
    }

    fn strike(&self, step: &'static str, when: When, class: Class) {
        self.server.0.lock().faults.push_back((step, when, class));
    }

    async fn deliver(&self, intents: &[(&Intent, u64)], doubtful: bool) -> Vec<Outcome> {
        let shas: Vec<Sha> = intents.iter().map(|(_, id)| Sha::of(&id.to_be_bytes())).collect();
        let names: Vec<String> = intents.iter().map(|(_, id)| format!("intent-{id}.json")).collect();
        let group: Vec<Delivery<'_>> = intents
            .iter()
            .zip(shas.iter().zip(&names))
            .map(|((intent, id), (sha, name))| Delivery {
                id: Id(*id),
                sha,
                name,
                generation: 0,
                attempt: 1,
                doubtful,
                intent,
                file: None,
            })
            .collect();
        self.sink.deliver(&group).await
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.server.0.lock().log)
    }

    fn published(&self) -> Vec<(i64, BTreeMap<String, String>)> {
        let state = self.server.0.lock();
        let published = state.revisions.iter().filter(|(revision, _)| revision.stage == Stage::Published);
        published.map(|(revision, texts)| (revision.number, texts.clone())).collect()
    }
}

fn of(name: &str, replicas: u32) -> Intent {
    let mut intent = scaling(replicas);
    intent.target.name = name.into();
    intent
}

fn receipts(outcomes: &[Outcome]) -> Vec<(&str, Lifecycle, bool)> {
    fn receipt(outcome: &Outcome) -> (&str, Lifecycle, bool) {
        match outcome {
            Outcome::Delivered(receipt) => (&receipt.revision, receipt.lifecycle, receipt.adopted),
            other => panic!("{other:?}"),
        }
    }
    outcomes.iter().map(receipt).collect()
}

#[tokio::test(start_paused = true)]
async fn an_intent_costs_four_writes_and_one_question_for_a_new_package() {
    let bed = Bed::new(|_| {});
    let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
    assert_eq!(receipts(&outcomes), [("1", Lifecycle::Published, false)]);
    assert_eq!(bed.log(), ["list", "create init", "put", "propose Proposed", "approve Published"]);
    let outcomes = bed.deliver(&[(&scaling(3), 2)], false).await;
    assert_eq!(receipts(&outcomes), [("2", Lifecycle::Published, false)]);
    assert_eq!(bed.log(), ["create edit", "put", "propose Proposed", "approve Published"]);
}

#[tokio::test(start_paused = true)]
async fn every_step_that_was_done_unheard_is_found_done() {
    let steps = ["create", "put", "propose", "approve"];
    for step in steps {
        for class in [Class::Unknown, Class::InProgress, Class::Stale, Class::Protocol] {
            let bed = Bed::new(|_| {});
            bed.strike(step, When::After, class);
            let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
            assert_eq!(receipts(&outcomes).len(), 1, "{step} {class:?}");
            assert_eq!(bed.published().len(), 1, "{step} {class:?}: {:?}", bed.log());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_that_was_not_done_is_done_again() {
    for step in ["create", "put", "propose", "approve"] {
        for class in [Class::Unknown, Class::InProgress, Class::Stale, Class::Missing] {
            let bed = Bed::new(|_| {});
            (0..3).for_each(|_| bed.strike(step, When::Before, class));
            let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
            assert_eq!(receipts(&outcomes).len(), 1, "{step} {class:?}");
            assert_eq!(bed.published().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_the_daemons_own_trouble_is_no_intents_fault_and_ends_at_once() {
    for (class, reason) in [
        (Class::Auth, Reason::SinkAuth),
        (Class::Throttled, Reason::SinkThrottled),
        (Class::Unavailable, Reason::SinkUnavailable),
        (Class::Configuration, Reason::SinkUnavailable),
        (Class::Migrated, Reason::SinkUnavailable),
        (Class::Tls, Reason::SinkUnavailable),
    ] {
        for step in ["list", "create", "put", "propose", "approve"] {
            let bed = Bed::new(|_| {});
            bed.strike(step, When::Before, class);
            let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
            let Outcome::Retry { reason: given, .. } = &outcomes[0] else { panic!("{step}: {outcomes:?}") };
            assert_eq!(*given, reason, "{step}");
            assert!(bed.sink.check().is_err());
            let outcomes = bed.deliver(&[(&scaling(5), 1)], true).await;
            assert_eq!(receipts(&outcomes).len(), 1, "{step} {class:?}: it resumes where it stood");
            assert_eq!((bed.published().len(), bed.sink.check()), (1, Ok(())));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_back_for_longer_is_waited_for_in_the_lane() {
    for class in [Class::Missing, Class::Phantom] {
        let bed = Bed::new(|_| {});
        (0..100).for_each(|_| bed.strike("approve", When::Before, class));
        let begun = tokio::time::Instant::now();
        let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
        assert!((15..18).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        let Outcome::Retry { message, after, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
        let parked = after.is_some() && message.ends_with("restart porch");
        assert_eq!(parked, class == Class::Phantom, "{message}");
        bed.server.0.lock().faults.clear();
        bed.deliver(&[(&scaling(5), 1)], true).await;
        let state = bed.server.0.lock();
        assert_eq!(state.revisions.len(), 1, "never a second workspace");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_what_was_published_is_adopted() {
    let mut bed = Bed::new(|_| {});
    bed.deliver(&[(&scaling(5), 1)], false).await;
    bed.restart();
    let outcomes = bed.deliver(&[(&scaling(5), 1)], true).await;
    assert_eq!(receipts(&outcomes), [("1", Lifecycle::Published, true)]);
    bed.restart();
    // A ledger that was lost knows of no doubt: the name on the server tells.
    let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
    assert_eq!(receipts(&outcomes), [("1", Lifecycle::Published, true)]);
    assert_eq!(bed.published().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_revision_of_somebody_else_under_our_name_is_left_alone() {
    let mut bed = Bed::new(|_| {});
    bed.deliver(&[(&scaling(5), 1)], false).await;
    bed.server.0.lock().revisions[0].0.annotations.insert(shelf::KEY.to_owned(), "f".repeat(64));
    bed.restart();
    let before = bed.published();
    let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
    let rejected = matches!(outcomes[0], Outcome::Rejected { reason: Reason::NameConflict, .. });
    assert!(rejected, "{outcomes:?}");
    assert_eq!(bed.published(), before);
}

#[tokio::test(start_paused = true)]
async fn a_draft_without_annotations_is_adopted_and_marked() {
    let mut bed = Bed::new(|_| {});
    bed.strike("put", When::Before, Class::Unavailable);
    bed.deliver(&[(&scaling(5), 1)], false).await;
    bed.server.0.lock().revisions[0].0.annotations.clear();
    bed.restart();
    let outcomes = bed.deliver(&[(&scaling(5), 1)], true).await;
    assert_eq!(receipts(&outcomes), [("1", Lifecycle::Published, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_open_proposal_is_taken_back_updated_and_proposed_again() {
    let bed = Bed::new(|settings| settings.approval = Approval::Propose);
    let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
    assert_eq!(receipts(&outcomes), [("", Lifecycle::Proposed, false)]);
    bed.log();
    let outcomes = bed.deliver(&[(&scaling(3), 2)], false).await;
    assert_eq!(receipts(&outcomes), [("", Lifecycle::Proposed, false)]);
    assert_eq!(bed.log(), ["propose Draft", "put", "propose Proposed"]);
    let state = bed.server.0.lock();
    assert_eq!(state.revisions.len(), 1);
    assert!(state.revisions[0].1["workload.yaml"].contains("replicas: 3"));
}

#[tokio::test(start_paused = true)]
async fn an_open_proposal_can_be_waited_for() {
    let bed = Bed::new(|settings| {
        settings.approval = Approval::Propose;
        settings.open_proposal = OpenProposal::Wait;
    });
    bed.deliver(&[(&scaling(5), 1)], false).await;
    let outcomes = bed.deliver(&[(&scaling(3), 2)], false).await;
    let waits = matches!(&outcomes[0], Outcome::Retry { reason: Reason::AwaitingApproval, .. });
    assert!(waits, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_approval_by_somebody_else_is_news_for_every_intent_of_the_revision() {
    let bed = Bed::new(|settings| settings.approval = Approval::Propose);
    bed.deliver(&[(&scaling(5), 1)], false).await;
    bed.deliver(&[(&scaling(3), 2)], false).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let tended = bed.sink.tend(true).await;
    assert!(tended.news.is_empty() && tended.next.is_some(), "{tended:?}");
    {
        let mut state = bed.server.0.lock();
        let (name, version) = (state.revisions[0].0.name.clone(), state.revisions[0].0.version.clone());
        state.move_to(&name, &version, Stage::Published).unwrap();
    }
    tokio::time::sleep(tended.next.unwrap()).await;
    let news = bed.sink.tend(true).await.news;
    let told: Vec<_> =
        news.iter().map(|news| (news.id.0, news.receipt.lifecycle, &*news.receipt.revision)).collect();
    assert_eq!(told, [(1, Lifecycle::Published, "1"), (2, Lifecycle::Published, "1")]);
}

#[tokio::test(start_paused = true)]
async fn many_targets_share_a_revision_and_the_bad_one_fails_alone() {
    for content in [Content::Workloads, Content::Component] {
        let bed = Bed::new(|settings| (settings.layout, settings.content) = (Layout::Site, content));
        bed.server.0.lock().poison = Some("nf-13");
        let intents: Vec<Intent> = (1..=40).map(|n| of(&format!("nf-{n}"), n)).collect();
        let group: Vec<_> = intents.iter().zip(1..).collect();
        let outcomes = bed.deliver(&group, false).await;
        for (at, outcome) in outcomes.iter().enumerate() {
            let rejected = matches!(outcome, Outcome::Rejected { reason: Reason::RenderFailed, .. });
            assert_eq!(rejected, at == 12, "{outcome:?}");
        }
        let published = bed.published();
        assert_eq!(published.len(), 1);
        let text: String = published[0].1.values().cloned().collect();
        assert!(text.contains("nf-40") && !text.contains("nf-13"));
        assert!(bed.log().len() < 20, "found by halving");
    }
}

#[tokio::test(start_paused = true)]
async fn a_draft_that_nothing_came_into_is_removed() {
    let bed = Bed::new(|_| {});
    bed.server.0.lock().poison = Some("odu-high-phy");
    let outcomes = bed.deliver(&[(&scaling(5), 1)], false).await;
    assert!(matches!(outcomes[0], Outcome::Rejected { reason: Reason::RenderFailed, .. }), "{outcomes:?}");
    assert!(bed.server.0.lock().revisions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn unmet_gates_hold_a_revision_back() {
    let bed = Bed::new(|_| {});
    bed.strike("propose", When::Before, Class::Unavailable);
    bed.deliver(&[(&scaling(5), 1)], false).await;
    bed.server.0.lock().revisions[0].0.unmet_gates = vec!["example.com/validated".to_owned()];
    let outcomes = bed.deliver(&[(&scaling(5), 1)], true).await;
    let Outcome::Retry { reason: Reason::AwaitingApproval, message, .. } = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    assert!(message.contains("example.com/validated"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn old_revisions_of_ours_are_removed_one_a_moment_and_others_stay() {
    let bed = Bed::new(|settings| settings.keep_revisions = 3);
    for n in 1..=8 {
        bed.deliver(&[(&scaling(n), u64::from(n))], false).await;
    }
    {
        let mut state = bed.server.0.lock();
        state.revisions[0].0.annotations.clear();
        let source = state.revisions[1].0.name.clone();
        state.sources.push(source);
    }
    let mut steps = 0;
    while let Some(next) = bed.sink.tend(true).await.next {
        tokio::time::sleep(next).await;
        steps += 1;
        assert!(steps < 20);
    }
    let left: Vec<i64> = bed.published().into_iter().map(|(number, _)| number).collect();
    assert_eq!(left, [1, 2, 6, 7, 8], "1 carries no mark of ours, 2 is the source of a clone");
}

#[test]
fn a_package_of_too_many_files_is_news_once() {
    let mut memory = super::shelf::Memory::default();
    let seen = [300, 301, 302].map(|files| memory.grew_large("site", files));
    assert_eq!(seen, [false, true, false]);
    assert!(memory.grew_large("other", 301));
}

#[tokio::test(start_paused = true)]
async fn two_thousand_intents_for_one_target_cost_the_last_one_what_the_eleventh_cost() {
    let bed = Bed::new(|_| {});
    let mut requests = Vec::new();
    for n in 1..=2_000 {
        let outcomes = bed.deliver(&[(&scaling(n % 97), u64::from(n))], false).await;
        assert!(matches!(outcomes[..], [Outcome::Delivered(_)]), "{outcomes:?}");
        while bed.sink.tend(true).await.next.is_some_and(|next| next.is_zero()) {}
        assert!(bed.published().len() <= 10, "what each later intent pays for");
        requests.push(bed.log().len());
    }
    // Four writes of its own; stage, proposal and deletion of the oldest; a listing once a minute.
    assert!(requests[20..].iter().all(|requests| *requests <= 8), "{:?}", &requests[..40]);
    assert_eq!(bed.published().last().unwrap().0, 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_rests_keeps_twice_as_many_at_most() {
    let bed = Bed::new(|settings| settings.keep_revisions = 3);
    let mut most = 0;
    for n in 1..=20 {
        bed.deliver(&[(&scaling(n), u64::from(n))], false).await;
        bed.sink.tend(false).await;
        most = most.max(bed.published().len());
    }
    assert_eq!(most, 6);
    let questions = bed.log().iter().filter(|what| *what == "list").count();
    assert!(questions <= 20, "what is known of the package stays known: {questions}");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_delete_pruning_waits_for_it_and_goes_on_by_itself() {
    let bed = Bed::new(|settings| settings.keep_revisions = 1);
    bed.deliver(&[(&scaling(1), 1)], false).await;
    bed.deliver(&[(&scaling(2), 2)], false).await;
    bed.strike("delete", When::Before, Class::Auth);
    let rest = bed.sink.tend(true).await.next.expect("it is not given up");
    assert!(rest > Duration::from_secs(500), "{rest:?}");
    tokio::time::sleep(rest).await;
    bed.sink.tend(true).await;
    let left: Vec<i64> = bed.published().into_iter().map(|(number, _)| number).collect();
    assert_eq!(left, [2], "granted meanwhile");
}

impl State {
    /// Somebody else publishes a revision that adds this file.
    fn publish_foreign(&mut self, number: i64, file: &str) {
        let (mut revision, mut texts) = self.revisions.last().cloned().unwrap();
        let name = format!("edge.{}.by-hand-{number}", revision.package);
        (revision.workspace, revision.name) = (format!("by-hand-{number}"), name);
        (revision.number, revision.version) = (number, self.next_version());
        revision.annotations.clear();
        texts.insert(file.to_owned(), "kept: true\n".to_owned());
        self.revisions.push((revision, texts));
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_published_a_minute_ago_is_kept_and_a_minute_costs_one_list() {
    let bed = Bed::new(|_| {});
    bed.deliver(&[(&scaling(1), 1)], false).await;
    bed.log();
    bed.server.0.lock().publish_foreign(2, "theirs.yaml");
    tokio::time::sleep(Duration::from_secs(60)).await;
    bed.deliver(&[(&scaling(3), 3)], false).await;
    let (number, texts) = bed.published().pop().unwrap();
    assert_eq!(number, 3);
    assert!(
        texts.contains_key("theirs.yaml") && texts["workload.yaml"].contains("replicas: 3"),
        "{texts:#?}"
    );
    assert_eq!(bed.log()[..2], ["list", "create edit"]);
    tokio::time::sleep(Duration::from_secs(59)).await;
    bed.deliver(&[(&scaling(4), 4)], false).await;
    assert_eq!(bed.log()[0], "create edit", "not listed again so soon");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_went_back_is_not_believed_against_our_own_writes() {
    let bed = Bed::new(|_| {});
    bed.deliver(&[(&scaling(1), 1)], false).await;
    bed.deliver(&[(&scaling(2), 2)], false).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    bed.server.0.lock().unlisted = 1;
    bed.log();
    let outcomes = bed.deliver(&[(&scaling(3), 3)], false).await;
    assert_eq!(receipts(&outcomes), [("3", Lifecycle::Published, false)]);
    assert_eq!(bed.log()[..2], ["list", "create edit"]);
    let state = bed.server.0.lock();
    let [.., second, third] = state.revisions.as_slice() else { panic!("three revisions") };
    assert_eq!(third.0.source.as_ref(), Some(&second.0.name), "the newest one is known");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_delete_nothing_is_lost_but_the_pruning() {
    let bed = Bed::new(|settings| settings.keep_revisions = 1);
    bed.deliver(&[(&scaling(1), 1)], false).await;
    bed.deliver(&[(&scaling(2), 2)], false).await;
    bed.strike("approve", When::Before, Class::Auth);
    let tended = bed.sink.tend(true).await;
    assert!(tended.next.is_some_and(|next| next > Duration::from_secs(500)), "{tended:?}");
    let outcomes = bed.deliver(&[(&scaling(3), 3)], false).await;
    assert_eq!(receipts(&outcomes), [("3", Lifecycle::Published, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_package_is_cloned_from_the_blueprint() {
    let bed = Bed::new(|settings| settings.blueprint = Some("catalog.odu.v2".to_owned()));
    let mut other = scaling(5);
    other.target.kind = TargetKind::Statefulset;
    bed.deliver(&[(&other, 1)], false).await;
    assert_eq!(bed.log()[..2], ["list", "create clone"]);
}
