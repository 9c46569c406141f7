//! Every fault that the fake server can make, as the client tells it.

use std::time::{Duration, Instant};

use conductor_loop::fake_porch::{Fault, NAMESPACE, Rule, Step};
use conductor_loop::submit::porch::api::{Api as _, Class, Stage};

use super::{Subject, begun};
use crate::support::{PATIENCE, Porch, REPOSITORY, porch_client, until};

#[tokio::test]
async fn faults_of_a_create_are_told_apart() {
    let text = |text: &str| Fault::Internal(text.to_owned());
    let header = |seconds: &str| seconds.to_owned();
    let brief = Duration::from_millis(5);
    for (fault, class) in [
        (Fault::CloseBefore, Class::Unknown),
        (Fault::CloseAfter, Class::Unknown),
        (Fault::ResetBefore, Class::Unknown),
        (Fault::ResetAfter, Class::Unknown),
        (Fault::CutBody, Class::Unknown),
        (Fault::Abandoned { done: true, work: brief }, Class::Unknown),
        (Fault::GatewayTimeout { done: true, after: brief, work: brief }, Class::Unknown),
        (text("something nobody has seen"), Class::Unknown),
        (
            text("failed to close package revision draft: non-fast-forward update: refs/heads/drafts/p/w"),
            Class::Phantom,
        ),
        (Fault::BadGateway, Class::Unknown),
        (Fault::Unreachable, Class::Unavailable),
        (Fault::Unavailable, Class::Unavailable),
        (Fault::NotReady, Class::Unavailable),
        (Fault::Overloaded { retry_after: header("5") }, Class::Throttled),
        (Fault::Throttled { retry_after: header("5") }, Class::Throttled),
        (Fault::Unauthorized, Class::Auth),
        (Fault::Forbidden, Class::Auth),
        (Fault::TooLarge, Class::Content),
        (Fault::InProgress, Class::InProgress),
        (Fault::Conflict, Class::InProgress),
        (Fault::Gone, Class::Migrated),
        (Fault::NoGroup, Class::Configuration),
        (Fault::NotJson, Class::Protocol),
        (Fault::WrongObject, Class::Protocol),
        (Fault::Huge, Class::Protocol),
        (Fault::Redirect("https://elsewhere.example/".to_owned()), Class::Redirected),
        (Fault::Status(451, "for legal reasons".to_owned()), Class::Protocol),
    ] {
        let porch = Porch::start();
        porch.fake.inject(Rule::once(Step::Create, fault.clone()));
        let api = porch.client();
        let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
        let told = api.create(&subject.draft('1', begun("scale"))).await.unwrap_err();
        assert_eq!(told.class, class, "{fault:?}: {told}");
        let waits = matches!(fault, Fault::Overloaded { .. } | Fault::Throttled { .. });
        assert_eq!(told.after, waits.then(|| Duration::from_secs(5)), "{fault:?}");
        let posts = porch.fake.log().iter().filter(|logged| logged.method == "POST").count();
        assert_eq!(posts, 1, "no request is sent twice, {fault:?}");
    }
}

#[tokio::test]
async fn a_cache_that_went_back_and_an_empty_list_are_told_as_they_are() {
    let porch = Porch::start();
    let api = porch.client();
    let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
    let made = api.create(&subject.draft('1', begun("scale"))).await.unwrap();
    for (fault, class) in [(Fault::NotFound, Class::Missing), (Fault::Stale, Class::Stale)] {
        porch.fake.inject(Rule::once(Step::Propose, fault));
        let told = api.propose(&made.name, &made.version, Stage::Proposed).await.unwrap_err();
        assert_eq!(told.class, class, "{told}");
    }
    porch.fake.inject(Rule::once(Step::Get, Fault::NotFound));
    assert_eq!(api.revision(&made.name).await, Ok(None));
    porch.fake.inject(Rule::once(Step::List, Fault::EmptyList));
    assert_eq!(api.revisions("nf-a").await, Ok(Vec::new()));
    assert_eq!(api.revisions("nf-a").await.map(|found| found.len()), Ok(1));
}

#[tokio::test]
async fn one_deadline_holds_for_waiting_and_for_dripping() {
    let porch = Porch::start();
    for fault in [Fault::Delay(PATIENCE), Fault::HangAfter, Fault::Drip] {
        porch.fake.clear_faults();
        porch.fake.inject(Rule::once(Step::List, fault.clone()));
        let mut connection = porch.by(porch.kubeconfig());
        connection.request_timeout = Duration::from_millis(1_500);
        let begun = Instant::now();
        let told = porch_client(connection).revisions("nf-a").await.unwrap_err();
        assert_eq!(told.class, Class::TimedOut, "{fault:?}: {told}");
        assert!((1_500..10_000).contains(&begun.elapsed().as_millis()), "{fault:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_repository_that_is_gone_broken_or_moved_stops_the_write_before_it_leaves() {
    for (change, class) in
        [("remove", Class::Configuration), ("break", Class::Unavailable), ("migrate", Class::Migrated)]
    {
        let porch = Porch::start();
        match change {
            "remove" => porch.fake.remove_repository(REPOSITORY, NAMESPACE),
            "break" => porch.fake.break_git("connection refused"),
            _ => porch.fake.migrate(REPOSITORY, NAMESPACE),
        }
        let api = porch.client();
        let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
        let told = api.create(&subject.draft('1', begun("scale"))).await.unwrap_err();
        assert_eq!(told.class, class, "{change}: {told}");
    }
}

#[tokio::test]
async fn a_repository_that_is_synced_can_be_used() {
    let porch = Porch::start();
    porch.fake.reconcile(REPOSITORY, NAMESPACE, true);
    let api = porch.client();
    assert_eq!(api.repository().await.unwrap().broken, None);
    let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
    api.create(&subject.draft('1', begun("scale"))).await.unwrap();
}

#[test]
fn a_server_that_comes_back_is_used_again_by_the_same_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let porch = Porch::start();
    let api = porch.client();
    assert_eq!(runtime.block_on(api.revisions("nf-a")), Ok(Vec::new()));
    porch.fake.stop();
    let class = until("the server is known to be down", || {
        let told = runtime.block_on(api.revisions("nf-a")).unwrap_err();
        (told.class == Class::Unavailable).then_some(told.class)
    });
    assert_eq!(class, Class::Unavailable);
    porch.fake.resume();
    until("the server is used again", || runtime.block_on(api.revisions("nf-a")).ok());
}
