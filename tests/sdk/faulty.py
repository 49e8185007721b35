"""A scripted upstream that fails in the ways a real one does; the model's name says how.

It is asked through the daemon by the fault cases only. Everything is sent by raw sockets, so that a broken answer
can be as broken as on the wire.
"""
import json
import socket
import threading
import time

MODELS = ["fine", "truncated", "error-in-stream", "error-in-200", "quota", "wrong-key", "forbidden", "teapot",
          "not-json", "slow", "silent"]
HEAD = "HTTP/1.1 {} X\r\nContent-Type: {}\r\nConnection: close\r\n{}\r\n"


def chunk(fields, finish=None, usage=None):
    choices = [] if usage else [{"index": 0, "delta": fields, "finish_reason": finish}]
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices,
            "usage": usage}
    return piece(f"data: {json.dumps(data)}\n\n")


def piece(text):
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def whole(status, body, *headers):
    text = body if isinstance(body, str) else json.dumps(body)
    more = "".join(f"{line}\r\n" for line in (*headers, f"Content-Length: {len(text.encode())}"))
    return (HEAD.format(status, "application/json", more) + text).encode()


def error(message, kind, code=None):
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class Faulty:
    """Serves on a free port until the process ends."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.received = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            link, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        with link:
            data = b""
            while b"\r\n\r\n" not in data:
                data += link.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            sizes = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
            while sizes and len(body) < sizes[0]:
                body += link.recv(65536)
            if head.startswith(b"GET"):
                models = [{"id": name, "object": "model", "created": 1, "owned_by": "nobody"} for name in MODELS]
                link.sendall(whole(200, {"object": "list", "data": models}))
                return
            asked = json.loads(body)
            self.received.append(asked)
            try:
                self._answer(link, asked["model"], asked.get("stream"))
            except OSError:
                pass  # the daemon has left, as some cases want

    def _answer(self, link, model, stream):
        if model == "fine" and stream:
            link.sendall(HEAD.format(200, "text/event-stream", "Transfer-Encoding: chunked\r\n").encode())
            link.sendall(chunk({"role": "assistant", "content": "fi"}) + chunk({"content": "ne"}) + chunk({}, "stop"))
            link.sendall(chunk({}, usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}))
            link.sendall(piece("data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        if model in ("truncated", "error-in-stream", "silent"):
            link.sendall(HEAD.format(200, "text/event-stream", "Transfer-Encoding: chunked\r\n").encode())
            link.sendall(chunk({"role": "assistant", "content": "half "}) + chunk({"content": "an answer"}))
            if model == "error-in-stream":
                link.sendall(piece(f"data: {json.dumps(error('the engine fell over', 'server_error'))}\n\n"))
            if model == "silent":
                time.sleep(5)
            return
        if model == "slow":
            time.sleep(5)
        link.sendall({
            "error-in-200": whole(200, error("no capacity", "server_error")),
            "quota": whole(429, error("slow down", "rate_limit_error", "rate_limit_exceeded"), "Retry-After: 7"),
            "wrong-key": whole(401, error("bad key: sk-upstream", "invalid_request_error", "invalid_api_key")),
            "forbidden": whole(403, error("not in your country", "invalid_request_error")),
            "teapot": whole(422, error("no such field", "invalid_request_error")),
            "not-json": whole(500, "<html>oops</html>"),
        }.get(model, whole(200, {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fine", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})))
