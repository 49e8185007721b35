"""Records the exact answers of llama.cpp's server as transcripts, which the tests replay without it.

    python record.py        writes tests/transcripts/llamacpp/*.http anew (with the Python of tests/sdk/run.sh)

The format is that of `src/demo/transcript.rs`: the head as on the wire, the body, and directives that begin with `@`.
A transcript is read back and compared with what was received before it is written.
"""
import datetime
import importlib.metadata
import json
import os
import socket
import tempfile

from harness import ROOT, llama
from wire import parse

CHAT = {"model": "tiny", "seed": 7, "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
TOOLS = {"model": "tiny", "seed": 7, "temperature": 0, "max_tokens": 200, "messages": [{"role": "user", "content": "paris?"}],
         "tools": [{"type": "function", "function": {"name": "weather", "parameters": {
             "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]}
TEXT = {"model": "tiny", "seed": 7, "temperature": 0, "max_tokens": 9, "prompt": "the weather in"}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}

#: file name: (which server, method, path, request)
RECORDINGS = {
    "models": ("chat", "GET", "/v1/models", None),
    "chat": ("chat", "POST", "/v1/chat/completions", CHAT),
    "chat_stream": ("chat", "POST", "/v1/chat/completions", {**CHAT, **STREAM}),
    "tools": ("chat", "POST", "/v1/chat/completions", TOOLS),
    "tools_stream": ("chat", "POST", "/v1/chat/completions", {**TOOLS, **STREAM}),
    "completions": ("chat", "POST", "/v1/completions", TEXT),
    "completions_stream": ("chat", "POST", "/v1/completions", {**TEXT, **STREAM}),
    "error_400": ("chat", "POST", "/v1/chat/completions", {"model": "tiny", "messages": 3}),
    "embeddings": ("embed", "POST", "/v1/embeddings", {"model": "tiny-embed", "input": "hi", "encoding_format": "float"}),
    "embeddings_base64": ("embed", "POST", "/v1/embeddings",
                          {"model": "tiny-embed", "input": "hi", "encoding_format": "base64"}),
}


def receive(url, method, path, request):
    """All bytes of one answer, which the server is not asked to close after."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(request).encode() if request else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as link:
        link.sendall(head.encode() + body)
        data = b""
        while not parse(data):
            piece = link.recv(65536)
            assert piece, f"the server closed in mid-answer: {data!r}"
            data += piece
    return data


def chunks(raw):
    """The chunks of a chunked body, in order, without the last."""
    found = []
    while True:
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return found
        found.append(rest[:length].decode())
        raw = rest[length + 2 :]


def lines(text):
    """Body lines as the format writes them; `text` ends with a newline."""
    return "".join(f"@{line}\n" if line.startswith("@") else f"{line}\n" for line in text[:-1].split("\n"))


def transcript(data, comments):
    head, _, raw = data.partition(b"\r\n\r\n")
    message = parse(data)[0]
    text = "".join(f"@# {comment}\n" for comment in comments) + head.decode("latin-1").replace("\r\n", "\n") + "\n\n"
    if "transfer-encoding" not in message.headers:
        text += lines(message.body.decode() + "\n")
        return text + ("@close\n" if message.headers.get("connection") == "close" else "")
    pieces = chunks(raw)
    assert all(piece.endswith("\n") for piece in pieces), "a chunk ends within a line; the format has no word for that"
    if all(piece.endswith("\n\n") and piece.count("\n\n") == 1 for piece in pieces):
        return text + "@events\n" + lines("".join(pieces)) + "@end\n"
    return text + "@flush\n".join(lines(piece) for piece in pieces) + "@end\n"


def body_of(text):
    """The body that a transcript stands for."""
    kept = [line for line in text.partition("\n\n")[2].split("\n")[:-1]]
    ends_with_newline = kept and kept[-1] == "@end"
    kept = [line[1:] if line.startswith("@@") else line for line in kept if line[:1] != "@" or line[:2] == "@@"]
    return ("\n".join(kept) + ("\n" if ends_with_newline else "")).encode()


def main():
    into = os.path.join(ROOT, "tests", "transcripts", "llamacpp")
    os.makedirs(into, exist_ok=True)
    version = importlib.metadata.version("xllamacpp")
    source = (f"llama.cpp's own server (PyPI: xllamacpp {version}) with the model of tests/gguf, "
              f"recorded {datetime.date.today()} by tests/sdk/record.py")
    with tempfile.TemporaryDirectory() as directory, \
            llama(directory, "tiny") as chat, llama(directory, "tiny-embed", "--embed") as embed:
        for name, (server, method, path, request) in RECORDINGS.items():
            data = receive({"chat": chat, "embed": embed}[server], method, path, request)
            asked = f"{method} {path}" + (f" {json.dumps(request)}" if request else "")
            text = transcript(data, [source, asked])
            assert body_of(text) == parse(data)[0].body, f"{name}: the transcript does not say what was received"
            with open(os.path.join(into, f"{name}.http"), "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            print(f"{name}.http: {len(data)} bytes")


if __name__ == "__main__":
    main()
