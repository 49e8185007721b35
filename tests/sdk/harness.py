"""What the cases stand on: a register of them, comparisons that show what differs, and processes that always end.

No test framework: each case is one plain function, and the last line printed is `N passed, N failed`.
"""
import contextlib
import difflib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class Suite:
    """Cases in the order of their definition; their names are sentences."""

    def __init__(self, title):
        self.title = title
        self.cases = []

    def case(self, function):
        self.cases.append(function)
        return function

    def run(self, world, only=None):
        """Runs all cases with `world` as their one argument; returns how many passed and failed."""
        passed = failed = 0
        print(f"\n{self.title}", flush=True)
        for function in self.cases:
            name = function.__name__.replace("_", " ")
            if only and only not in name:
                continue
            begin = time.monotonic()
            try:
                function(world)
            except Exception:  # any failure of a case is counted, and the next one runs
                failed += 1
                print(f"  FAILED {name}", flush=True)
                print("    " + traceback.format_exc().replace("\n", "\n    "), flush=True)
            else:
                passed += 1
                print(f"  ok     {name} ({time.monotonic() - begin:.2f} s)", flush=True)
        return passed, failed


def equal(got, expected, what="value"):
    """Fails with a line-by-line difference."""
    if got == expected:
        return
    if isinstance(got, bytes) and isinstance(expected, bytes):
        left, right = (side.decode("utf-8", "backslashreplace").splitlines() for side in (expected, got))
    elif isinstance(got, (dict, list)):
        left, right = (json.dumps(side, indent=1, sort_keys=True).splitlines() for side in (expected, got))
    else:
        left, right = [repr(expected)], [repr(got)]
    difference = "\n".join(difflib.unified_diff(left, right, "expected", "got", lineterm="", n=1))
    raise AssertionError(f"{what} differs:\n{difference[:4000]}")


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def raises(kind, function):
    """The exception of exactly this class that `function` raises."""
    try:
        function()
    except Exception as error:
        check(type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}")
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


def eventually(condition, what, seconds=5.0):
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.01)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(command, log, ready_url, seconds=30, **environment):
    """Runs a command until the block ends; the block begins when the url answers 200."""
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": os.path.dirname(log), **environment},
        )
    try:
        deadline = time.monotonic() + seconds
        while not answers(ready_url):
            if child.poll() is not None or time.monotonic() > deadline:
                with open(log, encoding="utf-8", errors="replace") as said:
                    raise RuntimeError(f"{command[0]} does not answer at {ready_url}; it says:\n{said.read()[-4000:]}")
            time.sleep(0.02)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def llama(directory, name, *options):
    """llama.cpp's server with the tiny model; yields its base URL."""
    model = os.path.join(directory, "tiny.gguf")
    gguf = os.path.join(ROOT, "tests", "gguf")
    if not os.path.exists(model):
        subprocess.run([sys.executable, os.path.join(gguf, "make_tiny_gguf.py"), model], check=True,
                       stdout=subprocess.DEVNULL)
    port = free_port()
    command = [sys.executable, os.path.join(gguf, "serve.py"), model, str(port), "--alias", name, *options]
    with process(command, os.path.join(directory, f"{name}.log"), f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def daemon(directory, name, *arguments, config=None, **environment):
    """The daemon, with a configuration or as its arguments say; yields its base URL."""
    binary = os.environ.get("DEMUXAI") or os.path.join(ROOT, "target", "debug", "demuxai")
    port = free_port()
    command = [binary, *(arguments or ["serve"])]
    if config is not None:
        path = os.path.join(directory, f"{name}.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        command += ["--config", path]
    command += ["--listen", f"127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    with process(command, os.path.join(directory, f"{name}.log"), f"{url}/healthz", **environment):
        yield url
