"""Compiles Rosetta's Java classes into the jar that is part of the package, so that users need no compiler.

The jar contains the digest of its sources, and a test compares it. `make bridge` runs this with a JDK.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from rosetta_dagster.cdc.source.debezium.jvm import class_path

SOURCES = Path(__file__).parent
JAR = SOURCES.parent / "rosetta_dagster/cdc/source/debezium/bridge.jar"

#: The line of the jar's manifest that holds the digest.
DIGEST = "Sources-Digest: "
MANIFEST = "META-INF/MANIFEST.MF"

#: The oldest Java that Debezium runs on.
_RELEASE = "17"

#: The earliest time that zip files support: the same sources always make the same jar.
_TIME = (1980, 1, 1, 0, 0, 0)


def sources_digest() -> str:
    digest = hashlib.sha256()
    for source in _sources():
        digest.update(f"{source.relative_to(SOURCES).as_posix()}\0".encode() + source.read_bytes() + b"\0")
    return digest.hexdigest()


def main() -> int:
    with tempfile.TemporaryDirectory() as classes:
        command = ["javac", "--release", _RELEASE, "-Xlint:all,-processing,-classfile", "-Werror", "-d", classes]
        libraries = ":".join(str(jar) for jar in class_path() if jar != JAR)
        subprocess.run([*command, "-cp", libraries, *map(str, _sources())], check=True)
        _write_jar(Path(classes))
    sys.stdout.write(f"{JAR.name} holds {sources_digest()}\n")
    return 0


def _sources() -> list[Path]:
    return sorted(SOURCES.rglob("*.java"))


def _write_jar(classes: Path) -> None:
    with zipfile.ZipFile(JAR, "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr(zipfile.ZipInfo(MANIFEST, _TIME), f"Manifest-Version: 1.0\n{DIGEST}{sources_digest()}\n\n")
        for compiled in sorted(classes.rglob("*.class")):
            jar.writestr(zipfile.ZipInfo(compiled.relative_to(classes).as_posix(), _TIME), compiled.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
