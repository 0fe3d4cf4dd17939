"""The detection rules of the fast detector, one module per family of types.

To add a form of a known type, add a ``rule(...)`` to its module; the trigger must match every
text in which the pattern can match (a property test compares runs with and without triggers).
"""

from __future__ import annotations

from typing import Final

from finetuning.pii.rules.contact import EMAIL_RULES, NETWORK_RULES, PHONE_RULES
from finetuning.pii.rules.context import CONTEXT_RULES
from finetuning.pii.rules.numbers import BANK_RULES, NATIONAL_RULES
from finetuning.pii.rules.people import ADDRESS_RULES, NAME_RULES
from finetuning.pii.rules.rule import Rule
from finetuning.pii.rules.secrets import PASSWORD_RULES, SECRET_RULES

RULES: Final[tuple[Rule, ...]] = (
    *SECRET_RULES,
    *PASSWORD_RULES,
    *EMAIL_RULES,
    *PHONE_RULES,
    *NETWORK_RULES,
    *BANK_RULES,
    *NATIONAL_RULES,
    *CONTEXT_RULES,
    *NAME_RULES,
    *ADDRESS_RULES,
)

__all__ = ["RULES", "Rule"]
