"""Drives the daemon with the real OpenAI Python SDK, and compares it with a real inference server.

    python run.py                       all suites; the daemon's program is $DEMUXAI or target/debug/demuxai
    python run.py --base-url URL        only the suite for `demuxai demo`, against one that runs already
    python run.py --only WORDS          only the cases with these words in their names

It starts what it needs on free ports of 127.0.0.1 and ends all of it. The last line is `N passed, N failed`.
"""
import argparse
import os
import sys
import tempfile
from types import SimpleNamespace

import openai

import demo_cases
import fault_cases
import llama_cases
from faulty import Faulty
from harness import daemon, free_port, llama
from wire import Tee

KEY = "a-key-for-tests"

LLAMA = """
[providers.llama]
type = "openai"
url = "{tee}"

[providers.embed]
type = "openai"
url = "{embed}/v1/"
"""

FAULTS = """
[providers.bad]
type = "openai"
url = "{faulty}"
timeouts = {{ first_token = 1, idle = 1, total = 30 }}

[providers.narrow]
type = "openai"
url = "{faulty}"
max_in_flight = 1
max_wait = 0

[providers.dead]
type = "openai"
url = "http://127.0.0.1:{dead}"

[groups.panel]
type = "consensus"
members = ["bad/fine", "bad/fine", "bad/truncated"]
judge = "bad/fine"
"""

KEYED = """
[keys.test]
key = "${{TEST_KEY}}"
models = ["bad/fine"]
"""


def client(url, key="any"):
    """The SDK without its retries, which would hide what happens."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def run_demo(directory, only, base_url=None):
    if base_url:
        return demo_cases.suite.run(SimpleNamespace(client=client(base_url.removesuffix("/v1"))), only)
    with daemon(directory, "demo", "demo") as url:
        return demo_cases.suite.run(SimpleNamespace(client=client(url)), only)


def run_llama(directory, only):
    with llama(directory, "tiny") as chat, llama(directory, "tiny-embed", "--embed") as embed:
        tee = Tee(chat)
        with daemon(directory, "llama", config=LLAMA.format(tee=tee.url, embed=embed)) as url:
            world = SimpleNamespace(
                url=url, client=client(url), model="llama/tiny", tee=tee,
                direct_url=chat, direct=client(chat), direct_model="tiny",
                direct_embed_url=embed, direct_embed=client(embed),
            )
            return llama_cases.suite.run(world, only)


def run_faults(directory, only):
    faulty = Faulty()
    config = FAULTS.format(faulty=faulty.url, dead=free_port())
    keyed = config + KEYED.format()
    with daemon(directory, "faults", config=config) as url, \
            daemon(directory, "keyed", config=keyed, TEST_KEY=KEY) as keyed_url:
        world = SimpleNamespace(client=client(url), keyed=client(keyed_url, KEY), faulty=faulty)
        return fault_cases.suite.run(world, only)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url")
    parser.add_argument("--only")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="demuxai-sdk-") as directory:
        runs = [lambda: run_demo(directory, options.only, options.base_url)]
        if not options.base_url:
            runs += [lambda: run_llama(directory, options.only), lambda: run_faults(directory, options.only)]
        for run in runs:
            try:
                good, bad = run()
            except RuntimeError as error:
                print(f"  FAILED to start: {error}", flush=True)
                good, bad = 0, 1
            passed, failed = passed + good, failed + bad
        if failed:
            for name in sorted(os.listdir(directory)):
                if name.endswith(".log") and not name.startswith("tiny"):
                    with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as log:
                        print(f"\n--- the end of {name}\n{log.read()[-3000:]}")
    print(f"\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
