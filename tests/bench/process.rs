//! The proxies under test as processes: started on a core of their own, read through `/proc`, stopped by their id.
//!
//! Linux only, as `/proc` and `taskset` are. It starts nothing but nginx and the daemon, and ends nothing else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// Which cores the proxy and everything else run on; the same for every proxy.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    pub proxy: usize,
    pub load: usize,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The load generator talks to the upstream itself.
    Direct,
    Nginx,
    Demuxai,
}

/// A proxy that runs. It is stopped when this is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    /// From the start of the process to the end of the first answer from upstream.
    pub first_answer: Duration,
    child: Child,
    pids: Vec<u32>,
}

/// How a proxy is started.
#[derive(Clone)]
pub struct Launcher {
    pub upstream: SocketAddr,
    pub cores: Option<Cores>,
    /// Configurations, logs and homes are written below it.
    pub directory: PathBuf,
    /// What is run in the daemon's place: nginx again, to see how much of a ratio is noise.
    pub calibrate: bool,
    /// Groups that the daemon has beside its provider.
    pub groups: &'static str,
}

// === impl Cores ===

impl Cores {
    /// Puts this process on the second core that it may use and reserves the first for the proxies.
    /// `None` when there is one core only, or no `taskset`.
    pub fn reserve() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let mut cores = list.trim().split(',').flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().unwrap_or(0)..=last.parse().unwrap_or(0)
        });
        let (proxy, load) = (cores.next()?, cores.next()?);
        let own = std::process::id().to_string();
        let moved =
            Command::new("taskset").args(["-a", "-p", "-c", &load.to_string(), &own]).output().ok()?;
        moved.status.success().then_some(Self { proxy, load })
    }
}

// === impl Launcher ===

impl Launcher {
    /// Starts a proxy and waits for its first relayed answer.
    pub fn start(&self, subject: Subject, request: &[u8]) -> Outcome<Proxy> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let directory = self.directory.join(format!("{subject:?}-{port}"));
        fs::create_dir_all(&directory)?;
        let arguments = match subject {
            Subject::Direct => return Err("there is no process to start for a direct run".into()),
            Subject::Nginx => self.nginx(&directory, port)?,
            Subject::Demuxai if self.calibrate => self.nginx(&directory, port)?,
            Subject::Demuxai => self.demuxai(&directory, port)?,
        };
        let mut words = Vec::new();
        if let Some(cores) = self.cores {
            words.extend(["taskset".into(), "-c".into(), cores.proxy.to_string()]);
        }
        words.extend(arguments);
        let (program, rest) = words.split_first().ok_or("no command")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = directory.join("stderr.log");
        let begin = Instant::now();
        let child = Command::new(program)
            .args(rest)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &directory)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(File::create(directory.join("stdout.log"))?)
            .stderr(File::create(&log)?)
            .spawn()
            .map_err(|error| format!("{program} did not start: {error}"))?;
        let mut proxy = Proxy { address, first_answer: Duration::ZERO, child, pids: Vec::new() };
        loop {
            if first_answer(address, request) {
                proxy.first_answer = begin.elapsed();
                break;
            }
            let ended = proxy.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > Duration::from_secs(10) {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{subject:?} gives no answer (exit {ended:?}); it says:\n{said}").into());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        let main = proxy.child.id();
        proxy.pids = vec![main];
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children"))?;
        proxy.pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        Ok(proxy)
    }

    /// One worker, kept-alive connections to the upstream, no buffering of answers, and request bodies in memory:
    /// the cheapest nginx can be at this job. Logs are its defaults.
    fn nginx(&self, directory: &Path, port: u16) -> Outcome<Vec<String>> {
        let at = directory.display();
        let upstream = self.upstream;
        let text = format!(
            "daemon off; worker_processes 1; worker_rlimit_nofile 8192; pid {at}/nginx.pid; error_log {at}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {at}/access.log combined;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    client_max_body_size 64m; client_body_buffer_size 1m; keepalive_requests 100000000;
    upstream bench {{ server {upstream}; keepalive 1024; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, text)?;
        // `-e` keeps the log that nginx opens before it reads the file inside the directory too.
        let words = ["nginx", "-e", &format!("{at}/error.log"), "-p", &at.to_string(), "-c"];
        Ok(words.iter().map(ToString::to_string).chain([file.display().to_string()]).collect())
    }

    /// One worker; everything else, metrics and log included, at its default.
    fn demuxai(&self, directory: &Path, port: u16) -> Outcome<Vec<String>> {
        let upstream = self.upstream;
        let text = format!(
            "[listeners.local]\naddress = \"127.0.0.1:{port}\"\nworkers = 1\n\n\
             [providers.up]\ntype = \"openai\"\nurl = \"http://{upstream}\"\n{}",
            self.groups
        );
        let file = directory.join("demuxai.toml");
        fs::write(&file, text)?;
        let words = [env!("CARGO_BIN_EXE_demuxai"), "serve", "--config"];
        Ok(words.iter().map(ToString::to_string).chain([file.display().to_string()]).collect())
    }
}

/// Whether a whole answer with status 200 comes back now.
fn first_answer(address: SocketAddr, request: &[u8]) -> bool {
    let exchange = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(request)?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let count = socket.read(&mut piece)?;
            answer.extend_from_slice(piece.get(..count).unwrap_or_default());
            let whole = answer.ends_with(b"}}") || answer.ends_with(b"\r\n0\r\n\r\n");
            if whole || count == 0 {
                return Ok(whole && answer.starts_with(b"HTTP/1.1 200"));
            }
        }
    };
    exchange().unwrap_or(false)
}

// === impl Proxy ===

impl Proxy {
    /// CPU time of all threads of all its processes so far, in nanoseconds.
    pub fn cpu(&self) -> u64 {
        self.pids.iter().map(|pid| precise_cpu(*pid).max(coarse_cpu(*pid))).sum()
    }

    /// Resident memory of all its processes, in MB.
    pub fn resident(&self) -> f64 {
        let kilobytes = |pid: &u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse().ok()
        };
        self.pids.iter().filter_map(kilobytes).sum::<f64>() / 1024.0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // TERM and not KILL: nginx's master takes its worker with it only when it is asked.
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().ok();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The scheduler's own count of every live thread, exact to the nanosecond.
fn precise_cpu(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let ran = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(ran).sum()
}

/// The process's user and system time, which also counts threads that have ended, in steps of 10 ms.
fn coarse_cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>() * 10_000_000
}
