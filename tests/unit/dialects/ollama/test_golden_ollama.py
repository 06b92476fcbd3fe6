"""Hand-written cases, one per shape that breaks naive code; see `tests/outbound.py`."""

from pathlib import Path

from polyroute.dialects.ollama_chat import OUTBOUND
from tests.outbound import check_answer, check_question, golden


@golden("ollama_chat", "request")
def test_what_the_vendor_is_asked(case: Path) -> None:
    """The conversation in the vendor's form, or why it cannot be."""
    check_question(OUTBOUND, case)


@golden("ollama_chat", "response")
def test_what_the_vendor_answers(case: Path) -> None:
    """Read as it was written down by hand, however it is cut."""
    check_answer(OUTBOUND, case)
