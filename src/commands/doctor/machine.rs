//! Group `machine`: kernel, service manager and the limits on the process.

use std::fs;
use std::path::{Path, PathBuf};

use super::case::Case;
use super::report::{Finding, size};

/// Descriptors that the daemon needs at its most (`reliability.md` 10).
const DESCRIPTORS: u64 = 256;

/// Memory that a flood of a million files takes, and what a start needs beside it.
const MEMORY: u64 = 96 << 20;

/// The first kernel with `openat2`, whose refusal of links and mounts the safe open relies on.
const KERNEL: (u32, u32) = (5, 6);

pub(super) fn examine(case: &Case) -> Vec<Finding> {
    let which = case.subject.pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let read = |name: &str| fs::read_to_string(format!("/proc/{which}/{name}")).unwrap_or_default();
    let cgroups = read("cgroup");
    let mut findings = vec![kernel(&rustix::system::uname().release().to_string_lossy())];
    findings.extend(landlock(fs::read_to_string("/sys/kernel/security/lsm").ok().as_deref()));
    if case.subject.pid.is_some() {
        findings.push(manager(&cgroups));
    }
    findings.extend(descriptors(&read("limits"), case.subject.pid.is_some()));
    let limits = memory_files(&cgroups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    findings.extend(memory(limits.filter_map(|text| text.trim().parse::<u64>().ok()).min()));
    findings
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    match version {
        Some(version) if version < KERNEL => Finding::warn(
            "kernel",
            format!(
                "Linux {release}: no openat2 before {}.{}, mounts inside the folder are not told apart",
                KERNEL.0, KERNEL.1
            ),
            "use a newer kernel where producers may mount file systems",
        ),
        _ => Finding::ok("kernel", format!("Linux {release}")),
    }
}

/// Whether the kernel could confine a process that asks for it; nothing where that cannot be seen.
fn landlock(modules: Option<&str>) -> Option<Finding> {
    let there = modules?.trim().split(',').any(|module| module == "landlock");
    Some(Finding::ok("landlock", if there { "offered by the kernel" } else { "not offered by the kernel" }))
}

/// The unit that the process belongs to, from its control groups.
fn manager(cgroups: &str) -> Finding {
    let unit = cgroups.lines().find_map(|line| line.rsplit('/').find(|part| part.ends_with(".service")));
    match unit {
        Some(unit) => Finding::ok("manager", format!("the daemon runs as {unit}")),
        None => Finding::ok("manager", "the daemon runs outside any unit: nobody starts it again"),
    }
}

/// The line `Max open files 1024 524288 files`.
fn descriptors(limits: &str, up: bool) -> Option<Finding> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    let whose = if up { "the daemon" } else { "a process started here" };
    let told = format!("{whose} may have {soft} files open");
    Some(match soft.parse::<u64>() {
        Ok(soft) if soft < DESCRIPTORS => Finding::warn(
            "descriptors",
            format!("{told}; it needs up to {DESCRIPTORS}"),
            "LimitNOFILE=1024 in the unit, or ulimit -n 1024",
        ),
        _ => Finding::ok("descriptors", told),
    })
}

/// Where the limits of memory stand: of the process's group and of all above it.
fn memory_files(cgroups: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (base, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            named if named.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|above| base.join(above).join(file)));
    }
    files
}

fn memory(limit: Option<u64>) -> Option<Finding> {
    // Version 1 writes the largest number of pages where there is no limit.
    const NONE: u64 = 1 << 62;
    let limit = limit.filter(|limit| *limit < NONE)?;
    let told = format!("limited to {} by its control group", size(limit));
    Some(match limit < MEMORY {
        true => Finding::warn(
            "memory",
            format!("{told}; a flood of a million files takes 60 MiB"),
            format!("MemoryMax={} or more in the unit", size(MEMORY).replace(".0 MiB", "M")),
        ),
        false => Finding::ok("memory", told),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Mark;
    use super::*;

    #[test]
    fn old_kernels_are_told() {
        assert_eq!(kernel("6.1.0-18-amd64").mark, Mark::Ok);
        assert_eq!(kernel("5.6.1").mark, Mark::Ok);
        assert_eq!(kernel("4.19.0").mark, Mark::Warn);
        assert_eq!(
            landlock(Some("lockdown,capability,landlock,yama\n")).unwrap().message,
            "offered by the kernel"
        );
        assert_eq!(landlock(None), None);
    }

    #[test]
    fn few_descriptors_and_little_memory_are_told() {
        let limits = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  4096  files\n")
        };
        assert_eq!(descriptors(&limits("1024"), true).unwrap().mark, Mark::Ok);
        assert_eq!(descriptors(&limits("unlimited"), true).unwrap().mark, Mark::Ok);
        assert_eq!(descriptors(&limits("64"), false).unwrap().mark, Mark::Warn);
        assert_eq!(memory(Some(512 << 20)).unwrap().mark, Mark::Ok);
        let little = memory(Some(32 << 20)).unwrap();
        assert_eq!(
            (little.mark, little.advice.as_deref()),
            (Mark::Warn, Some("MemoryMax=96M or more in the unit"))
        );
        assert_eq!(memory(Some(9_223_372_036_854_771_712)), None);
    }

    #[test]
    fn the_unit_and_its_limits_are_found_in_both_versions_of_control_groups() {
        let two = "0::/system.slice/conductor-loop.service\n";
        assert!(manager(two).message.ends_with("conductor-loop.service"));
        assert!(
            memory_files(two)
                .contains(&"/sys/fs/cgroup/system.slice/conductor-loop.service/memory.max".into())
        );
        let one = "4:memory:/a/b\n1:name=systemd:/a\n";
        let wanted = ["a/b", "a", ""]
            .map(|at| Path::new("/sys/fs/cgroup/memory").join(at).join("memory.limit_in_bytes"));
        assert_eq!(memory_files(one), wanted);
    }
}
