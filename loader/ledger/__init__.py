"""The ledger: reads and writes what streamflow keeps in schema ops."""

from loader.ledger.attempts import (
    begin,
    clear_staged,
    create,
    enter_files,
    exists,
    finish,
    holder,
    is_current,
    lock,
    prepare,
    register_run,
    require_current,
    require_landed,
    set_staged,
    take_back,
    undo_unfinished,
    who,
)  # fmt: skip
from loader.ledger.months import (
    AuditResult,
    Standing,
    TableCounts,
    TableHistory,
    Waiver,
    audits_of,
    came_later,
    history_on,
    is_unaudited,
    left_to_build,
    require_here,
    require_ingestible,
    require_same_date,
    require_tables,
    standing,
    waivers_of,
)  # fmt: skip

__all__ = [
    "AuditResult", "Standing", "TableCounts", "TableHistory", "Waiver", "audits_of", "begin", "came_later",
    "clear_staged", "create", "enter_files", "exists", "finish", "history_on", "holder", "is_current", "is_unaudited",
    "left_to_build", "lock", "prepare", "register_run", "require_current", "require_here", "require_ingestible",
    "require_landed", "require_same_date", "require_tables", "set_staged", "standing", "take_back", "undo_unfinished",
    "waivers_of", "who",
]  # fmt: skip
