"""A typed stub, and no HTTP: the generated modules come with the package."""

import os

import grpc

from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.gateway.v1 import gateway_pb2 as gateway
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub

question = chat.Message(role=chat.ROLE_USER, parts=[chat.Part(text=chat.TextPart(text="Say hello."))])
model = os.environ.get("POLYROUTE_MODEL", "smollm2-135m-instruct")
key = ("authorization", f"Bearer {os.environ['POLYROUTE_KEY']}")

with grpc.insecure_channel(os.environ.get("POLYROUTE_GRPC", "127.0.0.1:8081")) as channel:
    request = gateway.ChatRequest(chat=chat.ChatRequest(model=model, messages=[question]))
    for response in GatewayServiceStub(channel).Chat(request, timeout=60, metadata=[key]):
        for step in response.steps:
            print(step.event.text.text, end="", flush=True)
print()
