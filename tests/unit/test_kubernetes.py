"""deploy/kubernetes without a cluster: its ports, commands, variables and secrets are those that the program means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from polyroute.cli.config import ENV_FILE, Config, load
from polyroute.mesh.roles import ROLES

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
TOKEN: Final = "a-token-of-the-mesh"
INNER: Final = tuple(role for role in ROLES if role != "edge")


def objects() -> list[dict[str, Any]]:
    """Everything that the kustomization names, in its order."""
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    return [found for text in texts for found in yaml.safe_load_all(text)]


def named(kind: str) -> dict[str, dict[str, Any]]:
    """Objects of a kind by name."""
    return {one["metadata"]["name"]: one for one in objects() if one["kind"] == kind}


def pod(role: str) -> dict[str, Any]:
    """What a role's Deployment runs."""
    spec: dict[str, Any] = named("Deployment")[role]["spec"]["template"]["spec"]
    return spec


def container(role: str) -> dict[str, Any]:
    """Its container."""
    (one,) = pod(role)["containers"]
    found: dict[str, Any] = one
    return found


def ports(role: str) -> dict[str, int]:
    """Its ports by name."""
    return {one["name"]: one["containerPort"] for one in container(role)["ports"]}


def settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Config:
    """The configuration of the ConfigMap, as a role reads it."""
    monkeypatch.setenv("POLYROUTE_MESH_TOKEN", TOKEN)
    monkeypatch.delenv("POLYROUTE_BOOTSTRAP_KEY", raising=False)
    path = folder / "polyroute.yaml"
    path.write_text(named("ConfigMap")["polyroute"]["data"]["polyroute.yaml"], encoding="utf-8")
    return load(path, {"data_dir": str(folder)})


def port_of(address: str) -> int:
    """Of `host:port`."""
    return int(address.rpartition(":")[2])


def test_every_file_is_named() -> None:
    """None lies there unused."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]

    assert {path.name for path in FOLDER.iterdir()} == {"kustomization.yaml", *listed}


def test_one_deployment_per_role_from_the_image_of_compose() -> None:
    """Each plays the role of its name."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))

    assert set(ROLES) == set(named("Deployment")) == set(named("Service"))
    for role in ROLES:
        assert ["serve", role] == container(role)["args"] == compose["services"][role]["command"]
        assert compose["services"][role]["image"] == container(role)["image"]


def test_ports_are_those_of_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Containers, Services, peers, figures and network policies say the same."""
    config = settings(monkeypatch, tmp_path)
    for role in INNER:
        grpc, figures = port_of(config.mesh.listen[role]), port_of(config.mesh.figures[role])

        assert {"grpc": grpc, "figures": figures} == ports(role)
        assert f"dns:///{role}:{grpc}" == config.mesh.peers[role]
        assert [grpc] == [one["port"] for one in named("Service")[role]["spec"]["ports"]]
        assert "None" == named("Service")[role]["spec"]["clusterIP"]
        assert str(figures) == _annotations(role)["prometheus.io/port"]
    doors = {"http": port_of(config.edge.http.listen), "grpc": port_of(config.edge.grpc.listen)}

    assert doors == ports("edge")
    assert doors == {one["name"]: one["port"] for one in named("Service")["edge"]["spec"]["ports"]}
    assert str(doors["http"]) == _annotations("edge")["prometheus.io/port"]


def _annotations(role: str) -> Mapping[str, str]:
    found: Mapping[str, str] = named("Deployment")[role]["spec"]["template"]["metadata"]["annotations"]
    return found


def test_network_policies_open_those_ports_and_no_others() -> None:
    """The mesh to the mesh, figures to Prometheus, doors to everybody."""
    policies = named("NetworkPolicy")
    mesh, prometheus = policies["polyroute"]["spec"]["ingress"]

    assert {ports(role)["grpc"] for role in INNER} == {one["port"] for one in mesh["ports"]}
    assert {ports(role)["figures"] for role in INNER} == {one["port"] for one in prometheus["ports"]}
    assert [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "polyroute"}}}] == mesh["from"]
    (doors,) = policies["edge"]["spec"]["ingress"]
    assert set(ports("edge").values()) == {one["port"] for one in doors["ports"]}
    assert {"providers"} == {name for name, one in policies.items() if "ipBlock" in str(one["spec"].get("egress"))}


@pytest.mark.parametrize("role", ROLES)
def test_selectors_find_their_pods(role: str) -> None:
    """Of Deployments, Services and budgets of disruption."""
    found = named("Deployment")[role]["spec"]
    labels = found["template"]["metadata"]["labels"]

    assert found["selector"]["matchLabels"] == labels == named("Service")[role]["spec"]["selector"]
    assert {"app.kubernetes.io/name": "polyroute", "app.kubernetes.io/component": role} == labels


def test_the_doors_stay_open() -> None:
    """While nodes are drained and while a new version comes, one edge at least answers."""
    budget = named("PodDisruptionBudget")["edge"]["spec"]
    edge = named("Deployment")["edge"]["spec"]

    assert edge["selector"] == budget["selector"]
    assert edge["replicas"] > budget["minAvailable"] >= 1
    assert 0 == edge["strategy"]["rollingUpdate"]["maxUnavailable"]


@pytest.mark.parametrize("role", ROLES)
def test_probes(role: str) -> None:
    """Readiness asks what the role says of itself; liveness does not, for a role may wait for another one."""
    found = container(role)
    ready, alive = found["readinessProbe"], found["livenessProbe"]
    if role == "edge":
        assert ({"path": "/health/ready", "port": "http"}, "/health/live") == (
            ready["httpGet"],
            alive["httpGet"]["path"],
        )
    else:
        assert {"port": ports(role)["grpc"]} == ready["grpc"] == found["startupProbe"]["grpc"]
        assert {"port": ports(role)["grpc"]} == alive["tcpSocket"]


@pytest.mark.parametrize("role", ROLES)
def test_pods_have_time_to_drain(role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Longer than both drains that a role may need, one after the other."""
    mesh = settings(monkeypatch, tmp_path).mesh

    assert pod(role)["terminationGracePeriodSeconds"] > 2 * (mesh.drain_delay + mesh.drain_grace)


@pytest.mark.parametrize("role", ROLES)
def test_pods_are_closed(role: str) -> None:
    """No root, nothing to write to but their volumes, no token of the cluster."""
    spec, found = pod(role), container(role)

    assert (False, False) == (spec["automountServiceAccountToken"], spec["enableServiceLinks"])
    assert (True, 10001) == (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"])
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == found["securityContext"]
    mounts = {one["name"]: one["mountPath"] for one in found["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in spec["volumes"]}
    assert {"/etc/polyroute", "/var/lib/polyroute", "/tmp"} <= set(mounts.values())
    claims = {one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "persistentVolumeClaim" in one}
    assert claims == ({role} if role != "edge" else set())
    assert claims <= named("PersistentVolumeClaim").keys()


def test_secrets_come_from_secrets_and_to_whom_they_are_for() -> None:
    """Variables are those that the program and the configuration read; vendors' keys are for providers alone."""
    config = named("ConfigMap")["polyroute"]["data"]["polyroute.yaml"]
    options = (ROOT / "services" / "polyroute" / "cli" / "options.py").read_text(encoding="utf-8")
    for role in ROLES:
        variables = {one["name"]: one for one in container(role)["env"]}

        assert "/etc/polyroute/polyroute.yaml" == variables.pop(ENV_FILE)["value"]
        assert "POLYROUTE_MESH_TOKEN" in variables
        for name, one in variables.items():
            assert "secretKeyRef" in one["valueFrom"], name
            assert f"${{{name}" in config or f'envvar="{name}"' in options, name
    assert ["providers"] == [role for role in ROLES if "envFrom" in container(role)]


def test_roles_that_keep_files_run_once() -> None:
    """Two processes at one file would be one too many, also while a new version comes."""
    for role in INNER:
        spec = named("Deployment")[role]["spec"]

        assert (1, "Recreate") == (spec["replicas"], spec["strategy"]["type"])
