#!/usr/bin/env python3
"""Fetches the sources that the classifier of languages is trained on and measured with.

    python3 tests/bench/language/fetch.py [--pin] [CACHE]

CACHE is a folder outside of the repository, by default ~/.cache/demuxai-language (or $DEMUXAI_LANGUAGE_CORPUS). Packages
and their versions are those of packages.tsv, each through its registry's ordinary client: npm pack, pip download, apt-get
source, apt-get download, cargo fetch. What is kept is bounded: MOST_FILES files of a language from one package, each at
most MOST_BYTES long, chosen by the hash of their path. Nothing is run or installed.

What is left is CACHE/corpus/SIDE/LANGUAGE/PACKAGE/NUMBER.EXTENSION. A package that is there already is not fetched again.
Packages that cannot be had, and those of which other files were kept than packages.tsv has the hash of, are printed, and
it exits 1: then the figures are not those of the committed model. --pin fetches the newest version of packages without
one (`-`) and writes it into packages.tsv, with the hash of what was kept.
"""

import hashlib
import html.parser
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
MOST_FILES = 60
MOST_BYTES = 200_000
LEAST_BYTES = 300
MOST_ARCHIVE = 60_000_000
# In place of a version or a hash that is not known yet.
NEWEST = "-"

EXTENSIONS = {
    "python": "py", "rust": "rs", "javascript": "js mjs cjs jsx", "typescript": "ts tsx mts cts", "c": "c h",
    "cpp": "cpp cc cxx hpp hh h", "go": "go", "java": "java", "csharp": "cs", "ruby": "rb rake", "php": "php",
    "shell": "sh bash", "sql": "sql", "html": "html htm", "css": "css", "kotlin": "kt kts", "swift": "swift",
    "lua": "lua", "perl": "pl pm t", "yaml": "yaml yml", "json": "json", "toml": "toml orig", "markdown": "md markdown",
    "makefile": "mk am", "text": "txt",
}
# What is generated, minified, or another package's.
SKIP = re.compile(
    r"(^|/)(node_modules|vendor|third[-_]party|thirdparty|extern|external|3rdparty|contrib/googletest|gtest|gmock|"
    r"googletest|deps|bundled|debian|__pycache__|dist/browser|po|locales?)/|\.min\.|[.-]bundle\.|\.d\.[cm]?ts$|"
    r"(^|/)(configure|ltmain\.sh|config\.(guess|sub)|libtool|depcomp|install-sh|package-lock\.json)$",
    re.I,
)


def members(data, name):
    """Yields (path, bytes reader) of an archive's files."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, lambda info=info: archive.read(info)
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                if info.isfile():
                    yield info.name, info.size, lambda info=info: archive.extractfile(info).read()


def language_of(path, languages, read):
    base = path.rsplit("/", 1)[-1]
    extension = base.rsplit(".", 1)[-1].lower() if "." in base else ""
    if "makefile" in languages and (base in ("Makefile", "GNUmakefile", "Makefile.in") or extension in ("mk", "am")):
        return "makefile"
    if "text" in languages and "html" not in languages and extension == "html":
        return "text"
    for language in languages:
        if extension in EXTENSIONS[language].split():
            if language == "toml" and base not in ("Cargo.toml.orig", "pyproject.toml") and extension != "toml":
                continue
            if language == "toml" and base == "Cargo.toml":
                continue  # normalised by cargo: all alike
            return language
    if not extension and ("shell" in languages or "perl" in languages):
        head = read()[:80]
        if "shell" in languages and re.match(rb"#!\s*/(usr/)?bin/(env )?(ba|da|z)?sh\b", head):
            return "shell"
        if "perl" in languages and re.match(rb"#!\s*/usr/bin/(env )?perl\b", head):
            return "perl"
    return None


class Paragraphs(html.parser.HTMLParser):
    """What people wrote in running text: the paragraphs of a page, without listings and tables."""

    def __init__(self):
        super().__init__()
        self.done, self.words, self.inside, self.skipped = [], [], False, 0

    def handle_starttag(self, tag, attributes):
        self.skipped += tag in ("pre", "table", "script", "style")
        if tag == "p":
            self.inside, self.words = True, []

    def handle_endtag(self, tag):
        self.skipped -= tag in ("pre", "table", "script", "style")
        if tag == "p" and self.inside:
            self.inside = False
            text = " ".join("".join(self.words).split())
            if len(text) > 60:
                self.done.append("\n".join(textwrap.wrap(text, 110)))

    def handle_data(self, data):
        if self.inside and not self.skipped:
            self.words.append(data)


def prose_of(data):
    page = Paragraphs()
    page.feed(data.decode("utf-8", "replace"))
    return "\n\n".join(page.done).encode()


def looks_written(data):
    """Not binary, not minified, not generated."""
    if b"\0" in data or len(data) < LEAST_BYTES:
        return False
    lines = data.count(b"\n") + 1
    head = data[:600].lower()
    if b"do not edit" in head or b"generated by" in head or b"autogenerated" in head or b"@generated" in head:
        return False
    return len(data) / lines < 160


def keep(cache, side, package, languages, files):
    """files: (path, size, read)."""
    chosen = {}
    for path, size, read in files:
        if size > MOST_BYTES or size < LEAST_BYTES or SKIP.search(path):
            continue
        language = language_of(path, languages, read)
        if language is None:
            continue
        data = read()
        if language == "text" and path.endswith(".html"):
            path, data = path + ".txt", prose_of(data)
        if looks_written(data):
            order = hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()
            kept = chosen.setdefault(language, [])
            kept.append((order, path, data))
            if len(kept) > 4 * MOST_FILES:
                kept.sort(key=lambda file: file[0])
                del kept[MOST_FILES:]
    counts, digest = [], hashlib.sha256()
    for language, kept in sorted(chosen.items()):
        kept.sort(key=lambda file: file[0])
        folder = cache / "corpus" / side / language / package.replace("/", "__")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, (_, path, data) in enumerate(kept[:MOST_FILES]):
            base = path.rsplit("/", 1)[-1]
            extension = base.rsplit(".", 1)[-1] if "." in base else base
            (folder / f"{number:03}.{extension}").write_bytes(data)
            digest.update(f"{language}/{number}.{extension} {len(data)}\n".encode() + data)
        counts.append(f"{language}:{min(len(kept), MOST_FILES)}")
    return " ".join(counts), digest.hexdigest()[:16]


def run(command, folder):
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300).stdout


def from_folder(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path.relative_to(folder)), path.stat().st_size, path.read_bytes


def archives(folder, names):
    for name in names:
        path = folder / name
        if path.stat().st_size > MOST_ARCHIVE:
            raise RuntimeError(f"{name} is too large")
        yield from members(path.read_bytes(), name)


def fetch(apt, registry, package, version, folder):
    """The version and the files of a package; without a version the newest."""
    pinned = package if version == NEWEST else f"{package}{'==' if registry == 'pypi' else '@'}{version}"
    if registry == "npm":
        name = run(["npm", "pack", "--silent", pinned], folder).strip().splitlines()[-1]
        stem = package.removeprefix("@").replace("/", "-")
        return name.removeprefix(f"{stem}-").removesuffix(".tgz"), archives(folder, [name])
    if registry == "pypi":
        run(["pip", "download", "-q", "--no-deps", "--only-binary", ":all:", pinned], folder)
        name = os.listdir(folder)[0]
        return name.split("-")[1], archives(folder, [name])
    if registry == "cargo":
        wanted = "*" if version == NEWEST else f"={version}"
        manifest = f'[package]\nname = "sources"\nversion = "0.0.0"\n[lib]\npath = "/dev/null"\n[dependencies]\n'
        manifest += f'{package} = {{ version = "{wanted}", default-features = false }}\n'
        (folder / "Cargo.toml").write_text(manifest)
        run(["cargo", "fetch", "-q"], folder)
        locked = re.findall(r'name = "(.*)"\nversion = "(.*)"', (folder / "Cargo.lock").read_text())
        version = next(found for name, found in locked if name == package and version in (NEWEST, found))
        home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
        roots = sorted((home / "registry/src").glob(f"*/{package}-{version}"))
        return version, from_folder(roots[-1])
    pinned = pinned.replace("@", "=")
    if registry == "source":
        run(["apt-get", *apt, "source", "--download-only", "-q", pinned], folder)
        names = sorted(os.listdir(folder))
        description = next((folder / name).read_text() for name in names if name.endswith(".dsc"))
        names = [name for name in names if re.search(r"(orig(-\w+)?|[0-9])\.tar\.\w+$", name)]
        return re.search(r"^Version: (.*)$", description, re.M).group(1), archives(folder, names)
    run(["apt-get", *apt, "download", "-q", pinned], folder)
    name = os.listdir(folder)[0]
    run(["dpkg-deb", "-x", name, "files"], folder)
    return name.split("_")[1].replace("%3a", ":"), from_folder(folder / "files")


def apt_options(cache):
    """An apt of its own with the sources of Debian 12, so that the machine's is left as it is."""
    home = cache / "apt"
    (home / "lists/partial").mkdir(parents=True, exist_ok=True)
    (home / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    where = "http://deb.debian.org/debian bookworm main"
    (home / "sources.list").write_text(f"deb {key} {where}\ndeb-src {key} {where}\n")
    options = [
        f"Dir::Etc::sourcelist={home}/sources.list", "Dir::Etc::sourceparts=-", f"Dir::State::lists={home}/lists",
        f"Dir::Cache={home}/cache", "APT::Sandbox::User=root",
    ]
    flat = [word for option in options for word in ("-o", option)]
    run(["apt-get", *flat, "update", "-q"], home)
    return flat


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--pin"]
    pin = len(arguments) < len(sys.argv) - 1
    default = os.environ.get("DEMUXAI_LANGUAGE_CORPUS") or pathlib.Path.home() / ".cache/demuxai-language"
    cache = pathlib.Path(arguments[0] if arguments else default).resolve()
    if cache.is_relative_to(ROOT):
        sys.exit("the cache must be outside of the repository")
    table = HERE / "packages.tsv"
    lines = table.read_text().splitlines()
    rows = {at: line.split("\t") for at, line in enumerate(lines) if line[:1] not in ("#", "")}
    sides = {}
    for side, registry, package, *_ in rows.values():
        if sides.setdefault((registry, package), side) != side:
            sys.exit(f"{package} is on both sides")
    (cache / "done").mkdir(parents=True, exist_ok=True)
    wanted = {
        cache / "corpus" / side / language / package.replace("/", "__")
        for side, _, package, _, languages, _ in rows.values()
        for language in languages.split(",")
    }
    for folder in (cache / "corpus").glob("*/*/*"):
        if folder not in wanted:
            shutil.rmtree(folder)
    apt = apt_options(cache)

    def one(item):
        at, (side, registry, package, version, languages, digest) = item
        mark = cache / "done" / f"{side}-{registry}-{package.replace('/', '__')}"
        if version == NEWEST and not pin:
            return f"{package} has no version: run this with --pin"
        if mark.exists() and mark.read_text().split("\t")[:3] == [version, languages, digest]:
            return None
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            try:
                found, files = fetch(apt, registry, package, version, pathlib.Path(folder))
                counts, kept = keep(cache, side, package, languages.split(","), files)
            except Exception as error:  # whatever is missing is told, and the rest goes on
                detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                return f"{package} {version} could not be had: {detail[-1] if detail else error!r}"
        if pin and digest == NEWEST:
            lines[at] = "\t".join([side, registry, package, found, languages, kept])
        elif (found, kept) != (version, digest):
            return f"{package} {version} is not what it was: {found}, hash {kept} instead of {digest}"
        mark.write_text("\t".join([found, languages, kept, counts]))
        missing = [language for language in languages.split(",") if f"{language}:" not in counts]
        return f"{package} {found} has no {', '.join(missing)}" if pin and missing else None

    with ThreadPoolExecutor(4) as pool:
        faults = [fault for fault in pool.map(one, rows.items()) if fault]
    if pin:
        table.write_text("\n".join(lines) + "\n")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
