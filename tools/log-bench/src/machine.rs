//! What was measured on: the disk, the file system, the kernel, the processor.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// The machine under a directory; `unknown` where the system does not tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The disk: model or device name, its kind and its cache.
    pub(crate) disk: String,
    /// The file system's type and mount options.
    pub(crate) filesystem: String,
    /// The kernel's name and release.
    pub(crate) kernel: String,
    /// The processor's name and how many of them the process may use.
    pub(crate) processor: String,
}

impl Machine {
    /// Looks at what lies under `dir`, which must exist.
    pub(crate) fn under(dir: &Path) -> Machine {
        let mount = Mount::of(dir);
        Machine {
            disk: mount.as_ref().map_or_else(|| "unknown".to_string(), Mount::disk),
            filesystem: mount.as_ref().map_or_else(
                || "unknown".to_string(),
                |mount| format!("{} ({}) on {}", mount.kind, mount.options, mount.point),
            ),
            kernel: kernel(),
            processor: processor(),
        }
    }
}

/// Whether `dir` lies in memory only.
pub(crate) fn is_in_memory(dir: &Path) -> bool {
    Mount::of(dir).is_some_and(|mount| matches!(mount.kind.as_str(), "tmpfs" | "ramfs"))
}

/// Bytes that an unprivileged process may still write under `dir`; `None` where the system does not tell.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// What this process holds in memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// All of it, shared pages of mapped files too.
    pub(crate) resident_bytes: u64,
    /// What is not backed by a file.
    pub(crate) anonymous_bytes: u64,
}

impl Memory {
    /// Of this process, now; zeros where the system does not tell.
    pub(crate) fn now() -> Memory {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        };
        Memory {
            resident_bytes: field("VmRSS:").unwrap_or(0),
            anonymous_bytes: field("RssAnon:").unwrap_or(0),
        }
    }
}

/// One line of `/proc/self/mountinfo`.
struct Mount {
    device: String,
    point: String,
    options: String,
    kind: String,
    source: String,
}

impl Mount {
    /// The mount that holds `dir`: the last one with the longest mount point above it.
    fn of(dir: &Path) -> Option<Mount> {
        let dir = fs::canonicalize(dir).ok()?;
        let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let above = table.lines().filter_map(Mount::parse).filter(|mount| dir.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.len())
    }

    /// See proc_pid_mountinfo(5): `36 35 98:0 /root /point options optional... - kind source super-options`.
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let mut right = right.split(' ');
        Some(Mount {
            device: (*left.get(2)?).to_string(),
            point: left.get(4)?.replace("\\040", " "),
            options: (*left.get(5)?).to_string(),
            kind: right.next()?.to_string(),
            source: right.next()?.to_string(),
        })
    }

    fn disk(&self) -> String {
        let link = format!("/sys/dev/block/{}", self.device);
        let Ok(device) = fs::canonicalize(&link) else {
            return self.source.clone();
        };
        // A partition has its queue in its parent, the whole disk.
        let whole = if device.join("queue").exists() { device } else { device.join("..") };
        let read = |name: &str| {
            fs::read_to_string(whole.join(name))
                .ok()
                .map(|text| text.trim().to_string())
                .filter(|t| !t.is_empty())
        };
        let mut shown = read("device/model").unwrap_or_else(|| self.source.clone());
        if let Some(sectors) = read("size").and_then(|sectors| sectors.parse::<u64>().ok()) {
            shown.push_str(&format!(", {}", crate::units::bytes(sectors * 512)));
        }
        if let Some(rotational) = read("queue/rotational") {
            shown.push_str(if rotational == "1" { ", rotational" } else { ", solid state" });
        }
        if let Some(cache) = read("queue/write_cache") {
            shown.push_str(&format!(", cache: {cache}"));
        }
        shown
    }
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match release.trim() {
        "" => std::env::consts::OS.to_string(),
        release => format!("Linux {release}"),
    }
}

fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let table = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = table
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or(std::env::consts::ARCH, |model| model.trim_start_matches([' ', '\t', ':']));
    format!("{} of {model}", crate::units::plural(cores, "core"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines_are_read_with_and_without_optional_fields() {
        let plain = Mount::parse("24 1 254:0 / / rw,relatime - ext4 /dev/vda rw").unwrap();
        assert_eq!(
            (plain.point.as_str(), plain.kind.as_str(), plain.device.as_str()),
            ("/", "ext4", "254:0")
        );
        let shared = Mount::parse("30 24 0:26 / /a\\040b rw shared:5 - tmpfs tmpfs rw").unwrap();
        assert_eq!((shared.point.as_str(), shared.kind.as_str()), ("/a b", "tmpfs"));
        assert!(Mount::parse("not a mount").is_none());
    }
}
