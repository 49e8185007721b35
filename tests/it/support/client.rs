//! A blocking HTTP/1.1 client that shows bytes as they are: no decompression, no redirects, no JSON in between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How long a test waits for bytes before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended as its framing promises; false when the connection was cut.
    pub complete: bool,
}

/// An answer being read.
pub struct Reading {
    stream: TcpStream,
    buffer: Vec<u8>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    framing: Framing,
    body: Vec<u8>,
    done: bool,
    cut: bool,
}

/// A request that was sent; nothing of its answer was read yet.
pub struct Asked(TcpStream);

/// A request of which the daemon has the head and waits for the body.
pub struct Begun {
    stream: TcpStream,
    body: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    None,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `error.message` of an OpenAI-shaped error.
    pub fn error(&self) -> String {
        let body = self.json();
        assert!(body["error"]["type"].is_string(), "not OpenAI's error shape: {body}");
        body["error"]["message"].as_str().expect("error.message is a string").to_owned()
    }

    /// The `data:` payloads of an event stream.
    pub fn events(&self) -> Vec<String> {
        let lines = self.text();
        lines.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Sends a request and reads the head of its answer.
pub fn open(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reading {
    let stream = TcpStream::connect(address).expect("daemon accepts");
    open_on(stream, method, path, headers, body)
}

/// Sends a request and does not wait for its answer.
pub fn ask(address: SocketAddr, path: &str, body: &str) -> Asked {
    let stream = TcpStream::connect(address).expect("daemon accepts");
    Asked(send_on(stream, "POST", path, &[("content-type", "application/json")], body.as_bytes()))
}

/// The same by a client whose kernel takes next to nothing that the client has not read.
pub fn open_narrow(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Reading {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("buffer is set");
    socket.connect(&address.into()).expect("daemon accepts");
    open_on(socket.into(), method, path, &[], body)
}

fn open_on(stream: TcpStream, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reading {
    Reading::head(send_on(stream, method, path, headers, body))
}

fn send_on(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> TcpStream {
    let address = stream.peer_addr().expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout is set");
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).expect("head is sent");
    // A server that refuses a body may close before it is all sent.
    let _ = stream.write_all(body);
    stream
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    open(address, "GET", path, &[], b"").finish()
}

pub fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    open(address, "POST", path, &[("content-type", "application/json")], body.as_bytes()).finish()
}

/// Sends these bytes, exactly, on a fresh connection and reads the head of the answer.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Reading {
    let mut stream = TcpStream::connect(address).expect("daemon accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout is set");
    // A server that refuses a body may close before it is all sent.
    let _ = stream.write_all(bytes);
    Reading::head(stream)
}

/// Sends raw bytes on a fresh connection and reads whatever comes until it is closed.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("daemon accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout is set");
    stream.write_all(bytes).expect("bytes are sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Sends the head of a request and waits until the daemon asks for the body, which it does once it has let it in.
pub fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Begun {
    let stream = TcpStream::connect(address).expect("daemon accepts");
    let length = body.len().to_string();
    let more =
        [("expect", "100-continue"), ("content-length", &length), ("content-type", "application/json")];
    let stream = send_on(stream, "POST", path, &[headers, &more].concat(), b"");
    let Reading { stream, status, .. } = Reading::head(stream);
    assert_eq!(status, 100, "it asks for the body");
    Begun { stream, body: body.as_bytes().to_vec() }
}

impl Begun {
    /// Sends the body and reads the whole answer.
    pub fn answer(mut self) -> Answer {
        self.stream.write_all(&self.body).expect("body is sent");
        Reading::head(self.stream).finish()
    }
}

impl Asked {
    /// Reads the whole answer.
    pub fn answer(self) -> Answer {
        Reading::head(self.0).finish()
    }
}

impl Reading {
    fn head(mut stream: TcpStream) -> Reading {
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).expect("answer comes in time");
            assert!(read > 0, "connection closed before the head: {:?}", String::from_utf8_lossy(&buffer));
            buffer.extend_from_slice(&chunk[..read]);
        };
        let head = String::from_utf8(buffer.drain(..end).collect()).expect("head is text");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let framing = match (find(&headers, "transfer-encoding"), find(&headers, "content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().expect("length is a number")),
            (None, None) => Framing::None,
        };
        Reading {
            stream,
            buffer,
            status: status.expect("status line"),
            headers,
            framing,
            body: Vec::new(),
            done: false,
            cut: false,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body so far.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads until the body holds this text.
    pub fn until(&mut self, text: &str) {
        while !self.so_far().contains(text) {
            assert!(!self.done && !self.cut, "ended before `{text}`: {}", self.so_far());
            self.step();
        }
    }

    /// Reads until the body has so many bytes.
    pub fn until_length(&mut self, length: usize) {
        while self.body.len() < length {
            assert!(!self.done && !self.cut, "ended after {} bytes, before {length}", self.body.len());
            self.step();
        }
    }

    /// Reads a piece of the body and throws away what there is of it.
    pub fn skip(&mut self) {
        assert!(!self.done && !self.cut, "ended: {}", self.so_far());
        self.step();
        self.body.clear();
    }

    /// Reads to the end.
    pub fn finish(mut self) -> Answer {
        while !self.done && !self.cut {
            self.step();
        }
        Answer { status: self.status, headers: self.headers, body: self.body, complete: !self.cut }
    }

    /// Leaves without reading further.
    pub fn leave(self) {}

    fn step(&mut self) {
        if self.take() {
            return;
        }
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => match self.framing {
                Framing::None => self.done = true,
                _ => self.cut = true,
            },
            Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.cut = true,
            Err(error) => panic!("answer did not come in time: {error}; so far {}", self.so_far()),
        }
    }

    /// Moves what is complete from the buffer into the body; whether something moved.
    fn take(&mut self) -> bool {
        match self.framing {
            Framing::None => {
                if self.status == 204 || self.status == 304 {
                    self.done = true;
                    return true;
                }
                let moved = !self.buffer.is_empty();
                self.body.append(&mut self.buffer);
                moved
            }
            Framing::Length(length) => {
                let moved = !self.buffer.is_empty();
                self.body.append(&mut self.buffer);
                self.done = self.body.len() >= length;
                moved || self.done
            }
            Framing::Chunked => {
                let Some(line) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
                    return false;
                };
                let size = std::str::from_utf8(&self.buffer[..line]).expect("chunk size is text");
                let size = usize::from_str_radix(size.trim(), 16).expect("chunk size is hexadecimal");
                if self.buffer.len() < line + 2 + size + 2 {
                    return false;
                }
                let chunk: Vec<u8> = self.buffer.drain(..line + 2 + size + 2).collect();
                self.body.extend_from_slice(&chunk[line + 2..line + 2 + size]);
                self.done = size == 0;
                true
            }
        }
    }
}
