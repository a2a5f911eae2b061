"""A top-level ``%chunkup`` becomes an ``await``, so that clicks are handled while it waits.

While a cell awaits, kernels deliver the clicks of widgets; while it blocks, most don't.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TypeGuard

_OWN_SCOPES = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.JoinedStr,  # before Python 3.12 it does not know where its pieces stand
)

# Whoever runs a cell from within a cell compiles it without top-level await, or starts
# a loop inside the running one; the blocking magic works in all of them.
_INNER = frozenset({"run_cell", "run_cell_magic", "run_line_magic", "safe_execfile_ipy"})


def rewrite(source: str, *, waits: bool = True) -> str:
    """Return transformed cell source with its top-level uploads awaited if it ``waits``.

    Functions, classes, lambdas and comprehensions are left alone, and so is whatever
    cannot be parsed. The target of a plain assignment is handed on, so that a failed
    upload can still be found in it.
    """
    if "'chunkup'" not in source or "\r" in source:
        return source
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source
    data = source.encode()
    starts = [0]
    for line in data.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)

    def span(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first = starts[node.lineno - 1] + node.col_offset
        return first, starts[node.end_lineno - 1] + node.end_col_offset

    edits = []
    for call, target in _calls(tree):
        if not waits and not target:
            continue
        first, end = span(call)
        inner, close = span(call.args[1])
        words = data[inner:close].decode()
        if target:
            words = f"'--assigned={target} ' + {words}"
        name, wait = ("chunkup_await", "await ") if waits else ("chunkup", "")
        edits.append((first, end, f"({wait}get_ipython().run_line_magic('{name}', {words}))"))
    for first, end, text in sorted(edits, reverse=True):
        data = data[:first] + text.encode() + data[end:]
    return data.decode()


def from_a_cell() -> bool:
    """Say whether a kernel is transforming a cell that it will run on its own loop."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name == "do_execute":
            return True
        if name in _INNER:
            return False
        frame = frame.f_back
    return False


def transform(lines: list[str]) -> list[str]:
    """Rewrite a cell's lines: an ``input_transformers_post`` of a shell."""
    if not any("'chunkup'" in line for line in lines):
        return lines
    return rewrite("".join(lines), waits=from_a_cell()).splitlines(keepends=True)


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Yield each call of the magic that may be awaited, and its assignment's name or ""."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _OWN_SCOPES):
            continue
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
            and _is_magic(node.value)
        ):
            yield node.value, node.targets[0].id
        elif _is_magic(node):
            yield node, ""
        else:
            yield from _calls(node)


def _is_magic(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "run_line_magic"
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "get_ipython"
        and len(node.args) == 2
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value == "chunkup"
    )
