//! Decodes server-sent events from chunks of any size (WHATWG HTML, "Server-sent events", parsing an event stream).
//! It knows nothing of what the events say, and writes none.

#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};

/// The largest event by default, and the longest line: 8 MiB.
pub const DEFAULT_LIMIT: usize = 8 * 1024 * 1024;

/// One event. Fields other than `event` and `data`, and comments, are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The value of `event:`, if there was one.
    pub name: Option<Bytes>,
    /// The values of all `data:` lines, joined by line feeds.
    pub data: Bytes,
}

/// An event or a line that is larger than the decoder's limit. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {limit} bytes")]
pub struct EventTooLarge {
    /// The decoder's limit.
    pub limit: usize,
}

/// The state between chunks. An event that lies within one chunk and has one `data:` line is a slice of that chunk.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// What was pushed and not yet read.
    chunk: Bytes,
    /// The beginning of a line whose end has not come yet.
    carry: BytesMut,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// No line was read yet, so that the next may begin with a byte order mark.
    at_start: bool,
    name: Option<Bytes>,
    data: Data,
    failed: Option<EventTooLarge>,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::with_limit(DEFAULT_LIMIT)
    }
}

impl Decoder {
    /// A decoder for one stream whose events and lines have at most `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Decoder {
            limit,
            chunk: Bytes::new(),
            carry: BytesMut::new(),
            after_return: false,
            at_start: true,
            name: None,
            data: Data::None,
            failed: None,
        }
    }

    /// Takes the next bytes of the stream. Best called when [`Decoder::next_event`] has given all that was there:
    /// otherwise the rest is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_some() {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
        joined.extend_from_slice(&self.chunk);
        joined.extend_from_slice(&chunk);
        self.chunk = joined.freeze();
    }

    /// The next whole event, or `None` until more is pushed.
    ///
    /// # Errors
    /// When a line or an event is too large; from then on always.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.read_chunk();
        if let Err(error) = result {
            self.fail(error);
        }
        result
    }

    /// Tells the end of the stream: the last event is given even if its blank line, or its line end, is missing, as
    /// long as it has data. Everything that can be read before must have been read with [`Decoder::next_event`].
    ///
    /// # Errors
    /// When that event is too large, or an error came before.
    pub fn finish(&mut self) -> Result<Option<Event>, EventTooLarge> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let line = self.carry.split().freeze();
        if !line.is_empty()
            && let Err(error) = self.take_line(line)
        {
            self.fail(error);
            return Err(error);
        }
        Ok(self.dispatch())
    }

    fn fail(&mut self, error: EventTooLarge) {
        *self = Decoder { failed: Some(error), ..Decoder::with_limit(self.limit) };
    }

    fn read_chunk(&mut self) -> Result<Option<Event>, EventTooLarge> {
        loop {
            if self.after_return && !self.chunk.is_empty() {
                self.after_return = false;
                if self.chunk.first() == Some(&b'\n') {
                    self.chunk.advance(1);
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.chunk) else {
                return self.keep_beginning().map(|()| None);
            };
            let piece = self.chunk.split_to(end);
            self.after_return = self.chunk.first() == Some(&b'\r');
            self.chunk.advance(1);
            let line = if self.carry.is_empty() {
                piece
            } else {
                self.carry.extend_from_slice(&piece);
                self.carry.split().freeze()
            };
            if !line.is_empty() {
                self.take_line(line)?;
            } else if let Some(event) = self.dispatch() {
                return Ok(Some(event));
            }
        }
    }

    /// Keeps what there is of a line until its end comes.
    fn keep_beginning(&mut self) -> Result<(), EventTooLarge> {
        let piece = std::mem::take(&mut self.chunk);
        if self.carry.len() + piece.len() > self.limit {
            return Err(EventTooLarge { limit: self.limit });
        }
        self.carry.extend_from_slice(&piece);
        Ok(())
    }

    /// One line without its end; it is not empty.
    fn take_line(&mut self, whole: Bytes) -> Result<(), EventTooLarge> {
        if whole.len() > self.limit {
            return Err(EventTooLarge { limit: self.limit });
        }
        let mut line = whole;
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.advance(3);
        }
        let colon = memchr::memchr(b':', &line);
        let mut value = colon.map_or_else(Bytes::new, |colon| line.slice(colon + 1..));
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match line.get(..colon.unwrap_or(line.len())) {
            Some(b"data") => self.take_data(value),
            Some(b"event") => {
                self.name = Some(value);
                Ok(())
            }
            // A comment (nothing before the colon), `id`, `retry`, or unknown.
            _ => Ok(()),
        }
    }

    fn take_data(&mut self, value: Bytes) -> Result<(), EventTooLarge> {
        let mut joined = match std::mem::take(&mut self.data) {
            Data::None => {
                self.data = Data::One(value);
                return Ok(());
            }
            Data::One(first) => BytesMut::from(first.as_ref()),
            Data::Many(joined) => joined,
        };
        if joined.len() + 1 + value.len() > self.limit {
            return Err(EventTooLarge { limit: self.limit });
        }
        joined.extend_from_slice(b"\n");
        joined.extend_from_slice(&value);
        self.data = Data::Many(joined);
        Ok(())
    }

    /// The event that ends here, if it has data; an event without is none.
    fn dispatch(&mut self) -> Option<Event> {
        let name = self.name.take();
        let data = match std::mem::take(&mut self.data) {
            Data::None => return None,
            Data::One(only) => only,
            Data::Many(joined) => joined.freeze(),
        };
        Some(Event { name, data })
    }
}
