//! The Porch sink by itself over real sockets: what it asks of the server, request by request.

use std::sync::Arc;
use std::time::Duration;

use conductor_loop::config::{Approval, DedupScope, OpenProposal, PackageContent, PackageLayout};
use conductor_loop::fake_porch::FakePorch;
use conductor_loop::fate::{Id, Sha, SinkKind};
use conductor_loop::intent::{Intent, Parser, Rules};
use conductor_loop::submit::porch::{PorchSink, Settings, names};
use conductor_loop::submit::{Delivery, Outcome, Sink as _};

use super::porch::{Porch, REPOSITORY, client};
use super::scale;

/// An intent for deployment `target` in `ran-a`, as it was dropped.
#[derive(Debug, Clone)]
pub(crate) struct Dropped {
    name: String,
    sha: Sha,
    id: Id,
    intent: Intent,
}

impl Dropped {
    /// `id` makes its file name as well.
    pub(crate) fn new(id: u64, target: &str, replicas: u32) -> Dropped {
        let bytes = scale(target, replicas);
        let intent = Parser::new(Arc::new(Rules::default())).parse(&bytes).unwrap();
        Dropped { name: format!("intent-{id}.json"), sha: Sha::of(&bytes), id: Id(id), intent }
    }

    fn delivery(&self, doubtful: bool) -> Delivery<'_> {
        Delivery {
            id: self.id,
            sha: &self.sha,
            name: &self.name,
            generation: 0,
            attempt: 1,
            doubtful,
            file: None,
            intent: &self.intent,
        }
    }

    /// Its dedup key.
    pub(crate) fn key(&self) -> Sha {
        self.delivery(false).key(SinkKind::Porch, DedupScope::NameAndContent)
    }
}

/// What the tests of the sink start from: everything at once, one package for each target.
pub(crate) fn sink_settings() -> Settings {
    Settings {
        max_parallel: 1,
        repository: REPOSITORY.to_owned(),
        layout: PackageLayout::Target,
        site: "site".to_owned(),
        content: PackageContent::Workloads,
        blueprint: None,
        blueprints: None,
        approval: Approval::Publish,
        open_proposal: OpenProposal::Update,
        window: Duration::ZERO,
        keep_revisions: 10,
        scope: DedupScope::NameAndContent,
        patience: Duration::from_secs(10),
    }
}

/// A server and the sink on its client; answers are waited for a second.
pub(crate) struct Bench {
    pub(crate) porch: Porch,
    pub(crate) settings: Settings,
    pub(crate) sink: PorchSink,
}

impl Bench {
    pub(crate) fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let mut settings = sink_settings();
        change(&mut settings);
        let porch = Porch::start();
        let sink = sink(&porch, &settings);
        Bench { porch, settings, sink }
    }

    pub(crate) fn fake(&self) -> &FakePorch {
        &self.porch.fake
    }

    /// The sink of a new process, which knows nothing.
    pub(crate) fn restart(&mut self) {
        self.sink = sink(&self.porch, &self.settings);
    }

    pub(crate) async fn deliver(&self, dropped: &[&Dropped], doubtful: bool) -> Vec<Outcome> {
        let group: Vec<Delivery<'_>> = dropped.iter().map(|one| one.delivery(doubtful)).collect();
        self.sink.deliver(&group).await
    }

    /// The object's name of these intents, if one revision begins with them.
    pub(crate) fn name(&self, dropped: &[&Dropped]) -> String {
        let keys: Vec<Sha> = dropped.iter().map(|one| one.key()).collect();
        let Settings { layout, site, .. } = &self.settings;
        let package = names::package(*layout, site, &dropped[0].intent.target);
        names::object(REPOSITORY, &package, &names::workspace(&names::group_key(&keys)))
    }

    /// The requests since the last call, as `PATCH @/approval 200 applied`: `@` is the revision `name`, `@files` its
    /// files, `prove` the two reads that look at the server before a write. Another revision stands with its
    /// whole name.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let log = self.fake().log();
        self.fake().clear_log();
        let mut lines: Vec<String> = Vec::new();
        for logged in log {
            let short = logged.short();
            let line = short
                .replace(&format!("packagerevisions/{name}"), "@")
                .replace(&format!("packagerevisionresources/{name}"), "@files");
            let line = match line.as_str() {
                "GET /apis/porch.kpt.dev 200" => continue,
                "GET repositories/edge 200" => "prove".to_owned(),
                _ => line,
            };
            lines.push(if logged.applied { format!("{line} applied") } else { line });
        }
        lines
    }
}

fn sink(porch: &Porch, settings: &Settings) -> PorchSink {
    let mut connection = porch.by(porch.kubeconfig());
    connection.request_timeout = Duration::from_secs(1);
    PorchSink::new(Arc::new(client(connection)), settings.clone(), Box::new(|_| {}), 7)
}
