//! Names on the server: packages, workspaces, objects (`contract.md` 4, `porch.md` 3).
//!
//! A package is a DNS-1123 label of at most 63 characters without `/` (with one the server replaces a
//! draft of the same name without a word). An object's name is made by the server and can be told in
//! advance: `<repository>.<package>.<workspace>`, at most 253 characters; no part holds a dot.

use sha2::{Digest as _, Sha256};

pub use crate::config::PackageLayout as Layout;
use crate::fate::Sha;
use crate::intent::Target;

/// Characters of `<namespace>-<name>` that stand before the digest.
const HEAD: usize = 54;
/// What every workspace of ours begins with.
const PREFIX: &str = "i-";
/// Hex digits of the key in a workspace.
const DIGITS: usize = 40;

/// The package of `target`; `site` is `sink.porch.site`.
pub fn package(layout: Layout, site: &str, target: &Target) -> String {
    match layout {
        Layout::Site => site.to_owned(),
        Layout::Namespace => target.namespace.to_string(),
        Layout::Target => {
            let whole = format!("{}-{}", target.namespace, target.name);
            let head = whole.get(..HEAD).unwrap_or(&whole);
            let identity = format!("{}/{}/{}", target.namespace, target.kind.as_str(), target.name);
            format!("{head}-{:.8}", Sha::of(identity.as_bytes()).to_string())
        }
    }
}

/// The workspace of one intent's key, or of a group's.
pub fn workspace(key: &Sha) -> String {
    let digits = key.to_string();
    format!("{PREFIX}{}", &digits[..DIGITS])
}

/// The key of a group: its only one, or SHA-256 over the sorted keys.
pub fn group_key(keys: &[Sha]) -> Sha {
    if let [only] = keys {
        return *only;
    }
    let mut sorted: Vec<&[u8; 32]> = keys.iter().map(|Sha(bytes)| bytes).collect();
    sorted.sort_unstable();
    let digest = sorted.into_iter().fold(Sha256::new(), |digest, key| digest.chain_update(key));
    Sha(digest.finalize().into())
}

/// True for a workspace that a daemon of this kind made, as far as its name tells.
pub fn is_ours(workspace: &str) -> bool {
    let digits = workspace.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of the server's object.
pub fn object(repository: &str, package: &str, workspace: &str) -> String {
    format!("{repository}.{package}.{workspace}")
}

/// Repository, package and workspace of an object's name.
pub fn parts(object: &str) -> Option<(&str, &str, &str)> {
    let mut parts = object.split('.');
    let named = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(named)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::intent::TargetKind;

    fn target(namespace: &str, kind: TargetKind, name: &str) -> Target {
        Target { namespace: namespace.into(), kind, name: name.into() }
    }

    fn is_label(text: &str) -> bool {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }

    #[test]
    fn layouts_name_their_packages() {
        let odu = target("oran-odu", TargetKind::Deployment, "odu-high-phy");
        let own = package(Layout::Target, "edge", &odu);
        let digest = Sha::of(b"oran-odu/deployment/odu-high-phy").to_string();
        assert_eq!(own, format!("oran-odu-odu-high-phy-{}", &digest[..8]));
        assert_eq!(package(Layout::Namespace, "edge", &odu), "oran-odu");
        assert_eq!(package(Layout::Site, "edge", &odu), "edge");
    }

    #[test]
    fn joined_names_that_look_alike_are_different_packages() {
        let alike = [
            target("a-b", TargetKind::Deployment, "c"),
            target("a", TargetKind::Deployment, "b-c"),
            target("a", TargetKind::Statefulset, "b-c"),
        ];
        let names: HashSet<_> = alike.iter().map(|target| package(Layout::Target, "", target)).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    #[test]
    fn a_workspace_is_known_as_ours_and_others_are_not() {
        let ours = workspace(&Sha([0xab; 32]));
        assert_eq!(ours, format!("i-{}", "ab".repeat(20)));
        assert!(is_ours(&ours));
        for other in ["main", "v1", "i-", "i-xyz", &ours[..41], &format!("{ours}0")] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_groups_key_does_not_depend_on_the_order_and_one_intent_is_its_own_group() {
        let (a, b) = (Sha([1; 32]), Sha([2; 32]));
        assert_eq!(group_key(&[a, b]), group_key(&[b, a]));
        assert_ne!(group_key(&[a, b]), group_key(&[a]));
        assert_eq!(group_key(&[a]), a);
    }

    proptest! {
        #[test]
        fn every_package_is_a_label_and_every_object_falls_apart_again(
            namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
            key in any::<[u8; 32]>(),
        ) {
            let target = target(&namespace, TargetKind::Daemonset, &name);
            let package = package(Layout::Target, "edge", &target);
            prop_assert!(is_label(&package), "{package}");
            let workspace = workspace(&Sha(key));
            let object = object("repo", &package, &workspace);
            prop_assert!(object.len() <= 253);
            prop_assert_eq!(parts(&object), Some(("repo", &*package, &*workspace)));
        }
    }
}
