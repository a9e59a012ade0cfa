"""TunRelay: real sockets on a faulty line. Two network namespaces, joined by FaultLinks that carry their IP packets."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import threading
import time
from types import TracebackType

from gamegen_x.serve.fault_link import FaultLink, LinkFaults

TUN_DEVICE = "/dev/net/tun"
SET_INTERFACE = 0x400454CA  # ioctl TUNSETIFF of linux/if_tun.h, with IFF_TUN | IFF_NO_PI below
IP_PACKETS_ONLY = 0x1001
NUM_ENDS = 2
LARGEST_PACKET = 65_536
LONGEST_WAIT_S = 0.05


class TunRelay:
    """Two ends, 0 and 1; what a command says in one reaches the other as `faults` let it. Linux, and for root.

    `faults` may be replaced at any time. Times are in ticks of 1 / `fps` seconds, as FaultLink's; outages count from
    when the relay was entered. Entering raises PermissionError where the system allows no such thing.
    """

    def __init__(self, faults: LinkFaults, seed: int, fps: float) -> None:
        name = f"ggx{os.getpid() % 100_000}"
        self.names = [f"{name}e{end}" for end in range(NUM_ENDS)]  # of namespaces and their devices
        self.addresses = [f"10.77.0.{end + 1}" for end in range(NUM_ENDS)]
        self._links = [FaultLink(faults, 2 * seed + end) for end in range(NUM_ENDS)]  # from this end on
        self._fps = fps
        self._devices: list[int] = []
        self._is_over = threading.Event()
        self._mistake: Exception | None = None  # of the thread
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def command(self, end: int, *arguments: str) -> list[str]:
        """A command that runs at one end."""
        return ["ip", "netns", "exec", self.names[end], *arguments]

    @property
    def faults(self) -> LinkFaults:
        return self._links[0].faults

    @faults.setter
    def faults(self, faults: LinkFaults) -> None:
        for link in self._links:
            link.faults = faults

    @property
    def num_sent(self) -> int:
        return sum(link.num_sent for link in self._links)

    @property
    def num_lost(self) -> int:
        return sum(link.num_lost for link in self._links)

    def __enter__(self) -> TunRelay:
        try:
            for name, address in zip(self.names, self.addresses, strict=True):
                self._devices.append(_made(name))
                _ip("netns", "add", name)
                _ip("link", "set", name, "netns", name)
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
                for device in (name, "lo"):
                    _ip("-n", name, "link", "set", device, "up")
        except (OSError, ImportError, subprocess.CalledProcessError) as mistake:
            self._remove()
            said = str(getattr(mistake, "stderr", None) or mistake).strip()
            if isinstance(mistake, subprocess.CalledProcessError) and "not permitted" not in said:
                raise RuntimeError(f"{' '.join(mistake.cmd)}: {said}") from None
            raise PermissionError(
                f"this system lets nobody join network namespaces here ({said}); it takes Linux, root, {TUN_DEVICE} "
                "and the command ip"
            ) from None
        except BaseException:
            self._remove()
            raise
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, mistake: BaseException | None, where: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._remove()
        if self._mistake is not None and mistake is None:
            raise self._mistake

    def _remove(self) -> None:
        for device in self._devices:
            os.close(device)
        for name in self.names:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                _ip("netns", "del", name)

    def _carry(self) -> None:
        try:
            self._carry_on()
        except Exception as mistake:  # raised by whoever leaves the relay
            self._mistake = mistake

    def _carry_on(self) -> None:
        while not self._is_over.is_set():
            arrivals = [link.next_arrival for link in self._links if link.next_arrival is not None]
            wait_s = (min(arrivals) - self.now) / self._fps if arrivals else LONGEST_WAIT_S
            readable, _, _ = select.select(self._devices, [], [], min(max(wait_s, 0.0), LONGEST_WAIT_S))
            for end, (device, link) in enumerate(zip(self._devices, self._links, strict=True)):
                if device in readable:
                    self._take(device, link)
                for _, packet in link.receive(self.now):
                    assert isinstance(packet, bytes)
                    try:
                        os.write(self._devices[1 - end], packet)
                    except BlockingIOError:  # its queue is full
                        link.num_lost += 1

    def _take(self, device: int, link: FaultLink) -> None:
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(device, LARGEST_PACKET):
                link.send(packet, self.now)

    @property
    def now(self) -> float:
        """Ticks since the relay was entered."""
        return (time.monotonic() - self._began) * self._fps


def _made(name: str) -> int:
    """A TUN device that gives and takes IP packets."""
    import fcntl  # not on Windows

    device = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(device, SET_INTERFACE, struct.pack("16sH", name.encode(), IP_PACKETS_ONLY))
    except OSError:
        os.close(device)
        raise
    return device


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
