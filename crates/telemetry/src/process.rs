//! Processor time, memory, threads and open files of this process, under the names that Prometheus client libraries use.
//! Read from `/proc` at each scrape; where that does not exist, there are no such metrics.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use metrics::{Unit, describe_gauge, gauge};

/// Linux reports processor time in ticks of 1/100 s to user space on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn describe() {
    describe_gauge!("process_cpu_seconds_total", Unit::Seconds, "Processor time used, user and system.");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory.");
    describe_gauge!("process_virtual_memory_bytes", Unit::Bytes, "Virtual memory.");
    describe_gauge!("process_threads", "Threads.");
    describe_gauge!("process_open_fds", "Open file descriptors.");
    describe_gauge!("process_max_fds", "Limit of open file descriptors.");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "When the process began, in seconds since 1970.");
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("process_start_time_seconds").set(began.as_secs_f64());
}

pub(crate) fn record() {
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ticks(&stat)) {
        // A gauge, though it only grows: counters hold whole numbers here, and whole seconds are too coarse for a rate.
        gauge!("process_cpu_seconds_total").set(ticks as f64 / TICKS_PER_SECOND);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        set("process_resident_memory_bytes", number_after(&status, "VmRSS:").map(|kib| kib * 1_024));
        set("process_virtual_memory_bytes", number_after(&status, "VmSize:").map(|kib| kib * 1_024));
        set("process_threads", number_after(&status, "Threads:"));
    }
    if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
        set("process_max_fds", number_after(&limits, "Max open files"));
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        set("process_open_fds", u64::try_from(files.count()).ok());
    }
}

fn set(name: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        // Bytes and counts stay far below 2^53, where a float is exact.
        gauge!(name).set(value as f64);
    }
}

/// `utime` + `stime`: fields 14 and 15 of `/proc/self/stat`, counted after the command name, which may contain anything (proc_pid_stat(5)).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_command_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(400));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn numbers_are_read_from_status_and_limits() {
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n";
        assert_eq!(number_after(status, "VmRSS:"), Some(1_024));
        assert_eq!(number_after(status, "Threads:"), Some(7));
        assert_eq!(
            number_after("Max open files            1024                 4096  files\n", "Max open files"),
            Some(1_024)
        );
        assert_eq!(number_after("Max open files            unlimited unlimited\n", "Max open files"), None);
    }
}
