//! Group `sink` where the sink is a cluster: whether an intent could be delivered there now, and at what cost.
//!
//! Questions alone, nothing is made: the server answers, serves what we speak, grants what we need, holds the
//! repository. What would only repeat that nobody answers is not asked. Limits: 5 s a question and 16 s in all,
//! since questions that do not depend on each other are asked at once; 8 namespaces of `policy.namespaces`.

mod rights;
mod words;

use std::path::Path;
use std::time::Duration;

use futures_util::future::{join_all, join3};
use tokio::runtime::{Builder, Runtime};

use super::case::Case;
use super::report::{Finding, many};
use super::subject::Rights;
use crate::fate::SinkKind;
use crate::submit::porch::api::{Class, Fault};
use crate::submit::porch::client::Whom;
use crate::submit::survey::{Asked, Door, Objects, Repository, Survey};
use words::{advice, took, unlinked};

/// A difference that a clock without discipline has soon, and that no certificate minds.
const SKEW: i64 = 5;

/// An intent that costs more than this is worth a word: twice what it costs in a small repository.
const DEAR: Duration = Duration::from_millis(1_500);

/// A question that takes longer says that the way is slow, four requests an intent.
const SLOW: Duration = Duration::from_secs(1);

/// Most namespaces that are asked about.
const NAMESPACES: usize = 8;

/// What is found, in the order of asking.
struct Look<'c> {
    case: &'c Case,
    findings: Vec<Finding>,
    /// The name of each question and the longest time of its answers.
    times: Vec<(&'static str, Duration)>,
}

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    // That no repository is named is a fault of the settings.
    let porch = &case.loaded.config.sink.porch;
    if case.loaded.config.sink.kind == SinkKind::Porch && porch.repository.is_none() {
        return Vec::new();
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => {
            return vec![Finding::warn("server", format!("cannot be asked: {err}"), "try again")];
        }
    };
    let mut look = Look { case, findings: Vec::new(), times: Vec::new() };
    runtime.block_on(look.all());
    leave(runtime);
    look.findings
}

/// A name that is still being looked up does not hold us up.
fn leave(runtime: Runtime) {
    runtime.shutdown_background();
}

impl Look<'_> {
    async fn all(&mut self) {
        let config = &self.case.loaded.config;
        let survey = match Survey::open(config, &self.case.around).await {
            Ok(survey) => survey,
            Err(fault) => return self.findings.push(self.no_credential(&fault)),
        };
        self.findings.push(credential(survey.whom(), survey.core()));
        self.findings.extend(self.unreadable(survey.whom()));
        let door = survey.door().await;
        self.note("version", door.took);
        let (finding, ahead) = server(&door, survey.core());
        self.findings.push(finding);
        if door.answer.is_err() {
            return;
        }
        match config.sink.kind {
            SinkKind::NetworkIntent => self.intents(&survey).await,
            _ => self.packages(&survey).await,
        }
        self.findings.extend(ahead.map(clock));
        self.findings.push(latency(&self.times));
    }

    fn note(&mut self, name: &'static str, took: Duration) {
        match self.times.iter_mut().find(|(known, _)| *known == name) {
            Some((_, longest)) => *longest = took.max(*longest),
            None => self.times.push((name, took)),
        }
    }

    fn no_credential(&self, fault: &Fault) -> Finding {
        let text = fault.message.as_str();
        let (what, advice) = text.rsplit_once("; ").unwrap_or((text, "correct the kubeconfig"));
        let denied = what.contains("ermission denied") && !self.case.subject.is_us();
        match denied {
            true => Finding::warn("kubeconfig", what, self.case.look_as()),
            false => Finding::fail("kubeconfig", what, advice),
        }
    }

    /// Files that we can read and the daemon cannot.
    fn unreadable(&self, whom: &Whom) -> Option<Finding> {
        let subject = &self.case.subject;
        let hidden = |path: &&Path| Rights::of(path).is_some_and(|rights| !subject.may(path, rights, 4));
        let hidden: Vec<String> = whom
            .files
            .iter()
            .map(|path| path.as_path())
            .filter(hidden)
            .map(|path| path.display().to_string())
            .collect();
        let first = hidden.first()?;
        Some(Finding::fail(
            "credential",
            format!("{} cannot be read by {}", hidden.join(", "), subject.who),
            format!("chown {} {first}; chmod u+r {first}", subject.uid),
        ))
    }

    /// The Porch sink: versions, rights and repository at once, then the list.
    async fn packages(&mut self, survey: &Survey) {
        let chosen = &self.case.loaded.config.sink.porch;
        let needs = rights::of_porch(chosen.approval, &chosen.namespace);
        let (versions, told, repository) =
            join3(survey.versions(), rights::ask(survey, &needs), survey.repository()).await;
        self.note("discovery", versions.took);
        self.findings.push(porch(&versions, survey.porch()));
        self.note("rights", told.took);
        self.findings.extend(rights::judge(&needs, &told));
        self.note("repository", repository.took);
        let name = chosen.repository.as_deref().unwrap_or_default();
        self.findings.push(repository_of(&repository, name, &chosen.namespace));
        let (Ok(_), Ok(_)) = (&versions.answer, &repository.answer) else { return };
        let objects = survey.objects().await;
        self.note("list", objects.took);
        self.findings.push(size(&objects));
    }

    /// The NetworkIntent sink: the kind, then rights and namespaces at once.
    async fn intents(&mut self, survey: &Survey) {
        let named = &self.case.loaded.config.policy.namespaces;
        let namespaces: Vec<&str> = named.iter().take(NAMESPACES).map(AsRef::as_ref).collect();
        let needs = rights::of_intents(&namespaces);
        let asked = namespaces.iter().map(|name| survey.namespace(name));
        let (kind, told, there) =
            join3(survey.has_intents(), rights::ask(survey, &needs), join_all(asked)).await;
        self.note("discovery", kind.took);
        self.findings.push(kind_of(&kind, survey.core()));
        self.note("rights", told.took);
        self.findings.extend(rights::judge(&needs, &told));
        there.iter().for_each(|one| self.note("namespaces", one.took));
        self.findings.push(places(&namespaces, &there, named.len()));
    }
}

fn credential(whom: &Whom, core: &str) -> Finding {
    let files: Vec<String> = whom.kubeconfigs.iter().map(|path| path.display().to_string()).collect();
    let from = match files.as_slice() {
        [] if whom.files.is_empty() => "none; the url of the settings alone".to_owned(),
        [] => "none; the pod's own account".to_owned(),
        files => files.join(", "),
    };
    let part = |what: &str, name: &Option<String>| match name {
        Some(name) => format!(", {what} {name}"),
        None => String::new(),
    };
    let (context, user) = (part("context", &whom.context), part("user", &whom.user));
    Finding::ok("kubeconfig", format!("{from}{context}{user} with {}, to {core}", whom.credential))
}

/// Whether somebody answers, and by how much its clock is ahead.
fn server(door: &Asked<Door>, place: &str) -> (Finding, Option<i64>) {
    match &door.answer {
        Ok(Door { version, ahead }) => {
            let version = version.as_ref().map_or("its version is not told".to_owned(), Clone::clone);
            (Finding::ok("server", format!("{place} answers: {version} ({})", took(door.took))), *ahead)
        }
        Err(fault) => (Finding::fail("server", unlinked(&fault.message), advice(fault)), None),
    }
}

fn porch(asked: &Asked<Vec<String>>, place: &str) -> Finding {
    let at = format!("at {place} ({})", took(asked.took));
    let missing = "install Porch in this cluster, choose the context of another, or set sink.porch.url";
    match &asked.answer {
        Ok(versions) if versions.iter().any(|version| version == "v1alpha1") => {
            Finding::ok("porch", format!("porch.kpt.dev {} {at}", versions.join(", ")))
        }
        Ok(versions) if !versions.is_empty() => Finding::fail(
            "porch",
            format!("porch.kpt.dev {} {at}, and no v1alpha1", versions.join(", ")),
            "serve v1alpha1 beside it: this version speaks no other",
        ),
        Ok(_) | Err(Fault { code: 404, .. }) => {
            Finding::fail("porch", format!("porch.kpt.dev is not served {at}"), missing)
        }
        Err(fault) => Finding::fail("porch", unlinked(&fault.message), advice(fault)),
    }
}

fn repository_of(asked: &Asked<Repository>, name: &str, namespace: &str) -> Finding {
    let about = format!("{name} in namespace {namespace}");
    let told = match &asked.answer {
        Ok(told) => told,
        Err(fault) if fault.code == 404 => {
            let advice = "register it (kind Repository), or correct sink.porch.repository and namespace";
            return Finding::fail("repository", format!("there is no {about}"), advice);
        }
        Err(fault) if fault.class == Class::Auth => {
            return Finding::warn("repository", unlinked(&fault.message), "see the rights above");
        }
        Err(fault) => return Finding::fail("repository", unlinked(&fault.message), advice(fault)),
    };
    let Repository { git, branch, unready, broken } = told;
    let place = format!("{} branch {branch}", unlinked(git));
    match unready {
        None => Finding::ok("repository", format!("{about} is ready: {place} ({})", took(asked.took))),
        Some(why) if *broken => Finding::fail(
            "repository",
            format!("{about} is not ready: {}", unlinked(why)),
            format!("mend its git URL, secret or branch ({place}); intents wait meanwhile"),
        ),
        Some(why) => Finding::warn(
            "repository",
            format!("{about} does not say that it is ready: {}", unlinked(why)),
            "wait for its first sync; if it does not end, look into the log of Porch",
        ),
    }
}

fn size(asked: &Asked<Objects>) -> Finding {
    let reduce = "keep few: a repository for the daemon alone, package = \"site\" with content = \"component\", a \
                  smaller sink.porch.keep_revisions";
    let objects = match &asked.answer {
        Ok(objects) => *objects,
        Err(fault) if fault.class == Class::TimedOut => {
            let found = Objects { all: 500, ..Objects::default() };
            let message = format!(
                "not counted within {}: some {} objects or more, with which an intent costs {} or more",
                took(asked.took),
                found.all,
                took(found.cost()),
            );
            return Finding::warn("objects", message, reduce);
        }
        Err(fault) => return Finding::warn("objects", unlinked(&fault.message), advice(fault)),
    };
    let Objects { all, own, foreign, deepest } = objects;
    let counted = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let message = format!(
        "{} in the repository: {} of this daemon or its like, {foreign} of others, at most {deepest} of one package; \
         an intent costs the server about {}",
        many(counted(all), "object"),
        many(counted(own), "revision"),
        took(objects.cost()),
    );
    match objects.cost() > DEAR {
        true => Finding::warn("objects", message, reduce),
        false => Finding::ok("objects", message),
    }
}

fn kind_of(asked: &Asked<bool>, place: &str) -> Finding {
    match &asked.answer {
        Ok(true) => {
            let message =
                format!("intent.nephoran.com/v1alpha1 NetworkIntent at {place} ({})", took(asked.took));
            Finding::ok("kind", message)
        }
        Ok(false) => Finding::fail(
            "kind",
            format!("{place} has no NetworkIntent of intent.nephoran.com/v1alpha1"),
            "kubectl apply -f config/kubernetes/base/networkintents.yaml",
        ),
        Err(fault) => Finding::fail("kind", unlinked(&fault.message), advice(fault)),
    }
}

/// The namespaces that intents may name, as far as the settings tell them.
fn places(names: &[&str], asked: &[Asked<bool>], all: usize) -> Finding {
    if names.is_empty() {
        let message = "that of each intent; policy.namespaces allows all, so none was looked for";
        return Finding::ok("namespaces", message);
    }
    let of = |wanted: fn(&Result<bool, Fault>) -> bool| -> Vec<&str> {
        let found = names.iter().zip(asked).filter(|(_, asked)| wanted(&asked.answer));
        found.map(|(name, _)| *name).collect()
    };
    let (missing, unknown) = (of(|answer| matches!(answer, Ok(false))), of(|answer| answer.is_err()));
    let rest = all - names.len();
    let more = if rest == 0 { String::new() } else { format!(", {rest} more not looked for") };
    if !missing.is_empty() {
        let commands: Vec<String> =
            missing.iter().map(|name| format!("kubectl create namespace {name}")).collect();
        let message = format!(
            "{} of policy.namespaces missing: intents for them wait 10 min{more}",
            missing.join(", ")
        );
        return Finding::fail("namespaces", message, commands.join("\n"));
    }
    match unknown.is_empty() {
        true => Finding::ok("namespaces", format!("{} are there{more}", names.join(", "))),
        // The daemon needs no right to look at namespaces, so this is as it should be.
        false => Finding::ok(
            "namespaces",
            format!("{}: not ours to look at, so unknown{more}", unknown.join(", ")),
        ),
    }
}

fn clock(ahead: i64) -> Finding {
    let seconds = super::report::span(ahead.unsigned_abs());
    match ahead.abs() > SKEW {
        true => Finding::warn(
            "server clock",
            format!("{seconds} {} ours", if ahead > 0 { "ahead of" } else { "behind" }),
            "set the clock that is wrong: certificates and tokens are judged by it, and so is valid_until",
        ),
        false => Finding::ok("server clock", "as ours, within a few seconds"),
    }
}

fn latency(times: &[(&'static str, Duration)]) -> Finding {
    let told: Vec<String> = times.iter().map(|(name, time)| format!("{name} {}", took(*time))).collect();
    let told = told.join(", ");
    // The list is slow where there is much to list, which has been told.
    match times.iter().any(|(name, time)| *name != "list" && *time > SLOW) {
        true => Finding::warn(
            "latency",
            told,
            "the way or the server is slow: every intent takes up to four requests, one after the other",
        ),
        false => Finding::ok("latency", told),
    }
}
