//! The real program, as a person starts it: its own process, an empty environment, a home of its own.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client;
use super::{eventually, nowhere};

/// How long a test waits for a process before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home directory and an environment to start the program in.
pub struct Home {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

/// A process that is running, or has been.
pub struct Program {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    _home: Option<Home>,
}

/// What a process that ended by itself left behind.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or minus the signal that killed it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    /// An empty home. Nothing of the surroundings is visible from there, not even a local Ollama.
    pub fn new() -> Home {
        let directory = TempDir::new().expect("a directory");
        Home { directory, environment: vec![("OLLAMA_HOST".to_owned(), nowhere())] }
    }

    /// The same home with this variable.
    pub fn with(mut self, name: &str, value: &str) -> Home {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file below the home.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory is made");
        std::fs::write(&path, text).expect("file is written");
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demuxai"));
        command.args(arguments).env_clear().current_dir(self.path()).stdin(Stdio::null());
        command.env("HOME", self.path()).env("PATH", "/usr/bin:/bin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::spawn(self.command(arguments))
    }
}

impl Program {
    pub fn spawn(mut command: Command) -> Program {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("program starts");
        let mut readers = Vec::new();
        let mut gather = |pipe: Box<dyn Read + Send>| {
            let gathered = Arc::new(Mutex::new(Vec::new()));
            let shared = Arc::clone(&gathered);
            readers.push(std::thread::spawn(move || pour(pipe, &shared)));
            gathered
        };
        let stdout = gather(Box::new(child.stdout.take().expect("stdout")));
        let stderr = gather(Box::new(child.stderr.take().expect("stderr")));
        Program { child, stdout, stderr, readers, _home: None }
    }

    /// Serves this configuration from a home of its own; a listener on port 0 is added unless the text names one.
    pub fn serve(text: &str) -> Program {
        Program::serve_in(Home::new(), text, &[])
    }

    /// The same in this home and with more arguments.
    pub fn serve_in(home: Home, text: &str, more: &[&str]) -> Program {
        let listener = if text.contains("[listeners.") {
            ""
        } else {
            "\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\n"
        };
        let path = home.write("served.toml", &format!("{text}{listener}"));
        let arguments = [&["serve", "--config", path.to_str().expect("a path of text")][..], more].concat();
        let mut program = home.start(&arguments);
        program._home = Some(home);
        program.address();
        program
    }

    /// Where its first listener listens, as its log says.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let log = eventually("it listens", || self.stderr(), |log| address_in(log).is_some());
        address_in(&log).expect("an address")
    }

    /// Waits until a provider is up.
    #[track_caller]
    pub fn until_ready(&self) {
        eventually("it is ready", || client::get(self.address(), "/readyz").status, |status| *status == 200);
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.lock().expect("no panic")).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("no panic")).into_owned()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("/bin/sh").args(["-c", &command]).status().expect("a shell");
        assert!(sent.success(), "{command}");
    }

    /// The process's memory that is in use.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kilobytes * 1024
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; stderr: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("output is read");
        }
        Ended { code: code_of(status), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real program on one home, one configuration and one state file, killed and started again at will.
pub struct Phoenix {
    home: Home,
    configuration: PathBuf,
    running: Option<Program>,
}

impl Phoenix {
    /// Starts it with this configuration; a listener on port 0 and the state file are added.
    #[track_caller]
    pub fn start(text: &str) -> Phoenix {
        let mut phoenix = Phoenix::ready(text);
        phoenix.rise();
        phoenix
    }

    /// The same, but not started yet.
    pub fn ready(text: &str) -> Phoenix {
        let home = Home::new();
        let more = "\n[listeners.test]\naddress = \"127.0.0.1:0\"\nworkers = 1\n[state]\npath = \"state/state.db\"\n";
        let configuration = home.write("phoenix.toml", &format!("{text}{more}"));
        Phoenix { home, configuration, running: None }
    }

    /// Its configuration file.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Its state file.
    pub fn state_file(&self) -> PathBuf {
        self.home.path().join("state/state.db")
    }

    /// The running program.
    #[track_caller]
    pub fn program(&self) -> &Program {
        self.running.as_ref().expect("it runs")
    }

    /// Another command of the program, with the same configuration, until it ends.
    pub fn ask(&self, arguments: &[&str]) -> Ended {
        let configuration = self.configuration.to_str().expect("text");
        let (command, options) = arguments.split_first().expect("a command");
        self.home.run(&[&[*command, "--config", configuration][..], options].concat())
    }

    /// Another one of it, on the same state file.
    pub fn twin(&self) -> Program {
        let program = self.home.start(&["serve", "--config", self.configuration.to_str().expect("text")]);
        program.address();
        program
    }

    /// Starts it again, until it listens.
    #[track_caller]
    pub fn rise(&mut self) {
        assert!(self.running.is_none(), "it still runs");
        self.running = Some(self.twin());
    }

    /// `kill -9`, now.
    #[track_caller]
    pub fn kill(&mut self) -> Ended {
        let program = self.running.take().expect("it runs");
        program.signal("KILL");
        let ended = program.ended();
        assert_eq!(ended.code, -9, "it was killed, and did not end by itself: {}", ended.stderr);
        ended
    }

    /// `kill -9` as soon as this holds; it is asked without a pause.
    #[track_caller]
    pub fn kill_when(&mut self, mut holds: impl FnMut(&Program) -> bool) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self.program()) {
            assert!(Instant::now() < deadline, "the moment to kill it never came");
        }
        self.kill()
    }

    /// SIGTERM, and the end that follows.
    #[track_caller]
    pub fn end(&mut self) -> Ended {
        let program = self.running.take().expect("it runs");
        program.signal("TERM");
        program.ended()
    }

    /// Kills and starts it so many times: `moment` returns when it is to be killed (load goes on in threads of its
    /// own meanwhile), `check` looks at it after it is back.
    #[track_caller]
    pub fn die_and_rise(
        &mut self,
        times: usize,
        mut moment: impl FnMut(usize, &Program),
        mut check: impl FnMut(usize, &Program),
    ) {
        for round in 0..times {
            moment(round, self.program());
            self.kill();
            self.rise();
            check(round, self.program());
        }
    }
}

fn pour(mut pipe: Box<dyn Read + Send>, into: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(read) = pipe.read(&mut chunk) {
        if read == 0 {
            break;
        }
        into.lock().expect("no panic").extend_from_slice(&chunk[..read]);
    }
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log.split_inclusive('\n').find(|line| line.contains("listening") && line.ends_with('\n'))?;
    let at = line.find("127.0.0.1:")?;
    let address: String =
        line[at..].chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    address.parse().ok()
}

fn code_of(status: std::process::ExitStatus) -> i32 {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return -signal;
        }
    }
    status.code().unwrap_or(i32::MIN)
}
