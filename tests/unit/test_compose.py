"""docker-compose.yml, its example of .env and the Dockerfile: what can be held without a Docker Engine."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.catalog import find_engine
from engines.errors import LaunchFailed
from engines.launch.container import OVERLAY_LABEL, RESOURCES_LABEL, run_container
from engines.launch.container_flags import (
    ALIKE,
    AS_SHIPPED,
    MATCHED,
    MODELS,
    REACHED,
    compose_targets,
    flags_of,
    model_flags,
    service_of,
)
from engines.models import find_model
from engines.simulated.profiles import PROFILES
from engines.spec import Container, TargetSpec
from tests.fakes.docker_engine import FakeContainer, docker_engine

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
PROFILES_OF = {name: set(service.get("profiles", ())) for name, service in SERVICES.items()}
ENGINES = {
    service_of(engine, model, flag_class): (engine, model, flag_class)
    for engine in REACHED
    for model in MODELS
    for flag_class in (AS_SHIPPED, MATCHED)
}
#: Written as they like: compiled kernels, caches, profiles of the card.
WRITABLE_ROOT = {*ENGINES, "gpu-exporter", "prometheus"}
#: Their images run as root, without a capability.
ROOT_USER = {*ENGINES, "gpu-exporter"}
ONE_SHOT = {"migrate", "models"}
#: What the image may be made from: without traces, and with.
LOCKS = ("requirements.lock", "requirements-otel.lock")
#: Variables without which nothing starts.
REQUIRED = sorted({*re.findall(r"\$\{([A-Z_]+):\?", TEXT)})


def words(service: str) -> list[str]:
    return [str(word) for word in SERVICES[service]["command"]]


def variables(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


@pytest.mark.parametrize("profile", ["", "sim", "gpu"])
def test_what_a_profile_brings_up_fits_the_compose_schema_and_is_whole(profile: str, tmp_path: Path) -> None:
    chosen = {name: one for name, one in SERVICES.items() if not PROFILES_OF[name] or profile in PROFILES_OF[name]}
    part = tmp_path / "compose.yml"
    part.write_text(yaml.safe_dump({**FILE, "services": chosen}))
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(part)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    for name, service in chosen.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in chosen or how.get("required") is False, name
            health = SERVICES[other].get("healthcheck", {})
            match how["condition"]:
                case "service_healthy":
                    assert health.get("test"), f"{name} waits for the health of {other}, which has no check"
                case "service_completed_successfully":
                    assert other in ONE_SHOT
        for volume in service.get("volumes", ()):
            source = str(volume).split(":")[0]
            assert source.startswith((".", "/", "$")) or source in FILE["volumes"], f"{name}: {volume}"
        assert {*service["networks"]} <= {*FILE["networks"]}
        assert {*service.get("secrets", ())} <= {*FILE["secrets"]}


def configured(profile: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """What podman-compose makes of the file, with nothing of this process's environment; no engine is asked."""
    (folder / "docker-compose.yml").write_text(TEXT)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    command = [sys.executable, "-m", "podman_compose", "-f", "docker-compose.yml"]
    command += [*(("--profile", profile) if profile else ()), "config"]
    return subprocess.run(command, cwd=folder, env={"HOME": str(folder)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("profile", ["", "sim", "gpu"])
def test_podman_compose_reads_each_profile_and_fills_it_in(profile: str, tmp_path: Path) -> None:
    given = {name: f"word-{number}" for number, name in enumerate(REQUIRED)}
    done = configured(profile, tmp_path, **given, GPU="3")
    assert (done.returncode, done.stderr) == (0, "")
    read = yaml.safe_load(done.stdout)
    services = read["services"]
    assert {*services} == {name for name in SERVICES if not PROFILES_OF[name] or profile in PROFILES_OF[name]}
    assert "${" not in json.dumps(services), "a variable was not filled in"
    assert {*read["networks"]} == {*FILE["networks"]}
    assert {*read["volumes"]} == {*FILE["volumes"]}
    password = given["POSTGRES_PASSWORD"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == password
    url = f"postgresql+psycopg://enginebench:{password}@postgres:5432/enginebench"
    assert services["worker"]["environment"]["ENGINEBENCH_DATABASE_URL"] == url
    for name in services.keys() & ENGINES.keys():
        # Merged from its anchors as YAML and Compose have it: the words, the variables, the card.
        assert services[name]["command"] == words(name)
        assert services[name]["environment"] == variables(name)
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == ["3"]


def test_podman_compose_names_what_is_not_set(tmp_path: Path) -> None:
    missing = "POSTGRES_PASSWORD"
    done = configured("", tmp_path, **{name: "word" for name in REQUIRED if name != missing})
    assert done.returncode != 0
    assert f"{missing} is missing a value: set {missing} in .env" in done.stderr


def test_the_profiles_hold_what_they_say() -> None:
    assert {n for n, profiles in PROFILES_OF.items() if not profiles} == {
        *("postgres", "migrate", "api", "worker", "prometheus", "grafana")
    }
    assert {n for n, profiles in PROFILES_OF.items() if profiles == {"sim"}} == {f"simulated-{n}" for n in PROFILES}
    assert {n for n, profiles in PROFILES_OF.items() if profiles == {"gpu"}} == {
        *ENGINES,
        *("models", "gpu-exporter", "docker-proxy"),
    }


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_pinned_by_a_tag_that_names_a_version(service: str) -> None:
    _, _, tag = SERVICES[service]["image"].rpartition("/")[2].partition(":")
    assert re.search(r"\d+\.\d+", tag), SERVICES[service]["image"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_is_in_the_file_and_none_has_a_working_default(service: str) -> None:
    for name, value in variables(service).items():
        if re.search(r"PASSWORD|KEY|TOKEN|DATABASE_URL", name):
            assert re.search(r"\$\{[A-Z_]+(:\?[^}]+|:-)\}", value), f"{name}={value}"
    assert not any(re.search(r"hf_|sk-|[0-9a-f]{32}", word) for word in map(str, SERVICES[service].get("command", ())))


def test_the_hub_s_token_goes_to_the_container_that_fetches_and_to_no_other() -> None:
    assert TEXT.count("HF_TOKEN") == 2
    assert variables("models")["HF_TOKEN"] == "${HF_TOKEN:-}"
    for name, service in SERVICES.items():
        # .env holds the token; it is read to fill this file in, and handed to nobody whole.
        assert [entry["path"] for entry in service.get("env_file", ())] in ([], ["secrets.env"]), name


def test_only_the_api_and_grafana_are_published_on_loopback_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "api": ["${PUBLISH:-127.0.0.1:8700}:8700"],
        "grafana": ["${PUBLISH_GRAFANA:-127.0.0.1:3000}:3000"],
    }
    assert not any("network_mode" in service or service.get("privileged") for service in SERVICES.values())


@pytest.mark.parametrize("service", SERVICES)
def test_each_container_has_no_more_than_it_needs(service: str) -> None:
    found = SERVICES[service]
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["mem_limit"]
    assert found.get("read_only", False) is (service not in WRITABLE_ROOT)
    assert ("user" in found) is (service not in ROOT_USER)
    assert not str(found.get("user", "1")).startswith("0")
    assert found["restart"] == ("no" if service in {*ENGINES, *ONE_SHOT} else "unless-stopped")


@pytest.mark.parametrize("service", [n for n in SERVICES if n not in {*ENGINES, *ONE_SHOT}])
def test_what_stays_up_has_a_health_check(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"


def checked(service: str, *replaced: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """Its health check, with other places than in its container; `$$` is Compose's `$`."""
    _, program, flag, script = SERVICES[service]["healthcheck"]["test"]
    for old, new in (*replaced, ("$$", "$")):
        assert old in script or old == "$$"
        script = script.replace(old, new)
    name = sys.executable if program == "python" else program
    return subprocess.run([name, flag, script], capture_output=True, text=True, timeout=60.0)


def test_a_worker_is_healthy_while_it_holds_its_folder_and_gets_on(tmp_path: Path) -> None:
    lock, alive = tmp_path / "worker.lock", tmp_path / "worker.alive"
    places = ("/data/worker.lock", str(lock)), ("/data/worker.alive", str(alive))
    with lock.open("w") as held:
        nobody = checked("worker", *places)
        fcntl.flock(held, fcntl.LOCK_EX)
        early = checked("worker", *places)
        alive.touch()
        well = checked("worker", *places)
        long_ago = alive.stat().st_mtime - 400
        os.utime(alive, (long_ago, long_ago))
        hung = checked("worker", *places)
    assert [one.returncode for one in (nobody, early, well, hung)] == [1, 1, 0, 1], hung.stderr
    assert "no worker holds" in nobody.stderr
    assert "the worker hangs, for 40" in hung.stderr


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_exporter_for_the_cards_is_asked_by_a_shell_alone(status: int | None, healthy: bool) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert status is not None
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        place = ("/127.0.0.1/9400", f"/127.0.0.1/{server.server_port}")
        if status is None:
            server.server_close()
        thread = threading.Thread(target=server.handle_request)
        if status is not None:
            thread.start()
        done = checked("gpu-exporter", place)
        if status is not None:
            thread.join()
    assert (done.returncode == 0) is healthy, done.stderr


def test_who_can_reach_whom() -> None:
    on = {name: {n for n, service in SERVICES.items() if name in service["networks"]} for name in FILE["networks"]}
    assert on["store"] == {"postgres", "migrate", "api", "worker", "grafana"}
    assert on["docker"] == {"worker", "docker-proxy"}
    assert on["engines"] == {"api", "worker", "prometheus", *ENGINES, *(f"simulated-{n}" for n in PROFILES)}
    assert on["front"] == {"api", "worker", "grafana", "models"}
    assert {name for name, network in FILE["networks"].items() if not (network or {}).get("internal")} == {"front"}


def test_prometheus_knows_everything_it_scrapes_by_a_name_that_compose_gives() -> None:
    config = yaml.safe_load((ROOT / "dashboards" / "prometheus" / "prometheus.yml").read_text())
    scraped = {
        job["job_name"]: {target.partition(":")[0] for group in job["static_configs"] for target in group["targets"]}
        for job in config["scrape_configs"]
    }
    assert scraped.pop("prometheus") == {"localhost"}
    simulated = {f"simulated-{name}" for name in PROFILES}
    # The two classes of an engine never run at once, so they share a name.
    named = {name: {name, *(SERVICES[name]["networks"]["engines"].get("aliases", ()))} for name in ENGINES}
    assert {name for name, own in named.items() if not own & scraped["engines"]} == set()
    assert scraped.pop("engines") == {name for name in ENGINES if not name.endswith(AS_SHIPPED)} | simulated
    assert scraped == {"enginebench": {"api"}, "gpu": {"gpu-exporter"}}
    assert {"watch", "engines"} <= {*SERVICES["prometheus"]["networks"]}


# ---- engines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ENGINES)
def test_an_engine_is_created_here_and_started_by_the_worker(service: str) -> None:
    found = SERVICES[service]
    assert found["container_name"] == f"enginebench-{service}"
    assert found["healthcheck"] == {"disable": True}
    assert found["shm_size"] == "8g"
    (device,) = found["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["${GPU:-0}"], "capabilities": ["gpu"]}
    assert found["labels"][RESOURCES_LABEL] == "gpu:0"
    assert "models:/models:ro" in found["volumes"]
    answers_to = {service, *((found["networks"]["engines"] or {}).get("aliases", ()))}
    engine, model, _ = ENGINES[service]
    assert service_of(engine, model, MATCHED) in answers_to


@pytest.mark.parametrize("service", ENGINES)
def test_an_engine_s_flags_are_those_with_a_reason_and_no_other(service: str) -> None:
    engine, model, flag_class = ENGINES[service]
    flags = flags_of(engine, flag_class)
    expected = [*model_flags(engine, model, flag_class)]
    expected += [word for flag in flags if not flag.is_variable for word in flag.words]
    assert words(service) == expected
    assert {f"{n}={v}" for n, v in variables(service).items()} == {f.words[0] for f in flags if f.is_variable}
    assert SERVICES[service]["labels"]["enginebench.flag-class"] == flag_class
    assert all(flag.why for flag in flags)


@pytest.mark.parametrize("service", ENGINES)
def test_an_engine_s_flags_go_with_what_the_catalog_says_it_can_do(service: str) -> None:
    name, model, flag_class = ENGINES[service]
    engine, flags = find_engine(name), words(service)
    assert engine.command is not None
    local = engine.command("MODEL", 8000, ())
    spoken = {word for word in flags if word.startswith("--")}
    # What the catalog starts as a process is spoken to in the same words: the model, an address, a port.
    assert {word for word in local if word.startswith("--")} <= spoken
    assert flags[flags.index("--port") + 1] == "8000"
    assert variables(service).items() >= dict(engine.launch_env).items()
    assert find_model(model) is not None
    serves_overlay = any("/overlay/" in word for word in flags)
    assert (SERVICES[service]["labels"].get(OVERLAY_LABEL) == "true") is serves_overlay
    # Whoever cannot be told to go on past the end is given a model that never ends, where lengths are to be alike.
    assert serves_overlay is (flag_class == MATCHED and not engine.capabilities.fixed_length)
    # Its counters are read during the run, and its own tokeniser counts the prompts.
    assert engine.capabilities.metrics_path
    assert engine.capabilities.tokenize_path
    assert not spoken & {"--disable-log-stats", "--skip-tokenizer-init", "--disable-metrics", "--api-key"}
    # What a request may ask for is not switched off for it.
    if engine.capabilities.stream_usage:
        assert not spoken & {"--disable-usage", "--no-enable-force-include-usage"}


def value_of(service: str, flag: str) -> str:
    flags = words(service)
    return flags[flags.index(flag) + 1]


def test_the_matched_arms_are_told_the_same_numbers() -> None:
    pairs = {
        "--dtype": "--dtype",
        "--max-model-len": "--max-total-tokens",
        "--max-num-batched-tokens": "--max-batch-prefill-tokens",
        "--max-num-seqs": "--max-batch-size",
        "--gpu-memory-utilization": "--cuda-memory-fraction",
    }
    for model in MODELS:
        vllm, tgi = service_of("vllm", model, MATCHED), service_of("tgi", model, MATCHED)
        for one, other in pairs.items():
            assert value_of(vllm, one) == value_of(tgi, other)
        graphs = [int(size) for size in value_of(tgi, "--cuda-graphs").split(",")]
        assert graphs == sorted(set(graphs))
        assert (
            graphs[-1] == int(value_of(vllm, "--max-cudagraph-capture-size")) == int(value_of(vllm, "--max-num-seqs"))
        )
        assert int(value_of(tgi, "--max-concurrent-requests")) >= 512
        # TGI refuses to start where one prompt is longer than a prefill step, or as long as the whole.
        assert int(value_of(tgi, "--max-input-tokens")) < int(value_of(tgi, "--max-total-tokens"))
        assert int(value_of(tgi, "--max-input-tokens")) <= int(value_of(tgi, "--max-batch-prefill-tokens"))
        context = find_model(model)
        assert context is not None
        assert int(value_of(vllm, "--max-model-len")) <= context.context


def test_what_is_fetched_is_what_is_served() -> None:
    fetched = {str(word).partition("@")[0] for word in words("models")}
    assert fetched == {*MODELS}
    folders = {f"/models/{repository.rsplit('/', 1)[-1]}" for repository in fetched}
    served = {word.replace("/overlay", "") for name in ENGINES for word in words(name) if word.startswith("/models")}
    assert served == folders


def url_host(service: str) -> str:
    """The name it answers to in the engines' network: its own, or the alias of the arm that stands in for it."""
    aliases = (SERVICES[service]["networks"]["engines"] or {}).get("aliases") or [service]
    return str(aliases[0])


@pytest.mark.parametrize("flag_class", [AS_SHIPPED, MATCHED])
def test_the_targets_name_containers_that_there_are(flag_class: str) -> None:
    targets = compose_targets(flag_class, "A100-80GB")
    assert {t["name"] for t in targets} == {n for n in ENGINES if ENGINES[n][2] == flag_class}
    for target in targets:
        service = SERVICES[target["name"]]
        name, spec = target["name"], TargetSpec.model_validate({k: v for k, v in target.items() if k != "name"})
        assert spec.reach == Container(container=service["container_name"], url=f"http://{url_host(name)}:8000")
        assert target["resources"] == [service["labels"][RESOURCES_LABEL]]
        stated = [word for word in target["flags"] if "=" not in word]
        assert stated == words(name)
        assert {word for word in target["flags"] if "=" in word} == {f"{n}={v}" for n, v in variables(name).items()}
        assert target["flag_class"] == service["labels"]["enginebench.flag-class"] == flag_class


def test_the_two_classes_differ_in_what_is_told_alike_and_in_nothing_else() -> None:
    for engine in REACHED:
        assert flags_of(engine, MATCHED) == flags_of(engine, AS_SHIPPED) + ALIKE[engine]


# ---- the socket's proxy ------------------------------------------------------------------------------------------


def allowed(method: str, path: str) -> bool:
    """The proxy anchors each pattern at both ends."""
    patterns = [w.partition("=")[2] for w in words("docker-proxy") if w.startswith(f"-allow{method}=")]
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def test_the_proxy_lets_each_engine_s_container_be_inspected_started_stopped_and_read() -> None:
    for service in ENGINES:
        for method, verb in (("GET", "json"), ("GET", "logs"), ("POST", "start"), ("POST", "stop")):
            assert allowed(method, f"/containers/enginebench-{service}/{verb}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json"),
        ("GET", "/info"),
        ("GET", "/containers/enginebench-postgres-1/json"),
        ("GET", "/containers/enginebench-vllm-qwen2.5-7b/archive"),
        ("GET", "/containers/enginebench-vllm-qwen2x5-7b/json"),
        ("GET", "/containers/enginebench-vllm-qwen2.5-7b/json/../../../info"),
        ("POST", "/containers/create"),
        ("POST", "/containers/enginebench-vllm-qwen2.5-7b/exec"),
        ("POST", "/containers/enginebench-vllm-qwen2.5-7b/kill"),
        ("POST", "/containers/enginebench-vllm-qwen2.5-7b/update"),
        ("POST", "/containers/somebody-elses/stop"),
        ("POST", "/build"),
        ("DELETE", "/containers/enginebench-vllm-qwen2.5-7b"),
        ("PUT", "/containers/enginebench-vllm-qwen2.5-7b/archive"),
    ],
)
def test_the_proxy_lets_nothing_else_through(method: str, path: str) -> None:
    assert not allowed(method, path)


def test_a_whole_turn_of_each_engine_passes_the_proxy_and_a_stranger_s_does_not(tmp_path: Path) -> None:
    """The worker's own calls, at a stand-in of the Docker Engine behind the patterns of the file."""
    names = [f"enginebench-{service}" for service in ENGINES]
    stranger = FakeContainer("somebody-elses")
    with docker_engine(tmp_path, *map(FakeContainer, names), stranger) as docker:
        docker.lets_through = allowed
        for name in names:
            reach = Container(container=name, url="http://127.0.0.1:8000")
            with run_container(reach, docker.url, names, tmp_path) as container:
                assert docker.running == [name]
                assert container.log_tail()
        assert docker.refused == []
        stranger.start()
        turn = run_container(
            Container(container=stranger.name, url="http://h"), docker.url, [*names, stranger.name], tmp_path
        )
        with pytest.raises(LaunchFailed, match="proxy does not allow"), turn:
            pass
        assert docker.running == [stranger.name]
        assert docker.refused == [("GET", "/containers/somebody-elses/json")]


def test_the_proxy_listens_to_the_worker_alone() -> None:
    assert "-allowfrom=worker" in words("docker-proxy")
    assert [name for name, one in SERVICES.items() if "docker.sock" in str(one.get("volumes"))] == ["docker-proxy"]
    assert SERVICES["docker-proxy"]["volumes"][0].endswith(":/var/run/docker.sock:ro")


def test_the_service_may_start_these_containers_and_no_other() -> None:
    listed = variables("worker")["ENGINEBENCH_CONTAINERS"]
    assert {name.strip() for name in listed.split(",")} == {f"enginebench-{name}" for name in ENGINES}
    assert variables("api")["ENGINEBENCH_CONTAINERS"] == listed
    assert variables("worker")["ENGINEBENCH_DOCKER_URL"] == "tcp://docker-proxy:2375"
    assert variables("worker")["ENGINEBENCH_DOCKER_IS_LOCAL"] == "true"


# ---- .env.example and the image ----------------------------------------------------------------------------------


def test_the_example_names_every_variable_that_compose_reads() -> None:
    read = {*re.findall(r"\$\{([A-Z_]+)", TEXT)}
    example = (ROOT / ".env.example").read_text()
    listed = {*re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)}
    assert read <= listed
    assert {name for name in listed if not name.startswith("ENGINEBENCH_")} <= read
    empty = {*re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)}
    assert {*REQUIRED} <= empty, "what must be set stands there empty, so that a copy does not work by itself"
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", TEXT))
    given = dict(re.findall(r"^([A-Z_]+)=(.+)$", example, re.MULTILINE))
    assert {name: given[name] for name in defaults if name in given} == {n: defaults[n] for n in defaults if n in given}


def test_the_image_is_made_from_the_lock_and_runs_as_nobody_in_particular() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases)
    assert "ARG LOCK=requirements.lock\n" in dockerfile
    assert "--require-hashes -r ${LOCK}" in dockerfile
    last = dockerfile.rpartition("FROM ")[2]
    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert {s["user"] for s in SERVICES.values() if s["image"].startswith("enginebench:")} == {"10001:10001"}
    copied = set(re.findall(r"^COPY ([a-z_]+) ", dockerfile, re.MULTILINE))
    context = (ROOT / ".dockerignore").read_text()
    assert copied == {"engines", "bench_runner", "services", "migrations"}
    assert {line[1:] for line in context.splitlines() if line.startswith("!")} >= copied | {*LOCKS}
    assert context.startswith("*\n"), "nothing goes into the context unless it is named"


def pins(lock: str) -> dict[str, str]:
    """Package -> its pin with its hashes."""
    return {one.partition("==")[0]: one for one in re.split(r"(?m)^(?=\w)", (ROOT / lock).read_text()) if one}


def test_the_lock_with_opentelemetry_adds_what_traces_take_and_changes_nothing() -> None:
    plain, traced, tested = map(pins, (*LOCKS, "requirements-dev.lock"))
    assert plain.items() < traced.items()
    added = {name: pin for name, pin in traced.items() if name not in plain}
    assert added.items() <= tested.items(), "what is added is what the tests of traces have"
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= added.keys()
    wanted = {found for name in added for found in requires(name) or () if "extra ==" not in found}
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", one)[0]).lower() for one in wanted}
    assert names <= traced.keys()


def test_every_service_of_ours_is_built_from_the_lock_that_is_named_and_told_where_traces_go(tmp_path: Path) -> None:
    ours = {name for name, service in SERVICES.items() if service["image"].startswith("enginebench:")}
    built = {name: SERVICES[name]["build"] for name in ours}
    assert all(one == {"context": ".", "args": {"LOCK": "${LOCK:-requirements.lock}"}} for one in built.values())
    given = dict.fromkeys(REQUIRED, "word")
    collector = "http://collector.example:4318"
    done = configured("", tmp_path, **given, LOCK=LOCKS[1], OTEL_EXPORTER_OTLP_ENDPOINT=collector)
    services = yaml.safe_load(done.stdout)["services"]
    for name in ("api", "worker"):
        assert f"LOCK={LOCKS[1]}" in services[name]["build"]["args"]
        assert services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == collector


def test_what_the_image_leaves_out_of_the_lock_is_not_missed() -> None:
    """Every module of ours is imported, and a table printed, where none of it can be."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    left_out = " ".join(re.findall(r"uninstall -y ([a-z -]+)", dockerfile)).split()
    modules = {"markdown-it-py": "markdown_it", "trove-classifiers": "trove_classifiers"}
    gone = [modules.get(name, name) for name in left_out]
    assert "pygments" in gone
    program = f"""
import importlib, pkgutil, sys
gone = {gone!r}
for name in [*gone, "sqlalchemy.testing", "alembic.testing", "fsspec.tests"]:
    sys.modules[name] = None
import bench_runner, engines, migrations, services
for package in (engines, bench_runner, services):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
from services.cli.service import print_table
print_table("t", ("a", "tokens/s"), [("x", 1)])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tokens/s" in done.stdout


@pytest.mark.parametrize(
    ("words", "healthy"),
    [
        (("/sbin/docker-init", "--", "enginebench", "serve"), False),
        (("/venv/bin/python", "/venv/bin/enginebench", "serve", "--api-only"), False),
        (("/venv/bin/python", "/venv/bin/enginebench", "serve", "--worker-only"), True),
        (("/venv/bin/python", "/venv/bin/enginebench", "migrate"), True),
        (("python", "-m", "engines.launch.container_models", "/models"), True),
    ],
)
def test_the_image_s_health_check_asks_the_api_only_where_there_is_one(
    words: tuple[str, ...], healthy: bool, tmp_path: Path
) -> None:
    """Nobody listens here, so whoever is asked is found missing."""
    line = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("  CMD ["))
    program, *arguments = json.loads(line.strip().removeprefix("CMD "))
    first = tmp_path / "cmdline"
    first.write_bytes(b"".join(word.encode() + b"\0" for word in words))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        there = {"/proc/1/cmdline": str(first), ":8700/": f":{nobody.getsockname()[1]}/"}
        for old, new in there.items():
            assert old in arguments[1]
            arguments[1] = arguments[1].replace(old, new)
        asked = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert program == "python"
    assert (asked.returncode == 0) is healthy, asked.stderr
    assert healthy or "Connection refused" in asked.stderr
