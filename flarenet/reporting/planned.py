"""A plan as a section: every number with its reason."""

from __future__ import annotations

from ..planning.measuring.fingerprint import Fingerprint
from ..planning.plan import Plan
from ..planning.summary import plan_tables, remarks
from .content import Section, Words, from_terminal

MANY_ROWS = 30


def plan_section(plan: Plan, fingerprint: Fingerprint) -> Section:
    """The tables that flarenet_plan prints on what it decided."""
    tables = [
        from_terminal(f"plan_{name}", table, folded=len(table.rows) > MANY_ROWS)
        for name, table in plan_tables(plan, fingerprint).items()
    ]
    notes = [Words(tuple(f"Note: {note}" for note in remarks(fingerprint)))]
    if plan.fingerprint_hash != fingerprint.hash:
        notes.append(Words(("This plan was made from another fingerprint than the one next to it.",), bad=True))
    return Section("plan", "Plan", (*notes, *tables))
