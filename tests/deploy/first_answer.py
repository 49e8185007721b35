"""Waits until a demuxai that is just starting has streamed a whole chat answer; exits 1 after a time limit.

    python first_answer.py http://127.0.0.1:6041 10
"""
import json
import sys
import time
import urllib.error
import urllib.request


def stream(url):
    """The text of one streamed answer of the first model that can chat."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as answer:
        models = json.load(answer)["data"]
    model = next(entry["id"] for entry in models if entry["capabilities"].get("completion_chat"))
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    text, done = "", False
    with urllib.request.urlopen(request, timeout=10) as answer:
        for line in answer:
            data = line.decode().removeprefix("data: ").strip()
            done = done or data == "[DONE]"
            if data.startswith("{"):
                for choice in json.loads(data)["choices"]:
                    text += choice["delta"].get("content") or ""
    if not (done and text):
        raise ValueError(f"not a whole answer from {model}: {text!r}, [DONE]: {done}")
    return model, text


def main(url, limit):
    begin = time.monotonic()
    problem = "nothing was tried"
    while time.monotonic() - begin < limit:
        try:
            model, text = stream(url)
        except (urllib.error.URLError, OSError, ValueError, KeyError, StopIteration) as error:
            problem = repr(error)
            time.sleep(0.05)
            continue
        print(f"{model} streamed {text!r} {time.monotonic() - begin:.1f} s after the start")
        return 0
    print(f"no streamed answer within {limit} s: {problem}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
