"""A job with docker-py: prints what its user sees, a JSON list of [what, value]."""
import faulthandler
import io
import json
import socket as socketlib
import sys
import tarfile
import time

import docker
import websocket
from docker.errors import APIError, NotFound
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

faulthandler.dump_traceback_later(50, exit=True)  # says where it hangs
client = docker.DockerClient(base_url=sys.argv[1], version="auto", timeout=30)
seen = []


def see(what, value):
    seen.append([what, value])


def refused(what, call):
    try:
        call()
        see(what, "accepted")
    except APIError as error:
        see(what, [error.response.status_code, type(error).__name__])


see("ping", client.ping())
see("run", sorted(client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], remove=True, stderr=True).decode().split()))
try:
    client.containers.run("busybox", "sh -c 'echo bad; exit 7'", remove=True)
except docker.errors.ContainerError as error:
    see("a failing run", [error.exit_status, str(error.image)])

volume = client.volumes.create("py-volume", labels={"made": "by-py"})
network = client.networks.create("py-net", driver="bridge", labels={"made": "by-py"})
container = client.containers.create(
    "busybox", ["sh", "-c", "trap 'exit 5' TERM; echo started; while :; do sleep 0.1; done"],
    name="py-one", hostname="pyhost", environment={"A": "1", "B": "two words"}, labels={"made": "by-py"},
    mem_limit="64m", nano_cpus=500000000, pids_limit=50, cap_add=["NET_ADMIN"], cap_drop=["MKNOD"],
    ulimits=[Ulimit(name="nofile", soft=100, hard=200)], tmpfs={"/scratch": "size=1m"}, read_only=False,
    mounts=[Mount("/data", "py-volume"), Mount("/ram", None, type="tmpfs")], network="py-net", ports={"80/tcp": ("127.0.0.1", None)},
    restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}, user="0:0", working_dir="/tmp",
    healthcheck=Healthcheck(test=["CMD", "true"], interval=1000000000, timeout=1000000000, retries=3),
    log_config=LogConfig(type="json-file", config={"max-size": "1m"}), extra_hosts={"other": "10.1.2.3"}, init=True)
see("status", container.status)
container.start()
container.reload()
see("running", container.status)
host = container.attrs["HostConfig"]
see("config", {key: container.attrs["Config"][key] for key in ("Hostname", "Labels", "User", "WorkingDir", "Image", "Tty", "OpenStdin", "Entrypoint", "Volumes", "Domainname", "OnBuild")})
see("host config", {key: host[key] for key in ("Memory", "NanoCpus", "PidsLimit", "CapAdd", "CapDrop", "Ulimits", "RestartPolicy", "LogConfig", "ExtraHosts", "NetworkMode",
    "Binds", "Privileged", "PortBindings", "Links", "Dns", "VolumesFrom", "ShmSize", "Devices", "IpcMode", "PidMode", "ReadonlyRootfs", "AutoRemove", "Tmpfs", "Init")})
see("mounts", sorted([m["Type"], m.get("Name", ""), m["Destination"], m["RW"]] for m in container.attrs["Mounts"]))
see("networks", sorted(container.attrs["NetworkSettings"]["Networks"]))
see("published", [sorted(binding) for binding in container.attrs["NetworkSettings"]["Ports"]["80/tcp"]])
see("exec", [part.decode() if isinstance(part, bytes) else part for part in container.exec_run("sh -c 'echo in $A $B; hostname; pwd; exit 6'")])
see("exec demuxed", [part.decode() for part in container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output])
see("exec env, user, dir", container.exec_run(["sh", "-c", "echo $Q; id -u; pwd"], environment={"Q": "x"}, user="nobody", workdir="/etc").output.decode())
sock = container.exec_run("cat", stdin=True, socket=True).output
sock._sock.sendall(b"through the socket\n")
sock._sock.shutdown(1)
data = b""
while True:
    part = sock._sock.recv(1000)
    if not part:
        break
    data += part
see("exec by a socket", data.hex())
sock._sock.close()
see("logs", container.logs().decode())
see("logs by lines", [line.decode() for line in container.logs(stream=True, follow=False)])
see("logs with a time", len(container.logs(timestamps=True).split(b" ")[0]) >= 20)

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    info = tarfile.TarInfo("file")
    info.size, info.mode, info.mtime = 5, 0o640, 1600000000
    tar.addfile(info, io.BytesIO(b"bytes"))
see("put", container.put_archive("/tmp", archive.getvalue()))
stream, stat = container.get_archive("/tmp/file")
with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
    see("get", [[m.name, m.size, oct(m.mode & 0o7777), m.mtime] for m in tar.getmembers()])
see("stat", [stat["name"], stat["size"], stat["mode"], stat["linkTarget"]])
see("diff", sorted([d["Path"], d["Kind"]] for d in container.diff() if d["Path"].startswith("/tmp")))
see("top", [container.top(ps_args="-o pid,comm")["Titles"], len(container.top(ps_args="-o pid,comm")["Processes"]) >= 2])
stats = container.stats(stream=False)
see("stats", [sorted(set(stats) & {"read", "preread", "pids_stats", "blkio_stats", "cpu_stats", "precpu_stats", "memory_stats", "networks", "name", "id", "num_procs", "storage_stats"})])
see("memory limit", stats["memory_stats"].get("limit"))
first = next(container.stats(stream=True, decode=True))
see("streamed stats", first["name"])

for _ in range(100):
    container.reload()
    if container.attrs["State"]["Health"]["Status"] == "healthy":
        break
    time.sleep(0.1)
see("health", [container.attrs["State"]["Health"]["Status"], container.attrs["State"]["Health"]["FailingStreak"]])
see("update", container.update(mem_limit="80m", memswap_limit="160m", restart_policy={"Name": "no"}))
container.pause()
container.reload()
see("paused", container.status)
container.unpause()
container.rename("py-renamed")
see("list", [[c.name, c.status] for c in client.containers.list(filters={"label": "made=by-py"})])
see("by network", [c.name for c in client.containers.list(filters={"network": "py-net"})])
see("by health", [c.name for c in client.containers.list(filters={"health": "healthy"})])
see("network holds it", [c.name for c in client.networks.get("py-net").containers])
if len(sys.argv) > 2:  # on dockerd docker-py may lose what comes together with the header, and hang
    attached = container.attach(stdout=True, stderr=True, stream=True, logs=True)
    see("attached logs", next(attached).decode())
container.resize(20, 70)
container.kill("SIGTERM")
see("wait", container.wait(timeout=10))
container.reload()
see("exited", [container.status, container.attrs["State"]["ExitCode"], container.attrs["State"]["OOMKilled"], container.attrs["State"]["Error"]])
image = container.commit("py-image", "v1", message="a message", author="me", changes=["CMD echo committed", "ENV C=3"])
see("commit", [image.tags, image.attrs["Config"]["Cmd"], image.attrs["Config"]["Env"][-1], image.attrs["Comment"], image.attrs["Author"]])
see("run what was committed", client.containers.run("py-image:v1", remove=True).decode())
see("history", [layer["Comment"] for layer in image.history()][0])
see("tag", [image.tag("py-other", "t"), sorted(client.images.get("py-image:v1").tags)])
saved = b"".join(image.save(named=True))
client.images.remove("py-other:t")
client.images.remove("py-image:v1")
see("load", [i.tags for i in client.images.load(saved)])
client.images.remove("py-image:v1")
refused("no such container", lambda: client.containers.get("nobody"))
refused("no such image", lambda: client.images.get("no-such-image"))
refused("create without an image", lambda: client.containers.create("no-such-image"))
refused("a name in use", lambda: client.containers.create("busybox", name="py-renamed"))
refused("a bad name", lambda: client.containers.create("busybox", name="a b"))
refused("a volume in use", lambda: client.volumes.get("py-volume").remove())
refused("kill of a stopped one", lambda: container.kill())
refused("exec in a stopped one", lambda: container.exec_run("true"))
refused("no such network", lambda: client.networks.get("no-such-net"))
refused("no such volume", lambda: client.volumes.get("no-such-volume"))
see("start and stop again", [container.start(), container.stop(timeout=2), container.restart(timeout=2)])
container.remove(force=True, v=True)
refused("removed", lambda: client.containers.get("py-renamed"))
socket = client.api.create_container("busybox", "cat", stdin_open=True, name="py-ws")
client.api.start(socket)
# docker-py's attach_socket(ws=True) knows TCP only; its library speaks over any socket.
raw = socketlib.socket(socketlib.AF_UNIX)
raw.connect(sys.argv[1].removeprefix("unix://"))
ws = websocket.create_connection("ws://localhost/v1.41/containers/py-ws/attach/ws?stdin=1&stdout=1&stream=1", socket=raw, timeout=10)
ws.send("over a websocket\n")
answer = ws.recv()
see("websocket", answer if isinstance(answer, str) else answer.decode())
ws.close()
client.api.remove_container(socket, force=True)
see("networks pruned", client.networks.prune(filters={"label": "made=by-py"}))
volume.remove()
info = client.info()
see("info", [info["OSType"], info["Containers"], info["Swarm"]["LocalNodeState"], info["LoggingDriver"]])
version = client.version()
see("version", [version["Os"], version["Arch"], version["MinAPIVersion"] <= "1.24"])
see("df", sorted(set(client.df()) & {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}))
now = int(time.time())
client.containers.run("busybox", "true", name="py-events", remove=True)
see("events", [[e["Type"], e["Action"]] for e in client.events(since=now, until=int(time.time()) + 1, decode=True, filters={"container": "py-events"})])
see("swarm", [client.info()["Swarm"]["LocalNodeState"]])
refused("services", lambda: client.services.list())
refused("nodes", lambda: client.nodes.list())
see("plugins", client.plugins.list())
see("prune", [sorted(client.containers.prune()), sorted(client.volumes.prune())])
print(json.dumps(seen))
