"""Signer: signs pictures by C2PA, so that anybody can check who says that a model made them."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from .errors import OutputError, how_to_install
from .io import read_text
from .notation import excerpt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----[A-Za-z0-9+/=\s]*-----END \1-----")


class Signer:
    """A certificate with its private key, which puts a signed C2PA manifest into PNG files.

    Raises OutputError where c2pa-python is missing, or where the two cannot sign.
    """

    def __init__(self, certificates: str, key: str) -> None:
        try:
            import c2pa
            from cryptography.hazmat.primitives.serialization import (
                Encoding,
                NoEncryption,
                PrivateFormat,
                load_pem_private_key,
            )
        except ImportError:
            raise OutputError(f"signing needs c2pa-python: {how_to_install('sign')}") from None
        try:
            private = load_pem_private_key(key.encode(), password=None)
            plain = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the form that it reads
            # Nothing is asked of the network: there is no time stamp.
            self._signer = c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(_algorithm(private), certificates.encode(), plain, None)
            )
            self._context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        except TypeError:  # of a password that is asked for
            raise OutputError("the private key has a password: write it without one, as openssl pkey does") from None
        except (ValueError, c2pa.C2paError) as error:
            raise OutputError(f"this key cannot sign: {_reason(error)}") from None
        blank = BytesIO()
        Image.new("RGB", (8, 8)).save(blank, format="PNG")
        self.sign(blank.getvalue(), "")  # what is wrong with the certificate is said before anything is drawn

    @classmethod
    def load(cls, path: str | Path) -> Signer:
        """Read a PEM file that holds a private key and its certificates, that of the key first.

        Raises OutputError for a file that does not hold both, or cannot sign.
        """
        blocks = [(found[1], found[0]) for found in BLOCK.finditer(read_text(path, OutputError))]
        keys = [text for kind, text in blocks if kind.endswith("PRIVATE KEY")]
        certificates = [text for kind, text in blocks if kind == "CERTIFICATE"]
        if len(keys) != 1 or not certificates:
            raise OutputError(
                f"{path} must hold one private key and its certificates in PEM, as `cat key.pem chain.pem` writes them"
            )
        try:
            return cls("\n".join(certificates), keys[0])
        except OutputError as error:
            raise OutputError(f"{path}: {error.message}") from None

    def sign(self, png: bytes, software: str, model: str = "") -> bytes:
        """Return a PNG with a signed manifest: that it was created by a trained model, with which program and model."""
        import c2pa

        agent = {"name": software or "celeb-basis"}
        action: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": SOURCE, "softwareAgent": agent}
        if model:
            action["parameters"] = {"model": model}
        manifest = {
            "claim_generator_info": [agent],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        signed = BytesIO()
        try:
            with c2pa.Builder(json.dumps(manifest), self._context) as builder:
                builder.sign(self._signer, "image/png", BytesIO(png), signed)
        except c2pa.C2paError as error:
            raise OutputError(
                f"this certificate cannot sign: {_reason(error)}; C2PA takes one for e-mail or documents, with the "
                "certificate of who issued it"
            ) from None
        return signed.getvalue()


def _algorithm(key: PrivateKeyTypes) -> str:
    """Return the name by which C2PA knows how a key signs. Raises ValueError for a key of another kind."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if isinstance(key, Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    raise ValueError("C2PA takes Ed25519, RSA, and the curves P-256, P-384 and P-521")


def _reason(error: Exception) -> str:
    return excerpt(" ".join(str(error).split()) or type(error).__name__, 200)
