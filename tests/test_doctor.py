"""The look at the machine says what native code is built with, or why there is none."""

import pytest

from tinyllm.doctor import examine
from tinyllm.kernels import build


def findings() -> dict[str, tuple[str, str | None]]:
    return {finding.what: (finding.value, finding.advice) for finding in examine()}


@pytest.mark.skipif(not build.available(), reason="needs a C++ compiler (Debian: g++)")
def test_native_code_that_can_be_built_is_on() -> None:
    found = findings()
    assert found["kernels"][0].startswith("on")
    assert found["kernels use"][0].split() == build.processor_features()
    assert found["kernel cache"][0] == str(build.cache_folder())
    assert "compiler" in found


def test_native_code_that_is_switched_off_says_so(kernels_off: None) -> None:
    found = findings()
    assert found["kernels"][0] == "off: switched off by TINYLLM_KERNELS"
    assert "kernels use" not in found


def test_a_missing_compiler_comes_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_compiler", lambda: None)
    monkeypatch.setattr(build, "_outcomes", {})
    value, advice = findings()["kernels"]
    assert value.startswith("off: no C++ compiler found")
    assert advice is not None
    assert "install g++" in advice
