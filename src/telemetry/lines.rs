//! Log lines on their way to stderr: gathered in memory, written in batches by a thread of their own. A request pays
//! no system call for its line, and a reader of stderr that does not read never stops a request.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that come within this time are written together.
const GATHER: Duration = Duration::from_millis(20);
/// Lines beyond this are dropped while nothing can be written; the next line says how many.
const MOST: usize = 4 * 1024 * 1024;
/// How long the end of the program waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where lines are put.
#[derive(Clone)]
pub struct Lines {
    shared: Arc<Shared>,
}

/// Writes what is left when it is dropped, at the end of the program.
pub struct Farewell {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    hurry: bool,
    dropped: u64,
}

// === impl Lines ===

impl Lines {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<(Lines, Farewell)> {
        let shared = Arc::new(Shared::default());
        let written = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || written.write_for_ever(output))?;
        Ok((Lines { shared: Arc::clone(&shared) }, Farewell { shared }))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.waiting.len() + line.len() > MOST {
            state.dropped += 1;
            return Ok(line.len());
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        if first && !state.writing {
            self.shared.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Lines;

    fn make_writer(&'w self) -> Lines {
        self.clone()
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Lines are added whole, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.writing = true;
            if !state.hurry {
                let gathered = self.changed.wait_timeout_while(state, GATHER, |state| !state.hurry);
                state = gathered.unwrap_or_else(PoisonError::into_inner).0;
            }
            mem::swap(&mut batch, &mut state.waiting);
            let dropped = mem::take(&mut state.dropped);
            drop(state);
            // Where lines cannot be written there is nobody to tell.
            let _ = output.write_all(&batch);
            if dropped > 0 {
                let _ = writeln!(output, "{dropped} log lines were dropped: nobody read them in time");
            }
            let _ = output.flush();
            batch.clear();
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

// === impl Farewell ===

impl Drop for Farewell {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.hurry = true;
        self.shared.changed.notify_all();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let _ = self.shared.changed.wait_timeout_while(state, FAREWELL, busy);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands over each write; blocks while nobody takes it.
    struct Handed(Sender<Vec<u8>>);

    impl Write for Handed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn handed() -> (Handed, Receiver<Vec<u8>>) {
        let (sender, receiver) = channel();
        (Handed(sender), receiver)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (output, written) = handed();
        let (mut lines, farewell) = Lines::start(output).unwrap();
        for number in 0..1000 {
            writeln!(lines, "line {number}").unwrap();
        }
        drop(farewell);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let wanted: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }

    #[test]
    fn a_line_is_written_without_being_asked_for() {
        let (output, written) = handed();
        let (mut lines, _farewell) = Lines::start(output).unwrap();
        lines.write_all(b"one\n").unwrap();
        assert_eq!(written.recv_timeout(Duration::from_secs(10)).unwrap(), b"one\n");
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let (gate, held) = channel::<()>();
        struct Blocked(Receiver<()>, Sender<Vec<u8>>);
        impl Write for Blocked {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (seen, written) = channel();
        let (mut lines, _farewell) = Lines::start(Blocked(held, seen)).unwrap();
        let long = vec![b'x'; MOST / 2];
        for _ in 0..6 {
            lines.write_all(&long).unwrap();
        }
        drop(gate);
        let mut told = false;
        while let Ok(bytes) = written.recv_timeout(Duration::from_secs(10)) {
            told |= String::from_utf8_lossy(&bytes).contains("log lines were dropped")
                || bytes.starts_with(b"dropped");
            if told {
                break;
            }
        }
        assert!(told);
    }
}
