//! What the running daemon says of itself on its pages.

use serde_json::Value;

use crate::commands::status::get;

/// The daemon's answers, asked once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pages {
    /// Where it answered.
    pub(super) address: String,
    /// `/livez?verbose`: whether it passed, and its lines.
    pub(super) live: (bool, String),
    /// `/readyz?verbose`, likewise.
    pub(super) ready: (bool, String),
    /// The section `loop` of `/stats`.
    pub(super) state: Value,
    /// `/metrics`.
    pub(super) metrics: String,
}

/// One failing check of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) check: String,
    pub(super) reason: String,
}

impl Pages {
    /// Asks the daemon at `address`; `None` if nobody answers there, or somebody else.
    pub(super) fn ask(address: &str) -> Option<Pages> {
        let page = |path| parts(&get(address, path).ok()?);
        let (_, stats) = page("/stats")?;
        let mut stats: Value = serde_json::from_str(&stats).ok()?;
        Some(Pages {
            address: address.to_owned(),
            live: page("/livez?verbose")?,
            ready: page("/readyz?verbose")?,
            state: stats.get_mut("loop").map(Value::take)?,
            metrics: page("/metrics")?.1,
        })
    }

    /// The daemon's process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.state["pid"].as_u64()?.try_into().ok()
    }

    /// The proofs of completion that it has found to work.
    pub(super) fn proofs(&self) -> Option<Vec<&str>> {
        self.state["watch"]["proofs"]
            .as_array()
            .map(|proofs| proofs.iter().filter_map(Value::as_str).collect())
    }

    /// What is wrong by the daemon's own account, each once.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = failing(&self.live.1);
        for trouble in failing(&self.ready.1) {
            if troubles.iter().all(|known| known.check != trouble.check) {
                troubles.push(trouble);
            }
        }
        troubles
    }

    /// Faults of the surroundings that were counted since its start.
    pub(super) fn faults(&self) -> Vec<(String, u64)> {
        let lines = self.metrics.lines();
        let counts = lines.filter_map(|line| line.strip_prefix("conductor_loop_faults_total{fault=\""));
        let counts = counts.filter_map(|rest| rest.split_once("\"} "));
        let counts =
            counts.filter_map(|(fault, count)| Some((fault.to_owned(), count.parse::<f64>().ok()? as u64)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Whether the answer is 200, and its body.
fn parts(answer: &str) -> Option<(bool, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?;
    Some((code == "200", body.to_owned()))
}

/// The lines `[-]disk failed: disk-full: …`.
fn failing(page: &str) -> Vec<Trouble> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("[-]"));
    let lines = lines.filter_map(|line| line.split_once(" failed: "));
    lines
        .map(|(check, reason)| Trouble {
            check: check.to_owned(),
            reason: reason.trim_end_matches(" (informational)").to_owned(),
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The pages of a daemon that is well.
    pub(in super::super) fn well() -> Pages {
        Pages {
            address: "127.0.0.1:8080".to_owned(),
            live: (true, "[+]watch ok\nlivez check passed\n".to_owned()),
            ready: (true, "[+]startup ok\nreadyz check passed\n".to_owned()),
            state: serde_json::json!({ "pid": 7, "version": env!("CARGO_PKG_VERSION"), "uptime_seconds": 90 }),
            metrics: "conductor_loop_faults_total{fault=\"disk-full\"} 0\n".to_owned(),
        }
    }

    #[test]
    fn what_fails_is_told_once_with_its_reason() {
        assert!(well().troubles().is_empty() && well().faults().is_empty());
        let failing = "[-]watch failed: fs-stalled\n[+]ledger ok\n[-]sink failed: no room (informational)\n\
                       readyz check failed\n";
        let pages = Pages {
            live: (false, "[-]watch failed: no sign of life for 11 s\n".to_owned()),
            ready: (false, failing.to_owned()),
            ..well()
        };
        let troubles = pages.troubles();
        let told: Vec<_> = troubles.iter().map(|it| (it.check.as_str(), it.reason.as_str())).collect();
        assert_eq!(told, [("watch", "no sign of life for 11 s"), ("sink", "no room")]);
    }

    #[test]
    fn faults_are_read_from_the_metrics() {
        let metrics = "conductor_loop_faults_total{fault=\"disk-full\"} 2\n\
                       conductor_loop_faults_total{fault=\"clock-jump\"} 0\n";
        let pages = Pages { metrics: metrics.to_owned(), ..well() };
        assert_eq!(pages.faults(), [("disk-full".to_owned(), 2)]);
    }

    #[test]
    fn an_answer_has_a_code_and_a_body() {
        assert_eq!(
            parts("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno\n"),
            Some((false, "no\n".into()))
        );
        assert_eq!(parts("junk"), None);
    }
}
