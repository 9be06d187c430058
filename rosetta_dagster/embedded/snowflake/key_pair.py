"""The key pair of a Snowflake user: an encrypted PKCS#8 private key, and the public key for RSA_PUBLIC_KEY."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

BITS = 2048


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """Both halves as PEM text."""

    #: Encrypted under the passphrase.
    private_key: str = field(repr=False)
    passphrase: str = field(repr=False)
    public_key: str

    @classmethod
    def generate(cls, passphrase: str | None = None) -> Self:
        """Generate a pair, with a random passphrase unless one is given."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        word = passphrase or secrets.token_urlsafe(24)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(word.encode()),
        )
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(private_key=private.decode(), passphrase=word, public_key=public.decode())


def load_public_key(text: str) -> rsa.RSAPublicKey:
    """Load a public key from PEM text, or from its base64 body, which is the form that ALTER USER takes."""
    body = "".join(line for line in text.strip().splitlines() if not line.startswith("-----"))
    key = serialization.load_der_public_key(base64.b64decode(body))
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < BITS:
        raise ValueError(f"Snowflake takes RSA keys of {BITS} bits or more.")
    return key


def fingerprint(key: rsa.RSAPublicKey) -> str:
    """Return the fingerprint as Snowflake shows it in RSA_PUBLIC_KEY_FP."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()
