"""The front door of the topic, and what its imports cost."""

import subprocess
import sys

import pytest

from finetuning import audit, compliance, pii

HEAVY = ("polars", "numpy", "stdnum", "phonenumbers", "scrubadub", "presidio_analyzer")
LOADED = f"""
import sys
from finetuning.approval import check_plan
from finetuning.compliance import compliance_report, scan_pii, verify_audit_log
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_compliance_hands_on_the_tools_of_the_floor() -> None:
    assert compliance.scan_pii is pii.scan_pii
    assert compliance.verify_audit_log is audit.verify_audit_log
    assert compliance.compliance_report.__module__ == "finetuning.compliance"


def test_every_public_name_exists_and_no_other_does() -> None:
    for module in (pii, audit, compliance):
        names: list[str] = module.__all__
        assert all(hasattr(module, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'scan_pio'"):
        getattr(pii, "scan_pio")  # noqa: B009  # the name is meant to be missing


def test_importing_the_tools_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
