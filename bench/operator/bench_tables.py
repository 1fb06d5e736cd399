"""Figures by name: collected round by round, printed as medians beside their targets."""

import statistics


class Figures:
    """Values of each figure over the rounds."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._targets: dict[str, tuple[float | None, str]] = {}

    def add(self, name: str, value: float, unit: str, target: float | None = None) -> None:
        """One more value of a figure; `target` is the most it should be."""
        self._values.setdefault(name, []).append(value)
        self._targets[name] = (target, unit)
        print(f"  {name}: {value:.3f} {unit}", flush=True)

    def print(self) -> None:
        """Medians, ranges and targets."""
        print(f"\n{'median':<58}{'':>10}   {'range':<20} target")
        for name, values in self._values.items():
            target, unit = self._targets[name]
            middle = statistics.median(values)
            missed = "" if target is None or middle <= target else "   MISSED"
            told = "" if target is None else f"{target:g}"
            spread = f"{min(values):.3f} to {max(values):.3f}"
            print(f"{name:<58}{middle:>10.3f} {unit:<4} {spread:<20} {told}{missed}")
