"""The files for a team's installation, by the schemas and rules that can be had without an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from flows.deploy import CONFIG_MAP, SECRET, prefect_yaml
from flows.example_project import EXAMPLE_PROJECT
from flows.project import Project

INFRA = Path(__file__).parents[2] / "infra"
MANIFESTS = sorted(
    path for path in (INFRA / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    return found


def _manifests() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for each in _manifests():
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def test_the_compose_file_follows_the_compose_specification() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml")),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_lasting_service_has_a_health_check(services: dict[str, Any]) -> None:
    """`deploy` ends by itself, and those that wait for it look at how it ended."""
    assert {name for name, each in services.items() if "healthcheck" not in each} == {"deploy"}


def test_nothing_is_published_beyond_loopback(services: dict[str, Any]) -> None:
    ports = [port for each in services.values() for port in each.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_our_containers_have_no_capabilities(services: dict[str, Any]) -> None:
    ours = [each for name, each in services.items() if name != "postgres"]
    assert all(each["cap_drop"] == ["ALL"] for each in ours)
    assert all("no-new-privileges:true" in each["security_opt"] for each in ours)


def test_secrets_have_no_defaults() -> None:
    """A forgotten one stops the start with its name; none is written in the file."""
    text = (INFRA / "compose.yaml").read_text()
    for name in ("ACCESS_KEY", "SECRET_KEY", "POSTGRES_PASSWORD", "PREFECT_AUTH", "STUDIO_TOKEN"):
        used = text.count(f"${{CRATEDIG_{name}")
        assert used >= 1
        assert text.count(f"${{CRATEDIG_{name}:?") == used
    example = (INFRA / "compose.env.example").read_text()
    assert "CRATEDIG_SECRET_KEY=\n" in example


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_the_schemas_of_kubernetes(path: Path) -> None:
    for each in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_lists_every_manifest() -> None:
    listed = yaml.safe_load((INFRA / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(listed["resources"]) == [path.name for path in MANIFESTS]
    assert listed["configMapGenerator"][0]["name"] == CONFIG_MAP


def test_every_pod_says_what_it_needs_and_may_do_little() -> None:
    """Requests and limits for the scheduler; no root, no capabilities."""
    for name, pod in _pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_pods_and_services_start_alike(services: dict[str, Any]) -> None:
    """What has been tried by one kind of installation holds for the other."""
    pods = dict(_pods())
    for name in ("store", "prefect", "studio"):
        assert pods[name]["containers"][0]["args"] == services[name]["command"]


def test_pods_take_their_keys_from_the_one_secret() -> None:
    found = {
        source["secretRef"]["name"]
        for _, pod in _pods()
        for container in pod["containers"]
        for source in container.get("envFrom", [])
    }
    assert found == {SECRET}


def test_the_example_of_the_secret_names_what_the_manifests_ask_for() -> None:
    example = (INFRA / "kubernetes" / "kubernetes.env.example").read_text()
    named = {line.partition("=")[0] for line in example.splitlines()}
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for _, pod in _pods()
        for container in pod["containers"]
        for variable in container.get("env", [])
        if "valueFrom" in variable
    }
    assert asked <= named
    assert {"CRATEDIG_ACCESS_KEY", "CRATEDIG_SECRET_KEY", "CRATEDIG_STUDIO_TOKEN"} <= named


def test_prefect_yaml_agrees_with_the_table(tmp_path: Path) -> None:
    """The committed file is what the command prints for the project that `cratedig init` writes."""
    (tmp_path / "project.toml").write_text(EXAMPLE_PROJECT)
    assert (INFRA / "prefect.yaml").read_text() == prefect_yaml(Project.load(tmp_path))


def test_the_worker_image_has_the_prefect_of_the_lock() -> None:
    lock = (INFRA.parent / "requirements.lock").read_text()
    version = next(
        line.removeprefix("prefect==").split()[0]
        for line in lock.splitlines()
        if line.startswith("prefect==")
    )
    images = json.dumps([pod for _, pod in _pods()])
    assert f"prefecthq/prefect:{version}-" in images
