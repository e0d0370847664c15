"""A registry of each version behind a proxy that can break its answers, with crane to look at it from behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crane import Crane
from tests.support.faulty import faulty_registry
from tests.support.pruning import Setting
from tests.support.registries import RegistryServer


@pytest.fixture
def setting(registry: RegistryServer, tmp_path: Path) -> Iterator[Setting]:
    with faulty_registry(registry.url) as proxy:
        yield Setting(registry, proxy, Crane(tmp_path / "crane"))


@pytest.fixture
def setting2(registry2: RegistryServer, tmp_path: Path) -> Iterator[Setting]:
    with faulty_registry(registry2.url) as proxy:
        yield Setting(registry2, proxy, Crane(tmp_path / "crane"))


@pytest.fixture
def setting3(registry3: RegistryServer, tmp_path: Path) -> Iterator[Setting]:
    with faulty_registry(registry3.url) as proxy:
        yield Setting(registry3, proxy, Crane(tmp_path / "crane"))
