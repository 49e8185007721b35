//! Talks to systemd: one datagram to `$NOTIFY_SOCKET` per message (sd_notify(3)). Nothing is sent elsewhere.

use std::time::Duration;

/// The service manager, if there is one that wants to hear from us.
#[derive(Debug, Default, Clone)]
pub struct ServiceManager {
    socket: Option<String>,
    watchdog: Option<Duration>,
}

// === impl ServiceManager ===

impl ServiceManager {
    /// From the values of `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub fn new(socket: Option<&str>, watchdog_usec: Option<&str>) -> Self {
        let micros = watchdog_usec.and_then(|text| text.parse::<u64>().ok()).filter(|micros| *micros > 0);
        ServiceManager {
            socket: socket.filter(|path| !path.is_empty()).map(str::to_owned),
            watchdog: micros.map(Duration::from_micros),
        }
    }

    /// How often a sign of life is to be sent: half of what the manager allows.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|allowed| allowed / 2)
    }

    /// Sends one message, such as `READY=1`. A manager that does not listen is no reason to stop.
    pub fn tell(&self, message: &str) {
        if let Some(path) = &self.socket {
            send(path, message);
        }
    }
}

#[cfg(unix)]
fn send(path: &str, message: &str) {
    use std::os::unix::net::UnixDatagram;
    let sent = UnixDatagram::unbound().and_then(|socket| match path.strip_prefix('@') {
        Some(name) => send_abstract(&socket, name, message),
        None => socket.send_to(message.as_bytes(), path).map(|_| ()),
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "service manager does not listen");
    }
}

#[cfg(target_os = "linux")]
fn send_abstract(
    socket: &std::os::unix::net::UnixDatagram,
    name: &str,
    message: &str,
) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    socket.send_to_addr(message.as_bytes(), &SocketAddr::from_abstract_name(name)?).map(|_| ())
}

#[cfg(all(unix, not(target_os = "linux")))]
fn send_abstract(
    _socket: &std::os::unix::net::UnixDatagram,
    _name: &str,
    _message: &str,
) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn send(_path: &str, _message: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_socket_there_is_no_watchdog_either() {
        assert_eq!(ServiceManager::new(None, Some("1000000")).watchdog_interval(), None);
        assert_eq!(ServiceManager::new(Some(""), Some("1000000")).watchdog_interval(), None);
    }

    #[test]
    fn the_watchdog_is_fed_twice_per_period() {
        let manager = ServiceManager::new(Some("/run/x"), Some("30000000"));
        assert_eq!(manager.watchdog_interval(), Some(Duration::from_secs(15)));
        assert_eq!(ServiceManager::new(Some("/run/x"), Some("0")).watchdog_interval(), None);
        assert_eq!(ServiceManager::new(Some("/run/x"), Some("soon")).watchdog_interval(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_message_arrives_as_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        ServiceManager::new(path.to_str(), None).tell("READY=1");
        let mut buffer = [0_u8; 64];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
