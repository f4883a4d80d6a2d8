"""From what nvidia-smi says to what is to be done."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import yaml

from services.cli.checks.cards import IMAGES, CardHost, judge_cards, judge_driver
from services.cli.checks.finding import Finding, State
from services.cli.checks.nvidia_smi import parse_card_host
from tests.fakes.nvidia_smi import A100, OLD_A100, answer
from tests.unit.test_compose import SERVICES


def judged(*cards: Mapping[str, str], **more: object) -> dict[str, Finding]:
    host = parse_card_host(answer(*cards, **more))  # type: ignore[arg-type]
    return {one.check: one for one in judge_cards(host, demanded=False)}


def test_a_card_in_order_wants_nothing() -> None:
    found = judged(A100)
    assert {one.state for one in found.values()} == {State.OK}
    assert found["gpu driver"].seen == "driver 580.95.05, CUDA 13.0, 1 card(s)"
    assert found["gpu 0 memory"].seen == "NVIDIA A100-SXM4-80GB: 85.2 GB of 85.2 GB free"
    assert found["gpu 0 power limit"].seen == "400 W, 400 W as it was made"
    assert found["gpu 0 clocks"].seen == "SM 210 MHz now, 1410 MHz at most"


def test_an_older_driver_s_names_are_read_too_and_everything_that_is_off_is_told() -> None:
    found = judged(OLD_A100, cuda="11.8")
    wrong = {name: one for name, one in found.items() if one.state is not State.OK}
    assert {one.state for one in wrong.values()} == {State.WARN}
    assert wrong["gpu 0 power limit"].mend == "sudo nvidia-smi -i 0 -pl 400"
    assert "held back: sw_thermal_slowdown" in wrong["gpu 0 clocks"].seen
    assert "sudo nvidia-smi -i 0 -pm 1" in wrong["gpu 0 persistence"].mend
    assert len(wrong) == 3


def test_a_ceiling_on_the_clock_is_told() -> None:
    found = judged({**A100, "applications_clocks/graphics_clock": "1095 MHz"})["gpu 0 clocks"]
    assert (found.state, found.mend) == (State.WARN, "sudo nvidia-smi -i 0 -rac")


def test_memory_that_others_hold_is_a_fail_and_they_are_named() -> None:
    held = {**A100, "fb_memory_usage/used": "20480 MiB"}
    found = judged(held, A100, processes=((4711, "C", "python3", "20476 MiB"), (12, "G", "Xorg", "N/A")))
    assert found["gpu 0 memory"].state is State.FAIL
    assert "would not start" in found["gpu 0 memory"].seen
    assert found["gpu 0 other programs"].seen.startswith("python3 (pid 4711, 21.5 GB), Xorg (pid 12)")
    assert found["gpu 0 other programs"].mend.endswith("sudo kill 4711 12")
    assert found["gpu 1 memory"].state is State.OK


@pytest.mark.parametrize(
    ("fact", "value", "check", "state", "mend"),
    [
        ("mig_mode/current_mig", "Enabled", "gpu 0 mode", State.WARN, "-mig 0"),
        ("compute_mode", "Prohibited", "gpu 0 mode", State.FAIL, "-c DEFAULT"),
        ("fb_memory_usage/total", "8188 MiB", "gpu 0 memory", State.WARN, "choose a smaller one"),
        ("fb_memory_usage/used", "N/A", "gpu 0 memory", State.NOT_APPLICABLE, ""),
        ("persistence_mode", "N/A", "gpu 0 persistence", State.NOT_APPLICABLE, ""),
    ],
)
def test_one_fact_at_a_time(fact: str, value: str, check: str, state: State, mend: str) -> None:
    found = judged({**A100, fact: value})[check]
    assert found.state is state
    assert found.mend.endswith(mend)


def test_only_the_card_in_use_is_looked_at_and_one_that_is_not_there_is_a_fail() -> None:
    host = parse_card_host(answer(A100, OLD_A100))
    checks = {one.check for one in judge_cards(host, demanded=True, only=(1,))}
    assert "gpu 1 memory" in checks
    assert "gpu 0 memory" not in checks
    (missing,) = [one for one in judge_cards(host, demanded=True, only=(5,)) if one.state is State.FAIL]
    assert (missing.check, missing.seen) == ("gpu 5", "there is no card 5")


@pytest.mark.parametrize(
    ("host", "demanded", "state", "words"),
    [
        (CardHost(False, "", 0), False, State.WARN, "no NVIDIA GPU: simulated and CPU engines only"),
        (CardHost(False, "", 0), True, State.FAIL, "no NVIDIA GPU: simulated and CPU engines only"),
        (CardHost(False, "", 1), False, State.WARN, "1 NVIDIA card(s) on the bus and no driver"),
        (CardHost(False, "", 1), True, State.FAIL, "1 NVIDIA card(s) on the bus and no driver"),
        (CardHost(True, "Driver/library version mismatch", 1), False, State.FAIL, "version mismatch"),
    ],
)
def test_without_a_card(host: CardHost, demanded: bool, state: State, words: str) -> None:
    (found,) = judge_cards(host, demanded=demanded)
    assert found.state is state
    assert words in found.seen
    assert "nvidia-driver-580-server" in found.mend


def test_what_is_no_answer_is_an_error() -> None:
    assert parse_card_host("NVIDIA-SMI has failed").error == "its answer cannot be read"


@pytest.mark.parametrize(
    ("cuda", "state"), [("13.1", State.OK), ("13.0", State.OK), ("12.8", State.FAIL), ("N/A", State.NOT_APPLICABLE)]
)
def test_the_driver_must_know_the_images_cuda(cuda: str, state: State) -> None:
    found = judge_driver(parse_card_host(answer(A100, cuda=cuda)), IMAGES)
    assert found.state is state
    assert ("branch 580 or newer" in found.mend) == (state is State.FAIL)


def test_a_minor_version_behind_may_do() -> None:
    found = judge_driver(parse_card_host(answer(A100, cuda="12.2")), {"tgi:3.3.5": (12, 4)})
    assert found.state is State.WARN
    assert found.seen == "the driver knows CUDA 12.2; tgi:3.3.5 wants CUDA 12.4"


def test_the_images_that_are_known_are_those_of_docker_compose() -> None:
    pinned = {str(one["image"]) for one in SERVICES.values() if "resources" in yaml.safe_dump(one.get("labels", {}))}
    assert {*IMAGES} == pinned
