"""The files that make a cluster say what Ray and Kubernetes read in them: no cloud is asked."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from conftest import ROOT
from reprobatch.resolve import load
from reprobatch.settings import Operation

SCHEMA = json.loads((Path(__file__).parent / "golden" / "kuberay-rayjob.schema.json").read_text())
PINS = ROOT / "constraints.txt"
GUIDE = ROOT / "docs" / "cluster.md"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """``cluster.yaml`` as the launcher sees it, with Ray's defaults."""
    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    validate_config(config)
    return config


@pytest.fixture
def rayjob() -> dict[str, Any]:
    # anchors give the same object more than once
    return copy.deepcopy(yaml.safe_load((ROOT / "jobs" / "kubernetes" / "rayjob.yaml").read_text()))


def pinned(name: str) -> str:
    found = re.search(rf"^{re.escape(name)}==(.+)$", PINS.read_text(), re.MULTILINE)
    assert found is not None, f"{name} is not in constraints.txt"
    return found[1]


def test_the_launcher_refuses_a_key_it_does_not_know(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        validate_config({**cluster, "max_wokers": 1})


def test_gpu_machines_are_spot_and_come_and_go_with_the_work(cluster: dict[str, Any]) -> None:
    gpu = cluster["available_node_types"]["gpu"]
    assert gpu["resources"]["GPU"] == 1
    assert gpu["min_workers"] == 0 < gpu["max_workers"] <= cluster["max_workers"]
    assert gpu["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_the_head_has_no_gpu_and_takes_no_worker(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert any("--num-cpus=0" in command for command in cluster["head_start_ray_commands"])
    assert "InstanceMarketOptions" not in head["node_config"]


def test_every_machine_asks_for_the_token_and_has_the_pinned_versions(cluster: dict[str, Any]) -> None:
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        start = next(command for command in commands if "ray start" in command)
        assert "RAY_AUTH_MODE=token" in start
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    installs = [command for command in cluster["worker_setup_commands"] if "pip install" in command]
    assert installs and all("-c ~/reprobatch/constraints.txt" in command for command in installs)
    assert f"torch=={pinned('torch')}" in " ".join(installs)


def test_every_machine_reaches_the_output_bucket(cluster: dict[str, Any]) -> None:
    """Workers write it, by a role and not by keys in a file; the head has the role that Ray makes for it."""
    gpu = cluster["available_node_types"]["gpu"]["node_config"]
    assert ":instance-profile/" in gpu["IamInstanceProfile"]["Arn"]
    region = cluster["provider"]["region"]
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert f"AWS_REGION={region}" in " ".join(commands)
    assert "AWS_SECRET" not in json.dumps(cluster) and "s3://BUCKET" in (ROOT / "cluster.yaml").read_text()


def test_a_rayjob_is_one_that_kuberay_takes(rayjob: dict[str, Any]) -> None:
    """Against a schema of the parts that are used, written after KubeRay's Go types of ``ray.io/v1``.

    KubeRay's own definition (over a megabyte) is in no package on PyPI or npm, and the manifest was never
    given to a Kubernetes server: a field that the schema got wrong is wrong in both.
    """
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(rayjob, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "backofLimit"), 5),
        (("spec", "submissionMode"), "K8SJobMode"),
        (("spec", "rayClusterSpec", "rayVersion"), 2.6),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "volumeMount"), []),
    ],
)
def test_the_schema_finds_a_slip(rayjob: dict[str, Any], path: tuple[str | int, ...], value: object) -> None:
    place: Any = rayjob
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(rayjob, SCHEMA)


def test_a_retried_rayjob_resumes(rayjob: dict[str, Any]) -> None:
    """A retry is a fresh cluster: what it goes on from has to be on a volume that outlives the first."""
    spec = rayjob["spec"]
    assert spec["submissionMode"] == "K8sJobMode" and spec["backoffLimit"] > 0
    _, _, job, _, out = spec["entrypoint"].split()
    load(ROOT / job)
    for template in templates(spec):
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        (container,) = template["spec"]["containers"]
        mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert "persistentVolumeClaim" in mounted[str(Path(out).parent)]


def test_a_rayjob_asks_for_a_token_and_has_one_image(rayjob: dict[str, Any]) -> None:
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    images = {container["image"] for pod in templates(rayjob["spec"]) for container in pod["spec"]["containers"]}
    assert len(images) == 1


def templates(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of the cluster: the head's and the workers'."""
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def test_a_rayjob_names_the_pinned_ray(rayjob: dict[str, Any]) -> None:
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")


def test_the_guides_runtime_environment_is_one_of_rays_and_has_the_pins() -> None:
    (text,) = re.findall(r"```yaml\n(# pins\.yaml\n.*?)```", GUIDE.read_text(), re.DOTALL)
    environment = yaml.safe_load(text)
    packages = RuntimeEnv(pip=environment["pip"], config=environment["config"])["pip"]["packages"]
    assert "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt" in packages
    assert f"torch=={pinned('torch')}" in packages
    assert f"'ray[default]=={pinned('ray')}'" in GUIDE.read_text()


def test_the_guide_has_every_key_of_operation_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `operation\.(\w+)` \| ([^|]+) \|", GUIDE.read_text(), re.MULTILINE))
    defaults = {name: field.default for name, field in Operation.model_fields.items()}
    assert rows.keys() == defaults.keys()
    stated = {name: float(text) for name, text in rows.items() if text.isdigit()}
    assert stated == {name: value for name, value in defaults.items() if value is not None}
