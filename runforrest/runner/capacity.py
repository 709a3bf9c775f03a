"""What this host has for the tasks of a runner."""

from __future__ import annotations

import glob
import os
from itertools import takewhile

from runforrest.errors import InvalidArgument
from runforrest.model.resources import Capacity, Share, shares, values_of
from runforrest.runner.options import Options

#: the variables by which CUDA, ROCm, HIP and OpenCL programs know which GPUs are theirs
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")

#: what ends such a list: for CUDA, and Slurm's word for a job that has none
NO_MORE = ("-1", "NoDevFiles")


def usable_cpus() -> tuple[int, ...]:
    """The numbers of the CPUs that this process may use, which a batch system may have restricted."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:                 # macOS
        return tuple(range(os.cpu_count() or 1))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as their variables name them; else the NVIDIA devices of the host."""
    for variable in GPU_VARIABLES:
        if variable in os.environ:
            return _listed(os.environ[variable])
    numbers = (path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*"))
    return tuple(sorted((number for number in numbers if number.isdigit()), key=int))


def _listed(text: str) -> tuple[str, ...]:
    """The GPUs that one of their variables lists."""
    return tuple(takewhile(lambda name: name not in NO_MORE, values_of(text)))


def shares_of(options: Options) -> list[Share]:
    """What each slot keeps for itself.  Raises InvalidArgument if there is nothing to split."""
    return shares(options.nprocesses, usable_cpus(), options.cores_per_slot or 0.0, _to_split(options))


def uneven(options: Options) -> list[str]:
    """What a person should know of values that can't be dealt out to the slots evenly."""
    told, slots = [], len(shares_of(options))
    for variable, text in _to_split(options).items():
        number = len(values_of(text))
        if slots < options.nprocesses and slots == number:
            told.append(f"{variable} has {number} of the {options.nprocesses} values for as many slots: there are "
                        f"{number} slots")
        elif number % slots:
            told.append(f"{variable} has {number} values for {slots} slots: {number % slots} of them will not be used")
    return told


def _to_split(options: Options) -> dict[str, str]:
    split = {}
    for variable in options.split:
        if not os.environ.get(variable):
            raise InvalidArgument(f"{variable} is to be split among the slots, and is not set", argument="split")
        split[variable] = os.environ[variable]
    if options.split_gpus:
        named = {variable: gpus for variable in GPU_VARIABLES if (gpus := _listed(os.environ.get(variable, "")))}
        found = visible_gpus()
        if not found:
            raise InvalidArgument("there are no GPUs to split among the slots: CUDA_VISIBLE_DEVICES is not set, and no "
                                  "device was found", argument="split_gpus")
        split.update({variable: ",".join(gpus) for variable, gpus in (named or {GPU_VARIABLES[0]: found}).items()})
    return split


def capacity_of(options: Options, slots: int) -> Capacity:
    """What the tasks of this runner may use up together."""
    gpus = visible_gpus() if options.gpus is None else tuple(options.gpus)
    return Capacity(options.cores or float(slots), usable_cpus(), gpus, options.host_memory, dict(options.tokens))


def gpu_environment(gpus: tuple[str, ...]) -> dict[str, str]:
    """The variables that show a task just these GPUs: those that the runner itself was given, or CUDA's."""
    found = visible_gpus()
    named = {variable: _listed(os.environ[variable]) for variable in GPU_VARIABLES if variable in os.environ}
    if not named or not set(gpus) <= set(found):
        return {GPU_VARIABLES[0]: ",".join(gpus)}
    places = [found.index(gpu) for gpu in gpus]
    return {variable: ",".join(values[place] for place in places)
            for variable, values in named.items() if len(values) == len(found)}
