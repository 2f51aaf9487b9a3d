"""A server that answers as `vllm serve` does, with the demo model on the engine transformers behind it."""

import json
import math
import queue
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import torch

from pts.models.load import ModelOptions, load_model
from pts.policies import policy_of
from pts.records import RolloutRequest, Sampling
from pts.serving.service import Service
from pts.serving.worker import PtsServed

NAME = "served-demo"
OPEN = Sampling(temperature=1.0, top_k=0, top_p=1.0)
MODEL = {"id": NAME, "root": "demo", "parent": None, "max_model_len": 512}


class Demo:
    """The demo model; completions that are wanted at the same time are written in one batch."""

    def __init__(self):
        self.loaded = load_model(ModelOptions("demo", dtype="float32"))
        self.policy = policy_of(self.loaded)
        self._wanted = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def complete(self, body):
        """The new tokens of a request."""
        answer = queue.SimpleQueue()
        self._wanted.put((body, answer))
        return answer.get()

    def logits(self, ids, count):
        """What vLLM calls prompt_logprobs."""
        answer = queue.SimpleQueue()
        self._wanted.put(((ids, count), answer))
        return answer.get()

    def _write(self):
        while True:
            taken = [self._wanted.get()]
            while not self._wanted.empty():
                taken.append(self._wanted.get())
            asked = {}
            for place, (wanted, answer) in enumerate(taken):
                if isinstance(wanted, tuple):
                    answer.put(self._logits(*wanted))
                    continue
                names = ("temperature", "top_k", "top_p", "min_p")
                given = {name: wanted[name] for name in names if name in wanted}
                sampling = Sampling(**given, budget=wanted["max_tokens"])
                seed = wanted.get("seed", 0)
                request = RolloutRequest(tuple(wanted["prompt"]), seed=seed, sampling=sampling, key=str(place))
                asked[request] = answer
            for rollout in self.policy.rollouts(list(asked)):
                asked[rollout.request].put(list(rollout.completion))

    def _logits(self, ids, count):
        rows = [None]
        for found, own in zip(self.policy.next_token_probs(ids[:1], ids[1:], OPEN), ids[1:], strict=True):
            scores = {int(token): math.log(prob) for token, prob in zip(found.ids, found.probs, strict=True)}
            ranked = sorted(scores, key=scores.get, reverse=True)
            chosen = dict.fromkeys([own, *(ranked if count < 0 else ranked[:count])])
            rows.append({str(one): {"logprob": scores[one], "rank": ranked.index(one) + 1} for one in chosen})
        return rows


class Worker(PtsServed):
    """What `pts` adds to a server's worker, where the demo model makes one step after another."""

    def __init__(self, demo, **about):
        self.demo, self.about, self.lock = demo, about, threading.Lock()
        self.service = Service()
        self.service.completions.tokenizer, self.service.attached = demo.loaded.tokenizer, True
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(enforce_eager=about.get("eager", True), dtype="torch.float32"),
            scheduler_config=SimpleNamespace(async_scheduling=about.get("asynchronous", False)),
            parallel_config=SimpleNamespace(world_size=1),
        )

    def pts_is_v2(self):
        return self.about.get("v2", False)

    def pts_services(self):
        return [self.service] * self.about.get("services", 1)

    def call(self, body):
        with self.lock:
            return getattr(self, body["method"])(*body["args"])

    def complete(self, body):
        """The new tokens of a request, each left by the service."""
        ids, output = list(body["prompt"]), []
        assert body["temperature"] == 0
        with self.lock, torch.inference_mode():
            label = self.service.begin(SimpleNamespace(extra_args=body["vllm_xargs"]), ids, output)
            while len(output) < body["max_tokens"] and not set(output[-1:]) & set(body["stop_token_ids"]):
                self.service.hear([label])
                logits = self.demo.loaded.model(torch.tensor([ids + output])).logits[:, -1]
                self.service.draw(logits, [(0, label)])
                output.append(int(logits[0].argmax()))
        return output


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        self._answered(None)

    def do_POST(self):
        self._answered(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answered(self, body):
        settings = self.server.settings
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        if self.path in settings.get("slow", ()):
            time.sleep(1.0)
        if self.path in settings.get("answers", {}):
            return self.say(*settings["answers"][self.path])
        if settings.get("key") and self.headers.get("Authorization") != f"Bearer {settings['key']}":
            return self.say(401, {"error": "Unauthorized"})
        if self.path == "/version":
            return self.say(200, {"version": settings.get("version", "0.32.0")})
        if self.path == "/v1/models":
            return self.say(200, {"object": "list", "data": settings.get("models", [MODEL])})
        if self.path == "/tokenize":
            tokens = list(self.server.demo.policy.encode_completion(body["prompt"]))
            return self.say(200, {"tokens": tokens, "count": len(tokens)})
        if self.path == "/collective_rpc":
            worker = settings.get("worker")
            if worker is None:
                return self.say(404, {"detail": "Not Found"})
            return self.say(200, {"results": [worker.call(body)] * settings.get("workers", 1)})
        return self._complete(body)

    def _complete(self, body):
        server, left = self.server, self.server.settings.get("completions", math.inf)
        with server.lock:
            server.completed += 1
            if server.completed > left:
                # As a server that is killed: no answer, and the connection is gone.
                self.close_connection = True
                self.connection.close()
                return None
        assert body["model"] == NAME
        assert body["ignore_eos"]
        count, choice = body.get("prompt_logprobs"), {"index": 0, "text": "", "finish_reason": "length"}
        if count is not None:
            most = server.settings.get("max_logprobs", 32)
            if not 0 <= count <= most:
                why = f"Requested prompt logprobs of {count}, which is greater than max allowed: {most}"
                return self.say(400, {"error": {"message": why, "type": "BadRequestError", "code": 400}})
            choice["prompt_logprobs"] = server.demo.logits(tuple(body["prompt"]), count)
        labelled = "vllm_xargs" in body
        tokens = server.settings["worker"].complete(body) if labelled else server.demo.complete(body)
        if body.get("stream"):
            return self._stream(tokens)
        choice["token_ids"] = tokens
        return self.say(200, {"id": "cmpl-1", "object": "text_completion", "choices": [choice]})

    def _stream(self, tokens):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for place, token in enumerate(tokens, 1):
            finish = "stop" if place == len(tokens) else None
            part = {"choices": [{"index": 0, "text": "", "token_ids": [token], "finish_reason": finish}]}
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def say(self, status, what, **headers):
        """Answer an object as JSON, and anything else as it is."""
        text = what if isinstance(what, str) else json.dumps(what)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """A client that breaks off is no error of the test."""


@contextmanager
def serving(demo, port=0, **settings):
    """A server on this machine, with its address as `address` and what it was asked as `asked`."""
    server = Server(("127.0.0.1", port), Handler)
    server.demo, server.settings, server.asked, server.completed = demo, settings, [], 0
    server.lock = threading.Lock()
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
