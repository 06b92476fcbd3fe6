"""LangChain and LlamaIndex with the gateway: `python frameworks.py NAME URL KEY MODEL...` prints one line of JSON.

Run by the Python of an environment that has them; their dependencies are at odds with the gateway's.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.update(LANGSMITH_TRACING="false", DO_NOT_TRACK="1", LLAMA_INDEX_CACHE_DIR="/tmp")  # nobody is told


def langchain(url: str, key: str, model: str) -> dict[str, Any]:
    """Chat, stream with usage, tools and their results, structured output, the newer API, embeddings."""
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import StructuredTool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import BaseModel, SecretStr

    def weather(city: str) -> str:
        """Tells the weather."""
        return f"{city} is wet"

    class City(BaseModel):
        """A city."""

        name: str

    tool = StructuredTool.from_function(weather)
    told: dict[str, Any] = {"model": model, "base_url": f"{url}/v1", "api_key": SecretStr(key), "max_retries": 0}
    chat = ChatOpenAI(**told, stream_usage=True)
    whole = chat.invoke("hello")
    chunks = list(chat.stream("hello"))
    total = sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata)
    question = HumanMessage("weather?")
    asked = chat.bind_tools([tool]).invoke([question])
    results = [ToolMessage(tool.invoke(call["args"]), tool_call_id=call["id"]) for call in asked.tool_calls]
    answered = chat.bind_tools([tool]).invoke([question, asked, *results])
    city: Any = chat.with_structured_output(City, method="json_schema").invoke("where?")
    newer = ChatOpenAI(**told, use_responses_api=True).invoke("hello")
    vectors = OpenAIEmbeddings(**told, check_embedding_ctx_length=False).embed_documents(["one", "three"])
    return {
        "whole": whole.content,
        "pieces": [chunk.content for chunk in chunks if chunk.content],
        "total": total,
        "calls": [call["args"] for call in asked.tool_calls],
        "answered": answered.content,
        "city": city.name,
        "newer": newer.text,
        "vectors": vectors,
    }


def llamaindex(url: str, key: str, model: str) -> dict[str, Any]:
    """Chat, stream, tools, structured output, completion, embeddings, by the class for servers like OpenAI's."""
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike
    from pydantic import BaseModel

    class City(BaseModel):
        """A city."""

        name: str

    def weather(city: str) -> str:
        """Tells the weather."""
        return f"{city} is wet"

    llm = OpenAILike(
        model=model,
        api_base=f"{url}/v1",
        api_key=key,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        max_retries=0,
    )
    question = ChatMessage(role="user", content="hello")
    whole = llm.chat([question])
    pieces = [chunk.delta for chunk in llm.stream_chat([question]) if chunk.delta]
    tool = FunctionTool.from_defaults(fn=weather)
    asked = llm.chat_with_tools([tool], user_msg="weather?", allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(asked)
    results = [
        ChatMessage(role="tool", content=weather(**call.tool_kwargs), additional_kwargs={"tool_call_id": call.tool_id})
        for call in calls
    ]
    answered = llm.chat([ChatMessage(role="user", content="weather?"), asked.message, *results])
    city: Any = llm.as_structured_llm(City).chat([question]).raw
    embedder = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key=key, max_retries=0)
    vectors = embedder.get_text_embedding_batch(["one", "three"])
    return {
        "whole": whole.message.content,
        "pieces": pieces,
        "calls": [call.tool_kwargs for call in calls],
        "answered": answered.message.content,
        "city": city.name,
        "vectors": vectors,
    }


if __name__ == "__main__":
    scripts: dict[str, Callable[[str, str, str], dict[str, Any]]] = {"langchain": langchain, "llamaindex": llamaindex}
    name, url, key, *models = sys.argv[1:]
    print(json.dumps([scripts[name](url, key, model) for model in models]))  # noqa: T201 - what the test reads
