"""Keeps Python from looking for modules in the current folder.

``python -m`` puts the current folder first on the search path, and Ray does the same on every
worker. A user's ``evaluate.py`` or ``datasets/`` there is not the package that a sweep needs.
"""

# Not pathlib, nor anything else, which could come from that folder. Python has loaded these two.
import os
import sys

# The packages that planning, training and reporting need; a single file is none of them.
NEEDED = (
    "altair", "analysis", "datasets", "evaluate", "huggingface_hub", "jinja2", "numpy", "pandas",
    "peft", "pyarrow", "pydantic", "ray", "rich", "safetensors", "scipy", "sklearn", "tokenizers",
    "torch", "transformers", "vl_convert", "xxhash", "yaml",
)  # fmt: skip

# The program of Ray's worker processes.
RAY_WORKER = "default_worker.py"

# The current folder if this package is in it; empty if it is elsewhere.
_checkout: str | None = None
# Whether Python finds this package without the current folder.
_installed = False


def leave_current_folder(package: str) -> None:
    """Remove the current folder from the search path when ``python -m`` or the console script
    starts a command.

    If it is the checkout that contains the folder ``package``, and that is not installed, it moves
    to the end instead; on Ray's workers too. Exits with code 2 if Python has loaded, or would load,
    a file of the user's in place of a needed module.
    """
    root = os.path.realpath(os.path.dirname(package))
    if sys.argv[0].endswith(RAY_WORKER):  # which does not start in a folder of the user's
        _put_last(root)
        return
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:
        return  # a deleted folder holds nothing
    if here == root:
        _stay_in_checkout(root, package)
    else:
        _leave(here)
    _refuse_loaded(here)
    _refuse_named(here)


def list_worker_folders(joined: bool) -> list[str] | None:
    """Return the folders that Ray's workers search first; None: leave that to Ray.

    Workers of a cluster that is ``joined`` may have this package in a checkout at the same path.
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
    """Return whether Python finds exactly this ``package`` on the current search path."""
    for finder in sys.meta_path:
        spec = finder.find_spec("sweep", None)
        if spec is not None:
            folders = spec.submodule_search_locations or ()
            return os.path.realpath(package) in map(os.path.realpath, folders)
    return False


def _clean_variable(here: str) -> None:
    """Remove the folder ``here`` from PYTHONPATH too, where an empty entry also means it."""
    if not os.environ.get("PYTHONPATH"):
        return
    folders = os.environ["PYTHONPATH"].split(os.pathsep)
    kept = [folder for folder in folders if os.path.realpath(folder) != here]
    if len(kept) < len(folders):
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != here]


def _refuse_loaded(here: str) -> None:
    """Exit if Python started with a file of ``here`` in place of a standard module."""
    for name in sorted(sys.stdlib_module_names & set(sys.modules)):
        file = os.path.realpath(getattr(sys.modules[name], "__file__", None) or os.sep)
        if file in (os.path.join(here, f"{name}.py"), os.path.join(here, name, "__init__.py")):
            _refuse(
                f"{file}: Python loaded it instead of its own module {name}; rename it, or start "
                "from another folder"
            )


def _refuse_named(here: str) -> None:
    """Exit if a file in a folder of PYTHONPATH other than ``here`` would shadow a package."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [folder for folder in named if folder and os.path.realpath(folder) != here]
    for file in (os.path.join(folder, f"{name}.py") for folder in folders for name in NEEDED):
        if os.path.isfile(file):
            _refuse(
                f"{file}: on PYTHONPATH, it would be loaded instead of the package of that name; "
                "rename it, or remove its folder from PYTHONPATH"
            )


def _refuse(sentence: str) -> None:
    # As main() does for a SweepError, which cannot be imported yet.
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
