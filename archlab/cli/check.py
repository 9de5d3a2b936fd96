"""archlab check: each closed form beside what the built module, or a tracer of it, says."""

from __future__ import annotations

from typing import Any

from archlab.cli.screen import bold, dim, table
from archlab.nn.audit import Audit


def facts(audit: Audit) -> dict[str, Any]:
    """The audit as JSON."""
    return audit.as_dict()


def screen(audit: Audit) -> str:
    """One line a check, and the verdict."""
    rows = [
        [c.what, f"{c.closed_form:,}", f"{c.module:,}", "equal" if c.agree else "DIFFERS", c.source]
        for c in audit.checks
    ]
    good = sum(c.agree for c in audit.checks)
    verdict = f"{good} of {len(audit.checks)} checks agree"
    lines = [
        f"{bold(audit.model)}   closed forms against the module built on the meta device",
        table(["what", "closed form", "module", "", "counted by"], rows, left=(0, 3, 4)),
        bold(verdict),
        dim("dense: full rectangles of scores, as tracers see them; archlab's exact counts keep only what masks keep"),
    ]
    if audit.left_out:
        named = " and ".join(f"{name} ({count:,} parameters)" for name, count in audit.left_out.items())
        lines.append(dim(f"not built, so not checked: {named}, known by number only"))
    return "\n".join(lines)
