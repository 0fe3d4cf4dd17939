"""Compliance and security: what a person's data and a later reader can rely on.

The scan lives in ``finetuning.pii`` and the log in ``finetuning.audit``, below everything that
uses them; this package is their front door.
"""

from __future__ import annotations

from finetuning.audit import AuditVerification, verify_audit_log
from finetuning.pii import PiiFinding, PiiScan, scan_pii

__all__ = ["AuditVerification", "PiiFinding", "PiiScan", "scan_pii", "verify_audit_log"]
