"""What ships beside the package: image, compose file, service unit, sample. Linted, and held against one another.

They are run for real by hand (docs/deploy.md says how and when): no test can have Docker or systemd everywhere.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reconciler.cli import cli
from state.desired import Worker

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent  # where the linters of the test extra are; one that is missing fails its test
UNIT = ROOT / "deploy" / "reconciler.service"
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def run(*command: str | Path) -> str:
    """What the command printed. It must exit with 0."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    assert run(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile") == ""


def test_the_compose_file_is_valid() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_shell_script_parses() -> None:
    run("sh", "-n", "deploy/prepare.sh")


def test_env_example_has_the_variables_of_the_compose_file_with_their_defaults() -> None:
    used = re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE)
    assert len(used) == COMPOSE.count("$"), "a variable without a default"
    example = (ROOT / ".env.example").read_text().splitlines()
    named = dict(line.split("=", 1) for line in example if line and not line.startswith("#"))
    assert {(name, default) for name, default in used} == set(named.items())


def test_published_ports_are_on_the_loopback_address() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_folder_of_the_file_is_mounted_and_not_the_file() -> None:
    [mount] = [v for v in SERVICES["reconciler"]["volumes"] if isinstance(v, dict)]
    assert f"RECONCILER_FILE={mount['target']}/queues.yaml" in (ROOT / "Dockerfile").read_text()


def test_what_the_image_copies_reaches_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [word for copy in copies for word in copy.split()[:-1] if not word.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


def test_the_pinned_packages_are_those_that_the_package_needs() -> None:
    lines = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pinned}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"]):
        name = canonicalize_name(needed.name)
        assert name in versions, f"deploy/requirements.txt lacks {name}: its head says how to renew it"
        assert versions[name] in needed.specifier, f"deploy/requirements.txt is older than pyproject.toml: {name}"


def test_settings_named_in_what_ships_exist() -> None:
    known = {p.envvar for p in cli.commands["run"].params} | {"RECONCILER_UID", "RECONCILER_GID", "RECONCILER_CONFIG"}
    for path in ["Dockerfile", "docker-compose.yml", "deploy/reconciler.service", "deploy/prepare.sh"]:
        named = set(re.findall(r"\b(?:RECONCILER_\w+|AMQP_URL|MANAGEMENT_URL)\b", (ROOT / path).read_text()))
        assert named
        assert named <= known, path


def unit_settings() -> dict[str, dict[str, list[str]]]:
    """`section → setting → values` of the service unit."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(header[1], {})
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(name, []).append(value)
    return sections


def test_the_service_unit_has_only_settings_that_systemd_knows() -> None:
    known: dict[str, set[str]] = {}
    for line in (Path(__file__).parent / "systemd-settings.txt").read_text().splitlines():
        if line.startswith("["):
            names = known.setdefault(line[1:-1], set())
        elif not line.startswith("#"):
            names.add(line)
    for section, settings in unit_settings().items():
        assert settings.keys() <= known[section]
        repeated = {name for name, values in settings.items() if len(values) > 1}
        assert repeated <= {"Environment"}


def test_a_stop_waits_longer_than_a_worker_may_take() -> None:
    grace = Worker().grace
    minutes = {"1min": 60, "2min": 120, "1m": 60, "2m": 120}
    assert minutes[unit_settings()["Service"]["TimeoutStopSec"][0]] > grace
    assert minutes[SERVICES["reconciler"]["stop_grace_period"]] > grace


def test_the_sample_is_valid_by_the_schema_that_its_first_line_names() -> None:
    text = (ROOT / "queues.yaml").read_text()
    modeline = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert modeline
    named = json.loads((ROOT / modeline[1]).read_text())
    Draft202012Validator.check_schema(named)
    Draft202012Validator(named).validate(yaml.safe_load(text))


def test_the_schema_file_is_what_the_command_prints() -> None:
    stored = (ROOT / "schema" / "queues.schema.json").read_text()
    assert stored == run(BIN / "reconciler", "schema"), "run `make schema`"


WORKFLOWS = {"github.yml": "vendor.github-workflows", "gitlab.yml": "vendor.gitlab-ci"}


def scripts_of(node: Any) -> list[str]:
    """Every shell script of a workflow, GitHub's or GitLab's."""
    if isinstance(node, list):
        return [script for item in node for script in scripts_of(item)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("run", "script", "before_script") if key in node]
    told = [line for script in own for line in (script if isinstance(script, list) else [script])]
    return told + [script for value in node.values() for script in scripts_of(value)]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_workflows_are_what_their_forge_understands(name: str) -> None:
    transform = ["--data-transform", "gitlab-ci"] if name == "gitlab.yml" else []
    run(BIN / "check-jsonschema", "--builtin-schema", WORKFLOWS[name], *transform, f"docs/ci/{name}")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_scripts_of_the_workflows_parse_and_use_commands_that_we_have(name: str) -> None:
    scripts = scripts_of(yaml.safe_load((ROOT / "docs" / "ci" / name).read_text()))
    for script in scripts:
        run("bash", "-n", "-c", script)
    used = {word for script in scripts for word in re.findall(r"^reconciler (\S+)", script, flags=re.MULTILINE)}
    assert used == {"validate", "plan", "apply"}
    assert used <= cli.commands.keys()
