//! Forms of text that keys of the remote sinks take.

use super::super::kind::Form;

/// Where a server is. The credential is sent there, so it stands in no other key and in no log.
pub(super) const URL: Form = Form {
    what: "https://HOST[:PORT][/PATH], without user, query or fragment",
    check: |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            let authority = rest.split('/').next().unwrap_or_default();
            let plain = |byte: u8| byte.is_ascii_graphic() && !b"@?#\\\"<>`{}|^".contains(&byte);
            rest.bytes().all(plain) && is_authority(authority)
        })
    },
    pattern: "^https?://[^/@?#]+(/[^?#]*)?$",
};

/// The name of a package revision.
pub(super) const REVISION: Form = Form {
    what: "the name of a package revision, REPOSITORY.PACKAGE.WORKSPACE",
    check: |text| text.len() <= 253 && text.split('.').count() >= 3 && text.split('.').all(is_label),
    pattern: "^[a-z0-9-]+(\\.[a-z0-9-]+){2,}$",
};

/// A DNS-1123 label.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name or an address, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((inner, rest)) => (inner, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let good_port = port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok());
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    let bracketed = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    good_port && (bracketed || !text.starts_with('[') && named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_nothing_secret() {
        for good in ["https://porch:7007", "http://127.0.0.1", "https://[::1]:443/k8s/c-1", "https://a_b.c/"]
        {
            assert!((URL.check)(good), "{good}");
        }
        for bad in [
            "",
            "porch:7007",
            "ftp://porch",
            "https://",
            "https://user:pass@porch",
            "https://porch?x=1",
            "https://porch#x",
            "https://porch:99999",
            "https://porch:+1",
            "https://po rch",
            "https://[::1",
            "https://[porch]",
            "https://porch\n",
        ] {
            assert!(!(URL.check)(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_revision_has_a_repository_a_package_and_a_workspace() {
        assert!((REVISION.check)("catalog.odu-high-phy.v2"));
        for bad in ["", "catalog", "catalog.odu", "catalog..v2", "Catalog.odu.v2", "a.b.-c", "a.b.c."] {
            assert!(!(REVISION.check)(bad), "{bad:?}");
        }
    }
}
