//! Where the keys of a YAML file stand: the parser does not tell. Reads blocks by their indentation and looks into nothing
//! else, so that what is written in braces has the place of the key before it. Pure.

use std::collections::BTreeMap;

/// Where each key stands, as an offset, by its path: `demuxai.providers.a`, `demuxai.composites.c.providers[0]`.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, usize>);

/// A key, or an element of a list, that is open.
struct Open {
    indent: usize,
    /// An element of a list: the next one has the same indentation.
    element: bool,
    path: String,
    /// So many elements of the list in it were seen.
    elements: usize,
}

// === impl Lines ===

impl Lines {
    /// Of a whole text.
    pub(super) fn of(text: &str) -> Lines {
        let mut found = BTreeMap::new();
        let mut open: Vec<Open> = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            read(line, start, &mut open, &mut found);
            start += line.len();
        }
        Lines(found)
    }

    /// The offset of a path, or of the nearest one around it that is known.
    pub(super) fn at(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(offset) = self.0.get(path) {
                return Some(*offset);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

fn read(line: &str, start: usize, open: &mut Vec<Open>, found: &mut BTreeMap<String, usize>) {
    let mut rest = line.trim_end();
    let mut indent = rest.len() - rest.trim_start_matches(' ').len();
    rest = rest.trim_start_matches(' ');
    while let Some(behind) =
        rest.strip_prefix("- ").or_else(|| rest.strip_prefix('-').filter(|rest| rest.is_empty()))
    {
        // A list may be as far in as the key that it belongs to.
        open.retain(|one| one.indent < indent || (one.indent == indent && !one.element));
        let number = open.last_mut().map_or(0, |around| {
            around.elements += 1;
            around.elements - 1
        });
        let path = format!("{}[{number}]", open.last().map_or("", |around| &around.path));
        found.entry(path.clone()).or_insert(start + indent);
        open.push(Open { indent, element: true, path, elements: 0 });
        let inner = behind.trim_start_matches(' ');
        indent += rest.len() - inner.len();
        rest = inner;
    }
    if rest.is_empty() || rest.starts_with('#') {
        return;
    }
    let Some((key, behind)) = rest.split_once(':') else { return };
    if !(behind.is_empty() || behind.starts_with(' ')) {
        return;
    }
    open.retain(|one| one.indent < indent);
    let key = key.trim_end().trim_matches(['"', '\'']);
    let path = open.last().map_or_else(|| key.to_owned(), |around| format!("{}.{key}", around.path));
    found.entry(path.clone()).or_insert(start + indent);
    open.push(Open { indent, element: false, path, elements: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_elements_are_where_they_stand() {
        let text = "# head\ndemuxai:\n  port: 1\n  providers:\n    a: {type: ollama}\n    \"b\":\n      url: http://h\n\
                    \x20 composites:\n    c:\n      providers:\n      - id: x\n        provider_id: a\n      -   id: y\n    d:\n\
                    \x20     providers:\n        - {id: z}\n";
        let lines = Lines::of(text);
        let line = |path: &str| {
            lines
                .at(path)
                .map(|offset| text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1)
        };
        for (path, expected) in [
            ("demuxai", 2),
            ("demuxai.port", 3),
            ("demuxai.providers.a", 5),
            ("demuxai.providers.a.type", 5),
            ("demuxai.providers.b.url", 7),
            ("demuxai.composites.c.providers[0]", 11),
            ("demuxai.composites.c.providers[0].provider_id", 12),
            ("demuxai.composites.c.providers[1].id", 13),
            ("demuxai.composites.d.providers[0].id", 16),
        ] {
            assert_eq!(line(path), Some(expected), "{path}");
        }
        assert_eq!(line("other"), None);
        assert_eq!(Lines::of("").at("a.b[0]"), None);
    }
}
