"""What a dialect for work other than conversation offers: rerank, pictures, speech, transcription, checks, counting.

The same division as in `dialect.py`: `TaskOutbound` is how a vendor is asked, `TaskDialect` is spoken by clients as
well. Methods are pure. A question is a `Task`, an answer a `Result`, each of one kind.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import Result, Task
from polyroute.dialects.dialect import Meter
from polyroute.mesh.errors import MeshError

JSON = "application/json"


class Body(NamedTuple):
    """Bytes and what they are.

    Attributes:
        data: The bytes.
        content_type: Media type with its parameters.
        path: Of a request to a vendor: where it goes, as a reference relative to the address of the dialect's usual
            requests (RFC 3986, 5.2), such as `edits` beside `generations`; empty for that address itself.
        headers: Of a request to a vendor: headers that the dialect needs, as pairs of lower-case name and value.
    """

    data: bytes
    content_type: str = JSON
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Outcome(NamedTuple):
    """A whole answer.

    Attributes:
        result: What the vendor gave.
        usage: What it says it used; None when it does not.
    """

    result: Result
    usage: Usage | None


class TaskOutbound(Protocol):
    """A wire format in which a vendor can be asked for one kind of work."""

    @property
    def name(self) -> str:
        """Its name in contracts and configuration, such as `cohere.rerank`."""
        ...

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the names of parameters that it cannot express.

        Args:
            task: The work.
            model: The model's id in the vendor's words.
            source: Dialect the request came in; empty for a typed one. Extensions of another dialect are dropped.

        Raises:
            MeshError: FAULT_UNSUPPORTED when content, not a mere parameter, cannot be expressed; metadata `param`.
        """
        ...

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer.

        Raises:
            MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
        """
        ...

    def pending(self, body: bytes) -> str:
        """Where to ask again for work that goes on at the vendor, when an answer says that it does; else empty.

        A reference relative to the address of the dialect's usual requests, to be asked with GET.

        Raises:
            MeshError: FAULT_BAD_ANSWER for a handle that could not stand in an address.
        """
        ...

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        ...


class TaskDialect(TaskOutbound, Protocol):
    """A wire format for one kind of work that clients speak as well."""

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request, untrusted.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes for a vendor of the same dialect, changed only where they must be."""
        ...

    def read_task(self, body: Body) -> Task:
        """A client's request.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client; `model` is the name the client asked for, `task` what it asked."""
        ...

    def meter(self) -> Meter:
        """A meter for one stream that is passed on as it is."""
        ...

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer that is passed on as it is says of its usage; None when it says nothing.

        Raises:
            MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
        """
        ...
