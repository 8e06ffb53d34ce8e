#!/usr/bin/env python3
"""Prints other forms of scripts/seccomp.json, the container profile that allows io_uring.

scripts/seccomp.json is in Docker's format, which Podman, Buildah and CRI-O read too: rules may
depend on capabilities and on the machine. containerd, and so most of Kubernetes, reads the format
of the OCI runtime specification, which has no such conditions: there the rules must be decided
beforehand, or all of them would hold. docs/containers.md shows the use of each form.
"""

import argparse
import json
import pathlib
import sys

PROFILE = pathlib.Path(__file__).resolve().with_name("seccomp.json")
IO_URING = {"io_uring_enter", "io_uring_register", "io_uring_setup"}

# Go's names of machines, as rules have them, and the kernel's, as profiles have them.
ARCHITECTURES = {
    "amd64": "SCMP_ARCH_X86_64",
    "arm64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
    "s390x": "SCMP_ARCH_S390X",
    "loong64": "SCMP_ARCH_LOONGARCH64",
}


def refusing(profile):
    """The profile without io_uring: Docker's default."""
    kept = []
    for entry in profile["syscalls"]:
        names = [name for name in entry["names"] if name not in IO_URING]
        if names:
            kept.append(entry | {"names": names})
    return profile | {"syscalls": kept}


def holds(entry, machine, capabilities):
    """True if a rule applies there. Every kernel that pelton runs on is new enough for all."""
    includes, excludes = entry.get("includes", {}), entry.get("excludes", {})
    return (
        machine in includes.get("arches", [machine])
        and machine not in excludes.get("arches", [])
        and capabilities.issuperset(includes.get("caps", []))
        and capabilities.isdisjoint(excludes.get("caps", []))
    )


def decided(profile, machine, capabilities):
    """The profile in OCI's format, for containers of one machine with these capabilities."""
    name = ARCHITECTURES[machine]
    families = [each for each in profile["archMap"] if each["architecture"] == name]
    architectures = [name, *(sub for each in families for sub in each["subArchitectures"])]
    keys = ("names", "action", "errnoRet", "args")
    syscalls = [
        {key: entry[key] for key in keys if key in entry}
        for entry in profile["syscalls"]
        if holds(entry, machine, capabilities)
    ]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": syscalls,
    }


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--refuse-io-uring", action="store_true",
                        help="without the calls of io_uring: Docker's default profile")
    parser.add_argument("--oci", choices=sorted(ARCHITECTURES), metavar="MACHINE",
                        help="in OCI's format, for one of: %(choices)s")
    parser.add_argument("--capability", action="append", default=[], metavar="CAP_X",
                        help="with --oci: the container has it; may be repeated (default: none)")
    options = parser.parse_args()
    if options.capability and options.oci is None:
        parser.error("--capability goes with --oci: Docker's format decides by itself")
    for name in options.capability:
        if not name.startswith("CAP_"):
            parser.error(f"--capability {name}: write it as the kernel does, CAP_NET_RAW")
    profile = json.loads(PROFILE.read_text(encoding="utf-8"))
    if options.refuse_io_uring:
        profile = refusing(profile)
    if options.oci:
        profile = decided(profile, options.oci, set(options.capability))
    json.dump(profile, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
