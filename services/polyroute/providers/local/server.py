"""The child process that serves both models: `python -m polyroute.providers.local.server`.

It is a process of its own because native code can die in ways no handler catches, and because its memory is its own
to give back. What it is told comes as one line of JSON on stdin (`Settings`), what it answers is one line of JSON on
stdout (`Ready`); errors go to stderr. It leaves when its stdin ends, which the kernel sees to however its parent dies:
signals alone left an orphan now and then. Needs the extra `local`, and nothing of this project but this file.
"""

import json
import os
import sys
from typing import Any, Final, TypedDict

HOST: Final = "127.0.0.1"
HTTP_THREADS: Final = 16  # each waits in one connection: streams, and calls that queue for the one slot
EMBEDDING_TOKENS: Final = 512  # what the encoder was made for; one text must fit one batch
ERRORS_ONLY: Final = 1  # of llama.cpp's log levels; more would write prompts

# A 135M model keeps to facts best at this; measured on twenty questions against the library's own defaults.
TEMPERATURE: Final = 0.1
MIN_P: Final = 0.2
REPEAT_PENALTY: Final = 1.05
SYSTEM_PROMPT: Final = "You are a knowledgeable assistant. Give a short, correct answer in plain English."

# ChatML as the model was trained on it, with our system prompt where the caller gives none (the model's own template
# has another there), and the newer role name `developer` read as `system`.
CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- set role = 'system' if message['role'] == 'developer' else message['role'] -%}"
    "{%- if loop.first and role != 'system' -%}"
    "{{ '<|im_start|>system\\n" + SYSTEM_PROMPT + "<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{{ '<|im_start|>' + role + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


class Settings(TypedDict):
    """What the child is told."""

    chat_path: str
    chat_name: str
    embedding_path: str
    embedding_name: str
    api_key: str  # asked for on every path but /health
    context_tokens: int
    answer_tokens: int
    threads: int
    idle_seconds: int


class Ready(TypedDict):
    """What the child answers when both models are loaded."""

    base_url: str  # of /v1/chat/completions and /v1/completions, without the /v1
    embedding_url: str  # of /v1/embeddings, likewise
    port: int  # of base_url
    pid: int


def main() -> None:
    """Reads the settings, loads, answers, and serves until stdin ends."""
    answer = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not reach the parent as an answer
    settings: Settings = json.loads(sys.stdin.buffer.readline())
    ready, _servers = serve(settings)  # they stop when nothing refers to them
    os.write(answer, json.dumps(ready).encode() + b"\n")
    os.close(answer)
    sys.stdin.buffer.read()
    # at once, without waiting for an answer under way: nothing here outlives the process
    os._exit(0)


def serve(settings: Settings) -> tuple[Ready, list[Any]]:
    """Starts one native HTTP server a model, each on a free port of the loopback; they run until they are dropped."""
    os.environ["OMP_WAIT_POLICY"] = "passive"  # read when the library loads: spinning threads starve their neighbours
    import xllamacpp

    chat = xllamacpp.Server(_chat(xllamacpp.CommonParams(), settings))
    embedding = xllamacpp.Server(_embedding(xllamacpp.CommonParams(), settings))
    address: str = chat.listening_address
    ready = Ready(
        base_url=address,
        embedding_url=embedding.listening_address,
        port=int(address.rpartition(":")[2]),
        pid=os.getpid(),
    )
    return ready, [chat, embedding]


def _chat(params: Any, settings: Settings) -> Any:
    _common(params, settings)
    params.model.path = settings["chat_path"]
    params.model_alias = {settings["chat_name"]}
    params.n_ctx = settings["context_tokens"]
    params.n_predict = settings["answer_tokens"]
    params.chat_template = CHAT_TEMPLATE
    params.sampling.temp = TEMPERATURE
    params.sampling.min_p = MIN_P
    params.sampling.penalty_repeat = REPEAT_PENALTY
    return params


def _embedding(params: Any, settings: Settings) -> Any:
    _common(params, settings)
    params.model.path = settings["embedding_path"]
    params.model_alias = {settings["embedding_name"]}
    params.embedding = True
    params.n_ctx = params.n_batch = params.n_ubatch = EMBEDDING_TOKENS
    return params


def _common(params: Any, settings: Settings) -> None:
    params.hostnames = [HOST]
    params.port = 0
    params.api_keys = [settings["api_key"]]
    params.cors_origins = ""  # no page in a browser may call it
    params.n_threads_http = HTTP_THREADS
    params.n_parallel = 1  # slots; they would share n_ctx, and one thread
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0  # the library's default keeps up to 8 GiB of old prompts
    params.sleep_idle_seconds = settings["idle_seconds"]
    params.fit_params = False  # the settings are the settings
    params.ui = False
    params.offline = True
    params.endpoint_slots = False  # would show what is being answered
    params.verbosity = ERRORS_ONLY


if __name__ == "__main__":
    main()
