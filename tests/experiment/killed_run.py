"""Runs the recipe in the folder given, with a teacher over HTTP that logs its requests.

The answer is a function of the prompt, and takes 20 ms. tests/experiment/test_run.py kills it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from tutelage.config.recipe_file import parse_recipe
from tutelage.experiment.run import run


def main(folder: Path) -> int:
    """Returns how many requests were made."""
    lock = threading.Lock()
    asked = 0

    class Teacher(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal asked
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            digest = hashlib.sha256(prompt.encode()).hexdigest()
            with lock, (folder / "asked.jsonl").open("a", encoding="utf-8") as file:
                asked += 1
                file.write(json.dumps({"prompt": digest}) + "\n")
            time.sleep(0.02)
            words = " ".join(word for word in prompt.split() if word.isalpha())
            answer = json.dumps(
                {
                    "choices": [
                        {
                            "message": {"role": "assistant", "content": f"Because {words[-60:]}."},
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": {"prompt_tokens": 50, "completion_tokens": 12},
                }
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Teacher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    values = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    values["teacher"] = {
        "model": "openai:stand-in",
        "base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "provider": "test",  # the port differs from process to process
        "concurrency": 4,
    }
    values["baselines"] = ["teacher"]  # two requests more for each row of dev
    recipe = parse_recipe(values)
    run(recipe, runs=folder / "runs", ledger=folder / "ledger.sqlite", workers=1)
    server.shutdown()
    server.server_close()
    return asked
