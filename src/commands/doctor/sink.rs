//! Group `sink`: whether the configured sink could take an intent now. One function a kind of sink.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::case::Case;
use super::cluster;
use super::proofs::Hidden;
use super::report::Finding;
use super::subject::{Rights, Subject};
use crate::config::units::show_duration;
use crate::config::{ExecMode, OnUncertain};
use crate::fate::SinkKind;
use crate::intent::{Target, TargetKind};
use crate::ledger::{Reader, Row};
use crate::package::Blueprints;
use crate::submit::exec::{Runner, find};

/// What a run may take beside the time of the command.
const QUICK: Duration = Duration::from_secs(3);

/// Most blueprints that are tried.
const MOST: usize = 1_000;

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    match case.loaded.config.sink.kind {
        SinkKind::Folder => folder(case),
        SinkKind::Exec => exec(case),
        SinkKind::Porch | SinkKind::NetworkIntent => cluster::examine(case),
    }
}

/// The out directory takes a file, and every blueprint serves.
fn folder(case: &Case) -> Vec<Finding> {
    let mut findings: Vec<Finding> = writable(&case.out, &case.subject).into_iter().collect();
    if let Some(dir) = &case.loaded.config.package.blueprints {
        findings.push(blueprints(dir));
    }
    findings
}

/// The command is there and the daemon may run it. Nothing is run: nobody knows what that would do.
fn exec(case: &Case) -> Vec<Finding> {
    let chosen = &case.loaded.config.sink.exec;
    // That there is none is a fault of the settings.
    let Some(command) = &chosen.command else { return Vec::new() };
    let may_run = |path: &Path| Rights::of(path).is_some_and(|rights| case.subject.may(path, rights, 1));
    let runner = Runner { uid: case.subject.uid, may_run: &may_run };
    let path = match find(command, case.search.as_deref(), runner) {
        Ok(path) => path,
        Err(why) => {
            let (what, advice) = why.rsplit_once("; ").unwrap_or((&why, "set sink.exec.command"));
            return vec![Finding::fail("exec", what, advice)];
        }
    };
    let structured = if chosen.mode == ExecMode::Structured { " -structured" } else { "" };
    let uncertain = match chosen.on_uncertain {
        OnUncertain::Retry => "run again, its delivery marked as a possible duplicate",
        OnUncertain::Hold => "held for `requeue`",
    };
    let told = Finding::ok(
        "exec",
        format!(
            "{} is run with -intent FILE -out {}{structured}, as {}; a run may take {}, {} of them are tried, \
             one with an uncertain end is {uncertain}",
            path.display(),
            case.out.display(),
            case.subject.who,
            show_duration(chosen.timeout),
            chosen.attempts,
        ),
    );
    let held = (chosen.on_uncertain == OnUncertain::Hold).then(|| held(case, chosen.timeout)).flatten();
    std::iter::once(told).chain(held).collect()
}

/// Intents that wait for the operator. Those accepted within the time of a run may be at the command just now.
fn held(case: &Case, timeout: Duration) -> Option<Finding> {
    // The group ledger says it if there is none to be read.
    let rows = Reader::open(&case.state).and_then(|reader| reader.in_doubt()).ok()?;
    let old = |row: &&Row| row.accepted_at.after(timeout + QUICK) < case.now;
    let rows: Vec<&Row> = rows.iter().filter(old).collect();
    let oldest = rows.first()?.id;
    Some(Finding::warn(
        "held",
        format!(
            "{}, since the command may have done its work without telling, the oldest {oldest}",
            match rows.len() {
                1 => "1 intent is held".to_owned(),
                count => format!("{count} intents are held"),
            },
        ),
        format!("look whether it had its effect; to run it again: conductor-loop requeue {oldest} --yes"),
    ))
}

/// Tried by making and removing a hidden directory. What we may do as another user than the daemon proves
/// that there is room alone; its rights are reckoned.
fn writable(out: &Path, subject: &Subject) -> Option<Finding> {
    let advice = "give the daemon write rights and room there; intents wait meanwhile and are tried again";
    let refused =
        |why: &str| Finding::fail("folder", format!("{} takes no package: {why}", out.display()), advice);
    let mine = subject.is_us();
    match Hidden::make(out).map(drop) {
        Ok(()) if mine => Some(Finding::ok("folder", format!("{} takes packages", out.display()))),
        Ok(()) if Rights::of(out).is_some_and(|rights| subject.may(out, rights, 3)) => Some(Finding::ok(
            "folder",
            format!("{} takes packages, by the rights of {}", out.display(), subject.who),
        )),
        Ok(()) => Some(refused(&format!("no rights for {}", subject.who))),
        // The group folders has told it.
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        Err(err) if !mine && err.kind() == io::ErrorKind::PermissionDenied => None,
        Err(err) => Some(refused(&err.to_string())),
    }
}

fn blueprints(dir: &Path) -> Finding {
    let mut known = Blueprints::new(dir.to_owned());
    if let Err(fault) = known.check() {
        return Finding::fail("blueprints", fault.to_string(), "intents wait until the directory is there");
    }
    let files = files(dir);
    let mut unfit = Vec::new();
    for (path, target) in files.iter().take(MOST) {
        match known.find(target) {
            Ok(Some(_)) => {}
            Ok(None) => unfit.push(format!("{} is gone", path.display())),
            Err(fault) => unfit.push(fault.to_string()),
        }
    }
    if unfit.is_empty() {
        return Finding::ok("blueprints", format!("{} in {}, all of them serve", files.len(), dir.display()));
    }
    Finding::fail(
        "blueprints",
        unfit.join("\n"),
        "correct them; intents for their targets are refused (render-failed)",
    )
}

/// Every blueprint below `dir` with the target that it is for.
fn files(dir: &Path) -> Vec<(PathBuf, Target)> {
    let listed = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut found = Vec::new();
    for path in listed(dir) {
        if !path.is_dir() {
            let namespace = own_namespace(&path);
            found.extend(target(&path, &namespace).map(|target| (path, target)));
        } else if let Some(namespace) = path.file_name().and_then(|name| name.to_str()) {
            let inside = listed(&path).into_iter();
            found.extend(inside.filter_map(|path| target(&path, namespace).map(|target| (path, target))));
        }
    }
    found
}

/// `deployment-odu.yaml` is for the deployment `odu`.
fn target(path: &Path, namespace: &str) -> Option<Target> {
    let stem = std::str::from_utf8(path.file_name()?.as_bytes().strip_suffix(b".yaml")?).ok()?;
    let (kind, name) = stem.split_once('-')?;
    Some(Target { namespace: namespace.into(), kind: TargetKind::from_word(kind)?, name: name.into() })
}

/// A blueprint outside a namespace's directory serves the namespace that it names, or any.
fn own_namespace(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let document: Option<Value> = serde_saphyr::from_str(&text).ok();
    let named = document.as_ref().and_then(|document| document.pointer("/metadata/namespace")?.as_str());
    named.unwrap_or("default").to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    const GOOD: &str =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: odu\nspec:\n  replicas: 1\n";

    #[test]
    fn every_blueprint_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("deployment-odu.yaml"), GOOD).unwrap();
        fs::create_dir(dir.path().join("ran-a")).unwrap();
        fs::write(dir.path().join("ran-a/deployment-odu.yaml"), GOOD).unwrap();
        fs::write(dir.path().join("README"), "no blueprint").unwrap();
        let told = blueprints(dir.path());
        assert!(told.mark == Mark::Ok && told.message.starts_with("2 in"), "{told:?}");
        fs::write(dir.path().join("ran-a/deployment-cu.yaml"), GOOD).unwrap();
        let told = blueprints(dir.path());
        assert!(told.mark == Mark::Fail && told.message.contains("deployment-cu.yaml"), "{told:?}");
        assert_eq!(blueprints(&dir.path().join("none")).mark, Mark::Fail);
    }

    #[test]
    fn a_blueprint_that_names_its_namespace_serves_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let named = GOOD.replace("  name: odu\n", "  name: odu\n  namespace: ran-b\n");
        fs::write(dir.path().join("deployment-odu.yaml"), named).unwrap();
        assert_eq!(blueprints(dir.path()).mark, Mark::Ok);
    }

    #[test]
    fn the_out_directory_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let ourselves = Subject::find(None, None);
        assert_eq!(writable(dir.path(), &ourselves).map(|finding| finding.mark), Some(Mark::Ok));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(writable(&dir.path().join("none"), &ourselves).is_none());
        let stranger = Subject { uid: ourselves.uid + 12_345, gids: Vec::new(), caps: Some(0), ..ourselves };
        assert_eq!(writable(dir.path(), &stranger).map(|finding| finding.mark), Some(Mark::Fail));
    }
}
