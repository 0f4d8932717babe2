"""How many operations PyTorch is asked for: on a GPU, each is a launch."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

# What only makes room, or looks at what is there in another way.
FREE = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach",
    "_unsafe_view", "_reshape_alias", "lift_fresh",
}  # fmt: skip


class LaunchCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations by name while it is entered; views are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        aliases = [value.alias_info for value in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        if not is_view and name not in FREE:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_launches(run: Callable[[], object]) -> Counter[str]:
    with LaunchCounter() as counter:
        run()
    return counter.counts
