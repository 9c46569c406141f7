//! The rights that the settings need, asked one by one, and the rules that would grant those that are missing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::report::Finding;
use super::words::{advice, unlinked};
use crate::config::Approval;
use crate::submit::rights::{APPROVE, DELETE, NETWORK_INTENT, PROPOSE, Role};
use crate::submit::survey::{Asked, Question, Survey};

/// One role and where it is needed.
pub(super) struct Need<'a> {
    role: Role,
    namespace: Option<&'a str>,
    /// What does not work without it.
    without: &'static str,
    /// Intents are delivered all the same.
    spare: bool,
}

/// One right, asked for.
type Answer<'a> = (&'a Need<'a>, Question<'a>, Asked<bool>);

/// What was answered.
pub(super) struct Told<'a> {
    answers: Vec<Answer<'a>>,
    /// The longest.
    pub(super) took: Duration,
}

pub(super) fn of_porch(approval: Approval, namespace: &str) -> Vec<Need<'_>> {
    let need = |role, without, spare| Need { role, namespace: Some(namespace), without, spare };
    let mut needs = vec![need(PROPOSE, "no intent is delivered", false)];
    if approval == Approval::Publish {
        needs.push(need(APPROVE, "nothing is published (sink.porch.approval)", false));
    }
    let without =
        "old revisions are not removed (sink.porch.keep_revisions), and each makes every intent slower";
    needs.push(need(DELETE, without, true));
    needs
}

/// In these namespaces; in all where none is named.
pub(super) fn of_intents<'a>(namespaces: &[&'a str]) -> Vec<Need<'a>> {
    let need = |namespace| Need {
        role: NETWORK_INTENT,
        namespace,
        without: "no intent is delivered there",
        spare: false,
    };
    match namespaces {
        [] => vec![need(None)],
        some => some.iter().map(|name| need(Some(*name))).collect(),
    }
}

/// Asks for every right, all at once.
pub(super) async fn ask<'a>(survey: &Survey, needs: &'a [Need<'a>]) -> Told<'a> {
    let questions = needs.iter().flat_map(|need| {
        need.role.rights.iter().flat_map(move |right| {
            right.verbs.iter().map(move |verb| {
                let (group, resource, namespace) = (right.group, right.resource, need.namespace);
                (need, Question { group, resource, verb, namespace })
            })
        })
    });
    let asked = questions.map(|(need, question)| async move { (need, question, survey.may(question).await) });
    let answers = futures_util::future::join_all(asked).await;
    let took = answers.iter().map(|(_, _, asked)| asked.took).max().unwrap_or_default();
    Told { answers, took }
}

/// A finding for each role that lacks something; one if none does.
pub(super) fn judge(needs: &[Need<'_>], told: &Told<'_>) -> Vec<Finding> {
    let refused = told.answers.iter().find_map(|(_, _, asked)| asked.answer.as_ref().err());
    if let Some(fault) = refused {
        let message = format!("cannot be asked for: {}", unlinked(&fault.message));
        return vec![Finding::warn("rights", message, advice(fault))];
    }
    let lacking: Vec<Finding> = needs.iter().filter_map(|need| lack(need, &told.answers)).collect();
    if !lacking.is_empty() {
        return lacking;
    }
    let places: BTreeSet<&str> =
        needs.iter().map(|need| need.namespace.unwrap_or("every namespace")).collect();
    let places = places.into_iter().collect::<Vec<_>>().join(", ");
    let roles: BTreeSet<&str> = needs.iter().map(|need| need.role.name).collect();
    let roles = roles.into_iter().collect::<Vec<_>>().join(", ");
    vec![Finding::ok("rights", format!("all {} of {roles} are granted in {places}", told.answers.len()))]
}

/// What is missing of one role, with the rule that would grant it.
fn lack(need: &Need<'_>, answers: &[Answer<'_>]) -> Option<Finding> {
    let missing = |(of, _, asked): &&Answer<'_>| std::ptr::eq(*of, need) && matches!(asked.answer, Ok(false));
    let missing: Vec<Question<'_>> =
        answers.iter().filter(missing).map(|(_, question, _)| *question).collect();
    if missing.is_empty() {
        return None;
    }
    let named: Vec<String> = missing.iter().map(|one| format!("{} {}", one.verb, one.resource)).collect();
    let place = need.namespace.map_or("every namespace".to_owned(), |name| format!("namespace {name}"));
    let message = format!("missing in {place}: {}: {}", named.join(", "), need.without);
    let advice = format!(
        "add to a role that is bound to this user in {place}:\n{}\nor bind the role of config/kubernetes/components/{}",
        rules(&missing).join("\n"),
        need.role.name,
    );
    Some(match need.spare {
        true => Finding::warn("rights", message, advice),
        false => Finding::fail("rights", message, advice),
    })
}

/// One rule a resource, as a role of the cluster writes it.
fn rules(missing: &[Question<'_>]) -> Vec<String> {
    let resources: BTreeSet<(&str, &str)> = missing.iter().map(|one| (one.group, one.resource)).collect();
    let rule = |(group, resource): (&str, &str)| {
        let verbs = missing.iter().filter(|one| (one.group, one.resource) == (group, resource));
        let verbs: Vec<String> = verbs.map(|one| format!("\"{}\"", one.verb)).collect();
        format!("- {{apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [{}]}}", verbs.join(", "))
    };
    resources.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Mark;
    use super::*;

    fn told<'a>(needs: &'a [Need<'a>], lacks: &[(&str, &str)]) -> Told<'a> {
        let each = needs.iter().flat_map(|need| {
            need.role
                .rights
                .iter()
                .flat_map(move |right| right.verbs.iter().map(move |verb| (need, right, *verb)))
        });
        let answers = each.map(|(need, right, verb)| {
            let (group, resource, namespace) = (right.group, right.resource, need.namespace);
            let granted = !lacks.contains(&(verb, resource));
            let asked = Asked { answer: Ok(granted), took: Duration::ZERO };
            (need, Question { group, resource, verb, namespace }, asked)
        });
        Told { answers: answers.collect(), took: Duration::ZERO }
    }

    #[test]
    fn what_is_missing_is_told_with_the_rule_that_grants_it() {
        let needs = of_porch(Approval::Publish, "ran");
        let judged = judge(&needs, &told(&needs, &[]));
        assert_eq!((judged.len(), judged[0].mark), (1, Mark::Ok));
        assert!(judged[0].message.starts_with("all 10 of approve, delete, propose"), "{judged:?}");
        let lacks = [
            ("create", "packagerevisions"),
            ("patch", "packagerevisions"),
            ("patch", "packagerevisionresources"),
        ];
        let [finding] = judge(&needs, &told(&needs, &lacks)).try_into().expect("one role lacks something");
        assert_eq!(finding.mark, Mark::Fail);
        assert!(
            finding.message.starts_with("missing in namespace ran: create packagerevisions, "),
            "{finding:?}"
        );
        let advice = finding.advice.unwrap();
        let rule = "- {apiGroups: [\"porch.kpt.dev\"], resources: [\"packagerevisions\"], verbs: [\"create\", \"patch\"]}";
        assert!(advice.contains(rule) && advice.ends_with("components/propose"), "{advice}");
    }

    #[test]
    fn what_only_tidies_is_no_failure() {
        let needs = of_porch(Approval::Propose, "default");
        let lacks = [("patch", "packagerevisions/approval"), ("delete", "packagerevisions")];
        let judged = judge(&needs, &told(&needs, &lacks));
        assert_eq!(judged.iter().map(|finding| finding.mark).collect::<Vec<_>>(), [Mark::Warn]);
        let needs = of_porch(Approval::Publish, "default");
        let marks = judge(&needs, &told(&needs, &lacks)).into_iter().map(|finding| finding.mark);
        assert_eq!(marks.collect::<Vec<_>>(), [Mark::Fail, Mark::Warn]);
    }

    #[test]
    fn intents_need_their_rights_where_they_may_go() {
        assert_eq!(of_intents(&[]).iter().map(|need| need.namespace).collect::<Vec<_>>(), [None]);
        let needs = of_intents(&["ran-a", "ran-b"]);
        let judged = judge(&needs, &told(&needs, &[("create", "networkintents")]));
        assert_eq!(judged.len(), 2, "{judged:?}");
    }
}
