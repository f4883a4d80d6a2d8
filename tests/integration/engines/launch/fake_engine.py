"""A program that is started like an engine and behaves as its arguments say. Standard library only.

fake_engine.py serve MODEL --host H --port P [--behaviour B …] [--served-model-name NAME] [--tell FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("model")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--behaviour", action="append", default=[])
    parser.add_argument("--served-model-name")
    parser.add_argument("--tell")
    asked = parser.parse_args()
    if "dies" in asked.behaviour:
        print("RuntimeError: not enough memory for the KV cache", flush=True)
        return 3
    if "stubborn" in asked.behaviour:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "talks" in asked.behaviour:
        for number in range(60_000):
            print(f"line {number} " + "x" * 100)
    child = None
    if "family" in asked.behaviour:
        # As TGI's launcher does with its shards: a group of its own, the same session.
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], process_group=0, stdout=subprocess.DEVNULL
        )
    if asked.tell:
        told = {
            "environment": dict(os.environ),
            "argv": sys.argv,
            "pid": os.getpid(),
            "child": child.pid if child else None,
            "files": {path.name: path.read_text() for path in Path(asked.model).glob("*")},
        }
        fresh = Path(asked.tell + ".new")
        fresh.write_text(json.dumps(told))
        fresh.replace(asked.tell)
    print("loading the weights", flush=True)
    serve(asked)
    return 0


def serve(asked: argparse.Namespace) -> None:
    name = asked.served_model_name or asked.model
    generations = [0]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return

        def answer(self, status: int, content: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(200, b"")
            elif self.path == "/v1/models":
                self.answer(200, json.dumps({"data": [{"id": name}]}).encode())
            else:
                self.answer(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/tokenize":
                self.answer(404, b"{}")
                return
            generations[0] += 1
            if "dies-in-mid-run" in asked.behaviour and generations[0] > 5:
                print(f"torch.OutOfMemoryError: CUDA out of memory, key {os.environ['VLLM_API_KEY']}", flush=True)
                os.abort()
            if body["model"] != name:
                self.answer(404, b'{"error":{"message":"The model does not exist.","code":404}}')
            elif "wants-no-grammar" in asked.behaviour and "guided_grammar" in body:
                self.answer(400, b'{"error":{"message":"no grammar here","code":400}}')
            elif "breaks-later" in asked.behaviour and generations[0] > 1:
                self.answer(500, b'{"error":"CUDA error"}')
            elif "refuses" in asked.behaviour:
                self.answer(400, b'{"error":{"message":"no chat template","code":400}}')
            elif "never-ready" in asked.behaviour or ("late" in asked.behaviour and generations[0] < 4):
                self.answer(503, b'{"error":"loading"}')
            else:
                self.answer(200, events(body, name), "text/event-stream")

    server = ThreadingHTTPServer((asked.host, asked.port), Handler)
    server.daemon_threads = True
    if "stubborn" not in asked.behaviour:
        stop = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda _number, _frame: stop.start())
    server.serve_forever(poll_interval=0.05)


def events(body: dict[str, Any], name: str) -> bytes:
    count = body["max_tokens"]
    chunks: list[dict[str, Any]] = [
        {"model": name, "choices": [{"index": 0, "text": " x", "finish_reason": None}]} for _ in range(count)
    ]
    chunks[-1]["choices"][0]["finish_reason"] = "length"
    usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
    chunks.append({"model": name, "choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


if __name__ == "__main__":
    sys.exit(main())
