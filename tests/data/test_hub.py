"""Reaching the Hub, or continuing without it."""

import os
import socket
from collections.abc import Iterator

import pytest

from sweep.config import DataConfig
from sweep.data import go_offline_if_silent
from sweep.data.hub import PROXIES, SET_BY_US, load_from_hub
from sweep.errors import DataError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", *PROXIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(SET_BY_US, "")  # so that what a test sets is undone


@pytest.fixture
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_hub_that_answers_is_used(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server}")
    assert go_offline_if_silent() is None
    assert "HF_HUB_OFFLINE" not in os.environ


def test_hub_that_is_silent_turns_the_cache_on_and_says_so(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    sentence = go_offline_if_silent()
    assert sentence is not None
    assert sentence.startswith("127.0.0.1 cannot be reached (Connection refused)")
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "HTTPS_PROXY"])
def test_nothing_is_asked_when_offline_or_behind_a_proxy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, "1")
    assert go_offline_if_silent() is None


def test_dataset_that_is_not_in_the_cache_has_a_remedy_that_fits_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set.*or unset it once to download"):
        load_from_hub(DataConfig(source="hub", path="nobody/nothing-of-the-kind"))
