"""The audit log: who did what when, in a chain that shows every later change."""

from __future__ import annotations

from finetuning.audit.log import append, check_log
from finetuning.audit.verify import AuditVerification, verify_audit_log

__all__ = ["AuditVerification", "append", "check_log", "verify_audit_log"]
