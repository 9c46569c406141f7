//! The rights that the sinks need in a cluster: one table for the manifests, for messages and for whoever
//! asks the cluster (`kubectl auth can-i`) whether they were granted.

/// Requests on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// The resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// In alphabetical order.
    pub verbs: &'static [&'static str],
}

/// Rights that are granted together: one role, one file and one component in `config/kubernetes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The file's and component's name; the ClusterRole's behind `conductor-loop-`.
    pub name: &'static str,
    /// What it allows, and nothing else.
    pub rights: &'static [Right],
}

const fn right(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Right {
    Right { group, resource, verbs }
}

const PORCH: &str = "porch.kpt.dev";

/// Make package revisions and propose them.
pub const PROPOSE: Role = Role {
    name: "propose",
    rights: &[
        right(PORCH, "packagerevisions", &["create", "get", "list", "patch"]),
        right(PORCH, "packagerevisionresources", &["get", "patch"]),
        right("config.porch.kpt.dev", "repositories", &["get"]),
    ],
};

/// Publish them: `sink.porch.approval = "publish"`.
pub const APPROVE: Role =
    Role { name: "approve", rights: &[right(PORCH, "packagerevisions/approval", &["patch"])] };

/// Remove the daemon's own old ones: `sink.porch.keep_revisions`.
pub const DELETE: Role = Role {
    name: "delete",
    rights: &[
        right(PORCH, "packagerevisions/approval", &["patch"]),
        right(PORCH, "packagerevisions", &["delete"]),
    ],
};

/// Create NetworkIntent objects.
pub const NETWORK_INTENT: Role = Role {
    name: "network-intent",
    rights: &[right("intent.nephoran.com", "networkintents", &["create", "get"])],
};

/// Every role.
pub const ROLES: [Role; 4] = [APPROVE, DELETE, NETWORK_INTENT, PROPOSE];
