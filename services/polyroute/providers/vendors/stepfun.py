"""StepFun. https://platform.stepfun.com/docs/zh/api-reference/chat/chat-completion-create."""

from typing import Final

from polyroute.dialects.openai_chat import Options
from polyroute.providers.spoken import CHAT, IMAGES, MESSAGES, SPEECH, TRANSCRIPTIONS, below
from polyroute.providers.vendor import Vendor

VENDOR: Final = Vendor(
    name="stepfun",
    base_url="https://api.stepfun.com",
    regions={"cn": "https://api.stepfun.com", "international": "https://api.stepfun.ai"},
    tails=("/v1",),
    key_env=("STEP_API_KEY", "STEPFUN_API_KEY"),
    speaks=(*below("/v1", CHAT, IMAGES, SPEECH, TRANSCRIPTIONS), MESSAGES),
    options={"openai.chat": Options(reasoning_member="reasoning")},
    price_book="stepfun",
    price_books={"international": ""},
)
