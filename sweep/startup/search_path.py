"""Where modules are looked for: not in the folder that the user stands in.

``python -m`` puts the current folder first on the search path, and Ray does the same on every
worker. A user's ``evaluate.py`` or ``datasets/`` there is not the package that the sweep needs.
"""

# Not pathlib, nor anything else: it could come from that folder. Python has these two already.
import os
import sys

# Packages without which nothing can be planned, trained or reported. No file of that name is one.
NEEDED = (
    "altair", "analysis", "datasets", "evaluate", "huggingface_hub", "jinja2", "numpy", "pandas",
    "peft", "pyarrow", "pydantic", "ray", "rich", "safetensors", "scipy", "sklearn", "tokenizers",
    "torch", "transformers", "vl_convert", "yaml",
)  # fmt: skip

_checkout: str | None = None
"""The current folder, where this package lies in it; empty where it lies elsewhere."""
_installed = False
"""Whether Python finds this package without the current folder."""


def leave_current_folder(package: str) -> None:
    """Take the current folder off the search path, as ``python -m`` starts the sweep.

    A checkout, in which the folder ``package`` lies itself, is looked at last instead, unless it
    is installed; on Ray's workers too. Ends the process with exit code 2 where Python has loaded,
    or would load, a file of the user's in place of a module that is needed.
    """
    root = os.path.realpath(os.path.dirname(package))
    if sys.argv[0] != "-m":  # a process of Ray's, which starts in no folder of the user's
        _put_last(root)
        return
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:
        return  # a folder that has been deleted holds nothing
    if here == root:
        _stay_in_checkout(root, package)
    else:
        _leave(here)
    _refuse_loaded(here)
    _refuse_named(here)


def list_worker_folders(joined: bool) -> list[str] | None:
    """Return which folders Ray's workers look at first; None: those that Ray has them look at.

    Those of a cluster that is ``joined`` may have this package from a checkout at the same path.
    """
    if _checkout is None:
        return None
    return [_checkout] if _checkout and (joined or not _installed) else []


def _stay_in_checkout(root: str, package: str) -> None:
    global _checkout, _installed
    _checkout = root
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != root]
    _installed = _is_installed(package)
    if not _installed:
        sys.path.append(root)


def _leave(here: str) -> None:
    global _checkout
    _checkout = ""
    if not sys.flags.safe_path and os.path.realpath(sys.path[0]) == here:
        sys.path.pop(0)
    _clean_variable(here)


def _put_last(folder: str) -> None:
    kept = [entry for entry in sys.path if os.path.realpath(entry) != folder]
    if len(kept) < len(sys.path):
        sys.path[:] = [*kept, folder]


def _is_installed(package: str) -> bool:
    """Return whether Python finds this very ``package`` by the search path as it is now."""
    for finder in sys.meta_path:
        spec = finder.find_spec("sweep", None)
        if spec is not None:
            places = spec.submodule_search_locations or ()
            return os.path.realpath(package) in map(os.path.realpath, places)
    return False


def _clean_variable(here: str) -> None:
    """Take the folder ``here`` out of PYTHONPATH too, which an empty part of it means as well."""
    if not os.environ.get("PYTHONPATH"):
        return
    folders = os.environ["PYTHONPATH"].split(os.pathsep)
    kept = [folder for folder in folders if os.path.realpath(folder) != here]
    if len(kept) < len(folders):
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]


def _refuse_loaded(here: str) -> None:
    """End the process if Python has begun with a file of ``here`` in place of its own."""
    for name in sorted(sys.stdlib_module_names & set(sys.modules)):
        file = os.path.realpath(getattr(sys.modules[name], "__file__", None) or os.sep)
        if file in (os.path.join(here, f"{name}.py"), os.path.join(here, name, "__init__.py")):
            _refuse(
                f"{file}: Python has taken it for its own module {name}; rename it, or start from "
                "another folder"
            )


def _refuse_named(here: str) -> None:
    """End the process if a file in a folder of PYTHONPATH would be taken for a package; in a
    checkout, ``here``, it is not."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [folder for folder in named if folder and os.path.realpath(folder) != here]
    for file in (os.path.join(folder, f"{name}.py") for folder in folders for name in NEEDED):
        if os.path.isfile(file):
            _refuse(
                f"{file}: on PYTHONPATH, it would be taken for the package of that name; rename "
                "it, or take its folder off PYTHONPATH"
            )


def _refuse(sentence: str) -> None:
    # What main() does with a SweepError; nothing of the kind can be imported yet.
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
