"""What a cluster gets: the manifests under deploy/kubernetes. Without a cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from billing.coordination.jobs import QUEUES
from billing.process.settings import Settings
from tests.docs.test_deployment import consumed, parse_command

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FOREIGN = {"keda.sh/v1alpha1", "rabbitmq.com/v1beta1", "databases.spotahome.com/v1"}  # their operators' own schemas


def read(path: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(path))


def resources(folder: str) -> list[dict[str, Any]]:
    """What a kustomization lists, read from its files; a folder in it is one that is tested by itself."""
    (listed,) = read(FOLDER / folder / "kustomization.yaml")
    files = [name for name in listed["resources"] if name.endswith(".yaml")]
    others = {path.name for path in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert set(files) == others
    return [document for name in files for document in read(FOLDER / folder / name)]


FOLDERS = sorted(path.parent.name for path in FOLDER.glob("*/kustomization.yaml"))
BASE = resources("base")
PODS = {one["metadata"]["name"]: one["spec"]["template"] for one in BASE if one["kind"] in ("Deployment", "Job")}
CONTAINERS = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_manifests_are_what_kubernetes_takes(folder: str) -> None:
    """OPS-150"""
    import kubernetes_validate

    for document in resources(folder):
        if document["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize("name", CONTAINERS)
def test_command_is_one_that_the_command_line_takes(name: str) -> None:
    """OPS-150"""
    parse_command(name, CONTAINERS[name]["args"])


def test_workers_take_each_queue_once() -> None:
    assert sorted(consumed(container["args"] for container in CONTAINERS.values())) == sorted(QUEUES)


@pytest.mark.parametrize("folder", FOLDERS)
def test_settings_and_metrics_that_are_named_exist(folder: str) -> None:
    """OPS-150: a misspelt setting is one that has no effect."""
    known = {name.upper() for name in Settings.model_fields} | {"PYTHONFAULTHANDLER"}
    (listed,) = read(FOLDER / folder / "kustomization.yaml")
    literals = [
        line.split("=")[0] for maker in listed.get("configMapGenerator", []) for line in maker.get("literals", [])
    ]
    text = "".join(path.read_text("utf-8") for path in (FOLDER / folder).glob("*.yaml"))
    in_env = re.findall(r"name: ([A-Z][A-Z_]{3,})\b", text)
    assert {*literals, *in_env} <= known
    code = "".join(
        path.read_text("utf-8") for part in ("app", "billing", "worker") for path in (ROOT / part).rglob("*.py")
    )
    for metric in re.findall(r"\bonelane_\w+", text):
        assert f'"{metric}"' in code, metric


@pytest.mark.parametrize("name", PODS)
def test_pod_holds_no_more_rights_than_it_needs_and_stops_in_order(name: str) -> None:
    spec, container = PODS[name]["spec"], CONTAINERS[name]
    assert spec["terminationGracePeriodSeconds"] == 75
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert "livenessProbe" in container or name == "migrate"


def test_only_workers_get_the_stripe_key() -> None:
    """OPS-15"""
    holding = {
        name
        for name, container in CONTAINERS.items()
        if any(source.get("secretRef", {}).get("name") == "onelane-worker" for source in container["envFrom"])
    }
    assert holding == {"worker", "worker-checkout"}


def test_probes_ask_what_the_web_answers_on_its_port() -> None:
    web = CONTAINERS["web"]
    paths = {kind: web[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    # A liveness probe that asks for the database would restart every web while the database is away.
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    variables = {one["name"]: one["value"] for one in web["env"]}
    assert int(variables["PORT"]) == web["ports"][0]["containerPort"]
    assert variables["BIND"] == "0.0.0.0"


def test_selectors_find_the_pods_they_are_for() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    for one in BASE:
        if one["kind"] in ("PodDisruptionBudget", "Deployment"):
            assert one["spec"]["selector"]["matchLabels"] == labels[one["metadata"]["name"]]
        if one["kind"] == "Service":
            assert one["spec"]["selector"] == labels["web"]
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in resources("keda")}
    assert scaled == {"worker", "worker-checkout"} <= set(labels)


def test_catalog_of_the_cluster_is_the_shipped_one() -> None:
    assert (FOLDER / "base" / "catalog.toml").read_bytes() == (ROOT / "catalog.toml").read_bytes()
