"""What vendors' errors mean: real ones, each read and classed by hand, and those that their documentation shows."""

import json
from functools import cache
from typing import Any, Final

import orjson
import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.dialects.faults import fault_of
from polyroute.mesh.errors import MeshError
from polyroute.providers.registry import all_vendors
from polyroute.providers.vendor import FaultRule
from tests.recordings import FOLDER, body_of, check

VENDORS: Final = all_vendors()

# Ids of recorded errors.
RECORDED: Final = {
    pb.FAULT_CLIENT: """
        08b9307d2a473262 0debf3d94c5e16f9 10d6fccac4490477 134cbf8619b1113a 13926825a5b5c545 1c35b87f9a2f39c1
        1ef9db03fcdc3c31 20167b66d158fffc 217488ef200c5f8b 24ac73193384f7fe 2af0767de58fcf1c 2c58fe33c9aa9668
        31fb8c7b2bf0d76d 42a0aaee8b4edc6b 47d7ce4a012716dd 501d252610f6271c 544b90a707205103 5678416a685048d5
        595443aad9fae1d6 5bba02e7c14876c2 5cb7683dfbcfea11 5ef789d0c9670657 63ae9b4bbdfec4e1 64c8cde4744005ab
        69d30c1c1e544f6d 6b6b6544cf6a8bc0 6c146b4e5ef4e4e0 709edabf58964f9a 7442ea0442e8db9c 80b0c73082f4d3fd
        842715e287bc8205 872607e00d385ea8 8ef3007ba6197834 904c7ecf8ae2d6a6 947bcaf2351fc6b1 9b4e2be33d66e3b3
        9c6a925c48866e47 af70eda8bfaad9fb b226d56e8da944d8 b8b619fc262723aa ba96bc4fcde64bb3 bdb8cc76ba5999bb
        c62c12e8b642e4d0 c6d9b22c6123cd4c d092bcebb389d1d7 d14f5a7f8df5d794 d2acbf41bbc147fa d4e5d561580aefe3
        d5bb007511b6da66 d5eb199dc321a43f d662f4791a333d53 d7e606ecdc0be1ef e8fbc7cb36b50060 e91bad8447fb1651
        e96b9a4fc9f9ee04 eac25c9edd5d36b5 eb54a3c83d80c13b ebbd78c5e79d8a43 eeba539a9bcb6166 f33448e1a995d1ce
        fe40ad5eaea62577
    """,
    pb.FAULT_CONTEXT: """
        11f35f521714ac54 3125f774a9ed4dea 3af90cf96ccc105f 516a8320399baff4 74dde05b40ea7516 7ea69ba010363e2c
        924cb5499072ea1d a10fff5f04e269a0 a5ef7cb9aa97c3d7 a6d0e35e07f0fb2a baed470a76d2068c bcfc2683fe21f16d
        c9e32ea917a8aea1 d7d36b39e7d54f37 ebec9eb757637c6a fbbb1b5cd8d7f527 fc5151e60f7facbd
    """,
    pb.FAULT_CREDENTIAL: """
        078024787f78aa3f 080c2f53eab60ba8 083789738ef36d47 0a518ed1b5bf18f6 1e35158522a3d0d5 231b4e276a4848a6
        25736d392b532de3 367d618c8bf3224f 3cf048bd1f3a2ea8 3ec57ef98e82a20a 4022ddebb1ada31c 460c7a831905da19
        4f8e4685f35cc6b0 51e8453dae446d8a 51f1bd17083fece0 549506b656490f8e 5579cb53415cbd41 6099b560450c0d77
        62deb94b4684526c 63887f391eaf8126 72994a515c4b59b8 77b6d32e135218c5 85423f30b2220bb1 85ce18fd09a9174a
        8fba84349bcaba2e 90f698dab3ffa1fd 91ced8f9c674bab0 9a614b56b5bd8565 a20c603747152911 ac311ba9807203fb
        ade5caa095ef658a adf24e499c3d36cb b210173e1c56d8fa bebc1fe3e9ad4610 c44b5f8e6c5889fd c47e711a56ce010d
        cbb053e2cbeea1e5 cbff4fe160722978 cd1e76960ecb44cc cfecc0e898e9cabe d5a6542c4df3960d d70de13ccd9198b4
        e4efb9ff9118ccae e7db76852d89252e ed8dbf792fb2cd5e edea4c53fe7f775a f27d6be01f3e0ff0 fdb8217534ab8b6c
    """,
    pb.FAULT_FILTER: """
        1d2a417b2499da8f 3038fb4d17386578 3982b709d92331f1 55ac2129bb3916e4 59a3520f98e50be9 91cc7ebe501a1a94
    """,
    pb.FAULT_MODEL_GONE: """
        00a0809051c779ef 016d464cb8378117 02f09a129cf90fd0 0443a73e386fdb78 0947b9e34dd7860b 0b70dfde9b5879e8
        1e58551da7d958f6 216383f319711423 2679a290a6a17bbb 29612ad25ac93e41 3707a41de22257aa 3d9a0a28665801a5
        478fcfd1beb97559 4a2ed93976362c24 4b0b60bcc2b746da 4d069ba375b39f33 53b4ae27d89f76da 6ed1166ae035855c
        742ec449dd69c991 7751dd48dcf0414d 78b0bd88af5e195f 7d26bf1d3050abe0 81622bb9e329a47e 8637a80da1b21c5d
        87249c4c4ca3c6f4 88a1b72ab9c32a72 94d58e09dacd4408 9a6b989e551a85eb 9deec6fee2cf67f2 9e85cdec01ff8144
        9f07884619552501 a1b8acccb50ca6ce a4b857c4ffafd7d7 a5143405e236dbf8 a86daefe2117f898 a8ec0df68cf5f5fe
        ad06d4264f5a46e3 ada8b6f52f0e80b2 adac965c9768df49 b4dda76c54d2d6c9 bb3fc42b4bd9a346 bce86947ecc01e11
        beb5575e9313e9f7 bf985748014dd856 c0e79b2f42153995 c6a68e5569785b46 ca96fa5b065e5531 cb632e6f16b80b75
        ce308a1561e4db63 cfc23c03d62ad7ce d06ce28e52f27ec5 d45b6057b590ffe4 d479493c12730525 d656983b718507f5
        d6e71a1135a0a515 d968dac587065fd9 dcf0889d9926cbae dfcf6d70f5ba5c57 e98eb5ec1210e485 e9c808e651b685d3
        eca38b161241a71d f0e62c5f813b6b79 f3b2833b84580fdb fe96ff17dc561099
    """,
    pb.FAULT_QUOTA: """
        4da5acd444b9c5ab f62432f741f02cc8
    """,
    pb.FAULT_RATE: """
        02edf5b454e73ab0 0647b35b9c02160e 0740bf89b121eb37 08d2de08a1526620 19e1f47b3319d344 1c231087f640dfee
        210fc3f4dee3ed96 2af2ace14439bed4 49e43c04783d6732 510c541e7d2b9243 56a878b1173216a7 7456686fea75af3a
        7dd8c02d17174df6 7e22022927db3453 87d03fbf094548c3 8f902cddf880089e 93b685f5209129f2 946c3460fb42439e
        9bd4612840bc96bc a036be077d54b900 a0c96b86dd86e5b8 a1ea32b95163cd37 a9b191e302494b61 ab508fad966b4183
        b99ccd1066020907 be7f10aa13595e58 bfe59d725396607a c8287c1618716bbb cfbf1f6a244fda7d d041be25a0a5dd07
        e02a881406758dda e4c84771b875a99d ea70fd870810c2a8 f0572b810e63dbff fcf64190d8aca01d ff5d56711c1241b2
    """,
    pb.FAULT_SERVER: """
        01e0abd6c77a1a3f 04d0456f82385f3b 11acd84b3a7b3ee4 22a7687cac71c179 297b61a705c4656e 2dd67e4616a9c8d4
        343013830ce24758 3893aabcc7d5d1b9 4db88386d8048f35 4f8902b8e9b751e5 5663bda9c9d1a586 6210792a1ee4f023
        7eb60f68af8b4e53 80b628557a012b23 86c159de764520d4 a57bd77af89fb7f2 aab750858b7ef109 ab70a9abb718de9f
        d542156090b7c78e d7a8246ae1fb1c47 dd635545d1cb6a7d f10b5b9bebfeba76
    """,
    pb.FAULT_UNSUPPORTED: """
        0be1ae996c685b3b 0ed82756c5835c25 1a89f47f894c19a5 1e89035649ed8a4d 739c92c8d0ee68d3 93bf9cf732ff8c39
        b26e7dfa6c12abb6 c5318f6567b2d601 c88e462e3ac27250 cb02599e30e44532 ef478d8dc38b58ba
    """,
}
# Recorded under a vendor's name, in words that are another server's.
NOT_ITS_OWN: Final = {"3226e6036aa0a380"}


def error(code: str = "", message: str = "", kind: str = "") -> dict[str, Any]:
    """OpenAI's envelope, which most vendors took over."""
    return {"error": {"message": message, "type": kind or None, "code": code or None}}


# Vendor, status, body, what it means: words of the vendors' documentation or their own, shortened.
DOCUMENTED: Final = [
    ("openai", 403, error(message="You are not allowed to sample from this model"), "MODEL_GONE"),
    ("openai", 404, error(message="This is not a chat model and thus not supported in the v1/... endpoint."), "CLIENT"),
    ("openai", 404, error(message="Response with id 'resp_1' not found."), "CLIENT"),
    ("openai", 404, error("model_not_found", "The model `x` does not exist"), "MODEL_GONE"),
    ("azure", 429, error("429", "Requests have exceeded token rate limit of your tier."), "RATE"),
    ("anthropic", 400, error(message="You have reached your specified API usage limits."), "QUOTA"),
    ("gemini", 400, error(message="API key not valid. Please pass a valid API key."), "CREDENTIAL"),
    ("gemini", 400, error(message="The input token count (9) exceeds the maximum number."), "CONTEXT"),
    ("vertex", 400, error(message="sensitive words that violate Google's Responsible AI practices"), "FILTER"),
    ("gemini", 400, error(message="User location is not supported for the API use."), "UNSUPPORTED"),
    ("gemini", 429, error(message="Quota exceeded for metric: generate_requests_per_model_per_day"), "QUOTA"),
    ("gemini", 429, error(message="Quota exceeded for quota metric 'requests per minute'"), "RATE"),
    ("bedrock", 400, {"message": "The provided model identifier is invalid."}, "MODEL_GONE"),
    ("bedrock", 403, {"message": "You don't have access to the model with the specified model ID."}, "MODEL_GONE"),
    ("bedrock", 400, {"message": "Input is too long for requested model."}, "CONTEXT"),
    ("bedrock", 400, {"message": "This model doesn't support the image content block."}, "UNSUPPORTED"),
    ("bedrock", 429, {"message": "Too many tokens per day, please wait before trying again."}, "QUOTA"),
    ("bedrock", 429, {"message": "Model is not ready for inference."}, "SERVER"),
    ("bedrock", 503, {"message": "Model is getting throttled. Try your request again."}, "RATE"),
    ("deepseek", 400, error(message="messages[0]: unknown variant `image_url`, expected `text`"), "UNSUPPORTED"),
    ("deepseek", 402, error(message="Insufficient Balance"), "QUOTA"),
    ("dashscope", 400, {"code": "InvalidParameter", "message": "Model not exist."}, "MODEL_GONE"),
    ("dashscope", 403, {"code": "Model.AccessDenied", "message": "Model access denied."}, "MODEL_GONE"),
    ("dashscope", 403, {"code": "AllocationQuota.FreeTierOnly", "message": "It is exhausted."}, "QUOTA"),
    ("dashscope", 400, {"code": "Arrearage", "message": "Access denied."}, "QUOTA"),
    ("dashscope", 429, {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}, "RATE"),
    ("dashscope", 400, {"code": "DataInspectionFailed", "message": "Input data may contain..."}, "FILTER"),
    ("moonshot", 429, error(kind="exceeded_current_quota_error", message="please check your plan"), "QUOTA"),
    ("moonshot", 429, error(kind="engine_overloaded_error", message="The engine is overloaded"), "SERVER"),
    (
        "moonshot",
        400,
        error(message="Your request exceeded model token limit"),
        "CONTEXT",
    ),
    ("moonshot", 400, error(kind="content_filter", message="The request was rejected"), "FILTER"),
    ("moonshot", 400, error(message="The request was rejected because it was considered high risk"), "FILTER"),
    ("zhipu", 429, error("1302", "High concurrency usage of this API"), "RATE"),
    ("zhipu", 200, error("1302", "High concurrency usage of this API"), "RATE"),
    ("zhipu", 429, error("1305", "The API has triggered a rate limit for all"), "SERVER"),
    ("zhipu", 429, error("1308", "Usage limit reached"), "QUOTA"),
    ("zhipu", 400, error("1261", "Prompt too long"), "CONTEXT"),
    ("zhipu", 400, error("1220", "You do not have permission to access"), "MODEL_GONE"),
    ("zhipu", 400, error("1301", "potentially unsafe or sensitive content"), "FILTER"),
    ("minimax", 429, error(message="rate limit (1002)"), "RATE"),
    ("minimax", 500, error(message="rate limit (1002)"), "RATE"),
    ("minimax", 200, error(message="login fail (1004)"), "CREDENTIAL"),
    ("minimax", 429, error(message="balance is too low (1008)"), "QUOTA"),
    ("minimax", 400, error(message="input is sensitive (1026)"), "FILTER"),
    ("minimax", 200, error(message="unknown error (1000)"), "SERVER"),
    ("volcengine", 403, error("AccountOverdueError", "the account has an overdue balance"), "QUOTA"),
    ("volcengine", 400, error("SensitiveContentDetected", "the input may contain sensitive information"), "FILTER"),
    ("volcengine", 429, error("ServerOverloaded", "The service is currently unable to process"), "SERVER"),
    ("volcengine", 404, error("ModelNotOpen", "has not activated the model"), "MODEL_GONE"),
    ("siliconflow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, "QUOTA"),
    ("siliconflow", 400, {"code": 20012, "message": "Model does not exist. Please check it."}, "MODEL_GONE"),
    ("cohere", 400, {"message": "too many tokens: size limit exceeded by 9 tokens."}, "CONTEXT"),
    ("cohere", 429, {"message": "You use a Trial key, which is limited to 1000 API calls / month."}, "QUOTA"),
    ("cohere", 429, {"message": "You use a Trial key, which is limited to 40 API calls / minute."}, "RATE"),
    ("cohere", 498, {"message": "blocked"}, "FILTER"),
    ("cohere", 499, {"message": "request cancelled"}, "SERVER"),
    ("xai", 429, {"code": "x", "error": "Your team has either used all available credits"}, "QUOTA"),
    ("xai", 400, {"code": "x", "error": "This model's maximum prompt length is 8 but the request ..."}, "CONTEXT"),
    ("openrouter", 404, error("404", "No endpoints found that support tool use."), "UNSUPPORTED"),
    ("openrouter", 403, error("403", "Your chosen model requires moderation"), "FILTER"),
    ("openrouter", 403, error("403", "Key limit exceeded (total limit)"), "QUOTA"),
    ("openrouter", 402, error("402", "This request requires more credits"), "QUOTA"),
    ("llamacpp", 500, error(message="image input is not supported - hint: provide the mmproj"), "UNSUPPORTED"),
    ("llamacpp", 500, error(message="Cannot use both json_schema and grammar"), "CLIENT"),
    ("llamacpp", 503, error(message="Loading model", kind="unavailable_error"), "SERVER"),
    ("voyage", 400, {"detail": "Model x is not supported. Supported models are ['y']."}, "MODEL_GONE"),
    ("voyage", 400, {"detail": "The max allowed tokens per submitted batch is 120000."}, "CONTEXT"),
]


def plain(status: int, body: dict[str, Any]) -> MeshError:
    """The error as every vendor's is classed."""
    return fault_of(status, orjson.dumps(body), {})


@pytest.mark.parametrize(("vendor", "status", "body", "fault"), DOCUMENTED)
def test_documented_error(vendor: str, status: int, body: dict[str, Any], fault: str) -> None:
    """By the general table, or by the vendor's own where that would be wrong."""
    found = VENDORS[vendor].judged(plain(status, body))

    assert f"FAULT_{fault}" == pb.Fault.Name(found.fault)


RULES: Final = {id(rule): rule for vendor in VENDORS.values() for rule in vendor.faults}.values()


@pytest.mark.parametrize("rule", RULES, ids=[f"{rule.words}-{'-'.join(rule.codes)}" for rule in RULES])
def test_every_rule_is_needed(rule: FaultRule) -> None:
    """Some error above, of a vendor that has it, is classed wrong without it."""
    of = [plain(status, body) for vendor, status, body, _ in DOCUMENTED if rule in VENDORS[vendor].faults]

    assert any(rule.matches(one) and one.fault != rule.fault for one in of)


@cache
def index() -> dict[str, dict[str, Any]]:
    """The recorded errors of vendors that there are here."""
    lines = (FOLDER / "index.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["provider"] in VENDORS]
    return {row["id"]: row for row in rows if row["error_keys"] or (row["status"] or 0) >= 400}


needs_recordings = pytest.mark.skipif(
    not FOLDER.exists(), reason="there are no recordings here: POLYROUTE_FIXTURES names their folder"
)


@needs_recordings
@pytest.mark.parametrize(("row", "fault"), [(row, fault) for fault, rows in RECORDED.items() for row in rows.split()])
def test_recorded_error(row: str, fault: pb.Fault.ValueType) -> None:
    """Each was read; what it means is the table's, not the code's."""
    if row not in index():
        pytest.skip("not among the recordings here")
    found = index()[row]
    judged = VENDORS[found["provider"]].judged(fault_of(found["status"], body_of(found), {}))

    check(f"{pb.Fault.Name(judged.fault)} instead of {pb.Fault.Name(fault)}", holds=judged.fault == fault)


@needs_recordings
def test_no_recorded_error_is_left_out() -> None:
    """An error that was added to the recordings wants to be read."""
    known = {row for rows in RECORDED.values() for row in rows.split()}

    assert index().keys() - known - NOT_ITS_OWN == set()


def test_rule_matches_whole_codes() -> None:
    """Case apart; and all that it asks for."""
    rule = FaultRule(pb.FAULT_QUOTA, r"spent", statuses=(400,), codes=("a.b",))
    fits = MeshError.upstream(pb.FAULT_CLIENT, "All SPENT", upstream_status="400", vendor_code="A.B")
    others = [
        MeshError.upstream(pb.FAULT_CLIENT, "all spent", upstream_status="401", vendor_code="a.b"),
        MeshError.upstream(pb.FAULT_CLIENT, "all spent", upstream_status="400", vendor_code="a.bc"),
        MeshError.upstream(pb.FAULT_CLIENT, "nothing", upstream_status="400", vendor_code="a.b"),
        MeshError.upstream(pb.FAULT_CONNECT, "all spent"),
    ]

    assert rule.matches(fits)
    assert not any(rule.matches(other) for other in others)


def test_error_of_our_own_is_left_alone() -> None:
    """A refusal of the caller's request is nobody else's fault."""
    refused = MeshError(pb.REASON_INVALID_REQUEST, "no spend limit is reached your specified api usage limits")

    assert pb.FAULT_UNSPECIFIED == VENDORS["anthropic"].judged(refused).fault
