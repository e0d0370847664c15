"""What runs inside a pod's namespaces: its sandbox, and the step from there into a container.

Started as a script by its path, with the standard library alone: `inside.py sandbox|container|exec SPEC FD`. The
socket FD leads to the kubelet; when the kubelet is gone, however it went, all that was started here ends.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

_NEWNS, _NEWUTS, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x04000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MS_RELATIME = 1 << 21
_MNT_DETACH = 2
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
# What a container gets as exit code when it could not be started, as containerd has it.
_NOT_STARTED = 128

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def _join(pid: int, *kinds: str) -> None:
    for kind in kinds:
        namespace = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        _checked(_libc.setns(namespace, 0), f"setns {kind}")
        os.close(namespace)


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = kind.encode() if kind else None
    _checked(_libc.mount(source.encode(), target.encode(), encoded, ctypes.c_ulong(flags), None), f"mount {target}")


# The sandbox


def _sandbox(spec: dict[str, Any], control: socket.socket) -> None:
    """Hold the pod's network and host name, and make sockets in it for the kubelet."""
    user, group = os.geteuid(), os.getegid()
    _unshare(_NEWUSER | _NEWNET | _NEWUTS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    socket.sethostname(spec["hostname"])
    _bring_up(spec["address"])
    control.send(b"ready")
    while request := control.recv(256):
        verb, host, port = request.decode().split()
        try:
            made = _made(verb, (host, int(port)))
        except OSError as error:
            control.send(str(error).encode())
        else:
            socket.send_fds(control, [b"made"], [made.fileno()])
            made.close()


def _made(verb: str, address: tuple[str, int]) -> socket.socket:
    if verb == "connect":
        return socket.create_connection(address, timeout=5)
    return socket.create_server(address)


def _bring_up(address: str) -> None:
    """Bring the loopback interface up, and let it have the pod's address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:

        def set_address(request: int, value: str) -> None:
            packed = struct.pack("16sHH4s8x", b"lo:0", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(any_socket, request, packed)

        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP | _IFF_RUNNING))
        set_address(_SIOCSIFADDR, address)
        set_address(_SIOCSIFNETMASK, "255.255.255.255")


# A container


def _container(spec: dict[str, Any], control: socket.socket) -> NoReturn:
    """Run the container's process as the first of its pid namespace: when it ends, all of the container ends."""
    _join(spec["sandbox"], "user", "net", "uts")
    _unshare(_NEWNS | _NEWPID)
    _supervise(spec, control, lambda: _enter(spec))


def _exec(spec: dict[str, Any], control: socket.socket) -> NoReturn:
    """Run one more process in a container."""
    _join(spec["inside"], "user", "net", "uts", "pid", "mnt")
    _supervise(spec, control, lambda: os.chdir(spec["folder"]))


def _supervise(spec: dict[str, Any], control: socket.socket, prepare: Callable[[], None]) -> NoReturn:
    failure, failed = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            os.execvpe(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 - the image's program
        except Exception as problem:
            os.write(failed, str(problem).encode())
        os._exit(_NOT_STARTED)
    os.close(failed)
    error = os.read(failure, 4096).decode()
    control.send(json.dumps({"pid": child, "error": error}).encode())
    _obey_until_its_end(control, child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _obey_until_its_end(control: socket.socket, child: int) -> None:
    """Pass on the signals that the kubelet asks for; SIGKILL when it is gone."""
    # A thread could not be started: it would be in another pid namespace than its process's next child.
    end = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([control.fileno(), end], [], [])
        if end in ready:
            return
        request = control.recv(16)
        signal.pidfd_send_signal(end, int(request) if request else signal.SIGKILL)
        if not request:
            return


def _enter(spec: dict[str, Any]) -> None:
    """Make the image's files and the volumes all that can be seen."""
    root = spec["root"]
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount(root, root, None, _MS_BIND | _MS_REC)
    for mount in spec["mounts"]:
        _bind(mount["source"], root + mount["target"], read_only=mount["read_only"])
    Path(root, "proc").mkdir(exist_ok=True)
    try:
        _mount("proc", f"{root}/proc", "proc", 0)
    except OSError:
        # Within another container of the machine that hides parts of /proc.
        _mount("/proc", f"{root}/proc", None, _MS_BIND | _MS_REC)
    os.chdir(root)
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir(spec["folder"])


def _bind(source: str, target: str, *, read_only: bool) -> None:
    place = Path(target)
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if read_only:
        # What the machine denies on this mount must stay denied: its flags go along.
        has = os.statvfs(target).f_flag
        same = has & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME)
        relative = _MS_RELATIME if has & os.ST_RELATIME else 0
        _mount("none", target, None, same | relative | _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def main() -> None:
    spec = json.loads(sys.argv[2])
    with socket.socket(fileno=int(sys.argv[3])) as control:
        # Not for the programs that are started here.
        os.set_inheritable(control.fileno(), False)
        match sys.argv[1]:
            case "sandbox":
                _sandbox(spec, control)
            case "container":
                _container(spec, control)
            case _:
                _exec(spec, control)


if __name__ == "__main__":
    main()
