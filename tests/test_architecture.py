"""Who may import whom, held against the code; and that no public name hides a module."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import chunkup_jupyter

PACKAGE = Path(chunkup_jupyter.__file__).parent

PURE = "answers digests errors events model plan secrets units wire"
SENDS = "answers digests errors model plan secrets units wire"

# What each file may import from the package. A folder's name stands for its loader
# (``providers``), ``folder/*`` for the files in it.
MAY_IMPORT = {
    "wire": "",
    "wire/addresses": "wire",
    "wire/bandwidth": "units",
    "wire/sockets": "",
    "wire/fast": "wire/sockets",
    "wire/client": "wire wire/*",
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
    "sources": "model errors digests sources/*",
    "sources/urls": "",
    "sources/files": "model errors",
    "sources/streams": "model errors units sources/files",
    "sources/far": "errors sources/urls",
    "sources/remote": "model errors sources/*",
    "sources/choosing": "errors sources/remote sources/urls",
    "preflight": "errors sources units preflight/*",
    "preflight/*": "errors sources units",
    "journal": "model events errors journal/*",
    "journal/lines": "errors",
    "journal/*": "model events errors journal/lines",
    "transport": "model answers errors wire",
    "engine": f"{PURE} wire/bandwidth sources preflight journal transport engine/*",
    "engine/*": "model plan digests errors events units sources journal",
    "jobs/background": "",
    "jobs/nested": "errors",
    "jobs/results": "answers model units",
    "jobs/waiting": "errors jobs/background",
    "jobs/by_hand": "model transport wire wire/client jobs/background",
    "jobs/orders": (
        "model plan errors secrets units wire/bandwidth transport engine engine/pace providers "
        "credentials sources sources/urls journal sandbox sandbox/server"
    ),
    "jobs/reuse": "model events units engine journal sources jobs/orders",
    "jobs/preview": "model plan preflight journal engine/resume sources jobs/reuse jobs/orders",
    "jobs/run": (
        f"{PURE} wire/client transport engine journal jobs/background jobs/results jobs/orders "
        "jobs/by_hand jobs/reuse"
    ),
    "jobs": (
        f"{PURE} transport engine journal jobs/background jobs/results jobs/orders jobs/nested "
        "jobs/preview jobs/run jobs/waiting"
    ),
    "jobs/batch": "errors events wire/client sources/urls sources/choosing jobs jobs/*",
    "jobs/many": "errors plan sources/urls sources/choosing jobs jobs/*",
    "conformance": f"{PURE} wire/client engine transport journal sources sandbox sandbox/*",
    "ui/*": (
        "answers credentials errors events model plan secrets units wire/bandwidth journal "
        "sources sources/choosing sources/urls providers jobs jobs/* sandbox ui/*"
    ),
    "__main__": (
        "credentials errors events model plan signals units journal sources providers jobs "
        "jobs/orders jobs/results sandbox sandbox/command ui/*"
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
        assert "httpx" not in named or name in ("wire/client", "wire/fast"), name


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


@pytest.mark.parametrize("name", [n for n in chunkup_jupyter.__all__ if n != "__version__"])
def test_every_public_name_says_what_it_is(name):
    """``help()`` is the reference: a text of its own for each name and all that it offers."""
    named = getattr(chunkup_jupyter, name)
    assert inspect.getdoc(named) not in (None, inspect.getdoc(type(named)))
    for each, value in vars(named).items() if inspect.isclass(named) else ():
        if not each.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(named, each)), f"{name}.{each}"


@pytest.mark.parametrize("name", ["OpenAI", "AzureOpenAI", "OSS", "TwelveLabs"])
def test_a_provider_says_where_its_limits_stand(name):
    text = inspect.getdoc(getattr(chunkup_jupyter, name))
    assert re.search(r"read 20\d\d-\d\d", text)
    assert "Raises" in text


def test_no_public_name_is_a_module_and_each_can_be_had():
    for name in chunkup_jupyter.__all__:
        assert name not in MODULES, f"{name} would be replaced by the module of that name"
        assert getattr(chunkup_jupyter, name) is not None
