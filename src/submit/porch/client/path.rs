//! Paths of the server, from names that may hold anything.

use super::super::wire;

const REPOSITORIES: &str = "/apis/config.porch.kpt.dev/v1alpha1";

/// One segment of a path or one value of a query, every byte that could mean something else encoded.
pub(in crate::submit) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The versions of the group.
pub(in crate::submit) fn group_path() -> String {
    "/apis/porch.kpt.dev".to_owned()
}

/// One repository.
pub(in crate::submit) fn repository_path(namespace: &str, name: &str) -> String {
    format!("{REPOSITORIES}/namespaces/{}/repositories/{}", encoded(namespace), encoded(name))
}

/// All package revisions of the namespace; where new ones are made.
pub(in crate::submit) fn revisions_path(namespace: &str) -> String {
    format!("/apis/{}/namespaces/{}/packagerevisions", wire::VERSION, encoded(namespace))
}

/// The revisions of one package. Without the repository the server would list those of every other too.
pub(super) fn list_path(namespace: &str, repository: &str, package: &str) -> String {
    let fields = encoded(&format!("spec.repository={repository},spec.packageName={package}"));
    format!("{}?fieldSelector={fields}", revisions_path(namespace))
}

/// One package revision.
pub(super) fn revision_path(namespace: &str, name: &str) -> String {
    format!("{}/{}", revisions_path(namespace), encoded(name))
}

/// The files of one package revision.
pub(super) fn files_path(namespace: &str, name: &str) -> String {
    let namespace = encoded(namespace);
    format!("/apis/{}/namespaces/{namespace}/packagerevisionresources/{}", wire::VERSION, encoded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(
            revision_path("a b", "../../x?y#z%"),
            "/apis/porch.kpt.dev/v1alpha1/namespaces/a%20b/packagerevisions/..%2F..%2Fx%3Fy%23z%25"
        );
        assert_eq!(
            list_path("default", "edge", "p"),
            "/apis/porch.kpt.dev/v1alpha1/namespaces/default/packagerevisions\
             ?fieldSelector=spec.repository%3Dedge%2Cspec.packageName%3Dp"
        );
    }
}
