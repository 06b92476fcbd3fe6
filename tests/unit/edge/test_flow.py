"""The path of a call between roles that do as told: attempts, the commit point, cancellation, the record."""

import asyncio
from contextlib import aclosing

import pytest

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, ChatRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.providers.v1.providers_pb2 import EmbedInput
from polyroute.edge import failover
from polyroute.edge.flow import HELD_BYTES, HELD_MESSAGES
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import BODY, FACTS, KEY, House, Wait, data_of, finished, said, started, verdict

DOWN = MeshError.upstream(pb.FAULT_SERVER, "the vendor failed", upstream_status="503")
CUT = MeshError.upstream(pb.FAULT_TRUNCATED, "the vendor's answer broke off")
WRONG = MeshError.upstream(pb.FAULT_CLIENT, "no such parameter", upstream_status="400")
FULL = MeshError(pb.REASON_USAGE_UNAVAILABLE, "the spool is full")
ANSWER = (started(b"role "), said(b"one "), finished(b"two"))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff of a tick."""
    monkeypatch.setattr(failover, "FIRST_BACKOFF", 0.0)


class TestAnswer:
    async def test_messages_come_in_order_and_the_call_is_recorded(self) -> None:
        """Nothing is added, nothing is lost."""
        house = House([ANSWER])

        assert b"role one two" == await house.answer()
        assert (metrics_pb2.OUTCOME_COMPLETED, "a/x", 3 * 2000 + 2 * 10_000) == (
            house.record.outcome,
            house.record.deployment,
            house.record.cost_nanos,
        )

    async def test_attempt_is_told_what_it_needs(self) -> None:
        """Whose, which try, where, what was read, how long."""
        house = House([ANSWER])
        await house.answer()
        request = house.providers.requests[0]

        assert ("r-1", 1, "a", "x", FACTS, BODY) == (
            request.request_id,
            request.attempt,
            request.target.provider,
            request.target.upstream_model,
            request.facts,
            request.encoded,
        )

    async def test_typed_question_goes_on_typed(self) -> None:
        """And the router is not told a dialect that nobody speaks."""
        house = House([ANSWER])
        question = ChatRequest(model="m", messages=[{"role": "ROLE_USER"}])  # type: ignore[list-item] # a dict will do
        async for _ in house.flow.generate(house.call(body=question)):
            pass

        assert (question, "") == (house.providers.requests[0].chat, house.router.requests[0].dialect)

    async def test_record_is_kept_before_the_last_message_goes_out(self) -> None:
        """Whoever has the whole answer is on record, whatever dies next."""
        house = House([ANSWER])
        kept: list[int] = []
        async with aclosing(house.generate()) as responses:
            async for _ in responses:
                kept.append(len(house.spool.payloads))

        assert [0, 0, 1] == kept


class TestRefusal:
    async def test_key_that_may_not_use_the_model(self) -> None:
        """The router, which reads what a model's name may say, is told what is permitted; its refusal is recorded."""
        house = House([ANSWER])
        house.auth.verdicts[KEY] = verdict(models=["other"])
        house.router.failure = MeshError(pb.REASON_NOT_PERMITTED, "no", metadata={"param": "model"})
        error, _ = await house.refused()

        assert (pb.REASON_NOT_PERMITTED, "model") == (error.reason, error.metadata["param"])
        assert (["other"], [], metrics_pb2.OUTCOME_REFUSED) == (
            list(house.router.requests[0].permitted_models),
            house.tried,
            house.record.outcome,
        )

    async def test_stranger(self) -> None:
        """No record: there is nobody to whom it would belong."""
        house = House([ANSWER])
        house.auth.failure = MeshError(pb.REASON_CREDENTIAL_INVALID, "unknown")
        error, _ = await house.refused()

        assert (pb.REASON_CREDENTIAL_INVALID, []) == (error.reason, house.spool.records)

    async def test_router_refuses(self) -> None:
        """With its own words."""
        house = House([ANSWER])
        house.router.failure = MeshError(pb.REASON_MODEL_NOT_FOUND, "no model m", metadata={"model": "m"})
        error, _ = await house.refused()

        assert ("no model m", pb.REASON_MODEL_NOT_FOUND, 404) == (
            error.message,
            house.record.reason,
            house.record.http_status,
        )

    async def test_no_billable_work_without_a_record(self) -> None:
        """While the disk takes no records no vendor is called."""
        house = House([ANSWER, ANSWER])
        house.spool.failure = FULL
        await house.answer()  # was begun before anybody knew: it is answered, and waits
        error, _ = await house.refused()
        house.spool.failure = None

        assert (pb.REASON_USAGE_UNAVAILABLE, 1) == (error.reason, len(house.tried))


class TestFailover:
    async def test_next_deployment_answers_and_nothing_shows(self) -> None:
        """What the failed attempt said before content is dropped."""
        house = House([(started(b"role-a "), DOWN), ANSWER])

        assert b"role one two" == await house.answer()
        assert [(1, "a/x"), (2, "b/y")] == house.tried
        assert ([pb.FAULT_SERVER, pb.FAULT_UNSPECIFIED], "b/y") == (house.faults, house.record.deployment)

    async def test_stream_that_ends_without_saying_so_is_a_failure(self) -> None:
        """Silence is not an answer."""
        house = House([(started(b"role-a "),), ANSWER])

        assert b"role one two" == await house.answer()
        assert pb.FAULT_TRUNCATED == house.faults[0]

    async def test_at_most_as_many_attempts_as_the_plan_says(self) -> None:
        """The last failure is what the caller is told."""
        house = House([(DOWN,), (DOWN,), (CUT,), ANSWER])
        error, given = await house.refused()

        assert (pb.FAULT_TRUNCATED, b"", 3) == (error.fault, given, len(house.tried))
        assert (metrics_pb2.OUTCOME_FAILED, 0) == (house.record.outcome, house.record.cost_nanos)

    async def test_same_deployment_again_when_there_is_no_other(self) -> None:
        """After a wait."""
        house = House([(DOWN,), ANSWER], deployments=["a/x"])

        assert b"role one two" == await house.answer()
        assert [(1, "a/x"), (2, "a/x")] == house.tried

    async def test_wrong_request_is_not_sent_twice(self) -> None:
        """No other deployment would like it better."""
        house = House([(WRONG,), ANSWER])
        error, _ = await house.refused()

        assert (pb.FAULT_CLIENT, 1) == (error.fault, len(house.tried))

    async def test_time_for_the_first_token_is_shared_among_the_attempts_left(self) -> None:
        """The first of three may not eat the time of the others; without a bound there is nothing to share."""
        house = House([(DOWN,), (DOWN,), ANSWER], seconds=9)
        house.router.plan.timeouts.first_token.FromSeconds(60)
        await house.answer()
        shares = [request.timeouts.first_token.ToNanoseconds() / 1e9 for request in house.providers.requests]

        assert [3, 4.5, 9] == pytest.approx(shares, abs=0.2)

    async def test_a_whole_answer_with_a_bound_of_its_own_is_not_cut_short(self) -> None:
        """It may be nearly made when a part of the time is over, and is paid then; so nothing is kept for others."""
        found = []
        for stream in (False, True):
            house = House([ANSWER], seconds=9, facts=RequestFacts(operation=OPERATION_CHAT, model="m", stream=stream))
            house.router.plan.timeouts.first_token.FromSeconds(60)
            house.router.plan.timeouts.whole.FromSeconds(600)
            await house.answer()
            [request] = house.providers.requests
            found.append((request.timeouts.first_token.seconds, request.timeouts.whole.seconds))

        assert [(60, 600), (2, 600)] == found

    async def test_ample_time_leaves_the_plans_own_bound(self) -> None:
        """And its other bounds with it."""
        house = House([ANSWER])
        house.router.plan.timeouts.first_token.FromSeconds(5)
        house.router.plan.timeouts.inter_token.FromSeconds(3)
        await house.answer()

        assert house.router.plan.timeouts == house.providers.requests[0].timeouts

    async def test_call_whose_time_is_over_is_not_sent(self) -> None:
        """It says so instead."""
        house = House([ANSWER], seconds=0)
        error, _ = await house.refused()

        assert (pb.REASON_DEADLINE, []) == (error.reason, house.tried)


class TestCommitPoint:
    async def test_after_content_there_is_no_other_attempt(self) -> None:
        """What came is a prefix of the answer; the break is said."""
        house = House([(started(), said(b"one "), CUT), ANSWER])
        error, given = await house.refused()

        assert (pb.FAULT_TRUNCATED, b"one ", 1) == (error.fault, given, len(house.tried))
        assert (metrics_pb2.OUTCOME_BROKEN, 200, True) == (
            house.record.outcome,
            house.record.http_status,
            house.record.usage.estimated,
        )

    @pytest.mark.parametrize("messages", [1, HELD_MESSAGES - 1])
    async def test_opening_is_held_back(self, messages: int) -> None:
        """Within its bound another attempt can still replace it."""
        opening = [started(b".") for _ in range(messages)]
        house = House([(*opening, DOWN), ANSWER])

        assert b"role one two" == await house.answer()

    async def test_opening_of_too_many_messages_is_handed_out(self) -> None:
        """Memory is bounded; from then on there is no other attempt."""
        opening = [started(b".") for _ in range(HELD_MESSAGES)]
        error, given = await House([(*opening, DOWN), ANSWER]).refused()

        assert (pb.FAULT_SERVER, HELD_MESSAGES) == (error.fault, len(given))

    async def test_opening_of_too_many_bytes_is_handed_out(self) -> None:
        """Also when it is few messages."""
        small = await House([(started(b"." * (HELD_BYTES - 64)), DOWN), ANSWER]).answer()
        error, given = await House([(started(b"." * HELD_BYTES), DOWN), ANSWER]).refused()

        assert (b"role one two", pb.FAULT_SERVER, HELD_BYTES) == (small, error.fault, len(given))

    async def test_empty_answer_is_an_answer(self) -> None:
        """The end commits as content does."""
        assert b"role " == await House([(started(b"role "), finished()), ANSWER]).answer()

    async def test_content_is_not_held_back(self) -> None:
        """The first token goes out when it comes, not when the answer is complete."""
        gate = Wait()
        house = House([(started(b"role "), said(b"one "), gate, finished())])
        async with asyncio.timeout(2), aclosing(house.generate()) as responses:
            given = [await anext(responses), await anext(responses)]

        assert b"role one " == data_of(given)


class TestCancellation:
    @pytest.mark.parametrize("turns", range(40))
    async def test_at_every_await(self, turns: int) -> None:
        """Wherever a call is when its caller leaves: the vendor's stream ends, and there is one record."""
        house = House([(started(), DOWN), (started(b"role "), said(b"one "), said(b"two "), finished())])
        reading = asyncio.create_task(house.answer())
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        [outcome] = await asyncio.gather(reading, return_exceptions=True)
        await settled()

        assert 0 == house.providers.open
        assert (1 if house.trail.caller is not None else 0) == len(house.spool.records)
        if isinstance(outcome, asyncio.CancelledError) and house.spool.records:
            assert house.record.outcome in (metrics_pb2.OUTCOME_CANCELLED, metrics_pb2.OUTCOME_COMPLETED)
            assert len(house.tried) == len(house.record.attempts)

    async def test_last_turn_is_behind_the_end(self) -> None:
        """So that the turns above cover a whole call."""
        house = House([(started(), DOWN), (started(b"role "), said(b"one "), said(b"two "), finished())])
        reading = asyncio.create_task(house.answer())
        for _ in range(39):
            await asyncio.sleep(0)

        assert reading.done()

    @pytest.mark.parametrize("messages", [0, 1, 2])
    async def test_reader_that_stops_reading(self, messages: int) -> None:
        """Closing the answer ends the vendor's stream at once, and the call is recorded."""
        house = House([(started(b"role "), said(b"one "), said(b"two "), Wait(), finished())])
        responses = house.generate()
        for _ in range(messages + 1):
            await anext(responses)
        await responses.aclose()
        await settled()

        assert (0, metrics_pb2.OUTCOME_CANCELLED) == (house.providers.open, house.record.outcome)

    async def test_delivered_content_is_charged(self) -> None:
        """The prompt and what was relayed."""
        house = House([(started(), said(b"one ", 4), Wait())])
        responses = house.generate()
        await anext(responses), await anext(responses)
        await responses.aclose()

        assert (7, 4, True) == (
            house.record.usage.input_tokens,
            house.record.usage.output_tokens,
            house.record.usage.estimated,
        )


async def settled() -> None:
    """Gives the other side of the channel its turns."""
    for _ in range(2):
        await asyncio.sleep(0)


class TestEmbed:
    async def test_vectors(self) -> None:
        """Recorded before they are handed out."""
        house = House([(finished(),)])
        response = await house.flow.embed(house.call(body=EmbedInput(texts=["a"])))

        assert (b"{}", metrics_pb2.OUTCOME_COMPLETED, 3) == (
            response.encoded,
            house.record.outcome,
            house.record.usage.input_tokens,
        )

    async def test_failover(self) -> None:
        """As for conversations."""
        house = House([(DOWN,), (finished(),)])
        await house.flow.embed(house.call())

        assert [(1, "a/x"), (2, "b/y")] == house.tried

    async def test_all_fail(self) -> None:
        """The last failure is told."""
        house = House([(DOWN,)] * 3)
        with pytest.raises(MeshError, match="the vendor failed"):
            await house.flow.embed(house.call())

        assert (metrics_pb2.OUTCOME_FAILED, 3) == (house.record.outcome, len(house.record.attempts))

    @pytest.mark.parametrize("turns", range(12))
    async def test_cancelled_at_every_await(self, turns: int) -> None:
        """One record, no orphan."""
        house = House([(DOWN,), (finished(),)])
        asking = asyncio.create_task(house.flow.embed(house.call()))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await settled()

        assert 0 == house.providers.open
        assert (1 if house.trail.caller is not None else 0) == len(house.spool.records)


class TestModels:
    async def test_only_what_the_key_may_use(self) -> None:
        """A model that may not be named is not listed."""
        house = House()
        every = await house.flow.models(KEY, "")
        other = House()
        other.auth.verdicts[KEY] = verdict(models=["n"])
        some = await other.flow.models(KEY, "")

        assert (["m", "n"], ["n"]) == ([model.name for model in every.models], [model.name for model in some.models])

    async def test_router_away(self) -> None:
        """Said as it is."""
        house = House()
        house.router.failure = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "told to")
        with pytest.raises(MeshError, match="told to"):
            await house.flow.models(KEY, "")
