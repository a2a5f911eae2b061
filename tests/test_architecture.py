"""Who may import whom, held against the code; and that no public name hides a module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import chunkup_jupyter

PACKAGE = Path(chunkup_jupyter.__file__).parent

PURE = "answers digests errors events model plan secrets units wire"
SENDS = "answers digests errors model plan secrets units wire"

# What each file may import from the package. A folder's name stands for its loader
# (``providers``), ``folder/*`` for the files in it.
MAY_IMPORT = {
    "sockets": "",
    "fast": "sockets",
    "bandwidth": "units",
    "wire": "",
    "addresses": "wire",
    "client": "wire addresses bandwidth fast sockets",
    "errors": "",
    "digests": "",
    "signals": "",
    "secrets": "",
    "units": "",
    "answers": "wire errors",
    "credentials": "secrets errors",
    "model": "wire errors digests secrets",
    "plan": "model errors units",
    "events": "model errors units",
    "providers": "model errors",
    "providers/*": SENDS,
    "providers/openai": f"{SENDS} providers/openai/*",
    "providers/openai/*": f"{SENDS} providers/openai/*",
    "providers/oss": f"{SENDS} providers/oss/*",
    "providers/oss/*": f"{SENDS} providers/oss/*",
    "providers/twelvelabs": f"{SENDS} providers/twelvelabs/*",
    "providers/twelvelabs/*": f"{SENDS} providers/twelvelabs/*",
    "sandbox": "wire sandbox/store",
    "sandbox/store": "digests",
    "sandbox/*": "wire signals units sandbox sandbox/server",
    "sandbox/server": "wire sandbox sandbox/connection sandbox/incoming",
    "sandbox/openai": "wire sandbox sandbox/forms sandbox/openai/*",
    "sandbox/openai/*": "wire sandbox sandbox/forms sandbox/openai/*",
    "sandbox/oss": "wire digests sandbox sandbox/oss/*",
    "sandbox/oss/*": "wire digests sandbox sandbox/oss/*",
    "sandbox/twelvelabs": "wire sandbox sandbox/twelvelabs/*",
    "sandbox/twelvelabs/*": "wire sandbox sandbox/twelvelabs/*",
    "files": "model errors",
    "streams": "model errors units files",
    "urls": "",
    "far": "errors urls",
    "remote": "model errors files streams far urls",
    "sources": "model errors digests files streams remote urls",
    "choosing": "errors remote urls",
    "media": "errors sources",
    "jsonl": "errors sources units",
    "preflight": "errors sources units media jsonl",
    "lines": "errors",
    "locks": "errors lines",
    "ledger": "errors lines",
    "records": "model events",
    "journal": "model events errors records lines locks ledger",
    "transport": "model answers errors wire",
    "pace": "",
    "feed": "model digests sources",
    "resume": "model plan errors events journal sources units",
    "reports": "model",
    "telling": "events units",
    "engine": (
        f"{PURE} bandwidth sources preflight journal transport pace feed resume reports telling"
    ),
    "background": "",
    "nested": "errors",
    "results": "answers model units",
    "by_hand": "model transport client wire background",
    "orders": (
        "model plan errors secrets units bandwidth engine providers credentials sources urls "
        "journal pace transport sandbox sandbox/server"
    ),
    "reuse": "events model units engine journal sources orders",
    "run": f"{PURE} transport engine journal background results orders client by_hand reuse",
    "preview": "model plan preflight journal resume reuse orders sources",
    "jobs": f"{PURE} transport engine journal background results orders nested preview run",
    "batch": "errors events urls choosing background results orders jobs client",
    "many": "errors plan urls choosing orders jobs batch",
    "conformance": f"{PURE} client engine transport journal sources sandbox sandbox/*",
    "ui/*": (
        "jobs bandwidth batch many choosing urls by_hand orders results credentials journal "
        "providers answers events model plan sources errors units secrets sandbox ui/*"
    ),
    "__main__": (
        "jobs orders results credentials journal providers events model plan sources errors "
        "signals units sandbox sandbox/command ui/*"
    ),
}


def module_of(path: Path) -> str:
    """Return a file's name as the table spells it."""
    name = path.relative_to(PACKAGE).with_suffix("").as_posix()
    return name.removesuffix("/__init__")


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name: str) -> set[str]:
    """Return the package's modules that a file imports, wherever in the file."""
    path = MODULES[name]
    folder = path.parent.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not any(name.startswith("chunkup_jupyter") for name in names), path
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = (*folder[: len(folder) - node.level + 1], *(node.module or "").split("."))
        stem = "/".join(part for part in base if part)
        for alias in node.names:
            inner = f"{stem}/{alias.name}" if stem else alias.name
            target = inner if inner in MODULES else stem
            if target:
                found.add(target)
    return found - {name}


def allowed(name: str) -> set[str]:
    """Return what the table allows a file to import."""
    folder = name.rpartition("/")[0]
    row = MAY_IMPORT.get(name, MAY_IMPORT.get(f"{folder}/*"))
    assert row is not None, f"{name} stands in no row of the table"
    names = set()
    for word in row.split():
        if word.endswith("/*"):
            names |= {known for known in MODULES if known.startswith(word[:-1])}
        else:
            names.add(word)
    return names


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("__init__", "ui")])
def test_a_file_imports_only_what_the_table_allows(name):
    assert imports_of(name) <= allowed(name)


def test_the_table_names_only_what_exists():
    for row, words in MAY_IMPORT.items():
        for word in (row, *words.split()):
            assert word.endswith("/*") or word in MODULES, word


def test_only_the_client_and_its_other_transport_name_the_http_library():
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text())
        named = {
            (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        assert "httpx" not in named or name in ("client", "fast"), name


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("providers/")])
def test_a_provider_only_computes(name):
    tree = ast.parse(MODULES[name].read_text())
    named = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not node.level
    }

    assert not named & {"asyncio", "anyio", "time", "os", "pathlib", "socket", "threading", "io"}


def test_no_public_name_is_a_module_and_each_can_be_had():
    for name in chunkup_jupyter.__all__:
        assert name not in MODULES, f"{name} would be replaced by the module of that name"
        assert getattr(chunkup_jupyter, name) is not None
