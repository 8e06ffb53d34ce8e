#!/usr/bin/env python3
"""Checks what can be checked of the images without an engine: profile, Dockerfile, docker.sh.

docker.sh runs with engines that are stand-ins: they write down how they were called. run.py
beside this file is the proof with a real one. Ends with "N passed, M failed".
"""

import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import facts
import results

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
DOCKER_SH = str(SCRIPTS / "docker.sh")
NO_CONTAINER = 125
BAD_USAGE = 2

# What docker.sh needs besides an engine; its PATH here has nothing else.
TOOLS = ("bash", "cat", "cp", "dirname", "env", "grep", "ls", "mkdir", "mktemp", "rm", "rmdir",
         "sed", "sleep", "timeout", "touch")

# Behaviour comes from the environment: NAME_WORKS=no, RUN_STATUS=N, RUN_WAITS=yes.
STAND_IN = """#!/usr/bin/env bash
# A stand-in for an engine: notes its arguments, one line a call.
name="${0##*/}"
printf '%s' "$name" >>"$CALLS"
printf ' %q' "$@" >>"$CALLS"
printf '\\n' >>"$CALLS"
works="${name}_works"
if [[ "$1" == --root ]]; then shift 4; fi
case "$1" in
  version) [[ "${!works:-yes}" == yes ]] ;;
  info)
    if [[ "$*" == *SecurityOptions* ]]; then echo "${security_options:-[name=seccomp]}"; fi
    [[ "${!works:-yes}" == yes || "${!works}" == "${STORAGE_DRIVER:-}" ]]
    ;;
  from) echo made-container ;;
  mount)
    out="$MOUNT/src/build/bench/container"
    mkdir -p "$out" && touch "$out/report.json" && echo "$MOUNT"
    ;;
  cp) touch "$3/report.json" ;;
  run)
    if [[ "${run_waits:-no}" == yes ]]; then
      trap 'echo "told to end" >>"$CALLS"; exit 0' TERM
      echo waiting
      for ((i = 0; i < 200; i++)); do sleep 0.1; done
    fi
    exit "${run_status:-0}"
    ;;
esac
"""


def script(name, *arguments):
    """A script of ours, run to its end."""
    return subprocess.run([str(SCRIPTS / name), *arguments], capture_output=True, text=True,
                          timeout=60, check=False)


class Profile(unittest.TestCase):
    """scripts/seccomp.json and its other forms against the table of Docker's defaults."""

    def setUp(self):
        self.profile = json.loads(facts.PROFILE.read_text(encoding="utf-8"))
        self.architectures, self.defaults = facts.read_table()

    def form(self, *options):
        """What seccomp.py prints."""
        done = script("seccomp.py", *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_the_only_difference_to_the_default_is_io_uring(self):
        ours, default = facts.rules(self.profile["syscalls"]), facts.rules(self.defaults)
        self.assertEqual(len(ours), len(set(ours)), "a rule is there twice")
        self.assertGreater(len(default), 400)
        allowed = json.dumps({"action": "SCMP_ACT_ALLOW"})
        self.assertEqual(set(ours) - set(default),
                         {f"{name} {allowed}" for name in facts.IO_URING})
        self.assertEqual(set(default) - set(ours), set())

    def test_all_else_is_refused_as_by_default(self):
        self.assertEqual(self.profile["defaultAction"], "SCMP_ACT_ERRNO")
        self.assertEqual(self.profile["defaultErrnoRet"], 1)
        self.assertEqual(self.profile["archMap"], self.architectures)
        self.assertEqual(set(self.profile),
                         {"defaultAction", "defaultErrnoRet", "archMap", "syscalls"})

    def test_the_file_is_the_one_made_from_the_table(self):
        self.assertEqual(facts.PROFILE.read_text(encoding="utf-8"), facts.profile_text(),
                         "run test/container/facts.py --write")

    def test_the_refusing_form_is_the_default(self):
        refusing = self.form("--refuse-io-uring")
        self.assertEqual(facts.rules(refusing["syscalls"]), facts.rules(self.defaults))

    def test_the_oci_form_leaves_no_condition_to_the_reader(self):
        profile = self.form("--oci", "amd64")
        self.assertEqual(profile["architectures"],
                         ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
        known = {"names", "action", "errnoRet", "args"}
        self.assertEqual([each for each in profile["syscalls"] if set(each) - known], [])
        allowed = {name for each in profile["syscalls"] for name in each["names"]
                   if each["action"] == "SCMP_ACT_ALLOW"}
        self.assertTrue(allowed.issuperset([*facts.IO_URING, "accept4", "arch_prctl"]))
        self.assertTrue(allowed.isdisjoint(["mount", "bpf", "setns", "chroot", "clone3", "reboot"]))

    def test_the_oci_form_decides_by_machine_and_capability(self):
        entries = self.form("--oci", "s390x", "--capability", "CAP_SYS_ADMIN")["syscalls"]
        names = [name for each in entries for name in each["names"]]
        self.assertIn("mount", names)
        self.assertIn("s390_runtime_instr", names)
        self.assertNotIn("arch_prctl", names)
        self.assertEqual([each["action"] for each in entries if "clone3" in each["names"]],
                         ["SCMP_ACT_ALLOW"])

    def test_forms_that_make_no_sense(self):
        for options in (["--oci", "z80"], ["--capability", "CAP_BPF"],
                        ["--oci", "amd64", "--capability", "BPF"]):
            with self.subTest(options=options):
                self.assertEqual(script("seccomp.py", *options).returncode, BAD_USAGE)


class Dockerfile(unittest.TestCase):
    """The promises of the Dockerfile that its text shows."""

    def setUp(self):
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M))
        self.stages, self.base = {}, {}
        self.before = []
        steps = self.before
        for line in filter(None, map(str.strip, joined.splitlines())):
            if match := re.match(r"FROM (\S+) AS (\S+)$", line):
                steps = self.stages[match[2]] = []
                self.base[match[2]] = match[1]
            else:
                steps.append(line)

    def argument(self, stage, instruction):
        """What follows the one instruction of that name in a stage."""
        found = [step.partition(" ")[2] for step in self.stages[stage]
                 if step.startswith(f"{instruction} ")]
        self.assertEqual(len(found), 1, f"{instruction} in {stage}: {found}")
        return found[0]

    def test_the_targets_are_there_and_the_last_is_the_runtime(self):
        self.assertTrue({"build", "test", "perf", "runtime"} <= set(self.stages))
        self.assertEqual(list(self.stages)[-1], "runtime")

    def test_every_stage_rests_on_the_one_base(self):
        self.assertEqual(self.before, ["ARG BASE_IMAGE=debian:12-slim"])
        seen = {"${BASE_IMAGE}"}
        for stage, base in self.base.items():
            self.assertIn(base, seen, f"{stage} rests on something else")
            seen.add(stage)

    def test_the_runtime_is_an_unprivileged_user_with_a_number(self):
        match = re.fullmatch(r"(\d+):(\d+)", self.argument("runtime", "USER"))
        self.assertIsNotNone(match)
        self.assertGreater(min(int(match[1]), int(match[2])), 0)
        self.assertGreater(int(self.argument("runtime", "EXPOSE")), 1024)
        self.assertFalse([step for step in self.stages["runtime"]
                          if re.search(r"setcap|chmod|VOLUME|HEALTHCHECK", step)])

    def test_signals_reach_the_programs(self):
        self.assertEqual(self.argument("runtime", "STOPSIGNAL"), "SIGTERM")
        for stage in ("runtime", "test", "perf"):
            for instruction in ("ENTRYPOINT", "CMD"):
                words = json.loads(self.argument(stage, instruction))
                self.assertTrue(words and all(isinstance(word, str) for word in words))

    def test_test_and_perf_run_the_scripts(self):
        self.assertEqual(json.loads(self.argument("test", "ENTRYPOINT")),
                         ["scripts/test.sh", "--no-setup"])
        self.assertEqual(json.loads(self.argument("perf", "ENTRYPOINT")),
                         ["scripts/bench.sh", "--no-setup"])

    def test_packages_are_named_in_setup_sh_alone(self):
        steps = [step for stage in self.stages.values() for step in stage if "apt-get" in step]
        self.assertEqual(len(steps), 1)
        self.assertRegex(steps[0], r"xargs apt-get install [-\sa-z]*< /opt/pelton/packages")

    def test_builds_of_this_machine_stay_out(self):
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        self.assertTrue({"build", ".git"} <= set(ignored))


class Engines(unittest.TestCase):
    """docker.sh with stand-ins for the engines."""

    def setUp(self):
        made = tempfile.TemporaryDirectory(prefix="pelton-")
        self.addCleanup(made.cleanup)
        self.directory = pathlib.Path(made.name)
        self.bin = self.directory / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            self.assertIsNotNone(found, tool)
            (self.bin / tool).symlink_to(found)
        self.calls_file = self.directory / "calls"
        self.environment = {"PATH": str(self.bin), "CALLS": str(self.calls_file),
                            "MOUNT": str(self.directory / "mounted")}

    def engines(self, *names, **behaviour):
        """Puts stand-ins into PATH."""
        for name in names:
            (self.bin / name).write_text(STAND_IN, encoding="utf-8")
            (self.bin / name).chmod(0o755)
        self.environment |= behaviour

    def run_script(self, *arguments, before=()):
        return subprocess.run(
            [*before, DOCKER_SH, *arguments], env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False)

    def calls(self, name):
        """The calls of an engine but those that only ask whether it works, or for an image."""
        if not self.calls_file.exists():
            return []
        asking = (" version ", " info ", " image inspect ", " inspect ")
        lines = self.calls_file.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.startswith(f"{name} ")
                and not any(word in line for word in asking)]

    def call(self, name, verb):
        """The one call with that verb."""
        found = [line for line in self.calls(name) if f" {verb} " in line]
        self.assertEqual(len(found), 1, self.calls(name))
        return found[0]

    def test_a_client_without_its_engine_is_passed_over(self):
        self.engines("docker", "podman", docker_works="no")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.calls("docker"), [])
        self.assertIn("--target runtime --tag pelton-runtime", self.call("podman", "build"))

    def test_the_first_that_works_is_taken(self):
        self.engines("docker", "podman", "buildah")
        self.run_script("build", "test")
        self.assertIn("--target test", self.call("docker", "build"))
        self.assertEqual(self.calls("podman") + self.calls("buildah"), [])

    def test_an_engine_can_be_demanded(self):
        self.engines("docker", "podman")
        self.run_script("--engine", "podman", "build")
        self.assertEqual(self.calls("docker"), [])
        self.call("podman", "build")

    def test_without_an_engine_each_reason_is_told(self):
        self.engines("docker", "buildah", docker_works="no", buildah_works="no")
        done = self.run_script("run", "echo")
        self.assertEqual(done.returncode, NO_CONTAINER)
        for text in ("docker: its engine does not answer", "podman: not installed",
                     "buildah: `buildah info` fails", "remedy:"):
            self.assertIn(text, done.stderr)

    def test_a_demanded_engine_that_does_not_work_is_no_reason_for_another(self):
        self.engines("docker", "podman", docker_works="no")
        done = self.run_script("--engine", "docker", "build")
        self.assertEqual(done.returncode, NO_CONTAINER)
        self.assertNotIn("podman:", done.stderr)

    def test_run_gives_profile_limits_network_and_the_status(self):
        self.engines("docker", run_status="78")
        done = self.run_script("run", "proxy", "--listen", ":9000", "--upstream", "h:1")
        self.assertEqual(done.returncode, 78, done.stderr)
        call = self.call("docker", "run")
        for text in (f"--security-opt seccomp={facts.PROFILE}", "--ulimit memlock=-1:-1",
                     "--ulimit nofile=1048576:1048576", "--network=host",
                     "--entrypoint pelton-proxy"):
            self.assertIn(text, call)
        self.assertTrue(call.endswith("pelton-runtime --listen :9000 --upstream h:1"), call)
        self.assertRegex(self.calls("docker")[-1], r"^docker rm --force pelton-\d+$")

    def test_run_can_publish_ports_instead(self):
        self.engines("podman")
        self.run_script("--publish", "80:8888", "run", "echo")
        call = self.call("podman", "run")
        self.assertIn("--publish=80:8888", call)
        self.assertNotIn("--network", call)
        self.assertTrue(call.endswith("pelton-runtime --listen 0.0.0.0:8888"), call)

    def bounded(self):
        """A command that runs another one with hard limits below ours which it cannot lift, and
        these limits: files, bytes of locked memory."""
        prlimit, setpriv = shutil.which("prlimit"), shutil.which("setpriv")
        if prlimit is None or setpriv is None:
            self.skipTest("no prlimit or setpriv")
        files, memory = 600, 65536
        for limit, wanted in ((resource.RLIMIT_NOFILE, files), (resource.RLIMIT_MEMLOCK, memory)):
            hard = resource.getrlimit(limit)[1]
            if hard != resource.RLIM_INFINITY and hard < wanted:
                self.skipTest(f"our own hard limit is {hard} already")
        command = [prlimit, f"--nofile={files}:{files}", f"--memlock={memory}:{memory}"]
        if os.geteuid() == 0:
            command += [setpriv, "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
        return command, files, memory

    def test_limits_are_what_an_unprivileged_shell_may_have(self):
        before, files, memory = self.bounded()
        self.engines("podman")
        done = self.run_script("run", "echo", before=before)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"--ulimit memlock={memory}:{memory} --ulimit nofile={files}:{files}",
                      self.call("podman", "run"))
        self.assertIn(f"may lock {memory // 1024} KiB", done.stderr)

    def test_a_daemon_of_roots_sets_any_limit(self):
        before, _, _ = self.bounded()
        self.engines("docker", security_options="[name=seccomp]")
        self.run_script("run", "echo", before=before)
        self.assertIn("memlock=-1:-1 --ulimit nofile=1048576:1048576", self.call("docker", "run"))

    def test_a_rootless_daemon_is_bounded_like_a_shell(self):
        before, files, memory = self.bounded()
        self.engines("docker", security_options="[name=rootless]")
        self.run_script("run", "echo", before=before)
        self.assertIn(f"memlock={memory}:{memory} --ulimit nofile={files}:{files}",
                      self.call("docker", "run"))

    def test_profile_and_limits_can_be_chosen(self):
        self.engines("docker")
        self.run_script("--seccomp", "default", "--memlock", "65536", "--nofile", "99",
                        "run", "echo")
        call = self.call("docker", "run")
        self.assertNotIn("seccomp", call)
        self.assertIn("--ulimit memlock=65536:65536 --ulimit nofile=99:99", call)
        done = self.run_script("--seccomp", "/no/such/profile", "run", "echo")
        self.assertEqual(done.returncode, NO_CONTAINER)
        self.assertIn("/no/such/profile", done.stderr)

    def test_buildah_runs_in_a_container_that_it_makes_and_removes(self):
        self.engines("buildah", run_status="3")
        storage = self.directory / "storage"
        done = self.run_script("--storage", str(storage), "test", "--preset", "release")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("--build-arg BASE_IMAGE=pelton-base:12", self.call("buildah", "build"))
        self.assertIn(f"--security-opt seccomp={facts.PROFILE} pelton-test",
                      self.call("buildah", "from"))
        self.assertIn(f"--root {storage}/root --runroot {storage}/run run made-container -- "
                      "scripts/test.sh --no-setup --preset release", self.call("buildah", "run"))
        self.assertTrue(self.calls("buildah")[-1].endswith(" rm made-container"))

    def test_buildah_copies_where_overlays_do_not_work(self):
        self.engines("buildah", buildah_works="vfs")
        done = self.run_script("--no-build", "run", "echo")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_perf_copies_the_reports_also_after_a_failure(self):
        for engine in ("docker", "buildah"):
            with self.subTest(engine=engine):
                self.engines(engine, run_status="1")
                reports = self.directory / engine / "reports"
                done = self.run_script("--engine", engine, "--results", str(reports), "perf")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertTrue((reports / "report.json").exists(), done.stderr)
                call = self.call(engine, "run")
                self.assertIn("scripts/bench.sh", call)
                self.assertTrue(
                    call.endswith(" --no-setup --out build/bench/container --quick"), call)

    def test_sigterm_is_handed_on_and_waited_for(self):
        self.engines("docker", run_waits="yes")
        with subprocess.Popen([DOCKER_SH, "run", "echo"], env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as child:
            self.addCleanup(child.kill)
            self.assertEqual(child.stdout.readline(), "waiting\n")
            time.sleep(0.2)
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(20), 0)
        self.assertIn("told to end", self.calls_file.read_text(encoding="utf-8"))

    def test_a_build_that_fails_is_told(self):
        self.engines("docker")
        (self.bin / "docker").write_text("#!/usr/bin/env bash\n[[ $1 == version ]]\n",
                                         encoding="utf-8")
        done = self.run_script("run", "echo")
        self.assertEqual(done.returncode, NO_CONTAINER)
        self.assertIn("could not be built", done.stderr)

    def test_bad_usage(self):
        self.engines("docker", "buildah")
        for arguments in ([], ["fly"], ["run"], ["run", "redis"], ["exec", "test"],
                          ["exec", "no-target", "ls"], ["build", "no-target"], ["--no-such"],
                          ["--engine", "lxc", "build"], ["--memlock", "much", "build"],
                          ["--engine"], ["--engine", "buildah", "--publish", "1:1", "run", "echo"]):
            with self.subTest(arguments=arguments):
                done = self.run_script(*arguments)
                self.assertEqual(done.returncode, BAD_USAGE, done.stderr)
                self.assertIn("usage:", done.stderr)
        self.assertEqual(self.calls("docker"), [])


class Help(unittest.TestCase):
    """Each script tells what it does."""

    def test_help_is_no_error(self):
        for name in ("docker.sh", "container_base.sh", "seccomp.py"):
            with self.subTest(script=name):
                done = script(name, "--help")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("usage:", done.stdout)

    def test_the_base_wants_one_file(self):
        for arguments in ([], ["a", "b"], ["--mirror"], ["--no-such", "a"]):
            with self.subTest(arguments=arguments):
                self.assertEqual(script("container_base.sh", *arguments).returncode, BAD_USAGE)


if __name__ == "__main__":
    sys.exit(results.run(__name__, sys.argv[1:]))
