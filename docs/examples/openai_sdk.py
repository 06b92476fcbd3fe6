"""OpenAI's own client: only the base URL and the key are others."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("POLYROUTE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ["POLYROUTE_KEY"],
)
stream = client.chat.completions.create(
    model=os.environ.get("POLYROUTE_MODEL", "smollm2-135m-instruct"),
    messages=[{"role": "user", "content": "Say hello."}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
