"""Whom and what a call is for, as its caller says in headers and body."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.attribution import TAGS, from_body, from_headers, take
from polyroute.edge.record import record_of
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError


def of_headers(**headers: str) -> Trail:
    trail = Trail("r-1")
    from_headers(trail, {name.replace("_", "-"): value for name, value in headers.items()})
    return trail


def of_body(body: object, trail: Trail | None = None) -> Trail:
    trail = trail or Trail("r-1")
    from_body(trail, orjson.dumps(body))
    return trail


class TestHeaders:
    def test_all(self) -> None:
        """Tags, workflow and step, percent-encoded where they are not ASCII or hold a comma."""
        trail = of_headers(
            x_polyroute_tags="team=search, feature=caf%C3%A9%2C au lait,empty=,eq=a=b",
            x_polyroute_workflow="invoice run",
            x_polyroute_node="extract",
        )

        assert {"team": "search", "feature": "café, au lait", "empty": "", "eq": "a=b"} == trail.tags
        assert ("invoice run", "extract") == (trail.workflow, trail.node)

    def test_nothing(self) -> None:
        """Most calls say nothing."""
        trail = of_headers(x_polyroute_tags="")

        assert ({}, "", "", "") == (trail.tags, trail.workflow, trail.node, trail.user)

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("x_polyroute_tags", "team"),
            ("x_polyroute_tags", "=search"),
            ("x_polyroute_tags", "n" * 65 + "=1"),
            ("x_polyroute_tags", "n=" + "1" * 513),
            ("x_polyroute_tags", ",".join(f"n{number}=1" for number in range(TAGS + 1))),
            ("x_polyroute_tags", "n=%0A"),
            ("x_polyroute_tags", "n=%FF"),
            ("x_polyroute_workflow", "w" * 129),
            ("x_polyroute_workflow", "%00"),
            ("x_polyroute_node", "n" * 129),
        ],
    )
    def test_refused(self, header: str, value: str) -> None:
        """What cannot be kept as it was said is a mistake that names its header, and not its value."""
        with pytest.raises(MeshError) as refused:
            of_headers(**{header: value})

        assert pb.REASON_INVALID_REQUEST == refused.value.reason
        assert header.replace("_", "-") == refused.value.metadata["param"]
        assert value not in refused.value.message

    @given(st.text())
    def test_any_header(self, text: str) -> None:
        """Whatever stands there is read within the bounds, or refused."""
        trail = Trail("r-1")
        with suppress(MeshError):
            from_headers(trail, {"x-polyroute-tags": text, "x-polyroute-workflow": text})

        assert len(trail.tags) <= TAGS
        assert len(trail.workflow) <= 128


class TestBody:
    @pytest.mark.parametrize(
        ("body", "user"), [({}, "ann"), ({"user": "bob"}, "bob"), ({"metadata": {"a": "b"}}, "ann")]
    )
    def test_the_user_of_open_webui(self, body: dict[str, object], user: str) -> None:
        """Its header counts where the body names nobody."""
        trail = Trail("r-1")
        from_headers(trail, {"x-openwebui-user-id": "ann"})

        assert user == of_body({"model": "m", **body}, trail).user

    def test_metadata_and_user(self) -> None:
        """OpenAI's members: the end user, and tags among which workflow and step have their own names."""
        metadata = {"team": "a", "workflow_id": "w", "node_id": "n", "gone": None}
        trail = of_body({"model": "m", "user": "ann", "metadata": metadata})

        assert ("ann", {"team": "a"}, "w", "n") == (trail.user, trail.tags, trail.workflow, trail.node)

    @pytest.mark.parametrize(
        ("body", "user"),
        [
            ({"metadata": {"user_id": "ann"}}, "ann"),
            ({"metadata": {"user_id": None}}, ""),
            ({"safety_identifier": "ann", "metadata": {"user_id": "bob"}}, "ann"),
            ({"user": "ann", "safety_identifier": "bob"}, "ann"),
            ({"user": None, "safety_identifier": "bob"}, "bob"),
            ({"messages": [{"role": "user", "content": '"user": "ann"', "metadata": {"user_id": "x"}}]}, ""),
        ],
    )
    def test_users(self, body: object, user: str) -> None:
        """Anthropic's name for the end user, OpenAI's newer one, and which of them counts."""
        trail = of_body(body)

        assert (user, {}) == (trail.user, trail.tags)

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b'{"user":1e400}', "user"),
            (b'{"safety_identifier":1e999}', "safety_identifier"),
            (b'{"metadata":-1e400}', "metadata"),
            (b'{"metadata":{"user_id":1e400}}', "metadata"),
        ],
    )
    def test_what_cannot_be_read(self, body: bytes, param: str) -> None:
        """Numbers beyond all bounds are the caller's fault."""
        with pytest.raises(MeshError) as caught:
            from_body(Trail("r-1"), body)

        assert (pb.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata["param"])

    def test_headers_stand(self) -> None:
        """What a header says counts more than what a body says: whoever stands between knows better."""
        trail = of_headers(x_polyroute_tags="team=a", x_polyroute_workflow="w")
        of_body({"metadata": {"team": "b", "feature": "c", "workflow_id": "v", "node_id": "n"}}, trail)

        assert {"team": "a", "feature": "c"} == trail.tags
        assert ("w", "n") == (trail.workflow, trail.node)

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"metadata": ["team"]}, "metadata"),
            ({"metadata": {f"n{number}": "" for number in range(TAGS + 1)}}, "metadata"),
            ({"metadata": {"n": 1}}, "metadata.n"),
            ({"metadata": {"n": {"x": "y"}}}, "metadata.n"),
            ({"metadata": {"n": "v" * 513}}, "metadata.n"),
            ({"metadata": {"": "v"}}, "metadata."),
            ({"metadata": {"n" * 65: "v"}}, "metadata." + "n" * 64),
            ({"metadata": {"workflow_id": "w" * 129}}, "metadata.workflow_id"),
            ({"user": 7}, "user"),
            ({"user": "é" * 257}, "user"),
            ({"metadata": {"user_id": "é" * 257}}, "user"),
        ],
    )
    def test_refused(self, body: object, param: str) -> None:
        """The mistake names its member."""
        with pytest.raises(MeshError) as refused:
            of_body(body)

        assert (pb.REASON_INVALID_REQUEST, param) == (refused.value.reason, refused.value.metadata["param"])


def test_they_are_on_the_record() -> None:
    """And the contract's fields of RPCs are taken the same way."""
    trail = of_headers(x_polyroute_node="n")
    take(trail, {"workflow_id": "w", "team": "a"}, "ann")
    record = record_of(trail)

    assert ("ann", "w", "n", {"team": "a"}) == (record.user, record.workflow_id, record.node_id, dict(record.tags))
