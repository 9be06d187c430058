import zipfile

from bridge.build import DIGEST, JAR, MANIFEST, sources_digest


def test_the_jar_is_made_of_the_sources_that_are_here() -> None:
    with zipfile.ZipFile(JAR) as jar:
        assert f"{DIGEST}{sources_digest()}" in jar.read(MANIFEST).decode().splitlines(), "run: make bridge"
