//! What the responder costs this machine: the CPU time and memory of its processes, by /proc.

use procfs::process::Process;

/// CPU time and memory of all processes of the responder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// CPU time in user mode, in seconds.
    pub user: f64,
    /// CPU time in the kernel, in seconds.
    pub system: f64,
    /// Resident bytes.
    pub resident: u64,
}

/// What they cost until now; `None`: one of them is gone.
pub fn cost(pids: &[i32]) -> Option<Cost> {
    let ticks = procfs::ticks_per_second() as f64;
    let mut sum = Cost::default();
    for pid in pids {
        let stat = Process::new(*pid).and_then(|process| process.stat()).ok()?;
        // A zombie has a line as well.
        if stat.state == 'Z' {
            return None;
        }
        sum.user += stat.utime as f64 / ticks;
        sum.system += stat.stime as f64 / ticks;
        sum.resident += stat.rss * procfs::page_size();
    }
    Some(sum)
}

/// Packets that went through a network device where a process of the responder is, either way: what one
/// that only throws away was given counts as sent or as received, as the device likes. `None`: no such
/// process or no such device.
pub fn packets(pid: i32, device: &str) -> Option<u64> {
    let devices = Process::new(pid)
        .and_then(|process| process.dev_status())
        .ok()?;
    let status = devices.get(device)?;
    Some(status.sent_packets + status.recv_packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_a_device_are_counted_and_another_device_is_told() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = packets(own, "lo").unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        assert_eq!(socket.send_to(b"one", to).unwrap(), 3);
        assert!(packets(own, "lo").unwrap() >= before + 2);
        assert_eq!(packets(own, "nowhere0"), None);
        assert_eq!(packets(i32::MAX, "lo"), None);
    }

    #[test]
    fn this_process_costs_something_and_a_dead_one_is_told() {
        let own = i32::try_from(std::process::id()).unwrap();
        let own_cost = cost(&[own]).unwrap();
        assert!(own_cost.resident > 100_000, "{own_cost:?}");
        assert!(own_cost.user < 3600.0);
        assert_eq!(cost(&[own, i32::MAX]), None);
        assert_eq!(cost(&[]), Some(Cost::default()));
    }
}
