"""papermill's nbclient engine, made honest: a kernel that died or ran out of time never leaves a clean notebook.

papermill marks the running cell ``completed`` and leaves no error cell when the kernel dies. Here the failing cell
is marked where it happens. Kernels talk over IPC with a connection file in a fresh short folder: TCP ports clash
when many kernels start at once.
"""

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

NAME = "k8s-e2e"


class Kernel:
    """The kernel of one execution, for whoever must interrupt or end it from another thread."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.manager: AsyncKernelManager | None = None
        self.started = threading.Event()

    @property
    def pid(self) -> int | None:
        """The kernel's process id, once it runs."""
        provisioner = getattr(self.manager, "provisioner", None)
        return getattr(provisioner, "pid", None)

    def signal(self, signum: int) -> bool:
        """Send the kernel a signal; False when it is gone already or not there yet."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return False
        return True


class Client(PapermillNotebookClient):  # type: ignore[misc] # papermill has no types
    """Executes the cells and tells the truth about the one that failed."""

    def papermill_execute_cells(self) -> None:
        """Execute cell by cell; mark the failing one; stop there."""
        for index, cell in enumerate(self.nb.cells):
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                return
            except (DeadKernelError, CellTimeoutError) as error:
                cell.outputs.append(_error_output(type(error).__name__, "the kernel died in this cell"))
                self.nb_man.cell_exception(cell, cell_index=index, exception=error)
                raise
            self.nb_man.cell_complete(cell, cell_index=index)


def _error_output(name: str, value: str) -> Any:
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}"])


class Engine(NBClientEngine):  # type: ignore[misc] # papermill has no types
    """The engine papermill finds under `NAME`; takes ``kernel`` (a `Kernel`) among its arguments."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, kernel: Kernel, start_timeout: int = 60, **_: Any
    ) -> None:
        """Run all cells in a fresh kernel."""
        with tempfile.TemporaryDirectory(prefix="k-") as folder:
            manager = AsyncKernelManager(kernel_name=kernel_name, transport="ipc")
            manager.ip = f"{folder}/s"
            manager.connection_file = f"{folder}/c.json"
            kernel.manager = manager
            Client(
                nb_man,
                km=manager,
                timeout=None,
                startup_timeout=start_timeout,
                kernel_name=kernel_name,
                coalesce_streams=True,
                shutdown_kernel="immediate",
                resources={"metadata": {"path": str(kernel.cwd)}},
            ).execute(cleanup_kc=True)


papermill_engines.register(NAME, Engine)
