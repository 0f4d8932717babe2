"""Tensors on a pretended GPU, and what PyTorch does with them."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from wait_records import Recorder

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# Operations that give numbers or shapes for which the CPU must know values.
READING = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "bincount", "repeat_interleave.Tensor",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# Operations that may be given tensors of the CPU among those of the GPU.
MIXING = {"_to_copy", "copy_", *INDEXING}

Function = Callable[..., Any]


class DeviceTensor(torch.Tensor):
    """A tensor that is said to be on a GPU; ``held`` is what it holds, on the CPU.

    Only Python is told so: PyTorch's own code would look for a driver.
    """

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        # A view of a weight is no tensor of inference mode.
        with torch.inference_mode(held.is_inference()):
            made: Self = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=CPU,
                requires_grad=held.requires_grad,
            )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"DeviceTensor({self.held!r})"

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, torch.Tensor], *_: Any) -> "DeviceTensor":
        return DeviceTensor(inner["held"])

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        raise RuntimeError(f"{func} with a tensor on the pretended GPU, outside of `pretend_cuda`")


def is_held(value: Any) -> bool:
    """Return whether ``value`` is a tensor on the pretended GPU."""
    return isinstance(value, DeviceTensor)


def _holds(values: Any) -> bool:
    return any(map(is_held, tree_leaves(values)))


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class Operations(TorchDispatchMode):
    """Runs operations on what tensors hold, below autograd."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        # Whether each function that Python has called, outermost first, was given tensors of the
        # GPU: then the tensors that it makes inside are there as well.
        self.calls: list[bool] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options, name = dict(kwargs or {}), func.overloadpacket.__name__
        if torch.is_inference_mode_enabled():
            # Then operations come here before they are taken apart.
            with self:
                found = func.decompose(*args, **options)
            if found is not NotImplemented:
                return found
        if _holds((args, options)):
            self._judge(func, name, args, options)
            return _run_held(func, args, options)
        if not _is_cuda(options.get("device")):
            if options.get("pin_memory"):
                return self._recorder.pin(func(*args, **options | {"pin_memory": False}))
            found = func(*args, **options)
            return _wrap(found) if _makes(func) and self._is_inside() else found
        if name == "_to_copy":
            self._recorder.note_upload(args[0], bool(options.pop("non_blocking", False)))
        return _wrap(func(*args, **options | {"device": CPU}))

    def _is_inside(self) -> bool:
        if not self.calls:
            return torch._C._current_graph_task_id() >= 0
        return self.calls[-1]

    def _judge(
        self, func: Any, name: str, args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        """Note what waits; raise RuntimeError for tensors of both devices."""
        if name in READING or str(func).removeprefix("aten.") in READING:
            self._recorder.note(name)
        if name == "copy_":
            target, source, *rest = args
            non_blocking = bool(options.get("non_blocking", rest and rest[0]))
            if not is_held(source):
                self._recorder.note_upload(source, non_blocking)
            elif not is_held(target):
                self._recorder.note_download(target, non_blocking)
        if name in INDEXING:
            self._judge_index(name, args)
        elif name not in MIXING:
            _refuse_mixture(func, tree_leaves((args, dict(options))))

    def _judge_index(self, name: str, args: tuple[Any, ...]) -> None:
        indices = [index for index in args[1] if isinstance(index, torch.Tensor)]
        value = None if name == "index" else args[2]
        # PyTorch fills the places of a mask with one number without counting them.
        fills = value is not None and value.numel() == 1 and not any(args[3:4])
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not fills:
            self._recorder.note("index that is a mask")
        if not all(map(is_held, indices)):
            self._recorder.note("index on the CPU")


def _makes(func: Any) -> bool:
    """Return whether the operation makes a tensor of nothing."""
    return not any("Tensor" in str(each.type) for each in func._schema.arguments)


def _wrap(found: Any) -> Any:
    return tree_map_only(torch.Tensor, DeviceTensor, found)


def _run_held(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    bare, bare_options = tree_map_only(DeviceTensor, lambda each: each.held, (args, options))
    if _is_cuda(bare_options.get("device")):
        bare_options["device"] = CPU
    found = func(*bare, **bare_options)
    if func.overloadpacket.__name__ == "copy_":
        return args[0]
    return return_and_correct_aliasing(func, args, options, _wrap(found))


def _refuse_mixture(func: Any, leaves: list[Any]) -> None:
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and not is_held(leaf) and leaf.dim():
            raise RuntimeError(f"{func}: a tensor on the CPU among those on cuda:0")


class Calls(TorchFunctionMode):
    """Runs functions of PyTorch that look at devices themselves."""

    def __init__(self, recorder: Recorder, operations: Operations) -> None:
        super().__init__()
        self._recorder = recorder
        self._operations = operations
        self._own: dict[Any, Function] = {
            torch.tensor: self._make,
            torch.as_tensor: self._make_or_keep,
            torch.Tensor.new_tensor: self._make_alike,
            torch.Tensor.to: self._move,
            torch.Tensor.cpu: lambda tensor: self._move(tensor, CPU),
            torch.Tensor.cuda: lambda tensor, device=CUDA, **rest: self._move(tensor, CUDA, **rest),
            torch.Tensor.pin_memory: lambda tensor: recorder.pin(tensor.clone()),
            torch.Tensor.is_pinned: recorder.is_pinned,
            torch.Tensor.tolist: self._list,
            torch.Tensor.numpy: _refuse_numpy,
            torch.Tensor.__setitem__: _set_item,
            torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        self._operations.calls.append(_holds((args, options)))
        try:
            return self._own.get(func, func)(*args, **options)
        finally:
            self._operations.calls.pop()

    def _make(self, data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        if _holds(data) and not is_held(data):
            self._recorder.note("numbers read from the GPU")
            data = tree_map_only(DeviceTensor, lambda each: each.held.tolist(), data)
        self._operations.calls[-1] = False
        where = CPU if device is None or _is_cuda(device) else device
        made = torch.tensor(data, device=where, **options)
        return self._move(made, device) if _is_cuda(device) else made

    def _make_or_keep(self, data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        if not isinstance(data, torch.Tensor):
            return self._make(data, dtype=dtype, device=device)
        return self._move(data, device or data.device, dtype or data.dtype)

    def _make_alike(self, like: torch.Tensor, data: Any, **options: Any) -> torch.Tensor:
        return self._make(data, **{"dtype": like.dtype, "device": like.device} | options)

    def _move(self, tensor: torch.Tensor, *args: Any, copy: bool = False, **rest: Any) -> Any:
        """Do as ``Tensor.to``, which asks a driver about devices."""
        rest.pop("memory_format", None)
        if args and is_held(args[0]):
            args = (CUDA, args[0].dtype, *args[1:])
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **rest)
        if is_held(tensor) and device is not None and device.type == "cpu":
            return self._download(tensor, dtype, non_blocking)
        device = CUDA if _is_cuda(device) else device
        where = {} if device is None or is_held(tensor) else {"device": device}
        return torch.Tensor.to(
            tensor, dtype=dtype or tensor.dtype, non_blocking=non_blocking, copy=copy, **where
        )

    def _download(self, tensor: Any, dtype: Any, non_blocking: bool) -> torch.Tensor:
        self._recorder.note_download(None, non_blocking)
        held: torch.Tensor = tensor.detach().held.to(dtype or tensor.dtype, copy=True)
        # PyTorch copies into pinned memory if asked not to block.
        return self._recorder.pin(held) if non_blocking else held

    def _list(self, tensor: torch.Tensor) -> Any:
        if is_held(tensor):
            self._recorder.note("tolist")
            tensor = tensor.detach().held  # type: ignore[attr-defined]
        return tensor.tolist()


def _refuse_numpy(tensor: torch.Tensor, **options: Any) -> Any:
    if is_held(tensor):
        raise TypeError("a tensor on cuda:0 cannot be converted to NumPy; copy it to the CPU first")
    return tensor.numpy(**options)


def _set_item(tensor: torch.Tensor, index: Any, value: Any) -> None:
    if is_held(tensor) and not isinstance(value, torch.Tensor):
        # As PyTorch does on a GPU, where a kernel is given the number.
        value = torch.full((), value, dtype=tensor.dtype, device=CUDA)
    tensor[index] = value


def _set_data(tensor: Any, value: Any) -> None:
    if is_held(tensor) and not is_held(value):
        moved = torch.nn.Parameter(value, tensor.requires_grad)
        torch.utils.swap_tensors(tensor, moved)
        return
    if is_held(tensor):
        tensor.held = value.held
    torch.Tensor.data.__set__(tensor, value)  # type: ignore[attr-defined]
