//! The two files that are written once for a package and depend on its target alone.

use super::{LOCAL_CONFIG, MANAGED_BY, MANAGER};
use crate::intent::Target;

const DESCRIPTION: &str = "Written by conductor-loop, one revision of workload.yaml for every intent. \
     workload.yaml holds exactly what the intent owns (with a blueprint: the site's whole workload); \
     apply it by field ownership, that is with server-side apply.";

/// `Kptfile`: name and description, no functions.
pub fn kptfile(target: &Target) -> String {
    let (kind, name) = (target.kind.as_str(), &target.name);
    format!(
        "apiVersion: kpt.dev/v1\n\
         kind: Kptfile\n\
         metadata:\n\
         \x20 name: \"{kind}-{name}\"\n\
         \x20 labels:\n\
         \x20   {MANAGED_BY}: {MANAGER}\n\
         \x20 annotations:\n\
         \x20   {LOCAL_CONFIG}: \"true\"\n\
         info:\n\
         \x20 description: \"{DESCRIPTION}\"\n\
         pipeline: {{}}\n"
    )
}

/// `package-context.yaml`: the ConfigMap from which kpt functions learn the package's name.
pub fn context(target: &Target) -> String {
    let (kind, name) = (target.kind.as_str(), &target.name);
    format!(
        "apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n\
         \x20 name: kptfile.kpt.dev\n\
         \x20 annotations:\n\
         \x20   {LOCAL_CONFIG}: \"true\"\n\
         data:\n\
         \x20 name: \"{kind}-{name}\"\n"
    )
}
