//! Group `configuration`: which settings hold, where they come from, and every fault in them.

use std::collections::BTreeMap;

use super::report::Finding;
use crate::commands::checked::Checked;
use crate::config::keys::{KEYS, Key};
use crate::config::{Fault, Origin, Origins};

/// Faults and warnings as `config check` tells them, then the layers that set something.
pub(super) fn examine(checked: &Checked, faults: &[Fault]) -> Vec<Finding> {
    let Checked { loaded, schema } = checked;
    let mut findings: Vec<Finding> = faults.iter().map(fault).collect();
    if !faults.is_empty() {
        let advice = "correct the lines above; what follows holds for the settings without them";
        findings.push(Finding::warn(
            "faults",
            format!("{}: the daemon does not start so", faults.len()),
            advice,
        ));
    }
    if let (Some(path), Some(_)) = (&loaded.config.intake.schema, schema) {
        findings.push(Finding::ok("schema", path.display().to_string()));
    }
    let advice = "change the setting, or leave it if that is wanted";
    findings.extend(loaded.warnings.iter().map(|warning| Finding::warn("setting", warning, advice)));
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "none; defaults, environment and flags alone".to_owned(),
    };
    findings.push(Finding::ok("file", file));
    let layers = layers(&loaded.origins);
    if !layers.is_empty() {
        findings.push(Finding::ok("origins", layers.join("\n")));
    }
    findings
}

/// The words of a fault end in what to do.
fn fault(fault: &Fault) -> Finding {
    let text = fault.to_string();
    match text.rsplit_once("; ") {
        Some((what, advice)) => Finding::fail("setting", what, advice),
        None => Finding::fail("setting", text, "`conductor-loop config init` shows every key with its range"),
    }
}

/// Each layer but the defaults, with the keys that it sets.
fn layers(origins: &Origins) -> Vec<String> {
    let mut layers: BTreeMap<(u8, String), Vec<String>> = BTreeMap::new();
    for full in KEYS.iter().map(Key::full) {
        let layer = match origins.of(&full) {
            Origin::Default => continue,
            Origin::File { path, .. } => (0, path.display().to_string()),
            Origin::Environment(_) => (1, "environment".to_owned()),
            other => (2, other.to_string()),
        };
        layers.entry(layer).or_default().push(full);
    }
    layers.into_iter().map(|((_, layer), keys)| format!("{layer}: {}", keys.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;
    use crate::config::{Environment, Given, Layers};

    fn examined(given: &[(&str, &str)]) -> Vec<Finding> {
        let given = given.iter().map(|(key, value)| Given {
            key: (*key).to_owned(),
            value: value.into(),
            origin: Origin::Set,
        });
        let (checked, faults) = Checked::survey(&Layers {
            given: given.collect(),
            system: "/nonexistent/config.toml".into(),
            ..Layers::new(Environment::new())
        });
        examine(&checked, &faults)
    }

    #[test]
    fn sound_settings_are_told_by_their_origin() {
        let findings = examined(&[("watch.period", "5s"), ("log.level", "debug")]);
        assert!(findings.iter().all(|finding| finding.mark == Mark::Ok), "{findings:?}");
        assert_eq!(findings[1].message, "flag --set: watch.period, log.level");
    }

    #[test]
    fn every_fault_is_told_and_the_rest_still_holds() {
        let findings = examined(&[("watch.perod", "5s"), ("watch.period", "9h"), ("log.level", "debug")]);
        let failing: Vec<_> = findings.iter().filter(|finding| finding.mark == Mark::Fail).collect();
        assert_eq!(failing.len(), 2, "{findings:?}");
        assert_eq!(failing[0].advice.as_deref(), Some("did you mean watch.period?"));
        assert!(findings.iter().any(|finding| finding.message == "flag --set: log.level"), "{findings:?}");
    }
}
