"""Names of the catalog in what administrators set."""

import pytest

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.edge.admin.names import Known, Named, judged, named
from polyroute.mesh.errors import MeshError

KNOWN = Known(frozenset({"small", "large"}), ("default", "cheap"), ("cn-beijing", "eu"))


def test_what_is_named() -> None:
    """By keys and by limits on models; nothing by what has no names."""
    scope = auth_pb2.KeyScope(policies=["cheap"], regions=["cn"])
    issued = admin_pb2.IssueKeyRequest(key=auth_pb2.CreateKeyRequest(models=["small"], scope=scope))
    changed = admin_pb2.UpdateKeyRequest(key=auth_pb2.Key(models=["small"], scope=scope))
    limited = admin_pb2.SetLimitRequest(limit=limits_pb2.Limit(scope="key_1", model="small"))
    deployment = admin_pb2.SetLimitRequest(limit=limits_pb2.Limit(scope="deployment", model="v/small"))

    key = Named("key.scope", ("small",), ("cheap",), ("cn",))
    assert [key, key, Named("limit", ("small",))] == [named(one) for one in (issued, changed, limited)]
    assert not any(named(one).any for one in (deployment, admin_pb2.GetKeyRequest(key="key_1")))


def test_what_there_is_passes() -> None:
    """In any case, as parts of a region, and what names a provider."""
    wanted = Named("key.scope", ("Small", "v/anything"), ("cheap",), ("CN", "eu"))

    assert [] == list(judged(wanted, KNOWN))


@pytest.mark.parametrize(
    ("wanted", "param", "said"),
    [
        (Named("key.scope", policies=("cheep",)), "key.scope.policies", "did you mean 'cheap'?"),
        (Named("key.scope", regions=("us",)), "key.scope.regions", "no deployment is in 'us'"),
        (Named("key.scope", regions=("cn-bei",)), "key.scope.regions", "no deployment is in 'cn-bei'"),
    ],
)
def test_what_would_shut_a_key_out_is_refused(wanted: Named, param: str, said: str) -> None:
    """With its place."""
    with pytest.raises(MeshError) as refused:
        list(judged(wanted, KNOWN))

    assert param == refused.value.metadata["param"]
    assert said in refused.value.message


def test_what_may_come_yet_is_said() -> None:
    """Models, and regions where no deployment says where it is."""
    silent = Known(frozenset(), ("default",), ())

    assert ["the catalog has no model 'huge'"] == list(judged(Named("limit", ("huge",)), KNOWN))
    assert 1 == len(list(judged(Named("key.scope", regions=("cn",)), silent)))
